"""Unpacks Debian packages into a tree: compilers and other programs that are not Python's.

They come from the package sources of the machine that builds the image, checked by apt as for an installation; nothing
is installed on that machine, and no script of a package is run. What only people read is left out.
"""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

from sandbox_service.errors import SetupError

_ALL = ["--no-recommends", "--no-suggests", "--no-conflicts", "--no-breaks", "--no-replaces", "--no-enhances"]
_LEFT_OUT = shutil.ignore_patterns("lib64", "share", "lto1", "libasan*", "libtsan*", "liblsan*", "libubsan*", "*.py")
"""The loader's link, which points out of the tree; documents; what only `-flto` and sanitizers use."""


def add_packages(tree: Path, names: Sequence[str], report: Callable[[str], None]) -> None:
    """Unpack these packages with all they depend on. SetupError says what to do if that is not possible here."""
    if shutil.which("apt-get") is None or shutil.which("dpkg-deb") is None:
        raise SetupError(f"Debian packages ({', '.join(names)}) can be had on Debian only: this machine has no apt-get")
    with tempfile.TemporaryDirectory(prefix=".debian-", dir=tree.parent) as folder:
        for package in _download(names, Path(folder), report):
            report(package.name.partition("_")[0])
            content = Path(folder, "content")
            subprocess.run(["dpkg-deb", "--extract", package, content], check=True)
            # Into the folder that a link leads to (/lib is /usr/lib), never over the link.
            shutil.copytree(content, tree, symlinks=True, dirs_exist_ok=True, ignore=_LEFT_OUT)
            shutil.rmtree(content)
    folders = sorted(tree.glob("usr/lib/*-linux-gnu"))
    with tree.joinpath("etc/ld.so.conf").open("a") as conf:
        conf.writelines(f"/{folder.relative_to(tree)}\n" for folder in folders)


def _download(names: Sequence[str], folder: Path, report: Callable[[str], None]) -> list[Path]:
    closure = _closure(names)
    if not closure:
        report("apt-get update")
        _run(["apt-get", "update", "-qq"], folder)
        closure = _closure(names)
    if not closure:
        raise SetupError(f"apt knows no package {' or '.join(names)}: see /etc/apt/sources.list")
    report(f"downloading {len(closure)} Debian packages")
    _run(["apt-get", "download", "-qq", *closure], folder)
    return sorted(folder.glob("*.deb"))


def _closure(names: Sequence[str]) -> list[str]:
    """Return these packages and all they depend on; nothing if one of them is not known."""
    asked = subprocess.run(["apt-cache", "depends", "--recurse", *_ALL, *names], capture_output=True, text=True)
    found = {line for line in asked.stdout.splitlines() if line[:1].isalnum()}
    return sorted(found) if found >= {*names} else []


def _run(command: list[str], folder: Path) -> None:
    ran = subprocess.run(command, cwd=folder, capture_output=True, text=True)
    if ran.returncode:
        raise SetupError(f"`{' '.join(command[:2])}` failed: {ran.stderr.strip()[-500:]}")
