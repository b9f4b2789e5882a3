"""The table, the bars and the plot of `docs/scheduler.md`, from what `scheduler_grid.py --out FILE` wrote.

    python -m loadtest.scheduler_report FILE [--doc docs/scheduler.md] [--plot docs/scheduler.svg]

Times are divided by that of `expected` at the same point and seed, then averaged over the seeds. Whether a bar holds is
asked of each seed by itself, and of the cold start too.
"""

from __future__ import annotations

import argparse
import json
import statistics
from collections import defaultdict
from pathlib import Path
from typing import Any

import matplotlib as mpl
import matplotlib.pyplot as plt

Point = tuple[int, float, float]
"""Engines, spread, pressure."""
Rows = dict[str, dict[str, Any]]
"""Of one seed, by name."""

BASELINES = {
    "static_barrier": "the paper's baseline",
    "worst_case": "worst case, K = ⌊free / L⌋",
    "static": "static split, no barrier",
}
ASYNCHRONOUS = ("static", "round_robin", "least_in_flight")
HIGH = 4
"""From this pressure on the static split evicts at every spread."""
TABLES = "<!-- scheduler {} -->"


def read(path: Path) -> dict[Point, list[Rows]]:
    seeds: dict[Point, dict[int, Rows]] = defaultdict(lambda: defaultdict(dict))
    for line in path.read_text().splitlines():
        row = json.loads(line)
        seeds[row["engines"], row["spread"], row["pressure"]][row["seed"]][row["row"]] = row
    complete = {
        point: [rows for rows in of.values() if {"expected", "static"} <= set(rows)] for point, of in seeds.items()
    }
    return {point: of for point, of in sorted(complete.items()) if of}


def ratios(seeds: list[Rows], *names: str, to: str = "expected") -> list[float]:
    """Of each seed: the best of these rows' makespans, over that of `to`."""
    found = []
    for rows in seeds:
        times = [rows[name]["makespan_s"] for name in names if name in rows]
        if times and to in rows:
            found.append(min(times) / rows[to]["makespan_s"])
    return found


def again(seeds: list[Rows], name: str) -> list[float]:
    """Of each seed: its recomputed tokens over the static split's, where that computes any."""
    pairs = [(rows[name]["recomputed"], rows["static"]["recomputed"]) for rows in seeds if name in rows]
    return [ours / static for ours, static in pairs if static]


def shown(values: list[float]) -> str:
    return f"{statistics.mean(values):.2f}" if values else "–"


def table(points: dict[Point, list[Rows]]) -> str:
    lines = [
        "| engines | spread | pressure | seeds | paper's | worst case | best asynchronous | of cold start "
        "| longest first | bound | recomputed | recomputed, cold | time s | idle | tail s (static's) |",
        "|" + "---|" * 15,
    ]
    for (engines, spread, pressure), seeds in points.items():
        keys = ("makespan_s", "idle_share", "tail_s")
        makespan, idle, tail = (statistics.mean(rows["expected"][key] for rows in seeds) for key in keys)
        static_tail = statistics.mean(rows["static"]["tail_s"] for rows in seeds)
        high = pressure >= HIGH
        cells = [
            *(str(cell) for cell in (engines, spread, f"{pressure:g}", len(seeds))),
            shown(ratios(seeds, "static_barrier")),
            shown(ratios(seeds, "worst_case")),
            f"**{shown(ratios(seeds, *ASYNCHRONOUS))}**",
            shown(ratios(seeds, *ASYNCHRONOUS, to="expected_cold")),
            shown(ratios(seeds, "oracle_order")),
            shown(ratios(seeds, "bound")),
            shown(again(seeds, "expected")) if high else "",
            shown(again(seeds, "expected_cold")) if high else "",
            f"{makespan:.0f}",
            f"{idle:.2f}",
            f"{tail:.0f} ({static_tail:.0f})",
        ]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def bars(points: dict[Point, list[Rows]]) -> str:
    """For each bar: over how many points and seeds, its lowest (or highest) value, and where it is missed."""
    everywhere, high = list(points), [point for point in points if point[2] >= HIGH]
    lines = ["| bar | | points × seeds | worst seed | worst mean of a point | missed by |", "|" + "---|" * 6]
    for title, where, bar, names in (
        ("the paper's baseline takes at least", everywhere, 1.5, ("static_barrier",)),
        ("the best asynchronous takes at least", everywhere, 0.97, ASYNCHRONOUS),
        (f"the same at pressure {HIGH} and more", high, 1.1, ASYNCHRONOUS),
        ("of the static split's recomputation at most", high, 0.2, ()),
    ):
        for start, name in (("", "expected"), (", cold start", "expected_cold")):
            found = {p: ratios(points[p], *names, to=name) if names else again(points[p], name) for p in where}
            found = {point: values for point, values in found.items() if values}
            values = [value for of in found.values() for value in of]
            if not values:
                continue
            worst = min if names else max
            missed = sum(value < bar if names else value > bar for value in values)
            means = [statistics.mean(of) for of in found.values()]
            lines.append(
                f"| {title}{start} | {bar} | {len(values)} | {worst(values):.2f} | {worst(means):.2f} | {missed} |"
            )
    return "\n".join(lines)


