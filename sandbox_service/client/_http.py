"""The HTTP transport: sends what `_wire.py` builds over httpx and hands the answers back. One attempt each."""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import asynccontextmanager

import httpx

from sandbox_service.client import _wire
from sandbox_service.errors import Unavailable
from sandbox_service.models import Batch, Call, Checked, Checks, Result, Ticket
from sandbox_service.tls import refused_tls

CONNECT_S = 10.0
SILENCE_S = 60.0
"""A stream that brought nothing for this long is opened again: its other end may be gone without a word."""


class HttpTransport:
    """One gateway, reached over HTTP or HTTPS."""

    def __init__(self, url: str, *, api_key: str | None, max_connections: int) -> None:
        self.url = url
        self._http = httpx.AsyncClient(
            headers={"Authorization": f"Bearer {api_key}"} if api_key else None,
            limits=httpx.Limits(max_connections=max_connections, max_keepalive_connections=max_connections),
        )

    async def stream(self, calls: Sequence[Call], timeout_s: float) -> AsyncGenerator[Result, None]:
        request = _wire.stream(calls)
        deadline = time.monotonic() + timeout_s
        while True:
            reader = _wire.StreamReader()
            try:
                async with self._answer(request, deadline, silence_s=SILENCE_S) as response:
                    async for data in self._parts(response, deadline):
                        for result in reader.feed(data):
                            yield result
                reader.end()
                return
            except _Silence:
                self._check(deadline)

    async def submit(self, call: Call, timeout_s: float) -> Ticket:
        _, body = await self._exchange(_wire.submit(call), timeout_s)
        return _wire.read_ticket(body)

    async def submit_batch(self, batch: Batch, timeout_s: float) -> Ticket:
        _, body = await self._exchange(_wire.submit_batch(batch), timeout_s)
        return _wire.read_ticket(body)

    async def get(self, id: str, wait_s: float, timeout_s: float) -> Result | None:
        return _wire.read_poll(*await self._exchange(_wire.poll("calls", id, wait_s=wait_s), timeout_s))

    async def get_batch(self, id: str, wait_s: float, timeout_s: float) -> list[Result] | None:
        return _wire.read_batch_poll(*await self._exchange(_wire.poll("batches", id, wait_s=wait_s), timeout_s))

    async def cancel(self, id: str, timeout_s: float) -> None:
        await self._exchange(_wire.cancel("calls", id), timeout_s)

    async def cancel_batch(self, id: str, timeout_s: float) -> None:
        await self._exchange(_wire.cancel("batches", id), timeout_s)

    async def cancel_label(self, name: str, value: str, timeout_s: float) -> int:
        _, body = await self._exchange(_wire.cancel_label(name, value), timeout_s)
        return _wire.read_cancelled(body)

    async def verify(self, checks: Checks, timeout_s: float) -> list[Checked]:
        _, body = await self._exchange(_wire.verify(checks), timeout_s)
        return _wire.read_verdicts(body, len(checks.checks))

    async def close(self) -> None:
        await self._http.aclose()

    async def _exchange(self, request: _wire.Request, timeout_s: float) -> tuple[int, bytes]:
        """Send a request; return the HTTP status and the body."""
        deadline = time.monotonic() + timeout_s
        async with self._answer(request, deadline) as response:
            return response.status_code, b"".join([data async for data in self._parts(response, deadline)])

    @asynccontextmanager
    async def _answer(
        self, request: _wire.Request, deadline: float, *, silence_s: float | None = None
    ) -> AsyncIterator[httpx.Response]:
        """Send a request and open its answer. What goes wrong, here or while it is read, is a SandboxError."""
        remaining_s = max(0.001, deadline - time.monotonic())
        read_s = remaining_s if silence_s is None else min(remaining_s, silence_s)
        try:
            async with self._http.stream(
                request.method,
                self.url + request.path,
                content=request.content,
                params=request.params,
                headers=request.headers(),
                timeout=httpx.Timeout(remaining_s, connect=min(CONNECT_S, remaining_s), read=read_s),
            ) as response:
                if response.is_error:
                    raise _wire.read_error(response.status_code, response.headers, await response.aread())
                yield response
        except httpx.ReadTimeout as fault:
            if silence_s is not None:
                raise _Silence from None
            raise _wire.unreachable(self.url, fault) from fault
        except httpx.TransportError as fault:
            raise refused_tls(self.url, fault) or _wire.unreachable(self.url, fault) from fault

    async def _parts(self, response: httpx.Response, deadline: float) -> AsyncIterator[bytes]:
        """Yield the body in parts; raise past the deadline: httpx's own time-out is one of silence."""
        async for data in response.aiter_bytes():
            yield data
            self._check(deadline)

    def _check(self, deadline: float) -> None:
        if time.monotonic() > deadline:
            raise Unavailable(f"the answer from {self.url} was not complete in time")


class _Silence(Exception):
    """Nothing came for SILENCE_S."""
