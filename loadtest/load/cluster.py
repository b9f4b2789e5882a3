"""The service in parts, for measurements: Redis, some gateways and workers, started when the test wants them.

Nothing is started again when it dies: a part that ends spoils the measurement, and `check` says so.
"""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import redis

from sandbox_service.config import Settings
from sandbox_service.embedded import EmbeddedServer, die_with
from sandbox_service.queue.keys import with_prefix

_KEYS = with_prefix("sandbox")
READY_S = 120.0
STOP_S = 40.0


class Cluster:
    """Redis runs from the start; `add_gateway` and `add_worker` do not wait, `wait_ready` does."""

    def __init__(self, folder: Path, **variables: object) -> None:
        self._folder = folder
        self._variables = {f"SANDBOX_{name.upper()}": str(value) for name, value in variables.items()}
        self.redis = EmbeddedServer(folder / "redis", folder / "run" / "redis.sock")
        self.redis.start()
        self.gateways: list[subprocess.Popen[bytes]] = []
        self.workers: list[subprocess.Popen[bytes]] = []
        self.urls: list[str] = []
        self.rpc_targets: list[str] = []
        """Of those gateways that speak gRPC too."""

    def add_gateway(self, *, rpc: bool = False) -> None:
        port = _free_port()
        self.urls.append(f"http://127.0.0.1:{port}")
        more = {"GRPC_PORT": _free_port()} if rpc else {}
        self.rpc_targets += [f"127.0.0.1:{each}" for each in more.values()]
        self.gateways.append(self._start("gateway", PORT=port, **more))

    def add_worker(self, prefix: tuple[str, ...] = (), **variables: object) -> None:
        """Start a worker; `prefix` is a command to start it with (`unshare --net`, `taskset`)."""
        self.workers.append(self._start("worker", prefix, **variables))

    def _start(self, part: str, prefix: tuple[str, ...] = (), **variables: object) -> subprocess.Popen[bytes]:
        own = {
            **self._variables,
            "SANDBOX_REDIS_URL": self.redis.url,
            "SANDBOX_RUN_DIR": str(self._folder / "run"),
            "SANDBOX_LOG_LEVEL": "error",
            **{f"SANDBOX_{name.upper()}": str(value) for name, value in variables.items()},
        }
        return subprocess.Popen(
            [*prefix, sys.executable, "-P", "-m", "sandbox_service", part],
            env={**os.environ, **own},
            stdin=subprocess.DEVNULL,
            start_new_session=True,
            preexec_fn=die_with(os.getpid()),
        )

    def wait_alive(self) -> None:
        """Wait until every gateway listens; there need be no worker."""
        self._wait("/healthz")

    def wait_ready(self) -> None:
        """Wait until every gateway has seen a worker, and every worker is at work."""
        self._wait("/readyz")
        with redis.Redis.from_url(self.redis.url) as client:
            give_up = time.monotonic() + READY_S
            while client.scard(_KEYS["WORKERS"]) < len(self.workers):  # what `readyz` does not tell
                self.check()
                if time.monotonic() > give_up:
                    raise RuntimeError("a worker did not become ready")
                time.sleep(0.1)

    def _wait(self, path: str) -> None:
        give_up = time.monotonic() + READY_S
        for url in self.urls:
            while True:
                self.check()
                try:
                    if httpx.get(url + path, timeout=5, trust_env=False).status_code == httpx.codes.OK:
                        break
                except httpx.HTTPError:
                    pass
                if time.monotonic() > give_up:
                    raise RuntimeError(f"{url}{path} was not ready within {READY_S:.0f} s")
                time.sleep(0.05)

    def check(self) -> None:
        for process in (*self.gateways, *self.workers):
            if process.poll() is not None:
                raise RuntimeError(f"a part of the service ended with {process.returncode}")

    def stop(self) -> None:
        for parts in (self.gateways, self.workers):
            for process in parts:
                process.terminate()
            for process in parts:
                try:
                    process.wait(STOP_S)
                except subprocess.TimeoutExpired:
                    process.kill()
                    process.wait()
        self.redis.stop()


@contextmanager
def cluster(gateways: int = 1, workers: int = 1, *, rpc: bool = False, **variables: object) -> Iterator[Cluster]:
    """Yield a service with this many parts; with `workers=0` its gateways accept and nothing runs yet."""
    with tempfile.TemporaryDirectory(prefix="load-") as name:
        folder = Path(name)
        folder.chmod(0o711)  # the jails' users have to reach what is below
        (folder / "run").mkdir(mode=0o711)
        made = Cluster(folder, state_dir=Settings().state_dir, **variables)
        try:
            for _ in range(gateways):
                made.add_gateway(rpc=rpc)
            for _ in range(workers):
                made.add_worker()
            if workers:
                made.wait_ready()
            else:
                made.wait_alive()
            yield made
        finally:
            made.stop()


def _free_port() -> int:
    with socket.socket() as trial:
        trial.bind(("127.0.0.1", 0))
        found: int = trial.getsockname()[1]
        return found
