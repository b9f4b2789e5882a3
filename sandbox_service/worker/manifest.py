"""What a tree of files holds, entry by entry, in an order that does not depend on the file system.

One line is an entry: kind (f, d or l), mode, size, sha256 of the content (of a link: of its target), path as JSON.
Times and owners are left out: they say nothing about what runs.
"""

from __future__ import annotations

import hashlib
import json
import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

_PIECE = 1 << 20


class Entry(NamedTuple):
    kind: str
    mode: int
    size: int
    digest: str
    path: str
    """Relative to the tree."""

    def line(self) -> str:
        return f"{self.kind} {self.mode:o} {self.size} {self.digest} {json.dumps(self.path)}\n"


class Manifest:
    """All entries of a tree."""

    def __init__(self, entries: list[Entry]) -> None:
        self._entries = sorted(entries, key=lambda entry: entry.path)

    @classmethod
    def of(cls, tree: Path) -> Manifest:
        """Read a tree as it is now."""
        return cls([_entry(path, os.path.relpath(path, tree)) for path in _walk(str(tree))])

    @classmethod
    def parse(cls, text: str) -> Manifest:
        entries = []
        for line in text.splitlines():
            kind, mode, size, digest, path = line.split(" ", 4)
            entries.append(Entry(kind, int(mode, 8), int(size), digest, json.loads(path)))
        return cls(entries)

    def text(self) -> str:
        return "".join(entry.line() for entry in self._entries)

    def digest(self) -> str:
        return hashlib.sha256(self.text().encode()).hexdigest()

    def size(self) -> int:
        return sum(entry.size for entry in self.files())

    def files(self) -> Iterator[Entry]:
        return (entry for entry in self._entries if entry.kind == "f")

    def differences(self, other: Manifest) -> list[str]:
        """Return the paths that only one of the two has, or that are not the same in both."""
        return sorted({entry.path for entry in {*self._entries} ^ {*other._entries}})


def _walk(tree: str) -> Iterator[str]:
    with os.scandir(tree) as entries:
        for entry in entries:
            yield entry.path
            if entry.is_dir(follow_symlinks=False):
                yield from _walk(entry.path)


def _entry(path: str, relative: str) -> Entry:
    status = os.lstat(path)
    mode = stat.S_IMODE(status.st_mode)
    if stat.S_ISLNK(status.st_mode):
        target = str(Path(path).readlink())
        return Entry("l", mode, len(target), hashlib.sha256(os.fsencode(target)).hexdigest(), relative)
    if stat.S_ISDIR(status.st_mode):
        return Entry("d", mode, 0, "-", relative)
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while piece := file.read(_PIECE):
            digest.update(piece)
    return Entry("f", mode, status.st_size, digest.hexdigest(), relative)
