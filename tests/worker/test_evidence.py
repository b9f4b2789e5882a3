"""`judge`: every branch, from evidence alone."""

from __future__ import annotations

import errno
import signal
from typing import Any

import pytest

from sandbox_service.inside.frames import Step
from sandbox_service.models import Status
from sandbox_service.worker.evidence import Evidence, Kill, judge, was_starved

CPU_LIMIT_S = 2.0


def exited(code: int) -> int:
    return code << 8


def evidence(wait_status: int, **changes: Any) -> Evidence:
    fields: dict[str, Any] = {
        "wait_status": wait_status,
        "step": Step.DONE,
        "errno": 0,
        "kill": None,
        "oom_kills": 0,
        "cpu_s": 0.1,
        "descheduled_s": None,
        "memory_peak": 0,
        "stdout": b"",
        "stderr": b"",
        "stdout_truncated": False,
        "stderr_truncated": False,
        "flooded": False,
        "sent_at": 1.0,
        "started_at": 1.5,
        "exited_at": 2.0,
    }
    return Evidence(**(fields | changes))


@pytest.mark.parametrize(
    ("seen", "status", "exit_code", "signal_name", "limit"),
    [
        (evidence(exited(0)), Status.OK, 0, None, None),
        (evidence(exited(3)), Status.FAILED, 3, None, None),
        # What a shell says of a killed program, chosen by the program itself: that is no kill.
        (evidence(exited(137)), Status.FAILED, 137, None, None),
        (evidence(exited(137), oom_kills=1), Status.FAILED, 137, None, None),
        (evidence(exited(1), oom_kills=1, kill=Kill.WALL), Status.FAILED, 1, None, None),
        # It ended by itself just before our kill reached it.
        (evidence(exited(0), kill=Kill.WALL), Status.OK, 0, None, None),
        # The same, but its output went past the cap, which is no question of time.
        (evidence(exited(0), flooded=True), Status.OUTPUT_LIMIT, 0, None, "output"),
        (evidence(exited(3), kill=Kill.OUTPUT, flooded=True), Status.OUTPUT_LIMIT, 3, None, "output"),
        (evidence(signal.SIGKILL, oom_kills=1, flooded=True), Status.OUT_OF_MEMORY, None, "SIGKILL", "memory"),
        # A signal of its own making does not hide what it used up before.
        (evidence(signal.SIGABRT, flooded=True), Status.OUTPUT_LIMIT, None, "SIGABRT", "output"),
        (evidence(signal.SIGABRT, kill=Kill.OUTPUT, flooded=True), Status.OUTPUT_LIMIT, None, "SIGABRT", "output"),
        (evidence(signal.SIGSEGV, kill=Kill.WALL), Status.SIGNALED, None, "SIGSEGV", None),
        (evidence(signal.SIGSEGV), Status.SIGNALED, None, "SIGSEGV", None),
        (evidence(signal.SIGSEGV | 0x80), Status.SIGNALED, None, "SIGSEGV", None),
        (evidence(signal.SIGSYS), Status.SIGNALED, None, "SIGSYS", None),
        (evidence(40), Status.SIGNALED, None, "SIG40", None),
        # By its own hand: nobody else asked for it, and no counter moved.
        (evidence(signal.SIGKILL), Status.SIGNALED, None, "SIGKILL", None),
        (evidence(signal.SIGKILL, kill=Kill.WALL), Status.TIMED_OUT, None, "SIGKILL", "wall"),
        (evidence(signal.SIGKILL, kill=Kill.CPU), Status.TIMED_OUT, None, "SIGKILL", "cpu"),
        (evidence(signal.SIGKILL, kill=Kill.OUTPUT), Status.OUTPUT_LIMIT, None, "SIGKILL", "output"),
        (evidence(signal.SIGKILL, kill=Kill.DEADLINE), Status.CANCELLED, None, "SIGKILL", "deadline"),
        (evidence(signal.SIGKILL, kill=Kill.CANCELLED), Status.CANCELLED, None, "SIGKILL", None),
        (evidence(signal.SIGKILL, kill=Kill.WALL, oom_kills=1), Status.TIMED_OUT, None, "SIGKILL", "wall"),
        (evidence(signal.SIGKILL, oom_kills=1), Status.OUT_OF_MEMORY, None, "SIGKILL", "memory"),
        (evidence(signal.SIGABRT, oom_kills=1), Status.SIGNALED, None, "SIGABRT", None),
        # The kernel's own CPU limit, one second behind ours.
        (evidence(signal.SIGKILL, cpu_s=2.5), Status.TIMED_OUT, None, "SIGKILL", "cpu"),
        (evidence(signal.SIGXCPU, cpu_s=2.5), Status.TIMED_OUT, None, "SIGXCPU", "cpu"),
        (evidence(signal.SIGXCPU, cpu_s=0.1), Status.SIGNALED, None, "SIGXCPU", None),
        (evidence(signal.SIGTERM, cpu_s=2.1), Status.SIGNALED, None, "SIGTERM", None),
        (evidence(signal.SIGTERM, cpu_s=2.5), Status.TIMED_OUT, None, "SIGTERM", "cpu"),
    ],
)
def test_a_verdict_follows_from_what_was_seen(
    seen: Evidence, status: Status, exit_code: int | None, signal_name: str | None, limit: str | None
) -> None:
    verdict = judge(seen, CPU_LIMIT_S, 60)
    assert (verdict.status, verdict.exit_code, verdict.signal, verdict.limit) == (
        status,
        exit_code,
        signal_name,
        limit,
    )


