"""Fills a folder with a root file system of its own: interpreter, packages, shell tools, libraries, a little /etc.

What is copied is named here, so nothing else of the host gets in. Any CPython works as the source: Debian's, or one
under a home that only root can enter; in the tree it is always /usr/bin/pythonX.Y with its library beside it.
Invariants of a finished tree: everything belongs to root and is readable by all, nothing is setuid, no symlink was
copied from the host, byte code is valid whatever a file's time stamp is.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import select
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

from sandbox_service.config import deploy_dir
from sandbox_service.errors import SetupError
from sandbox_service.worker import elf

_FOLDERS = ("dev", "etc", "home", "proc", "run", "sandbox", "sys", "tmp", "usr/bin", "usr/lib", "var")
_LINKS = {
    "bin": "usr/bin",
    "sbin": "usr/bin",
    "lib": "usr/lib",
    "lib64": "usr/lib",
    "usr/sbin": "bin",
    "usr/lib64": "lib",
    "var/tmp": "../tmp",
    "mnt": "tmp",
    "dev/fd": "/proc/self/fd",
    "dev/stdin": "/proc/self/fd/0",
    "dev/stdout": "/proc/self/fd/1",
    "dev/stderr": "/proc/self/fd/2",
    "dev/shm": "/tmp/.shm",  # noqa: S108 (a slot's own /tmp)
}
_DEVICES = ("null", "zero", "full", "random", "urandom")
"""Empty files: the jail binds the host's devices over them."""

_UNUSED_STDLIB = shutil.ignore_patterns(
    "__pycache__", "site-packages", "dist-packages", "config-*", "ensurepip", "idlelib", "lib2to3", "test", "tests",
    "tkinter", "turtledemo", "turtle.py", "_tkinter*.so", "_test*.so", "_ctypes_test*.so", "_xx*.so", "xx*.so",
    "sitecustomize.py", "usercustomize.py", "EXTERNALLY-MANAGED",
)  # fmt: skip
"""Graphics need libraries of a desktop, tests are a third of the size, the site hooks are the host's own."""

_TRIMMED_PACKAGES = (
    "fontTools", "joblib", "matplotlib", "mpl_toolkits", "mpmath", "networkx", "numpy", "pandas", "scipy", "sklearn",
    "sympy",
)  # fmt: skip
_TRIMMED = ("test", "tests", "benchmarks", "sample_data", "*.a", "*.c", "*.cpp", "*.h", "*.pxd", "*.pyi", "*.pyx")
"""Left out of the packages above (80 MB): tests, and sources for compilers and editors; nothing of it runs."""

_LOADED_BY_NAME = ("libgcc_s.so.1",)
"""Libraries that no file names but that glibc opens by itself (to end a thread)."""

_ETC = {
    "hosts": "127.0.0.1 localhost sandbox\n::1 localhost sandbox\n",
    "nsswitch.conf": "passwd: files\ngroup: files\nhosts: files\n",
    "ld.so.conf": "/usr/lib\n",
    "os-release": "ID=sandbox\nNAME=sandbox\n",
}
_SLOT_IDS = range(1000, 2024)

_FACTS = """
import json, platform, site, sys, sysconfig
paths = {"stdlib": sysconfig.get_path("stdlib"), "site": site.getsitepackages()[0], "prefix": sys.prefix}
series = [sys.implementation.name, *sys.version_info[:2]]
print(json.dumps({**paths, "version": platform.python_version(), "series": series}))
"""

_COMPILER = """
import compileall, os, py_compile, sys
tree, *folders = sys.argv[1:]
mode = py_compile.PycInvalidationMode.UNCHECKED_HASH
entries = [entry.path for folder in folders for entry in os.scandir(folder) if entry.path not in folders]
sizes = {path: sum(len(files) for _, _, files in os.walk(path)) for path in entries}
processes, running, failed = len(os.sched_getaffinity(0)), 0, False
for path in sorted(entries, key=lambda path: (-sizes[path], path)):
    if running == processes:
        failed |= os.wait()[1] != 0
        running -= 1
    if os.fork() == 0:
        compile = compileall.compile_dir if os.path.isdir(path) else compileall.compile_file
        compile(path, quiet=2, stripdir=tree, prependdir="/", invalidation_mode=mode)
        os._exit(0)
    running += 1
for _ in range(running):
    failed |= os.wait()[1] != 0
sys.exit(failed)
"""
"""Each package and module is compiled by a process of its own, the largest first, in the order of its files. Byte code
shows which strings its process had seen before (a set of them is written out twice, or once and referred to): it must
depend neither on what happened to be compiled by the same process nor on which other packages there are."""

