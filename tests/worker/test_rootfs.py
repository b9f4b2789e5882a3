"""Images: complete trees of their own, by name and by hash; nothing that was interrupted ever counts.

Images are built for real, without the default packages (`bare`): that takes seconds and needs no network.
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from sandbox_service.config import Settings, deploy_dir
from sandbox_service.errors import SetupError
from sandbox_service.worker import rootfs, tree
from sandbox_service.worker.rootfs import Image, Step
from tests.conftest import WaitUntil

pytestmark = pytest.mark.slow


def quiet(_step: Step, _detail: str) -> None: ...


@pytest.fixture(scope="module")
def settings() -> Iterator[Settings]:
    # Not pytest's tmp_path: nobody but root can enter it, which is what jails must be able to.
    with tempfile.TemporaryDirectory(prefix="images-") as folder:
        Path(folder).chmod(0o755)
        yield Settings(state_dir=Path(folder))


@pytest.fixture(scope="module")
def image(settings: Settings) -> Image:
    return rootfs.build(settings, quiet, name="tiny", bare=True)


@pytest.fixture(scope="module")
def wheel(settings: Settings) -> Path:
    """A requirements file that asks for a wheel lying beside it."""
    path = settings.state_dir / "thing-1.5-py3-none-any.whl"
    files = {
        "thing.py": "VALUE = 15\n",
        "thing-1.5.dist-info/METADATA": "Metadata-Version: 2.1\nName: thing\nVersion: 1.5\n",
        "thing-1.5.dist-info/WHEEL": "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    record = ""
    for name, text in files.items():
        digest = base64.urlsafe_b64encode(hashlib.sha256(text.encode()).digest()).rstrip(b"=").decode()
        record += f"{name},sha256={digest},{len(text)}\n"
    with zipfile.ZipFile(path, "w") as archive:
        for name, text in {**files, "thing-1.5.dist-info/RECORD": record + "thing-1.5.dist-info/RECORD,,\n"}.items():
            archive.writestr(name, text)
    requirements = settings.state_dir / "thing.txt"
    requirements.write_text(f"{path}\n")
    return requirements


def inside(image: Image, code: str) -> str:
    """Run Python with the tree as its root, where nothing of this machine can be seen."""
    ran = subprocess.run(
        ["chroot", str(image.path), image.python, "-I", "-B", "-c", code], capture_output=True, text=True, check=False
    )
    assert ran.returncode == 0, ran.stderr
    return ran.stdout


def command(settings: Settings, *arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "sandbox_service", "rootfs", "build", *arguments],
        env={**os.environ, "SANDBOX_STATE_DIR": str(settings.state_dir)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )


def test_the_interpreter_needs_nothing_of_the_host(image: Image) -> None:
    """Extension modules find their libraries, a shell starts, names are resolved without a network."""
    code = (
        "import bz2, ctypes, curses, decimal, lzma, readline, sqlite3, socket, ssl, subprocess, zlib, pwd, sys\n"
        "assert subprocess.check_output('seq 3 | tail -1', shell=True) == b'3\\n'\n"
        "assert socket.gethostbyname('localhost') == '127.0.0.1'\n"
        "assert pwd.getpwuid(1003).pw_name == 'sandbox'\n"
        "print(sys.prefix, sys.executable)"
    )
    assert inside(image, code).split() == ["/usr", image.python]
    assert image.missing == ()


def test_everything_is_roots_readable_and_harmless(image: Image) -> None:
    """# SECURITY: no setuid program, nothing that another user could write, nothing that a jail cannot read."""
    for path in (image.path, *image.path.rglob("*")):
        status = path.lstat()
        assert (status.st_uid, status.st_gid) == (0, 0), path
        if path.is_symlink():
            continue
        expected = {0o1777} if path == image.path / "tmp" else {0o755} if path.is_dir() else {0o644, 0o755}
        assert status.st_mode & 0o7777 in expected, path


