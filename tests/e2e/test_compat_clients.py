"""The real clients of SandboxFusion against the service: its SDK from PyPI, and verl's reward client from its wheel."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parents[2] / "examples"
WHEEL = "verl-0.9.1-py3-none-any.whl"


async def example(name: str, *arguments: str) -> list[str]:
    command = [sys.executable, str(EXAMPLES / name), *arguments]
    ran = await asyncio.to_thread(subprocess.run, command, capture_output=True, text=True, timeout=55)
    assert ran.returncode == 0, ran.stderr
    return ran.stdout.splitlines()


async def test_the_sandbox_fusion_sdk(service_url: str) -> None:
    """Blocking, asynchronous, concurrent, and notebooks."""
    assert await example("sandbox_fusion_sdk.py", service_url) == [
        "Success 42",
        "Failed 3 42",
        str([number**2 for number in range(20)]),
        "Success 42",
    ]


@pytest.fixture(scope="session")
def verl_wheel(tmp_path_factory: pytest.TempPathFactory) -> str:
    """verl's own wheel; nothing of it is installed."""
    folder = tmp_path_factory.mktemp("verl")
    pip = [sys.executable, "-m", "pip", "download", "-q", "--no-deps", "--no-input", "verl==0.9.1", "-d", str(folder)]
    asked = subprocess.run(pip, capture_output=True, text=True, timeout=120)
    if asked.returncode:
        pytest.skip(f"verl's wheel cannot be had here: {asked.stderr.strip()[-200:]}")
    return str(folder / WHEEL)


async def test_verls_reward_client(service_url: str, verl_wheel: str) -> None:
    """Right, half right, failing and endless programs: scores and the statuses that verl derives."""
    assert await example("verl_reward.py", service_url, verl_wheel) == [
        "1.0 ['success', 'success']",
        "0.5 ['success', 'wrong_answer']",
        "0.0 ['runtime_error', 'runtime_error']",
        "0.0 ['timeout', 'timeout']",
    ]
