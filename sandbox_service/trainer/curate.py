"""What of the data is kept for training (paper 4.1): integer answers, answers that a model confirms, nothing of the
evaluation sets. Pure, no I/O."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from sandbox_service.trainer.sources import Dropped

CONFIRMED = 2
"""Of 16 answers by a strong model (the paper's: Qwen3-32B), this many at least must be the label."""
LONGEST = 100
"""Digits of an answer; the paper's verifiers ran out of time with 6.5e27330467 and gives no figure."""
NGRAM = 8
_INTEGER = re.compile(r"[+-]?(?:\d+|\d{1,3}(?:,\d{3})+)", re.ASCII)
_HUGE = re.compile(r"[+-]?\d+(?:\.\d+)?(?:[eE]\+?\d+|\s*(?:\\times|\\cdot|\*)\s*10\^.*)", re.ASCII)

Gram = tuple[str, ...]


def integer(answer: str) -> str:
    """The answer in its one spelling: `$1,234$` is 1234. Dropped if it is no integer, or a huge one."""
    text = answer.strip().strip("$").strip().replace("{,}", ",").replace("\\!", "")
    boxed = re.fullmatch(r"\\boxed\{(.*)\}", text)
    text = (boxed[1] if boxed else text).strip()
    if _HUGE.fullmatch(text) or (_INTEGER.fullmatch(text) and len(text) > LONGEST):
        raise Dropped("a huge number")
    if not _INTEGER.fullmatch(text):
        raise Dropped("no integer answer")
    return str(int(text.replace(",", "")))


def confirmed(label: str, answers: Iterable[str | None]) -> bool:
    """Whether at least CONFIRMED of the answers are the label, an integer as `integer` spells it."""
    return sum(_same(label, answer) for answer in answers) >= CONFIRMED


def _same(label: str, answer: str | None) -> bool:
    try:
        return answer is not None and integer(answer) == label
    except Dropped:
        return False


def grams(text: str) -> set[Gram]:
    """All runs of 8 words, without case and punctuation; a shorter text is one run."""
    words: Sequence[str] = re.findall(r"\w+", text.lower())
    return {tuple(words[at : at + NGRAM]) for at in range(max(1, len(words) - NGRAM + 1))} if words else set()
