"""The capacity model and the command that uses it: limits that must hold whatever the costs are."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from loadtest.capacity import Parts, poisson, simulate
from sandbox_service.cli import main
from sandbox_service.commands.plan import Costs, Demand, plan, read_costs
from sandbox_service.errors import SetupError

PARTS = Parts(gateway=0.0005, redis=0.0003, worker=0.0010, zygote=0.0008, child=0.0018, init=0.0002, client=0.0002)
ROOT = Path(__file__).parents[2]
COSTS = Costs(gateway=0.5, redis=0.3, execution=4.0, idle_ms=6.0, redis_kb=2.0, source="a test")


@pytest.mark.parametrize(
    ("module", "told"),
    [
        ("loadtest.capacity --report", "there is no throughput, latency, burst, cores of this version in"),
        ("loadtest.load.report --out", "there is no report in"),
        ("loadtest.train_selection", "there is no"),
    ],
)
def test_what_has_to_be_made_first_is_told(module: str, told: str, tmp_path: Path) -> None:
    command = [sys.executable, "-m", *module.split(), str(tmp_path / "absent")]
    ran = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=50)
    assert ran.returncode == 2
    assert told in ran.stderr
    assert "Traceback" not in ran.stderr


def test_what_the_service_does_without_is_told_with_how_to_get_it() -> None:
    program = "import sys; sys.modules['simpy'] = None\nimport loadtest"
    ran = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, timeout=50)
    assert ran.returncode == 1
    assert "simpy is missing" in ran.stderr
    assert "`make dev`" in ran.stderr
    assert "Traceback" not in ran.stderr


def test_a_full_service_does_what_its_cpu_time_allows() -> None:
    """Closed loop with many in flight: cores / CPU time of a call, and never more."""
    for cores in (1, 2):
        found = simulate(PARTS, cores=cores, slots=2 * cores, in_flight=64, calls=1500)
        assert 0.85 * cores / PARTS.total <= found.per_s <= 1.02 * cores / PARTS.total


def test_one_thread_is_the_limit_when_there_are_cores_enough() -> None:
    """The worker's thread gives out at 1,000 calls/s, with any number of cores; a second worker doubles that."""
    one = simulate(PARTS, cores=64, slots=128, in_flight=400, calls=4000)
    two = simulate(PARTS, cores=64, slots=128, in_flight=400, calls=4000, workers=2)
    assert one.per_s == pytest.approx(1000, rel=0.05)
    assert two.per_s == pytest.approx(2000, rel=0.05)


def test_latency_grows_with_load_from_that_of_an_idle_service() -> None:
    idle, busy = (
        simulate(PARTS, cores=1, slots=2, arrivals=poisson(rate, 3000), pause_s=0.002) for rate in (1.0, 180.0)
    )
    assert idle.mean_s == pytest.approx(PARTS.total - PARTS.init + 0.002, rel=0.1)
    assert busy.mean_s > 2 * idle.mean_s
    assert busy.p99_s > busy.p50_s


def test_a_plan_has_room_for_what_it_promises() -> None:
    """More calls, or less time, never need less; no part is asked for more than its share."""
    earlier = None
    for rate in (10, 100, 1_000, 10_000):
        found = plan(Demand(rate * 100, 100, 0.3, 5), COSTS)
        assert found.worker_cores >= rate * 0.009 / 0.7
        assert found.gateways >= rate * 0.0005 / 0.7
        assert found.redis_servers >= rate * 0.0003 / 0.7
        assert found.mean_s <= 0.3
        if earlier is not None:
            assert found.worker_cores >= earlier.worker_cores
        earlier = found


def test_all_at_once_means_half_of_the_queue_on_average() -> None:
    """45,056 calls with a mean of 10.011 s: 2,253 a second; the simulation, with these cores, has the same mean."""
    found = plan(Demand(45_056, 0, 10.011, 5), COSTS)
    assert found.calls_per_s == pytest.approx(2253, rel=0.01)
    assert found.mean_s == pytest.approx(10, rel=0.05)
    parts = Parts(gateway=0, redis=0, worker=0, zygote=0, child=0.009, init=0, client=0)
    run = simulate(parts, cores=found.worker_cores, slots=found.worker_cores, arrivals=[0.0] * 20_000)
    assert run.mean_s == pytest.approx(20_000 / found.calls_per_s / 2, rel=0.05)


@pytest.mark.parametrize("over_s", [0, 60])
def test_what_no_number_of_cores_can_do_is_refused(over_s: float) -> None:
    """A mean below that of a single call on an idle service."""
    idle_s = (COSTS.idle_ms + 5) / 1000
    with pytest.raises(SetupError, match="no number of cores answers in"):
        plan(Demand(1000, over_s, idle_s, 5), COSTS)
    assert plan(Demand(1000, over_s, 2 * idle_s, 5), COSTS).worker_cores >= 1


@pytest.mark.parametrize("option", ["--mean-s", "--calls"])
def test_an_answer_in_no_time_cannot_be_asked_for(option: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["plan", "--rollouts", "100", option, "0"])
    assert f"{option}: must be more than 0" in capsys.readouterr().err


@pytest.mark.parametrize(("text", "complaint"), [("{}", "gateway: is required"), ("no", "the file: Invalid JSON")])
def test_a_file_that_holds_no_costs_is_refused(
    text: str, complaint: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "costs.json"
    path.write_text(text)
    assert main(["plan", "--rollouts", "10", "--costs", str(path)]) == 2
    assert f"{path} holds no costs: {complaint}" in capsys.readouterr().err


def test_the_command_prints_a_plan(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["plan", "--rollouts", "16384", "--calls", "2.75", "--json"]) == 0
    printed = json.loads(capsys.readouterr().out)
    assert printed["demand"]["calls"] == 45_056
    assert printed["plan"]["worker_cores"] > 1
    assert printed["costs"]["gateway"] == read_costs().gateway
    assert main(["plan", "--rollouts", "512", "--over-s", "60"]) == 0
    assert "cores for workers" in capsys.readouterr().out