_BEST = "python3.12"
_END_S = 5.0
"""What was killed has ended by then, but for what had left its group."""
_SUPPORTED = {("cpython", 3, 11), ("cpython", 3, 12)}


class Base(NamedTuple):
    """The interpreter a tree is made from."""

    executable: Path
    prefix: Path
    stdlib: Path
    site: Path
    """Its own site-packages: `python -I` looks there, which it does not in PYTHONPATH. Nothing is copied from it."""
    version: str

    @property
    def name(self) -> str:
        return "python" + ".".join(self.version.split(".")[:2])

    def inside(self, path: Path) -> str:
        """Return where `path`, below the prefix, lies in a tree."""
        return f"/usr/{path.relative_to(self.prefix)}"


def find_interpreters(chosen: Path | None) -> list[Path]:
    """Return what images can be made from, the best first: `chosen` alone, or a CPython 3.12 of this machine, of the
    newest patch level, and the service's own. Nothing is run.

    In an image from 3.12 calls are cheaper (DECISIONS.md). It is looked for where the system has its own and beside the
    service's, where pyenv and uv keep theirs; not in PATH, which differs between a shell and an init system.
    """
    if chosen:
        if not chosen.is_file():
            raise SetupError(f"SANDBOX_IMAGE_PYTHON={chosen} is no file: name an interpreter, such as /usr/bin/{_BEST}")
        return [chosen.resolve()]
    own = Path(sys.base_prefix, "bin", f"python{sys.version_info.major}.{sys.version_info.minor}")
    beside = sorted(Path(sys.base_prefix).parent.glob("*3.12.*"), key=_numbers, reverse=True)
    prefixes = [*beside, Path("/usr/local"), Path("/usr")]
    others = [prefix / "bin" / _BEST for prefix in prefixes]
    candidates = [own] if own.name == _BEST else [*others, own]
    # SECURITY: it runs as root, so it has to be root's, or of whoever owns the service's (tests/worker/test_rootfs.py).
    owners = {0, own.stat().st_uid} if own.exists() else {0}
    found = [path.resolve() for path in candidates if path.is_file() and path.stat().st_uid in owners]
    if not found:
        raise SetupError(f"there is no interpreter at {own}; make the virtual environment anew from a {own.name}")
    return found


def _numbers(path: Path) -> list[int]:
    return [int(number) for number in re.findall(r"\d+", path.name)]


def find_base(interpreters: Sequence[Path]) -> Base:
    """Return the first of them that works. The last one's SetupError says what is wrong with it."""
    for executable in interpreters[:-1]:
        with contextlib.suppress(SetupError):
            return _ask(executable)
    return _ask(interpreters[-1])


def _ask(executable: Path) -> Base:
    """Ask an interpreter where its parts are."""
    try:
        asked = subprocess.run([executable, "-I", "-c", _FACTS], check=True, capture_output=True, text=True)
        facts = json.loads(asked.stdout)
    except (OSError, subprocess.SubprocessError, ValueError) as error:
        raise SetupError(f"{executable} does not run as a Python interpreter: {error}") from None
    if tuple(facts["series"]) not in _SUPPORTED:
        raise SetupError(f"images are made from CPython 3.11 or 3.12; {executable} is {facts['version']}")
    prefix, stdlib, site = (Path(facts[fact]) for fact in ("prefix", "stdlib", "site"))
    if not (stdlib.is_relative_to(prefix) and site.is_relative_to(prefix)):
        raise SetupError(
            f"{executable} is a copy in a virtual environment: name the interpreter in {stdlib.parents[1]}"
        )
    return Base(executable, prefix, stdlib, site, facts["version"])


def add_skeleton(tree: Path) -> None:
    for folder in _FOLDERS:
        tree.joinpath(folder).mkdir(parents=True)
    for link, target in _LINKS.items():
        tree.joinpath(link).symlink_to(target)
    for device in _DEVICES:
        tree.joinpath("dev", device).touch()
    for name, text in _ETC.items():
        tree.joinpath("etc", name).write_text(text)
    # Every slot has a uid of its own; all have the same name, so that no program can tell slots apart by it.
    users = ["root:x:0:0:root:/tmp:/bin/sh", "nobody:x:65534:65534:nobody:/tmp:/bin/false"]
    groups = ["root:x:0:", "nogroup:x:65534:"]
    users += [f"sandbox:x:{number}:{number}:sandbox:/tmp:/bin/sh" for number in _SLOT_IDS]
    groups += [f"sandbox:x:{number}:" for number in _SLOT_IDS]
    tree.joinpath("etc/passwd").write_text("\n".join([*users, ""]))
    tree.joinpath("etc/group").write_text("\n".join([*groups, ""]))


