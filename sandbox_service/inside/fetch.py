"""Fetch files that a program left behind: written by a child of their own in the slot, parsed by the worker.

After a program and all its processes are dead, one more child with the program's user id and namespaces writes the
files that its call names to standard output, as one record each: index, outcome, length, content.

SECURITY: the paths, the files and the folders are the program's, so that none may lead anywhere else: no component
may be a symbolic link or `..`, only regular files are read, and never more than a file's share of bytes, however it
grows (tests/inside/test_fetch.py: `test_what_a_program_left_can_not_lead_out_of_its_folder`). The stream is hostile
too: `parse` bounds all it reads and raises nothing but ValueError.
"""

from __future__ import annotations

import os
import stat
import struct
from collections.abc import Callable, Sequence
from enum import IntEnum
from typing import NamedTuple, NoReturn

MAX_FILE_BYTES = 8 << 20
MAX_TOTAL_BYTES = 32 << 20

_TMP = "/tmp/"
_HEADER = struct.Struct("<IBQ")
_CHUNK = 1 << 18
_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_FILE = os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_NOFOLLOW | os.O_CLOEXEC


class Outcome(IntEnum):
    WHOLE = 0
    MISSING = 1
    """There is no file of that name, or it can't be read."""
    IRREGULAR = 2
    """A folder, link, device, pipe or socket, or a name that leads through a link or out of the folder."""
    TOO_LARGE = 3
    """More than MAX_FILE_BYTES, or more than what is left of MAX_TOTAL_BYTES; nothing of it is sent."""


class Fetched(NamedTuple):
    outcome: Outcome
    content: bytes = b""


def fetch(paths: Sequence[str], seal: Callable[[], None]) -> NoReturn:
    """Write a record for each of `paths`, below the current folder or /tmp, to descriptor 1; end this process.

    An exception means that nothing was looked at.
    """
    seal()
    left = MAX_TOTAL_BYTES
    for index, path in enumerate(paths):
        fetched = _read(path, min(left, MAX_FILE_BYTES))
        left -= len(fetched.content)
        _write(_HEADER.pack(index, fetched.outcome, len(fetched.content)))
        _write(fetched.content)
    os._exit(0)


def parse(stream: bytes, paths: Sequence[str]) -> dict[str, Fetched]:
    """Return what was fetched for each of `paths`; raise ValueError if `stream` is not what `fetch` writes for them."""
    fetched = {}
    position, left = 0, MAX_TOTAL_BYTES
    for index, path in enumerate(paths):
        if len(stream) - position < _HEADER.size:
            raise ValueError(f"the stream of fetched files ends before the record of file {index}")
        number, outcome, length = _HEADER.unpack_from(stream, position)
        position += _HEADER.size
        if number != index:
            raise ValueError(f"the record of file {index} claims to be of file {number}")
        if length > min(left, MAX_FILE_BYTES, len(stream) - position) or (length and outcome != Outcome.WHOLE):
            raise ValueError(f"the record of file {index} has an impossible length: {length}")
        fetched[path] = Fetched(Outcome(outcome), stream[position : position + length])
        position += length
        left -= length
    if position != len(stream):
        raise ValueError(f"the stream of fetched files has {len(stream) - position} bytes too many")
    return fetched


def _read(path: str, limit: int) -> Fetched:
    try:
        descriptor = _open_beneath(path)
    except (FileNotFoundError, PermissionError):
        return Fetched(Outcome.MISSING)
    except (OSError, ValueError):  # ELOOP, ENOTDIR, ENXIO, ENAMETOOLONG, a NUL in the name ...
        return Fetched(Outcome.IRREGULAR)
    try:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            return Fetched(Outcome.IRREGULAR)
        content = bytearray()
        while len(content) <= limit and (piece := os.read(descriptor, min(_CHUNK, limit + 1 - len(content)))):
            content += piece
        return Fetched(Outcome.WHOLE, bytes(content)) if len(content) <= limit else Fetched(Outcome.TOO_LARGE)
    except OSError:
        return Fetched(Outcome.MISSING)
    finally:
        os.close(descriptor)


def _open_beneath(path: str) -> int:
    """Open a file without following a link anywhere in `path`. What it opens need not be a regular file."""
    below = path.removeprefix(_TMP)
    *folders, name = below.split("/")
    if name in ("", ".", "..") or any(folder in ("", "..") for folder in folders):
        raise ValueError("not a path below the current folder or /tmp")
    folder = os.open("." if below == path else _TMP, _FOLDER)
    try:
        for part in folders:
            deeper = os.open(part, _FOLDER, dir_fd=folder)
            os.close(folder)
            folder = deeper
        return os.open(name, _FILE, dir_fd=folder)
    finally:
        os.close(folder)


def _write(content: bytes) -> None:
    rest = memoryview(content)
    while rest:
        rest = rest[os.write(1, rest) :]
