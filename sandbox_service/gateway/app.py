"""The gateway process: its HTTP application, and how it starts and stops.

Stopping (SIGTERM, SIGINT): no new connection is taken, readiness is false; requests that wait get their answer, or
after `drain_s` a 503 that names where to ask again, since their calls go on. Then it exits with 0.
"""

from __future__ import annotations

import asyncio
import contextlib
import signal
from collections.abc import AsyncIterator, Callable, Coroutine
from typing import TYPE_CHECKING, Any

import uvloop
from fastapi import FastAPI
from fastapi.routing import APIRoute
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Match

from sandbox_service import __version__, garbage, logs
from sandbox_service.config import Settings
from sandbox_service.errors import NotFound, SetupError, WrongMethod
from sandbox_service.gateway import openapi
from sandbox_service.gateway.answers import answer_json
from sandbox_service.gateway.api import Api
from sandbox_service.gateway.auth import Gatekeeper
from sandbox_service.gateway.calls import Calls
from sandbox_service.gateway.compat import routes as compat
from sandbox_service.gateway.edge import Edge, Endpoint
from sandbox_service.gateway.probes import Probes
from sandbox_service.gateway.server import Server
from sandbox_service.queue import Queue
from sandbox_service.reasons import closest

if TYPE_CHECKING:
    from sandbox_service.gateway.rpc.server import RpcServer


class _PlainRoute(APIRoute):
    """An endpoint that reads its Request itself: none of FastAPI's per-request dependency work."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        return self.endpoint


def create_app(settings: Settings, queue: Queue) -> FastAPI:
    """Return the application; it serves while its lifespan runs. The queue stays the caller's.

    `app.state` holds its parts: `calls`, `probes`, `gatekeeper`, `rpc` (its gRPC server, or None), and
    `stop`, which begins its end. Raise SetupError if it would be open to strangers, or cannot listen.
    """
    gatekeeper = Gatekeeper(settings)
    calls = Calls(settings, queue)
    probes = Probes(queue, calls)
    rpc = _rpc_server(settings, calls, probes, gatekeeper)

    def stop() -> None:
        probes.stop()
        if rpc is not None:
            rpc.stop()

    @contextlib.asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        async with calls.serving(), rpc.serving() if rpc is not None else contextlib.nullcontext():
            yield

    app = FastAPI(
        title="sandbox-service",
        version=__version__,
        lifespan=lifespan,
        docs_url=None,
        redoc_url=None,
        openapi_url=None,
        redirect_slashes=False,
        # SECURITY: FastAPI would export exception messages, which can quote a user's bytes, where the environment says.
        telemetry={"tracing": False, "metrics": False, "logs": False, "auto_configure": False},
    )
    app.state.calls, app.state.probes, app.state.gatekeeper = calls, probes, gatekeeper
    app.state.stop, app.state.rpc = stop, rpc
    app.router.route_class = _PlainRoute
    routes = _routes(Api(settings, calls), probes)
    for method, path, endpoint in routes:
        app.add_api_route(path, endpoint, methods=[method], **openapi.operation(method, path))
    for method, path, endpoint in compat.routes(settings, gatekeeper, calls, queue):
        app.add_api_route(path, endpoint, methods=[method], include_in_schema=False)
    document = openapi.document(app)

    async def schema(request: Request) -> Response:
        return answer_json(document)

    app.add_api_route("/openapi.json", schema, methods=["GET"], include_in_schema=False)
    app.add_exception_handler(HTTPException, _no_route)
    direct = {(method, path): endpoint for method, path, endpoint in routes if "{" not in path}
    app.add_middleware(Edge, gatekeeper=gatekeeper, endpoints=direct)
    return app


def serve(settings: Settings) -> None:
    """Run a gateway until SIGTERM or SIGINT. Raise SetupError or Unavailable if it cannot start."""
    logs.configure(settings.log_level)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(_serve(settings))
    logs.get_logger("gateway").info("stopped")


async def _serve(settings: Settings) -> None:
    queue = await Queue.connect(settings)
    try:
        app = create_app(settings, queue)
        asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, _reload, app.state.gatekeeper, app.state.calls)
        garbage.settle()
        await Server(app, settings, app.state.calls, stopping=app.state.stop).run_until_stopped()
    finally:
        await queue.close()


def _rpc_server(settings: Settings, calls: Calls, probes: Probes, gatekeeper: Gatekeeper) -> RpcServer | None:
    if settings.grpc_port is None:
        return None
    try:
        from sandbox_service.gateway.rpc.server import RpcServer
    except ModuleNotFoundError as error:
        raise SetupError(
            f"SANDBOX_GRPC_PORT asks for gRPC, but its packages are not installed ({error.name} is missing): "
            "pip install '.[server,grpc]' in a checkout of this project"
        ) from error
    return RpcServer(settings, calls, probes, gatekeeper)


def _reload(gatekeeper: Gatekeeper, calls: Calls) -> None:
    log = logs.get_logger("gateway")
    for what, part in (("keys", gatekeeper), ("tenants", calls.tenants)):
        try:
            part.reload()
        except SetupError as error:
            log.error(f"{what}_not_reloaded", reason=error.message)
        else:
            log.info(f"{what}_reloaded")
    calls.forget_refusals()


def _routes(api: Api, probes: Probes) -> list[tuple[str, str, Endpoint]]:
    return [
        ("POST", "/v1/calls", api.post_call),
        ("GET", "/v1/calls/{id}", api.get_call),
        ("DELETE", "/v1/calls/{id}", api.delete_call),
        ("DELETE", "/v1/calls", api.delete_label),
        ("POST", "/v1/batches", api.post_batch),
        ("GET", "/v1/batches/{id}", api.get_batch),
        ("DELETE", "/v1/batches/{id}", api.delete_batch),
        ("POST", "/v1/verify", api.post_verify),
        ("GET", "/healthz", probes.healthz),
        ("GET", "/readyz", probes.readyz),
        ("GET", "/metrics", probes.metrics),
    ]


async def _no_route(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    path = request.url.path
    bare = path.rstrip("/")
    # With a slash at its end any path is the front page of a dialect, which takes GET: not what a POST is after.
    if error.status_code == WrongMethod.http and (bare == path or not bare):
        methods = ", ".join(_methods(request, path))
        refusal = WrongMethod(f"this route takes {methods} and no other method; see /openapi.json")
        return compat.problem(path, refusal, {"Allow": methods})
    known = [route.path for route in _routes_of(request) if route.include_in_schema]
    meant = bare if bare != path and _methods(request, bare) else closest(bare, known)
    hint = f"; did you mean {meant[:200]}?" if meant else "; see /openapi.json"
    return compat.problem(bare, NotFound(f"no such route{hint}"))


def _methods(request: Request, path: str) -> list[str]:
    """Return every method that the path takes. Each of them is a route of its own, and the router names just one."""
    scope = {**request.scope, "path": path}
    matching = [route for route in _routes_of(request) if route.matches(scope)[0] is not Match.NONE]
    return sorted(method for route in matching for method in route.methods or ())


def _routes_of(request: Request) -> list[APIRoute]:
    return [route for route in request.app.routes if isinstance(route, APIRoute)]