def add_interpreter(tree: Path, base: Base) -> None:
    _copy(base.executable, tree / "usr/bin" / base.name)
    for alias in ("python3", "python"):
        tree.joinpath("usr/bin", alias).symlink_to(base.name)
    stdlib = tree / base.inside(base.stdlib).lstrip("/")
    shutil.copytree(base.stdlib, stdlib, copy_function=_copy, symlinks=False, ignore=_unwanted)
    for facts in stdlib.glob("_sysconfigdata*.py"):
        facts.write_text(facts.read_text().replace(str(base.prefix), "/usr"))


def _unwanted(folder: str, names: list[str]) -> set[str]:
    """Leave out what is not needed, and every link out of the folder: what it points to is not of the library."""
    stray = {name for name in names if Path(folder, name).resolve().parent != Path(folder).resolve()}
    return _UNUSED_STDLIB(folder, names) | stray


def add_tools(tree: Path) -> None:
    listed = deploy_dir().joinpath("rootfs", "tools.txt").read_text().splitlines()
    for word in (word for line in listed if not line.startswith("#") for word in line.split()):
        tool = word.rstrip("!")
        found = shutil.which(tool, path="/usr/bin:/bin:/usr/sbin:/sbin")
        if found:
            _copy(Path(found), tree / "usr/bin" / tool)
        elif word.endswith("!"):
            raise SetupError(f"the program `{tool}` is not on this machine: apt-get install coreutils dash")
    locale = Path("/usr/lib/locale/C.utf8")
    if locale.is_dir():  # since glibc 2.35 it is also built in
        shutil.copytree(locale, tree / "usr/lib/locale/C.utf8", copy_function=_copy)


def add_packages(tree: Path, base: Base, requirements: Sequence[Path], report: Callable[[str], None]) -> None:
    """Install wheels with this environment's pip, run by the tree's interpreter, which decides what fits."""
    site = tree / base.inside(base.site).lstrip("/")
    site.mkdir(parents=True, exist_ok=True)
    if not requirements:
        return
    # Wheels only: building one would run its code here, as root, and would need a compiler.
    pip = [
        sys.executable,
        "-m",
        "pip",
        "--python",
        str(base.executable),
        "--no-input",
        "--disable-pip-version-check",
        "install",
        "--only-binary",
        ":all:",
    ]
    options = ["--no-compile", "--no-warn-conflicts", "--progress-bar", "off", "--target", str(site)]
    files = [argument for path in requirements for argument in ("--requirement", str(path))]
    last = _run([*pip, *options, *files], report)
    if last:
        raise SetupError(f"pip could not install {', '.join(map(str, requirements))}:\n{last}")
    for extra in ("bin", "share"):  # scripts name this environment's interpreter; manual pages
        shutil.rmtree(site / extra, ignore_errors=True)
    _trim(site)


def _trim(site: Path) -> None:
    unused = (path for package in _TRIMMED_PACKAGES for name in _TRIMMED for path in site.joinpath(package).rglob(name))
    for path in [*unused]:
        shutil.rmtree(path, ignore_errors=True) if path.is_dir() else path.unlink(missing_ok=True)
    # What was left out is no more on record either, and the order is always the same: equal inputs, equal hash.
    for record in site.glob("*.dist-info/RECORD"):
        lines = record.read_text().splitlines(keepends=True)
        record.write_text("".join(sorted(line for line in lines if (site / line.rsplit(",", 2)[0]).exists())))


def _run(command: list[str], report: Callable[[str], None]) -> str:
    """Run, reporting each line of output; return the last lines of what it said if it failed, else nothing.

    Who is stopped meanwhile takes it along, with what it has started: it could download for minutes, or write into a
    folder that is being removed.
    """
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True
    ) as process:
        assert process.stdout is not None
        lines = []
        try:
            for line in process.stdout:
                lines.append(line.rstrip())
                report(lines[-1])
        except BaseException:
            os.killpg(process.pid, signal.SIGKILL)
            _wait_for_end(process.stdout.fileno())
            raise
    problems = [line for line in lines if line.startswith("ERROR")]
    return "\n".join(problems or lines[-5:] or ["it said nothing"]) if process.returncode else ""


