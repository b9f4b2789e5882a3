"""Each protection taken away: the attacks that it alone refuses then succeed, so that no test passes by luck."""

from __future__ import annotations

import pytest

# Importing them fills the registry.
from tests.security import (  # noqa: F401
    test_a_data,
    test_b_verdict,
    test_c_processes,
    test_d_resources,
    test_e_kernel,
    test_e_surroundings,
)
from tests.security.bench import bench
from tests.security.cases import REGISTRY, Case
from tests.security.mutation import Mutation

TABLE = sorted(REGISTRY.without.items(), key=lambda entry: entry[0].protection)
LAYERS = sorted(REGISTRY.also_without.items(), key=lambda entry: entry[0].protection)


@pytest.mark.parametrize(("mutation", "cases"), TABLE, ids=[str(mutation) for mutation, _ in TABLE])
async def test_is_really_caused_by(mutation: Mutation, cases: list[Case]) -> None:
    """Without this protection, the check of each of its cases fails."""
    survived = []
    for case in cases:
        async with bench(mutation) as worker:
            golden = await worker.run("print(6 * 7)")
            assert golden.stdout == "42\n", f"without {mutation.protection} nothing runs at all: {golden}"
            result = await worker.run(case.code, **case.fields)
        try:
            case.verify(result)
        except AssertionError:
            continue
        survived.append(case.name)
    assert survived == [], f"pass without {mutation.protection} as well"


@pytest.mark.parametrize(("mutation", "cases"), LAYERS, ids=[str(mutation) for mutation, _ in LAYERS])
async def test_another_layer_is_behind(mutation: Mutation, cases: list[Case]) -> None:
    """Without this layer, the one behind it refuses all of this too."""
    async with bench(mutation) as worker:
        for case in cases:
            case.verify(await worker.run(case.code, **case.fields))


async def test_with_all_protections_a_worn_slot_refuses_what_the_service_refuses() -> None:
    """Nothing but the protection that is missing makes the difference above, and no use of the slot before it."""
    async with bench() as worker:
        for number in range(100):
            assert (await worker.run(f"print({number})")).stdout == f"{number}\n"
        for case in REGISTRY.cases:
            case.verify(await worker.run(case.code, **case.fields))


async def test_with_all_protections_a_fresh_slot_refuses_what_the_service_refuses() -> None:
    """Each case is the first call of its slot: nothing depends on an earlier one that set something right."""
    async with bench(slots=len(REGISTRY.cases)) as worker:
        seen = set()
        for case in REGISTRY.cases:
            case.verify(await worker.run(case.code, **case.fields))
            seen.add(worker.last_slot)
    assert len(seen) == len(REGISTRY.cases)
