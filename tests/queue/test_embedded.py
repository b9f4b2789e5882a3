"""The embedded server: one per directory, ends with its parent, leaves nothing, and starts over what a kill left."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
import redis

from sandbox_service import embedded
from sandbox_service.embedded import EmbeddedServer
from sandbox_service.errors import SetupError

WaitUntil = Callable[..., Awaitable[None]]


@pytest.fixture
def home() -> Iterator[Path]:
    with TemporaryDirectory(prefix="embedded-") as directory:
        yield Path(directory)


def server_in(home: Path) -> EmbeddedServer:
    return EmbeddedServer(home / "data", home / "redis.sock")


def is_running(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def test_it_is_set_up_for_a_queue(home: Path) -> None:
    """Append-only file, no eviction, no TCP port, a socket for its owner alone."""
    with server_in(home) as server, redis.Redis.from_url(server.url) as client:
        settings = client.config_get("append*") | client.config_get("maxmemory-policy") | client.config_get("port")
        assert settings["appendonly"] == "yes"
        assert settings["appendfsync"] == "everysec"
        assert settings["maxmemory-policy"] == "noeviction"
        assert settings["port"] == "0"
        assert server.socket_path.stat().st_mode & 0o777 == 0o700


def test_a_clean_stop_leaves_neither_process_nor_socket(home: Path) -> None:
    """And the data is there at the next start."""
    with server_in(home) as server, redis.Redis.from_url(server.url) as client:
        pid = server.pid
        client.set("key", "kept", ex=60)
    assert not is_running(pid)
    assert not server.socket_path.exists()
    server.stop()
    with server, redis.Redis.from_url(server.url) as client:
        assert client.get("key") == b"kept"


def test_one_directory_has_one_server(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A second server would corrupt the first one's file: it is refused, and the first goes on."""
    monkeypatch.setattr(embedded, "STOP_S", 0.3)
    with server_in(home) as server:
        with pytest.raises(SetupError, match=rf"another server \(process {server.pid}\) uses"):
            EmbeddedServer(home / "data", home / "other.sock").start()
        with redis.Redis.from_url(server.url) as client:
            assert client.ping()


async def test_it_dies_with_its_parent_and_the_next_start_works(home: Path, wait_until: WaitUntil) -> None:
    """kill -9 of the parent ends the server; its data and a socket file in the way do not hinder the next one."""
    program = (
        "import sys, time; from pathlib import Path; from sandbox_service.embedded import EmbeddedServer\n"
        "server = EmbeddedServer(Path(sys.argv[1]) / 'data', Path(sys.argv[1]) / 'redis.sock'); server.start()\n"
        "print(server.pid, flush=True); time.sleep(60)"
    )
    parent = subprocess.Popen([sys.executable, "-c", program, str(home)], stdout=subprocess.PIPE, text=True)
    assert parent.stdout is not None
    pid = int(parent.stdout.readline())
    with redis.Redis.from_url(server_in(home).url) as client:
        client.set("key", "kept", ex=60)
    assert is_running(pid)
    parent.send_signal(signal.SIGKILL)
    parent.wait()
    parent.stdout.close()
    with server_in(home) as server, redis.Redis.from_url(server.url) as client:
        assert client.get("key") == b"kept"
    await wait_until(lambda: not is_running(pid))


def test_a_socket_file_of_a_killed_server_is_no_hindrance(home: Path) -> None:
    """SIGKILL leaves the socket file; the next start replaces it."""
    server = server_in(home)
    server.start()
    os.kill(server.pid, signal.SIGKILL)
    assert server._process is not None
    server._process.wait()
    assert server.socket_path.exists()
    assert server.poll() == -signal.SIGKILL
    with server, redis.Redis.from_url(server.url) as client:
        assert client.ping()


def test_a_failing_start_says_why(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The message holds the end of the server's log, or the too long path; nothing is left running."""
    with pytest.raises(SetupError, match="too long"):
        EmbeddedServer(home / "data", home / ("x" * 100) / "redis.sock").start()
    (home / "data").mkdir()
    (home / "data" / "appendonlydir").write_text("in the way")
    server = server_in(home)
    with pytest.raises(SetupError, match=r"the end of .*server\.log"):
        server.start()
    assert server.poll() is None


def test_an_old_server_on_the_path_is_passed_over(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Version 6 lacks what the queue needs: the bundled one is taken; a new enough one on PATH is preferred."""
    fake = home / "redis-server"
    monkeypatch.setenv("PATH", f"{home}:{os.environ['PATH']}")
    fake.write_text("#!/bin/sh\necho 'Redis server v=6.2.1 sha=0'\n")
    fake.chmod(0o755)
    assert embedded.server_binary().name == "valkey-server"
    fake.write_text("#!/bin/sh\necho 'Redis server v=7.2.1 sha=0'\n")
    assert embedded.server_binary() == fake
