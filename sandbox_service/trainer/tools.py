"""The service as the rollout loop sees it: tool calls and answers go out at once, and come back as text and verdicts.

What the code did is decided by the structured status. What the service could not do (`infra_error` after the client's
repeats, a call that expired in the queue, no answer at all) raises Lost: it is never text for the model, and never a
wrong answer.
"""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass

from sandbox_service.client import AsyncSandboxClient
from sandbox_service.client.tools import ToolCallError
from sandbox_service.errors import SandboxError
from sandbox_service.models import Call, Limits, Status
from sandbox_service.trainer.prompts import refusal, response
from sandbox_service.trainer.records import PARSE_ERROR, ToolUse

_NO_VERDICT = frozenset({Status.INFRA_ERROR, Status.EXPIRED, Status.CANCELLED})
_LINGER_S = 0.02
_TIMEOUT_S = 120.0
"""From sending a call to its answer, the queue included; far longer than any call may run."""


class Lost(Exception):
    """The service failed this rollout; the message says how."""


@dataclass(frozen=True)
class Tools:
    """Runs tool calls. `chars`: what the model reads of an output, at most."""

    sandbox: AsyncSandboxClient
    wall_s: float
    chars: int

    async def run(self, call: Call | ToolCallError, labels: dict[str, str]) -> tuple[ToolUse, str]:
        """Return what became of it, and what the model reads. Lost: nothing is known of the code."""
        if isinstance(call, ToolCallError):
            return ToolUse(PARSE_ERROR), refusal(call, self.chars)
        sent = time.monotonic()
        try:
            limits = Limits(wall_s=self.wall_s)
            result = await self.sandbox.run(
                call.model_copy(update={"limits": limits, "labels": labels, "timeout_s": _TIMEOUT_S})
            )
        except SandboxError as error:
            raise Lost(f"a tool call got no answer: {error.message}") from error
        if result.status in _NO_VERDICT:
            raise Lost(f"a tool call ended as {result.status.value}: {result.message}")
        use = ToolUse(result.status.value, time.monotonic() - sent, result.timings.total, result.attempts)
        return use, response(result, self.chars)


class Verifier:
    """Says whether answers are right, in the service. Answers that come together are asked for together."""

    def __init__(self, sandbox: AsyncSandboxClient) -> None:
        self._sandbox = sandbox
        self._verdicts: dict[tuple[str, str], asyncio.Future[bool]] = {}
        self._waiting: list[tuple[str, str]] = []
        self._task: asyncio.Task[None] | None = None

    async def is_right(self, answer: str, truth: str) -> bool:
        """Lost: the service could not say. The same pair is asked for once."""
        pair = (answer, truth)
        if pair not in self._verdicts:
            self._verdicts[pair] = asyncio.get_running_loop().create_future()
            self._waiting.append(pair)
            if self._task is None:
                self._task = asyncio.create_task(self._ask(), name="verify answers")
        return await asyncio.shield(self._verdicts[pair])

    async def _ask(self) -> None:
        while self._waiting:
            await asyncio.sleep(_LINGER_S)
            pairs, self._waiting = self._waiting, []
            try:
                found = [verdict.correct for verdict in await self._sandbox.verify_batch(pairs, timeout_s=_TIMEOUT_S)]
                why = "the service did not judge an answer"
            except SandboxError as error:
                found, why = [None] * len(pairs), f"no verdict on an answer: {error.message}"
            for pair, correct in zip(pairs, found, strict=True):
                if correct is not None:
                    self._verdicts[pair].set_result(correct)
                else:
                    future = self._verdicts.pop(pair)  # so that the next one asks again
                    future.set_exception(Lost(why))
                    future.exception()  # whoever asked may be gone; it is no error of this task
        self._task = None