def plot(points: dict[Point, list[Rows]], path: Path, engines: int, spread: float) -> None:
    """Makespan over pressure, in multiples of the bound."""
    mpl.rcParams["svg.hashsalt"] = "scheduler"
    chosen = {pressure: seeds for (e, s, pressure), seeds in points.items() if (e, s) == (engines, spread)}
    names = {"expected": "this scheduler", **BASELINES}
    colours = {"expected": "#0a7d4f", "static_barrier": "#b3261e", "worst_case": "#c77f00", "static": "#666666"}
    figure, axes = plt.subplots(figsize=(7, 3.6), layout="constrained")
    for place, (name, label) in enumerate(names.items()):
        over = [
            statistics.mean(rows[name]["makespan_s"] / rows["bound"]["makespan_s"] for rows in seeds)
            for seeds in chosen.values()
        ]
        at = [x + 0.2 * (place - 1.5) for x in range(len(chosen))]
        axes.bar_label(axes.bar(at, over, 0.19, label=label, color=colours[name]), fmt="%.2f", fontsize=7)
    axes.axhline(1, color="black", linewidth=1)
    axes.set_xticks(range(len(chosen)), [f"{pressure:g}" for pressure in chosen])
    axes.set_xlabel("KV pressure: what the rollouts hold at full length / cache of the engines")
    axes.set_ylabel("time of a step\n(1 = no schedule can be faster)")
    axes.set_title("One step of rollouts: shorter is better", loc="left", fontsize=10)
    axes.legend(frameon=False, fontsize=8, loc="upper left")
    axes.spines[["top", "right"]].set_visible(False)
    axes.set_ylim(0, 1.15 * axes.get_ylim()[1])
    figure.savefig(path, metadata={"Date": None})


def filled(doc: str, points: dict[Point, list[Rows]]) -> str:
    """The document with the tables between its markers renewed."""
    for name, made in (("bars", bars(points)), ("grid", table(points))):
        start, end = TABLES.format(name), TABLES.format(f"{name} end")
        before, rest = doc.split(start)
        doc = f"{before}{start}\n{made}\n{end}{rest.split(end)[1]}"
    return doc


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("results", type=Path)
    parser.add_argument("--doc", type=Path, help="renew the tables of this file")
    parser.add_argument("--plot", type=Path)
    parser.add_argument("--engines", type=int, default=64, help="of the plot")
    parser.add_argument("--spread", type=float, default=0.6, help="of the plot")
    options = parser.parse_args()
    points = read(options.results)
    print(bars(points), table(points), sep="\n\n")
    if options.doc:
        options.doc.write_text(filled(options.doc.read_text(), points))
    if options.plot:
        plot(points, options.plot, options.engines, options.spread)


if __name__ == "__main__":
    main()
