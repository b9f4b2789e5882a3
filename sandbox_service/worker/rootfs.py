"""The images that calls run in: root file systems under `{state_dir}/images`, several side by side, each with a name.

    images/{hash}/rootfs      the tree; read-only from the moment it is there, nothing else is ever put into it
    images/{hash}/manifest    one line for every entry of the tree; the image's hash is the sha256 of this file
    images/{hash}/image.json  what is in it
    images/names/{name}.json  which hash a name stands for, and the key of the inputs it was made from

Invariants: what has a name is complete (a tree is made under another name and renamed; an interrupted build leaves
only a `.building-*` folder, which the next build removes). One build at a time, by a lock that ends with its process.
Equal files of two images are one file on disk. `tree.py` knows what goes into a tree; this file never looks inside.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
import platform
import re
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from enum import Enum
from importlib import metadata
from pathlib import Path
from typing import NamedTuple

from sandbox_service.config import Settings, deploy_dir
from sandbox_service.errors import SetupError
from sandbox_service.worker import debian
from sandbox_service.worker import tree as trees
from sandbox_service.worker.manifest import Manifest

DEFAULT = "default"
_NAME = r"[A-Za-z0-9_-]{1,64}"
_BUILDER = 4
"""Part of every key: raise it when `tree.py` puts something else into a tree."""


class Step(Enum):
    """A build's steps in order, each with its share of the time."""

    INTERPRETER = ("copying the interpreter and shell tools", 5)
    PACKAGES = ("installing packages", 45)
    LIBRARIES = ("copying shared libraries", 5)
    BYTE_CODE = ("compiling byte code", 35)
    HASH = ("computing the content hash", 10)

    def __init__(self, title: str, share: int) -> None:
        self.title = title
        self.share = share


Progress = Callable[[Step, str], None]
"""Told at the start of a step, and again with each detail in it."""


@dataclass(frozen=True)
class Image:
    name: str
    hash: str
    """sha256 of the manifest: two images with the same hash are the same in every byte and mode."""
    path: Path
    """The tree, to be mounted read-only as a jail's root."""
    python: str
    """The interpreter's path inside the tree."""
    python_version: str
    packages: tuple[str, ...]
    """`name==version` of everything installed, sorted."""
    size: int
    """Bytes of all files; less on disk where other images have the same files."""
    built_at: float
    """Seconds since the epoch."""
    missing: tuple[str, ...]
    """Shared libraries that something in it asks for, and Debian packages, that the machine did not have to give."""


def build(
    settings: Settings,
    progress: Progress,
    *,
    name: str = DEFAULT,
    requirements: Path | None = None,
    bare: bool = False,
    force: bool = False,
) -> Image:
    """Return the image of this name; build it if it is not there, was made from something else, or with `force`.

    `requirements` (a pip requirements file) comes on top of the default packages; with `bare` it stands alone.
    Costs about a millisecond if there is nothing to do.
    """
    if not re.fullmatch(_NAME, name):  # SECURITY: it becomes a part of a path (tests/cli/test_cli.py)
        raise SetupError(f"{name!r} is no name for an image: use 1 to 64 letters, digits, `-` and `_`")
    if name == DEFAULT and (requirements is not None or bare):
        raise SetupError("the image `default` has the default packages; give yours a name of its own: --name NAME")
    files = _requirements(requirements, bare=bare)
    packages = [] if bare else _debian_packages()
    interpreters = trees.find_interpreters(settings.image_python)
    key = _key(interpreters, files, packages)
    if not force and _is_built(settings, name, key):
        return load(name, settings)
    with _changing_images(settings):
        if not force and _is_built(settings, name, key):  # somebody else built it while this one waited
            return load(name, settings)
        _build(name, interpreters, files, packages, key, settings, progress)
        return load(name, settings)


def load(name: str, settings: Settings) -> Image:
    """Return the image of that name; SetupError says how to make it if there is none."""
    digest = _record(settings, name).get("hash")
    folder = _images(settings) / str(digest)
    if digest is None or not folder.is_dir():
        option = "" if name == DEFAULT else f" --name {name} --requirements FILE"
        raise SetupError(
            f"there is no image {name!r} in {_images(settings)}: run `sandbox-service rootfs build{option}`"
        )
    facts = json.loads(folder.joinpath("image.json").read_text())
    facts["packages"], facts["missing"] = tuple(facts["packages"]), tuple(facts["missing"])
    return Image(name=name, hash=digest, path=folder / "rootfs", **facts)


