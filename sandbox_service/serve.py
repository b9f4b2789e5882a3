"""`serve`: the whole service on one machine: embedded Redis, a gateway and a worker, as child processes.

Owns their lives. A part that dies is started again, later each time; one that cannot stay up ends the service, saying
so. SIGTERM, Ctrl-C or the end of its terminal stops the gateway first (it lets what it accepted finish), then the
worker, then Redis; a second one does not wait. The parts are children in the strict sense: the kernel ends them when
this process is killed.
Leaves no process, socket, folder or cgroup behind other than `{state_dir}`.
"""

from __future__ import annotations

import errno
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from types import FrameType

import httpx
import structlog

from sandbox_service import doctor, logs
from sandbox_service.config import Settings
from sandbox_service.embedded import EmbeddedServer, die_with, socket_of
from sandbox_service.errors import SetupError
from sandbox_service.gateway.auth import Gatekeeper
from sandbox_service.gateway.tenants import Tenants
from sandbox_service.progress import build_progress, ended_by_signals
from sandbox_service.worker import rootfs
from sandbox_service.worker.leftovers import remove_leftovers

_TICK_S = 0.1
_READY_S = 120.0
"""A first start warms every profile; a slow machine takes some seconds for it."""
_IDLE_STOP_S = 1.5
"""A part with nothing to wait for has ended by then."""
_LEFTOVERS_S = 3.0
"""The jails of a killed worker end within this time."""
_STABLE_S = 20.0
"""A part that lived this long has not failed "at once"."""
_FAILURES = 5
_LONGEST_PAUSE_S = 5.0


class Part:
    """One child process that is kept running."""

    def __init__(self, name: str, argv: list[str]) -> None:
        self.name = name
        self._argv = argv
        self._process: subprocess.Popen[bytes] | None = None
        self._started = 0.0
        self._failures = 0
        self._not_before = 0.0

    def start(self) -> None:
        # A group of its own: Ctrl-C on the terminal reaches this process alone, which stops the parts in order.
        self._process = subprocess.Popen(
            self._argv, stdin=subprocess.DEVNULL, start_new_session=True, preexec_fn=die_with(os.getpid())
        )
        self._started = time.monotonic()

    def watch(self) -> None:
        """Start it again if it died and its pause is over; SetupError if it cannot stay up."""
        if self._process is None:
            if time.monotonic() >= self._not_before:
                self.start()
            return
        code = self._process.poll()
        if code is None:
            return
        lived = time.monotonic() - self._started
        self._failures = 1 if lived > _STABLE_S else self._failures + 1
        how = f"ended by {signal.Signals(-code).name}" if code < 0 else f"ended with code {code}"
        if code == SetupError.exit_code or self._failures >= _FAILURES:
            times = f" {self._failures} times in a row" if self._failures > 1 else ""
            raise SetupError(f"the {self.name} {how}{times}; what it said about it is above")
        pause = min(0.1 * 2**self._failures, _LONGEST_PAUSE_S)
        structlog.get_logger(component="serve").warning("restarting", part=self.name, how=how, pause_s=pause)
        self._process, self._not_before = None, time.monotonic() + pause

    def ask_to_stop(self) -> None:
        if self._process is not None:
            self._process.terminate()

    def ends_within(self, seconds: float) -> bool:
        try:
            return self._process is None or self._process.wait(seconds) is not None
        except subprocess.TimeoutExpired:
            return False

    def wait(self, until: float) -> None:
        """Wait for its end; from `until` (monotonic) on, kill it."""
        if self._process is None:
            return
        try:
            self._process.wait(max(0.0, until - time.monotonic()))
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()


