"""What schemathesis does to each request before it is sent; loaded by it, not by us (`loadtest/fuzz.py`)."""

from __future__ import annotations

from typing import Any

import schemathesis


@schemathesis.hook
def before_call(context: Any, case: Any, kwargs: dict[str, Any]) -> None:
    """Let no id be twice in a batch, which the service refuses and no schema can say: later ones go without."""
    calls = case.body.get("calls") if isinstance(case.body, dict) else None
    seen = set()
    for call in calls if isinstance(calls, list) else []:
        if isinstance(call, dict) and isinstance(call.get("id"), str):
            if call["id"] in seen:
                del call["id"]
            else:
                seen.add(call["id"])
