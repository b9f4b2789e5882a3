"""The tool and the parser in verl's own `tool_agent`, and what both agent loops do when the service fails: in this
process, with verl's classes and an engine that follows a script."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("verl")
from transformers import AutoTokenizer
from verl.experimental.agent_loop.agent_loop import AgentLoopOutput, DictConfigWrap, ToolListWrap, _agent_loop_registry
from verl.experimental.agent_loop.tool_agent_loop import ToolAgentLoop
from verl.tools.tool_registry import load_all_tools
from verl.utils.dataset.rl_dataset import RLHFDataset
from verl.workers.rollout.replica import TokenOutput

from sandbox_service.errors import ServiceFault
from sandbox_service.integrations.verl import tool as tool_module
from sandbox_service.integrations.verl.agent_loop import RStarAgentLoop
from sandbox_service.integrations.verl.tool import SandboxTool, SessionLost
from sandbox_service.trainer.prompts import IM_END
from tests.client.scripted import ScriptedServer, echo, infra_errors
from tests.integrations import verl_running as running
from tests.integrations.conftest import answer_text, call_text

pytestmark = [pytest.mark.verl, pytest.mark.timeout(100, func_only=True)]


class Script:
    """In place of verl's `LLMServerClient`: these turns, one after the other. `asked`: the request of each."""

    def __init__(self, tokenizer: Any, turns: Sequence[str]) -> None:
        self._tokenizer, self._turns = tokenizer, iter(turns)
        self.asked: list[str] = []

    async def generate(self, request_id: str, *, prompt_ids: list[int], **_: Any) -> TokenOutput:
        self.asked.append(request_id)
        tokens = self._tokenizer.encode(next(self._turns) + IM_END, add_special_tokens=False)
        return TokenOutput(token_ids=tokens, log_probs=[-0.5] * len(tokens), extra_fields={"min_global_steps": 1})


def documented_tool_config(url: str, path: Path) -> Path:
    """The YAML that the module's docstring shows, for another address."""
    yaml = (tool_module.__doc__ or "").partition("\n\n")[2]
    assert "http://127.0.0.1:8000" in yaml
    path.write_text(yaml.replace("http://127.0.0.1:8000", url))
    return path


async def played(
    loop: type, url: str, folder: Path, tmp_path: Path, script: Sequence[str] | Script, *more: str
) -> AgentLoopOutput:
    data = running.write_rows(tmp_path / "rows.jsonl", {"print(6 * 7)": "42"})
    turns_of = "actor_rollout_ref.rollout.multi_turn"
    tool = (f"{turns_of}.enable=True", f"{turns_of}.format=sandbox_json", f"{turns_of}.max_tool_response_length=2000")
    config = running.small(folder, data, 2, f"+sandbox.url={url}", *tool, *more)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    manager = script if isinstance(script, Script) else Script(tokenizer, script)
    tools = load_all_tools(str(documented_tool_config(url, tmp_path / "tool.yaml")), None)
    made = loop(
        trainer_config=DictConfigWrap(config), server_manager=manager, tokenizer=tokenizer,
        processor=None, dataset_cls=RLHFDataset, data_config=DictConfigWrap(config.data), hf_model_type="qwen3",
        tools=ToolListWrap(tools),
    )  # fmt: skip
    output: AgentLoopOutput = await made.run(
        {"temperature": 1.0, "logprobs": True}, raw_prompt=[{"role": "user", "content": "print(6 * 7)"}]
    )
    return output


@pytest.fixture
def failing() -> Iterator[str]:
    """A service whose calls all end as infra_error."""
    server = ScriptedServer()
    server.script = [infra_errors]
    yield server.url
    server.close()


def test_verl_loads_the_tool_from_its_yaml(tmp_path: Path) -> None:
    (tool,) = load_all_tools(str(documented_tool_config("http://127.0.0.1:1", tmp_path / "tool.yaml")), None)
    assert isinstance(tool, SandboxTool)
    assert tool.name == "execute_python_code_with_standard_io"
    assert set(tool.tool_schema.function.parameters.properties) == {"code", "input"}


async def test_calls_run_and_broken_json_comes_back_to_the_model(
    service_url: str, model_folder: Path, tmp_path: Path
) -> None:
    """verl's `hermes` parser would drop the second call, and the rollout would end there."""
    right = call_text("print(6 * 7)")
    turns = [right, right.replace('"arguments"', "arguments"), call_text("print(x)"), answer_text("42")]
    output = await played(ToolAgentLoop, service_url, model_folder, tmp_path, turns)
    text = AutoTokenizer.from_pretrained(model_folder).decode(output.response_ids)
    assert output.extra_fields["outcomes"] == ["ok", "parse_error", "failed"]
    assert "the call must be JSON" in text
    assert "NameError" in text
    assert "boxed{42}" in text
    assert 0 < sum(output.response_mask) < len(output.response_mask) == len(output.response_logprobs)


@pytest.mark.parametrize(
    ("loop", "error"), [(ToolAgentLoop, SessionLost), (RStarAgentLoop, ServiceFault)], ids=["tool_agent", "rstar2"]
)
async def test_an_infra_error_ends_the_session_and_is_no_text(
    loop: type, error: type[BaseException], failing: str, model_folder: Path, tmp_path: Path
) -> None:
    """It leaves `run`, which is what verl counts as a failed session; the second turn is never asked for."""
    with pytest.raises(error, match="infra_error"):
        await played(loop, failing, model_folder, tmp_path, [call_text("print(6 * 7)")])


@pytest.mark.parametrize("loop", [ToolAgentLoop, RStarAgentLoop], ids=["tool_agent", "rstar2"])
async def test_each_call_carries_the_rollouts_request_as_its_label(
    loop: type, model_folder: Path, tmp_path: Path
) -> None:
    """The one under which verl's servers know the rollout; in `rstar2` with the labels of the configuration."""
    server = ScriptedServer()
    server.script = [echo]
    script = Script(AutoTokenizer.from_pretrained(model_folder), [call_text("1"), call_text("2"), "<answer>3</answer>"])
    try:
        output = await played(loop, server.url, model_folder, tmp_path, script, "+sandbox.labels={run: r1}")
    finally:
        server.close()
    calls = [call for seen in server.seen for call in seen.body["calls"]]
    assert [call["code"] for call in calls] == ["1", "2"]
    (request,) = {call["labels"].pop("request_id") for call in calls}
    assert script.asked == [request] * 3
    assert [call["labels"] for call in calls] == [{"run": "r1"} if loop is RStarAgentLoop else {}] * 2
    assert output.extra_fields["outcomes"] == ["ok", "ok"]


async def test_a_prompt_that_is_too_long_fails_the_session_before_anything_is_generated(
    service_url: str, model_folder: Path, tmp_path: Path
) -> None:
    script = Script(AutoTokenizer.from_pretrained(model_folder), [answer_text("42")])
    limit = "actor_rollout_ref.rollout.prompt_length=1000"
    with pytest.raises(ValueError, match=r"the prompt has \d+ tokens, more than the 1000 it may have"):
        await played(RStarAgentLoop, service_url, model_folder, tmp_path, script, limit)
    assert script.asked == []


def test_importing_verl_registers_the_agent_loop() -> None:
    assert "rstar2" in _agent_loop_registry
