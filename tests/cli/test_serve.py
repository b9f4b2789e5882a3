"""`serve`: the whole service as a user starts it, and what is left when any part of it dies."""

from __future__ import annotations

import json
import os
import pty
import shlex
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import httpx
import pytest

from sandbox_service.cli import main
from sandbox_service.config import Settings
from sandbox_service.errors import SetupError
from sandbox_service.serve import Part

PARTS = ("gateway", "worker", "redis")


def wait_for(condition: Callable[[], object], timeout_s: float = 40) -> None:
    give_up = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < give_up, "it did not happen in time"
        time.sleep(0.02)


class Running:
    """One `sandbox-service serve` with folders of its own and the images of this machine."""

    def __init__(self, folder: Path, *options: str, terminal: int | None = None) -> None:
        self.folder = folder
        state = folder / "state"
        state.mkdir()
        state.joinpath("images").symlink_to(Settings().state_dir / "images")
        self.run_dir = folder / "run"
        variables = {"SANDBOX_STATE_DIR": str(state), "SANDBOX_RUN_DIR": str(self.run_dir), "SANDBOX_DRAIN_S": "5"}
        self.log = folder / "log"
        with self.log.open("w") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-P", "-m", "sandbox_service", "serve", "--port", "0", "--slots", "1", *options],
                cwd=folder,
                env={**os.environ, **variables},
                stdout=subprocess.PIPE,
                stderr=log if terminal is None else terminal,
                text=True,
                start_new_session=True,
            )
        assert self.process.stdout is not None
        told = []
        while "curl" not in (told or [""])[-1]:
            line = self.process.stdout.readline()
            assert line, self.log.read_text()
            told.append(line)
        assert self.process.stdout.readline() == "\n"  # the end of what it prints: nobody has to read on
        self.process.stdout.close()
        self.curl = shlex.split(told[-1])
        self.url = self.curl[2].removesuffix("/v1/calls")

    def call(self) -> dict[str, object]:
        """Do what the printed curl line does."""
        body = json.loads(self.curl[self.curl.index("-d") + 1])
        answer: dict[str, object] = httpx.post(self.curl[2], json=body, timeout=30).json()
        return answer

    def is_ready(self) -> bool:
        try:
            return httpx.get(f"{self.url}/readyz").status_code == 200
        except httpx.HTTPError:
            return False

    def children(self) -> dict[str, int]:
        """Process ids of the parts, by name."""
        found = {}
        listed = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text().split()
        for pid in map(int, listed):
            words = Path(f"/proc/{pid}/cmdline").read_text().replace("\0", " ").split()
            if words:  # else it has ended
                found[words[-1] if words[-1] in PARTS else "redis"] = pid
        return found

    def left_over(self) -> list[str]:
        """Everything of this service that is still there: processes that name its folder, its mounts and sockets."""
        # os.walk does not mind a folder that goes away meanwhile.
        left = [os.path.join(folder, name) for folder, _, files in os.walk(self.run_dir) for name in files]
        for process in Path("/proc").glob("[0-9]*"):
            try:
                if str(self.folder).encode() in process.joinpath("environ").read_bytes():
                    left.append(process.joinpath("cmdline").read_text().replace("\0", " "))
            except OSError:
                continue
        return left


@pytest.fixture(scope="module")
def running() -> Iterator[Running]:
    with tempfile.TemporaryDirectory(prefix="serve-") as folder:
        Path(folder).chmod(0o755)
        for name in ("structlog", "queue", "sandbox_service"):  # what a part would import first, if it looked here
            Path(folder, f"{name}.py").write_text("raise RuntimeError('imported from the working directory')")
        service = Running(Path(folder), "--host", "127.0.0.3")
        yield service
        if service.process.poll() is None:
            service.process.terminate()
        service.process.wait(40)
        assert service.left_over() == []


@pytest.mark.slow
def test_the_printed_line_works(running: Running) -> None:
    """What `serve` prints can be pasted and answers 42."""
    answer = running.call()
    assert (answer["status"], answer["stdout"]) == ("ok", "42\n")


@pytest.mark.slow
def test_the_options_reach_the_parts(running: Running) -> None:
    """--host and --slots are the gateway's and the worker's; the working directory is on nobody's import path."""
    assert running.url.startswith("http://127.0.0.3:")
    assert httpx.get(f"{running.url}/readyz").status_code == 200
    assert '"slots": 1,' in running.log.read_text()


def test_an_open_address_is_refused_without_keys(capsys: pytest.CaptureFixture[str]) -> None:
    """Given as an option as well as in SANDBOX_HOST, and before anything is built."""
    assert main(["serve", "--host", "0.0.0.0"]) == 2
    assert "without API keys" in capsys.readouterr().err


