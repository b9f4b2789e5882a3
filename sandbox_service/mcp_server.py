"""The service as an MCP server: one tool, the one that `client/tools.py` describes, over stdio or streamable HTTP.

Uses the client like anybody else, so it can run on another machine than the service. What the model did wrong, in its
call or its code, is the tool's text with `isError`; what the service did wrong is an error of the protocol, so that no
model ever takes it for a verdict. A request that is cancelled cancels its call.
"""

from __future__ import annotations

import asyncio
import os
import socket
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import uvicorn
from mcp import MCPError
from mcp.server import Server, ServerRequestContext
from mcp.server.stdio import stdio_server
from mcp.types import (
    INTERNAL_ERROR,
    CallToolRequestParams,
    CallToolResult,
    ListToolsResult,
    PaginatedRequestParams,
    TextContent,
    Tool,
    ToolAnnotations,
)

from sandbox_service import __version__
from sandbox_service.client import AsyncSandboxClient, Status
from sandbox_service.client.tools import MAX_CHARS, TOOL, TOOL_NAME, ToolCallError, to_call, to_text
from sandbox_service.errors import SandboxError, SetupError

HTTP_PATH = "/mcp"
_FUNCTION = TOOL["function"]
_TOOL = Tool(
    name=TOOL_NAME,
    title="Run Python code in a sandbox",
    description=_FUNCTION["description"],
    input_schema=_FUNCTION["parameters"],
    annotations=ToolAnnotations(destructive_hint=False, open_world_hint=False),
)


@dataclass(frozen=True)
class Options:
    urls: Sequence[str]
    api_key: str | None = None
    wall_s: float | None = None
    image: str | None = None
    timeout_s: float = 120.0
    max_chars: int = MAX_CHARS


def make_server(client: AsyncSandboxClient, options: Options) -> Server[dict[str, Any]]:
    """Return the server; the client stays the caller's. InvalidCall: an option is wrong."""
    given: dict[str, Any] = {"timeout_s": options.timeout_s, "image": options.image}
    if options.wall_s is not None:
        given["limits"] = {"wall_s": options.wall_s}
    to_call({"name": TOOL_NAME, "arguments": {"code": "", "input": ""}}, **given)  # a wrong option is told at once

    async def list_tools(_: ServerRequestContext[Any], __: PaginatedRequestParams | None) -> ListToolsResult:
        return ListToolsResult(tools=[_TOOL])

    async def call_tool(_: ServerRequestContext[Any], asked: CallToolRequestParams) -> CallToolResult:
        try:
            call = to_call({"name": asked.name, "arguments": asked.arguments or {}}, **given)
            result = await client.run(call)
            return _told(to_text(result, max_chars=options.max_chars), failed=result.status is not Status.OK)
        except ToolCallError as error:
            return _told(str(error), failed=True)
        except SandboxError as error:
            raise MCPError(INTERNAL_ERROR, f"{error.code}: {error.message}") from error

    return Server("sandbox-service", version=__version__, on_list_tools=list_tools, on_call_tool=call_tool)


def serve(options: Options, http_port: int | None) -> None:
    """Serve until the client goes away (stdio), or until SIGTERM or Ctrl-C (HTTP on loopback, where a port is given).

    SetupError: it cannot listen there.
    """
    asyncio.run(_serve(options, http_port))


async def _serve(options: Options, http_port: int | None) -> None:
    async with AsyncSandboxClient(options.urls, api_key=options.api_key) as client:
        server = make_server(client, options)
        if http_port is None:
            async with stdio_server() as (requests, answers):
                await server.run(requests, answers, server.create_initialization_options())
            return
        # SECURITY: loopback alone, and only by its name: who gets here runs code (test_mcp.py).
        with _listen(http_port) as listener:
            app = server.streamable_http_app(streamable_http_path=HTTP_PATH, host="127.0.0.1")
            url = f"http://127.0.0.1:{listener.getsockname()[1]}{HTTP_PATH}"
            print(f"MCP is served at {url} (Ctrl-C ends it)", file=sys.stderr, flush=True)
            config = uvicorn.Config(app, log_level="warning", access_log=False, timeout_graceful_shutdown=5)
            await uvicorn.Server(config).serve(sockets=[listener])


def _listen(port: int) -> socket.socket:
    try:
        return socket.create_server(("127.0.0.1", port))
    except (OSError, OverflowError) as error:
        # asyncio's and socket's own texts name the address again, and the error by its number.
        why = os.strerror(error.errno) if isinstance(error, OSError) and error.errno else error
        raise SetupError(f"cannot listen on 127.0.0.1 port {port}: {why}. Choose another: --http") from error


def _told(text: str, *, failed: bool) -> CallToolResult:
    return CallToolResult(content=[TextContent(type="text", text=text)], is_error=failed)
