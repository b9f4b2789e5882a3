"""The runner against a cold interpreter: every program of the battery has to end the same and say the same."""

from __future__ import annotations

import functools
import os
import sys
from collections.abc import Callable, Iterator

import pytest

from tests.inside import battery
from tests.inside.battery import OF_IMAGES, Cold, Forked, Outcome, Program, describe

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="each program gets a file system of its own: run as root")

# What a profile may preload. Not every one does; but none of these may be noticed by a program that does not look.
PRELOADED = [
    *("json", "re", "random", "threading", "tempfile", "logging", "logging.handlers", "asyncio", "multiprocessing"),
    *("concurrent.futures.thread", "concurrent.futures.process", "dataclasses", "inspect", "traceback", "subprocess"),
    *("uuid", "sqlite3", "typing", "collections", "decimal"),
]


@pytest.fixture(scope="module", params=dict.fromkeys((OF_IMAGES, sys.executable)), ids=os.path.basename)
def python(request: pytest.FixtureRequest) -> str:
    """Where images are made from another version than the service's, both are tried: either can be chosen."""
    chosen: str = request.param
    return chosen


@pytest.fixture(scope="module")
def cold(python: str) -> Callable[[str], Outcome]:
    run = Cold(python)
    return functools.cache(lambda name: run(Program.load(name)).normalised())


@pytest.fixture(scope="module")
def bare(python: str) -> Iterator[Forked]:
    with Forked(python, []) as forked:
        yield forked


@pytest.fixture(scope="module")
def preloaded(python: str) -> Iterator[Forked]:
    with Forked(python, PRELOADED) as forked:
        yield forked


KNOWN_TO_DIFFER = {("python3.12", "preloaded", "builtins_changed")}
"""3.12's logging.shutdown() needs the `getattr` that the program deletes; cold, logging was never imported."""


@pytest.mark.parametrize("name", battery.names())
@pytest.mark.parametrize("image", ["bare", "preloaded"])
def test_a_program_ends_as_in_a_cold_interpreter(
    name: str, image: str, python: str, cold: Callable[[str], Outcome], request: pytest.FixtureRequest
) -> None:
    """Same status, standard output and standard error, but for addresses, process numbers and temporary names."""
    if (os.path.basename(os.path.realpath(python)), image, name) in KNOWN_TO_DIFFER:
        request.applymarker(pytest.mark.xfail(reason="logging is imported already", strict=True))
    forked: Forked = request.getfixturevalue(image)
    expected, got = cold(name), forked(Program.load(name)).normalised()
    assert got == expected, f"cold: {describe(expected)}\nforked: {describe(got)}"


def test_the_battery_is_large_and_would_notice_a_difference(cold: Callable[[str], Outcome]) -> None:
    """The comparison itself: many programs, and they really do end in many ways."""
    outcomes = {name: cold(name) for name in battery.names()}
    assert len(outcomes) >= 80
    assert len({outcome.status for outcome in outcomes.values()}) >= 15
    assert len(set(outcomes.values())) >= 0.9 * len(outcomes)


@pytest.mark.parametrize(
    ("code", "shown"),
    [
        ("1 + 1", "2\n"),
        ("x = 3\nx * 2", "6\n"),
        ("'text'", "'text'\n"),
        ("None", ""),
        ("print('a')", "a\n"),
        ("x = 1", ""),
        ("", ""),
        ("for i in range(2):\n    i", ""),
        ("1\n2", "2\n"),
        ("def f():\n    return [1]\nf()  # comment\n", "[1]\n"),
        ("import sys\nsys.displayhook = lambda value: print('hooked', value)\n5", "hooked 5\n"),
    ],
)
def test_the_value_of_a_last_expression_is_shown_when_asked_for(bare: Forked, code: str, shown: str) -> None:
    """`show_last_value`: as at a prompt, for the last statement alone; without it, nothing is shown."""
    program = Program("last", code)
    assert bare(program, show_last_value=True) == Outcome(0, shown, "")
    if shown and "print" not in code:
        assert bare(program) == Outcome(0, "", "")


def test_a_last_expression_that_fails_has_the_usual_traceback(bare: Forked) -> None:
    """Line numbers and carets are those of the file."""
    program = Program("last", "x = 0\n\n(1 +\n  2 / x)\n")
    assert bare(program, show_last_value=True) == bare(program)
    assert "line 4" in bare(program).stderr


@pytest.mark.parametrize("show_last_value", [False, True])
def test_a_syntax_error_is_the_same_with_and_without_showing(bare: Forked, show_last_value: bool) -> None:
    """The interpreter's own words, from the file, whatever way the program was compiled."""
    outcome = bare(Program("wrong", "print(1)\nif True\n    2\n"), show_last_value=show_last_value)
    assert outcome.stdout == ""
    assert (
        outcome.stderr == "  File \"/tmp/work/main.py\", line 2\n    if True\n           ^\nSyntaxError: expected ':'\n"
    )


RANDOM = Program("random", "import random, uuid, tempfile\nprint(random.random(), uuid.uuid4(), tempfile.mktemp())")


def test_two_runs_draw_different_random_numbers(preloaded: Forked) -> None:
    """Children of one zygote share its memory, but not its random numbers, identifiers and temporary names."""
    runs = [preloaded(RANDOM).stdout.split() for _ in range(10)]
    for column in zip(*runs, strict=True):
        assert len(set(column)) == len(runs)


@pytest.mark.parametrize("image", ["bare", "preloaded"])
def test_a_seed_fixes_the_random_numbers(python: str, image: str, request: pytest.FixtureRequest) -> None:
    """`seed`: as if the program had begun with random.seed(seed), whatever is preloaded."""
    forked: Forked = request.getfixturevalue(image)
    program = Program("seeded", "import random\nprint(random.random(), random.getrandbits(64))")
    seeded = Program("by hand", "import random\nrandom.seed(7)\nprint(random.random(), random.getrandbits(64))")
    assert forked(program, seed=7) == forked(seeded)
    assert forked(program, seed=8) != forked(seeded)


def test_nothing_of_one_run_reaches_the_next(preloaded: Forked) -> None:
    """What a program changes in its interpreter ends with it."""
    spoil = "import builtins, json, os, sys\nbuiltins.left = json.left = sys.left = 1\nos.environ['LEFT'] = '1'\n"
    look = (
        "import builtins, json, os, sys\nprint([hasattr(m, 'left') for m in (builtins, json, sys)], os.getenv('LEFT'))"
    )
    assert preloaded(Program("spoil", spoil)).status == 0
    assert preloaded(Program("look", look)).stdout == "[False, False, False] None\n"


def test_a_full_disk_is_the_programs_own_failure(bare: Forked) -> None:
    """Files that do not fit end the program with a message, and not the runner with a fault of ours."""
    outcome = bare(Program("full", "print('never')", files={"large": "x" * (65 << 20)}))
    assert outcome.status == 1
    assert outcome.stdout == ""
    assert "No space left on device" in outcome.stderr


def test_the_program_cannot_see_the_runner(preloaded: Forked) -> None:
    """Neither on the stack nor among the imported modules; and it can import files of its own of the same names."""
    code = "import sys, inspect\nprint([name for name in sys.modules if 'sandbox' in name], inspect.stack()[1:])"
    assert preloaded(Program("look", code)).stdout == "[] []\n"
