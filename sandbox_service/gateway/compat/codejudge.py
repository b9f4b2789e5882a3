"""The code-judge dialect: `/run`, `/judge`, their `/batch` and `/long-batch`, `/status`, `/ping`.

Always HTTP 200 for a valid body, with exactly the keys of the original. What had no verdict in its time, for whatever
cause, has the reason `queue_timeout`, the one that its clients send again; no fault of ours is ever a verdict.
"""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import Field

from sandbox_service.config import Settings
from sandbox_service.errors import InvalidCall, SandboxError
from sandbox_service.gateway.calls import Calls
from sandbox_service.gateway.compat.dialect import Asked
from sandbox_service.gateway.compat.holding import OutOfTime, run_held
from sandbox_service.gateway.compat.languages import Language, compiled_program
from sandbox_service.gateway.verify import verify
from sandbox_service.models import Check, Checked, Checks, CheckStatus, Limits, Result, Status
from sandbox_service.queue import Queue

COMPILE_S, COMPARE_S = 15.0, 10.0
MARGIN_S, LONG_S = 10.0, 55.0
"""A request is held for its time limits and this much more, a long batch for as long as any may be: clients leave after
60 s. A limit that did not fit would make a slow program one that was never judged, which is sent again and again."""
AT_ONCE = 512
"""Items of one batch that are under way together."""
TIMED_OUT = "Suicide from timeout."
_OUTPUT_KB = 1024
_NO_REFERENCE = "`expected_output` is missing, or cannot be read as mathematics\n"

Answer = dict[str, Any]
Reason = Literal["", "internal_error", "worker_timeout", "queue_timeout", "invalid_input"]


def _name() -> str:
    return str(uuid.uuid4())


class Submission(Asked):
    sub_id: str = Field(default_factory=_name)
    type: Literal["python", "cpp", "math"]
    options: dict[str, Any] | None = None
    solution: str
    input: str | None = None
    expected_output: str | None = None


class Submissions(Asked):
    sub_id: str = Field(default_factory=_name)
    type: Literal["batch"] = "batch"
    submissions: Annotated[list[Submission], Field(min_length=1, max_length=16_384)]


