"""The garbage collector in a process that serves: it stays on, and looks less often and at less.

By default the collector looks after each 700 new objects, and now and then at all that are alive: with thousands of
calls under way that was 40 % of a gateway's CPU time under overload. What a start leaves behind is never looked at
again, and a request that is answered soon is gone before the next look. What refuses a request must leave no cycle,
since that could hold a body of many MiB until then (test_garbage.py).
"""

from __future__ import annotations

import gc

OBJECTS = 5_000
"""New ones between two looks; some fifty requests make as many."""


def settle() -> None:
    """Called once a process is ready to serve."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(OBJECTS, 10, 10)
