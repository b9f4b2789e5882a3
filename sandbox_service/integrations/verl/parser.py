"""A tool parser for verl's own `tool_agent`: `<tool_call>{...}</tool_call>` whose broken calls go back to the model.

verl's `hermes` drops a call that is no JSON, and then the rollout ends as if the model had not called. Here every
call is handed on; for arguments a broken one has its text, as a JSON string, which `SandboxTool` answers with what is
wrong and counts as an error.
"""

from __future__ import annotations

import asyncio
import json
import re
from typing import Any

from verl.experimental.agent_loop.tool_parser import FunctionCall, ToolParser

from sandbox_service.client.tools import TOOL_NAME
from sandbox_service.integrations.verl.hooks import fits

fits("parser")
_CALL = re.compile(r"<tool_call>(.*?)(?:</tool_call>|\Z)", re.DOTALL)


@ToolParser.register("sandbox_json")
class JsonToolParser(ToolParser):
    async def extract_tool_calls(self, responses_ids: list[int], tools: Any = None) -> tuple[str, list[FunctionCall]]:
        """The text without its calls, and the calls."""
        text = await asyncio.to_thread(self.tokenizer.decode, responses_ids)
        return _CALL.sub("", text), [_call(found) for found in _CALL.findall(text)]


def _call(body: str) -> FunctionCall:
    try:
        found = json.loads(body)
        return FunctionCall(name=found["name"], arguments=json.dumps(found["arguments"], ensure_ascii=False))
    except (ValueError, KeyError, TypeError, RecursionError):
        return FunctionCall(name=TOOL_NAME, arguments=json.dumps(body))
