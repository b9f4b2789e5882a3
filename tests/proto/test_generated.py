"""The code that protoc wrote is that of the contract."""

from __future__ import annotations

import subprocess
import sys


def test_the_generated_code_is_up_to_date() -> None:
    subprocess.run([sys.executable, "scripts/generate_proto.py", "--check"], check=True)
