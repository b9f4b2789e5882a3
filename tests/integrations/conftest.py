"""Contract tests inside other trainers' environments: `make integrations-test`.

They stand apart from `tests/conftest.py` (`--confcutdir`), which needs the server's packages: the service runs from the
main environment.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.tiny_model import write_model

# For Ray, which reads them when it is imported: no reports to its makers, no key below the home directory.
os.environ |= {"RAY_USAGE_STATS_ENABLED": "0", "RAY_AUTH_MODE": "disabled"}
# For Hugging Face's data sets, which keep a copy of every file that they read.
_CACHE = tempfile.TemporaryDirectory(prefix="sandbox-hf-")
os.environ["HF_HOME"] = _CACHE.name
ROOT = Path(__file__).parents[2]
_SERVE = "import sys; from sandbox_service.serve import temporary_service\n" \
    "with temporary_service() as url: print(url, flush=True); sys.stdin.read()"  # fmt: skip


@pytest.fixture(scope="session")
def service_url() -> Iterator[str]:
    """A service from the main environment."""
    with subprocess.Popen(
        [ROOT / ".venv/bin/python", "-c", _SERVE], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdin
        assert process.stdout
        yield process.stdout.readline().strip()
        process.stdin.close()
        try:
            process.wait(30)
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGTERM)


@pytest.fixture(scope="session")
def ray_cluster() -> Iterator[None]:
    """Ray and TransferQueue on this machine. The CPUs are only what Ray counts: each of verl's actors asks for one."""
    import ray
    import transfer_queue as tq

    ray.init(num_cpus=16, include_dashboard=False, object_store_memory=100 * 2**20, log_to_driver=True)
    tq.init({"backend": {"SimpleStorage": {"num_data_storage_units": 1}}})
    yield
    tq.close()
    ray.shutdown()


@pytest.fixture(scope="session")
def model_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("model")
    write_model(folder)
    return folder


def call_text(code: str) -> str:
    """A turn that calls the tool."""
    from sandbox_service.client.tools import TOOL_NAME

    arguments: dict[str, Any] = {"code": code, "input": ""}
    return f"try</reason><tool_call>{json.dumps({'name': TOOL_NAME, 'arguments': arguments})}</tool_call>"


def answer_text(answer: str) -> str:
    return f"so</reason><answer>\\boxed{{{answer}}}</answer>"
