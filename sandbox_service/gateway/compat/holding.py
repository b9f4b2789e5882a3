"""Runs one native call for a dialect whose clients know neither 429 nor a Result that is our fault.

What is refused for overload waits here, and what failed by a fault of ours is submitted anew, as long as the request
has time. Then it is OutOfTime, which is not a verdict.
"""

from __future__ import annotations

import asyncio
import random
import time

from sandbox_service.errors import Overloaded, Unavailable
from sandbox_service.gateway.attend import results
from sandbox_service.gateway.calls import Calls
from sandbox_service.models import Call, Result, Status

FIRST_PAUSE_S, LAST_PAUSE_S = 0.05, 2.0
LONGEST_S = 86_400.0
"""The most that a Call may give itself; its client may allow more."""


class OutOfTime(Exception):
    """The request's time passed, and its call has no verdict."""


async def run_held(calls: Calls, tenant: str, call: Call, *, until: float) -> Result:
    """Return the Result of `call`, which is about the code. `until`: when the answer is of no more use (monotonic).

    Raise OutOfTime, or what Calls.admit raises about the call itself (InvalidCall).
    """
    pause = FIRST_PAUSE_S
    reason = "the service is busy"
    while (left := until - time.monotonic()) > 0:
        try:
            timed = call.model_copy(update={"timeout_s": min(left, LONGEST_S)})
            wait = await calls.admit(tenant, timed, arrived=time.monotonic())
            # Past it, one that runs is cancelled: its client would hear nothing.
            async with asyncio.timeout(until - time.monotonic()):
                result = Result.model_validate_json((await results(wait))[0])
        except (Overloaded, Unavailable) as refusal:
            reason = refusal.message
        except TimeoutError:
            break
        else:
            if result.status in (Status.EXPIRED, Status.CANCELLED):
                break
            if result.status is not Status.INFRA_ERROR:
                return result
            reason = result.message or "a fault of the service"
        await asyncio.sleep(min(pause * random.uniform(0.5, 1.5), max(0.0, until - time.monotonic())))  # noqa: S311
        pause = min(2 * pause, LAST_PAUSE_S)
    raise OutOfTime(f"no verdict within the time of this request: {reason}; try again")
