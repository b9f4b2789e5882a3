"""Each example, run: SandboxFusion's SDK from PyPI, verl's reward client from its wheel, an OpenAI tool loop, curl."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from sandbox_service.client.tools import TOOL, TOOL_NAME
from tests.client.scripted import Answer, ScriptedServer, Seen

EXAMPLES = Path(__file__).parents[2] / "examples"
WHEEL = "verl-0.9.1-py3-none-any.whl"


async def example(name: str, *arguments: str, **variables: str) -> list[str]:
    command = ["sh" if name.endswith(".sh") else sys.executable, str(EXAMPLES / name), *arguments]
    env = {**os.environ, "NO_PROXY": "127.0.0.1", **variables}
    ran = await asyncio.to_thread(subprocess.run, command, env=env, capture_output=True, text=True, timeout=55)
    assert ran.returncode == 0, ran.stderr
    return ran.stdout.splitlines()


async def test_the_sandbox_fusion_sdk(service_url: str) -> None:
    """Blocking, asynchronous, concurrent, and notebooks."""
    assert await example("sandbox_fusion_sdk.py", service_url) == [
        "Success 42",
        "Failed 3 42",
        str([number**2 for number in range(20)]),
        "Success 42",
    ]


@pytest.fixture(scope="session")
def verl_wheel(tmp_path_factory: pytest.TempPathFactory) -> str:
    """verl's own wheel; nothing of it is installed."""
    folder = tmp_path_factory.mktemp("verl")
    pip = [sys.executable, "-m", "pip", "download", "-q", "--no-deps", "--no-input", "verl==0.9.1", "-d", str(folder)]
    asked = subprocess.run(pip, capture_output=True, text=True, timeout=120)
    if asked.returncode:
        pytest.skip(f"verl's wheel cannot be had here: {asked.stderr.strip()[-200:]}")
    return str(folder / WHEEL)


async def test_verls_reward_client(service_url: str, verl_wheel: str) -> None:
    """Right, half right, failing and endless programs: scores and the statuses that verl derives."""
    assert await example("verl_reward.py", service_url, verl_wheel) == [
        "1.0 ['success', 'success']",
        "0.5 ['success', 'wrong_answer']",
        "0.0 ['runtime_error', 'runtime_error']",
        "0.0 ['timeout', 'timeout']",
    ]


@pytest.fixture
def model() -> Iterator[ScriptedServer]:
    """An endpoint as OpenAI's, whose model says what the test's script does."""
    server = ScriptedServer()
    yield server
    server.close()


def says(**message: Any) -> Answer:
    choice = {"index": 0, "message": {"role": "assistant", "content": None, **message}, "finish_reason": "stop"}
    return Answer(body=json.dumps({"object": "chat.completion", "choices": [choice]}).encode())


def asks(*asked: tuple[str, str, object]) -> Answer:
    """Calls of (id, function, arguments); arguments that are text go out as they are."""
    calls = [
        {
            "id": id,
            "type": "function",
            "function": {"name": name, "arguments": given if isinstance(given, str) else json.dumps(given)},
        }
        for id, name, given in asked
    ]
    return says(tool_calls=calls)


def read_by_the_model(seen: Seen) -> dict[str, str]:
    return {each["tool_call_id"]: each["content"] for each in seen.body["messages"] if each["role"] == "tool"}


async def test_the_openai_tool_loop(service_url: str, model: ScriptedServer) -> None:
    """Calls side by side, a value without print, what is no call, code that fails; the answer."""
    model.script = [
        asks(
            ("sum", TOOL_NAME, {"code": "print(sum(map(int, input().split())))", "input": "20 22"}),
            ("cut", TOOL_NAME, '{"code": "print(1)", "input": '),
            ("value", TOOL_NAME, {"code": "x = 6\nx * 7", "input": ""}),
        ),
        asks(("other", "browse", {"url": "x"})),
        asks(("error", TOOL_NAME, {"code": "1 / 0", "input": ""})),
        lambda seen: says(content="The answer is " + read_by_the_model(seen)["sum"].split()[-1]),
    ]
    said = await example(
        "openai_tool_loop.py",
        service_url,
        "scripted",
        "What is 20 + 22?",
        OPENAI_BASE_URL=f"{model.url}/v1",
        OPENAI_API_KEY="sk-1",
    )
    assert said[-1] == "The answer is 42"
    assert {seen.path for seen in model.seen} == {"/v1/chat/completions"}
    assert {seen.headers["authorization"] for seen in model.seen} == {"Bearer sk-1"}
    assert all(seen.body["tools"] == [TOOL] and seen.body["model"] == "scripted" for seen in model.seen)
    last = model.seen[-1].body["messages"]
    assert [each.get("tool_call_id", each["role"]) for each in last] == [
        *("user", "assistant", "sum", "cut", "value", "assistant", "other", "assistant", "error")
    ]
    read = read_by_the_model(model.seen[-1])
    assert read["sum"] == read["value"] == "Tool call success\n\nstdout:\n42"
    assert read["cut"].startswith("Tool call failure: the arguments must be JSON")
    assert read["other"].startswith("Tool call failure: there is no function 'browse'")
    assert read["error"].endswith("ZeroDivisionError: division by zero")


async def test_curl(service_url: str) -> None:
    """Every line that it prints is a comment or JSON; the answers are those that the comments promise."""
    sections: list[list[Any]] = []
    for line in await example("curl.sh", service_url):
        if line.startswith("#"):
            sections.append([])
        else:
            text = line.removesuffix(" 200").removesuffix(" 202")
            sections[-1].append(json.loads(text))
    (call,), (batch,), streamed, ticket, (accepted, cancelled, ended) = sections
    assert (call["status"], call["stdout"]) == ("ok", "42\n")
    assert [each["status"] for each in batch["results"]] == ["ok", "failed"]
    assert {line["index"]: line["result"]["stdout"] for line in streamed[:-1]} == {0: "slow\n", 1: "fast\n"}
    assert streamed[-1]["done"] is True
    assert {"id", "state", "url"} <= set(ticket[0])
    assert (ticket[-1]["status"], ticket[-1]["stdout"]) == ("ok", "done\n")
    assert accepted["state"] in ("queued", "running")
    assert cancelled == {"cancelled": 2}
    assert [each["status"] for each in ended["results"]] == ["cancelled", "cancelled"]