@pytest.mark.parametrize("step", [step for step in Step if step is not Step.DONE])
@pytest.mark.parametrize("wait_status", [exited(0), exited(1), signal.SIGKILL, signal.SIGSYS])
def test_an_unfinished_set_up_is_always_our_fault(step: Step, wait_status: int) -> None:
    """Whatever else was seen: no isolation, no verdict. The message names the step and the reason."""
    seen = evidence(wait_status, step=step, errno=errno.EPERM, kill=Kill.WALL, oom_kills=1)
    verdict = judge(seen, CPU_LIMIT_S, 60)
    assert (verdict.status, verdict.exit_code, verdict.signal, verdict.limit) == (Status.INFRA_ERROR, None, None, None)
    assert step.name.lower() in (verdict.message or "")
    assert "Operation not permitted" in (verdict.message or "")


def test_a_denied_system_call_is_said() -> None:
    """With its name, where that is known."""
    unnamed = judge(evidence(signal.SIGSYS), CPU_LIMIT_S, 60).message or ""
    assert unnamed.startswith("as by a system call that is not allowed;")  # a program can send itself that signal
    named = judge(evidence(signal.SIGSYS, refused_call="reboot"), CPU_LIMIT_S, 60)
    assert named.message == "a system call that is not allowed: reboot"


def test_wall_time_is_from_the_fork_to_the_exit() -> None:
    assert evidence(exited(0)).wall_s == 0.5


def test_what_a_call_brings_has_to_fit_its_memory() -> None:
    """Killed while it took in its code and files: no fault of ours, and the same again at a second attempt."""
    seen = evidence(signal.SIGKILL, step=Step.FORKED, oom_kills=1)
    assert judge(seen, 10, 60).status is Status.OUT_OF_MEMORY


def test_a_cancelled_call_says_who_wanted_it() -> None:
    """The same words whether it was queued (there the queue says so) or running."""
    assert judge(evidence(signal.SIGKILL, kill=Kill.CANCELLED), 10, 60).message == "cancelled by the caller"


@pytest.mark.parametrize("kill", [Kill.CANCELLED, Kill.DEADLINE])
def test_given_up_before_it_started_is_cancelled(kill: Kill) -> None:
    assert judge(evidence(signal.SIGKILL, step=Step.FORKED, kill=kill), 10, 60).status is Status.CANCELLED


@pytest.mark.parametrize(("measured", "limit"), [({"cpu_s": 10.5}, "cpu"), ({"exited_at": 161.0}, "wall")])
def test_a_limit_holds_also_when_nobody_looked(measured: dict[str, float], limit: str) -> None:
    """A worker that was held up did not kill it in time: exit code 0 is no excuse."""
    verdict = judge(evidence(exited(0), started_at=100.0, **{"exited_at": 101.0, **measured}), 10, 60)
    assert (verdict.status, verdict.limit) == (Status.TIMED_OUT, limit)


@pytest.mark.parametrize(
    ("seen", "starved"),
    [
        (evidence(signal.SIGKILL, kill=Kill.WALL, descheduled_s=1.2), True),
        # Held up so long that it was not killed, and ended by itself, too late.
        (evidence(exited(0), exited_at=4.0, descheduled_s=1.2), True),
        # Not even its set-up got a CPU.
        (evidence(signal.SIGKILL, kill=Kill.WALL, descheduled_s=1.9, step=Step.FORKED), True),
        # It slept, or waited for nobody knows what: its own doing.
        (evidence(signal.SIGKILL, kill=Kill.WALL, descheduled_s=0.9), False),
        (evidence(signal.SIGKILL, kill=Kill.WALL), False),
        # Its processes stood in one another's way.
        (evidence(signal.SIGKILL, kill=Kill.WALL, descheduled_s=1.9, cpu_s=1.1), False),
        # It was slow to start, and in time.
        (evidence(exited(0), exited_at=3.4, descheduled_s=1.2), False),
        (evidence(exited(0), kill=Kill.WALL, exited_at=3.6, descheduled_s=1.2), False),
        # Other limits do not depend on load.
        (evidence(signal.SIGKILL, kill=Kill.CPU, descheduled_s=1.2), False),
        (evidence(signal.SIGKILL, kill=Kill.CANCELLED, descheduled_s=1.2), False),
    ],
)
def test_want_of_a_cpu_is_no_verdict(seen: Evidence, starved: bool) -> None:
    """With a wall limit of 2 s: half of it waiting for a CPU, by the kernel's count."""
    assert was_starved(seen, 2.0) is starved
