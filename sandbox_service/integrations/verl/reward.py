"""The reward of Eq. 3 as a verl reward manager, `sandbox_verify`: the answer is checked in the service.

It reads the answer that `rstar2` found. For another agent loop it looks in the last assistant turn, which no tool
wrote. An answer that the service could not check raises: verl counts the session as failed, and nobody as wrong.
"""

from __future__ import annotations

from typing import Any

from verl import DataProto
from verl.experimental.reward_loop.reward_manager import register
from verl.experimental.reward_loop.reward_manager.base import RewardManagerBase

from sandbox_service.integrations import episode
from sandbox_service.integrations.verl.hooks import fits
from sandbox_service.integrations.verl.settings import client
from sandbox_service.trainer.prompts import extract_answer

fits("reward")
_TURN = "<|im_start|>assistant"


@register("sandbox_verify")
class VerifyRewardManager(RewardManagerBase):
    def __init__(self, config: Any, tokenizer: Any, compute_score: Any = None, **_: Any) -> None:
        super().__init__(config, tokenizer, compute_score)
        self._sandbox = client(config)

    async def run_single(self, data: DataProto) -> dict[str, Any]:
        """The reward of a session, by its last sequence: `{"reward_score", "reward_extra_info"}`."""
        row = data[-1:][0]
        facts = row.non_tensor_batch.get("tool_extra_fields") or {}
        answer = facts["answer"] if "answer" in facts else extract_answer(self._last_turn(row))
        reference = str(row.non_tensor_batch["reward_model"]["ground_truth"])
        score = await episode.reward(self._sandbox, answer, reference)
        return {"reward_score": score, "reward_extra_info": {"acc": score, "answered": float(answer is not None)}}

    def _last_turn(self, row: Any) -> str:
        responses = row.batch["responses"]
        length = int(row.batch["attention_mask"][-responses.shape[-1] :].sum())
        return str(self.tokenizer.decode(responses[:length], skip_special_tokens=False)).rpartition(_TURN)[2]
