"""How many answers a second a service verifies on one core, everything included, and whether each verdict is right.

    python -m loadtest.verify [--answers 8192] [--core 0]

A service of its own, with this client, pinned to one core. The answers are those of rollouts: 16 of each problem, of
16 forms, half of them wrong, no two alike; their verdicts are known by construction. Since another program may share
the core, the figure is answers per CPU second of the service; the one by the clock stands beside it.
"""

from __future__ import annotations

import argparse
import os
import random
import sys
import time
from pathlib import Path

from sandbox_service.client import SandboxClient
from sandbox_service.serve import temporary_service

FORMS = (
    "{a}", r"\frac{{{a}}}{{{p}}}", r"{a}\sqrt{{{p}}}", "({a},{b})", "x^2+{a}x+{b}", r"\frac{{{a}\pi}}{{{p}}}", r"{a}\%",
    r"\{{{a},{b},{c}\}}", "{a}^{{{p}}}", "[{a},{c})", "{a}.{p}", "x={a}", r"\sqrt[3]{{{a}}}", "{a},{c}", r"{a}+{b}i",
    r"\begin{{pmatrix}} {a} & 1 \\ 0 & {b} \end{{pmatrix}}",
)  # fmt: skip
AROUND = (r"<think>We count to {n}.</think> So it is \boxed{{{}}}.", r"\boxed{{{}}}", r"\[\boxed{{{}}}\] ({n})")


def answers(count: int, seed: int = 1) -> list[tuple[str, str, bool]]:
    """Return (answer, reference, is it correct)."""
    draw = random.Random(seed)  # noqa: S311
    made = []
    for index in range(count):
        form = FORMS[index // 16 % len(FORMS)]
        numbers = random.Random(f"{seed} {index // 16}")  # noqa: S311
        a, b, p = numbers.randint(100, 500), numbers.randint(2, 99), numbers.choice((7, 11, 13, 17, 19))
        given = a + draw.choice((0, draw.randint(1, 9)))
        reference = form.format(a=a, b=b, c=a + b + 20, p=p)
        answer = form.format(a=given, b=b, c=a + b + 20, p=p)
        made.append((draw.choice(AROUND).format(answer, n=index), reference, given == a))
    return made


def cpu_s() -> float:
    """CPU seconds of all descendants of this process, those that ended included."""
    stats = {}
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = path.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        stats[int(path.parent.name)] = (int(fields[1]), sum(map(int, fields[11:15])))
    family, ticks = {os.getpid()}, 0
    while found := {pid for pid, (parent, _) in stats.items() if parent in family} - family:
        family |= found
        ticks += sum(stats[pid][1] for pid in found)
    return ticks / os.sysconf("SC_CLK_TCK")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--answers", type=int, default=8192)
    parser.add_argument("--core", type=int, default=0)
    options = parser.parse_args()
    os.sched_setaffinity(0, {options.core})
    checks = answers(options.answers)
    with temporary_service() as url, SandboxClient(url) as sandbox:
        sandbox.verify_batch([(answer, reference) for answer, reference, _ in checks[:512]])
        cpu_before, begun = cpu_s(), time.monotonic()
        verdicts = sandbox.verify_batch([(answer, reference) for answer, reference, _ in checks])
        took_s, used_s = time.monotonic() - begun, cpu_s() - cpu_before
    wrong = [
        (check, verdict) for check, verdict in zip(checks, verdicts, strict=True) if verdict.correct is not check[2]
    ]
    for check, verdict in wrong[:10]:
        print("WRONG", check, verdict, file=sys.stderr)
    print(
        f"{len(checks)} answers on core {options.core}: {len(checks) / took_s:.0f}/s by the clock, "
        f"{len(checks) / used_s:.0f} per CPU second of the service, {len(wrong)} verdicts wrong"
    )
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
