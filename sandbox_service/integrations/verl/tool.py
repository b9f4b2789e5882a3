"""The tool for verl's own `tool_agent`: each call runs in the service, labelled with the rollout's request id.

tools:
  - class_name: sandbox_service.integrations.verl.tool.SandboxTool
    config: {type: native, url: "http://127.0.0.1:8000", wall_s: 4}
"""

from __future__ import annotations

from typing import Any

from verl.tools.base_tool import BaseTool
from verl.tools.schemas import OpenAIFunctionToolSchema, ToolResponse

from sandbox_service.client.tools import TOOL, TOOL_NAME, ToolCallError, to_call, to_text
from sandbox_service.errors import SandboxError
from sandbox_service.integrations import episode
from sandbox_service.integrations.verl.hooks import fits
from sandbox_service.trainer.records import PARSE_ERROR

fits("tool")


class SessionLost(BaseException):
    """The service could not run a call. Not an Exception, because verl turns every Exception of a tool into text that
    the model reads and learns from; this one ends the session, which verl then counts as failed."""


class SandboxTool(BaseTool):
    """`config`: url, api_key, wall_s, max_chars. The schema is the paper's, whatever the YAML says."""

    def __init__(self, config: dict[str, Any], tool_schema: OpenAIFunctionToolSchema | None = None) -> None:
        super().__init__(config, tool_schema or OpenAIFunctionToolSchema.model_validate(TOOL))
        self._sandbox = episode.client(config["url"], config.get("api_key"))

    async def execute(
        self, instance_id: str, parameters: dict[str, Any] | str, **kwargs: Any
    ) -> tuple[ToolResponse, float, dict[str, Any]]:
        """Run one call; a string is the text of one that `JsonToolParser` could not read.

        `agent_data`, if verl gives it, collects the outcomes in `extra_fields["outcomes"]`.
        """
        agent_data = kwargs.get("agent_data")
        outcomes = [] if agent_data is None else agent_data.extra_fields.setdefault("outcomes", [])
        labels = {} if agent_data is None else {"request_id": str(agent_data.request_id)}
        limits = {"wall_s": self.config.get("wall_s", 4.0)}
        try:
            asked = parameters if isinstance(parameters, str) else {"name": TOOL_NAME, "arguments": parameters}
            call = to_call(asked, limits=limits, labels=labels, priority="batch")
        except ToolCallError as error:
            outcomes.append(PARSE_ERROR)
            return ToolResponse(text=str(error)), 0.0, {}
        try:
            result = episode.judged(await self._sandbox.run(call))
        except SandboxError as error:
            raise SessionLost(str(error)) from error
        outcomes.append(result.status.value)
        text = to_text(result, max_chars=int(self.config.get("max_chars", 1000)))
        return ToolResponse(text=text), 0.0, {"status": result.status.value}