def test_nothing_tells_where_it_was_built(image: Image, settings: Settings) -> None:
    """Neither the builder's folder nor the home of the interpreter stands in a text or byte code file."""
    homes = [str(settings.state_dir).encode()]
    if sys.base_prefix != "/usr":
        homes.append(sys.base_prefix.encode())
    for path in (path for path in image.path.rglob("*.py*") if path.is_file()):
        content = path.read_bytes()
        assert not any(home in content for home in homes), path


def test_building_again_does_nothing(image: Image, settings: Settings) -> None:
    steps: list[Step] = []
    again = rootfs.build(settings, lambda step, _: steps.append(step), name="tiny", bare=True)
    assert again == image
    assert steps == []


def test_equal_inputs_give_an_equal_hash(image: Image, settings: Settings) -> None:
    """The hash in a Result can be compared across machines and builds."""
    steps: list[Step] = []
    again = rootfs.build(settings, lambda step, _: steps.append(step), name="tiny", bare=True, force=True)
    assert again.hash == image.hash
    assert list(dict.fromkeys(steps)) == list(Step)


def test_what_a_build_did_is_told(settings: Settings, image: Image) -> None:
    def told(*options: str) -> str:
        with command(settings, "--name", "tiny", "--bare", *options) as build:
            return build.communicate(timeout=50)[0].splitlines()[-1]

    assert told().startswith("image tiny is up to date: ")
    assert told("--force").startswith("image tiny is built again, with the same content: ")


def test_packages_are_in_the_interpreters_own_site_packages(image: Image, settings: Settings, wheel: Path) -> None:
    """`python -I` ignores PYTHONPATH and must see them; files that both images have are on disk once."""
    other = rootfs.build(settings, quiet, name="thing", requirements=wheel, bare=True)
    assert other.packages == ("thing==1.5",)
    assert inside(other, "import thing; print(thing.VALUE, thing.__cached__)").split()[0] == "15"
    assert other.hash != image.hash
    assert {found.name for found in rootfs.list_images(settings)} >= {"tiny", "thing"}
    shared = [tree.path.joinpath("usr/bin", Path(image.python).name).stat() for tree in (image, other)]
    assert shared[0].st_ino == shared[1].st_ino


def test_what_pip_says_is_told(settings: Settings) -> None:
    """A package that cannot be installed is the user's to correct: pip's own words, and no image."""
    wrong = settings.state_dir / "wrong.txt"
    wrong.write_text(f"{settings.state_dir}/none-1-py3-none-any.whl\n")
    with pytest.raises(SetupError, match="none-1"):
        rootfs.build(settings, quiet, name="wrong", requirements=wrong, bare=True)
    with pytest.raises(SetupError, match="rootfs build --name wrong"):
        rootfs.load("wrong", settings)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_build_that_is_told_to_end_leaves_nothing(settings: Settings, number: signal.Signals) -> None:
    """As `timeout`, a supervisor or a closed terminal says it: no half of a tree stays in a folder that no build may
    see again. The folder itself was named before anything was put there."""
    state_dir = settings.state_dir / f"mistyped-{number.name}"
    with command(Settings(state_dir=state_dir), "--name", "cut", "--bare") as build:
        assert build.stdout is not None
        first = build.stdout.readline()
        assert first == f"image: building it in {state_dir} (SANDBOX_STATE_DIR, a new folder)\n"
        while "libraries" not in build.stdout.readline():
            assert build.poll() is None
        build.send_signal(number)
    assert build.returncode == 128 + number
    assert {path.name for path in state_dir.joinpath("images").iterdir()} == {".lock", "names"}


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
async def test_a_build_that_ends_while_it_compiles_takes_the_compilers_along(
    settings: Settings, number: signal.Signals, code: int, wait_until: WaitUntil
) -> None:
    """Several processes compile side by side: none of them goes on, or holds what the build wrote to."""
    state_dir = settings.state_dir / f"compiling-{number.name}"
    with command(Settings(state_dir=state_dir), "--name", "cut", "--bare") as build:
        await wait_until(lambda: [*state_dir.glob("images/.building-*/rootfs/usr/lib/python*/__pycache__/*")])
        build.send_signal(number)
        told, _ = build.communicate(timeout=10)
    assert build.returncode == code, told
    assert {path.name for path in state_dir.joinpath("images").iterdir()} == {".lock", "names"}
    assert not any(str(state_dir).encode() in command_line for command_line in command_lines())


