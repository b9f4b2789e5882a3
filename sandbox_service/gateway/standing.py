"""Refusals that stand for a moment: under overload, most calls are refused without being parsed or asked of the queue.

With a refusal the queue tells for how long every like call would be refused too, by its own estimate
(`Overloaded.holds_s`). Alike are calls of one tenant under the same policy, with the default image and priority, of
which the later one wants its answer as soon or sooner. A call with an id is like no other: it may be in the queue
already, and then it has to get its Result. What a call is like is read off its bytes; in doubt it is parsed.
"""

from __future__ import annotations

import copy
import re
import time
from dataclasses import dataclass

from sandbox_service.errors import Overloaded
from sandbox_service.metrics import CALLS_REFUSED
from sandbox_service.models import Call
from sandbox_service.queue import Policy

_TELLING = (b'"id"', b'"image"', b'"priority"', b"\\u")
"""A body that holds one of these is parsed. The last can hide the others in a key; nothing else can. A string's text
never looks like them, since a quote in it is escaped."""
_TIMEOUT = re.compile(rb'"timeout_s"(?:[ \t\r\n]*:[ \t\r\n]*([0-9.]{1,20})[ \t\r\n]*[,}])?')

_ON_THE_WAY_S = 0.05
"""What a call may have left of its time less than it asked for, from its arrival to the queue."""


@dataclass(frozen=True, slots=True)
class _Refusal:
    error: Overloaded
    policy: Policy
    timeout_s: float
    until: float


class Standing:
    """One gateway's memory of what its tenants were refused."""

    def __init__(self, default_timeout_s: float) -> None:
        self._default_timeout_s = default_timeout_s
        self._refusals: dict[str, _Refusal] = {}

    def note(self, tenant: str, policy: Policy, call: Call, timeout_s: float, error: Overloaded) -> None:
        """`timeout_s`: what the queue was asked for, which a transport's deadline or a slow upload makes less."""
        if error.holds_s > 0 and call.image is None and call.priority == "interactive":
            # A copy has no traceback, which would keep the whole request in memory.
            until = time.monotonic() + error.holds_s
            self._refusals[tenant] = _Refusal(copy.copy(error), policy, timeout_s, until)

    def find(self, tenant: str, policy: Policy, body: bytes) -> Overloaded | None:
        """Return why the call in this body would be refused, or None if that has to be found out."""
        refusal = self._refusals.get(tenant)
        if refusal is None:
            return None
        if time.monotonic() >= refusal.until or refusal.policy is not policy:
            del self._refusals[tenant]
            return None
        timeout_s = self._timeout_s(body)
        if timeout_s is None or timeout_s > refusal.timeout_s + _ON_THE_WAY_S:
            return None
        CALLS_REFUSED.labels(refusal.error.code).inc()
        return copy.copy(refusal.error)

    def _timeout_s(self, body: bytes) -> float | None:
        """What the call says; None if its bytes do not tell, or tell that it is not like others."""
        if any(word in body for word in _TELLING):
            return None
        found = _TIMEOUT.findall(body)
        if not found:
            return self._default_timeout_s
        try:
            return float(found[0]) if len(found) == 1 else None
        except ValueError:
            return None
