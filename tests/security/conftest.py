"""The service under attack: one for the session, with secrets planted where nothing may read them."""

from __future__ import annotations

import os
import secrets
import socket
import subprocess
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from unittest import mock

import httpx
import pytest
import redis

from sandbox_service.config import Settings
from sandbox_service.models import Result
from sandbox_service.serve import temporary_service
from sandbox_service.worker import rootfs
from tests.security import machine
from tests.security.cases import Case
from tests.security.harness import GOLDEN, NEIGHBOUR, SLOTS, Attacker, Target

_TEST_S = 60
_ANSWER_S = 50.0
_KERNEL_SETTINGS = ("core_pattern", "hostname", "randomize_va_space", "pid_max", "printk")

Attack = Callable[[Case], Awaitable[Result]]


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "covers(*ids): ids of the acceptance list (A01) and of pitfalls (P1)")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    here = Path(__file__).parent
    for item in items:
        if here in item.path.parents:
            item.add_marker(pytest.mark.slow)
            if item.get_closest_marker("timeout") is None:
                item.add_marker(pytest.mark.timeout(_TEST_S, func_only=True))


@pytest.fixture(scope="session")
def target() -> Iterator[Target]:
    planted = {name: f"canary-{name.lower()}-{secrets.token_hex(8)}" for name in ("ENVIRONMENT", "REDIS", "FILE")}
    metrics_port = _free_port()
    environment = {
        "DATABASE_PASSWORD": planted["ENVIRONMENT"],  # reaches gateway and worker as any deployment's secrets would
        "SANDBOX_SLOTS": str(SLOTS),
        "SANDBOX_PROFILES": "bare,numpy",
        "SANDBOX_WORKER_METRICS_PORT": str(metrics_port),
    }
    with tempfile.NamedTemporaryFile("w", prefix="canary-") as file, _bystander() as bystander:
        file.write(planted["FILE"])
        file.flush()
        settings_before = _kernel_settings()
        with ExitStack() as stack:
            with mock.patch.dict(os.environ, environment):  # for this service alone, not for others of this session
                url = stack.enter_context(temporary_service())
            worker_pid = machine.part("worker", os.getpid(), url)
            redis_url = machine.environment(worker_pid)["SANDBOX_REDIS_URL"]
            with redis.Redis.from_url(redis_url) as server:
                server.set("canary", planted["REDIS"], ex=3600)
            yield _target(url, worker_pid, f"http://127.0.0.1:{metrics_port}/metrics", tuple(planted.values()))
            assert bystander.poll() is None  # G7, as all below
        assert Path(file.name).read_text() == planted["FILE"]
        assert _kernel_settings() == settings_before
        assert rootfs.verify(rootfs.load(Settings().image, Settings())) == []


@contextmanager
def _bystander() -> Iterator[subprocess.Popen[bytes]]:
    """A process of the machine that nobody may touch."""
    with subprocess.Popen(["sleep", "3600"]) as process:
        try:
            yield process
        finally:
            process.kill()


def _target(url: str, worker_pid: int, metrics_url: str, tokens: tuple[str, ...]) -> Target:
    with httpx.Client(base_url=url, timeout=_ANSWER_S, trust_env=False) as http:
        # Everything that is opened on first use is opened now: each slot has been used a few times.
        for code in [GOLDEN, "import numpy", GOLDEN] * (2 * SLOTS):
            golden = Result.model_validate_json(http.post("/v1/calls", json={"code": code}).content)
        neighbour = Result.model_validate_json(http.post("/v1/calls", json={"code": NEIGHBOUR}).content)
    assert golden.worker is not None
    assert golden.stdout.count("\n") == 3, golden
    return Target(
        url=url,
        worker_pid=worker_pid,
        worker=golden.worker,
        metrics_url=metrics_url,
        tokens=tokens,
        golden=golden.stdout,
        neighbour=neighbour.stdout,
        at_rest=_at_rest(worker_pid),
    )


def _at_rest(worker_pid: int) -> machine.Footprint:
    """What is there once the slot of the last call is clean too: the same, several times in a row."""
    seen = [machine.footprint(worker_pid)]
    while len(seen) < 4 or len(set(seen[-4:])) > 1:
        assert len(seen) < 100, seen[-4:]
        time.sleep(0.1)
        seen.append(machine.footprint(worker_pid))
    return seen[-1]


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _kernel_settings() -> list[str]:
    return [Path("/proc/sys/kernel", name).read_text() for name in _KERNEL_SETTINGS]


@pytest.fixture
async def attacker(target: Target) -> AsyncIterator[Attacker]:
    async with httpx.AsyncClient(base_url=target.url, timeout=_ANSWER_S, trust_env=False) as http:
        yield Attacker(target, http)


@pytest.fixture
def attack(attacker: Attacker) -> Attack:
    """`await attack(case)`: the case against the service, with all general checks."""
    return attacker.attack
