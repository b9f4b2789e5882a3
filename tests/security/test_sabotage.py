"""E19: a layer that is missing keeps a worker from serving: the start-up self-test finds it and refuses."""

from __future__ import annotations

import pytest

from sandbox_service.errors import SetupError
from sandbox_service.worker.selftest import check_before_serving, check_pool
from tests.security import mutations, worker_mutations
from tests.security.bench import bench
from tests.security.cases import covers
from tests.security.mutation import Mutation


def _all_of(*modules: object) -> list[Mutation]:
    """Every protection that a test of this suite takes away, once."""
    values = [value for module in modules for value in vars(module).values()]
    lists = [value for value in values if isinstance(value, list)]
    found = [value for value in [*values, *(item for each in lists for item in each)] if isinstance(value, Mutation)]
    return list({id(mutation): mutation for mutation in found}.values())


_CODE = "no machine lacks it: it is a rule of the worker's code, and its own test fails without it"
_SHOWS_LATER = "shows only after an attack of some size, which a start should not wait for"
_TABLE = "the filter's table, which is the same on every machine and tested as a whole"
_BEHIND = "lies behind another layer, which refuses what would show it"

UNSEEN = {
    mutations.ZYGOTE_READS_PAYLOADS: _SHOWS_LATER,
    mutations.SOCKETS_IN_FLIGHT: _SHOWS_LATER,
    mutations.NETWORK_OF_THE_SLOT: _SHOWS_LATER,
    mutations.UNREAPED_ORPHANS: _SHOWS_LATER,
    mutations.LOST_SLOTS_STAY: _SHOWS_LATER,
    mutations.PROGRESS_PAGE_STAYS: _SHOWS_LATER,
    mutations.NO_SESSION: "takes nothing away where the worker itself runs in an audit session",
    worker_mutations.MEMORY_IS_NOT_AWAITED: _SHOWS_LATER,
    mutations.ZYGOTE_IN_THE_GROUP: "shows at once, and costs the jail: the first call out of memory ends its zygote",
    mutations.DUMPABLE_ZYGOTE: _BEHIND,
    mutations.NO_JAIL_FILTER: "goes together with the zygote's look at it; without that it is `the policy of the jail`",
    mutations.NO_LOOPBACK: "refuses more than it should, so it opens nothing",
    mutations.LOOPBACK_WITHOUT_CHECKS: _TABLE,
    mutations.OPTIONS_OF_ALL_KINDS_WITH_LOOPBACK: _TABLE,
    mutations.FETCH_FOLLOWS_LINKS: _CODE,
    worker_mutations.EXPECTED_OUTPUT_IN_THE_JAIL: _CODE,
    worker_mutations.WAITS_FOR_THE_PIPE: _CODE,
    worker_mutations.STATUS_FROM_THE_OUTPUT: _CODE,
    worker_mutations.EXIT_CODE_IS_ENOUGH: _CODE,
    worker_mutations.LOOSE_COMPARISON: _CODE,
    worker_mutations.INPUT_IS_NOT_SEALED: _CODE,
}
"""What the self-test does not look for, and why."""
SABOTAGE = [mutation for mutation in _all_of(mutations, worker_mutations) if mutation not in UNSEEN]


@covers("E19 P36")
async def test_a_whole_pool_passes() -> None:
    """With all layers in place the self-test passes in every slot, also a second time."""
    async with bench(slots=2) as worker:
        await check_before_serving(worker.pool, slots=2)
        await check_pool(worker.pool, slots=2)


@covers("E19 P4 P36")
@pytest.mark.parametrize("mutation", SABOTAGE, ids=str)
async def test_a_missing_layer_is_refused(mutation: Mutation) -> None:
    """Without any of its layers but those listed with a reason, a worker refuses to start: SetupError, nothing runs."""
    with pytest.raises(SetupError, match=r"nothing will be run here|did not start"):
        async with bench(mutation) as worker:
            await check_before_serving(worker.pool, slots=1)


@covers("P36")
@pytest.mark.parametrize("step", mutations.FAILING_STEPS, ids=str)
async def test_a_set_up_step_that_fails_is_our_fault(step: Mutation) -> None:
    """When a step of a call's set-up fails, its program never starts, and the answer is infra_error: no verdict."""
    async with bench(step) as worker:
        result = await worker.run("print('ran')", expected_stdout="ran")
    assert (result.status.value, result.stdout, result.passed, result.retryable) == ("infra_error", "", None, True), (
        result
    )
    assert result.message is not None
    assert "could not be set up" in result.message
