"""`sandbox-service mcp`, asked by the real client of the `mcp` package over both of its transports."""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from typing import Any

import httpx
import pytest
from mcp import Client, MCPError, StdioServerParameters, stdio_client

from sandbox_service.client.tools import TOOL, TOOL_NAME

COMMAND = [sys.executable, "-m", "sandbox_service", "mcp"]

Connect = Callable[..., contextlib.AbstractAsyncContextManager[Client]]


@contextlib.asynccontextmanager
async def over_stdio(*options: str) -> AsyncIterator[Client]:
    program, *arguments = [*COMMAND, *options]
    server = StdioServerParameters(command=program, args=arguments, env={**os.environ})
    async with Client(stdio_client(server)) as client:
        yield client


@contextlib.asynccontextmanager
async def over_http(*options: str) -> AsyncIterator[Client]:
    with subprocess.Popen([*COMMAND, *options, "--http", "0"], stderr=subprocess.PIPE, text=True) as server:
        assert server.stderr is not None
        try:
            async with Client(server.stderr.readline().split()[4]) as client:
                yield client
        finally:
            server.terminate()
            assert server.wait(20) is not None


async def ask(client: Client, **arguments: Any) -> tuple[bool, str]:
    result = await client.call_tool(TOOL_NAME, arguments)
    [content] = result.content
    assert content.type == "text"
    return bool(result.is_error), content.text


@pytest.mark.parametrize("connect", [over_stdio, over_http], ids=["stdio", "http"])
async def test_each_outcome_is_the_text_that_a_model_reads(connect: Connect, service_url: str) -> None:
    """The tool as it is listed; output, a last value, an error, a time-out, a cut, and a call that is none."""
    async with connect("--url", service_url, "--wall-s", "3", "--max-chars", "200") as client:
        await look(client)


async def look(client: Client) -> None:
    [tool] = (await client.list_tools()).tools
    assert (tool.name, tool.description) == (TOOL_NAME, TOOL["function"]["description"])
    assert tool.input_schema == TOOL["function"]["parameters"]

    assert await ask(client, code="print(input()[::-1])", input="abc") == (False, "Tool call success\n\nstdout:\ncba")
    assert await ask(client, code="[1, 2] * 2", input="") == (False, "Tool call success\n\nstdout:\n[1, 2, 1, 2]")

    failed, text = await ask(client, code="1 / 0", input="")
    assert failed
    assert text.startswith("Tool call failure: the code ended with exit code 1\n\nstderr:\nTraceback")
    assert text.endswith("ZeroDivisionError: division by zero")

    failed, text = await ask(client, code="print('so far', flush=True)\nwhile True: pass", input="")
    assert failed
    assert text.startswith("Tool call failure: the code timed out")
    assert text.endswith("stdout:\nso far")

    _, text = await ask(client, code="print('a' * 5000 + 'z')", input="")
    assert "[4801 characters left out]" in text
    assert text.endswith("z")

    failed, text = await ask(client, code="print(1)")
    assert (failed, text.partition("\n")[0]) == (True, "Tool call failure: the argument `input` is missing")


async def test_a_fault_of_the_service_is_no_answer_of_the_tool() -> None:
    """Nobody listens there: the model gets no text that it could take for a verdict."""
    async with over_stdio("--url", "http://127.0.0.1:9", "--timeout-s", "0.5") as client:
        with pytest.raises(MCPError, match="unavailable: "):
            await client.call_tool(TOOL_NAME, {"code": "1", "input": ""})


async def test_another_site_cannot_reach_it_through_a_browser(service_url: str) -> None:
    """A name that resolves to loopback, or a foreign origin, is refused before anything runs."""
    with subprocess.Popen([*COMMAND, "--url", service_url, "--http", "0"], stderr=subprocess.PIPE, text=True) as server:
        assert server.stderr is not None
        try:
            url = server.stderr.readline().split()[4]
            for headers in ({"Host": "evil.example"}, {"Origin": "http://evil.example"}):
                answer = httpx.post(url, json={"jsonrpc": "2.0", "id": 1, "method": "tools/list"}, headers=headers)
                assert answer.status_code in (403, 421), headers
        finally:
            server.terminate()


def test_a_taken_port_is_one_clear_line() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        ran = subprocess.run([*COMMAND, "--http", str(port)], stdin=subprocess.DEVNULL, capture_output=True, text=True)
    told = f"cannot listen on 127.0.0.1 port {port}: Address already in use. Choose another: --http"
    assert (ran.returncode, ran.stderr) == (2, f"sandbox-service: {told}\n")


def test_a_wrong_option_is_one_clear_line() -> None:
    for options, told in (
        (["--url", "localhost"], "looks like http://"),
        (["--wall-s", "-1"], "wall_s"),
        (["--http", "70000"], "--http"),
        (["--api-key-file", "/nosuch"], "/nosuch"),
    ):
        ran = subprocess.run([*COMMAND, *options], stdin=subprocess.DEVNULL, capture_output=True, text=True)
        assert ran.returncode in (1, 2), options
        assert told in ran.stderr, options
        assert len(ran.stderr.splitlines()) == 1, ran.stderr
