"""The paper's rollout as a verl agent loop, `rstar2`: its prompt, its tool format, tools run in the service.

What RoC and the reward need goes into `extra_fields` as facts (`Episode.facts`). A call that the service could not
run raises out of `run`: verl counts the session as failed and stores no trajectory of it.
"""

from __future__ import annotations

import logging
from typing import Any
from uuid import uuid4

from verl.experimental.agent_loop.agent_loop import AgentLoopBase, AgentLoopMetrics, AgentLoopOutput, register

from sandbox_service.integrations.episode import Bounds, HuggingFace, Sampled, play
from sandbox_service.integrations.verl.hooks import fits
from sandbox_service.integrations.verl.settings import client, section
from sandbox_service.trainer.prompts import IM_END, TEMPLATES

fits("agent_loop")
_log = logging.getLogger(__name__)


@register("rstar2")
class RStarAgentLoop(AgentLoopBase):
    """Reads `rollout.{prompt_length, response_length, multi_turn.max_assistant_turns}` and the section `sandbox`."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        rollout, found = self.rollout_config, section(self.config)
        self._template = TEMPLATES[found.get("template", "paper")]
        self._bounds = Bounds(
            max_tokens=rollout.response_length,
            turns=rollout.multi_turn.max_assistant_turns or 10,
            response_chars=int(found.get("response_chars", 1000)),
            wall_s=float(found.get("wall_s", 4.0)),
            prompt_tokens=rollout.prompt_length,
        )
        self._labels = {str(name): str(value) for name, value in (found.get("labels") or {}).items()}
        self._codec = HuggingFace(self.tokenizer)
        self._end = self.tokenizer.convert_tokens_to_ids(IM_END)
        self._sandbox = client(self.config)

    async def run(self, sampling_params: dict[str, Any], **kwargs: Any) -> AgentLoopOutput:
        request_id = uuid4().hex
        times: dict[str, Any] = {"num_preempted": -1}
        steps: dict[str, Any] = {}

        async def generate(tokens: list[int], room: int) -> Sampled:
            output = await self.server_manager.generate(
                request_id=request_id,
                prompt_ids=tokens,
                sampling_params={**sampling_params, "max_tokens": room, "stop_token_ids": [self._end]},
            )
            if output.num_preempted is not None:
                times["num_preempted"] = max(0, times["num_preempted"]) + output.num_preempted
            steps.setdefault("min_global_steps", output.extra_fields.get("min_global_steps"))
            steps["max_global_steps"] = output.extra_fields.get("max_global_steps")
            return Sampled(list(output.token_ids), output.log_probs)

        labels = {**self._labels, "request_id": request_id}
        try:
            played = await play(
                _question(kwargs["raw_prompt"]),
                self._template,
                self._bounds,
                self._codec,
                generate,
                self._sandbox,
                labels,
            )
        finally:
            self._tell_router(request_id)
        return AgentLoopOutput(
            prompt_ids=played.prompt,
            response_ids=played.response,
            response_mask=played.mask,
            response_logprobs=played.logprobs if sampling_params.get("logprobs") else None,
            num_turns=played.turns,
            metrics=AgentLoopMetrics(**times),
            extra_fields={**steps, **played.facts(), "request_id": request_id},
        )

    def _tell_router(self, request_id: str) -> None:
        """verl tells its router of turns, not of the end of a trajectory; ours wants to know (`router.KVRouter`)."""
        router = getattr(self.server_manager, "_load_balancer", None)
        ended = getattr(router, "trajectory_ended", None)
        if ended is not None:
            ended.remote(request_id)


def _question(messages: Any) -> str:
    """The question of a data set's row: its one user message."""
    found = [message for message in messages if message["role"] != "system"]
    if len(found) != 1 or found[0]["role"] != "user" or not isinstance(found[0]["content"], str):
        raise ValueError("a row's prompt must be one user message of text: the question; `rstar2` adds the rest")
    return str(found[0]["content"])
