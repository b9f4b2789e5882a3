"""The local engine: what it generates never depends on what else it does."""

from __future__ import annotations

import asyncio
import random
from collections import Counter

import pytest
import torch

from sandbox_service.trainer.engine import Eviction, LocalEngine, _Request, sample
from sandbox_service.trainer.inference import EngineLost, Generation, Sampling, Stop
from sandbox_service.trainer.model import Policy

NEVER = frozenset[int]()


def sampling(index: int, temperature: float = 1.0, stop: frozenset[int] = NEVER) -> Sampling:
    return Sampling(temperature, stop, seed=f"seed/{index}")


def prompt(index: int) -> list[int]:
    rng = random.Random(index)
    return [rng.randrange(64) for _ in range(4 + index % 7)]


async def conversation(engine: LocalEngine, index: int) -> tuple[list[int], list[float]]:
    """Two turns with a tool's response between them."""
    name, tokens, logprobs = f"rollout-{index}", prompt(index), list[float]()
    for turn in range(2):
        made = await engine.generate(name, tokens, 5 + index % 5, sampling(index))
        tokens, logprobs = tokens + made.tokens, logprobs + made.logprobs
        if turn == 0:
            await asyncio.sleep(0.001 * (index % 3))
            tokens = [*tokens, 1, 2, 3]
    engine.release(name)
    return tokens, logprobs


async def test_it_generates_what_the_policy_says_greedily(policy: Policy) -> None:
    engine = LocalEngine(policy, 1000)
    made = await engine.generate("a", prompt(0), 10, sampling(0, temperature=0))
    tokens = prompt(0)
    with torch.no_grad():
        for _ in range(10):
            tokens.append(int(policy(torch.tensor([tokens]))[0, -1].argmax()))
        logits = policy(torch.tensor([tokens[:-1]]))[0]
    assert made.tokens == tokens[len(prompt(0)) :]
    assert (made.stop, made.preempted) == (Stop.LENGTH, 0)
    expected = torch.log_softmax(logits, -1)[range(3, 13), tokens[4:]]
    assert made.logprobs == pytest.approx(expected.tolist(), abs=1e-4)


@pytest.mark.parametrize("evict", ["newest", "half"])
async def test_neighbours_and_preemptions_change_nothing(policy: Policy, evict: Eviction) -> None:
    """Ten conversations alone, together, and together in a cache for three of them."""
    roomy = LocalEngine(policy, 10_000)
    alone = [await conversation(roomy, index) for index in range(10)]
    together = await asyncio.gather(*(conversation(roomy, index) for index in range(10)))
    tight = LocalEngine(policy, 100, evict=evict)
    squeezed = await asyncio.gather(*(conversation(tight, index) for index in range(10)))
    for one, two, three in zip(alone, together, squeezed, strict=True):
        assert one[0] == two[0] == three[0]
        assert two[1] == pytest.approx(one[1], abs=1e-4)
        assert three[1] == pytest.approx(one[1], abs=1e-4)
    assert (roomy.preemptions, roomy.recomputed_tokens) == (0, 0)
    assert tight.preemptions > 0
    assert tight.recomputed_tokens > 0
    assert roomy.used_tokens == tight.used_tokens == 0


async def test_the_budget_holds_at_every_pass(policy: Policy, monkeypatch: pytest.MonkeyPatch) -> None:
    engine, seen, plain = LocalEngine(policy, 100), list[int](), LocalEngine._pass

    def watched(self: LocalEngine, active: list[object]) -> None:
        plain(self, active)  # type: ignore[arg-type]
        seen.append(self.used_tokens)

    monkeypatch.setattr(LocalEngine, "_pass", watched)
    await asyncio.gather(*(conversation(engine, index) for index in range(8)))
    assert 80 < max(seen) <= 100


async def test_rows_move_after_the_cache_has_grown_in_a_pass(policy: Policy) -> None:
    """A long row and a long prompt, padded together, need more columns than either; then the long row ends first.

    What a pass allocated could not be written between passes, while it ran in inference mode.
    """
    engine = LocalEngine(policy, 1000)
    start = await engine.generate("long", [3] * 55, 1, sampling(0))
    tokens = [3] * 55 + start.tokens + [5, 6]
    _, prompted = await asyncio.gather(
        engine.generate("long", tokens, 1, sampling(0)), engine.generate("other", [7] * 30, 4, sampling(1))
    )
    alone = await LocalEngine(policy, 1000).generate("other", [7] * 30, 4, sampling(1))
    assert prompted.tokens == alone.tokens


