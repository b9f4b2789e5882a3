"""One attack on the running service, with what has to hold after any attack (G1 to G9 of the acceptance list).

Asserted from outside: the status (G1), the time of a kill (G2), nothing left of it (G3), the same zygotes and no
slot lost that was not expected (G4), the next calls in every slot as always (G5), a neighbour that ran beside it
as always (G6), no planted secret in the answer (G8), and a metric that counts it (G9). What is true of all attacks
together is checked once at the end of the session: the root file system, files and settings of the machine (G7).
"""

from __future__ import annotations

import asyncio
import re
import time
from dataclasses import dataclass
from typing import Any

import httpx

from sandbox_service.models import Result, Status
from tests.security import machine
from tests.security.cases import Case, told

SLOTS = 3
KILL_S = 0.25
NOISE_S = 2.0
"""What a machine that is busy with other tests may add to a time."""
LEFT_S = 1.0

GOLDEN = """
import hashlib, os, random
print(sorted(os.listdir("/tmp")), sorted(os.listdir("/tmp/work")), sorted(os.listdir("/dev/shm")), os.getpid())
print(list({"a", "b", "c", "d", "e"}), random.Random(7).random(), hashlib.sha256(b"x").hexdigest()[:8])
print(sorted(os.environ), os.getcwd(), oct(os.umask(0)), len(os.listdir("/proc/self/fd")))
"""
NEIGHBOUR = """
import hashlib
digest = b""
for _ in range(30_000): digest = hashlib.sha256(digest).digest()
print(digest.hex())
"""


@dataclass(frozen=True)
class Target:
    """The service under attack, and what was planted around it."""

    url: str
    worker_pid: int
    worker: str
    metrics_url: str
    tokens: tuple[str, ...]
    """Secrets that no answer may ever hold."""
    golden: str
    neighbour: str
    at_rest: machine.Footprint

    @property
    def leaves(self) -> machine.Leaves:
        return machine.Leaves(self.worker)


class Attacker:
    """Sends calls over HTTP. `attack(case)` makes the general checks; `call` is just a call."""

    def __init__(self, target: Target, http: httpx.AsyncClient) -> None:
        self.target = target
        self.http = http

    async def call(self, code: str, **fields: Any) -> Result:
        result = await call(self.http, code, **fields)
        for token in self.target.tokens:
            assert token not in result.model_dump_json(), f"a planted secret came back: {told(result)}"  # G8
        return result

    async def attack(self, case: Case) -> Result:
        """Run a case beside a neighbour and check everything."""
        before = await self._metrics()
        result, neighbour = await asyncio.gather(self.call(case.code, **case.fields), call(self.http, NEIGHBOUR))
        case.verify(result)  # G1
        _verify_time(result, case.fields)  # G2
        assert (neighbour.status, neighbour.stdout) == (Status.OK, self.target.neighbour), told(neighbour)  # G6
        await self.verify_rest(retired=case.retired, before=before)
        after = await self._metrics()
        counted = f'sandbox_results_total{{status="{result.status.value}"}}'
        assert after[counted] > before.get(counted, 0)  # G9
        return result

    async def verify_rest(self, *, retired: int = 0, before: dict[str, float] | None = None) -> None:
        """Nothing is left of what ran, and every slot answers as always (G3, G4, G5)."""
        await self._until(lambda: self.target.leaves.processes() == 0, "processes are left in a slot's group")
        for _ in range(SLOTS):
            golden = await call(self.http, GOLDEN)
            assert (golden.status, golden.stdout, golden.stderr) == (Status.OK, self.target.golden, ""), told(golden)
        await self._until(lambda: machine.footprint(self.target.worker_pid) == self.target.at_rest, self._difference)
        if before is not None:
            after = await self._metrics()
            lost = sum(after[name] - before.get(name, 0) for name in after if name in _LOSSES or "retired_t" in name)
            assert lost == retired, f"{lost} slots or jails were lost"

    def _difference(self) -> str:
        return f"at rest: {self.target.at_rest}\nnow:     {machine.footprint(self.target.worker_pid)}"

    async def _until(self, condition: Any, problem: Any) -> None:
        give_up = time.monotonic() + LEFT_S + NOISE_S
        while not condition():
            if time.monotonic() > give_up:
                raise AssertionError(problem if isinstance(problem, str) else problem())
            await asyncio.sleep(0.02)

    async def _metrics(self) -> dict[str, float]:
        text = (await self.http.get(self.target.metrics_url)).text
        return {name: float(value) for name, value in re.findall(r"^(sandbox_\S+) (\S+)$", text, re.MULTILINE)}


_LOSSES = {"sandbox_jails_restarted_total", "sandbox_second_attempts_total"}


def _verify_time(result: Result, fields: dict[str, Any]) -> None:
    limits = fields.get("limits", {})
    if result.status is Status.TIMED_OUT and result.limit == "wall":
        assert result.usage.wall_s <= limits["wall_s"] + KILL_S + NOISE_S, told(result)
    if result.status is Status.TIMED_OUT and result.limit == "cpu":
        assert result.usage.cpu_s <= limits["cpu_s"] + 2 * (KILL_S + NOISE_S), told(result)


async def call(http: httpx.AsyncClient, code: str, **fields: Any) -> Result:
    response = await http.post("/v1/calls", json={"code": code, **fields})
    assert response.status_code == httpx.codes.OK, response.text
    return Result.model_validate_json(response.content)