def list_images(settings: Settings) -> list[Image]:
    """Return all named images, by name."""
    names = sorted(path.stem for path in _images(settings).glob("names/*.json"))
    return [load(name, settings) for name in names]


def verify(image: Image) -> list[str]:
    """Hash the whole tree again; return the paths that are not what they were (empty: nothing changed)."""
    recorded = Manifest.parse(image.path.with_name("manifest").read_text())
    if recorded.digest() != image.hash:
        return ["manifest"]
    return recorded.differences(Manifest.of(image.path))


class Pruned(NamedTuple):
    """Hashes of images without a name."""

    removed: list[str]
    in_use: list[str]
    """Something runs in them: they are left to a later time."""


def prune(settings: Settings, names: list[str]) -> Pruned:
    """Forget these names, then remove every image that has no name and that no process runs in."""
    known = {image.name for image in list_images(settings)}
    if unknown := [name for name in names if name not in known]:
        raise SetupError(f"there is no image {unknown[0]!r} to give up; there is {', '.join(sorted(known)) or 'none'}")
    with _changing_images(settings):
        for name in names:
            _images(settings).joinpath("names", f"{name}.json").unlink(missing_ok=True)
        kept = {image.hash for image in list_images(settings)}
        mounted = _mounts()
        pruned = Pruned([], [])
        for folder in _folders(settings):
            if folder.name in kept:
                continue
            if folder.name in mounted:
                pruned.in_use.append(folder.name)
                continue
            # One rename first: an image that is half removed must not be found by anyone.
            shutil.rmtree(folder.rename(folder.with_name(f".building-{folder.name}")))
            pruned.removed.append(folder.name)
        return pruned


def _build(
    name: str,
    interpreters: Sequence[Path],
    requirements: list[Path],
    debian_packages: Sequence[str],
    key: str,
    settings: Settings,
    progress: Progress,
) -> None:
    base = trees.find_base(interpreters)
    work = Path(tempfile.mkdtemp(prefix=".building-", dir=_images(settings)))
    tree = work / "rootfs"
    try:
        progress(Step.INTERPRETER, f"{base.name} {base.version}")
        tree.mkdir()
        trees.add_skeleton(tree)
        trees.add_interpreter(tree, base)
        trees.add_tools(tree)
        progress(Step.PACKAGES, "")
        # Side by side, so that who needs Python alone does not wait for a compiler.
        with ThreadPoolExecutor(1) as aside, tempfile.TemporaryDirectory(dir=work) as folder:
            downloading = aside.submit(
                _download, debian_packages, Path(folder), lambda line: progress(Step.PACKAGES, line)
            )
            trees.add_packages(tree, base, requirements, lambda line: progress(Step.PACKAGES, line))
            archives = downloading.result()
            debian.unpack(archives, tree, lambda line: progress(Step.PACKAGES, line))
        progress(Step.LIBRARIES, "")
        missing = trees.add_libraries(tree, base)
        progress(Step.BYTE_CODE, "")
        trees.compile_byte_code(tree, base)
        progress(Step.HASH, "")
        trees.normalize(tree)
        manifest = Manifest.of(tree)
        _share_equal_files(manifest, tree, settings)
        site = tree / base.inside(base.site).lstrip("/")
        image = Image(
            name=name,
            hash=manifest.digest(),
            path=_images(settings) / manifest.digest() / "rootfs",
            python=f"/usr/bin/{base.name}",
            python_version=base.version,
            packages=tuple(sorted(f"{d.name}=={d.version}" for d in metadata.distributions(path=[str(site)]))),
            size=manifest.size(),
            built_at=round(time.time(), 3),
            missing=(*missing, *(() if archives else debian_packages)),
        )
        facts = {field: value for field, value in asdict(image).items() if field not in ("name", "hash", "path")}
        work.joinpath("image.json").write_text(json.dumps(facts, indent=1))
        work.joinpath("manifest").write_text(manifest.text())
        work.chmod(0o755)
        if not image.path.exists():
            work.rename(image.path.parent)
        _name(settings, name, {"hash": image.hash, "key": key})
    finally:
        shutil.rmtree(work, ignore_errors=True)


