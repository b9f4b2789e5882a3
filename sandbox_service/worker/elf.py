"""What an ELF file needs to be loaded: read from its dynamic section, no `ldd` and nothing executed.

Covers 64-bit little-endian files (x86_64, aarch64), the machines the service runs on. Anything else is not an ELF file
of ours: `read` answers None.
"""

from __future__ import annotations

import mmap
import struct
from pathlib import Path
from typing import NamedTuple

_HEADER = struct.Struct("<16sHHIQQQIHHHHHH")
_SEGMENT = struct.Struct("<IIQQQQQQ")
_ENTRY = struct.Struct("<qQ")
_ELF64_LITTLE_ENDIAN = b"\x7fELF\x02\x01"
_PT_LOAD, _PT_DYNAMIC, _PT_INTERP = 1, 2, 3
_DT_NEEDED, _DT_STRTAB, _DT_RPATH, _DT_RUNPATH = 1, 5, 15, 29


class Elf(NamedTuple):
    machine: int
    """e_machine: two files fit together only if theirs are equal."""
    loader: str | None
    """Path of the dynamic loader; only executables name one."""
    needed: tuple[str, ...]
    """Names of shared libraries (DT_NEEDED)."""
    search: tuple[str, ...]
    """Folders to search before the system's (DT_RPATH and DT_RUNPATH); may hold `$ORIGIN`."""


def read(path: Path) -> Elf | None:
    """Return what the file needs, or None if it is not a 64-bit little-endian ELF file."""
    with path.open("rb") as file:
        start = file.read(_HEADER.size)
        if len(start) < _HEADER.size or not start.startswith(_ELF64_LITTLE_ENDIAN):
            return None
        with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as image:
            try:
                return _parse(image, start)
            except (struct.error, StopIteration, UnicodeDecodeError):  # cut short: nothing that could be loaded
                return None


def _parse(image: mmap.mmap, start: bytes) -> Elf:
    header = _HEADER.unpack(start)
    machine, first, count = header[2], header[5], header[10]
    segments = [_SEGMENT.unpack_from(image, first + _SEGMENT.size * index) for index in range(count)]
    loads = [(address, size, offset) for kind, _, offset, address, _, size, _, _ in segments if kind == _PT_LOAD]
    loader, needed, search = None, [], []
    for kind, _, offset, _, _, size, _, _ in segments:
        if kind == _PT_INTERP:
            loader = image[offset : offset + size].rstrip(b"\0").decode()
        elif kind == _PT_DYNAMIC:
            entries = list(_ENTRY.iter_unpack(image[offset : offset + size - size % _ENTRY.size]))
            strings = _file_offset(next(value for tag, value in entries if tag == _DT_STRTAB), loads)
            needed = [_string(image, strings + value) for tag, value in entries if tag == _DT_NEEDED]
            paths = [_string(image, strings + value) for tag, value in entries if tag in (_DT_RPATH, _DT_RUNPATH)]
            search = [folder for path in paths for folder in path.split(":") if folder]
    return Elf(machine, loader, tuple(needed), tuple(search))


def _file_offset(address: int, loads: list[tuple[int, int, int]]) -> int:
    return next(address - start + offset for start, size, offset in loads if start <= address < start + size)


def _string(image: mmap.mmap, offset: int) -> str:
    return image[offset : image.find(b"\0", offset)].decode()
