"""How long a tenant's single calls wait while another has 45,000 queued, by the clock.

    python -m tests.chaos.neighbours [calls of the other tenant]

The big tenant hands in its calls in batches over HTTP; they keep every slot busy for 0.2 s each. Then the small tenant
sends one call after the other. A call waits from its admission until its program has a slot.
"""

from __future__ import annotations

import asyncio
import hashlib
import statistics
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import httpx

from sandbox_service.models import BATCH_CALLS
from tests.chaos.rig import Rig

CALLS = 45_000
ASKED = 40
_BUSY = {"code": "import time; time.sleep(0.2)", "labels": {"run": "big"}, "timeout_s": 86_400}


@dataclass
class Report:
    queued: tuple[int, int]
    """Calls of the big tenant that waited when the small one began, and when it ended."""
    waits_s: list[float]
    answers_s: list[float]

    def lines(self) -> str:
        return (
            f"with {self.queued[0]} to {self.queued[1]} calls of another queued, {len(self.waits_s)} single calls "
            f"waited {statistics.median(self.waits_s):.3f} s, {max(self.waits_s):.3f} s at most; they were answered in "
            f"{statistics.median(self.answers_s):.3f} s, {max(self.answers_s):.3f} s at most"
        )


def keys(folder: Path) -> str:
    """A file with a key for each tenant, which is its name."""
    file = folder / "keys"
    file.write_text("".join(f"{name}:{hashlib.sha256(name.encode()).hexdigest()}\n" for name in ("big", "small")))
    return str(file)


async def measure(rig: Rig, calls: int) -> Report:
    async with _client(rig, 0, "big") as big, _client(rig, 1, "small") as small:
        for first in range(0, calls, BATCH_CALLS):
            batch = {"calls": [_BUSY] * min(BATCH_CALLS, calls - first)}
            (await big.post("/v1/batches?wait=0", json=batch)).raise_for_status()
        before = _queued(rig)
        waits, answers = [], []
        for _ in range(ASKED):
            begun = time.monotonic()
            answer = (await small.post("/v1/calls", json={"code": "print(1)"})).raise_for_status()
            answers.append(time.monotonic() - begun)
            timings = answer.json()["timings"]
            waits.append(timings["queued"] + timings["dispatched"])
        after = _queued(rig)
        await big.delete("/v1/calls", params={"label": "run:big"})
    return Report((before, after), waits, answers)


def _client(rig: Rig, gateway: int, tenant: str) -> httpx.AsyncClient:
    headers = {"Authorization": f"Bearer {tenant}"}
    return httpx.AsyncClient(base_url=rig.urls[gateway], headers=headers, timeout=120, trust_env=False)


def _queued(rig: Rig) -> int:
    with rig.redis() as client:
        return int(client.hget("sandbox:tenant:big", "interactive") or 0)


async def main(calls: int) -> int:
    with tempfile.TemporaryDirectory(prefix="chaos-") as folder:
        Path(folder).chmod(0o711)
        async with Rig(Path(folder), SANDBOX_API_KEYS_FILE=keys(Path(folder))) as rig:
            report = await measure(rig, calls)
    print(report.lines())
    return 0 if max(report.waits_s) < 1 else 1


if __name__ == "__main__":
    sys.exit(asyncio.run(main(int(sys.argv[1]) if len(sys.argv) > 1 else CALLS)))
