"""A client that knows the answer to each of its calls, and keeps a book of what came back.

The value that a call has to print follows from its id, so that a lost, a wrong or a foreign Result shows. Each
execution also prints a number of its own: two different Results under one id show as well. It retries as a good client
does, always with the same id (`sandbox_service.client`), and never gives up while there is time.

`audit` compares with the side channel: what the workers logged (`SANDBOX_LOG_LEVEL=debug`) of the executions that they
started and gave back, which outlives their kill.
"""

from __future__ import annotations

import asyncio
import hashlib
import itertools
import json
import random
from collections import Counter
from collections.abc import Iterable, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field

from sandbox_service.client import AsyncSandboxClient, Call, Result, Retries
from sandbox_service.errors import NotFound, ResultGone, SandboxError
from sandbox_service.models import Status

MOST_ATTEMPTS = 2
ANSWER_S = 120.0
"""Deadline of each call: longer than any fault lasts."""
_PRIME = 2**127 - 1
_PROGRAM = """\
import os, sys, time
key, pause_s = sys.stdin.read().split()
time.sleep(float(pause_s))
print(pow(int(key, 16), 65537, 2**127 - 1), os.urandom(8).hex())
"""
PATIENT = Retries(base_s=0.05, cap_s=0.5, patience_s=ANSWER_S, infra_errors=0)
"""`infra_error` is not hidden by running the call again under another id: it is counted."""


def expected(call_id: str) -> str:
    """Return what the call with this id has to print."""
    return str(pow(int(_key(call_id), 16), 65537, _PRIME))


def make_call(call_id: str, pause_s: float = 0.0) -> Call:
    return Call(id=call_id, code=_PROGRAM, stdin=f"{_key(call_id)} {pause_s:.3f}", timeout_s=ANSWER_S)


def _key(call_id: str) -> str:
    return hashlib.sha256(call_id.encode()).hexdigest()


@dataclass
class Line:
    """What the ledger knows of one call."""

    id: str
    result: Result | None = None
    error: str | None = None
    told_lost: bool = False
    """The service said 404 or 410 of an accepted call, and the client handed it in again."""


@dataclass
class Tally:
    """What is left when all is quiet. `failures` is empty if every promise was kept."""

    calls: int = 0
    second_attempts: int = 0
    """By the Results. Not every first one was an execution: the answer to a claim can be lost with a connection."""
    repeated: int = 0
    """Calls whose programs were started more than once, by the workers' logs."""
    infra_errors: int = 0
    told_lost: int = 0
    lost: list[str] = field(default_factory=list)
    duplicated: list[str] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)
    foreign: list[str] = field(default_factory=list)
    statuses: Counter[str] = field(default_factory=Counter)

    @property
    def failures(self) -> list[str]:
        return [
            f"{kind}: {sentence}"
            for kind in ("lost", "duplicated", "wrong", "foreign")
            for sentence in getattr(self, kind)
        ]