class Service:
    """All parts together. `start`, then `watch` now and then, then `stop`, all from the same thread."""

    def __init__(self, settings: Settings, given: Mapping[str, object], data_dir: Path) -> None:
        port = _find_port(settings.host, settings.port, "--host (SANDBOX_HOST)", "--port (SANDBOX_PORT)")
        self.url = f"http://{_reachable(settings.host)}:{port}"
        self.grpc_url: str | None = None
        self._started = False
        self._drain_s = settings.drain_s
        self._run_dir = settings.run_dir
        self._redis = None if settings.redis_url else EmbeddedServer(data_dir, socket_of(settings.run_dir, data_dir))
        shared = {**given, "port": port}
        if settings.grpc_port is not None:
            options = "SANDBOX_GRPC_HOST", "--grpc-port (SANDBOX_GRPC_PORT)"
            shared["grpc_port"] = _find_port(settings.grpc_host, settings.grpc_port, *options)
            self.grpc_url = f"grpc://{_reachable(settings.grpc_host)}:{shared['grpc_port']}"
        if self._redis is not None:
            shared["redis_url"] = self._redis.url
        # Through env(1): this process changes no variable of its own and reads none.
        variables = [f"SANDBOX_{name.upper()}={value}" for name, value in shared.items()]
        # SECURITY: -P, or files of the folder that we were started in would be imported as root (test_serve.py).
        python = ["env", *variables, sys.executable, "-P", "-m", "sandbox_service"]
        self.parts = [Part("worker", [*python, "worker"]), Part("gateway", [*python, "gateway"])]

    def start(self, signals: _Signals) -> None:
        if self._redis is not None and not self._redis.start(lambda: signals.count > 0):
            return
        self._started = True
        for part in self.parts:
            part.start()

    def watch(self, signals: _Signals) -> None:
        if self._redis is not None and self._redis.poll() is not None:
            structlog.get_logger(component="serve").warning("restarting", part="redis")
            if not self._redis.start(lambda: signals.count > 0):
                return
        for part in self.parts:
            part.watch()

    def is_ready(self) -> bool:
        try:
            return httpx.get(f"{self.url}/readyz", timeout=2, trust_env=False).status_code == httpx.codes.OK
        except httpx.HTTPError:
            return False

    def stop(self, *, drain: bool = True) -> None:
        """End the gateway, then the worker, then Redis, each within its bound."""
        told = not drain
        for part in reversed(self.parts):
            part.ask_to_stop()
            if not told and not part.ends_within(_IDLE_STOP_S):
                told = True
                note = f"waiting up to {self._drain_s:g} s for running calls; Ctrl-C again stops now"
                with suppress(OSError):  # the terminal may be gone
                    print(note, file=sys.stderr)
            part.wait(time.monotonic() + (self._drain_s + 5 if drain else 0))
        if self._redis is not None:
            self._redis.stop()
        if self._started:  # else they may be of the service that we waited for
            self._remove_folders()

    def _remove_folders(self) -> None:
        """Remove what a killed worker has left, as soon as its jails have ended, and then the empty folders."""
        workers = self._run_dir / "workers"
        give_up = time.monotonic() + _LEFTOVERS_S
        while any(workers.glob("*")) and time.monotonic() < give_up:
            remove_leftovers(workers)
            time.sleep(_TICK_S)
        for folder in (workers, self._run_dir):
            with suppress(OSError):  # not empty: another service uses it; or a mount point
                folder.rmdir()


class _Interrupt(BaseException):
    """A second request to stop, while the first is being carried out."""


class _Signals:
    """Turns SIGTERM, SIGINT and the end of the terminal into a flag; the second of them into an exception."""

    def __init__(self) -> None:
        self.count = 0

    def install(self) -> None:
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._note)
        if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:  # as nohup has it
            signal.signal(signal.SIGHUP, self._note)

    def _note(self, _number: int, _frame: FrameType | None) -> None:
        self.count += 1
        if self.count == 2:
            raise _Interrupt


