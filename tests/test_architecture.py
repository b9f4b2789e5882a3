"""What may import what, and when: the rules that lint-imports cannot see."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import sandbox_service

PACKAGE = Path(sandbox_service.__file__).parent
_FAMILIAR = {"httpx", "pydantic"}
_SERVER = {"fastapi", "starlette", "uvicorn", "redis", "grpc", "torch", "structlog", "prometheus_client"}


def imported_by(path: Path) -> set[str]:
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            names.add(node.module)
    return names


@pytest.mark.parametrize("path", sorted((PACKAGE / "inside").glob("*.py")), ids=lambda path: path.name)
def test_what_runs_in_the_jail_needs_the_standard_library_only(path: Path) -> None:
    """The jail has no package of ours but this folder, whatever image it runs."""
    for name in imported_by(path):
        top = name.split(".")[0]
        assert top in sys.stdlib_module_names or name.startswith("sandbox_service.inside"), name


def test_only_the_worker_looks_inside() -> None:
    """Two formats cross the jail's wall: frames, and the files that were fetched."""
    for path in PACKAGE.rglob("*.py"):
        inside = {name for name in imported_by(path) if name.startswith("sandbox_service.inside")}
        if inside and "inside" not in path.parts:
            assert path.parent.name == "worker", path
            assert inside <= {"sandbox_service.inside", "sandbox_service.inside.frames"}, path


def modules_after(statement: str) -> set[str]:
    code = f"import sys; {statement}; print(*{{name.split('.')[0] for name in sys.modules}})"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return set(found.stdout.split())


def test_importing_the_client_loads_nothing_of_the_server() -> None:
    """It lives beside a trainer's own packages."""
    loaded = modules_after("import sandbox_service.client")
    assert loaded >= _FAMILIAR
    assert not loaded & _SERVER


def test_importing_the_package_loads_nothing() -> None:
    assert not modules_after("import sandbox_service") & (_SERVER | _FAMILIAR)


@pytest.mark.timeout(300)  # everything, torch too, on a machine that does other things
def test_nothing_happens_at_import() -> None:
    """No connection, no thread, no settings read: importing every module opens no socket and starts nothing."""
    code = (
        "import importlib, pkgutil, socket, threading, os, logging\n"
        "import sandbox_service\n"
        "def forbidden(*a, **k): raise AssertionError('a socket at import')\n"
        "socket.socket.connect = forbidden\n"
        "foreign = ('sandbox_service.integrations.verl.', 'sandbox_service.integrations.trl')  # need that trainer\n"
        "names = [m.name for m in pkgutil.walk_packages(sandbox_service.__path__, 'sandbox_service.')]\n"
        "for name in names:\n"
        "    if not name.endswith('__main__') and not name.startswith(foreign): importlib.import_module(name)\n"
        "assert threading.active_count() == 1, threading.enumerate()\n"
        "assert not logging.getLogger().handlers\n"
        "print(len(names))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env={"SANDBOX_PORT": "nonsense"}
    )
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) > 40
