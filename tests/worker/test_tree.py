"""Filling a tree: what it starts ends with it."""

from __future__ import annotations

from pathlib import Path

import pytest

from sandbox_service.errors import SetupError
from sandbox_service.worker import tree
from tests.conftest import WaitUntil


async def test_who_is_stopped_takes_along_what_was_started(wait_until: WaitUntil) -> None:
    """Ctrl-C or SIGTERM while packages are downloaded: pip ends at once, with what it has started."""
    started = []

    def stop(line: str) -> None:
        started.append(int(line))
        if len(started) == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        tree._run(["sh", "-c", "echo $$; sleep 60 & echo $!; wait"], stop)
    await wait_until(lambda: not any(is_running(pid) for pid in started))


_SETS = """
class Sets:
    def first(self):
        return self.mode in {"spam", "eggs"}
    def second(self):
        if self.mode in {"spam", "eggs"}: pass
        elif self.mode == "ham": pass
"""
"""CPython 3.12 writes one set or two, by whether the process has seen the strings before (seen in scipy)."""


def test_byte_code_depends_on_its_own_package_alone(tmp_path: Path) -> None:
    """Not on what was compiled before it by the same process: equal inputs give an equal hash, and two images share
    what both have."""
    alone = compiled(tmp_path / "alone", {"later.py": _SETS})
    earlier = {f"earlier/m{number}.py": "spam = eggs = ham = 1\n" for number in range(40)}
    beside = compiled(tmp_path / "beside", {**earlier, "later.py": _SETS})
    assert beside["later"] == alone["later"]
    assert len(beside) == 41


def test_what_is_no_python_is_left_alone(tmp_path: Path) -> None:
    """Templates of modules."""
    assert {*compiled(tmp_path, {"good.py": "", "template.py": "{{ name }} = 1 1\n", "notes.txt": ""})} == {"good"}


def test_a_compiler_that_dies_is_told(tmp_path: Path) -> None:
    """An image without some of its byte code would be another image."""
    base = tree.find_base(tree.find_interpreters(None))
    with pytest.raises(SetupError, match="No such file"):
        tree.compile_byte_code(tmp_path, base)


def compiled(place: Path, files: dict[str, str]) -> dict[str, bytes]:
    """Compile a tree with these files among its packages; return the byte code by the modules' names."""
    base = tree.find_base(tree.find_interpreters(None))
    for path in (base.stdlib, base.site):
        place.joinpath(base.inside(path).lstrip("/")).mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        path = place / base.inside(base.site).lstrip("/") / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
    tree.compile_byte_code(place, base)
    return {path.name.partition(".")[0]: path.read_bytes() for path in place.rglob("*.pyc")}


def is_running(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()[0] != b"Z"
    except FileNotFoundError:
        return False