class Ledger:
    """Sends calls to these gateways until told to stop, each client to one of them; every answer goes into the book.

    `excused`: statuses that the fault itself may cause, and how often at most.
    """

    def __init__(self, urls: Sequence[str], *, run: str, longest_pause_s: float = 0.2) -> None:
        self.lines: dict[str, Line] = {}
        self.sent = self.answered = 0
        self._urls = list(urls)
        self._run = run
        self._longest_pause_s = longest_pause_s
        self._numbers = itertools.count()
        self._by_value: dict[str, str] = {}
        self._tally = Tally()
        self._nonces: dict[str, str] = {}
        self._stopping = False

    @property
    def in_flight(self) -> int:
        """Calls that were sent and not yet answered."""
        return self.sent - self.answered

    async def send(self, clients: int) -> None:
        """Keep so many clients busy until `stop`; return when the last of their calls is answered."""
        async with AsyncExitStack() as stack:
            sdks = [await stack.enter_async_context(AsyncSandboxClient(url, retries=PATIENT)) for url in self._urls]
            ways = (self._single, self._single, self._ticket, self._batch)
            async with asyncio.TaskGroup() as group:
                for number in range(clients):
                    group.create_task(self._one_client(sdks[number % len(sdks)], itertools.cycle(ways)))

    def stop(self) -> None:
        self._stopping = True

    async def _one_client(self, sdk: AsyncSandboxClient, ways: itertools.cycle) -> None:  # type: ignore[type-arg]
        for way in ways:
            if self._stopping:
                return
            await way(sdk)

    def open(self) -> Call:
        """Enter one more call into the book."""
        call_id = f"{self._run}-{next(self._numbers):06d}"
        self.lines[call_id] = Line(call_id)
        self._by_value[expected(call_id)] = call_id
        self.sent += 1
        return make_call(call_id, random.uniform(0, self._longest_pause_s))  # noqa: S311

    def close(self, call_id: str, outcome: Result | SandboxError) -> None:
        """Enter what became of it."""
        line = self.lines[call_id]
        self.answered += 1
        if isinstance(outcome, SandboxError):
            line.error = f"{outcome.code}: {outcome.message}"
        else:
            self.compare(call_id, outcome)
            line.result = outcome

    async def _single(self, sdk: AsyncSandboxClient) -> None:
        call = self.open()
        self.close(str(call.id), await _outcome(sdk.run(call)))

    async def _ticket(self, sdk: AsyncSandboxClient) -> None:
        call = self.open()
        while True:
            outcome = await _outcome(self._submit_and_wait(sdk, call))
            if not isinstance(outcome, (NotFound, ResultGone)):
                break
            self.lines[str(call.id)].told_lost = True
        self.close(str(call.id), outcome)

    async def _submit_and_wait(self, sdk: AsyncSandboxClient, call: Call) -> Result:
        ticket = await sdk.submit(call)
        return await sdk.wait(ticket.id, timeout_s=ANSWER_S)

    async def _batch(self, sdk: AsyncSandboxClient) -> None:
        calls = [self.open() for _ in range(4)]
        missing = {str(call.id) for call in calls}
        try:
            async for index, result in sdk.map(calls):
                missing.discard(str(calls[index].id))
                self.close(str(calls[index].id), result)
        except SandboxError as error:
            for call_id in missing:
                self.close(call_id, error)

    def compare(self, call_id: str, result: Result) -> None:
        """Check one answer to a call against its id, and against earlier answers."""
        tally = self._tally
        if result.id != call_id:
            tally.foreign.append(f"asked for {call_id}, got the result of {result.id}")
            return
        if result.status is not Status.OK:
            return  # counted once, by `tally`
        value, _, nonce = result.stdout.strip().partition(" ")
        if value != expected(call_id):
            owner = self._by_value.get(value)
            kind = tally.wrong if owner is None else tally.foreign
            kind.append(f"{call_id} printed {result.stdout[:80]!r}" + (f", the answer to {owner}" if owner else ""))
        elif self._nonces.setdefault(call_id, nonce) != nonce:
            tally.duplicated.append(f"{call_id} has two different Results")

    async def confirm(self) -> None:
        """Fetch every Result once more by its id: it has to be there, and to be the same."""
        async with AsyncSandboxClient(self._urls[0], retries=PATIENT) as sdk:
            gate = asyncio.Semaphore(16)

            async def fetch(line: Line) -> None:
                async with gate:
                    try:
                        result = await sdk.get(line.id)
                    except SandboxError as error:
                        self._tally.lost.append(f"{line.id} had a Result, and now: {error.code}")
                        return
                if result is None:
                    self._tally.lost.append(f"{line.id} had a Result, and now it has none")
                else:
                    self.compare(line.id, result)

            async with asyncio.TaskGroup() as group:
                for line in self.lines.values():
                    if line.result is not None:
                        group.create_task(fetch(line))

    def tally(self, excused: Counter[str] | None = None) -> Tally:
        """Sum up. `excused`: how many Results of a status the fault accounts for; more are wrong."""
        tally = self._tally
        left = Counter(excused or {})
        for line in self.lines.values():
            tally.calls += 1
            tally.told_lost += line.told_lost
            if line.result is None:
                tally.lost.append(f"{line.id}: {line.error or 'never answered'}")
                continue
            status = line.result.status
            tally.statuses[status.value] += 1
            tally.second_attempts += line.result.attempts > 1
            tally.infra_errors += status is Status.INFRA_ERROR
            if status in (Status.OK, Status.INFRA_ERROR):
                continue
            left[status.value] -= 1
            if left[status.value] < 0:
                tally.wrong.append(f"{line.id} is {status.value} ({line.result.message or line.result.stderr[-200:]})")
        return tally

    def audit(self, logs: Iterable[str]) -> None:
        """Compare the executions that workers logged with the attempts that Results tell: none may be unaccounted."""
        for line_id, starts in executions(logs).items():
            line = self.lines.get(line_id)
            if line is None or line.result is None:
                continue
            self._tally.repeated += starts > 1
            if starts > min(line.result.attempts, MOST_ATTEMPTS):
                self._tally.duplicated.append(
                    f"{line_id} was started {starts} times; its Result tells of {line.result.attempts}"
                )


def executions(logs: Iterable[str]) -> Counter[str]:
    """Count by call id the executions that were started and not given back, from a worker's JSON log lines."""
    counts: Counter[str] = Counter()
    for line in logs:
        if '"execution started"' in line or '"execution given back"' in line:
            entry = json.loads(line)
            counts[entry["call"]] += 1 if entry["event"] == "execution started" else -1
    return counts


async def _outcome(work) -> Result | SandboxError:  # type: ignore[no-untyped-def]
    try:
        return await work  # type: ignore[no-any-return]
    except (SandboxError, TimeoutError) as error:
        return error if isinstance(error, SandboxError) else SandboxError(str(error))
