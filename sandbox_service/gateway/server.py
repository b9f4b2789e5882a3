"""uvicorn, with what it lacks: limits on slow clients and on large heads, errors in our shape, an exit code of 0, a
ready line; and under overload refusals without a task, a scope or a response for each.

Owns the listening socket. The limit on connections stays below the limit on descriptors, so that a flood is answered
with 429 and never with a failing accept.
"""

from __future__ import annotations

import asyncio
import resource
import signal
import socket
from collections.abc import Callable
from functools import partial
from types import FrameType
from typing import Any

import uvicorn
from starlette.types import ASGIApp, Receive, Scope, Send
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

from sandbox_service import logs
from sandbox_service.config import Settings
from sandbox_service.errors import BadRequest, HeadersTooLarge, Overloaded, SandboxError, SetupError
from sandbox_service.fuse import Fuse
from sandbox_service.gateway.answers import describe, dump, problem
from sandbox_service.gateway.calls import Calls

HEAD_S = 60.0
"""A request's head must be complete this long after its first byte (or the connection's start). Of tens of thousands
of clients that connect at once, some only come to send after many seconds."""
HEAD_BYTES = 64 * 1024
"""The largest head of a request; each header counts HEADER_COST more than its bytes."""
HEADER_COST = 32
"""What keeping a header costs besides its bytes, so that many empty ones are no way around (as in RFC 9113, 6.5.2)."""
PIPELINED = 16
"""Requests that may wait on one connection for the answer to the one before."""
PIECE = 16 * 1024
"""How much is parsed between two looks at the size."""
LINGER_S = 2.0
"""How long a refused client's bytes are still taken in: a connection reset by us could lose our answer."""
STALL_S = 60.0
"""A client that reads nothing of its answer for this long is cut off."""
KEEP_ALIVE_S = 75
"""Longer than clients keep an idle connection, so that they never send into one that is closing."""
BACKLOG = 16_384
"""Connections that may wait to be accepted; the kernel lowers it to net.core.somaxconn (4,096 by default)."""
ACCEPTED_AT_ONCE = 16
"""Connections taken in one turn of the event loop. libuv takes one a turn per listening descriptor; turns get long when
many clients send, and then a new one would wait for seconds behind those that are connected."""
SPARE_DESCRIPTORS = 256
"""Kept for Redis, files and the event loop."""
MOST_RPC_CONNECTIONS = 1024
"""Connections that gRPC may hold; they are kept apart, so that neither transport takes the other's."""


