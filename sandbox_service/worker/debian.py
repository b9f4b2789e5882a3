"""Unpacks Debian packages into a tree: compilers, which do not come from PyPI.

They come from the package sources of the machine that builds the image, checked by apt as for an installation; nothing
is installed on that machine, and no script of a package is run. What only people read is left out.
"""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable, Sequence
from pathlib import Path

from sandbox_service.errors import SetupError

_NEEDED_ONLY = [f"--no-{kind}" for kind in ("recommends", "suggests", "conflicts", "breaks", "replaces", "enhances")]
_LEFT_OUT = shutil.ignore_patterns(
    "lib64", "share", "gconv", "cc1", "lto1", "*lto-dump*", "*gprofng*", "*ld.gold", "libasan*", "libtsan*", "liblsan*",
    "libubsan*", "*.py",
)  # fmt: skip
"""The loader's link, which points out of the tree; documents and encodings; C; what `-flto`, profiling and sanitizers
need."""


def download(names: Sequence[str], folder: Path) -> list[Path]:
    """Put these packages, with all they depend on, into `folder`. Raise SetupError if this machine cannot."""
    if shutil.which("apt-get") is None or shutil.which("dpkg-deb") is None:
        raise SetupError("this machine has no apt-get")
    closure = _closure(names)
    if not closure:
        _run(["apt-get", "update", "-qq"], folder)
        closure = _closure(names)
    if not closure:
        raise SetupError(f"apt knows no package {' or '.join(names)}: see /etc/apt/sources.list")
    try:
        _run(["apt-get", "download", "-qq", *closure], folder)
    except SetupError:  # its lists may be old, and name versions that are gone
        _run(["apt-get", "update", "-qq"], folder)
        _run(["apt-get", "download", "-qq", *closure], folder)
    return sorted(folder.glob("*.deb"))


def unpack(packages: Sequence[Path], tree: Path, report: Callable[[str], None]) -> None:
    for package in packages:
        report(package.name.partition("_")[0])
        content = package.with_suffix(".content")
        _run(["dpkg-deb", "--extract", str(package), str(content)], package.parent)
        # Into the folder that a link leads to (/lib is /usr/lib), never over the link.
        shutil.copytree(content, tree, symlinks=True, dirs_exist_ok=True, ignore=_LEFT_OUT)
        shutil.rmtree(content)
    with tree.joinpath("etc/ld.so.conf").open("a") as conf:
        conf.writelines(f"/{folder.relative_to(tree)}\n" for folder in sorted(tree.glob("usr/lib/*-linux-gnu")))


def _closure(names: Sequence[str]) -> list[str]:
    """Return these packages and all they depend on; nothing if one of them is not known."""
    asked = subprocess.run(["apt-cache", "depends", "--recurse", *_NEEDED_ONLY, *names], capture_output=True, text=True)
    found = {line for line in asked.stdout.splitlines() if line[:1].isalnum()}
    return sorted(found) if found >= {*names} else []


def _run(command: list[str], folder: Path) -> None:
    ran = subprocess.run(command, cwd=folder, capture_output=True, text=True)
    if ran.returncode:
        raise SetupError(f"`{' '.join(command[:2])}` failed: {ran.stderr.strip()[-500:]}")