def serve(settings: Settings, given: Mapping[str, object]) -> int:
    """Run until SIGTERM or Ctrl-C. `given` are the settings that are not in the environment, which the parts read."""
    Gatekeeper(settings)  # the gateway would refuse as well, but only once the image is there
    Tenants(settings.tenants_file)
    service = Service(settings, given, settings.redis_dir)
    logs.configure(settings.log_level)
    _prepare(settings)
    signals = _Signals()
    signals.install()
    try:
        service.start(signals)
        ready = _wait_until_ready(service, signals)
        if ready:
            _print_banner(service, needs_key=settings.api_keys_file is not None)
        while not signals.count:
            service.watch(signals)
            time.sleep(_TICK_S)
    except _Interrupt:
        pass  # both requests at once: the way out below does not wait
    finally:
        try:
            service.stop(drain=signals.count < 2)
        except _Interrupt:
            service.stop(drain=False)
    return 0


@contextmanager
def temporary_service() -> Iterator[str]:
    """Yield the URL of a service that exists for this block only, with the settings in force but a port of its own."""
    with ended_by_signals(), tempfile.TemporaryDirectory(prefix="sandbox-run-") as folder:
        Path(folder).chmod(0o711)  # the jails' users have to reach what is below
        given = {"port": 0, "run_dir": Path(folder, "run"), "log_level": "error"}
        if Settings().grpc_port is not None:
            given["grpc_port"] = 0
        settings = Settings(**given)  # type: ignore[arg-type]
        logs.configure(settings.log_level)
        _prepare(settings)
        service = Service(settings, given, Path(folder, "redis"))
        try:
            signals = _Signals()
            service.start(signals)
            _wait_until_ready(service, signals)
            yield service.url
        finally:
            service.stop()


def _prepare(settings: Settings) -> None:
    """Refuse a machine that cannot do it safely, and have the image that calls run in."""
    doctor.refuse_if_unsafe(settings)
    with build_progress(settings) as progress:
        built = rootfs.build(settings, progress)
    rootfs.load(settings.image, settings)
    if built.missing:
        missing = ", ".join(built.missing)
        print(
            f"note: the image is without {missing}; `sandbox-service rootfs build --force` tries again", file=sys.stderr
        )


def _wait_until_ready(service: Service, signals: _Signals) -> bool:
    """Return True when the service answers that it is ready, False when it was asked to stop before."""
    give_up = time.monotonic() + _READY_S
    while not signals.count:
        service.watch(signals)
        if service.is_ready():
            return True
        if time.monotonic() > give_up:
            raise SetupError(
                f"the service was not ready after {_READY_S:.0f} s; {service.url}/readyz says what is missing"
            )
        time.sleep(_TICK_S)
    return False


def _print_banner(service: Service, *, needs_key: bool) -> None:
    url, key = service.url, " -H 'Authorization: Bearer YOUR-KEY'" if needs_key else ""
    grpc = f" and {service.grpc_url}" if service.grpc_url else ""
    print(
        f"\nsandbox-service is ready at {url}{grpc} (Ctrl-C ends it). Try:\n\n"
        f"  curl -s {url}/v1/calls{key} -H 'Content-Type: application/json' -d '{{\"code\": \"print(6 * 7)\"}}'\n",
        flush=True,
    )


def _find_port(host: str, port: int, host_option: str, port_option: str) -> int:
    """Return the port to listen on, a free one for 0. SetupError if it is taken: who answers there is not ours."""
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        with socket.socket(family, kind, protocol) as trial:
            trial.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            trial.bind(address)
            found: int = trial.getsockname()[1]
            return found
    except (OSError, UnicodeError) as error:  # a name that no resolver would take is a UnicodeError
        if isinstance(error, OSError) and error.errno == errno.EADDRINUSE:
            raise SetupError(
                f"port {port} is in use on {host}: stop what listens there, or choose another: {port_option}"
            ) from error
        why = error.strerror if isinstance(error, OSError) else error
        raise SetupError(
            f"cannot listen on {host!r}: {why}; choose an address of this machine: {host_option}"
        ) from error


def _reachable(host: str) -> str:
    """Return the address to reach a listener on `host` from this machine."""
    return {"0.0.0.0": "127.0.0.1", "::": "[::1]"}.get(host, f"[{host}]" if ":" in host else host)  # noqa: S104
