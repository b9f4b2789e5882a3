"""From evidence to verdict: what was seen outside the jail decides a call's status, and nothing else does."""

from __future__ import annotations

import os
import signal
from enum import Enum
from typing import Literal, NamedTuple

from sandbox_service.inside.frames import Step
from sandbox_service.models import CANCELLED_MESSAGE, Status

_LATE_S = 0.25
"""How much later than its limit a program may be killed (R8)."""
_SIGSYS = "as by a system call that is not allowed; the kernel's log has not told which"
_BY_ITSELF = "it ended by itself, but past its limit"
LimitName = Literal["wall", "cpu", "memory", "output", "deadline"]


class Kill(Enum):
    """Why the worker asked for the program to be killed."""

    WALL = "wall"
    CPU = "cpu"
    OUTPUT = "output"
    DEADLINE = "deadline"
    CANCELLED = "cancelled"


class Evidence(NamedTuple):
    """Everything that was observed of one execution. Times are seconds; `*_at` are on the monotonic clock."""

    wait_status: int
    step: int
    errno: int
    kill: Kill | None
    oom_kills: int
    cpu_s: float
    descheduled_s: float | None
    memory_peak: int | None
    stdout: bytes
    stderr: bytes
    stdout_truncated: bool
    stderr_truncated: bool
    flooded: bool
    """It wrote more than the hard cap, whether or not that ended it."""
    sent_at: float
    started_at: float
    exited_at: float
    refused_call: str | None = None
    """The system call that ended it, where that is known."""

    @property
    def wall_s(self) -> float:
        return self.exited_at - self.started_at


class Verdict(NamedTuple):
    status: Status
    exit_code: int | None = None
    signal: str | None = None
    limit: LimitName | None = None
    message: str | None = None


def was_starved(evidence: Evidence, wall_limit_s: float) -> bool:
    """Whether it passed its wall limit for want of a CPU: it waited for one for half of the time or longer, and its
    processes together had less than that. What waits for its own children's sake is not starved."""
    ended_late = evidence.wall_s > wall_limit_s + _LATE_S
    killed = os.WIFSIGNALED(evidence.wait_status) and evidence.kill is not None
    hit = evidence.kill is Kill.WALL if killed else ended_late
    half = wall_limit_s / 2
    return hit and (evidence.descheduled_s or 0) >= half and evidence.cpu_s < half


def judge(evidence: Evidence, cpu_limit_s: float, wall_limit_s: float) -> Verdict:
    """Decide the status. The order matters: our own faults first, then what we did, then what the program did."""
    if evidence.step != Step.DONE:
        return _never_started(evidence)
    if os.WIFEXITED(evidence.wait_status):
        code = os.WEXITSTATUS(evidence.wait_status)
        if used_up := _used_up(evidence, cpu_limit_s, wall_limit_s):
            return used_up._replace(exit_code=code)
        return Verdict(Status.OK if code == 0 else Status.FAILED, exit_code=code)
    number = os.WTERMSIG(evidence.wait_status)
    name = _signal_name(number)
    if number == signal.SIGKILL and evidence.kill is not None:
        return _killed_by_us(evidence.kill, name)
    if number == signal.SIGKILL and evidence.oom_kills > 0:
        return Verdict(Status.OUT_OF_MEMORY, signal=name, limit="memory")
    if number in (signal.SIGKILL, signal.SIGXCPU) and evidence.cpu_s >= cpu_limit_s:
        return Verdict(Status.TIMED_OUT, signal=name, limit="cpu")
    if used_up := _used_up(evidence, cpu_limit_s, wall_limit_s):
        return used_up._replace(signal=name)
    message = None
    if number == signal.SIGSYS:
        message = f"a system call that is not allowed: {evidence.refused_call}" if evidence.refused_call else _SIGSYS
    return Verdict(Status.SIGNALED, signal=name, message=message)


def _used_up(evidence: Evidence, cpu_limit_s: float, wall_limit_s: float) -> Verdict | None:
    """What a program passed without being killed for it, however it ended: a worker that is held up looks too late."""
    if evidence.cpu_s > cpu_limit_s + _LATE_S:
        return Verdict(Status.TIMED_OUT, limit="cpu", message=_BY_ITSELF)
    if evidence.wall_s > wall_limit_s + _LATE_S:
        return Verdict(Status.TIMED_OUT, limit="wall", message=_BY_ITSELF)
    return Verdict(Status.OUTPUT_LIMIT, limit="output", message=_BY_ITSELF) if evidence.flooded else None


def _never_started(evidence: Evidence) -> Verdict:
    """The set-up is ours, so its end is our fault, but for two: what the call brought along, and who gave it up."""
    killed = os.WIFSIGNALED(evidence.wait_status) and os.WTERMSIG(evidence.wait_status) == signal.SIGKILL
    if killed and evidence.kill in (Kill.CANCELLED, Kill.DEADLINE):
        return _killed_by_us(evidence.kill, "SIGKILL")
    if killed and evidence.oom_kills > 0 and not evidence.errno:
        message = "its code, arguments and files do not fit its memory limit"
        return Verdict(Status.OUT_OF_MEMORY, signal="SIGKILL", limit="memory", message=message)
    where = Step(evidence.step).name.lower()
    reason = os.strerror(evidence.errno) if evidence.errno else "no error number"
    return Verdict(Status.INFRA_ERROR, message=f"the sandbox could not be set up (step {where}: {reason})")


def _killed_by_us(kill: Kill, name: str) -> Verdict:
    match kill:
        case Kill.WALL:
            return Verdict(Status.TIMED_OUT, signal=name, limit="wall")
        case Kill.CPU:
            return Verdict(Status.TIMED_OUT, signal=name, limit="cpu")
        case Kill.OUTPUT:
            return Verdict(Status.OUTPUT_LIMIT, signal=name, limit="output")
        case Kill.DEADLINE:
            return Verdict(
                Status.CANCELLED, signal=name, limit="deadline", message="its deadline passed while it was running"
            )
        case Kill.CANCELLED:
            return Verdict(Status.CANCELLED, signal=name, message=CANCELLED_MESSAGE)


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"SIG{number}"
