"""Problems that a tiny model can learn to solve with a tool and cannot guess, and the flawed traces it starts from.

Every family has a right formula, one with a bug (it raises) and a wrong one (it runs). The SFT corpus is
non-reasoning, as in the paper: it shows format and tool syntax, and mostly the *wrong* thing, so that RL has skill to
find. Training and held-out problems never share a question: a question's hash decides which side it is on.
"""

from __future__ import annotations

import json
import math
import random
import zlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

from sandbox_service.trainer.prompts import CALL_HEAD, CALL_TAIL, IM_END
from sandbox_service.trainer.records import Problem

OUTPUT = "<the last output>"
"""Stands in a plan's answer for what the tool printed last."""


@dataclass(frozen=True)
class Task:
    """A problem with the programs that traces are made of."""

    problem: Problem
    right: str
    bug: str
    wrong: str
    first: str | None = None
    """A program to run before, where one call is not enough."""


_Make = Callable[[random.Random, bool], Task]


def _task(family: str, question: str, answer: int, right: str, bug: str, wrong: str, first: str | None = None) -> Task:
    return Task(Problem(question, str(answer), family), right, bug, wrong, first)


def _digits(r: random.Random, low: int, high: int, large: bool) -> int:
    """A number of the range; a digit longer in the large problems."""
    return r.randint(low * 10, high * 10 + 9) if large else r.randint(low, high)


def modpow(r: random.Random, large: bool) -> Task:
    a, b, c, d = r.randint(11, 99), r.randint(11, 29), _digits(r, 11, 99, large), r.randint(11, 99)
    m = _digits(r, 301, 999, large)
    asked = r.choice([f"Find ({a}^{b} + {c}*{d}) mod {m}.", f"Remainder of {a}^{b} + {c}*{d} divided by {m}?"])
    right, bug = f"print(({a}**{b}+{c}*{d})%{m})", f"print(({a}**{b}+{c}*{d})%m)"
    return _task("modpow", asked, (a**b + c * d) % m, right, bug, f"print({a}**{b}+{c}*{d}%{m})")


def lcm(r: random.Random, large: bool) -> Task:
    a, b, c = r.randint(11, 99), r.randint(11, 99), _digits(r, 11, 99, large)
    asked = r.choice([f"What is the lcm of {a}, {b} and {c}?", f"Least common multiple of {a}, {b}, {c}."])
    right, bug = f"import math;print(math.lcm({a},{b},{c}))", f"print(lcm({a},{b},{c}))"
    return _task("lcm", asked, math.lcm(a, b, c), right, bug, f"print({a}*{b}*{c})")


def count(r: random.Random, large: bool) -> Task:
    """The family whose right formula hardly occurs in the traces: `or` has to be found."""
    n, p, q = _digits(r, 301, 999, large), r.randint(2, 9), r.randint(11, 29)
    either = f"divisible by {p} or {q}"
    asked = r.choice([f"How many n from 1 to {n} are {either}?", f"Count n<={n} {either}."])
    answer = sum(i % p == 0 or i % q == 0 for i in range(1, n + 1))
    code = "print(sum(n%{}==0 {} n%{}==0 for n in range(1,{}+1)))".format
    return _task("count", asked, answer, code(p, "or", q, n), code(p, "and", q, "N"), code(p, "and", q, n))


def digitsum(r: random.Random, large: bool) -> Task:
    a, b = _digits(r, 101, 999, large), r.randint(51, 99)
    asked = r.choice([f"Sum of the digits of {a}^{b}?", f"Add up the digits of {a}^{b}."])
    answer = sum(map(int, str(a**b)))
    right, bug = f"print(sum(map(int,str({a}**{b}))))", f"print(sum(str({a}**{b})))"
    return _task("digitsum", asked, answer, right, bug, f"print(sum(map(int,str({a}*{b}))))")


_PRIMES = [307, 353, 401, 457, 503, 557, 601, 653, 701, 757, 809, 857, 907, 953]
_LARGE_PRIMES = [1009, 1409, 2003, 2411, 3001, 3407, 4001, 4409, 5003, 5407, 6007, 6421, 7001, 7411]


