"""Text to tokens and back: a byte-level BPE trained on traces, kept as a Hugging Face `tokenizer.json`.

Digits are tokens of their own (whole numbers as tokens generalise worse), words mostly one, markup always one, and
the fixed head and tail of a tool call one each: a small model has no capacity to spell them. Rollouts are built from
tokens and never tokenised again.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers, trainers

from sandbox_service.trainer.prompts import CALL_HEAD, CALL_TAIL, IM_END, MARKUP, TOOL_CALL_END, Piece

PAD = "<|pad|>"
_SPECIAL = (PAD, *MARKUP, CALL_HEAD, CALL_TAIL, "\\boxed{")
_WORDS = Regex(r" ?[A-Za-z_]+|\d|.|\n")
FILE = "tokenizer.json"


class Tokens:
    """A tokenizer and the ids that the rollout loop needs."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer
        self.end = self._id(IM_END)
        self.call_end = self._id(TOOL_CALL_END)
        self.pad = self._id(PAD) if tokenizer.token_to_id(PAD) is not None else self.end
        self.size: int = tokenizer.get_vocab_size()

    @classmethod
    def train(cls, texts: Iterable[str], size: int) -> Tokens:
        """Learn merges from traces; the same texts give the same tokenizer."""
        tokenizer = Tokenizer(models.BPE())
        to_bytes = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
        tokenizer.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.Split(_WORDS, "isolated"), to_bytes])
        tokenizer.decoder = decoders.ByteLevel()
        special = [AddedToken(text, special=True, normalized=False) for text in _SPECIAL]
        alphabet = pre_tokenizers.ByteLevel.alphabet()
        tokenizer.train_from_iterator(
            texts,
            trainers.BpeTrainer(
                vocab_size=size, special_tokens=special, initial_alphabet=sorted(alphabet), show_progress=False
            ),
        )
        return cls(tokenizer)

    @classmethod
    def load(cls, folder: Path) -> Tokens:
        return cls(Tokenizer.from_file(str(folder / FILE)))

    def save(self, folder: Path) -> None:
        self._tokenizer.save(str(folder / FILE))

    def encode(self, pieces: Iterable[Piece]) -> list[int]:
        """Tokens of a prompt; markup in text that is not ours stays plain characters."""
        found: list[int] = []
        for piece in pieces:
            self._tokenizer.encode_special_tokens = not piece.markup
            found += self._tokenizer.encode(piece.text, add_special_tokens=False).ids
        return found

    def decode(self, tokens: Sequence[int]) -> str:
        return str(self._tokenizer.decode(list(tokens), skip_special_tokens=False))

    def _id(self, text: str) -> int:
        found = self._tokenizer.token_to_id(text)
        if found is None:
            raise ValueError(f"the tokenizer has no token {text!r}: it was not made for these prompts")
        return int(found)
