"""The gRPC contract: `sandbox.proto`, the code generated from it, and what turns models into messages and back."""
