"""How much KV cache a set of rollouts on one engine will need: the two rules, and what the second one learns.

Lengths are in tokens. A rollout's *length* is what it holds in the KV cache (prompt, its own text, tool results); its
*response* is that without the prompt, and ends at `limit` at the latest. Everything here is arithmetic: no clock, no
chance, so that a scheduler that is told the same things decides the same.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Protocol

BUCKETS = 32
"""Responses are counted in this many equal steps up to the limit."""

_PRIOR = 4.0
"""How many rollouts through each bucket the prior counts for."""

_PRIOR_POWER = 1.5
"""Before anything is known the share of responses longer than x is (1 - x / limit) to this power: shorter than equally
likely, because a first wave that is too small costs time that nothing makes up for, one too large a few preemptions."""

_REMEMBERED = 8192
"""Past this many finished rollouts the older half of the evidence is forgotten: a policy in training changes."""


class Need(Protocol):
    """A rule: what a set of rollouts needs, and what it hears about rollouts to know it better."""

    def tokens(self, held: Iterable[tuple[int, int]]) -> float:
        """KV cache to keep for rollouts of one engine, each given as (prompt, length) so far."""

    def grew(self, before: int, after: int) -> None:
        """A response grew from `before` to `after` tokens."""

    def finished(self, response: int) -> None:
        """A rollout ended with this response length."""

    def preempted(self) -> None:
        """A rollout lost its KV cache: too much had been admitted."""


@dataclass
class WorstCase:
    """The paper's rule (section 3.2): each rollout may reach the limit, so K = floor(free / L) more can start."""

    limit: int

    def tokens(self, held: Iterable[tuple[int, int]]) -> float:
        return float(sum(prompt + self.limit for prompt, _ in held))

    def grew(self, before: int, after: int) -> None: ...

    def finished(self, response: int) -> None: ...

    def preempted(self) -> None: ...


@dataclass
class Expected:
    """The highest expected occupancy over the time to come, plus a margin that preemptions adjust.

    Rollouts of one engine grow together, a token each per decoding step, and end at different lengths. After h steps
    one that has r tokens now holds r + h with probability S(r + h) / S(r) and nothing otherwise; so the occupancy to
    expect has a peak over h that is far below the sum of the final lengths. S, the share of responses longer than a
    length, comes from finished *and* unfinished rollouts: the first to finish are the short ones, and an average over
    the finished alone would take them for typical. In each bucket the hazard is the responses that ended there over
    the buckets that responses went through, parts counted as parts; whoever is in the middle of the longest bucket
    reached has not ended there so far, and that half counts. `_PRIOR_POWER`
    says what is assumed before; a run that has the lengths of an earlier step starts with those (`learn`).

    The margin is `deviations` standard deviations of that occupancy. A preemption adds `_STEP`, a finished rollout
    takes away `_STEP * tolerated`, within `_LEAST` and `_MOST`: a first wave of which nothing was known preempts many,
    and a margin without bounds then left a third of the cache unused for the rest of the step.
    """

    limit: int
    tolerated: float = 0.1
    deviations: float = 2.0
    _ended: list[float] = field(default_factory=lambda: [0.0] * BUCKETS)
    _passed: list[float] = field(default_factory=lambda: [0.0] * BUCKETS)
    _survival: list[float] = field(default_factory=list)
    _evidence: float = 0.0
    _considered: float = 0.0
    """The evidence that `_survival` was computed from."""

    _STEP = 0.25
    _LEAST, _MOST = 1.5, 2.5

    def learn(self, responses: Iterable[int]) -> None:
        """Response lengths from before: of the last step, or of the one a resumed run stopped at."""
        for response in responses:
            self.grew(0, response)
            self.finished(response)

    def bucket(self, response: int) -> int:
        return min(response * BUCKETS // self.limit, BUCKETS - 1)

    def tokens(self, held: Iterable[tuple[int, int]]) -> float:
        counts, sizes = [0] * BUCKETS, [0.0] * BUCKETS
        for prompt, length in held:
            here = (length - prompt) * BUCKETS // self.limit
            if here >= BUCKETS:
                here = BUCKETS - 1
            counts[here] += 1
            sizes[here] += length
        present = [(b, counts[b], sizes[b]) for b in range(BUCKETS) if counts[b]]
        survival, step = self.survival(), self.limit / BUCKETS
        highest = sum(sizes)
        for ahead in range(1, BUCKETS):
            grown, mean, variance = ahead * step, 0.0, 0.0
            for b, count, size in present:
                if b + ahead >= BUCKETS:
                    break
                alive = survival[b + ahead] / survival[b]
                then = size + count * grown
                mean += alive * then
                variance += alive * (1.0 - alive) * then * then / count
            highest = max(highest, mean + self.deviations * math.sqrt(variance))
        return highest

    def survival(self) -> list[float]:
        """The share of responses that reach the start of each bucket; recomputed when a tenth is new."""
        if not self._survival or self._evidence > 1.1 * self._considered:
            share, self._survival, self._considered = 1.0, [], self._evidence
            for b in range(BUCKETS):
                self._survival.append(max(share, 1e-9))
                prior = _PRIOR_POWER / (BUCKETS - b - 0.5)
                share *= math.exp(-(self._ended[b] + _PRIOR * prior) / (self._passed[b] + _PRIOR))
        return self._survival

    def grew(self, before: int, after: int) -> None:
        first, last, passed = self.bucket(before), self.bucket(after), self._passed
        start, end = before * BUCKETS / self.limit, after * BUCKETS / self.limit
        self._evidence += end - start
        if first == last:
            passed[first] += end - start
            return
        passed[first] += first + 1 - start
        for b in range(first + 1, last):
            passed[b] += 1.0
        passed[last] += end - last

    def finished(self, response: int) -> None:
        self._ended[self.bucket(response)] += 1.0
        self._evidence += 1.0
        self.deviations = max(self._LEAST, self.deviations - self._STEP * self.tolerated)
        if sum(self._ended) > _REMEMBERED:
            self._ended = [count / 2 for count in self._ended]
            self._passed = [count / 2 for count in self._passed]
            self._evidence /= 2
            self._considered /= 2

    def preempted(self) -> None:
        self.deviations = min(self._MOST, self.deviations + self._STEP)
