"""What verl's entry point loads: importing this module registers every part, or says loudly which one does not fit.

verl logs a plug-in's failure at DEBUG and goes on without it, so what is wrong is also printed here.
"""

from __future__ import annotations

import importlib
import importlib.metadata
import sys

TESTED = "0.9.1"
"""The verl that the contract tests run with: its hooks move from version to version."""
_PARTS = ("agent_loop", "parser", "reward", "sampler", "tool", "router")


def _register() -> None:
    found = importlib.metadata.version("verl")
    if found != TESTED:
        print(f"sandbox-service: tested with verl {TESTED}, this is {found}", file=sys.stderr)
    for part in _PARTS:
        try:
            importlib.import_module(f"sandbox_service.integrations.verl.{part}")
        except Exception as error:
            reason = f"sandbox-service: {part} does not load with verl {found}: {type(error).__name__}: {error}"
            print(reason, file=sys.stderr)
            raise ImportError(reason) from error


_register()
