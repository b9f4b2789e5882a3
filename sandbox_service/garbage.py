"""The garbage collector in a process that serves: it stays on, and looks less often and at less.

By default the collector looks after each 700 new objects, and now and then at all that are alive: with thousands of
calls under way that was 40 % of a gateway's CPU time under overload. What a start leaves behind is never looked at
again; young objects die by their reference counts, so only cycles wait longer.
"""

from __future__ import annotations

import gc

OBJECTS = 100_000
"""New ones between two looks: some MiB, if all of them were in cycles."""


def settle() -> None:
    """Called once a process is ready to serve."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(OBJECTS, 20, 50)
