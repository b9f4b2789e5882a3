"""What a strike has at hand, and what a strike is."""

from __future__ import annotations

from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

from loadtest.ledger import Ledger
from tests.chaos.rig import NotHit, Rig

BACK_S = 60.0


@dataclass
class Scene:
    """What a strike has at hand. `excused`: statuses that it caused itself, by design."""

    rig: Rig
    ledger: Ledger
    excused: Counter[str] = field(default_factory=Counter)
    remarks: list[str] = field(default_factory=list)

    def waiting(self) -> int:
        if not self.ledger.in_flight:
            raise NotHit("no client was waiting")
        return self.ledger.in_flight


Strike = Callable[[Scene], Awaitable[int]]
