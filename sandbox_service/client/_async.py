"""The client's I/O: sends what `_wire.py` builds over httpx, pauses and repeats, and hands the answers back."""

# The blocking twin is generated from this file: edit here, then run `python scripts/generate_sync_client.py`.

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from types import TracebackType

import httpx

from sandbox_service.client import _wire
from sandbox_service.errors import SandboxError, Unavailable
from sandbox_service.models import Call, Result, Ticket

_DEFAULT_RETRIES = _wire.Retries()


class AsyncSandboxClient:
    """Runs code on a sandbox service.

    What became of the code is in the Result; a SandboxError means that there is no answer (see `errors.py`).
    Requests that were refused (429, 503) or broken (connection lost, stream cut) are repeated under the same id
    until the call's `timeout_s` has passed; the service runs no call twice for that. ValueError: `url` is none.
    """

    def __init__(
        self,
        url: str,
        *,
        api_key: str | None = None,
        retries: _wire.Retries = _DEFAULT_RETRIES,
        max_connections: int = 256,
    ) -> None:
        self._url = _wire.base_url(url)
        self._retries = retries
        self._http = httpx.AsyncClient(
            headers={"Authorization": f"Bearer {api_key}"} if api_key else None,
            limits=httpx.Limits(max_connections=max_connections, max_keepalive_connections=max_connections),
        )

    async def __aenter__(self) -> AsyncSandboxClient:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        await self._http.aclose()

    async def run(self, code: str | Call, **fields: object) -> Result:
        """Run code and return its Result: `run("print(input())", stdin="hi", limits={"wall_s": 2})`, or a Call."""
        _, body = await self._exchange(_wire.run(_wire.prepare(code, fields)))
        return _wire.read_result(body)

    async def run_batch(self, calls: Sequence[Call | str]) -> list[Result]:
        """Run up to 1,024 calls; results[i] belongs to calls[i]."""
        results: dict[int, Result] = {}
        async for index, result in self.stream_batch(calls):
            results[index] = result
        return [results[index] for index in range(len(calls))]

    async def stream_batch(self, calls: Sequence[Call | str]) -> AsyncIterator[tuple[int, Result]]:
        """Run up to 1,024 calls; yield (index, Result) of each as it finishes, each index exactly once."""
        request = _wire.stream([_wire.prepare(call, {}) for call in calls])
        reader = _wire.StreamReader(len(calls))
        deadline, failures = time.monotonic() + request.timeout_s, 0
        while reader.missing:
            reader.begin()
            try:
                async with self._answer(request, deadline) as response:
                    async for data in _parts(response, deadline):
                        for index, result in reader.feed(data):
                            failures = 0
                            yield index, result
                reader.end()
            except SandboxError as error:
                failures += 1
                await asyncio.sleep(self._retries.pause_s(error, failures, deadline - time.monotonic()))

    async def submit(self, code: str | Call, **fields: object) -> Ticket:
        """Hand in a call without waiting for it. Await it with `wait`, or poll it with `get`."""
        _, body = await self._exchange(_wire.submit(_wire.prepare(code, fields)))
        return _wire.read_ticket(body)

    async def get(self, id: str) -> Result | None:
        """Return the Result of a call, None while it is not done."""
        status, body = await self._exchange(_wire.poll(id, wait_s=0))
        return _wire.read_poll(status, body)

    async def wait(self, id: str, *, timeout_s: float = _wire.DEFAULT_TIMEOUT_S) -> Result:
        """Return the Result of a call as soon as it is done. TimeoutError: it is not yet, and goes on."""
        deadline = time.monotonic() + timeout_s
        while True:
            wait_s = max(0.0, min(deadline - time.monotonic(), _wire.LONG_POLL_S))
            status, body = await self._exchange(_wire.poll(id, wait_s=wait_s))
            result = _wire.read_poll(status, body)
            if result is not None:
                return result
            if time.monotonic() >= deadline:
                raise TimeoutError(f"call {id} is not done after {timeout_s} s")

    async def cancel(self, id: str) -> None:
        """Cancel a call: it never starts, or is killed. A call that is done keeps its Result."""
        await self._exchange(_wire.cancel(id))

    async def cancel_label(self, name: str, value: str) -> int:
        """Cancel all unfinished calls that carry this label; return how many."""
        _, body = await self._exchange(_wire.cancel_label(name, value))
        return _wire.read_cancelled(body)

    async def _exchange(self, request: _wire.Request) -> tuple[int, bytes]:
        """Send a request until it is answered or final; return the HTTP status and the body."""
        deadline, failures = time.monotonic() + request.timeout_s, 0
        while True:
            try:
                async with self._answer(request, deadline) as response:
                    body = bytearray()
                    async for data in _parts(response, deadline):
                        body += data
                    return response.status_code, bytes(body)
            except SandboxError as error:
                failures += 1
                await asyncio.sleep(self._retries.pause_s(error, failures, deadline - time.monotonic()))

    @asynccontextmanager
    async def _answer(self, request: _wire.Request, deadline: float) -> AsyncIterator[httpx.Response]:
        """Send a request once and open its answer. What goes wrong, here or while it is read, is a SandboxError."""
        remaining_s = max(0.001, deadline - time.monotonic())
        try:
            async with self._http.stream(
                request.method,
                self._url + request.path,
                content=request.content,
                params=request.params,
                headers=request.headers(),
                timeout=httpx.Timeout(remaining_s, connect=min(_wire.CONNECT_S, remaining_s)),
            ) as response:
                if response.is_error:
                    raise _wire.read_error(response.status_code, response.headers, await response.aread())
                yield response
        except httpx.TransportError as fault:
            raise _wire.unreachable(self._url, fault) from fault


async def _parts(response: httpx.Response, deadline: float) -> AsyncIterator[bytes]:
    """Yield the body in parts; raise past the deadline (httpx's own time-out is one of silence, not of the whole)."""
    async for data in response.aiter_bytes():
        yield data
        if time.monotonic() > deadline:
            raise Unavailable(f"the answer from {response.url} was not complete in time")
