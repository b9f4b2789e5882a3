"""Which rollouts of a group are trained on."""

from __future__ import annotations

import itertools
import random
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sandbox_service.trainer.roc import Rule, Selection, select

PAPER = Selection(keep=16)


def chosen(right: int, wrong: int, how: Selection = PAPER, seed: object = 0) -> tuple[int, int] | None:
    """(positives kept, negatives kept) of a group without penalties; None if it is dropped."""
    rewards = [1.0] * right + [0.0] * wrong
    kept = select(rewards, [0.0] * len(rewards), how, random.Random(str(seed)))
    return None if kept is None else (sum(index < right for index in kept), sum(index >= right for index in kept))


@pytest.mark.parametrize(
    ("right", "wrong", "kept"),
    [
        (16, 16, (8, 8)),
        (20, 12, (10, 6)),
        (19, 13, (10, 6)),  # floor of the negatives is ceil of the positives
        (1, 31, (1, 15)),
        (31, 1, (15, 1)),  # floor(1/2) is 0: the quota keeps the signal
        (30, 2, (15, 1)),
        (32, 0, None),
        (0, 32, None),
        (16, 15, (9, 7)),  # one rollout lost: still 16 of 31
        (10, 10, (5, 5)),  # 12 lost: half of what is left
        (1, 1, None),  # one kept of two: no signal
        (1, 2, (1, 1)),
        (2, 1, (1, 1)),
    ],
)
def test_how_many_of_each(right: int, wrong: int, kept: tuple[int, int] | None) -> None:
    assert chosen(right, wrong) == kept


def test_the_letter_of_the_paper_loses_a_group_with_one_wrong_rollout() -> None:
    assert chosen(31, 1, Selection(keep=16, at_least=0)) is None


def test_the_quota_of_the_authors_code() -> None:
    assert chosen(30, 2, Selection(keep=16, at_least=2)) == (14, 2)
    assert chosen(2, 30, Selection(keep=16, at_least=2)) == (2, 14)


def test_plain_grpo_keeps_all() -> None:
    assert chosen(3, 29, Selection(keep=16, rule="all")) == (3, 29)
    assert chosen(32, 0, Selection(keep=16, rule="all")) is None


@given(
    st.lists(st.tuples(st.booleans(), st.floats(0, 2)), max_size=64),
    st.sampled_from(["roc", "topk", "uniform", "all"]),
    st.integers(2, 32),
    st.integers(0, 2),
)
def test_every_selection_is_a_subset_with_signal(
    group: list[tuple[bool, float]], rule: Rule, keep: int, at_least: int
) -> None:
    rewards, penalties = [float(right) for right, _ in group], [penalty for _, penalty in group]
    how = Selection(keep, rule, at_least=at_least)
    kept = select(rewards, penalties, how, random.Random(0))
    assert kept == select(rewards, penalties, how, random.Random(0))
    if kept is None:
        return
    assert len(kept) == len(set(kept))
    assert set(kept) <= set(range(len(group)))
    assert {rewards[index] for index in kept} == {0.0, 1.0}
    assert len(kept) == (len(group) if rule == "all" else min(keep, (len(group) + 1) // 2))


def law(weights: list[float], count: int) -> dict[frozenset[int], float]:
    """The exact law of drawing `count` one after the other without replacement."""
    found: dict[frozenset[int], float] = Counter()
    for order in itertools.permutations(range(len(weights)), count):
        probability, left = 1.0, sum(weights)
        for index in order:
            probability *= weights[index] / left
            left -= weights[index]
        found[frozenset(order)] += probability
    return found


def test_positives_follow_the_law_of_drawing_without_replacement() -> None:
    """Chi-square over all 20 subsets of 3 of 6, against the law with weights 1 / (p + 0.05)."""
    penalties = [0.0, 0.0, 0.25, 0.5, 0.5, 1.0]
    rewards = [1.0] * 6 + [0.0] * 6
    expected = law([1 / (penalty + 0.05) for penalty in penalties], 3)
    draws, how, rng = 20_000, Selection(keep=6), random.Random(7)
    seen: Counter[frozenset[int]] = Counter()
    for _ in range(draws):
        kept = select(rewards, penalties + [0.0] * 6, how, rng)
        assert kept is not None
        seen[frozenset(index for index in kept if index < 6)] += 1
    likely = {subset: p for subset, p in expected.items() if p * draws >= 5}
    chi_square = sum((seen[subset] - p * draws) ** 2 / (p * draws) for subset, p in likely.items())
    assert chi_square < 45  # 19 degrees of freedom: exceeded once in 1,500 seeds, and this seed is fixed


@pytest.mark.parametrize("rule", ["roc", "uniform"])
def test_negatives_are_drawn_uniformly_whatever_their_penalty(rule: Rule) -> None:
    rng, seen = random.Random(3), Counter[int]()
    for _ in range(4000):
        kept = select([1.0, 1.0, 0, 0, 0, 0], [0.0, 0.0, 2.0, 0.0, 1.0, 0.5], Selection(3, rule), rng)
        assert kept is not None
        seen.update(index for index in kept if index >= 2)
    assert all(abs(seen[index] / 4000 - 0.5) < 0.04 for index in range(2, 6))


def test_a_clean_rollout_is_preferred_eleven_to_one() -> None:
    rng, clean = random.Random(11), 0
    for _ in range(6000):
        kept = select([1.0, 1.0, 0.0, 0.0], [0.0, 0.5, 0.0, 0.0], Selection(2), rng)
        assert kept is not None
        clean += 0 in kept
    assert abs(clean / 6000 - 11 / 12) < 0.015


def test_topk_takes_the_cleanest_in_order() -> None:
    kept = select([1.0] * 4 + [0.0] * 4, [1.0, 0.0, 0.5, 0.0] + [0.0] * 4, Selection(4, "topk"), random.Random(0))
    assert kept is not None
    assert kept[:2] == [1, 3]
