"""The table and the plot of `docs/scheduler.md`, from what `loadtest/scheduler_sim.py --out FILE` wrote.

    python -m loadtest.scheduler_report FILE [--plot docs/scheduler.svg]

Makespans are divided by that of `expected` at the same point and seed, then averaged over the seeds; with more than one
seed the lowest and the highest stand behind. `recomputed` is the share of the static split's.
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


def read(path: Path) -> dict[Point, list[Rows]]:
    seeds: dict[Point, dict[int, Rows]] = defaultdict(lambda: defaultdict(dict))
    for line in path.read_text().splitlines():
        row = json.loads(line)
        seeds[row["engines"], row["spread"], row["pressure"]][row["seed"]][row["row"]] = row
    return {point: list(of.values()) for point, of in sorted(seeds.items())}


def ratios(seeds: list[Rows], *names: str) -> list[float]:
    """Of each seed: the best of these rows' makespans, over `expected`'s."""
    found = []
    for rows in seeds:
        times = [rows[name]["makespan_s"] for name in names if name in rows]
        if times:
            found.append(min(times) / rows["expected"]["makespan_s"])
    return found


def shown(values: list[float]) -> str:
    if not values:
        return "–"
    mean = f"{statistics.mean(values):.2f}"
    return mean if len(values) == 1 else f"{mean} ({min(values):.2f}–{max(values):.2f})"


def recomputed(seeds: list[Rows], name: str) -> str:
    """Its recomputed tokens over the static split's."""
    pairs = [(rows[name]["recomputed"], rows["static"]["recomputed"]) for rows in seeds if name in rows]
    if not pairs or not all(static for _, static in pairs):
        return "0 of 0" if pairs and not any(ours for ours, _ in pairs) else "–"
    return shown([ours / static for ours, static in pairs])


def table(points: dict[Point, list[Rows]]) -> str:
    lines = [
        "| engines | spread | pressure | seeds | paper's | worst case | best asynchronous | cold start "
        "| longest first | bound | recomputed | recomputed, cold | idle | tail s (static's) |",
        "|" + "---|" * 14,
    ]
    for (engines, spread, pressure), seeds in points.items():
        mean = {key: statistics.mean(rows["expected"][key] for rows in seeds) for key in ("idle_share", "tail_s")}
        static_tail = statistics.mean(rows["static"]["tail_s"] for rows in seeds)
        cells = [
            *(str(cell) for cell in (engines, spread, f"{pressure:g}", len(seeds))),
            shown(ratios(seeds, "static_barrier")),
            shown(ratios(seeds, "worst_case")),
            f"**{shown(ratios(seeds, *ASYNCHRONOUS))}**",
            shown(ratios(seeds, "expected_cold")),
            shown(ratios(seeds, "oracle_order")),
            shown(ratios(seeds, "bound")),
            recomputed(seeds, "expected"),
            recomputed(seeds, "expected_cold"),
            f"{mean['idle_share']:.2f}",
            f"{mean['tail_s']:.0f} ({static_tail:.0f})",
        ]
        lines.append("| " + " | ".join(cells) + " |")
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
    axes.legend(frameon=False, fontsize=8, loc="upper left")
    axes.spines[["top", "right"]].set_visible(False)
    axes.set_ylim(0, 1.15 * axes.get_ylim()[1])
    figure.savefig(path, metadata={"Date": None})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("results", type=Path)
    parser.add_argument("--plot", type=Path)
    parser.add_argument("--engines", type=int, default=4, help="of the plot")
    parser.add_argument("--spread", type=float, default=0.6, help="of the plot")
    options = parser.parse_args()
    points = read(options.results)
    print(table(points))
    if options.plot:
        plot(points, options.plot, options.engines, options.spread)


if __name__ == "__main__":
    main()
