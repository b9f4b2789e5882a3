"""The local engine: one copy of the policy, continuous batching, a fixed budget of KV cache with real preemption.

Each pass takes every rollout that has something to generate one token further, those that came in since the last pass
included; what a rollout has not in the cache yet (its prompt, a tool's response, all of it after a preemption) is
computed first. The passes run in a thread, so that tool calls are sent and answered meanwhile.

Invariants, between passes: the cache holds at most `capacity_tokens` tokens; rollouts are admitted by age, and the
oldest that generates is never preempted, so each one comes to its end. The budget counts tokens, as a paged cache
would; rows are padded to a common length in memory, which is simpler and on a CPU no slower.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Literal

import torch
from torch import Tensor

from sandbox_service.trainer.inference import EngineLost, Generation, Sampling, Stop
from sandbox_service.trainer.model import Cache, Policy

Eviction = Literal["newest", "half"]
"""newest: one after the other, until there is room, those that wait for a tool first. half: half of what generates,
as SGLang did in the paper's baseline."""
_PREFILL_TOKENS = 16_384


@dataclass(eq=False)
class _Request:
    max_new: int
    sampling: Sampling
    future: asyncio.Future[Generation]
    start: int = 0
    """The position of its first token."""
    tokens: list[int] = field(default_factory=list)
    logprobs: list[float] = field(default_factory=list)
    stop: Stop | None = None


@dataclass(eq=False)
class _Row:
    """One rollout. Its cache is row `LocalEngine._placed.index(row)`, if it has one."""

    age: int
    known: list[int]
    """All its tokens; the first `cached` of them are in the cache."""
    cached: int = 0
    lost: int = 0
    """Tokens whose cache was taken away, to be computed again."""
    preempted: int = 0
    request: _Request | None = None
    """None: it waits for a tool."""

    @property
    def room(self) -> int:
        """Tokens it holds in the cache after the next pass."""
        return len(self.known) if self.request else self.cached


