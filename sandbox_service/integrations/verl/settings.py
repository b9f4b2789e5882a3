"""What our parts read from verl's configuration: one key of their own, `sandbox`."""

from __future__ import annotations

from typing import Any

from sandbox_service.client import AsyncSandboxClient
from sandbox_service.integrations import episode

_KNOWN = {"url", "api_key", "template", "wall_s", "response_chars", "labels"}


def section(config: Any) -> dict[str, Any]:
    """The `sandbox` section of verl's whole configuration; ValueError says what is wrong with it."""
    found = config.get("sandbox") or {}
    if "url" not in found:
        raise ValueError("say where the service is: +sandbox.url=http://127.0.0.1:8000")
    if unknown := {str(key) for key in found} - _KNOWN:
        raise ValueError(f"sandbox.{min(unknown)} is no setting; there are: {', '.join(sorted(_KNOWN))}")
    return {str(key): value for key, value in found.items()}


def client(config: Any) -> AsyncSandboxClient:
    """This process' client for the service that the configuration names."""
    found = section(config)
    return episode.client(found["url"], found.get("api_key"))