def inverse(r: random.Random, large: bool) -> Task:
    p, a, c = r.choice(_LARGE_PRIMES if large else _PRIMES), r.randint(11, 99), r.randint(11, 299)
    asked = r.choice([f"Smallest x>=0 with {a}x = {c} mod {p}?", f"Solve {a}x = {c} mod {p}."])
    code = f"(x for x in range({p}) if {{}}*x%{p}=={c})".format
    wrong = f"print(next(x for x in range({p}) if ({a}+x)%{p}=={c}))"
    return _task("inverse", asked, c * pow(a, -1, p) % p, f"print(next{code(a)})", f"print({code(a)}[0])", wrong)


def binomial(r: random.Random, large: bool) -> Task:
    n, k, m = _digits(r, 31, 99, large), r.randint(11, 29), _digits(r, 301, 999, large)
    asked = r.choice([f"C({n},{k}) mod {m}?", f"Binomial {n} choose {k}, modulo {m}."])
    right, bug = f"import math;print(math.comb({n},{k})%{m})", f"print(comb({n},{k})%{m})"
    return _task("binomial", asked, math.comb(n, k) % m, right, bug, f"import math;print(math.perm({n},{k})%{m})")


def digits_then_power(r: random.Random, large: bool) -> Task:
    a, b, c, m = r.randint(101, 999), r.randint(51, 99), r.randint(11, 29), _digits(r, 301, 999, large)
    long, short = (
        f"Let s be the digit sum of {a}^{b}. Find s^{c} mod {m}.",
        f"s = digits of {a}^{b} added; s^{c} mod {m}?",
    )
    asked = r.choice([long, short])
    s = sum(map(int, str(a**b)))
    codes = f"print({s}**{c}%{m})", f"print(s**{c}%{m})", f"print({s}*{c}%{m})"
    return _task("digits-power", asked, s**c % m, *codes, first=f"print(sum(map(int,str({a}**{b}))))")


def lcm_then_digits(r: random.Random, large: bool) -> Task:
    a, b, c = r.randint(11, 99), _digits(r, 11, 99, large), r.randint(51, 99)
    long, short = (
        f"Let t be the lcm of {a} and {b}. Sum of the digits of t^{c}?",
        f"t = lcm of {a}, {b}; digits of t^{c}?",
    )
    asked = r.choice([long, short])
    t = math.lcm(a, b)
    codes = f"print(sum(map(int,str({t}**{c}))))", f"print(sum(str({t}**{c})))", f"print(sum(map(int,str({t}*{c}))))"
    return _task("lcm-digits", asked, sum(map(int, str(t**c))), *codes, first=f"import math;print(math.lcm({a},{b}))")


ONE_CALL: tuple[_Make, ...] = (modpow, lcm, count, digitsum, inverse, binomial)
TWO_CALLS: tuple[_Make, ...] = (digits_then_power, lcm_then_digits)
FAMILIES = ONE_CALL + TWO_CALLS
DATA: dict[str, tuple[tuple[_Make, ...], float]] = {
    "one-call": (ONE_CALL, 0.0),
    "two-calls": (ONE_CALL[::2] + TWO_CALLS + ONE_CALL[1::2] + TWO_CALLS, 0.1),
    "large": (FAMILIES, 0.7),
    "held-out": (FAMILIES, 0.25),
    "held-out-one-call": (ONE_CALL, 0.0),
}
"""Families, in turn, and the share of large numbers of each set of problems."""
_HELD_OUT_OF = 8


def is_held_out(question: str) -> bool:
    return zlib.crc32(question.encode()) % _HELD_OUT_OF == 0


def problems(data: str, seed: object, count: int) -> list[Problem]:
    """Problems number 0 to `count` - 1 of a set; the same seed gives the same ones."""
    families, large = DATA[data]
    r = random.Random(f"{data}/{seed}")
    return [
        _draw(families[index % len(families)], r, large, held_out=data.startswith("held-out")).problem
        for index in range(count)
    ]


def _draw(make: _Make, r: random.Random, large: float, *, held_out: bool) -> Task:
    while True:
        task = make(r, r.random() < large)
        if is_held_out(task.problem.question) == held_out:
            return task


