"""Refusals that stand for a moment: under overload, most calls are refused without being parsed or asked of the queue.

With a refusal the queue tells for how long every like call would be refused too, by its own estimate
(`Overloaded.holds_s`). Then one like call asks anew, and until it has its answer, for as long again at most, the others
are refused as before. Alike are calls of one tenant under the same policy, with the default image and priority, of
which the later one wants its answer as soon or sooner. A call with an id is like no other: it may be in the queue
already, and then it has to get its Result. What a call is like is read off its bytes; in doubt it is parsed.

A client's requests mostly have the same heads, byte for byte. One that led to a refusal is remembered, and a like call
that comes with it is refused as it leaves the socket, for a tenth of the CPU time that a request takes in the
application. That time is what accepted calls run in.
"""

from __future__ import annotations

import hashlib
import re
import time
from dataclasses import dataclass

from starlette.responses import Response
from starlette.types import Scope

from sandbox_service.errors import Overloaded
from sandbox_service.gateway.answers import problem, raw
from sandbox_service.gateway.tenants import Tenants
from sandbox_service.metrics import CALLS_REFUSED
from sandbox_service.models import Call
from sandbox_service.queue import Policy

_TELLING = (b'"id"', b'"image"', b'"priority"', b"\\u")
"""A body that holds one of these is parsed. The last can hide the others in a key; nothing else can. A string's text
never looks like them, since a quote in it is escaped."""
_TIMEOUT = re.compile(rb'"timeout_s"(?:[ \t\r\n]*:[ \t\r\n]*([0-9.]{1,20})[ \t\r\n]*[,}])?')

_ON_THE_WAY_S = 0.05
"""What a call may have left of its time less than it asked for, from its arrival to the queue."""
_MOST_HEADS = 1024
_LONGEST_HEAD = 4096


@dataclass(slots=True)
class Refusal:
    """What like calls of a tenant are answered."""

    code: str
    policy: Policy
    timeout_s: float
    asks_at: float
    ends_at: float
    response: Response
    wire: bytes
    """The response with its status line and headers."""
    is_asked: bool = False


class Standing:
    """One gateway's memory of what its tenants were refused."""

    def __init__(self, default_timeout_s: float, tenants: Tenants) -> None:
        self._default_timeout_s = default_timeout_s
        self._tenants = tenants
        self._refusals: dict[str, Refusal] = {}
        self._heads: dict[bytes, tuple[str, int]] = {}
        """Digest of a head → the tenant, and the length of the body."""

    def note(self, tenant: str, call: Call, timeout_s: float, error: Overloaded) -> None:
        """`timeout_s`: what the queue was asked for, which a transport's deadline or a slow upload makes less."""
        if error.holds_s <= 0 or call.image is not None or call.priority != "interactive":
            return
        now, policy, known = time.monotonic(), self._tenants.policy(tenant), self._refusals.get(tenant)
        if known is not None and now < known.asks_at and timeout_s <= known.timeout_s and policy is known.policy:
            return  # it was on its way when that one came
        response = problem(error)
        asks_at, ends_at = now + error.holds_s, now + 2 * error.holds_s
        self._refusals[tenant] = Refusal(error.code, policy, timeout_s, asks_at, ends_at, response, raw(response))

    def find(self, tenant: str, body: bytes) -> Refusal | None:
        """Return how the call in this body is refused, or None if that has to be found out. It is counted."""
        refusal = self._refusals.get(tenant)
        if refusal is None:
            return None
        now = time.monotonic()
        if now >= refusal.ends_at or refusal.policy is not self._tenants.policy(tenant):
            del self._refusals[tenant]
            return None
        timeout_s = self._timeout_s(body)
        if timeout_s is None or timeout_s > refusal.timeout_s + _ON_THE_WAY_S:
            return None
        if now >= refusal.asks_at and not refusal.is_asked:
            refusal.is_asked = True
            return None
        CALLS_REFUSED.labels(refusal.code).inc()
        return refusal

    def learn(self, scope: Scope, body: bytes, tenant: str) -> None:
        """A call with this head (`scope["head"]`) was refused: others with the same may be refused unread."""
        head = scope.get("head")
        if head is None or len(head) > _LONGEST_HEAD:
            return
        if len(self._heads) >= _MOST_HEADS:
            self._heads.clear()
        self._heads[_digest(head)] = (tenant, len(body))

    def forget_heads(self) -> None:
        """Who holds which key has changed."""
        self._heads.clear()

    def find_unread(self, request: bytes) -> bytes | None:
        """Return the answer to what a connection brought at once, if that is one whole request with a known head and a
        call that is refused.

        SECURITY: the same bytes were read as a head before, so they name the same route and tenant again, as long as
        the keys are the same (`test_a_withdrawn_key_is_not_answered_unread`).
        """
        if not self._heads or not self._refusals:
            return None
        head, end, body = request.partition(b"\r\n\r\n")
        tenant, length = self._heads.get(_digest(head), ("", 0))
        if not end or not tenant or len(body) != length:
            return None
        refusal = self.find(tenant, body)
        return None if refusal is None else refusal.wire

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


def _digest(head: bytes) -> bytes:
    return hashlib.sha256(head).digest()  # of a head with a key in it, nothing else is kept
