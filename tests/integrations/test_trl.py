"""TRL's own GRPOTrainer on the CPU with a tiny random model, RoC and a live service."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("trl")
import torch
from datasets import Dataset
from transformers import AutoModelForCausalLM, AutoTokenizer
from trl import GRPOConfig, GRPOTrainer

from sandbox_service.integrations.episode import Bounds, Sampled
from sandbox_service.integrations.trl import RocRollouts, given_reward, python_tool
from sandbox_service.trainer.prompts import IM_END
from tests.integrations.conftest import answer_text, call_text

pytestmark = [pytest.mark.trl, pytest.mark.timeout(200, func_only=True)]
QUESTIONS = {"What is 6 * 7?": "42", "What is 2 + 2?": "4"}


def trainer(folder: Path, out: Path, **parts: Any) -> GRPOTrainer:
    args = GRPOConfig(
        output_dir=str(out), use_cpu=True, bf16=False, gradient_checkpointing=False, per_device_train_batch_size=8,
        num_generations=4, max_steps=1, max_completion_length=256, report_to=[], learning_rate=1e-2, logging_steps=1,
        save_strategy="no", temperature=1.0,
    )  # fmt: skip
    rows = Dataset.from_list([{"prompt": [{"role": "user", "content": question}]} for question in QUESTIONS])
    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModelForCausalLM.from_pretrained(folder)
    return GRPOTrainer(
        model, reward_funcs=given_reward, args=args, train_dataset=rows, processing_class=tokenizer, **parts
    )


def test_a_step_of_roc_in_trls_trainer(service_url: str, model_folder: Path, tmp_path: Path) -> None:
    """An engine that follows a script plays 2G = 8 rollouts per prompt; TRL trains on G = 4 of them, whole."""
    tokenizer = AutoTokenizer.from_pretrained(model_folder)
    count = {"asked": 0}

    async def engine(tokens: list[int], room: int) -> Sampled:
        text = tokenizer.decode(tokens)
        if "<tool_response>" in text:
            shown = text.rpartition("<tool_response>")[2].partition("</tool_response>")[0]
            turn = answer_text(shown)
        else:
            count["asked"] += 1
            expression = "6 * 7" if "6 * 7" in text else "2 + 2"
            turn = call_text(f"print({expression})" if count["asked"] % 2 else "print(1)")
        return Sampled(tokenizer.encode(turn + IM_END, add_special_tokens=False)[:room])

    rollouts = RocRollouts(service_url, QUESTIONS, Bounds(max_tokens=1500, turns=3), generate=engine)
    made = trainer(model_folder, tmp_path, rollout_func=rollouts)
    before = {name: weight.clone() for name, weight in made.model.named_parameters()}
    made.train()
    assert count["asked"] == 16
    assert (rollouts.metrics["roc/rollouts"], rollouts.metrics["roc/rollouts_kept"]) == (16, 8)
    assert rollouts.metrics["roc/accuracy"] == 0.5
    assert any(not torch.equal(before[name], weight) for name, weight in made.model.named_parameters())
    assert made.state.log_history[0]["reward"] == 0.5


async def test_the_tool_for_trls_own_loop(service_url: str) -> None:
    """TRL reads the schema from the signature; it is the one of the paper."""
    from transformers.utils import get_json_schema

    from sandbox_service.client.tools import TOOL

    tool = python_tool(service_url)
    schema = get_json_schema(tool)["function"]
    assert schema["name"] == TOOL["function"]["name"]
    assert set(schema["parameters"]["properties"]) == {"code", "input"}
    assert "42" in await tool("print(int(input()) * 7)", "6")
    assert "NameError" in await tool("print(x)", "")
    assert json.dumps(schema)
