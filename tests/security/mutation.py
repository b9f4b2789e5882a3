"""What a mutation is: one protection, and how it is taken away, for tests only.

An edit names the exact text that implements the protection and must find it exactly once: when the code changes, the
mutation fails instead of quietly taking nothing away.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path

from sandbox_service.models import Result

Patch = Callable[[], AbstractContextManager[object]]
Run = Callable[..., Awaitable[Result]]
"""`await run(code, **fields)`: one call, by the service or by a bench."""


@dataclass(frozen=True)
class Edit:
    """Replace `old` by `new` in a file of `inside/` or `deploy/`."""

    file: str
    old: str
    new: str = ""

    def apply(self, root: Path) -> None:
        path = root / self.file
        text = path.read_text()
        found = text.count(self.old)
        assert found == 1, f"{self.file} has {found} places with {self.old!r}: bring the mutation up to date"
        path.write_text(text.replace(self.old, self.new))


@dataclass(frozen=True)
class Mutation:
    protection: str
    """What is taken away, as SECURITY.md names it."""
    edits: tuple[Edit, ...] = ()
    patches: tuple[Patch, ...] = ()
    """Changes to the worker's own modules, in the test's process."""

    def __str__(self) -> str:
        return self.protection.replace(" ", "-")

    def edits_of(self, folder: str) -> list[Edit]:
        return [edit for edit in self.edits if edit.file.startswith(f"{folder}/")]


NOTHING = Mutation("nothing")
