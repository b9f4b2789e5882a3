"""gRPC: the transport of `proto/sandbox.proto`. Like `api.py` it reads requests, asks `calls.py` and writes answers.

Only this package, `proto/` and the client's own transport import grpc; the gateway starts without it.
"""
