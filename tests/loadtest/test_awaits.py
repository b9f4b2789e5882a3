"""What a call that is awaited costs its process."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest


@pytest.mark.slow
def test_thousands_of_awaits_fit_into_a_trainers_process() -> None:
    """3,000 at once, with everything that they take until they are answered; 45,000 of them stay below 1 GiB."""
    command = [sys.executable, "-m", "loadtest.awaits", "--calls", "3000"]
    told = json.loads(subprocess.run(command, capture_output=True, text=True, check=True, timeout=50).stdout)
    assert told["before_mb"] + (told["peak_mb"] - told["before_mb"]) / 3000 * 45_000 < 1024