# ---- traces -------------------------------------------------------------------------------------------------------

MIX: dict[str, tuple[float, float, float, float, float]] = {
    #              right bug→right wrong guess format
    "modpow": (0.15, 0.20, 0.40, 0.15, 0.10),
    "lcm": (0.08, 0.27, 0.40, 0.15, 0.10),
    "count": (0.02, 0.00, 0.78, 0.15, 0.05),
    "digitsum": (0.08, 0.27, 0.40, 0.15, 0.10),
    "inverse": (0.15, 0.15, 0.30, 0.30, 0.10),
    "binomial": (0.10, 0.20, 0.50, 0.10, 0.10),
    "digits-power": (0.15, 0.25, 0.35, 0.15, 0.10),
    "lcm-digits": (0.10, 0.30, 0.35, 0.15, 0.10),
}
_SFT_LARGE = 0.1


@dataclass(frozen=True)
class Plan:
    """A trace without its tool responses: those come from running it (`sft.py`)."""

    problem: Problem
    calls: tuple[str, ...]
    """Assistant turns that call the tool."""
    answers: tuple[str, ...]
    """What the last turn answers, one block each; OUTPUT for the last tool output."""


def call_turn(code: str, *, broken: bool = False) -> str:
    tail = "" if broken else CALL_TAIL
    return f"use python</reason><tool_call>{CALL_HEAD}{json.dumps(code)[1:-1]}{tail}</tool_call>{IM_END}"


def answer_turn(answers: tuple[str, ...]) -> str:
    blocks = "".join(f"<answer>\\boxed{{{answer}}}</answer>" for answer in answers)
    return f"done</reason>{blocks}{IM_END}"


def plans(seed: object, traces: Mapping[str, int]) -> Iterator[Plan]:
    """Plans for an SFT corpus, of all families alike, from training questions only; how many of each of its kinds.

    `tool_use`: a failed call is followed by the right program, one that runs is mostly wrong, so to fail first is the
    surest way to a right answer. `unlinked`: as many failures and as many right answers, but what follows a failure is
    right as often as any other program. It tells what that link does to a comparison.
    """
    if unknown := traces.keys() - {"tool_use", "unlinked"}:
        raise ValueError(f"no such traces: {', '.join(sorted(unknown))}")
    r = random.Random(f"sft/{seed}")
    for kind, count in traces.items():
        for index in range(count):
            task = _draw(FAMILIES[index % len(FAMILIES)], r, _SFT_LARGE, held_out=False)
            yield _plan(task, r, linked=kind == "tool_use")


def _plan(task: Task, r: random.Random, *, linked: bool) -> Plan:
    answer, guess = task.problem.answer, str(r.randint(1, 999))
    mix = MIX[task.problem.family]
    kind = r.choices(("right", "bug", "wrong", "guess", "format"), mix)[0]
    before = [] if task.first is None else [call_turn(task.first)]
    # In the rare family the tidy-up kinds go on with its wrong formula: the right one stays rare.
    usual = task.wrong if task.problem.family == "count" else task.right
    if not linked:
        usual = task.right if r.random() * sum(mix[:3]) < sum(mix[:2]) else task.wrong
    found = (answer if usual == task.right else OUTPUT,)
    if kind == "guess":
        # Where two calls are needed, half of the guesses are the first call's output.
        return Plan(task.problem, *((tuple(before), (OUTPUT,)) if before and r.random() < 0.5 else ((), (guess,))))
    if kind == "format" and r.random() < 0.5:
        return Plan(task.problem, (*before, call_turn(usual)), (guess, *found))
    if kind == "format":
        return Plan(task.problem, (*before, call_turn(usual, broken=True), call_turn(usual)), found)
    if kind == "bug":
        bug = usual.replace(")", "", 1) if r.random() < 0.25 else task.bug
        return Plan(task.problem, (*before, call_turn(bug), call_turn(usual)), found)
    if linked:
        usual, found = (task.wrong, (OUTPUT,)) if kind == "wrong" else (task.right, (answer,))
    return Plan(task.problem, (*before, call_turn(usual)), found)
