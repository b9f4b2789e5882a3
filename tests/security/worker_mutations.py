"""The table of protections that the worker gives from outside the jail, as patches of its own modules."""

from __future__ import annotations

import time
import unicodedata
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import replace
from typing import Any
from unittest import mock

from sandbox_service.models import Job, Status
from sandbox_service.worker import evidence, execution, leaf, nsjail, pool, slots
from tests.security.mutation import Edit, Mutation, Patch


def _with_writable_root() -> AbstractContextManager[object]:
    command = nsjail.command

    def writable(*arguments: Any) -> list[str]:
        return [*command(*arguments)[:-1], "--rw", "--"]

    return mock.patch.object(nsjail, "command", writable)


WRITABLE_ROOT = Mutation("the read-only root", patches=(_with_writable_root,))


def _with_expected_output() -> AbstractContextManager[object]:
    make = execution._program

    def telling(job: Job) -> pool.Program:
        return replace(make(job), env={**job.env, "EXPECTED": job.expected_stdout or ""})

    return mock.patch.object(execution, "_program", telling)


EXPECTED_OUTPUT_IN_THE_JAIL = Mutation("the comparison outside the jail", patches=(_with_expected_output,))


def _waiting_for_the_pipe() -> AbstractContextManager[object]:
    gather = slots.Slot._evidence

    def patient(slot: slots.Slot, frame: Any, watch: Any, before: Any, stdout: Any, stderr: Any, sent: float) -> Any:
        until = time.monotonic() + 1.5
        while not stdout.at_end and time.monotonic() < until and b"42" not in stdout.kept:
            stdout.drain()
        return gather(slot, frame, watch, before, stdout, stderr, sent)

    return mock.patch.object(slots.Slot, "_evidence", patient)


_KILL_NOTHING = Edit("inside/init.py", "    if not _kill_everything():\n", "    if False:\n")
WAITS_FOR_THE_PIPE = Mutation(
    "the answer at exit, not at the end of the pipe", (_KILL_NOTHING,), (_waiting_for_the_pipe,)
)


def _without_waiting_for_memory() -> AbstractContextManager[object]:
    return mock.patch.object(leaf.Leaf, "is_unused", lambda leaf: leaf.processes() == 0)


MEMORY_IS_NOT_AWAITED = Mutation("the wait for a call's memory", patches=(_without_waiting_for_memory,))


def _without_looking_at_the_group() -> AbstractContextManager[object]:
    return mock.patch.object(leaf.Leaf, "is_unused", return_value=True)


NOTHING_IS_KILLED_NOR_COUNTED = Mutation(
    "the kill of all that is left, and the look at the group after it",
    (_KILL_NOTHING,),
    (_without_looking_at_the_group,),
)


def _patched(target: object, name: str, value: object) -> Patch:
    return lambda: mock.patch.object(target, name, value)


class _NoClock(slots._Watch):
    """Watches output and the deadline only."""

    def _check(self, now: float) -> tuple[evidence.Kill | None, float]:
        return None, now + 0.05


def _without_limit(name: str) -> Patch:
    """The leaf's limits with one of them taken away: up to what a test machine can bear."""
    begin = leaf.LeafV1.begin, leaf.LeafV2.begin

    def generous(which: int) -> Callable[..., Any]:
        def replacement(leaf: Any, memory_mb: int, processes: int) -> Any:
            return begin[which](
                leaf, 1024 if name == "memory" else memory_mb, 400 if name == "processes" else processes
            )

        return replacement

    @contextmanager
    def patches() -> Iterator[None]:
        with (
            mock.patch.object(leaf.LeafV1, "begin", generous(0)),
            mock.patch.object(leaf.LeafV2, "begin", generous(1)),
        ):
            yield

    return patches


NO_CLOCKS = Mutation("the worker's clocks", patches=(_patched(slots, "_Watch", _NoClock),))
NO_MEMORY_LIMIT = Mutation("the memory limit", patches=(_without_limit("memory"),))
NO_PROCESS_LIMIT = Mutation("the limit of processes", patches=(_without_limit("processes"),))
NO_OUTPUT_LIMIT = Mutation("the output limit", patches=(_patched(slots, "HARD_OUTPUT_FACTOR", 1 << 30),))


def _believing(evidence: evidence.Evidence, *limits: float) -> evidence.Verdict:
    if b'"status": "ok"' in evidence.stdout:
        return _VERDICT(Status.OK, exit_code=0)
    return _JUDGE(evidence, *limits)


def _loosely(actual: bytes, expected: bytes, compare: str) -> bool:
    """As texts, or as numbers where both are."""
    texts = [
        unicodedata.normalize("NFC", each.decode(errors="replace")).strip("\ufeff\n") for each in (actual, expected)
    ]
    try:
        first, second = map(float, texts)
    except ValueError:
        return texts[0] == texts[1]
    return first == second or first != first


def _unsealed(name: str, content: bytes, stack: ExitStack, *, seal: bool = False) -> int:
    return _MEMORY_FILE(name, content, stack)


_VERDICT, _JUDGE, _MEMORY_FILE = evidence.Verdict, execution.judge, slots._memory_file

STATUS_FROM_THE_OUTPUT = Mutation("the status from evidence alone", patches=(_patched(execution, "judge", _believing),))
EXIT_CODE_IS_ENOUGH = Mutation(
    "the comparison of the output", patches=(_patched(execution, "same_output", lambda *_: True),)
)
LOOSE_COMPARISON = Mutation("the comparison of bytes", patches=(_patched(execution, "same_output", _loosely),))
INPUT_IS_NOT_SEALED = Mutation("the sealed input", patches=(_patched(slots, "_memory_file", _unsealed),))
