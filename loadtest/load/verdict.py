"""What a section's figures say of themselves: whether an answer was wrong or lost, and whether they compare."""

from __future__ import annotations

from typing import Any

FORMAT = 3
"""Of a section's JSON: raised when a figure moves, so that no report reads an old one."""


def faults_of(found: Any) -> tuple[int, bool]:
    """Count what was wrong, lost or duplicated anywhere below; tell whether all below is valid."""
    if isinstance(found, list):
        found = dict(enumerate(found))
    if not isinstance(found, dict):
        return 0, True
    below = [faults_of(value) for value in found.values()]
    own = sum(found.get(name, 0) for name in ("wrong", "lost", "duplicated") if "answered" in found)
    return own + sum(count for count, _ in below), all([found.get("valid", True), *(valid for _, valid in below)])