def _wait_for_end(pipe: int) -> None:
    """Wait until the last of those that were killed is gone, and writes nothing more; not for one that was spared."""
    give_up = time.monotonic() + _END_S
    while (left := give_up - time.monotonic()) > 0 and select.select([pipe], [], [], left)[0] and os.read(pipe, 65536):
        pass


def add_libraries(tree: Path, base: Base) -> list[str]:
    """Copy every shared library that something in the tree needs; return those that this machine does not have."""
    files = [path for path in tree.rglob("*") if path.is_file() and not path.is_symlink()]
    present = {path.name for path in tree.rglob("*") if path.is_symlink() or path.is_file()}
    known = _system_libraries()
    python = elf.read(base.executable)
    if python is None or python.loader is None:
        raise SetupError(f"{base.executable} is not a 64-bit program for this machine")
    wanted: dict[str, tuple[str, ...]] = dict.fromkeys(_LOADED_BY_NAME, ())
    for path in files:
        if path.suffix != ".py" and (read := elf.read(path)) is not None and read.machine == python.machine:
            wanted.update(dict.fromkeys(read.needed, read.search))
    missing = []
    while wanted:
        name, search = wanted.popitem()
        if name in present:
            continue
        present.add(name)
        places = [Path(folder, name) for folder in (*search, str(base.prefix / "lib"))]
        source = next((place for place in [*places, *known.get(name, [])] if _fits(place, python.machine)), None)
        if source is None:
            missing.append(name)
            continue
        _copy(source, tree / "usr/lib" / name)
        library = elf.read(source)
        assert library is not None
        wanted.update(dict.fromkeys(library.needed, library.search))
    # The loader is found by the path that programs name, and all its folders lead to /usr/lib. It has to be the one
    # that belongs to the tree's libc, which a Debian package may have brought.
    loader = Path(python.loader)
    own = next(tree.glob(f"usr/lib/*-linux-gnu/{loader.name}"), loader)
    _copy(own, tree / "usr/lib" / loader.name)
    subprocess.run(["ldconfig", "-r", str(tree)], check=True, env={"PATH": "/usr/sbin:/sbin:/usr/bin:/bin"})
    shutil.rmtree(tree / "var/cache", ignore_errors=True)
    return sorted(missing)


def _system_libraries() -> dict[str, list[Path]]:
    """Read what the dynamic loader of this machine knows: name → files, variants for newer processors last."""
    listing = subprocess.run(["/sbin/ldconfig", "-p"], check=True, capture_output=True, text=True).stdout
    known: dict[str, list[Path]] = {}
    for name, arrow, path in (line.strip().partition(" => ") for line in listing.splitlines()):
        if arrow:
            known.setdefault(name.split()[0], []).append(Path(path))
    return {name: sorted(paths, key=lambda path: "hwcaps" in str(path)) for name, paths in known.items()}


def _fits(path: Path, machine: int) -> bool:
    found = elf.read(path) if path.is_file() else None
    return found is not None and found.machine == machine


def compile_byte_code(tree: Path, base: Base) -> None:
    """Compile all modules; files that are not valid Python (templates) are left alone.

    Unchecked: the tree is read-only, and a time stamp would end as soon as somebody copies it.
    """
    folders = {str(tree / base.inside(path).lstrip("/")) for path in (base.stdlib, base.site)}
    # -S: what the host's own packages start would be in the compiler's memory too.
    last = _run([str(base.executable), "-I", "-S", "-c", _COMPILER, str(tree), *sorted(folders)], lambda _line: None)
    if last:
        raise SetupError(f"byte code could not be compiled:\n{last}")


def normalize(tree: Path) -> None:
    """Give everything to root, readable by all, writable by none but root, never setuid."""
    for path in (tree, *tree.rglob("*")):
        os.chown(path, 0, 0, follow_symlinks=False)
        if path.is_symlink():
            continue
        runs = path.is_dir() or path.stat().st_mode & 0o111
        path.chmod(0o755 if runs else 0o644)
    tree.joinpath("tmp").chmod(0o1777)


def _copy(source: str | Path, target: str | Path) -> str:
    """Copy the file itself, never a link, never owner, time or special mode bits."""
    shutil.copyfile(source, target)
    Path(target).chmod(0o755 if Path(source).stat().st_mode & 0o111 else 0o644)
    return str(target)
