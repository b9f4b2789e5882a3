"""The report of a load test: Markdown and plots from the sections' JSON, and the part of it that README shows.

    python -m loadtest.load.report [--out loadtest/reports/load] [--readme]

`--readme` writes the tables of the last run between the two marks in README.md, the bars and the profile to
docs/performance.md, and keeps the report in loadtest/results. Nothing is computed here that the JSON does not say.
"""

from __future__ import annotations

import argparse
import json
import math
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from loadtest.load import bars, profile
from loadtest.load.verdict import FORMAT

ROOT = Path(__file__).resolve().parent.parent.parent
RESULTS = ROOT / "loadtest" / "results"
BEGIN, END = "<!-- load report -->", "<!-- end of load report -->"
PARTS = ("gateway", "redis", "worker", "zygote", "child", "init", "generator")
SMALL = {"print": "`print(1)`", "numpy": "numpy", "sympy": "sympy `solve`"}

Sections = Mapping[str, Any]


def load(folder: Path) -> dict[str, Any]:
    """Read what was measured so far: a section's name to its JSON. What an older load test wrote is left out."""
    sections = {path.stem: json.loads(path.read_text()) for path in sorted(folder.glob("*.json"))}
    return {name: section for name, section in sections.items() if section.get("format") == FORMAT}


def _machine(sections: Sections) -> str:
    one = next(iter(sections.values()))
    facts = ", ".join(f"{name} {value}" for name, value in one["machine"].items())
    commits = ", ".join(sorted({section["commit"] for section in sections.values()}))
    quick = " Short run: its figures mean little." if one["quick"] else ""
    return f"{facts}; commit {commits}, {one['when']} UTC.{quick}"


def _valid(found: Mapping[str, Any]) -> str:
    return "" if found.get("valid", True) else " (not valid: the machine was busy, or changed its speed)"


