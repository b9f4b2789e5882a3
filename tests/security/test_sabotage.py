"""E19: a layer that is missing keeps a worker from serving: the start-up self-test finds it and refuses."""

from __future__ import annotations

import pytest

from sandbox_service.errors import SetupError
from sandbox_service.worker.selftest import check_pool
from tests.security import mutations, worker_mutations
from tests.security.bench import bench
from tests.security.cases import covers
from tests.security.mutation import Mutation

SABOTAGE = [
    mutations.NO_CALL_FILTER,
    mutations.SOCKETS_OF_ALL_FAMILIES,
    mutations.KEEPS_ROOT,
    mutations.KEEPS_BOUNDING_SET,
    mutations.DUMPABLE_ZYGOTE_AND_ONE_USER,
    mutations.KEEPS_DESCRIPTORS,
    mutations.NO_CGROUP,
    worker_mutations.WRITABLE_ROOT,
    mutations.NETWORK_OF_THE_JAIL,
    mutations.PROC_OF_THE_JAIL,
]


@covers("E19 P36")
async def test_a_whole_pool_passes() -> None:
    """With all layers in place the self-test passes in every slot, also a second time."""
    async with bench(slots=2) as worker:
        await check_pool(worker.pool, slots=2)
        await check_pool(worker.pool, slots=2)


@covers("E19 P36")
@pytest.mark.parametrize("mutation", SABOTAGE, ids=str)
async def test_a_missing_layer_is_refused(mutation: Mutation) -> None:
    """Without one of its layers a pool fails the self-test that gates serving: SetupError, and nothing is run."""
    async with bench(mutation) as worker:
        with pytest.raises(SetupError, match="nothing will be run here"):
            await check_pool(worker.pool, slots=1)


@covers("P36")
@pytest.mark.parametrize("step", mutations.FAILING_STEPS, ids=str)
async def test_a_set_up_step_that_fails_is_our_fault(step: Mutation) -> None:
    """When a step of a call's set-up fails, its program never starts, and the answer is infra_error: no verdict."""
    async with bench(step) as worker:
        result = await worker.run("print('ran')", expected_stdout="ran")
    assert (result.status.value, result.stdout, result.passed, result.attempts) == ("infra_error", "", None, 2), result
    assert result.message is not None
    assert "could not be set up" in result.message
