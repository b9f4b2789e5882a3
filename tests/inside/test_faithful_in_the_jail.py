"""The whole path, from a call over HTTP to its Result, against a cold interpreter in the same image."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from sandbox_service.config import Settings
from sandbox_service.serve import temporary_service
from sandbox_service.worker import rootfs
from tests.inside import battery
from tests.inside.battery import ColdInImage, Jailed, Program, describe

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(60, func_only=True),  # the service may have to build its image first
    pytest.mark.skipif(os.geteuid() != 0, reason="a worker needs root"),
]


@pytest.fixture(scope="module")
def jailed() -> Iterator[Jailed]:
    with temporary_service() as url, Jailed(url) as jailed:
        yield jailed


@pytest.fixture(scope="module")
def cold(jailed: Jailed) -> ColdInImage:
    image = rootfs.load(rootfs.DEFAULT, Settings())
    return ColdInImage(image.path, image.python)


@pytest.mark.parametrize("name", [*battery.names(), *battery.library_names()])
def test_a_call_ends_as_a_cold_interpreter_in_its_image(name: str, jailed: Jailed, cold: ColdInImage) -> None:
    """Same status, standard output and standard error, whichever profile serves the call."""
    program = Program.load(name)
    expected, got = cold(program).normalised(), jailed(program).normalised()
    assert got == expected, f"cold: {describe(expected)}\ncall: {describe(got)}"


NUMBERS = (
    "import random, numpy as np, sympy.core.random as sr\nprint(random.random(), np.random.rand(), sr.rng.random())"
)


def test_calls_draw_different_random_numbers_from_every_library(jailed: Jailed) -> None:
    """Generators that the zygote has imported start anew in each call, and each in a state of its own."""
    runs = [jailed(Program("numbers", NUMBERS)).stdout.split() for _ in range(8)]
    drawn = [number for run in runs for number in run]
    assert len(drawn) == len(set(drawn)) == 24


def test_a_seed_fixes_the_random_numbers_of_every_library(jailed: Jailed) -> None:
    """The same numbers whichever profile serves the call; `seed` is as good as seeding by hand."""
    by_hand = (
        "import random, numpy\nrandom.seed(11)\nnumpy.random.seed(11)\nprint(random.random(), numpy.random.rand())"
    )
    expected = jailed(Program("by hand", by_hand))
    assert expected.status == 0, describe(expected)
    seeded = "import random, numpy\nprint(random.random(), numpy.random.rand())"
    assert jailed(Program("seeded", seeded), seed=11) == expected
    assert jailed(Program("seeded", seeded), seed=12) != expected
    assert jailed(Program("numbers", NUMBERS), seed=11) == jailed(Program("numbers", NUMBERS), seed=11)


def test_a_call_cannot_count_earlier_ones(jailed: Jailed) -> None:
    """# SECURITY: what a zygote's work leaves in its memory does not grow with the calls that it has served."""
    count = Program("count", "import sys\nprint(sys.getallocatedblocks())")
    counted = [int(jailed(count).stdout) for _ in range(60)]
    assert max(counted[-10:]) - min(counted[:10]) <= 8, counted


def test_a_function_with_a_cache_may_recurse(jailed: Jailed) -> None:
    """Deeper than the first CPythons 3.12 let it: programs that ran with 3.11 do the same."""
    code = "import functools, sys\nsys.setrecursionlimit(10**6)\n"
    code += "@functools.cache\ndef f(n):\n    return n and 1 + f(n - 1)\n"
    assert jailed(Program("cached", code + "print(f(3000))")).stdout == "3000\n"
    endless = code.replace("n and 1 + f(n - 1)", "f(n + 1)")
    outcome = jailed(Program("endless", endless + "try: f(0)\nexcept RecursionError as error: print(error)"))
    assert outcome.status in (0, -11)  # 3.11 has no limit but the stack