def command_lines() -> list[bytes]:
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):  # the process has ended
            found.append(path.read_bytes())
    return found


def test_an_interrupted_build_leaves_nothing_that_counts(settings: Settings, image: Image) -> None:
    """SIGKILL in the middle of a build; the next one removes what it left."""
    images = settings.state_dir / "images"
    before = {path.name for path in images.iterdir()}
    with command(settings, "--name", "cut", "--bare") as build:
        assert build.stdout is not None
        while "libraries" not in build.stdout.readline():
            assert build.poll() is None
        os.killpg(build.pid, signal.SIGKILL)
    left = {path.name for path in images.iterdir()} - before
    assert left
    assert all(name.startswith(".building-") for name in left)
    with pytest.raises(SetupError):
        rootfs.load("cut", settings)
    rootfs.prune(settings, [])
    assert {path.name for path in images.iterdir()} == before
    assert rootfs.verify(image) == []


def test_builds_at_the_same_time_wait_for_each_other(settings: Settings) -> None:
    """Two starts at once build one image, and both have it."""
    builds = [command(settings, "--name", "twice", "--bare", "--force") for _ in range(2)]
    told = [build.communicate(timeout=50)[0] for build in builds]
    assert [build.returncode for build in builds] == [0, 0], told
    assert rootfs.verify(rootfs.load("twice", settings)) == []


def test_a_change_is_found(settings: Settings, image: Image) -> None:
    """A changed byte, a changed mode and an added file are each named."""
    copy = settings.state_dir / "copy"
    shutil.copytree(image.path, copy / "rootfs", symlinks=True)
    shutil.copy(image.path.with_name("manifest"), copy)
    changed = Image(**{**vars(image), "path": copy / "rootfs"})
    assert rootfs.verify(changed) == []
    copy.joinpath("rootfs/etc/hosts").write_text("6.6.6.6 localhost\n")
    copy.joinpath("rootfs/usr/bin/cat").chmod(0o4755)
    copy.joinpath("rootfs/usr/bin/extra").touch()
    assert rootfs.verify(changed) == ["etc/hosts", "usr/bin/cat", "usr/bin/extra"]


@pytest.fixture
def going(settings: Settings, wheel: Path) -> Image:
    """An image that has one name."""
    image = rootfs.build(settings, quiet, name="going", requirements=wheel, bare=True)
    if "thing" in {found.name for found in rootfs.list_images(settings)}:
        rootfs.prune(settings, ["thing"])
    return image


@contextlib.contextmanager
def mounted(mount: str) -> Iterator[None]:
    """Have a process with that mount, in a mount namespace of its own, as a jail has."""
    script = f"mount {mount} && echo mounted && exec sleep 60"
    with subprocess.Popen(["unshare", "--mount", "sh", "-c", script], stdout=subprocess.PIPE, text=True) as user:
        assert user.stdout is not None
        assert user.stdout.readline() == "mounted\n"
        try:
            yield
        finally:
            user.kill()


