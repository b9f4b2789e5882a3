"""Refusals that stand for a moment: under overload, most calls are refused without being parsed or asked of the queue.

With a refusal the queue tells for how long every like call would be refused too, by its own estimate
(`Overloaded.holds_s`). Alike are calls of one tenant under the same policy, with the default image and priority, of
which the later one wants its answer as soon or sooner. A call with an id is like no other: it may be in the queue
already, and then it has to get its Result. What a call is like is read off its bytes; in doubt it is parsed.

Nor is the head of a request parsed that repeats one which was refused: what differs from it in nothing but the length
of its body has the same route, media type and key.
"""

from __future__ import annotations

import copy
import re
import time
from collections.abc import Callable
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
_LENGTH = re.compile(rb"\r\n[Cc]ontent-[Ll]ength: ([0-9]{1,7})(?=\r\n|\Z)")
_HEADS = 256
_HEAD_BYTES = 2048
"""So many heads of refused requests are remembered at most, of no more than this size. They hold keys: not for long."""


@dataclass(frozen=True, slots=True, eq=False)
class _Refusal:
    tenant: str
    error: Overloaded
    policy: Policy
    timeout_s: float
    until: float


class Standing:
    """One gateway's memory of what its tenants were refused."""

    def __init__(self, default_timeout_s: float) -> None:
        self._default_timeout_s = default_timeout_s
        self._refusals: dict[str, _Refusal] = {}
        self._heads: dict[tuple[bytes, bytes], _Refusal] = {}
        self._until = 0.0  # none stands any longer

    def __bool__(self) -> bool:
        """Whether any refusal stands."""
        if self._refusals and time.monotonic() >= self._until:
            self.forget()
        return bool(self._refusals)

    def forget(self) -> None:
        """Every call is looked at again: keys or tenants are others now."""
        self._refusals.clear()
        self._heads.clear()

    def note(self, tenant: str, policy: Policy, call: Call, timeout_s: float, error: Overloaded) -> None:
        """`timeout_s`: what the queue was asked for, which a transport's deadline or a slow upload makes less."""
        if error.holds_s > 0 and call.image is None and call.priority == "interactive":
            # A copy has no traceback, which would keep the whole request in memory.
            until = time.monotonic() + error.holds_s
            self._refusals[tenant] = _Refusal(tenant, copy.copy(error), policy, timeout_s, until)
            self._until = max(self._until, until)

    def find(self, tenant: str, policy: Policy, body: bytes, head: bytes = b"") -> Overloaded | None:
        """Return why the call in this body would be refused, or None if that has to be found out.

        `head`: the request's, which was found to be in order and this tenant's. Then `repeated` knows the next one.
        """
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
        if 0 < len(head) <= _HEAD_BYTES and (parted := _part(head)) is not None:
            if len(self._heads) >= _HEADS:
                self._heads.clear()
            self._heads[parted[0]] = refusal
        return copy.copy(refusal.error)

    def repeated(self, request: bytes, policy: Callable[[str], Policy]) -> Overloaded | None:
        """Return why this is refused if it is one whole request, like another one that was; None if it may not be.

        `policy`: of a tenant, now. SECURITY: nothing else looks at such a request, so its head has to be, byte by byte,
        one that passed every check while the same refusal stood (test_standing.py).
        """
        head, _, body = request.partition(b"\r\n\r\n")
        parted = _part(head)
        if parted is None or parted[1] != len(body):
            return None
        refusal = self._heads.get(parted[0])
        if refusal is None or self._refusals.get(refusal.tenant) is not refusal:
            return None
        return self.find(refusal.tenant, policy(refusal.tenant), body)

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


def _part(head: bytes) -> tuple[tuple[bytes, bytes], int] | None:
    """Return what stands before and after the length of the body, and the length."""
    parts = _LENGTH.split(head)
    return ((parts[0], parts[2]), int(parts[1])) if len(parts) == 3 else None
