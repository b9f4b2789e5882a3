"""Where the CPU time of a call goes: by part and kind of work, page faults by fork, and the functions on top.

    python -m loadtest.load --only profile [--quick]

A run is counted first, without any tool, then sampled: figures of CPU time are from the first, shares from the second.
"""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from collections import Counter
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path
from typing import Any

from loadtest.load import baselines, cost, traffic
from loadtest.load.bench import BATCH, Bench
from loadtest.load.cluster import Cluster, cluster
from loadtest.load.drive import Transport
from loadtest.load.samples import KINDS, NoPerf, Samples, sampling

PARTS = ("gateway", "redis", "worker", "zygote", "child", "init")
_TOP = 8
_PYTHON_S = 6


def profile(bench: Bench) -> dict[str, Any]:
    """Where the CPU time of a call goes: parts, page faults, kinds of work, functions (with `perf` and `py-spy`)."""
    cases: dict[str, Any] = {}
    with cluster() as service, ExitStack() as stack:
        floors = {case: stack.enter_context(baselines.warm_floor(case)) for case in traffic.SMALL}
        for case in traffic.SMALL:
            calls = bench.scale.small // {"print": 1, "numpy": 2, "sympy": 4}[case]
            bench.closed(service, case, BATCH * 4, Transport.BATCH, 4)  # warm
            counted = bench.closed(service, case, calls, Transport.BATCH, 4).summary()
            cases[case] = {"counted": counted, "floor": asdict(floors[case].measure(max(50, calls // 8)))}
            try:
                with sampling(cost.parts(service)) as samples:
                    bench.closed(service, case, calls, Transport.BATCH, 4)
                cases[case]["sampled"] = _sampled(samples, calls)
            except NoPerf as error:
                cases[case]["sampled"] = {"missing": str(error)}
        python = _python(bench, service)
    return {"cases": cases, "python": python}


def _sampled(samples: Samples, calls: int) -> dict[str, Any]:
    total = sum(sum(kinds.values()) for kinds in samples.kinds.values()) + samples.idle + samples.others
    if total == 0:
        raise NoPerf("`perf` took no sample: the machine had no time for it")
    return {
        "samples": total,
        "idle": samples.idle / total,
        "instructions_per_call": samples.instructions / calls if samples.instructions is not None else None,
        "kinds": {part: _shares(kinds) for part, kinds in samples.kinds.items()},
        "functions": {part: _top(functions) for part, functions in samples.functions.items()},
    }


def _top(functions: Counter[str]) -> dict[str, float]:
    return dict(list(_shares(functions).items())[:_TOP])


def _shares(counts: Counter[str]) -> dict[str, float]:
    total = sum(counts.values())
    return {name: count / total for name, count in counts.most_common()}


def _python(bench: Bench, service: Cluster) -> dict[str, Any]:
    """The Python functions of gateway and worker that `py-spy` finds on top, if it is installed."""
    if shutil.which("py-spy") is None:
        return {"missing": "`py-spy` is not installed (pip install py-spy)"}
    watched = {"gateway": service.gateways[0].pid, "worker": service.workers[0].pid}
    with tempfile.TemporaryDirectory(prefix="py-spy-") as folder:
        running = []
        for part, pid in watched.items():
            command = ["py-spy", "record", "--pid", str(pid), "--duration", str(_PYTHON_S), "--rate", "200"]
            command += ["--nonblocking", "--format", "raw", "--output", str(Path(folder, part))]
            running.append(subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True))
        while any(process.poll() is None for process in running):
            bench.closed(service, "print", bench.scale.small // 4, Transport.BATCH, 4)
        said = [process.communicate()[1] for process in running]
        found = {part: Path(folder, part) for part in watched if Path(folder, part).exists()}
        if not found:
            return {"missing": f"`py-spy` cannot: {said[0].strip()[-300:]}"}
        return {part: _top(_innermost(path.read_text())) for part, path in found.items()}


def _innermost(raw: str) -> Counter[str]:
    """Count the innermost functions of lines like `outer (file:1);inner (file:2) 17`."""
    counts: Counter[str] = Counter()
    for line in raw.splitlines():
        stack, _, count = line.rpartition(" ")
        counts[stack.rpartition(";")[2].rpartition(":")[0] + ")"] += int(count)
    return counts


def markdown(found: Mapping[str, Any]) -> list[str]:
    lines = []
    for case, each in found["cases"].items():
        counted, sampled = each["counted"], each["sampled"]
        used, faults, floor = counted["cpu_ms_per_call"], counted["faults_per_call"], each["floor"]
        lines += [
            f"**{case}**: {counted['service_cpu_ms_per_call']:.2f} ms of CPU a call, "
            f"{counted['service_cpu_ms_per_call'] / floor['cpu_ms']:.1f} times the floor of {floor['cpu_ms']:.2f} ms. "
            f"Page faults: {faults.get('child', 0):.0f} in a child, {faults.get('zygote', 0):.0f} in its zygote; "
            f"{floor['faults']:.0f} in a child that ends at once. {_instructions(sampled)}",
            "",
        ]
        if "missing" in sampled:
            lines += [f"No samples: {sampled['missing']}.", ""]
            continue
        lines += ["| CPU ms a call | all | " + " | ".join(KINDS) + " |", "|---" * (len(KINDS) + 2) + "|"]
        for part in PARTS:
            shares = sampled["kinds"].get(part, {})
            cells = " | ".join(f"{used[part] * shares.get(kind, 0):.2f}" for kind in KINDS)
            lines.append(f"| {part} | {used[part]:.2f} | {cells} |")
        lines += ["", f"{sampled['samples']} samples; the CPUs were idle in {sampled['idle']:.0%} of them.", ""]
        lines += [
            f"- {part}: " + ", ".join(f"`{name}` {share:.0%}" for name, share in functions.items())
            for part, functions in sorted(sampled["functions"].items(), key=lambda item: _place(item[0]))
            if part in PARTS
        ]
        lines.append("")
    python = found["python"]
    if "missing" in python:
        return [*lines, f"Python functions are not told: {python['missing']}."]
    lines += ["Python functions, by the time in themselves (`print`):", ""]
    return lines + [
        f"- {part}: " + ", ".join(f"`{name}` {share:.0%}" for name, share in functions.items())
        for part, functions in python.items()
    ]


def _place(part: str) -> int:
    return PARTS.index(part) if part in PARTS else len(PARTS)


def _instructions(sampled: Mapping[str, Any]) -> str:
    if "missing" in sampled:
        return ""
    if sampled["instructions_per_call"] is None:
        return "This machine counts no instructions."
    return f"{sampled['instructions_per_call'] / 1e6:.2f} million instructions on all CPUs."


def plot(found: Mapping[str, Any], path: Path) -> None:
    """For each program the CPU time of each part, by kind of work."""
    from matplotlib.figure import Figure

    cases = {case: each for case, each in found["cases"].items() if "missing" not in each["sampled"]}
    if not cases:
        return
    figure = Figure(figsize=(9, 3.4), layout="constrained")
    plots = figure.subplots(1, len(cases), squeeze=False)[0]
    for axes, (case, each) in zip(plots, cases.items(), strict=True):
        used, left = each["counted"]["cpu_ms_per_call"], [0.0] * len(PARTS)
        for number, kind in enumerate(KINDS):
            sizes = [used[part] * each["sampled"]["kinds"].get(part, {}).get(kind, 0.0) for part in PARTS]
            axes.barh(PARTS, sizes, 0.6, left=left, label=kind, color=f"C{number}")
            left = [start + size for start, size in zip(left, sizes, strict=True)]
        axes.axvline(each["floor"]["cpu_ms"], color="black", linewidth=0.8, linestyle=":")
        axes.set_title(case, fontsize=9)
        axes.invert_yaxis()
    plots[-1].legend(fontsize=7)
    figure.supxlabel("CPU ms a call (dotted: the floor)", fontsize=9)
    figure.savefig(path, dpi=110)
