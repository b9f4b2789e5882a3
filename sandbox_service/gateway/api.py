"""The native HTTP routes of DESIGN 3.2: reads requests, asks Calls, writes answers.

Results pass through as the bytes the worker wrote; a batch's answer is these joined. A waiting request watches its
connection: a client that goes away ends the wait.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
import re
import time
from collections.abc import Iterator, Mapping
from urllib.parse import parse_qsl

from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from sandbox_service.config import Settings
from sandbox_service.errors import InvalidCall, SandboxError, Unavailable
from sandbox_service.gateway.answers import answer, answer_json, describe, dump, problem
from sandbox_service.gateway.attend import attend, until_disconnect
from sandbox_service.gateway.body import parse, read_json, read_unparsed
from sandbox_service.gateway.calls import Calls, refusals_counted
from sandbox_service.gateway.verify import verify
from sandbox_service.gateway.wait import Wait
from sandbox_service.models import Batch, Call, Checks, Verdicts
from sandbox_service.queue import State

NDJSON = "application/x-ndjson"
_LABEL_NAME = re.compile(r"[A-Za-z0-9_.-]{1,64}")
_QVALUE = re.compile(r"q=([01](?:\.[0-9]{0,3})?)")


class Api:
    """The endpoints; `openapi.py` describes them, `app.py` gives them their paths."""

    def __init__(self, settings: Settings, calls: Calls) -> None:
        self._calls = calls
        self._max_wait_s = settings.max_wait_s
        self._max_body = settings.max_body_mb * 2**20

    async def post_call(self, request: Request) -> Response:
        with refusals_counted():
            arrived = time.monotonic()
            keep = _wants_ticket(request)
            body = await read_unparsed(request, self._max_body)
            if (refusal := self._calls.refused_already(_tenant(request), body, _head(request))) is not None:
                return problem(refusal)
            call = parse(Call, body)
            wait = await self._calls.admit(_tenant(request), call, arrived=arrived, keep=keep)
        url = f"/v1/calls/{wait.keys[0][1]}"
        with wait:
            if keep:
                return _ticket(wait.keys[0][1], wait.state, url)
            return await self._when_done(request, wait, url)

    async def post_batch(self, request: Request) -> Response:
        with refusals_counted():
            arrived = time.monotonic()
            keep = _wants_ticket(request)
            batch = await read_json(request, Batch, self._max_body)
            batch_id, wait = await self._calls.admit_batch(_tenant(request), batch, arrived=arrived, keep=keep)
        url = f"/v1/batches/{batch_id}"
        if not keep and _wants_ndjson(request):
            return _Stream(wait, batch_id, url, until=None)
        with wait:
            if keep:
                return _ticket(batch_id, wait.state, url)
            return await self._when_done(request, wait, url, batch_id)

    async def post_verify(self, request: Request) -> Response:
        with refusals_counted():
            arrived = time.monotonic()
            asked = await read_json(request, Checks, self._max_body)
            found = await attend(request.receive, verify(self._calls, _tenant(request), asked, arrived=arrived))
        return answer(Verdicts(results=found).model_dump_json().encode())

    async def get_call(self, request: Request) -> Response:
        call_id, wait_s = request.path_params["id"], self._wait_s(request)
        url = f"/v1/calls/{call_id}"
        with await self._calls.get(_tenant(request), call_id, long=wait_s > 0) as wait:
            return await self._within(wait_s, request, wait, url)

    async def get_batch(self, request: Request) -> Response:
        batch_id, wait_s = request.path_params["id"], self._wait_s(request)
        url = f"/v1/batches/{batch_id}"
        wait = await self._calls.get_batch(_tenant(request), batch_id, long=wait_s > 0)
        if _wants_ndjson(request):
            return _Stream(wait, batch_id, url, until=asyncio.get_running_loop().time() + wait_s)
        with wait:
            return await self._within(wait_s, request, wait, url, batch_id)

    async def delete_call(self, request: Request) -> Response:
        call_id = request.path_params["id"]
        state = await self._calls.cancel(_tenant(request), call_id)
        return answer_json({"id": call_id, "state": state})

    async def delete_batch(self, request: Request) -> Response:
        batch_id = request.path_params["id"]
        state = await self._calls.cancel_batch(_tenant(request), batch_id)
        return answer_json({"id": batch_id, "state": state})

    async def delete_label(self, request: Request) -> Response:
        name, colon, value = _query(request, "label").get("label", "").partition(":")
        if not (colon and _LABEL_NAME.fullmatch(name)):
            raise InvalidCall("label: say which calls to cancel, as ?label=name:value", field="label")
        return answer_json({"cancelled": await self._calls.cancel_label(_tenant(request), name, value)})

    async def _when_done(self, request: Request, wait: Wait, url: str, batch_id: str | None = None) -> Response:
        """Answer the Results. When we must stop waiting, the calls go on: say where to ask for them."""
        try:
            with _watching(request.receive, wait):
                results = await wait.all()
        except Unavailable as error:
            return problem(error, {"Location": url})
        return _done(results, batch_id)

    async def _within(
        self, wait_s: float, request: Request, wait: Wait, url: str, batch_id: str | None = None
    ) -> Response:
        """Answer the Results if they come within `wait_s`, else 202 and a Ticket."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(wait_s):
                return await self._when_done(request, wait, url, batch_id)
        return _ticket(batch_id or wait.keys[0][1], wait.state, url)

    def _wait_s(self, request: Request) -> float:
        text = _query(request, "wait_s").get("wait_s", "0")
        try:
            wait_s = float(text)
        except ValueError:
            wait_s = math.nan
        if not 0 <= wait_s < math.inf:
            raise InvalidCall("wait_s: must be a number of seconds, 0 or more", field="wait_s")
        return min(wait_s, self._max_wait_s)


