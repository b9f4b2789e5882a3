"""When a request is sent again, and to which address. Decides; does no I/O."""

from __future__ import annotations

import logging
import math
import random
import time
from collections.abc import Sequence
from dataclasses import dataclass

from sandbox_service.client._transport import Transport
from sandbox_service.errors import Overloaded, SandboxError

REST_S, LONGEST_REST_S = 1.0, 30.0
"""An address that gave no answer is left alone for so long, twice as long each time."""

_log = logging.getLogger("sandbox_service.client")


@dataclass(frozen=True)
class Retries:
    """How refused, broken and failed requests are repeated; the caller's deadline bounds all of it.

    The pause before a repeat is a random part of min(cap_s, base_s * 2**failures), plus what Retry-After says.
    """

    base_s: float = 0.1
    cap_s: float = 5.0
    patience_s: float = 60.0
    """How long a service that gives no answer, or answers with faults, is tried again; longer than a restart takes.
    One that answers 429 or 503 with Retry-After is believed until the deadline."""
    infra_errors: int = 2
    """How often a call that ended as `infra_error` is run again."""

    def jitter_s(self, failures: int) -> float:
        return random.uniform(0, min(self.cap_s, self.base_s * 2.0**failures))  # noqa: S311  (spreads load)


class Attempts:
    """The attempts at one request (or stream) until one succeeds."""

    def __init__(self, retries: Retries, deadline: float) -> None:
        self.deadline = deadline
        self._retries = retries
        self._failures = 0
        self._silent_since: float | None = None

    @property
    def remaining_s(self) -> float:
        return max(0.001, self.deadline - time.monotonic())

    def answered(self) -> None:
        """Something came: what fails from now on is a new failure."""
        self._failures, self._silent_since = 0, None

    def failed(self, error: SandboxError) -> float:
        """Return how long to pause before the next attempt; raise `error` if there is none."""
        if not error.retryable:
            raise error
        now = time.monotonic()
        self._failures += 1
        pause_s = self._retries.jitter_s(self._failures) + (error.retry_after_s or 0.0)
        if error.retry_after_s is not None:
            self._silent_since, give_up = None, math.inf
        else:
            self._silent_since = self._silent_since or now
            give_up = self._silent_since + self._retries.patience_s
        if now + pause_s >= min(self.deadline, give_up):
            raise error
        return pause_s


class Gateways:
    """The addresses of one service. They take turns; one that gave no answer rests for a while."""

    def __init__(self, transports: Sequence[Transport]) -> None:
        self.transports = transports
        self._failures = dict.fromkeys(transports, 0)
        self._rests_until = dict.fromkeys(transports, 0.0)
        self._turn = random.randrange(len(transports))  # noqa: S311  (many clients begin at different ones)

    def choose(self) -> Transport:
        """Return the next address that is not resting, else the one whose rest ends first."""
        now = time.monotonic()
        self._turn += 1
        order = [self.transports[(self._turn + step) % len(self.transports)] for step in range(len(self.transports))]
        chosen = min(order, key=lambda each: max(now, self._rests_until[each]))
        if self._failures[chosen]:
            self._rest(chosen, now)  # one request tries if it is back; the others go on elsewhere
        return chosen

    def answered(self, transport: Transport) -> None:
        if self._failures[transport]:
            _log.info("%s answers again", transport.url)
        self._failures[transport], self._rests_until[transport] = 0, 0.0

    def failed(self, transport: Transport, error: SandboxError) -> bool:
        """Let an address rest that cannot answer; return whether another one is awake."""
        if not error.retryable or isinstance(error, Overloaded):
            self.answered(transport)
            return False
        if not self._failures[transport]:
            named = transport.url in error.message  # else it is what the service says of itself
            _log.warning("%s; trying again", error.message if named else f"{transport.url}: {error.message}")
        self._failures[transport] += 1
        now = time.monotonic()
        self._rest(transport, now)
        return any(until <= now for until in self._rests_until.values())

    def _rest(self, transport: Transport, now: float) -> None:
        self._rests_until[transport] = now + min(LONGEST_REST_S, REST_S * 2.0 ** min(self._failures[transport], 10))
