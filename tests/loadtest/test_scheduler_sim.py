"""The simulated engines of `loadtest/scheduler_engine.py`, and what the scheduler gains on them at one point."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

import pytest

from loadtest.scheduler_engine import Speed
from loadtest.scheduler_grid import main, simulate
from loadtest.scheduler_report import bars, filled, plot, read, table
from loadtest.scheduler_workload import LIMIT, MEAN_CALLS, MOST_TURNS, scripts
from sandbox_service.trainer.scheduler import Policy


def test_time_and_steps_are_inverse() -> None:
    speed = Speed()
    for steps in (1.0, 37.5, 4000.0):
        assert speed.steps(speed.duration(steps, 100, 3e5), 100, 3e5) == pytest.approx(steps)


def test_the_workload_has_the_paper_s_turns_and_lengths() -> None:
    workload = scripts(4000, 0.6, 0)
    calls = sum(len(script.turns) - 1 for script in workload) / len(workload)
    assert calls == pytest.approx(MEAN_CALLS, rel=0.05)
    assert max(len(script.turns) for script in workload) <= MOST_TURNS
    assert max(script.final - script.prompt for script in workload) == LIMIT
    assert workload == scripts(4000, 0.6, 0) != scripts(4000, 0.6, 1)


def test_with_room_for_all_nothing_is_computed_twice_by_whoever_keeps_rollouts_in_place() -> None:
    for policy in set(Policy) - {Policy.ROUND_ROBIN}:
        outcome = simulate(policy.value, engines=1, spread=0.6, pressure=0.5, seed=0)
        assert outcome.recomputed == outcome.preempted == 0, policy
    assert simulate(Policy.ROUND_ROBIN.value, engines=2, spread=0.6, pressure=0.5, seed=0).recomputed > 0


def test_the_same_seed_gives_the_same_step_to_the_last_figure() -> None:
    once, again = (simulate("expected", engines=2, spread=1.0, pressure=4, seed=3) for _ in range(2))
    assert once == again != simulate("expected", engines=2, spread=1.0, pressure=4, seed=4)


def test_a_cold_start_holds_the_bars_too() -> None:
    """Before hazards counted parts of buckets, it computed a quarter of the static split's tokens again."""
    cold, static = (simulate(name, engines=2, spread=0.6, pressure=4, seed=0) for name in ("expected_cold", "static"))
    assert static.makespan_s > 1.05 * cold.makespan_s
    assert cold.recomputed < static.recomputed / 5


def test_a_grid_goes_on_where_it_stopped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "grid.jsonl"
    arguments = ["scheduler_grid", "--engines", "1", "--pressure", "1", "--out", str(out), "--rows", "bound"]
    for rows in (["bound"], ["bound", "static"], ["bound", "static"]):
        monkeypatch.setattr("sys.argv", [*arguments[:-1], *rows])
        main()
    found = [json.loads(line)["row"] for line in out.read_text().splitlines()]
    assert found == ["bound", "static"]
    assert capsys.readouterr().out.count("bound") == 1


def test_the_document_shows_what_was_simulated() -> None:
    root = Path(__file__).parents[2]
    doc = (root / "docs" / "scheduler.md").read_text()
    assert filled(doc, read(root / "loadtest" / "scheduler_grid.jsonl")) == doc


def test_under_pressure_the_expectation_beats_the_baselines(tmp_path: Path) -> None:
    """At one point: the bars at high pressure, what no schedule stays below, and the report of it."""
    names = ["expected", "static_barrier", "worst_case", "static", "least_in_flight", "bound"]
    found = {name: simulate(name, engines=2, spread=0.6, pressure=4, seed=0) for name in names}
    ours, static = found["expected"], found["static"]
    assert found["static_barrier"].makespan_s > 1.5 * ours.makespan_s
    assert min(static.makespan_s, found["least_in_flight"].makespan_s) > 1.1 * ours.makespan_s
    assert ours.recomputed < static.recomputed / 5
    assert all(outcome.makespan_s >= found["bound"].makespan_s for outcome in found.values())

    out = tmp_path / "results.jsonl"
    at = {"engines": 2, "spread": 0.6, "pressure": 4.0, "seed": 0}
    out.write_text("\n".join(json.dumps({**at, "row": name, **asdict(outcome)}) for name, outcome in found.items()))
    points = read(out)
    assert table(points).count("\n") == 2
    assert bars(points).splitlines()[2].endswith("| 0 |")
    plot(points, tmp_path / "plot.svg", 2, 0.6)
    assert "<svg" in (tmp_path / "plot.svg").read_text()
