"""A run's folder as one HTML page: curves, evaluations, and rollouts to be read turn by turn. Needs matplotlib.

What a model or a program wrote is text in it, never markup.
"""

from __future__ import annotations

import io
import json
from collections.abc import Sequence
from html import escape
from itertools import groupby, pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sandbox_service.trainer.journal import read_rollouts
from sandbox_service.trainer.records import Rollout
from sandbox_service.trainer.rewards import p_total
from sandbox_service.trainer.tokens import Tokens

if TYPE_CHECKING:
    from matplotlib.figure import Figure

CURVES = (
    ("reward", "mean reward"),
    ("errors_in_right", "tool-error ratio in correct rollouts"),
    ("tokens", "sampled tokens per rollout"),
    ("calls", "tool calls per rollout"),
    ("waited_s", "seconds a rollout waited for tools"),
    ("service_mean_s", "service latency per call, mean, s"),
)
_SHOWN = 4
"""Rollouts of each step that is shown."""
_STYLE = """body{font:15px/1.5 sans-serif;max-width:70em;margin:2em auto;padding:0 1em}table{border-collapse:collapse}
td,th{border:1px solid #ccc;padding:.2em .6em;text-align:right}pre{white-space:pre-wrap;margin:.3em 0;padding:.5em}
.ours{background:#e8f1ff}.given{background:#f3f3f3}svg{max-width:100%;height:auto}"""


def write_report(folder: Path) -> Path:
    """Write `report.html` into the folder, from what is there so far, and return its path."""
    steps, evaluations = _lines(folder / "metrics.jsonl"), _lines(folder / "evaluations.jsonl")
    run = json.loads((folder / "run.json").read_text())
    parts = [
        f"<!doctype html><meta charset=utf-8><title>{escape(run['run'])}</title><style>{_STYLE}</style>",
        f"<h1>{escape(run['run'])}</h1><p>Recipe {escape(run['recipe']['name'])}, seed {run['seed']}, "
        f"{len(steps)} steps.</p><h2>On held-out problems</h2>{_evaluations(evaluations)}",
        f"<h2>By step</h2>{curves(steps, evaluations) if steps else ''}<h2>Rollouts</h2>",
        *_rollouts(folder, steps),
    ]
    path = folder / "report.html"
    path.write_text("\n".join(parts))
    return path


def curves(steps: Sequence[dict[str, Any]], evaluations: Sequence[dict[str, Any]]) -> str:
    """The curves of a run, as SVG; a line where a stage begins, and what was right on held-out problems after each."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(12, 9), layout="constrained")
    panels = list(figure.subplots(3, 2).flat)
    for axes, (field, title) in zip(panels, CURVES, strict=True):
        axes.plot([line["step"] for line in steps], [line[field] for line in steps], linewidth=1.2)
        for before, line in pairwise(steps):
            if before["stage"] != line["stage"]:
                axes.axvline(line["step"] - 0.5, color="#bbb", linewidth=0.8)
        axes.set_title(title, fontsize=10)
        axes.set_ylim(bottom=0)
    last = {"sft": 0, **{line["stage"]: line["step"] for line in steps}}
    for field, style in (("mean", "o"), ("greedy", "x")):
        points = [(last[line["name"]], line[field]) for line in evaluations]
        if points:
            panels[0].plot(*zip(*points, strict=True), style, label=f"held-out, {field}")
            panels[0].legend(fontsize=8)
    return svg(figure)


def svg(figure: Figure) -> str:
    """A figure as an SVG element, to be put into a page."""
    from matplotlib.backends.backend_svg import FigureCanvasSVG

    written = io.BytesIO()
    FigureCanvasSVG(figure).print_svg(written)  # type: ignore[no-untyped-call]
    text = written.getvalue().decode()
    return text[text.index("<svg") :]


def _evaluations(lines: Sequence[dict[str, Any]]) -> str:
    rows = "".join(
        f"<tr><td>{escape(line['name'])}<td>{line['mean']:.1%}"
        f"<td>{line['interval'][0]:.1%} to {line['interval'][1]:.1%}"
        f"<td>{line['any']:.1%}<td>{line['greedy']:.1%}<td>{line['errors_in_right']:.3f}"
        f"<td>{line['calls']:.2f}<td>{line['tokens']:.0f}<td>{line['lost']}"
        for line in lines
    )
    head = "after|mean|95 % interval|any right|greedy|tool errors in correct|calls|tokens|lost".replace("|", "<th>")
    families = sorted({family for line in lines for family in line["by_family"]})
    by_family = "".join(
        f"<tr><td>{escape(family)}" + "".join(f"<td>{line['by_family'].get(family, 0):.0%}" for line in lines)
        for family in families
    )
    names = "".join(f"<th>{escape(line['name'])}" for line in lines)
    return f"<table><tr><th>{head}{rows}</table><p><table><tr><th>family{names}{by_family}</table>"


def _rollouts(folder: Path, steps: Sequence[dict[str, Any]]) -> list[str]:
    """Of the first, the middle and the last step: the first rollouts of different problems."""
    if not steps:
        return []
    tokens, found = Tokens.load(folder / "sft"), []
    for step in sorted({1, (len(steps) + 1) // 2, len(steps)}):
        played = read_rollouts(folder / "journal" / f"{step}.jsonl")
        firsts = [rollout for key, rollout in sorted(played.items()) if key[2] == 0]
        found.append(f"<h3>Step {step}</h3>" + "".join(_rollout(rollout, tokens) for rollout in firsts[:_SHOWN]))
    return found


def _rollout(rollout: Rollout, tokens: Tokens) -> str:
    turns = []
    for ours, pairs in groupby(zip(rollout.mask, rollout.tokens, strict=True), key=lambda pair: pair[0]):
        text = tokens.decode([token for _, token in pairs])
        turns.append(f"<pre class={'ours' if ours else 'given'}>{escape(text)}</pre>")
    outcomes = ", ".join(use.outcome for use in rollout.tools) or "none"
    return (
        f"<details><summary>{escape(rollout.problem.question)} (reward {rollout.reward:g}, {rollout.stop.value}, "
        f"tool calls: {escape(outcomes)}, p_total {p_total(rollout):.2f}, truth "
        f"{escape(rollout.problem.answer)})</summary>{''.join(turns)}</details>"
    )


def _lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []
