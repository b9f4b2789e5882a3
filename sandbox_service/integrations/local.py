"""A Hugging Face model in this process as an engine for `episode.play`: what is asked for at one time is one batch."""

from __future__ import annotations

import asyncio
from typing import Any

import torch

from sandbox_service.integrations.episode import Sampled
from sandbox_service.trainer.prompts import IM_END

_GATHER_S = 0.05


class Batches:
    """`model` is anything with Hugging Face's `generate`; its tokenizer needs `<|im_end|>` and a padding token."""

    def __init__(self, model: Any, tokenizer: Any, temperature: float) -> None:
        self._model, self._temperature = model, temperature
        self._end, self._pad = tokenizer.convert_tokens_to_ids(IM_END), tokenizer.pad_token_id
        self._asked: list[tuple[list[int], int, asyncio.Future[Sampled]]] = []

    async def generate(self, tokens: list[int], room: int) -> Sampled:
        """One turn. Who asks within 50 ms is generated together, left-padded; the event loop waits meanwhile."""
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[Sampled] = loop.create_future()
        self._asked.append((tokens, room, answer))
        if len(self._asked) == 1:
            loop.call_later(_GATHER_S, self._run)
        return await answer

    def _run(self) -> None:
        asked, self._asked = self._asked, []
        try:
            rows = self._rows([tokens for tokens, _, _ in asked], max(room for _, room, _ in asked))
        except Exception as error:
            for _, _, answer in asked:
                answer.set_exception(error)
            return
        for row, (_, room, answer) in zip(rows, asked, strict=True):
            length = row.index(self._end) + 1 if self._end in row else len(row)
            if not answer.done():
                answer.set_result(Sampled(row[: min(length, room)]))

    def _rows(self, prompts: list[list[int]], room: int) -> list[list[int]]:
        longest = max(map(len, prompts))
        ids = torch.tensor([[self._pad] * (longest - len(prompt)) + prompt for prompt in prompts])
        mask = torch.tensor([[0] * (longest - len(prompt)) + [1] * len(prompt) for prompt in prompts])
        how = {"do_sample": True, "temperature": self._temperature} if self._temperature else {"do_sample": False}
        with torch.no_grad():
            found = self._model.generate(
                input_ids=ids.to(self._model.device), attention_mask=mask.to(self._model.device), max_new_tokens=room,
                eos_token_id=self._end, pad_token_id=self._pad, **how,
            )  # fmt: skip
        rows: list[list[int]] = found[:, longest:].tolist()
        return rows
