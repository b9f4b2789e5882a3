"""A learning curve that faults cannot bend: the same short training twice, once while workers are killed.

`python -m loadtest.train_faults runs/faults --base runs/demo/sft` trains 30 steps of RoC with two workers in peace,
then the same from the same policy on the same problems while every few seconds one of the two is killed (SIGKILL) and
replaced, and writes `faults.md` and `faults.svg`. It can be stopped and started again. Ends with 1 if accuracy differs
beyond noise, if a rollout was scored on an infra_error, or if no kill struck a call.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path

from loadtest.load.cluster import Cluster, cluster
from loadtest.train_compare import recipe, run
from loadtest.train_page import Run, read_runs, svg_of, table
from sandbox_service.models import Status
from sandbox_service.trainer.measure import interval
from sandbox_service.trainer.train import use_threads

LEASE_S = 2.0
EVERY_S = (3.0, 7.0)
KILLS = "kills.log"
CALM, FAULTY = "undisturbed-0", "killed-0"


class Killer:
    """Kills and replaces workers, in a thread of its own, which has to outlive those it starts: they die with it.

    Each kill is a line in `log`, which several starts of a run add to.
    """

    def __init__(self, service: Cluster, log: Path) -> None:
        self._service, self._log = service, log
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, name="killer")

    def _run(self) -> None:
        rng = random.Random("killer")  # noqa: S311  (spreads the kills)
        while not self._over.wait(rng.uniform(*EVERY_S)):
            victim = self._service.workers.pop(rng.randrange(len(self._service.workers)))
            victim.kill()
            victim.wait()
            self._service.add_worker()
            with self._log.open("a") as file:
                file.write(f"{victim.pid}\n")

    @contextmanager
    def at_work(self) -> Iterator[None]:
        self._thread.start()
        try:
            yield
        finally:
            self._over.set()
            self._thread.join()


def one(name: str, options: argparse.Namespace) -> None:
    """Train one of the two."""
    begun = time.monotonic()

    def say(line: str) -> None:
        print(f"{time.monotonic() - begun:7.1f} s  {name}: {line}", flush=True)

    wanted = recipe("roc", str(options.base), options.steps)
    with (
        cluster(workers=2, profiles="bare", slots=2, lease_s=LEASE_S) as service,
        Killer(service, options.out / KILLS).at_work() if name == FAULTY else nullcontext(),
    ):
        asyncio.run(run(wanted, options.seed, options.out / name, service.urls[0], say))


def facts(folder: Path) -> Counter[str]:
    """What the journals of a run tell: rollouts, lost ones, calls, those begun twice, those with a fault of ours."""
    found: Counter[str] = Counter()
    for path in (folder / "journal").glob("*.jsonl"):
        for line in map(json.loads, path.read_text().splitlines()):
            found["lost"] += "lost" in line
            found["rollouts"] += "rollout" in line
            for use in line.get("rollout", {}).get("tools", ()):
                found["calls"] += 1
                found["again"] += use["attempts"] > 1
                found["infra"] += use["outcome"] == Status.INFRA_ERROR.value
    return found


def judge(runs: dict[str, Run], told: Counter[str], kills: int) -> tuple[str, bool]:
    """A page, and whether the curve was not bent."""
    calm, faulty = (runs[name].after for name in (CALM, FAULTY))
    if calm is None or faulty is None:
        raise RuntimeError("a run has no evaluation at its end: start again, it goes on")
    differences = [ours - theirs for ours, theirs in zip(faulty["scores"], calm["scores"], strict=True)]
    low, high = interval(differences)
    fine = low <= 0.0 <= high and not told["infra"] and told["again"] > 0
    text = (
        f"{kills} workers were killed, one every {EVERY_S[0]:g} to {EVERY_S[1]:g} s; {told['again']} of "
        f"{told['calls']} tool calls were begun a second time. Of {told['rollouts']} rollouts {told['lost']} were "
        f"lost; {told['infra']} were scored on an infra_error. Accuracy after it on the same held-out problems: "
        f"{100 * (faulty['mean'] - calm['mean']):+.1f} points ({100 * low:+.1f} to {100 * high:+.1f}, paired)."
    )
    return f"# Training while workers die\n\n{text}\n\n{table(runs)}\n", fine


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("--base", type=Path, default=Path("runs/demo/sft"), help="the policy to start from")
    parser.add_argument("--steps", type=int, default=30)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    use_threads(1)
    one(CALM, options)
    one(FAULTY, options)
    runs = read_runs(options.out)
    text, fine = judge(runs, facts(options.out / FAULTY), len((options.out / KILLS).read_text().splitlines()))
    (options.out / "faults.md").write_text(text)
    (options.out / "faults.svg").write_text(svg_of(runs))
    print(text)
    return int(not fine)


if __name__ == "__main__":
    sys.exit(main())