class LocalEngine:
    """See `inference.Engine`. Weights may change only while no rollout is held."""

    def __init__(
        self, policy: Policy, capacity_tokens: int, *, name: str = "local", evict: Eviction = "newest"
    ) -> None:
        self.name, self.capacity_tokens = name, capacity_tokens
        self.preemptions = self.recomputed_tokens = self.generated_tokens = 0
        self._policy, self._evict = policy, evict
        self._cache = Cache(policy.shape, policy.device)
        self._rows: dict[str, _Row] = {}
        self._placed: list[_Row] = []
        self._ages = 0
        self._lost = False
        self._pump: asyncio.Task[None] | None = None
        self._thread = ThreadPoolExecutor(1, thread_name_prefix=f"engine-{name}")

    @property
    def used_tokens(self) -> int:
        return sum(row.cached for row in self._rows.values())

    async def generate(self, rollout: str, tokens: Sequence[int], max_new: int, sampling: Sampling) -> Generation:
        if self._lost:
            raise EngineLost(self.name)
        most = min(self.capacity_tokens, self._policy.shape.positions)
        if not tokens or max_new < 1 or len(tokens) + max_new > most:
            raise ValueError(f"{len(tokens)} + {max_new} tokens do not fit engine {self.name}, which holds {most}")
        row = self._rows.get(rollout)
        if row is None:
            row = self._rows[rollout] = _Row(self._ages, [])
            self._ages += 1
        if row.request is not None or row.known != list(tokens[: len(row.known)]):
            raise ValueError(f"rollout {rollout} is generating already, or its tokens are not a continuation")
        row.known = list(tokens)
        row.request = _Request(max_new, sampling, asyncio.get_running_loop().create_future(), len(tokens))
        if self._pump is None:
            self._pump = asyncio.create_task(self._run(), name=f"engine {self.name}")
        return await row.request.future

    def release(self, rollout: str) -> None:
        row = self._rows.pop(rollout, None)
        if row is not None and row.request is not None:
            row.request.future.cancel()

    def close(self, why: Exception | None = None) -> None:
        """Lose the engine: whatever it is generating ends with EngineLost, for which `why` is the cause."""
        self._lost = True
        lost = EngineLost(self.name)
        lost.__cause__ = why
        for row in self._rows.values():
            if row.request is not None and not row.request.future.done():
                row.request.future.set_exception(lost)
        self._rows.clear()
        self._thread.shutdown(wait=False)

    # ---- between passes, in the event loop ------------------------------------------------------------------------

    async def _run(self) -> None:
        """Pass after pass, until there is nothing to generate."""
        loop = asyncio.get_running_loop()
        try:
            while not self._lost and (active := self._arrange()):
                await loop.run_in_executor(self._thread, self._pass, active)
                for row in active:
                    self._deliver(row)
                await asyncio.sleep(0)  # who was answered and asks for more at once is in the next pass
        except Exception as error:
            self.close(error)
        finally:
            self._pump = None

    def _arrange(self) -> list[_Row]:
        """Drop, preempt and admit; return the rows to compute, which then are the first rows of the cache."""
        held = {id(row) for row in self._rows.values()}
        for row in [row for row in self._placed if id(row) not in held]:
            self._displace(row)
        self._make_room()
        self._admit()
        active = [row for row in self._placed if row.request]
        self._cache.reserve(len(self._placed), max((len(row.known) for row in self._placed), default=0))
        for index, row in enumerate(active):
            self._move(row, index)
        return self._placed[: len(active)]

    def _make_room(self) -> None:
        while sum(row.room for row in self._placed) > self.capacity_tokens:
            active = sorted((row for row in self._placed if row.request), key=lambda row: row.age)
            parked = [row for row in self._placed if not row.request]
            if self._evict == "half":
                victims = active[-(len(active) // 2) :] if len(active) > 1 else parked
            else:
                victims = [max(parked or active, key=lambda row: row.age)]
            for row in victims:
                self._preempt(row)

    def _admit(self) -> None:
        waiting = [row for row in self._rows.values() if row.request and row not in self._placed]
        for row in sorted(waiting, key=lambda row: row.age):
            active = sum(row.request is not None for row in self._placed)
            while not active and self._placed and not self._fits(row, 0):
                self._preempt(max(self._placed, key=lambda row: row.age))  # all wait for tools
            if not self._fits(row, active):
                return
            self._placed.append(row)

    def _fits(self, row: _Row, active: int) -> bool:
        """With a token to spare for each that generates, or the next pass would preempt again."""
        return sum(row.room for row in self._placed) + row.room + active <= self.capacity_tokens

    def _preempt(self, row: _Row) -> None:
        self.preemptions += 1
        row.preempted += 1
        row.lost = max(row.lost, row.cached)
        self._displace(row)

    def _displace(self, row: _Row) -> None:
        self._move(row, len(self._placed) - 1)
        self._placed.pop()
        row.cached = 0

    def _move(self, row: _Row, target: int) -> None:
        """Exchange a row with the one at `target`."""
        source = next(index for index, other in enumerate(self._placed) if other is row)
        if source != target:
            other = self._placed[target]
            self._cache.swap(source, target, max(row.cached, other.cached))
            self._placed[source], self._placed[target] = other, row

    def _deliver(self, row: _Row) -> None:
        request = row.request
        if request is None or request.stop is None:
            return
        row.request = None
        if not request.future.done():
            request.future.set_result(Generation(request.tokens, request.logprobs, request.stop, row.preempted))

    # ---- one pass, in the thread ----------------------------------------------------------------------------------

    @torch.no_grad()  # not inference_mode: its tensors could not be moved between passes
    def _pass(self, active: list[_Row]) -> None:
        self._policy.eval()
        self._prefill([(index, row) for index, row in enumerate(active) if len(row.known) - row.cached > 1])
        tokens = torch.tensor([row.known[-1:] for row in active])
        lengths = torch.tensor([row.cached for row in active])
        requests = [row.request for row in active if row.request]
        chosen, logprobs = sample(self._policy.extend(tokens, lengths, self._cache), requests)
        for row, request, token, logprob in zip(active, requests, chosen, logprobs, strict=True):
            row.cached += 1
            row.known.append(token)
            request.tokens.append(token)
            request.logprobs.append(logprob)
            if token in request.sampling.stop:
                request.stop = Stop.END
            elif len(request.tokens) == request.max_new:
                request.stop = Stop.LENGTH
        self.generated_tokens += len(active)

    def _prefill(self, rows: list[tuple[int, _Row]]) -> None:
        """Compute all but the last token of each row. Rows with the same beginning (a group) are computed once."""
        copies: list[tuple[int, _Row, int]] = []
        first: dict[tuple[int, ...], int] = {}
        part: list[tuple[int, _Row]] = []
        for index, row in rows:
            if not row.cached:
                source = first.setdefault(tuple(row.known[:-1]), index)
                if source != index:
                    copies.append((source, row, index))
                    continue
            part.append((index, row))
        part.sort(key=lambda entry: len(entry[1].known) - entry[1].cached)
        while part:
            longest = len(part[-1][1].known) - part[-1][1].cached
            size = max(1, _PREFILL_TOKENS // longest)
            self._compute(part[-size:])
            del part[-size:]
        for source, row, index in copies:
            self._cache.copy(source, index, len(row.known) - 1)
            self._cached(row)

    def _compute(self, part: list[tuple[int, _Row]]) -> None:
        fresh = [row.known[row.cached : -1] for _, row in part]
        longest = max(map(len, fresh))
        self._cache.reserve(len(self._placed), max(row.cached for _, row in part) + longest)
        tokens = torch.tensor([[*new, *[0] * (longest - len(new))] for new in fresh])
        lengths = torch.tensor([row.cached for _, row in part])
        self._policy.fill(tokens, lengths, torch.tensor([index for index, _ in part]), self._cache)
        for _, row in part:
            self._cached(row)

    def _cached(self, row: _Row) -> None:
        row.cached = len(row.known) - 1
        self.recomputed_tokens += min(row.lost, row.cached)
        row.lost = 0


def sample(logits: Tensor, requests: Sequence[_Request]) -> tuple[list[int], list[float]]:
    """Draw a token for each row of `logits` (rows, vocabulary): tokens, and their log-probabilities.

    By inverting the distribution function at one number per row, which is that of its seed and position: a rollout
    that goes on elsewhere, or in other pieces, draws the same.
    """
    temperature = torch.tensor([request.sampling.temperature for request in requests], device=logits.device)
    greedy = temperature == 0
    logprobs = torch.log_softmax(logits / temperature.where(~greedy, 1.0)[:, None], -1)
    point = torch.tensor([[_uniform(request)] for request in requests], device=logits.device)
    cumulative = logprobs.exp().cumsum(-1)
    drawn = torch.searchsorted(cumulative, point * cumulative[:, -1:], right=True)[:, 0].clamp(max=logits.shape[1] - 1)
    tokens = torch.where(greedy, logprobs.argmax(-1), drawn)
    chosen: list[int] = tokens.tolist()
    found: list[float] = logprobs.gather(1, tokens[:, None])[:, 0].tolist()
    return chosen, found


def _uniform(request: _Request) -> float:
    position = request.start + len(request.tokens)
    digest = hashlib.blake2b(f"{request.sampling.seed}/{position}".encode(), digest_size=8).digest()
    return int.from_bytes(digest) / 2**64