class CodeJudge:
    """The work behind the routes."""

    def __init__(self, calls: Calls, queue: Queue, languages: Mapping[str, Language], settings: Settings) -> None:
        self._calls = calls
        self._queue = queue
        self._languages = languages
        self._slots = settings.slot_count
        self._characters = settings.judge_output_characters
        self._wall_s = settings.default_wall_s

    async def run(self, tenant: str, asked: Submission, arrived: float) -> Answer:
        return (await self._all(tenant, [asked], arrived))[0]

    async def judge(self, tenant: str, asked: Submission, arrived: float) -> Answer:
        return _without_output(await self.run(tenant, asked, arrived))

    async def run_batch(self, tenant: str, asked: Submissions, arrived: float) -> Answer:
        return {"sub_id": asked.sub_id, "results": await self._all(tenant, asked.submissions, arrived)}

    async def run_long_batch(self, tenant: str, asked: Submissions, arrived: float) -> Answer:
        results = await self._all(tenant, asked.submissions, arrived, held_s=LONG_S)
        return {"sub_id": asked.sub_id, "results": results}

    async def judge_batch(self, tenant: str, asked: Submissions, arrived: float) -> Answer:
        return _without_outputs(await self.run_batch(tenant, asked, arrived))

    async def judge_long_batch(self, tenant: str, asked: Submissions, arrived: float) -> Answer:
        return _without_outputs(await self.run_long_batch(tenant, asked, arrived))

    async def status(self) -> Answer:
        return {"queue": await self._queue.depth(), "num_workers": self._slots * await self._queue.workers()}

    async def _all(
        self, tenant: str, submissions: list[Submission], arrived: float, held_s: float = 0.0
    ) -> list[Answer]:
        """`held_s`: how long the answer is of use, if that is longer than what the limits of each ask for."""
        free = asyncio.Semaphore(AT_ONCE)

        def until(limits_s: float) -> float:
            return arrived + max(held_s, min(LONG_S, limits_s + MARGIN_S))

        async def one(submission: Submission) -> Answer:
            compile_s = COMPILE_S if self._languages[submission.type].compile else 0.0
            async with free:
                return await self._one(tenant, submission, until(compile_s + self._wall_s))

        async with asyncio.TaskGroup() as group:
            math = group.create_task(self._math(tenant, [s for s in submissions if s.type == "math"], until(COMPARE_S)))
            codes = [group.create_task(one(s)) for s in submissions if s.type != "math"]
        answers, verdicts = iter(codes), iter(math.result())
        return [next(verdicts) if s.type == "math" else next(answers).result() for s in submissions]

    async def _one(self, tenant: str, submission: Submission, until: float) -> Answer:
        language = self._languages[submission.type]
        binary = None
        try:
            if language.compile:
                call = language.compile_call(submission.solution, {}, COMPILE_S)
                compiled, binary = compiled_program(await run_held(self._calls, tenant, call, until=until))
                if binary is None:
                    return self._answer(submission, compiled, COMPILE_S)
            call = language.run_call(
                submission.solution,
                {},
                binary,
                stdin=submission.input or "",
                expected_stdout=submission.expected_output,
                limits=Limits(output_kb=_OUTPUT_KB),
            )
            return self._answer(submission, await run_held(self._calls, tenant, call, until=until), self._wall_s)
        except OutOfTime:
            return _result(submission, "queue_timeout")
        except InvalidCall as error:
            return _result(submission, "invalid_input", stderr=error.message)
        except SandboxError:
            return _result(submission, "internal_error")

    async def _math(self, tenant: str, submissions: list[Submission], until: float) -> list[Answer]:
        """Compare each solution with what is expected."""
        if not submissions:
            return []
        try:
            checks = [Check(answer=s.solution, reference=s.expected_output or "") for s in submissions]
        except ValueError:
            return [_result(submission, "invalid_input") for submission in submissions]
        now = time.monotonic()
        asked = Checks(checks=checks, timeout_s=max(0.001, until - now))
        begun = time.monotonic()
        try:
            async with asyncio.timeout(until - now):
                verdicts = await verify(self._calls, tenant, asked, arrived=now)
        except (SandboxError, TimeoutError):
            return [_result(submission, "queue_timeout") for submission in submissions]
        cost = (time.monotonic() - begun) / len(submissions)
        return [_verdict(s, verdict, cost) for s, verdict in zip(submissions, verdicts, strict=True)]

    def _answer(self, submission: Submission, result: Result, wall_s: float) -> Answer:
        # What ended by itself a moment after its limit, before it could be killed, is too late here, whatever the load.
        is_late = result.status is Status.TIMED_OUT or result.usage.wall_s >= wall_s
        is_ok = result.status is Status.OK and not is_late
        return _result(
            submission,
            "worker_timeout" if is_late else "",
            run_success=is_ok,
            success=is_ok and (submission.expected_output is None or result.passed is True),
            cost=result.usage.wall_s,
            stdout=self._cut(result.stdout + TIMED_OUT if is_late else result.stdout),
            stderr=self._cut(result.stderr or _why(result)),
        )

    def _cut(self, text: str) -> str:
        return text[: self._characters]


def _why(result: Result) -> str:
    """Something to read where the program itself said nothing."""
    if result.status is Status.OUT_OF_MEMORY:
        return "MemoryError: killed at its memory limit\n"
    if result.status is Status.OUTPUT_LIMIT:
        return "killed: it wrote more output than is allowed\n"
    return f"killed by {result.signal}\n" if result.signal else ""


def _verdict(submission: Submission, verdict: Checked, cost: float) -> Answer:
    reasons: dict[CheckStatus, Reason] = {
        CheckStatus.TIMED_OUT: "worker_timeout",
        CheckStatus.BAD_REFERENCE: "invalid_input",
        CheckStatus.EXPIRED: "queue_timeout",
        CheckStatus.INFRA_ERROR: "queue_timeout",
    }
    reason = reasons.get(verdict.status, "")
    stderr = _NO_REFERENCE if verdict.status is CheckStatus.BAD_REFERENCE else ""
    success = verdict.correct is True
    return _result(submission, reason, run_success=not reason, success=success, cost=cost, stderr=stderr)


def _result(
    submission: Submission,
    reason: Reason,
    *,
    run_success: bool = False,
    success: bool = False,
    cost: float = 0.0,
    stdout: str = "",
    stderr: str = "",
) -> Answer:
    return {
        "sub_id": submission.sub_id,
        "success": success,
        "run_success": run_success,
        "cost": cost,
        "stdout": stdout,
        "stderr": stderr,
        "reason": reason,
    }


def _without_output(result: Answer) -> Answer:
    return {name: value for name, value in result.items() if name not in ("stdout", "stderr")}


def _without_outputs(answer: Answer) -> Answer:
    return {**answer, "results": [_without_output(result) for result in answer["results"]]}
