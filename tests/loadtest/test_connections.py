"""The two commands about clients in numbers: each says what held, and fails where it did not."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

pytestmark = [pytest.mark.slow, pytest.mark.timeout(170)]


def ran(*arguments: str) -> tuple[int, dict[str, object]]:
    done = subprocess.run([sys.executable, "-m", *arguments], capture_output=True, text=True, timeout=160)
    assert done.stdout, done.stderr
    return done.returncode, json.loads(done.stdout)


def test_a_connection_for_each_call() -> None:
    """600 at once are all held, by two gateways, until there is a worker, and then answered."""
    code, told = ran("loadtest.connections", "--connections", "600", "--gateways", "2")
    assert (code, told["passed"]) == (0, True), told
    assert told["held_at_once"] == told["answered"] == 600


def test_one_slow_call_among_64() -> None:
    """A round of it. How fast the others are depends on the machine: here they only have to be faster than it."""
    code, told = ran("loadtest.coalesced", "--rounds", "1")
    assert code == (0 if told["passed"] else 1)
    assert told["quick_calls"] == 63
    assert told["latency_ms"]["p99"] < 5_000  # type: ignore[index]
