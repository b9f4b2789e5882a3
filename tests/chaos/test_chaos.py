"""The short version of `make chaos`: the faults that must never pass unnoticed, one rig for all of them."""

from __future__ import annotations

import tempfile
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from tests.chaos import neighbours
from tests.chaos.driver import run_fault
from tests.chaos.faults import FAULTS, Fault
from tests.chaos.rig import Rig

pytestmark = [pytest.mark.slow, pytest.mark.asyncio(loop_scope="module")]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def rig() -> AsyncIterator[Rig]:
    with tempfile.TemporaryDirectory(prefix="chaos-") as folder:
        Path(folder).chmod(0o711)  # the jails' users have to reach what is below
        async with Rig(Path(folder)) as rig:
            yield rig


@pytest.mark.timeout(240, func_only=True)
@pytest.mark.parametrize("fault", [fault for fault in FAULTS if fault.in_ci], ids=lambda fault: fault.name)
async def test_the_ledger_is_clean_after(rig: Rig, fault: Fault) -> None:
    """Nothing lost, duplicated, wrong or foreign, and the fault hit a part that was busy (R1 to R5, R7)."""
    row = await run_fault(fault, rig, strikes=2)
    assert row.problems == []
    assert row.hit > 0
    assert row.tally.calls > 50


@pytest.mark.timeout(300, func_only=True)
async def test_a_single_call_beside_45000_of_another_tenant_waits_less_than_a_second() -> None:
    """By the clock, through both gateways, with every slot busy."""
    with tempfile.TemporaryDirectory(prefix="chaos-") as folder:
        Path(folder).chmod(0o711)
        async with Rig(Path(folder), SANDBOX_API_KEYS_FILE=neighbours.keys(Path(folder))) as rig:
            report = await neighbours.measure(rig, neighbours.CALLS)
    print(report.lines())
    assert min(report.queued) > 40_000
    assert max(report.waits_s) < 1.0