async def test_a_pass_that_fails_loses_the_engine_and_says_why(policy: Policy, monkeypatch: pytest.MonkeyPatch) -> None:
    engine = LocalEngine(policy, 1000)
    monkeypatch.setattr(policy, "extend", None)
    with pytest.raises(EngineLost) as lost:
        await engine.generate("a", [1, 2], 4, sampling(0))
    assert isinstance(lost.value.__cause__, TypeError)


async def test_it_ends_at_a_stop_token(policy: Policy) -> None:
    engine = LocalEngine(policy, 1000)
    made = await engine.generate("a", prompt(0), 20, sampling(0))
    stop = made.tokens[3]
    again = await engine.generate("b", prompt(0), 20, sampling(0, stop=frozenset({stop})))
    assert again.tokens == made.tokens[: made.tokens.index(stop) + 1]
    assert again.stop is Stop.END


async def test_what_could_never_fit_is_refused(policy: Policy) -> None:
    engine = LocalEngine(policy, 50)
    with pytest.raises(ValueError, match="do not fit"):
        await engine.generate("a", [1] * 40, 11, sampling(0))
    with pytest.raises(ValueError, match="do not fit"):
        await LocalEngine(policy, 5000).generate("a", [1] * 90, 7, sampling(0))
    await engine.generate("a", [1, 2], 4, sampling(0))
    with pytest.raises(ValueError, match="not a continuation"):
        await engine.generate("a", [2, 2], 4, sampling(0))


async def test_a_lost_engine_says_so_and_another_goes_on_with_the_same_draws(policy: Policy) -> None:
    whole = await conversation(LocalEngine(policy, 1000), 3)
    first, second = LocalEngine(policy, 1000), LocalEngine(policy, 1000)
    made = await first.generate("a", prompt(3), 8, sampling(3))
    tokens = prompt(3) + made.tokens + [1, 2, 3]
    turn = asyncio.ensure_future(first.generate("a", tokens, 8, sampling(3)))
    await asyncio.sleep(0)
    first.close()
    with pytest.raises(EngineLost):
        await turn
    rest: Generation = await second.generate("a", tokens, 8, sampling(3))
    assert tokens + rest.tokens == whole[0]


async def test_a_cancelled_rollout_leaves_nothing(policy: Policy) -> None:
    engine = LocalEngine(policy, 1000)
    task = asyncio.ensure_future(engine.generate("a", prompt(0), 60, sampling(0)))
    other = asyncio.ensure_future(engine.generate("b", prompt(1), 60, sampling(1)))
    await asyncio.sleep(0.01)
    engine.release("a")
    with pytest.raises(asyncio.CancelledError):
        await task
    await other
    engine.release("b")
    assert engine.used_tokens == 0


async def test_a_turn_in_pieces_is_the_same_turn(policy: Policy) -> None:
    engine = LocalEngine(policy, 1000)
    whole = await engine.generate("a", prompt(0), 20, sampling(0))
    tokens = prompt(0)
    for piece in (7, 12, 1):
        tokens += (await engine.generate("b", tokens, piece, sampling(0))).tokens
    assert tokens == prompt(0) + whole.tokens


async def test_draws_follow_the_distribution() -> None:
    """Chi-square with 3 degrees of freedom, at temperature 2."""
    logits, draws = torch.tensor([[0.0, 1.0, 2.0, 3.0]]), 4000
    expected = torch.softmax(logits[0] / 2, -1)
    loop = asyncio.get_running_loop()
    rows = [_Request(1, sampling(index, temperature=2.0), loop.create_future()) for index in range(draws)]
    tokens, logprobs = sample(logits.expand(draws, -1), rows)
    seen = Counter(tokens)
    assert sum((seen[i] - draws * p) ** 2 / (draws * p) for i, p in enumerate(expected.tolist())) < 16
    assert logprobs[0] == pytest.approx(expected.log()[tokens[0]].item(), abs=1e-5)