@contextlib.contextmanager
def _changing_images(settings: Settings) -> Iterator[None]:
    """Hold the one lock under which images change, with nothing left of builds that were interrupted."""
    if os.geteuid() != 0:
        raise SetupError("images are built by root, because their files belong to root: run this with sudo")
    images = _images(settings)
    for folder in (settings.state_dir, images, images / "names"):
        if not folder.is_dir():
            folder.mkdir(parents=True)
            folder.chmod(0o755)  # whatever the umask is
    for folder in (settings.state_dir.resolve(), *settings.state_dir.resolve().parents):
        if not folder.stat().st_mode & 0o001:
            raise SetupError(
                f"jails run as another user, who cannot enter {folder} (mode {folder.stat().st_mode & 0o777:o}): "
                f"choose another SANDBOX_STATE_DIR, or `chmod o+x {folder}`"
            )
    with images.joinpath(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        for leftover in images.glob(".building-*"):
            shutil.rmtree(leftover)
        yield


def _share_equal_files(manifest: Manifest, tree: Path, settings: Settings) -> None:
    """Make files that another image has too hard links to that image's: disk and page cache hold them once."""
    known: dict[tuple[str, int], Path] = {}
    for folder in _folders(settings):
        other = Manifest.parse(folder.joinpath("manifest").read_text())
        known.update({(entry.digest, entry.mode): folder / "rootfs" / entry.path for entry in other.files()})
    for entry in manifest.files():
        twin = known.get((entry.digest, entry.mode))
        if twin is not None and entry.size > 0:
            tree.joinpath(entry.path).unlink()
            tree.joinpath(entry.path).hardlink_to(twin)


def _requirements(extra: Path | None, *, bare: bool) -> list[Path]:
    if extra is not None and not extra.is_file():
        raise SetupError(f"there is no requirements file {extra}")
    default = [] if bare else [deploy_dir() / "rootfs" / "default.txt"]
    return [*default, *([extra] if extra else [])]


def _download(packages: Sequence[str], folder: Path, report: Callable[[str], None]) -> list[Path]:
    """Download Debian packages. A machine that cannot gives an image without them, which is not told as an error."""
    if not packages:
        return []
    try:
        return debian.download(packages, folder)
    except SetupError as error:
        report(f"without {', '.join(packages)}: {error.message}")
        return []


def _debian_packages() -> list[str]:
    lines = deploy_dir().joinpath("rootfs", "debian.txt").read_text().splitlines()
    return [line for line in lines if line and not line.startswith("#")]


def _key(interpreters: Sequence[Path], requirements: list[Path], debian_packages: Sequence[str]) -> str:
    """Return a hash of all that a build depends on and that can be told without running anything."""
    parts: list[object] = [_BUILDER, platform.machine()]
    for path in interpreters:
        status = path.stat()
        parts += [str(path), status.st_size, status.st_mtime_ns]
    texts = [path.read_text() for path in requirements]
    return hashlib.sha256(json.dumps([*parts, *texts, *debian_packages]).encode()).hexdigest()


def _images(settings: Settings) -> Path:
    return settings.state_dir / "images"


def _folders(settings: Settings) -> list[Path]:
    return [path.parent for path in _images(settings).glob("*/image.json") if not path.parent.name.startswith(".")]


def _is_built(settings: Settings, name: str, key: str) -> bool:
    record = _record(settings, name)
    return record.get("key") == key and _images(settings).joinpath(record["hash"]).is_dir()


def _record(settings: Settings, name: str) -> dict[str, str]:
    try:
        record: dict[str, str] = json.loads(_images(settings).joinpath("names", f"{name}.json").read_text())
    except FileNotFoundError:
        return {}
    return record


def _name(settings: Settings, name: str, record: dict[str, str]) -> None:
    target = _images(settings) / "names" / f"{name}.json"
    fresh = target.with_suffix(".new")
    fresh.write_text(json.dumps(record))
    fresh.replace(target)


def _mounts() -> str:
    """Return all mount tables of this machine: the root of a running jail shows its image's path there."""
    tables = []
    for path in Path("/proc").glob("[0-9]*/mountinfo"):
        with contextlib.suppress(OSError):  # the process has ended
            tables.append(path.read_text())
    return "".join(tables)
