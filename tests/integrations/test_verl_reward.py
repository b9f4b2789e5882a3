"""`sandbox_verify` after another agent loop than `rstar2`: the answer is looked for in what the policy wrote last."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("verl")
import torch
from tensordict import TensorDict
from transformers import AutoTokenizer
from verl import DataProto

from sandbox_service.errors import ServiceFault
from sandbox_service.integrations.verl.reward import VerifyRewardManager
from sandbox_service.models import Checked, CheckStatus, Verdicts
from tests.client.scripted import Answer, ScriptedServer
from tests.integrations.verl_running import compose

pytestmark = [pytest.mark.verl, pytest.mark.timeout(100, func_only=True)]
CALL = "<tool_call>print(6 * 7)</tool_call><|im_end|>\n<|im_start|>user\n"
SHOWN = "<tool_response><answer>\\boxed{42}</answer></tool_response><|im_end|>\n<|im_start|>assistant\n"


def session(folder: Path, texts: Sequence[str], **facts: Any) -> DataProto:
    """A session's sequences, padded as verl pads them, with what an agent loop left in `extra_fields`."""
    tokenizer = AutoTokenizer.from_pretrained(folder)
    rows = [torch.tensor(tokenizer.encode(text, add_special_tokens=False)) for text in texts]
    responses = torch.nn.utils.rnn.pad_sequence(rows, batch_first=True)
    lengths = torch.tensor([len(row) for row in rows])
    mask = (torch.arange(responses.shape[1])[None] < lengths[:, None]).long()
    prompts = torch.ones(len(rows), 3, dtype=torch.long)
    tensors = {"prompts": prompts, "responses": responses, "attention_mask": torch.cat([prompts, mask], 1)}
    named = {"tool_extra_fields": facts, "reward_model": {"style": "rule", "ground_truth": "42"}}
    return DataProto(TensorDict(tensors, batch_size=len(rows)),
                     {name: np.array([value] * len(rows), dtype=object) for name, value in named.items()})  # fmt: skip


def manager(folder: Path, url: str) -> VerifyRewardManager:
    return VerifyRewardManager(compose([f"+sandbox.url={url}"]), AutoTokenizer.from_pretrained(folder))


@pytest.mark.parametrize(("text", "score", "answered"), [
    (CALL + SHOWN + "<answer>\\boxed{42}</answer><|im_end|>", 1.0, 1.0),
    (CALL + SHOWN + "<answer>\\boxed{41}</answer><|im_end|>", 0.0, 1.0),
    (CALL + SHOWN + "I do not know.<|im_end|>", 0.0, 0.0),
    ("<answer>\\boxed{42}</answer><|im_end|>", 1.0, 1.0),
])  # fmt: skip
async def test_the_answer_of_the_last_turn_counts_and_no_tools_output(
    text: str, score: float, answered: float, service_url: str, model_folder: Path
) -> None:
    found = await manager(model_folder, service_url).run_single(session(model_folder, [text]))
    assert found == {"reward_score": score, "reward_extra_info": {"acc": score, "answered": answered}}


async def test_of_several_sequences_the_last_has_the_answer(service_url: str, model_folder: Path) -> None:
    """The longer one, which comes first, is wrong."""
    texts = ["<answer>\\boxed{7}</answer>" + "so it is, " * 20, "<answer>\\boxed{42}</answer><|im_end|>"]
    found = await manager(model_folder, service_url).run_single(session(model_folder, texts))
    assert found["reward_score"] == 1.0


async def test_what_rstar2_found_is_not_looked_for_again(service_url: str, model_folder: Path) -> None:
    """Of a truncated rollout it found nothing, whatever stands in its text."""
    made = manager(model_folder, service_url)
    text = "<answer>\\boxed{42}</answer><|im_end|>"
    assert (await made.run_single(session(model_folder, [text], answer=None)))["reward_score"] == 0.0
    assert (await made.run_single(session(model_folder, ["no"], answer="42")))["reward_score"] == 1.0


async def test_an_answer_that_the_service_cannot_check_is_no_wrong_one(model_folder: Path) -> None:
    """It raises, and verl counts a failed session."""
    server = ScriptedServer()
    unjudged = Verdicts(results=[Checked(status=CheckStatus.INFRA_ERROR, correct=None)])
    server.script = [Answer(body=unjudged.model_dump_json().encode())]
    try:
        with pytest.raises(ServiceFault, match="not judged: infra_error"):
            await manager(model_folder, server.url).run_single(session(model_folder, ["<answer>\\boxed{42}</answer>"]))
    finally:
        server.close()