@pytest.mark.parametrize(
    "mount",
    [
        "--bind '{}' /mnt",
        "--bind '{}/usr/bin' /mnt",
        "--bind /etc '{}/tmp'",
        "-t tmpfs none '{}/tmp'",
        "-t overlay -o lowerdir={}:/etc none /mnt",
    ],
)
def test_prune_keeps_what_is_named_or_in_use(settings: Settings, image: Image, going: Image, mount: str) -> None:
    """A jail that runs in an image holds it, also after its name is gone."""
    with mounted(mount.format(going.path)):
        assert rootfs.prune(settings, ["going"]) == ([], [going.hash])
    assert rootfs.prune(settings, []) == ([going.hash], [])
    assert not going.path.exists()
    assert rootfs.load("tiny", settings) == image


def test_a_folder_that_jails_cannot_enter_is_refused(settings: Settings) -> None:
    """A jail is another user: a state folder below a private home would fail at the first call."""
    private = settings.state_dir / "private"
    private.mkdir(mode=0o700)
    with pytest.raises(SetupError, match=re.escape(f"chmod o+x {private}")):
        rootfs.build(Settings(state_dir=private / "state"), quiet, name="tiny", bare=True)


def fake_interpreter(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("#!/bin/sh\nexit 1\n")
    path.chmod(0o755)
    return path


def test_the_interpreters_of_images(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The chosen one; else a 3.12 from where pyenv keeps its versions, the newest first; last the service's own.

    # SECURITY: what belongs to somebody else is never run as root.
    """
    name = f"python{sys.version_info.major}.{sys.version_info.minor}"
    own = fake_interpreter(tmp_path / "versions/3.11.7/bin" / name)
    monkeypatch.setattr(sys, "base_prefix", str(own.parents[1]))
    older, newer, strangers = (
        fake_interpreter(tmp_path / f"versions/{version}/bin/python3.12")
        for version in ("3.12.9", "3.12.10", "3.12.11")
    )
    os.chown(strangers, 1234, 1234)
    found = tree.find_interpreters(None)
    if name == "python3.12":
        assert found == [own]
    else:
        assert found[:2] == [newer, older]
        assert found[-1] == own
        assert strangers not in found
    assert tree.find_interpreters(older) == [older]
    with pytest.raises(SetupError, match="SANDBOX_IMAGE_PYTHON"):
        tree.find_interpreters(tmp_path / "missing")


def test_an_interpreter_that_does_not_work_is_passed_over(tmp_path: Path) -> None:
    broken = fake_interpreter(tmp_path / "python3.12")
    own = Path(sys.base_prefix, "bin", f"python{sys.version_info.major}.{sys.version_info.minor}")
    assert tree.find_base([broken, own]).executable == own
    with pytest.raises(SetupError, match="does not run"):
        tree.find_base([broken])


def test_a_copy_in_a_virtual_environment_is_refused(tmp_path: Path) -> None:
    """Its library is elsewhere."""
    subprocess.run([sys.executable, "-m", "venv", "--copies", "--without-pip", str(tmp_path)], check=True)
    with pytest.raises(SetupError, match="virtual environment"):
        tree.find_base([tmp_path / "bin/python"])


@pytest.mark.parametrize("binary", ["/bin/true", "/bin/cat"])
def test_what_is_no_interpreter_is_no_base(binary: str) -> None:
    with pytest.raises(SetupError, match="does not run as a Python interpreter"):
        tree.find_base([Path(binary)])


def test_the_default_image_is_always_the_default(settings: Settings, wheel: Path) -> None:
    """`serve` keeps it up to date, so packages of one's own need a name of their own."""
    with pytest.raises(SetupError, match="--name"):
        rootfs.build(settings, quiet, requirements=wheel)


def test_the_default_packages_are_pinned() -> None:
    """Every name asked for is there, and every line names one version."""
    folder = deploy_dir() / "rootfs"
    pinned = [line for line in folder.joinpath("default.txt").read_text().splitlines() if not line.startswith("#")]
    assert all(re.match(r"^[a-z0-9-]+==[\w.]+( ; .*)?$", line) for line in pinned)
    asked = folder.joinpath("default.in").read_text().split()
    assert set(asked) <= {line.partition("==")[0] for line in pinned}