@pytest.mark.parametrize("host", ["192.0.2.1", "no.such.host.invalid", "a..b"])
def test_an_unusable_address_is_one_clear_line(
    host: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    keys = tmp_path / "keys"
    keys.write_text(f"tenant:{'0' * 64}\n")
    monkeypatch.setenv("SANDBOX_API_KEYS_FILE", str(keys))
    assert main(["serve", "--host", host]) == 2
    (told,) = capsys.readouterr().err.splitlines()
    assert "--host" in told
    assert repr(host) in told


def test_a_bad_tenants_file_is_told_before_anything_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Even beside a service that has the port: what has to be mended is the file."""
    tenants = tmp_path / "tenants.toml"
    tenants.write_text("[tenants.a]\nwieght = 2\n")
    monkeypatch.setenv("SANDBOX_TENANTS_FILE", str(tenants))
    with socket.create_server(("127.0.0.1", 0)) as other:
        assert main(["serve", "--port", str(other.getsockname()[1])]) == 2
    assert capsys.readouterr().err.splitlines() == [
        f"sandbox-service: {tenants} is not valid:",
        "  tenants.a.wieght: there is no such field; did you mean weight?",
    ]


def test_a_port_in_use_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    """Else the readiness of whoever answers there would be taken for ours."""
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        assert main(["serve", "--port", str(port)]) == 2
        (told,) = capsys.readouterr().err.splitlines()
        assert f"port {port} is in use" in told
        assert main(["serve", "--port", "0", "--grpc-port", str(port)]) == 2
    (told,) = capsys.readouterr().err.splitlines()
    assert f"port {port} is in use" in told
    assert "--grpc-port (SANDBOX_GRPC_PORT)" in told


@pytest.mark.slow
@pytest.mark.parametrize("part", PARTS)
def test_a_part_that_is_killed_is_replaced(running: Running, part: str) -> None:
    """SIGKILL of any one part: the service answers again, with the other parts untouched."""
    before = running.children()
    assert set(before) == set(PARTS)
    os.kill(before[part], signal.SIGKILL)
    wait_for(lambda: set(now := running.children()) == set(PARTS) and now[part] != before[part])
    wait_for(running.is_ready)
    assert running.call()["status"] == "ok"
    after = running.children()
    assert {name for name in PARTS if after[name] != before[name]} == {part}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGTERM, 0), (signal.SIGINT, 0), (signal.SIGHUP, 0), (signal.SIGKILL, -9)]
)
def test_it_ends_as_a_whole(number: signal.Signals, code: int) -> None:
    """Asked to stop, it exits with 0 and leaves nothing. Killed itself, its parts end as well."""
    with tempfile.TemporaryDirectory(prefix="serve-") as folder:
        Path(folder).chmod(0o755)
        service = Running(Path(folder))
        # As a terminal does for Ctrl-C: to the whole group.
        os.killpg(service.process.pid, number)
        assert service.process.wait(40) == code
        wait_for(lambda: [left for left in service.left_over() if not left.endswith(".sock")] == [])
        if number is not signal.SIGKILL:  # nobody was there to remove the socket; the next start does
            assert service.left_over() == []
            assert not service.run_dir.exists()
            assert "waiting up to" not in service.log.read_text()
            assert '"event": "worker stopped"' in service.log.read_text()


@pytest.mark.slow
def test_the_end_of_its_terminal_lets_calls_end() -> None:
    """Nothing that it has to say can be written any more; what runs is answered all the same, and nothing is left."""
    with tempfile.TemporaryDirectory(prefix="serve-") as folder:
        Path(folder).chmod(0o755)
        terminal, theirs = pty.openpty()
        service = Running(Path(folder), terminal=theirs)
        os.close(theirs)
        post = partial(httpx.post, f"{service.url}/v1/calls", timeout=30)
        with ThreadPoolExecutor() as pool:
            asked = pool.submit(post, json={"id": "a", "code": "import time; time.sleep(3); print('done')"})
            wait_for(lambda: httpx.get(f"{service.url}/v1/calls/a").json().get("state") == "running")
            os.close(terminal)
            service.process.send_signal(signal.SIGHUP)
            assert asked.result().json()["stdout"] == "done\n"
        assert service.process.wait(40) == 0
        wait_for(lambda: service.left_over() == [])


@pytest.mark.slow
def test_a_second_service_on_the_same_data_says_what_it_waits_for_and_can_be_stopped(running: Running) -> None:
    """It names the process that holds the data at once, ends on SIGTERM meanwhile, and leaves the first one alone."""
    variables = {"SANDBOX_STATE_DIR": str(running.folder / "state"), "SANDBOX_RUN_DIR": str(running.run_dir)}
    second = subprocess.Popen(
        [sys.executable, "-P", "-m", "sandbox_service", "serve", "--port", "0"],
        env={**os.environ, **variables},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert second.stderr is not None
    told = next(line for line in second.stderr if "waiting for its end" in line)
    assert json.loads(told)["process"] == str(running.children()["redis"])
    second.terminate()
    asked = time.monotonic()
    assert second.wait(10) == 0
    assert time.monotonic() - asked < 1
    second.stderr.close()
    assert running.is_ready()
    assert running.call()["status"] == "ok"


@pytest.mark.slow
def test_a_second_request_to_stop_does_not_wait() -> None:
    """With a call running: the first one says what it waits for, the second ends all at once and leaves nothing."""
    with tempfile.TemporaryDirectory(prefix="serve-") as folder, ThreadPoolExecutor(1) as threads:
        Path(folder).chmod(0o755)
        service = Running(Path(folder))
        workers = [path.name for path in service.run_dir.joinpath("workers").iterdir()]
        call = {"code": "import time; time.sleep(60)", "limits": {"wall_s": 60}}
        threads.submit(httpx.post, f"{service.url}/v1/calls", json=call, timeout=60)
        claimed = {"sandbox_calls_in_flight 1.0", "sandbox_queue_depth 0.0"}
        wait_for(lambda: claimed <= set(httpx.get(f"{service.url}/metrics").text.splitlines()))
        os.killpg(service.process.pid, signal.SIGINT)
        wait_for(lambda: "waiting up to 5 s for running calls" in service.log.read_text())
        os.killpg(service.process.pid, signal.SIGINT)
        asked = time.monotonic()
        assert service.process.wait(20) == 0
        assert time.monotonic() - asked < 4
        assert not service.run_dir.exists()
        assert [path for name in workers for path in Path("/sys/fs/cgroup").rglob(f"*{name}*")] == []
        wait_for(lambda: service.left_over() == [])


@pytest.mark.slow
def test_run_needs_no_service(tmp_path: Path) -> None:
    """`run` starts the same service for one call, ends it, and exits by what became of the code."""
    program = tmp_path / "program.py"
    program.write_text("import sys\nprint(sys.stdin.read().upper())\nsys.exit(3)")
    text = tmp_path / "text"
    text.write_text("hello")
    # Nothing listens on port 9 here.
    arguments = ["run", str(program), "--stdin", str(text), "--url", "http://127.0.0.1:9"]
    ran = subprocess.run(
        [sys.executable, "-m", "sandbox_service", *arguments], capture_output=True, text=True, check=False
    )
    assert ran.returncode == 1, ran.stderr
    result = json.loads(ran.stdout)
    assert (result["status"], result["exit_code"], result["stdout"]) == ("failed", 3, "HELLO\n")


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_service_for_one_call_ends_with_it(number: signal.Signals) -> None:
    """Told to end while the call runs, it leaves neither folders nor processes."""
    with tempfile.TemporaryDirectory(prefix="run-") as folder:
        Path(folder).chmod(0o755)
        program = Path(folder, "program.py")
        program.write_text("import time\ntime.sleep(60)")
        environment = {**os.environ, "TMPDIR": folder, "SANDBOX_PORT": "9"}
        with subprocess.Popen(
            [sys.executable, "-m", "sandbox_service", "run", str(program)], env=environment
        ) as process:
            journals = partial(Path(folder).glob, "sandbox-run-*/redis/appendonlydir/*.aof")
            wait_for(lambda: any(b"claimed_at" in journal.read_bytes() for journal in journals()))
            process.send_signal(number)
            assert process.wait(40) == 128 + number
        assert os.listdir(folder) == ["program.py"]


def test_a_part_that_dies_is_started_again() -> None:
    part = Part("sleeper", ["sleep", "60"])
    part.start()
    try:
        first = part._process
        assert first is not None
        first.kill()
        first.wait()
        part.watch()
        assert part._process is None  # its pause
        wait_for(lambda: part.watch() or part._process is not None)
        assert part._process is not first
    finally:
        part.wait(0)


def test_a_part_that_cannot_stay_up_ends_the_service() -> None:
    """Five ends at once in a row: no endless loop of starts."""
    part = Part("broken", ["false"])
    part.start()

    with pytest.raises(SetupError, match="5 times in a row"):
        wait_for(part.watch)


def test_a_part_that_says_it_cannot_run_here_is_not_tried_again() -> None:
    part = Part("unusable", ["sh", "-c", "exit 2"])
    part.start()
    assert part._process is not None
    part._process.wait()
    with pytest.raises(SetupError, match="the unusable ended with code 2"):
        part.watch()


def test_a_part_that_ignores_the_request_is_killed() -> None:
    """Stopping has a bound."""
    part = Part("stubborn", ["sh", "-c", "trap '' TERM; echo ready >&2; while true; do sleep 1; done"])
    part.start()
    assert part._process is not None
    started = time.monotonic()
    part.ask_to_stop()
    part.wait(time.monotonic() + 0.5)
    assert part._process.returncode in (-signal.SIGKILL, -signal.SIGTERM)
    assert time.monotonic() - started < 5
