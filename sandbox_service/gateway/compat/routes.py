"""The paths of the dialects. Each is there under any prefix as well: clients put their own path before it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response

from sandbox_service.config import Settings, deploy_dir
from sandbox_service.errors import NotFound, SandboxError
from sandbox_service.gateway import answers
from sandbox_service.gateway.answers import answer_json
from sandbox_service.gateway.auth import Gatekeeper
from sandbox_service.gateway.calls import Calls
from sandbox_service.gateway.compat.codejudge import CodeJudge, Submission, Submissions
from sandbox_service.gateway.compat.dialect import Endpoint, Route, status_of
from sandbox_service.gateway.compat.languages import read_languages
from sandbox_service.gateway.compat.piston import Execute, Piston, PistonRoute
from sandbox_service.gateway.compat.sandboxfusion import RunCode, RunJupyter, SandboxFusion
from sandbox_service.queue import Queue

_PATHS = (
    *("/run_code", "/run_jupyter", "/v1/ping"),
    *("/run", "/run/batch", "/run/long-batch", "/judge", "/judge/batch", "/judge/long-batch", "/status", "/ping"),
)
"""Of SandboxFusion and code-judge."""
_PISTON = "/api/v2/"
_NATIVE = ("/v1/calls", "/v1/batches")
_DATA_SETS = (
    *(("POST", name) for name in ("/submit", "/get_prompts", "/get_prompt_by_id", "/list_ids")),
    *(("POST", name) for name in ("/get_metrics", "/get_metrics_function")),
    ("GET", "/list_datasets"),
)
"""Paths of SandboxFusion that are not here."""
_HOME = "<!doctype html><title>sandbox-service</title><p>It runs. See <a href=/openapi.json>openapi.json</a>.\n"


def routes(
    settings: Settings, gatekeeper: Gatekeeper, calls: Calls, queue: Queue
) -> Iterator[tuple[str, str, Endpoint]]:
    """Yield (method, path, endpoint)."""
    languages = read_languages(deploy_dir() / "languages.toml")
    max_bytes = settings.max_body_mb * 2**20
    fusion = SandboxFusion(calls, languages)
    judge = CodeJudge(calls, queue, languages, settings)

    piston = Piston(calls, queue, languages, settings)
    execute = PistonRoute(gatekeeper, max_bytes, Execute, piston.execute)

    async def runtimes(request: Request) -> Response:
        return answer_json(await piston.runtimes())

    async def status(request: Request) -> Response:
        return answer_json(await judge.status())

    for path, route in (
        ("/run_code", Route(gatekeeper, max_bytes, RunCode, fusion.run_code)),
        ("/run_jupyter", Route(gatekeeper, max_bytes, RunJupyter, fusion.run_jupyter)),
        ("/run", Route(gatekeeper, max_bytes, Submission, judge.run)),
        ("/judge", Route(gatekeeper, max_bytes, Submission, judge.judge)),
        ("/run/batch", Route(gatekeeper, max_bytes, Submissions, judge.run_batch)),
        ("/judge/batch", Route(gatekeeper, max_bytes, Submissions, judge.judge_batch)),
        ("/run/long-batch", Route(gatekeeper, max_bytes, Submissions, judge.run_long_batch)),
        ("/judge/long-batch", Route(gatekeeper, max_bytes, Submissions, judge.judge_long_batch)),
        ("/api/v2/execute", execute),
        ("/api/v2/piston/execute", execute),
    ):
        yield "POST", path, route.answer
        yield "POST", f"/{{prefix:path}}{path}", route.answer
    for path, endpoint in (
        ("/v1/ping", _pong),
        ("/ping", _pong),
        ("/status", status),
        ("/api/v2/runtimes", runtimes),
        ("/api/v2/piston/runtimes", runtimes),
    ):
        yield "GET", path, endpoint
        yield "GET", f"/{{prefix:path}}{path}", endpoint
    for method, path in _DATA_SETS:
        yield method, path, _no_data_sets
        yield method, f"/{{prefix:path}}{path}", _no_data_sets
    yield "GET", "/", _home
    yield "GET", "/{prefix:path}/", _home


def problem(path: str, error: SandboxError, headers: Mapping[str, str] | None = None) -> Response:
    """Return the answer for an error outside of a route, or one it did not expect, as clients of the path read it."""
    if path.startswith(_NATIVE):
        return answers.problem(error, headers)
    if _PISTON in path:
        return answer_json({"message": error.message}, status_of(error), headers)
    if path.endswith(_PATHS):
        return answer_json({"detail": error.message}, status_of(error), headers)
    return answers.problem(error, headers)


async def _pong(request: Request) -> Response:
    return answer_json("pong")


async def _no_data_sets(request: Request) -> Response:
    return answer_json({"detail": "this service has no data sets and no judge for them; /run_code runs code"}, 501)


async def _home(request: Request) -> Response:
    # Below any path but ours: a probe that asks for /readyz/ must not take this page for readiness.
    if request.url.path.startswith(("/v1/", "/readyz/", "/healthz/", "/metrics/", "/openapi.json/")):
        raise HTTPException(NotFound.http)
    return HTMLResponse(_HOME)
