"""The outermost layer of the HTTP application: who may ask, and what happens when something raises.

Every error, expected or not, leaves here in the one shape of answers.py. An unexpected one is logged by its type and
place alone and answered with 500 `service_fault`; no traceback and no byte of a user reaches a log or a client.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping

from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from sandbox_service import logs
from sandbox_service.errors import BadRequest, SandboxError, ServiceFault
from sandbox_service.gateway.auth import Gatekeeper, header
from sandbox_service.gateway.compat.routes import problem
from sandbox_service.gateway.wait import Abandoned
from sandbox_service.metrics import CALLS_REFUSED

_ONCE = (b"host", b"content-type", b"content-encoding", b"authorization")
"""Headers that decide something. Of two, a proxy might heed one and we the other."""


Endpoint = Callable[[Request], Awaitable[Response]]


class Edge:
    """ASGI middleware; puts the tenant of a request into `scope["tenant"]`.

    `endpoints`: by method and path. They are called from here: the way through FastAPI's layers and its router costs
    as much as reading a call and answering it.
    """

    def __init__(self, app: ASGIApp, gatekeeper: Gatekeeper, endpoints: Mapping[tuple[str, str], Endpoint]) -> None:
        self._app = app
        self._gatekeeper = gatekeeper
        self._endpoints = endpoints
        self._log = logs.get_logger("gateway")

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started = False

        async def watched_send(message: Message) -> None:
            nonlocal started
            started = True
            await send(message)

        try:
            self._admit(scope)
            endpoint = self._endpoints.get((scope["method"], scope["path"]))
            if endpoint is None:
                await self._app(scope, receive, watched_send)
            else:
                response = await endpoint(Request(scope, receive))
                await response(scope, receive, watched_send)
        except (ClientDisconnect, Abandoned):
            return  # nobody is left to answer
        except SandboxError as error:
            refusal = error.with_traceback(None)  # whose frames hold the request, and this one the error: a cycle
        except Exception as error:
            self._log.error("request_failed", method=scope["method"], **logs.fault(error))
            refusal = ServiceFault("an error of ours; it was logged. Try again")
        else:
            return
        # A response that had begun is left incomplete: the client sees that it was cut off.
        if not started:
            await problem(scope["path"], public(refusal, scope["method"]))(scope, receive, send)

    def _admit(self, scope: Scope) -> None:
        _refuse_repeated(scope)
        self._gatekeeper.check_host(scope)
        if scope["path"].startswith("/v1/"):
            try:
                scope["tenant"] = self._gatekeeper.tenant(header(scope, b"authorization"))
            except SandboxError as error:
                CALLS_REFUSED.labels(error.code).inc()
                raise


def public(error: SandboxError, method: str) -> SandboxError:
    """Return what a client may hear: an error of ours that wraps another one speaks of our insides, and is logged."""
    if error.http < 500:
        return error
    cause = error.__cause__
    logs.get_logger("gateway").warning("request_refused", method=method, code=error.code, cause=type(cause).__name__)
    if cause is None:
        return error
    return type(error)("a part of the service cannot be reached; try again", retry_after_s=error.retry_after_s)


def _refuse_repeated(scope: Scope) -> None:
    names = [name for name, _ in scope["headers"]]
    for name in _ONCE:
        if names.count(name) > 1:
            raise BadRequest(f"the header {name.decode()} was sent more than once; send one")
