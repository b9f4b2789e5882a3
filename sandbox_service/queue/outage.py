"""What a loop that tries again says of a server that is away: that it began, that it goes on, that it is over."""

from __future__ import annotations

import logging
import time

REMIND_S = 30.0

_log = logging.getLogger(__name__)


class Outage:
    """One loop's view of it. However often the loop tries, the log gets a line now and then."""

    def __init__(self, doing: str) -> None:
        self._doing = doing
        self._began: float | None = None
        self._said = 0.0
        self._failed = float("-inf")
        self.failures = 0
        """Tries that failed, of all outages."""

    def because(self, error: Exception) -> None:
        """It failed (again)."""
        now = time.monotonic()
        self._failed = now
        self.failures += 1
        if self._began is None:
            self._began = self._said = now
            _log.warning("%s fails, and is tried again: %s", self._doing, error)
        elif now - self._said >= REMIND_S:
            self._said = now
            _log.warning("%s has failed for %.0f s: %s", self._doing, now - self._began, error)

    def over(self) -> None:
        """It worked."""
        if self._began is not None:
            _log.warning("%s works again after %.1f s", self._doing, time.monotonic() - self._began)
            self._began = None

    def failed_within(self, seconds: float) -> bool:
        """Whether a try failed in this time."""
        return time.monotonic() - self._failed < seconds
