"""verl's own configuration, and a model server that says what a script tells it to."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import hydra
import verl
from omegaconf import DictConfig
from verl.workers.rollout.replica import TokenOutput

from sandbox_service.trainer.prompts import IM_END


def compose(overrides: Sequence[str]) -> DictConfig:
    """verl's `ppo_trainer` with overrides, as its command line composes it."""
    with hydra.initialize_config_dir(str(Path(verl.__file__).parent / "trainer/config"), version_base=None):
        return hydra.compose("ppo_trainer", list(overrides))


class ScriptedServer:
    """In place of verl's `LLMServerClient`: the turns of a rollout are those of its script, token by token."""

    def __init__(self, tokenizer: Any, script: Callable[[str], Sequence[str]]) -> None:
        self._tokenizer, self._script = tokenizer, script
        self._turns: dict[str, Iterator[str]] = {}
        self.seen: dict[str, list[list[int]]] = {}
        """The prompts of each rollout."""

    async def generate(self, request_id: str, *, prompt_ids: list[int], sampling_params: Any, **_: Any) -> TokenOutput:
        prompt = self._tokenizer.decode(prompt_ids)
        if request_id not in self._turns:
            self._turns[request_id] = iter(self._script(prompt))
        self.seen.setdefault(request_id, []).append(list(prompt_ids))
        tokens = self._tokenizer.encode(next(self._turns[request_id]) + IM_END, add_special_tokens=False)
        tokens = tokens[: sampling_params["max_tokens"]]
        steps = {"min_global_steps": 1, "max_global_steps": 1}
        return TokenOutput(token_ids=tokens, log_probs=[-0.5] * len(tokens), extra_fields=steps)
