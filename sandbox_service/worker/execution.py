"""One execution from the queue's bytes to the Result's bytes."""

from __future__ import annotations

import base64
import codecs
import time
from dataclasses import dataclass

from sandbox_service import logs, metrics
from sandbox_service.inside import fetch
from sandbox_service.models import CANCELLED_MESSAGE, Job, Limits, Result, Status
from sandbox_service.queue import Execution
from sandbox_service.worker.evidence import Evidence, Kill, Verdict, judge, was_starved
from sandbox_service.worker.pool import NotStarted, Pool, Program
from sandbox_service.worker.profiles import SCANNED, Profile
from sandbox_service.worker.slots import Bounds, CannotStart, JailLost, Slot

_FAILED = "the worker failed; its log says how"
_UNREADABLE = "the worker cannot read the call: its gateway may be of another version"
_KIB, _MIB = 1 << 10, 1 << 20

_log = logs.get_logger("worker")


@dataclass
class Run:
    """What is under way for one execution; `cancel` works at any time."""

    execution: Execution
    claimed_at: float
    slot: Slot | None = None
    cpu_s: float = 0.0
    """What its program has used so far."""
    is_cancelled: bool = False

    def cancel(self) -> None:
        self.is_cancelled = True
        if self.slot is not None:
            self.slot.kill(Kill.CANCELLED)

    def may_start(self, slot: Slot) -> bool:
        self.slot = slot
        return not self.is_cancelled


class Executor:
    """Runs executions in a pool."""

    def __init__(self, worker: str, pool: Pool, default_image: str) -> None:
        self._worker = worker
        self._pool = pool
        self._default_image = default_image

    async def execute(self, run: Run) -> Result:
        """Make this attempt; whatever happens is a Result, a fault of this code too. But CannotStart is raised: then
        no attempt was made."""
        try:
            job = Job.model_validate_json(run.execution.payload)
        except ValueError as error:
            _log.error("a call cannot be read", call=run.execution.id, **logs.fault(error))
            return self._failed(run, _UNREADABLE)
        try:
            return await self._attempt(run, job)
        except CannotStart:
            _log.debug("execution given back", call=job.id, attempt=run.execution.attempt)
            raise
        except Exception as error:
            _log.error("an execution failed", call=job.id, **logs.fault(error))
            return self._failed(run, _FAILED).model_copy(update={"retryable": True, "labels": job.labels})

    def _failed(self, run: Run, why: str) -> Result:
        return Result(
            id=run.execution.id,
            status=Status.INFRA_ERROR,
            attempts=run.execution.attempt,
            worker=self._worker,
            message=why,
        )

    async def _attempt(self, run: Run, job: Job) -> Result:
        bounds = _bounds(job.limits, deadline=run.claimed_at + run.execution.remaining_s)
        image = job.image or self._default_image
        profile = self._pool.choose_profile(_sources(job), image)
        metrics.PROFILE_CALLS.labels(profile.name).inc()
        # The one trace of an attempt that survives the worker's kill: the ledger counts these (loadtest/ledger.py).
        _log.debug("execution started", call=job.id, attempt=run.execution.attempt)
        evidence: Evidence | None = None
        fetched = b""
        try:
            evidence, fetched = await self._run(run, _program(job), image, profile, bounds)
            verdict = judge(evidence, bounds.cpu_s, bounds.wall_s)
        except NotStarted:
            verdict = Verdict(Status.CANCELLED, message=CANCELLED_MESSAGE)
        except CannotStart:
            raise
        except JailLost as error:
            _log.warning("an execution lost its sandbox", call=job.id, attempt=run.execution.attempt, why=str(error))
            verdict = Verdict(Status.INFRA_ERROR, message=f"the sandbox was lost: {error}")
        fields: dict[str, object] = {
            "id": job.id,
            "status": verdict.status,
            "exit_code": verdict.exit_code,
            "signal": verdict.signal,
            "limit": verdict.limit,
            "retryable": verdict.status is Status.INFRA_ERROR,
            "attempts": run.execution.attempt,
            "worker": self._worker,
            "image": self._pool.images[image].hash,
            "labels": job.labels,
        }
        messages = _messages(verdict, job)
        if evidence is not None:
            run.cpu_s += evidence.cpu_s
            _describe(fields, verdict, job, evidence)
            metrics.RUN_TIME.observe(evidence.wall_s)
            metrics.FORK_TIME.observe(evidence.started_at - evidence.sent_at)
            if job.fetch:
                _add_files(fields, messages, job, fetched)
        fields["message"] = "; ".join(messages) or None
        fields["timings"] = _timings(run, evidence)
        return Result.model_validate(fields)

    async def _run(
        self, run: Run, program: Program, image: str, profile: Profile, bounds: Bounds
    ) -> tuple[Evidence, bytes]:
        """Run it, and once more if it hit its wall limit for want of a CPU: load is no verdict on the code (R9).

        That is no attempt of its own, and begins only if its wall limit fits before the deadline.
        """
        job_id, attempt = run.execution.id, run.execution.attempt
        evidence, fetched = await self._pool.run(program, image, profile, bounds, run.may_start)
        if not was_starved(evidence, bounds.wall_s) or time.monotonic() + bounds.wall_s > bounds.deadline:
            return evidence, fetched
        metrics.STARVED.inc()
        _log.warning("repeating a call that got no CPU", call=job_id, descheduled_s=evidence.descheduled_s)
        _log.debug("execution given back", call=job_id, attempt=attempt)
        _log.debug("execution started", call=job_id, attempt=attempt)
        return await self._pool.run(program, image, profile, bounds, run.may_start)