class Protocol(HttpToolsProtocol):
    """One client's connection."""

    def __init__(self, *args: Any, calls: Calls, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._calls = calls
        self._between = True  # two messages of the client's
        self._kept = b""  # the head of the request that is being parsed, while calls are refused
        self._most_connections = self.limit_concurrency
        self.limit_concurrency = None  # uvicorn's own refusal is plain text
        self._in_head = False
        self._counted = 0  # of this request's head and trailers
        self._unparsed = 0  # arrived since the parser last completed something: it holds these back
        self._refused = False
        self._head = Fuse(HEAD_S, self._cut_off)
        self._linger = Fuse(LINGER_S, self._cut_off)
        self._stall = Fuse(STALL_S, self._cut_off)
        self._idle = Fuse(0.0, super().timeout_keep_alive_handler)

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        if self._most_connections is not None and len(self.connections) > self._most_connections:
            self.app = _too_many
        self._watch_head()

    def data_received(self, data: bytes) -> None:
        self._idle.put_out()
        if self._calls.refuses and self._between and (self.cycle is None or self.cycle.response_complete):
            if self._refused_again(data):
                return
            head, end, _ = data.partition(b"\r\n\r\n")
            self._kept = head if end else b""
        for start in range(0, len(data), PIECE):
            if self._refused:
                return
            piece = data[start : start + PIECE]
            self._unparsed += len(piece)
            super().data_received(piece)
            if self._too_large() and not self._refused:
                self._refuse(_head_too_large())
        if not self._refused:
            self._watch_head()

    def on_message_begin(self) -> None:
        self._in_head = True
        self._between = False
        self._counted = self._unparsed = 0
        if len(self.pipeline) >= PIPELINED:  # SECURITY: each costs far more memory than bytes sent (test_server.py)
            raise BadRequest("too many requests at once on one connection")  # leads to send_400_response
        super().on_message_begin()

    def on_url(self, url: bytes) -> None:
        self._count(len(url))
        super().on_url(url)

    def on_header(self, name: bytes, value: bytes) -> None:
        self._count(len(name) + len(value) + HEADER_COST)
        if self._in_head:  # SECURITY: a trailer never passes for a header (test_server.py)
            super().on_header(name, value)

    def on_headers_complete(self) -> None:
        super().on_headers_complete()
        self._in_head = False
        self._unparsed = 0
        if self._kept:
            if self.cycle.keep_alive:
                self.scope["state"]["head"] = self._kept
            self._kept = b""

    def on_body(self, body: bytes) -> None:
        self._unparsed = 0
        super().on_body(body)

    def on_message_complete(self) -> None:
        self._unparsed = 0
        self._between = True
        super().on_message_complete()

    def pause_writing(self) -> None:
        super().pause_writing()
        self._stall.light()

    def resume_writing(self) -> None:
        super().resume_writing()
        self._stall.put_out()

    def timeout_keep_alive_handler(self) -> None:
        self._idle.light()  # uvicorn's timer has fired; a request that came in time is read first

    def connection_lost(self, exc: Exception | None) -> None:
        for fuse in (self._head, self._stall, self._linger, self._idle):
            fuse.put_out()
        super().connection_lost(exc)

    def send_400_response(self, msg: str) -> None:
        self._refuse(_head_too_large() if self._too_large() else BadRequest("this is not valid HTTP"))

    def _cut_off(self) -> None:
        self.transport.abort()

    def _refused_again(self, request: bytes) -> bool:
        """Answer a request that repeats a refused one; tell whether it was."""
        if self._refused or self.app is _too_many or self.flow.write_paused or self.transport.is_closing():
            return False
        error = self._calls.refused_again(request)
        if error is None:
            return False
        answer = problem(error)
        lines = [b"%b: %b\r\n" % header for header in (*self.server_state.default_headers, *answer.raw_headers)]
        self.transport.write(b"".join((STATUS_LINE[answer.status_code], *lines, b"\r\n", answer.body)))
        self._head.put_out()
        self.on_response_complete()
        return True

    def _count(self, size: int) -> None:
        """SECURITY: whoever has no key yet cannot fill our memory with headers (test_server.py)."""
        self._counted += size
        self._unparsed = 0
        if self._too_large():
            raise _head_too_large()  # stops the parser, which leads to send_400_response

    def _too_large(self) -> bool:
        return self._counted + self._unparsed > HEAD_BYTES

    def _refuse(self, error: SandboxError) -> None:
        self._refused = True
        body = dump({"error": describe(error)})
        head = b"content-type: application/json\r\nconnection: close\r\ncontent-length: %d\r\n\r\n" % len(body)
        answer = STATUS_LINE[error.http] + head + body
        if self.cycle is None or self.cycle.response_complete:
            self.transport.write(answer)
            self.transport.write_eof()
            self._linger.light()
            return
        # A request is under way: it ends with the connection. An answer to a later one would be taken for its own.
        if not self._in_head and not self.cycle.response_started:
            self.transport.write(answer)
        self.transport.close()

    def _watch_head(self) -> None:
        """SECURITY: a head that drips in for ever would hold a connection (test_server.py)."""
        if self.cycle is None or self.cycle.response_complete:
            self._head.light()
        else:
            self._head.put_out()


class Server(uvicorn.Server):
    """One gateway's HTTP server. Ends by SIGTERM or SIGINT with exit code 0; a second SIGINT does not wait.

    `stopping` is called when it begins to stop; after `drain_s`, `calls` are released, which ends what still waits.
    """

    def __init__(self, app: ASGIApp, settings: Settings, calls: Calls, *, stopping: Callable[[], None]) -> None:
        config = uvicorn.Config(
            app,
            http=partial(Protocol, calls=calls),  # type: ignore[arg-type]
            ws="none",
            lifespan="on",
            log_config=None,
            access_log=False,
            server_header=False,
            proxy_headers=False,
            limit_concurrency=_most_connections(settings),
            backlog=BACKLOG,
            timeout_keep_alive=KEEP_ALIVE_S,
            timeout_graceful_shutdown=int(settings.drain_s) + 5,
        )
        super().__init__(config)
        self._drain_s = settings.drain_s
        self._stopping = stopping
        self._release = calls.release
        self._listener = _bind(settings.host, settings.port)
        self._log = logs.get_logger("gateway")

    @property
    def url(self) -> str:
        host, port = self._listener.getsockname()[:2]
        return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"

    async def run_until_stopped(self) -> None:
        await self.serve([self._listener, *(self._listener.dup() for _ in range(ACCEPTED_AT_ONCE - 1))])

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self._log.info("ready", url=self.url)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        self._log.info("stopping", connections=len(self.server_state.connections))
        self._stopping()
        release = asyncio.get_running_loop().call_later(self._drain_s, self._release)
        await super().shutdown(sockets)
        release.cancel()

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        # uvicorn would raise the signal again once it has stopped; we were asked to stop, and did: no failure.
        if self.should_exit and sig == signal.SIGINT:
            self.force_exit = True
        self.should_exit = True


def _head_too_large() -> HeadersTooLarge:
    return HeadersTooLarge(f"the request's head is larger than {HEAD_BYTES // 1024} KiB; send fewer or shorter headers")


def _bind(host: str, port: int) -> socket.socket:
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        listener = socket.socket(family, kind, protocol)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
    except (OSError, UnicodeError) as error:  # a name that no resolver would take is a UnicodeError
        why = error.strerror if isinstance(error, OSError) else error
        raise SetupError(
            f"cannot listen on {host} port {port}: {why}. Choose others: --host (SANDBOX_HOST), --port (SANDBOX_PORT)"
        ) from error
    return listener


def _most_connections(settings: Settings) -> int:
    """Raise the soft limit on descriptors to the hard one; return how many of them HTTP clients may use."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return max(1, hard - SPARE_DESCRIPTORS - (MOST_RPC_CONNECTIONS if settings.grpc_port is not None else 0))


async def _too_many(scope: Scope, receive: Receive, send: Send) -> None:
    if scope["type"] == "http":
        refusal = Overloaded("this gateway has as many connections as it can hold; use fewer, or batches")
        await problem(refusal, {"Connection": "close"})(scope, receive, send)
