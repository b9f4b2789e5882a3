"""What operators ask: is it alive, can it take calls, how is it doing."""

from __future__ import annotations

import asyncio
import contextlib
import math

from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from starlette.requests import Request
from starlette.responses import Response

from sandbox_service.errors import SandboxError
from sandbox_service.gateway.answers import answer_json
from sandbox_service.gateway.calls import Calls
from sandbox_service.metrics import CALLS_IN_FLIGHT, GATEWAY, QUEUE_DEPTH, UNFINISHED_BYTES
from sandbox_service.queue import Queue

PROBE_S = 2.0
"""A queue that needs longer than this to answer a probe counts as away."""


_NO_WORKER = "no worker is alive; start one with `sandbox-service worker`"
_PAUSED = "no worker can start a call now; its log says why (descriptors, processes or jails)"


class Probes:
    """The endpoints that need no key; they tell nothing of calls or tenants."""

    def __init__(self, queue: Queue, calls: Calls) -> None:
        self._queue = queue
        self._calls = calls
        self._stopping = False

    def stop(self) -> None:
        """From now on not ready."""
        self._stopping = True

    async def healthz(self, request: Request) -> Response:
        return answer_json({"status": "ok"})

    async def readyz(self, request: Request) -> Response:
        reasons, images = await self.reasons()
        body = {"ready": not reasons, "reasons": reasons, "images": sorted(images)}
        return answer_json(body, 503 if reasons else 200)

    async def reasons(self) -> tuple[list[str], set[str]]:
        """Return why this gateway is not ready, and the images that workers serve.

        Ready: the queue answers, and a worker that passed its self-test is alive.
        """
        images: set[str] = set()
        reasons = ["this gateway is stopping"] if self._stopping else []
        try:
            async with asyncio.timeout(PROBE_S):
                images = await self._queue.images()
        except (SandboxError, TimeoutError):
            reasons.append("the queue does not answer; is Redis running, and SANDBOX_REDIS_URL right?")
        else:
            if not self._queue.slots:
                reasons.append(_PAUSED if images else _NO_WORKER)
        return reasons, images

    async def metrics(self, request: Request) -> Response:
        CALLS_IN_FLIGHT.set(self._calls.in_flight)
        queued = unfinished = math.nan  # unless it is told: the last value would look like a healthy queue
        with contextlib.suppress(SandboxError, TimeoutError):
            async with asyncio.timeout(PROBE_S):
                queued, unfinished = await self._queue.backlog()
        QUEUE_DEPTH.set(queued)
        UNFINISHED_BYTES.set(unfinished)
        return Response(generate_latest(GATEWAY), headers={"Content-Type": CONTENT_TYPE_LATEST})
