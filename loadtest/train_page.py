"""What several training runs show, side by side: the bars of the comparison, a table, curves. Pure but for `read_runs`.

A run is named ARM-SEED. Runs of one seed were trained on the same problems, step by step, from the same policy.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any

from sandbox_service.trainer.measure import interval
from sandbox_service.trainer.report import svg

ACCURACY, WINDOW = 0.8, 5
"""Accuracy is matched at the first step where the mean reward of the last five is at least 80 %."""
_COLOURS = {"roc": "#1b6ca8", "grpo": "#d1495b", "uniform": "#8a6d1b", "shuffled": "#888888"}


@dataclass(frozen=True)
class Run:
    steps: list[dict[str, Any]]
    evaluations: dict[str, dict[str, Any]]

    def matched(self) -> dict[str, Any] | None:
        """The first step at matched accuracy."""
        for index in range(WINDOW - 1, len(self.steps)):
            if _mean([step["reward"] for step in self.steps[index - WINDOW + 1 : index + 1]]) >= ACCURACY:
                return self.steps[index]
        return None

    @property
    def after(self) -> dict[str, Any] | None:
        """Its evaluation at the end."""
        return next((found for name, found in self.evaluations.items() if name != "sft"), None)


Runs = Mapping[str, Run]


def read_runs(folder: Path) -> dict[str, Run]:
    """Runs with at least one step, by name."""
    found = {}
    for each in sorted(folder.glob("*-*")):
        if steps := _lines(each / "metrics.jsonl"):
            evaluations = {line["name"]: line for line in _lines(each / "evaluations.jsonl")}
            found[each.name] = Run(steps, evaluations)
    return found


def page(runs: Runs) -> str:
    """Markdown: each bar with what was measured, then the runs."""
    head = "| bar | where | measured | holds |\n|---|---|---|---|"
    rows = [
        f"| {bar} | {where} | {measured} | {'yes' if holds else 'NO'} |" for bar, where, measured, holds in bars(runs)
    ]
    return "\n".join(["# RoC, GRPO and a uniform half", "", head, *rows, "", table(runs), ""])


def table(runs: Runs) -> str:
    rows = [
        "| run | steps | reward, last 5 | tool errors in correct rollouts at 80 % (step) | at the last step "
        "| mean@k after (95 %) |",
        "|---|---|---|---|---|---|",
    ]
    for name, run in runs.items():
        at, last, after = run.matched(), run.steps[-1], run.after
        when = f"{at['errors_in_right']:.3f} ({at['step']})" if at else "not reached"
        mean = f"{after['mean']:.1%} ({after['interval'][0]:.1%} to {after['interval'][1]:.1%})" if after else ""
        reward = _mean([step["reward"] for step in run.steps[-WINDOW:]])
        rows.append(f"| {name} | {len(run.steps)} | {reward:.3f} | {when} | {last['errors_in_right']:.3f} | {mean} |")
    return "\n".join(rows)


Bar = tuple[str, str, str, bool]
"""The bar, of which runs, what was measured, whether it holds."""


def bars(runs: Runs) -> Iterator[Bar]:
    """Each bar of the comparison for which the runs are there and whole."""
    seeds = sorted({name.rpartition("-")[2] for name in runs})
    for moment in ("at 80 %", "at the last step"):
        ours, theirs = 0.0, 0.0
        for seed in seeds:
            for other in ("grpo", "uniform"):
                pair = [_errors(runs.get(f"{arm}-{seed}"), moment) for arm in ("roc", other)]
                if pair[0] is None or pair[1] is None:
                    continue
                if other == "grpo":
                    ours, theirs = ours + pair[0], theirs + pair[1]
                yield (
                    f"tool errors {moment}: at most 1/2 of {other}'s",
                    f"seed {seed}",
                    f"{pair[0]:.3f} to {pair[1]:.3f}",
                    2 * pair[0] <= pair[1],
                )
        if theirs:
            measured = f"{ours / theirs:.2f}"
            yield f"tool errors {moment}: at most 1/3 of grpo's", "pooled", measured, 3 * ours <= theirs
    for seed in seeds:
        yield from _accuracy(runs, seed)
        yield from _control(runs, seed)


def _errors(run: Run | None, moment: str) -> float | None:
    if run is None or run.after is None:
        return None
    step = run.matched() if moment == "at 80 %" else run.steps[-1]
    return None if step is None else float(step["errors_in_right"])


def _accuracy(runs: Runs, seed: str) -> Iterator[Bar]:
    """Paired: problem by problem, on the same held-out ones."""
    for other in ("grpo", "uniform"):
        pair = [run.after for arm in ("roc", other) if (run := runs.get(f"{arm}-{seed}")) is not None]
        if len(pair) == 2 and pair[0] and pair[1]:
            differences = [ours - theirs for ours, theirs in zip(pair[0]["scores"], pair[1]["scores"], strict=True)]
            found, (low, high) = _mean(differences), interval(differences)
            yield (
                f"accuracy within 3 points of {other}'s",
                f"seed {seed}",
                f"{100 * found:+.1f} ({100 * low:+.1f} to {100 * high:+.1f})",
                abs(found) <= 0.03,
            )


def _control(runs: Runs, seed: str) -> Iterator[Bar]:
    run = runs.get(f"shuffled-{seed}")
    if run and run.after and "sft" in run.evaluations:
        before, after = run.evaluations["sft"]["mean"], run.after["mean"]
        yield (
            "shuffled rewards: not above SFT + 5 points",
            f"seed {seed}",
            f"{before:.1%} to {after:.1%}",
            after <= before + 0.05,
        )


def svg_of(runs: Runs) -> str:
    """Reward by step, tool errors by step, and tool errors by accuracy (mean of five steps): a line for each run."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(13, 4.2), layout="constrained")
    reward, errors, matched = figure.subplots(1, 3)
    for arm, names in groupby(runs, key=lambda name: name.rpartition("-")[0]):
        for number, name in enumerate(names):
            style: dict[str, Any] = {"color": _COLOURS.get(arm), "linewidth": 1.2, "alpha": 0.8}
            steps = runs[name].steps
            at = [step["step"] for step in steps]
            reward.plot(at, [step["reward"] for step in steps], label=None if number else arm, **style)
            errors.plot(at, [step["errors_in_right"] for step in steps], **style)
            smooth = [steps[index : index + WINDOW] for index in range(len(steps) - WINDOW + 1)]
            matched.plot(
                [_mean([step["reward"] for step in some]) for some in smooth],
                [_mean([step["errors_in_right"] for step in some]) for some in smooth],
                **style,
            )
    reward.set(title="mean reward of a step", xlabel="step", ylim=(0, 1))
    errors.set(title="tool-error ratio in correct rollouts", xlabel="step", ylim=(0, None))
    matched.set(title="tool-error ratio by accuracy (means of 5 steps)", xlabel="mean reward", ylim=(0, None))
    reward.legend(fontsize=8)
    return svg(figure)


def _mean(values: list[float]) -> float:
    return sum(values) / len(values)


def _lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []
