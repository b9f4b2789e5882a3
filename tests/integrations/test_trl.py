"""TRL's own GRPOTrainer on the CPU with a tiny random model, RoC and a live service."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("trl")
import torch
from datasets import Dataset
from transformers import AutoModelForCausalLM, AutoTokenizer
from trl import GRPOConfig, GRPOTrainer
from trl.chat_template_utils import qwen3_instruct_2507_chat_template

from sandbox_service.errors import ServiceFault
from sandbox_service.integrations.episode import Bounds, Sampled
from sandbox_service.integrations.trl import RocRollouts, given_reward, python_tool
from sandbox_service.models import Checked, CheckStatus, Verdicts
from sandbox_service.trainer.prompts import IM_END
from tests.client.scripted import Answer, ScriptedServer, Seen, frames, infra_errors
from tests.integrations.conftest import ROOT, answer_text, call_text

pytestmark = [pytest.mark.trl, pytest.mark.timeout(200, func_only=True)]
QUESTIONS = {"What is 6 * 7?": "42", "What is 2 + 2?": "4"}


def right(prompts: Any, completions: Any, **_: Any) -> list[float]:
    """The reward in TRL's own loop: whether the last turn ends with the answer."""
    return [
        float(completion[-1]["content"].endswith(f"\n{QUESTIONS[prompt[-1]['content']]}."))
        for prompt, completion in zip(prompts, completions, strict=True)
    ]


def trainer(
    folder: Path, out: Path, reward: Any = given_reward, template: str | None = None, **parts: Any
) -> GRPOTrainer:
    args = GRPOConfig(
        output_dir=str(out), use_cpu=True, bf16=False, gradient_checkpointing=False, per_device_train_batch_size=8,
        num_generations=4, max_steps=1, max_completion_length=600, report_to=[], learning_rate=1e-2, logging_steps=1,
        save_strategy="no", temperature=1.0,
    )  # fmt: skip
    rows = Dataset.from_list([{"prompt": [{"role": "user", "content": question}]} for question in QUESTIONS])
    tokenizer = AutoTokenizer.from_pretrained(folder)
    tokenizer.chat_template = template or tokenizer.chat_template
    model = AutoModelForCausalLM.from_pretrained(folder)
    return GRPOTrainer(model, reward_funcs=reward, args=args, train_dataset=rows, processing_class=tokenizer, **parts)


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


def losing(seen: Seen) -> Answer:
    """A service that answers each call with its code, loses those that say so, and finds each answer right but 0."""
    if seen.path == "/v1/verify":
        verdicts = [Checked(status=CheckStatus.OK, correct="{0}" not in one["answer"]) for one in seen.body["checks"]]
        return Answer(body=Verdicts(results=verdicts).model_dump_json().encode())
    calls = seen.body["calls"]
    lost = [index for index, call in enumerate(calls) if call["code"] == "lost"]
    fine = [index for index in range(len(calls)) if index not in lost]
    ended = infra_errors(replace(seen, body={"calls": [calls[index] for index in lost]})).body.splitlines()[:-1]
    lines = [{**json.loads(line), "index": index} for line, index in zip(ended, lost, strict=True)]
    body = "".join(json.dumps(line) + "\n" for line in lines).encode()
    return Answer(body=body + frames(calls, fine, done=True))


def test_masked_copies_stand_in_for_lost_rollouts(model_folder: Path, tmp_path: Path) -> None:
    """Of the first prompt's eight rollouts five are lost. RoC keeps two of three; two copies fill the group, from which
    nothing is learned; TRL trains on the batch."""
    tokenizer = AutoTokenizer.from_pretrained(model_folder)
    plays = {"6 * 7": iter(["lost"] * 5 + ["1", "1", "0"]), "2 + 2": iter(["1", "0"] * 4)}

    async def engine(tokens: list[int], room: int) -> Sampled:
        text = tokenizer.decode(tokens)
        if "<tool_response>" in text:
            turn = answer_text(text.rpartition("<tool_response>")[2].partition("</tool_response>")[0])
        else:
            turn = call_text(next(plays[next(one for one in plays if one in text)]))
        return Sampled(tokenizer.encode(turn + IM_END, add_special_tokens=False)[:room])

    server = ScriptedServer()
    server.script = [losing]
    rollouts = RocRollouts(server.url, QUESTIONS, Bounds(max_tokens=1500, turns=3), generate=engine)
    given: list[dict[str, list[Any]]] = []

    def noted(prompts: list[Any], trainer: GRPOTrainer) -> dict[str, list[Any]]:
        given.append(rollouts(prompts, trainer))
        return given[-1]

    made = trainer(model_folder, tmp_path, rollout_func=noted)
    before = {name: weight.clone() for name, weight in made.model.named_parameters()}
    try:
        made.train()
    finally:
        server.close()
    (columns,) = given
    found = {"6 * 7": [], "2 + 2": []}
    for prompt, mask, reward in zip(columns["prompt_ids"], columns["env_mask"], columns["reward"], strict=True):
        asked = next(one for one in found if one in tokenizer.decode(prompt))
        found[asked].append((any(mask), reward))
    assert sorted(found["6 * 7"]) == [(False, 0.5), (False, 0.5), (True, 0.0), (True, 1.0)]
    assert sorted(found["2 + 2"]) == [(True, 0.0), (True, 0.0), (True, 1.0), (True, 1.0)]
    assert (rollouts.metrics["lost"], rollouts.metrics["roc/rollouts"], rollouts.metrics["roc/rollouts_kept"]) == (
        5,
        11,
        6,
    )
    assert made.state.log_history[0]["reward"] == 0.5
    assert any(not torch.equal(before[name], weight) for name, weight in made.model.named_parameters())


@pytest.mark.parametrize("masked", [True, False])
def test_trl_learns_nothing_where_the_mask_is_0(masked: bool, model_folder: Path, tmp_path: Path) -> None:
    """What the copies rely on, in TRL's own trainer: rollouts with a signal, all of their tokens masked or none."""

    def rollouts(prompts: list[Any], trainer: GRPOTrainer) -> dict[str, list[Any]]:
        columns: dict[str, list[Any]] = {"prompt_ids": [], "completion_ids": [], "env_mask": [], "reward": []}
        for index, _ in enumerate(prompts):
            columns["prompt_ids"].append([1, 2, 3])
            columns["completion_ids"].append([4, 5 + index])
            columns["env_mask"].append([0, 0] if masked else [1, 1])
            columns["reward"].append(float(index % 2))
        return {**columns, "logprobs": None}  # type: ignore[dict-item]

    made = trainer(model_folder, tmp_path, rollout_func=rollouts)
    before = {name: weight.clone() for name, weight in made.model.named_parameters()}
    made.train()
    assert made.state.log_history[0]["reward"] == 0.5
    assert masked == all(torch.equal(before[name], weight) for name, weight in made.model.named_parameters())


async def test_the_tool_for_trls_own_loop(service_url: str) -> None:
    """TRL reads the schema from the signature; it is the one of the paper."""
    from transformers.utils import get_json_schema

    from sandbox_service.client.tools import TOOL

    tool = python_tool(service_url)
    schema = get_json_schema(tool)["function"]
    assert schema["name"] == TOOL["function"]["name"]
    assert set(schema["parameters"]["properties"]) == {"code", "input"}
    assert "42" in str(await tool("print(int(input()) * 7)", "6"))
    assert "NameError" in str(await tool("print(x)", ""))
    assert json.dumps(schema)


def looping(folder: Path, out: Path, url: str, seen: list[str]) -> GRPOTrainer:
    """TRL's trainer in its own tool loop; each scripted rollout calls once and tells what it was shown."""
    made = trainer(folder, out, right, qwen3_instruct_2507_chat_template, tools=[python_tool(url)])
    tokenizer = made.processing_class

    def generate(input_ids: torch.Tensor, **_: Any) -> torch.Tensor:
        turns = []
        for text in tokenizer.batch_decode(input_ids):
            seen.append(text)
            asked = "6 * 7" if "6 * 7" in text else "2 + 2"
            if "<tool_response>" in text:
                shown = text.rpartition("<tool_response>")[2].partition("</tool_response>")[0].strip()
                turn = f"It is {shown}."
            else:
                turn = call_text(f"print({asked})").partition("</reason>")[2]
            turns.append(torch.tensor(tokenizer.encode(turn + IM_END, add_special_tokens=False)))
        padded = torch.nn.utils.rnn.pad_sequence(turns, batch_first=True, padding_value=tokenizer.pad_token_id)
        return torch.cat([input_ids, padded], dim=1)

    made.model.generate = generate
    return made


def test_a_step_in_trls_own_tool_loop(service_url: str, model_folder: Path, tmp_path: Path) -> None:
    """TRL parses the calls, runs the tool in its event loop, shows its text and trains on what followed."""
    seen: list[str] = []
    made = looping(model_folder, tmp_path, service_url, seen)
    made.train()
    (logged, *_) = made.state.log_history
    assert (logged["tools/call_frequency"], logged["tools/failure_frequency"]) == (1, 0)
    assert logged["reward"] == 1
    assert (len(seen), sum("<tool_response>" in text for text in seen)) == (16, 8)


def test_an_infra_error_ends_trls_run_and_is_no_text(model_folder: Path, tmp_path: Path) -> None:
    """TRL makes text of what async tools raise, a BaseException too; here nobody is asked for a second turn."""
    server = ScriptedServer()
    server.script = [infra_errors]
    seen: list[str] = []
    with pytest.raises(ServiceFault, match="infra_error"):
        looping(model_folder, tmp_path, server.url, seen).train()
    server.close()
    assert len(seen) == 8


def test_the_pages_program_runs(service_url: str, model_folder: Path, tmp_path: Path) -> None:
    """docs/trl.md as it stands, but for the three places; the model is random, so nobody is right."""
    programs = re.findall(r"```python\n(.*?)```", (ROOT / "docs/trl.md").read_text(), re.DOTALL)
    places = f"MODEL, SERVICE, OUT = {str(model_folder)!r}, {service_url!r}, {str(tmp_path)!r}"
    program, count = re.subn(r"^MODEL, SERVICE, OUT = .*$", places, programs[0], flags=re.MULTILINE)
    assert count == 1
    names: dict[str, Any] = {}
    exec(program, names)
    assert names["trainer"].state.global_step == 1
    assert (names["rollouts"].metrics["roc/rollouts"], names["rollouts"].metrics["lost"]) == (16, 0)
    exec(programs[1], names)
    assert names["tool"].__name__ == "execute_python_code_with_standard_io"
