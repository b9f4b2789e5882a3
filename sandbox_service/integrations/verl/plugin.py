"""What verl's entry point loads: importing this module registers every part that fits (`hooks.py`), and says loudly
which one does not and what to do.

verl logs a plug-in's failure at DEBUG and goes on without it, so what is wrong is also printed here.
"""

from __future__ import annotations

import importlib
import importlib.metadata
import sys

from sandbox_service.integrations.verl.hooks import NEEDS, TESTED

_REMEDY = f"pip install verl=={TESTED}"


def _register() -> None:
    found = importlib.metadata.version("verl")
    if found != TESTED:
        _say(f"tested with verl {TESTED}, this is {found}; if something is odd: {_REMEDY}")
    wrong = []
    for part in NEEDS:
        try:
            importlib.import_module(f"sandbox_service.integrations.verl.{part}")
        except Exception as error:
            wrong.append(f"{part} does not fit verl {found} and is left out: {error}. What to do: {_REMEDY}")
            _say(wrong[-1])
    if wrong:
        raise ImportError("; ".join(wrong))


def _say(what: str) -> None:
    print(f"sandbox-service: {what}", file=sys.stderr)


_register()