class _Stream(Response):
    """A batch as ndjson: each Result as it finishes, then exactly one terminal frame.

    The terminal frame's `done` says whether every Result was sent; if not, `error` or the time given (`until`, loop
    time) is why. The head is sent at once, with the place to ask again in its Location.
    """

    def __init__(self, wait: Wait, batch_id: str, url: str, *, until: float | None) -> None:
        super().__init__(headers={"Location": url, "Content-Type": NDJSON, "Cache-Control": "no-store"})
        del self.headers["content-length"]
        self._wait = wait
        self._batch_id = batch_id
        self._until = until

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        with self._wait as wait:
            await send({"type": "http.response.start", "status": 200, "headers": self.raw_headers})
            end: dict[str, object] = {"done": True, "id": self._batch_id, "count": len(wait.keys)}
            try:
                with _watching(receive, wait):
                    async with asyncio.timeout_at(self._until):
                        await self._send_results(send)
            except TimeoutError:
                end["done"] = False
            except SandboxError as error:
                end |= {"done": False, "error": describe(error)}
            await send({"type": "http.response.body", "body": dump(end) + b"\n"})

    async def _send_results(self, send: Send) -> None:
        left = len(self._wait.keys)
        while left:
            arrived = await self._wait.some()
            left -= len(arrived)
            lines = [b'{"index":%d,"result":%b}\n' % (index, result) for index, result in arrived]
            await send({"type": "http.response.body", "body": b"".join(lines), "more_body": True})


@contextlib.contextmanager
def _watching(receive: Receive, wait: Wait) -> Iterator[None]:
    """Abandon the wait when the client closes its connection."""
    if not wait.missing:
        yield
        return
    watcher = asyncio.create_task(_abandon_on_disconnect(receive, wait))
    try:
        yield
    finally:
        watcher.cancel()


async def _abandon_on_disconnect(receive: Receive, wait: Wait) -> None:
    await until_disconnect(receive)
    wait.abandon()


def _done(results: list[bytes], batch_id: str | None) -> Response:
    if batch_id is None:
        return answer(results[0])
    return answer(b'{"id":"%b","results":[%b]}' % (batch_id.encode(), b",".join(results)))


def _ticket(ticket_id: str, state: State, url: str) -> Response:
    return answer_json({"id": ticket_id, "state": state, "url": url}, 202, {"Location": url})


def _tenant(request: Request) -> str:
    tenant = request.scope["tenant"]
    assert isinstance(tenant, str)
    return tenant


def _head(request: Request) -> bytes:
    """Return the request's head as it came, if server.py kept it."""
    head = request.scope.get("state", {}).get("head", b"")
    assert isinstance(head, bytes)
    return head


def _wants_ticket(request: Request) -> bool:
    wait = _query(request, "wait").get("wait", "1")
    if wait not in ("0", "1"):
        raise InvalidCall("wait: must be 1 (answer when done) or 0 (answer a ticket at once)", field="wait")
    return wait == "0"


def _wants_ndjson(request: Request) -> bool:
    """Only who names it gets it, unless JSON is preferred to it (RFC 9110, 12.5.1)."""
    weights: dict[str, float] = {}
    for entry in ",".join(request.headers.getlist("accept")).lower().split(","):
        media, *parameters = (part.strip() for part in entry.split(";"))
        stated = [_QVALUE.fullmatch(parameter) for parameter in parameters]
        weights[media] = next((float(weight[1]) for weight in stated if weight), 1.0)
    json = next((weights[media] for media in ("application/json", "application/*", "*/*") if media in weights), 0.0)
    return weights.get(NDJSON, 0.0) >= max(json, 0.001)


def _query(request: Request, known: str) -> Mapping[str, str]:
    """Return the query parameters; any but the one this route knows is refused, so that no wish is lost silently."""
    query = request.scope["query_string"]
    if not query:
        return {}
    values: dict[str, str] = {}
    for name, value in parse_qsl(query.decode("latin-1"), keep_blank_values=True):
        if name != known or name in values:
            raise InvalidCall(f"{name}: this route takes one parameter, `{known}`, once", field=name)
        values[name] = value
    return values
