"""Fetching what a program left: regular files below its folder alone, in bounded amounts, from a hostile stream."""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sandbox_service.inside import fetch
from sandbox_service.inside.fetch import Fetched, Outcome


def run(folder: Path, paths: list[str]) -> bytes:
    """The stream that a child in `folder` writes."""
    code = "import sys\nfrom sandbox_service.inside import fetch\nfetch.fetch(sys.argv[1:], lambda: None)"
    return subprocess.run([sys.executable, "-c", code, *paths], cwd=folder, capture_output=True, check=True).stdout


def fetched(folder: Path, *paths: str) -> dict[str, Fetched]:
    return fetch.parse(run(folder, list(paths)), paths)


def test_files_arrive_whole(tmp_path: Path) -> None:
    """Content and order are kept, whatever the bytes; a missing file is told apart from an empty one."""
    (tmp_path / "deep/er").mkdir(parents=True)
    (tmp_path / "deep/er/a.bin").write_bytes(bytes(range(256)) * 5000)
    (tmp_path / "empty").touch()
    assert fetched(tmp_path, "empty", "none", "deep/er/a.bin", "deep/./er/a.bin", "no/folder") == {
        "empty": Fetched(Outcome.WHOLE),
        "none": Fetched(Outcome.MISSING),
        "deep/er/a.bin": Fetched(Outcome.WHOLE, bytes(range(256)) * 5000),
        "deep/./er/a.bin": Fetched(Outcome.WHOLE, bytes(range(256)) * 5000),
        "no/folder": Fetched(Outcome.MISSING),
    }


@pytest.mark.parametrize(
    "path",
    [
        *("link", "linked/secret", "../secret", "inner/../../secret", "/etc/passwd", "inner", "fifo", "socket"),
        *("device", "", ".", "..", "inner/", "inner//file", "inner/file/x", "loop", "long" * 2000),
    ],
)
def test_what_a_program_left_can_not_lead_out_of_its_folder(tmp_path: Path, path: str) -> None:
    """Links, `..`, absolute paths and everything that is not a regular file give no byte, and none makes it wait."""
    folder = tmp_path / "work"
    (folder / "inner").mkdir(parents=True)
    (folder / "inner/file").write_text("fine")
    (tmp_path / "secret").write_text("secret")
    (folder / "link").symlink_to("../secret")
    (folder / "linked").symlink_to("..")
    (folder / "loop").symlink_to("loop")
    os.mkfifo(folder / "fifo")
    (folder / "device").symlink_to("/dev/zero")
    with socket.socket(socket.AF_UNIX) as listener, contextlib.chdir(folder):
        listener.bind("socket")  # the folder's whole name would be too long for a socket's address
    assert fetched(folder, path, "inner/file") == {
        path: Fetched(Outcome.IRREGULAR),
        "inner/file": Fetched(Outcome.WHOLE, b"fine"),
    }


def test_a_device_is_not_read(tmp_path: Path) -> None:
    """/dev/zero has no end."""
    os.mknod(tmp_path / "zero", 0o20666, os.makedev(1, 5))
    assert fetched(tmp_path, "zero") == {"zero": Fetched(Outcome.IRREGULAR)}


def test_a_file_above_its_limit_is_not_sent(tmp_path: Path) -> None:
    """A file of exactly the limit arrives; one byte more, or a huge sparse file, gives its outcome and no content."""
    for name, size in (("most", fetch.MAX_FILE_BYTES), ("more", fetch.MAX_FILE_BYTES + 1), ("sparse", 1 << 40)):
        with open(tmp_path / name, "wb") as file:
            file.truncate(size)
    got = fetched(tmp_path, "most", "more", "sparse")
    assert {name: (one.outcome, len(one.content)) for name, one in got.items()} == {
        "most": (Outcome.WHOLE, fetch.MAX_FILE_BYTES),
        "more": (Outcome.TOO_LARGE, 0),
        "sparse": (Outcome.TOO_LARGE, 0),
    }


def test_all_files_together_have_a_limit(tmp_path: Path) -> None:
    """The first ones that fit are sent; later small ones still are when a large one did not fit."""
    names = [f"{i}" for i in range(5)]
    for name in names:
        with open(tmp_path / name, "wb") as file:
            file.truncate(fetch.MAX_FILE_BYTES - 1)
    (tmp_path / "tiny").write_text("tiny")
    got = fetched(tmp_path, *names, "tiny")
    assert [got[name].outcome for name in names] == [Outcome.WHOLE] * 4 + [Outcome.TOO_LARGE]
    assert got["tiny"].content == b"tiny"


GOOD = fetch._HEADER.pack(0, 0, 3) + b"abc" + fetch._HEADER.pack(1, 1, 0)


def test_a_good_stream_parses() -> None:
    """The positive control of the tests below."""
    assert fetch.parse(GOOD, ["a", "b"]) == {"a": Fetched(Outcome.WHOLE, b"abc"), "b": Fetched(Outcome.MISSING)}


@pytest.mark.parametrize(
    "stream",
    [
        b"",
        GOOD[:-1],
        GOOD + b"x",
        GOOD[: fetch._HEADER.size + 2],
        fetch._HEADER.pack(1, 0, 0) + fetch._HEADER.pack(0, 0, 0),
        fetch._HEADER.pack(0, 9, 0) + fetch._HEADER.pack(1, 0, 0),
        fetch._HEADER.pack(0, 1, 3) + b"abc" + fetch._HEADER.pack(1, 0, 0),
        fetch._HEADER.pack(0, 0, 2**64 - 1) + b"abc",
        fetch._HEADER.pack(0, 0, fetch.MAX_FILE_BYTES + 1)
        + bytes(fetch.MAX_FILE_BYTES + 1)
        + fetch._HEADER.pack(1, 0, 0),
    ],
)
def test_a_bad_stream_is_refused(stream: bytes) -> None:
    """A program cannot reach this stream's pipe, yet nothing depends on that."""
    with pytest.raises(ValueError, match=r"stream|record|Outcome"):
        fetch.parse(stream, ["a", "b"])


@given(st.binary(max_size=100) | st.binary(max_size=10).map(lambda junk: GOOD + junk), st.integers(0, 3))
def test_any_stream_gives_a_result_or_a_value_error(stream: bytes, count: int) -> None:
    """Nothing else is ever raised, and never more bytes are returned than came in."""
    try:
        got = fetch.parse(stream, [str(i) for i in range(count)])
    except ValueError:
        return
    assert sum(len(one.content) for one in got.values()) <= len(stream)
