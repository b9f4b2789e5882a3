"""The bars that the service is measured by: what is wanted, what a report says, and what is in the way of the rest.

`page` is docs/performance.md. No figure stands here but the bars themselves.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from loadtest.load import profile
from loadtest.load.verdict import faults_of

Sections = Mapping[str, Any]


@dataclass(frozen=True)
class Bar:
    section: str
    what: str
    at_least: float | None
    at_most: float | None
    read: Callable[[Any], float]
    unit: str
    """Behind the figures."""
    way: str = ""
    """What would have to change where it is missed."""

    @property
    def wanted(self) -> str:
        sign, value = ("≥", self.at_least) if self.at_least is not None else ("≤", self.at_most)
        return f"{sign} {value:g}{self.unit}"

    def ratio(self, measured: float) -> float:
        """How far it is met; 1 and more is met."""
        if self.at_least is not None:
            return measured / self.at_least
        assert self.at_most is not None
        if not self.at_most:
            return 1.0 if not measured else 0.0
        return self.at_most / max(measured, 1e-9)


_CHEAPER = (
    "Page faults fall only with the pages that a child reads and writes; in an image from CPython 3.12 it writes no "
    "reference counts any more. What is left: code that sets a child up in C, or smaller images. What worker, gateway "
    "and Redis take is Python and round trips: fewer of them, or a worker that is not Python."
)
_QUEUED = (
    "The rest of the CPUs is free on average; whenever the machine is slower for some seconds, calls queue, and those "
    "are the slowest."
)
_SPREAD = "What the programs themselves take is in both rates; the rest is as above."


def _failed(found: Mapping[str, Any]) -> float:
    return float(found["lost"] + found["duplicated"] + found["wrong"])


def _at_once(section: str, what: str, gateways_mb: float) -> list[Bar]:
    return [
        Bar(section, f"{what}: lost, duplicated or wrong", None, 0, _failed, ""),
        Bar(section, f"{what}: throughput, of the steady one", 0.95, None, lambda found: found["to_steady"], " ×"),
        Bar(section, f"{what}: gateways", None, gateways_mb, lambda found: found["rss_peak_mb"]["gateway"], " MiB"),
        Bar(section, f"{what}: Redis", None, 300, lambda found: found["rss_peak_mb"]["redis"], " MiB"),
    ]


def _case(case: str, name: str) -> Callable[[Any], float]:
    return lambda found: float(found[case][name])


BARS = [
    Bar("throughput", "`print(1)` to cold interpreters", 4, None, _case("print", "to_cold"), " ×", _CHEAPER),
    Bar("throughput", "`print(1)` to a jail per call", 6, None, _case("print", "to_jailed"), " ×", _CHEAPER),
    Bar("throughput", "numpy to cold interpreters", 30, None, _case("numpy", "to_cold"), " ×", _CHEAPER),
    Bar("throughput", "sympy `solve` to cold interpreters", 25, None, _case("sympy", "to_cold"), " ×", _SPREAD),
    *(
        Bar(
            "throughput",
            f"CPU of `print(1)`, {image} image, {what}",
            None,
            most,
            _case(case, name),
            " × floor",
            _CHEAPER,
        )
        for case, image in (("print", "bare"), ("numpy", "numpy"), ("sympy", "sympy"))
        for name, what, most in (("empty_to_floor", "whole", 3.5), ("empty_core_to_floor", "core", 2.5))
    ),
    Bar("latency", "idle, p50", None, 8, lambda found: found["idle"]["latency_ms"]["p50"], " ms"),
    Bar("latency", "idle, p99", None, 25, lambda found: found["idle"]["latency_ms"]["p99"], " ms"),
    Bar("step", "RL step, mean", None, 300, lambda found: found["latency_ms"]["mean"], " ms", _QUEUED),
    Bar("step", "RL step, p99", None, 1000, lambda found: found["latency_ms"]["p99"], " ms", _QUEUED),
    Bar("step", "RL step: lost, duplicated or wrong", None, 0, _failed, ""),
    *_at_once("burst", "45,000 at once in batches", 400),
    *_at_once("connections", "45,000 connections at once", 1536),
    Bar("slots", "1 slot → 2, to two plain processes", 0.9, None, lambda found: found["ratio"], " ×"),
    Bar("workers", "two workers, to one like them", 0.95, None, lambda found: found["ratio"], " ×"),
    Bar("workers", "two workers: lost", None, 0, lambda found: found["lost"], ""),
]


def judge(sections: Sections) -> Iterator[tuple[Bar, float, float]]:
    """Yield each bar that the report has a figure for, the figure, and how far the bar is met."""
    for bar in BARS:
        if bar.section in sections:
            measured = bar.read(sections[bar.section]["found"])
            yield bar, measured, bar.ratio(measured)


def table(sections: Sections) -> list[str]:
    lines = ["| | wanted | measured | of the bar | |", "|---|---|---|---|---|"]
    lines += [
        f"| {bar.what} | {bar.wanted} | {measured:.4g}{bar.unit} | {ratio:.2f} | "
        f"{'' if ratio >= 1 else 'missed'}{'' if faults_of(sections[bar.section]['found'])[1] else ' (not valid)'} |"
        for bar, measured, ratio in judge(sections)
    ]
    return lines


def page(sections: Sections, machine: str) -> str:
    lines = [
        "# Performance",
        "",
        "Each bar, what was measured, and what the rest is made of. `python -m loadtest.load.report --readme` writes",
        "this page from a run of `make load`. README says how it is measured, DECISIONS.md what did not help.",
        "",
        machine,
        "",
        *table(sections),
        "",
        *_missed(sections),
    ]
    if "profile" in sections:
        found = sections["profile"]["found"]
        lines += ["## Where the time of a call goes", "", "![Profile](../loadtest/results/profile.png)", ""]
        lines += profile.markdown(found)
    return "\n".join(lines).rstrip() + "\n"


def _missed(sections: Sections) -> list[str]:
    missed = [(bar, measured) for bar, measured, ratio in judge(sections) if ratio < 1]
    if not missed:
        return []
    lines = ["## What is in the way of those that are missed", ""]
    for way in dict.fromkeys(bar.way for bar, _ in missed):
        names = "; ".join(f"{bar.what} ({measured:.4g}{bar.unit})" for bar, measured in missed if bar.way == way)
        lines += [f"{names}. {way}".strip(), ""]
    return [*lines, *_budget(sections)]


def _budget(sections: Sections) -> list[str]:
    """What a bar of throughput leaves for a call, and what a call takes: both in CPU time, on the same machine."""
    if "throughput" not in sections or "profile" not in sections:
        return []
    found, profiled = sections["throughput"]["found"], sections["profile"]["found"]["cases"]
    lines = [
        "| CPU ms | the bar leaves | a call takes, with the generator | floor | child and zygote above it "
        "| page faults of both | worker, Redis, gateway, init |",
        "|---|---|---|---|---|---|---|",
    ]
    for case, bar in (("print", 4), ("numpy", 30), ("sympy", 25)):
        counted = profiled[case]["counted"]["cpu_ms_per_call"]
        core = counted["child"] + counted["zygote"]
        floor = profiled[case]["floor"]["cpu_ms"]
        faults = _faults_ms(profiled[case])
        lines.append(
            f"| {case} | {found[case]['cold_cpu_ms'] / bar:.2f} | {sum(counted.values()):.2f} | {floor:.2f} | "
            f"{core - floor:.2f} | {'not sampled' if faults is None else f'{faults:.2f}'} | "
            f"{sum(counted[part] for part in ('worker', 'redis', 'gateway', 'init')):.2f} |"
        )
    return [*lines, ""]


def _faults_ms(case: Mapping[str, Any]) -> float | None:
    if "missing" in case["sampled"]:
        return None
    used, kinds = case["counted"]["cpu_ms_per_call"], case["sampled"]["kinds"]
    return float(sum(used[part] * kinds.get(part, {}).get("page faults", 0.0) for part in ("child", "zygote")))