def _throughput(found: Mapping[str, Any]) -> list[str]:
    lines = [
        "| call, in batches of 64 | service | cold `python -I` | ratio | jail + cold | ratio | CPU a call "
        "| of the floor | its core | `print(1)` in its image, its core |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    for case, figures in found.items():
        cpu_ms = sum(used for part, used in figures["cpu_ms_per_call"].items() if part != "generator")
        jailed = (
            f"{figures['jailed_per_s']:.0f}/s | {figures['to_jailed']:.1f}"
            if figures["to_jailed"] is not None
            else " | "
        )
        lines.append(
            f"| {SMALL[case]}{_valid(figures)} | {figures['per_s']:.0f}/s | {figures['cold_per_s']:.1f}/s | "
            f"{figures['to_cold']:.1f} | {jailed} | {cpu_ms:.2f} ms | {figures['cpu_to_floor']:.1f} × "
            f"{figures['floor_ms']:.2f} ms | {figures['core_to_floor']:.1f} × | "
            f"{figures['empty_to_floor']:.1f} ×, {figures['empty_core_to_floor']:.1f} × |"
        )
    return lines


def _components(found: Mapping[str, Any]) -> list[str]:
    lines = ["| CPU ms a call | " + " | ".join(PARTS) + " | page faults: child, zygote |", "|---" * 9 + "|"]
    for case, figures in found.items():
        cells = " | ".join(f"{figures['cpu_ms_per_call'].get(part, 0):.2f}" for part in PARTS)
        faults = figures["faults_per_call"]
        lines.append(f"| {SMALL[case]} | {cells} | {faults.get('child', 0):.0f}, {faults.get('zygote', 0):.0f} |")
    return lines


def _phases(found: Mapping[str, Any]) -> list[str]:
    names = list(found["idle"]["phases_ms"])
    lines = ["| phase, ms | " + " | ".join(names) + " |", "|---" * (len(names) + 1) + "|"]
    for kind, title in (("idle", "one at a time, p50"), ("single", "64 at once, p50")):
        cells = " | ".join(f"{found[kind]['phases_ms'][name]['p50']:.2f}" for name in names)
        lines.append(f"| {title} | {cells} |")
    return lines


def _latency(found: Mapping[str, Any]) -> list[str]:
    idle, single = found["idle"], found["single"]
    return [
        f"One `print(1)` at a time over HTTP: p50 {idle['latency_ms']['p50']:.1f} ms, p99 "
        f"{idle['latency_ms']['p99']:.1f} ms{_valid(idle)}. 64 single requests at once: {single['per_s']:.0f}/s, "
        f"{single['service_cpu_ms_per_call']:.2f} ms of CPU each."
    ]


_WAYS = {
    "single": "HTTP, a connection for each call in flight",
    "batch": "HTTP, batches of 64",
    "stream": "HTTP, streamed batches of 64",
    "gRPC": "gRPC `Run`, one connection",
    "gRPC batch": "gRPC `RunBatch`, batches of 64, one connection",
}


def _fronts(found: Mapping[str, Any]) -> list[str]:
    lines = [
        "| `print(1)`, 256 in flight | calls/s | p50, p99 ms | CPU ms a call: service | of it gateway | generator |",
        "|---|---|---|---|---|---|",
    ]
    for way, each in found.items():
        used = each["cpu_ms_per_call"]
        lines.append(
            f"| {_WAYS[way]}{_valid(each)} | {each['per_s']:.0f} | {each['latency_ms']['p50']:.0f}, "
            f"{each['latency_ms']['p99']:.0f} | {each['service_cpu_ms_per_call']:.2f} | {used['gateway']:.2f} | "
            f"{used['generator']:.2f} |"
        )
    return lines


def _step(found: Mapping[str, Any]) -> list[str]:
    cuts, share = found["latency_ms"], found["rate_per_s"] / found["before"]["per_s"]
    busy = sum(found["cpu_ms_per_call"].values()) * found["per_s"] / 1000
    return [
        f"One RL step: {found['rollouts']} rollouts that think for {found['think_s']:.0f} s (mean) before each of "
        f"their {found['calls']} calls (`{found['workload']}`), from {found['processes']} processes, open loop "
        f"at {found['rate_per_s']:.0f}/s, {share:.0%} of the most that these clients reach ("
        f"{found['before']['per_s']:.0f}/s before it, {found['behind']['per_s']:.0f}/s behind it; streamed batches: "
        f"{found['streamed']['per_s']:.0f}/s), {busy:.2f} CPUs busy with it: "
        f"mean {cuts['mean']:.0f} ms, p50 {cuts['p50']:.0f}, p99 {cuts['p99']:.0f}, max {cuts['max']:.0f}; "
        f"{found['lost']} lost, {found['duplicated']} duplicated, {found['wrong']} wrong, "
        f"{found['early']} due before their rollout had its last answer{_valid(found)}."
    ]


def _at_once(title: str) -> Callable[[Mapping[str, Any]], list[str]]:
    def lines(found: Mapping[str, Any]) -> list[str]:
        rss, moved = found["rss_peak_mb"], found["order"]["p99"]
        return [
            f"{found['calls']} calls (`{found['workload']}`) in flight at once as {title}: {found['lost']} lost, "
            f"{found['duplicated']} duplicated, {found['wrong']} wrong; all accepted after "
            f"{found['filled_after_s']:.1f} s, then {found['per_s_while_draining']:.0f}/s "
            f"({found['to_steady']:.2f} of the steady {found['steady']['per_s']:.0f}/s); gateways "
            f"{rss.get('gateway', 0):.0f} MiB, Redis {rss.get('redis', 0):.0f} MiB; a call ended at most "
            f"{moved:.1%} (p99) of all calls from its place in line{_valid(found)}."
        ]

    return lines


def _mixes(found: Mapping[str, Any]) -> list[str]:
    lines = ["| mix | calls/s | p50, p99 ms | CPU ms a call | statuses | wrong or lost |", "|---|---|---|---|---|---|"]
    for name, each in found.items():
        statuses = ", ".join(f"{count} {status}" for status, count in sorted(each["statuses"].items()))
        lines.append(
            f"| {Path(name).name}{_valid(each)} | {each['per_s']:.0f} | {each['latency_ms']['p50']:.0f}, "
            f"{each['latency_ms']['p99']:.0f} | {each['service_cpu_ms_per_call']:.1f} | {statuses} | "
            f"{each['wrong'] + each['lost']} |"
        )
    return lines


def _replay(found: Mapping[str, Any]) -> list[str]:
    how = "at the times recorded" if found["open_loop"] else "as fast as it went"
    cuts = found["latency_ms"]
    return [
        f"{found['log']}, {how}: {found['calls']} calls, {found['per_s']:.0f}/s, p50 {cuts['p50']:.0f} ms, p99 "
        f"{cuts['p99']:.0f} ms; {found['lost']} lost, {found['wrong']} not as recorded{_valid(found)}."
    ]


def _slots(found: Mapping[str, Any]) -> list[str]:
    last = found["turns"][-1]
    return [
        f"A program that only computes, 1 → 2 slots: × {last['service']:.2f}, where two plain processes reach "
        f"× {last['plain']:.2f}: {found['ratio']:.2f} of it{_valid(found)}."
    ]


def _cores(found: Mapping[str, Any]) -> list[str]:
    lines = ["| CPUs | capacity | open loop at | mean, p50, p99 ms |", "|---|---|---|---|"]
    for count, each in found["cpus"].items():
        cuts = each["part"]["latency_ms"]
        lines.append(
            f"| {count}{_valid(each)} | {each['full']['per_s']:.0f}/s | {each['rate_per_s']:.0f}/s | "
            f"{cuts['mean']:.1f}, {cuts['p50']:.1f}, {cuts['p99']:.1f} |"
        )
    return lines


def _workers(found: Mapping[str, Any]) -> list[str]:
    return [
        f"Two workers in network namespaces of their own on one Redis: {found['ratio']:.2f} of one like them; with "
        f"half of its slots each {found['of_halves']:.2f}. {found['lost']} lost{_valid(found)}."
    ]


_PARTS: tuple[tuple[str, str, Callable[[Mapping[str, Any]], list[str]]], ...] = (
    ("throughput", "Throughput", _throughput),
    ("throughput", "Where the CPU time goes", _components),
    ("latency", "Latency", _latency),
    ("latency", "Phases of a call", _phases),
    ("fronts", "HTTP and gRPC", _fronts),
    ("cores", "One CPU and all", _cores),
    ("step", "An RL step", _step),
    ("burst", "All at once, batches", _at_once("streamed batches of 64")),
    ("connections", "All at once, connections", _at_once("one connection each, three gateways")),
    ("mixes", "Mixes", _mixes),
    ("replay", "A recorded log", _replay),
    ("slots", "Slots", _slots),
    ("workers", "Workers", _workers),
    ("profile", "Profile", profile.markdown),
)


def markdown(sections: Sections) -> str:
    lines = ["# Load report", "", _machine(sections), ""]
    if any(bars.judge(sections)):
        lines += ["## Bars", "", *bars.table(sections), ""]
    for name, title, render in _PARTS:
        if name in sections:
            again = f" (try {tries})" if (tries := sections[name]["tries"]) > 1 else ""
            lines += [f"## {title}{again}", "", *render(sections[name]["found"]), ""]
    return "\n".join(lines)


def readme(sections: Sections) -> str:
    """The part of the report that README shows."""
    lines = [BEGIN, "", _machine(sections), "", "![Throughput and CPU time](loadtest/results/throughput.png)", ""]
    lines += [
        "Each bar beside what was measured, and why some are missed: [docs/performance.md](docs/performance.md).",
        "",
    ]
    for name in ("throughput", "latency", "fronts", "step", "burst", "connections", "slots", "workers"):
        if name in sections:
            render = next(each for section, _, each in _PARTS if section == name)
            lines += [*render(sections[name]["found"]), ""]
    if (ROOT / "CAPACITY.md").exists():
        lines += ["What a cluster needs, predicted from these figures: [CAPACITY.md](CAPACITY.md).", ""]
    return "\n".join([*lines, END])


def write(sections: Sections, folder: Path) -> None:
    """Write report.md and the plots."""
    (folder / "report.md").write_text(markdown(sections))
    _plot_ratios(sections, folder / "throughput.png")
    if "profile" in sections:
        profile.plot(sections["profile"]["found"], folder / "profile.png")
    for name in ("step", "burst", "connections", "replay"):
        if name in sections:
            _plot_series(sections[name]["found"], name, folder / f"{name}.png")


def _plot_ratios(sections: Sections, path: Path) -> None:
    if "throughput" not in sections:
        return
    from matplotlib.figure import Figure

    found = sections["throughput"]["found"]
    figure = Figure(figsize=(9, 3.2), layout="constrained")
    rates, costs = figure.subplots(1, 2)
    for offset, (name, colour) in enumerate((("per_s", "#1b6ca8"), ("cold_per_s", "#b0b7bf"))):
        places = [index + 0.38 * offset for index in range(len(found))]
        bars = rates.bar(places, [each[name] for each in found.values()], 0.36, color=colour)
        rates.bar_label(bars, fmt="%.0f", fontsize=8)
    rates.set_xticks([index + 0.19 for index in range(len(found))], list(found))
    rates.set_yscale("log")
    rates.set_ylabel("calls/s")
    rates.legend(["service", "cold python -I, no isolation"], fontsize=8)
    bottom = [0.0] * len(found)
    for part in PARTS:
        sizes = [each["cpu_ms_per_call"].get(part, 0.0) for each in found.values()]
        costs.bar(list(found), sizes, 0.5, bottom=bottom, label=part)
        bottom = [low + size for low, size in zip(bottom, sizes, strict=True)]
    costs.scatter(list(found), [each["floor_ms"] for each in found.values()], color="black", zorder=3, label="floor")
    costs.set_ylabel("CPU ms a call")
    costs.legend(fontsize=7)
    figure.savefig(path, dpi=110)


def _plot_series(found: Mapping[str, Any], name: str, path: Path) -> None:
    from matplotlib.figure import Figure

    series = found["series"]
    figure = Figure(figsize=(9, 4.5), layout="constrained")
    above, below = figure.subplots(2, 1, sharex=True)
    for cut in ("p50_ms", "p99_ms"):
        above.plot(series["at_s"], [value if math.isfinite(value) else None for value in series[cut]], label=cut[:3])
    above.set_ylabel("latency, ms")
    above.legend(fontsize=8)
    above.set_title(f"{name}: {found['calls']} calls")
    below.plot(series["at_s"], series["per_s"], label="answers/s")
    below.plot(series["at_s"], series["in_flight"], label="in flight")
    below.set_xlabel("s")
    below.legend(fontsize=8)
    figure.savefig(path, dpi=110)


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m loadtest.load.report", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, default=ROOT / "loadtest" / "reports" / "load")
    parser.add_argument("--readme", action="store_true")
    options = parser.parse_args()
    sections = load(options.out)
    if not sections:
        parser.error(f"there is no report in {options.out}: run `make load` first, or name the folder with --out")
    write(sections, options.out)
    if not options.readme:
        print(markdown(sections))
        return
    if short := [name for name, section in sections.items() if section["quick"]]:
        parser.error(f"{options.out} has short runs ({', '.join(short)}), which are nothing to publish")
    path = ROOT / "README.md"
    RESULTS.mkdir(exist_ok=True)
    for file in (*options.out.glob("*.png"), options.out / "report.md"):
        shutil.copy(file, RESULTS)
    before, _, rest = path.read_text().partition(BEGIN)
    _, _, after = rest.partition(END)
    path.write_text(before + readme(sections) + after)
    (ROOT / "docs" / "performance.md").write_text(bars.page(sections, _machine(sections)))


if __name__ == "__main__":
    main()