def _program(job: Job) -> Program:
    return Program(
        code=job.code,
        stdin=job.stdin.encode(),
        args=job.args,
        env=job.env,
        files={path: base64.b64decode(content) for path, content in job.files.items()},
        fetch=job.fetch,
        show_last_value=job.show_last_value,
        seed=job.seed,
        loopback=job.network == "loopback",
    )


def _sources(job: Job) -> str:
    """Return the Python that came along: what a program's own modules import counts like what it imports itself."""
    sources = [job.code]
    for path, content in job.files.items():
        if path.endswith(".py") and sum(map(len, sources)) < SCANNED:
            sources.append(base64.b64decode(content[: SCANNED // 3 * 4]).decode(errors="replace"))
    return "\n".join(sources)


def _bounds(limits: Limits, deadline: float) -> Bounds:
    """Take the limits as the gateway resolved them; one that is missing is a bug there, not a reason for a default."""
    values = dict(limits.__dict__)
    missing = [name for name, value in values.items() if value is None]
    if missing:
        raise ValueError(f"limits without a value: {', '.join(missing)}")
    output_bytes = values.pop("output_kb") * _KIB
    return Bounds(**values, output_bytes=output_bytes, deadline=deadline)


def _describe(fields: dict[str, object], verdict: Verdict, job: Job, evidence: Evidence) -> None:
    """Fill in what the program left behind. SECURITY: its bytes are only ever decoded, never interpreted."""
    fields["stdout"], stdout_replaced = _text(evidence.stdout, evidence.stdout_truncated)
    fields["stderr"], stderr_replaced = _text(evidence.stderr, evidence.stderr_truncated)
    fields["replaced"] = {"stdout": stdout_replaced, "stderr": stderr_replaced}
    fields["truncated"] = {"stdout": evidence.stdout_truncated, "stderr": evidence.stderr_truncated}
    if job.expected_stdout is not None and verdict.status is not Status.INFRA_ERROR:
        complete = verdict.status is Status.OK and not evidence.stdout_truncated
        fields["passed"] = complete and same_output(evidence.stdout, job.expected_stdout.encode(), job.compare)
    fields["usage"] = {
        "wall_s": evidence.wall_s,
        "cpu_s": evidence.cpu_s,
        "descheduled_s": evidence.descheduled_s,
        "memory_peak_mb": None if evidence.memory_peak is None else evidence.memory_peak / _MIB,
    }


def _add_files(fields: dict[str, object], messages: list[str], job: Job, stream: bytes) -> None:
    """Put the files that could be fetched into the result, and into its message why the others could not.

    SECURITY: files are the program's, and so may be the reason that they cannot be read: the verdict stands
    (tests/security: `test_a_program_can_not_make_its_fetch_a_fault_of_ours`).
    """
    found, problems = {}, []
    try:
        files = fetch.parse(stream, job.fetch)
    except ValueError:
        files = dict.fromkeys(job.fetch, fetch.Fetched(fetch.Outcome.MISSING))
    for path, (outcome, content) in files.items():
        if outcome is fetch.Outcome.WHOLE:
            found[path] = base64.b64encode(content).decode()
        else:
            problems.append(f"{path}: {outcome.name.lower().replace('_', ' ')}")
    fields["files"] = found
    if problems:
        messages.append(f"not fetched ({', '.join(problems)})")


def _text(output: bytes, truncated: bool) -> tuple[str, bool]:
    """Decode `output`; also tell whether bytes of it had to be replaced. A character that our cut split is dropped."""
    try:
        return codecs.utf_8_decode(output, "strict", not truncated)[0], False
    except UnicodeDecodeError:
        return codecs.utf_8_decode(output, "replace", not truncated)[0], True


def same_output(actual: bytes, expected: bytes, compare: str) -> bool:
    """Compare outputs as bytes. `strip` ignores white space around the whole, `lines` at the end of every line and
    empty lines at the end, `exact` nothing. CRLF counts as white space at the end of a line."""
    if compare == "exact":
        return actual == expected
    if compare == "strip":
        return actual.strip() == expected.strip()
    return _lines(actual) == _lines(expected)


def _lines(text: bytes) -> list[bytes]:
    return [line.rstrip() for line in text.rstrip().split(b"\n")]


def _messages(verdict: Verdict, job: Job) -> list[str]:
    messages = [verdict.message] if verdict.message else []
    if job.lowered:
        messages.append(f"limits lowered to the highest allowed: {', '.join(job.lowered)}")
    return messages


def _timings(run: Run, evidence: Evidence | None) -> dict[str, float]:
    execution, now = run.execution, time.monotonic()
    total = execution.admitted_s + execution.queued_s + (now - run.claimed_at)
    timings = {"admitted": execution.admitted_s, "queued": execution.queued_s, "total": total}
    if evidence is not None:
        timings |= {
            "dispatched": evidence.sent_at - run.claimed_at,
            "forked": evidence.started_at - evidence.sent_at,
            "ran": evidence.wall_s,
            "collected": now - evidence.exited_at,
        }
    return timings
