"""Writes the tables of SECURITY.md from the suite: `python -m tests.security.report`.

A row is a test: the property is its docstring, the ids are its mark, and what it is shown to fail without comes from
the registry of cases and from the tests named `..._is_really_caused_by`.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

from tests.security import (
    test_a_data,
    test_b_verdict,
    test_c_processes,
    test_d_resources,
    test_e_kernel,
    test_e_surroundings,
    test_f_still_works,
    test_g_edge,
    test_h_judges,
    test_sabotage,
)
from tests.security.cases import REGISTRY
from tests.security.pitfalls import PITFALLS
from tests.security.uncontrolled import UNCONTROLLED

DOCUMENT = Path(__file__).parents[2] / "SECURITY.md"
BEGIN, END = "<!-- made by tests/security/report.py -->", "<!-- end of what is made -->"
MODULES = {
    "Data": test_a_data,
    "Verdicts": test_b_verdict,
    "Processes, time, signals": test_c_processes,
    "Memory, files, output": test_d_resources,
    "System calls": test_e_kernel,
    "What surrounds a program": test_e_surroundings,
    "What must still work": test_f_still_works,
    "The edge": test_g_edge,
    "Judges: verify, notebooks, compilers": test_h_judges,
    "A layer that is missing": test_sabotage,
}
_CAUSE = "_is_really_caused_by"


@dataclass(frozen=True)
class Row:
    name: str
    file: str
    about: str
    ids: tuple[str, ...]
    without: tuple[str, ...]


def rows(module: ModuleType) -> list[Row]:
    """The tests of a module that cover something."""
    file = Path(module.__file__ or "").name
    return [
        Row(name, file, _property(test), ids, tuple(_fails_without(name, module)))
        for name, test in vars(module).items()
        if name.startswith("test_") and (ids := _ids(test))
    ]


def tables() -> str:
    """What stands between the two comments in SECURITY.md."""
    parts = [BEGIN]
    for title, module in MODULES.items():
        parts.append(f"\n### {title} (`tests/security/{Path(module.__file__ or '').name}`)\n")
        parts.append("| promise | fails without | ids |\n|---|---|---|")
        parts += [f"| {row.about} | {_shown_by(row)} | {' '.join(row.ids)} |" for row in rows(module)]
    parts.append("\n### Pitfalls of this design\n")
    parts.append("| | pitfall | shown closed by | what remains, and why |\n|---|---|---|---|")
    parts += [f"| {key} | {pitfall.title} | {', '.join(closed_by(key))} | {pitfall.accepted} |"
              for key, pitfall in PITFALLS.items()]  # fmt: skip
    return "\n".join([*parts, "", END])


def _shown_by(row: Row) -> str:
    return "; ".join(row.without) or f"({UNCONTROLLED[row.name]})"


def closed_by(pitfall: str) -> list[str]:
    """The files whose tests cover it."""
    files = [
        f"`tests/security/{row.file}`" for module in MODULES.values() for row in rows(module) if pitfall in row.ids
    ]
    return [*dict.fromkeys(files), *(f"`{file}`" for file in PITFALLS[pitfall].elsewhere)]


def written(document: str) -> str:
    """The document with its tables renewed."""
    before, _, rest = document.partition(BEGIN)
    _, _, after = rest.partition(END)
    return before + tables() + after


def _ids(test: object) -> tuple[str, ...]:
    marks = getattr(test, "pytestmark", [])
    return tuple(id_ for mark in marks if mark.name == "covers" for id_ in mark.args)


def _property(test: object) -> str:
    text = re.sub(r"\s+", " ", inspect.getdoc(test) or "")
    assert text, test
    return text.replace("|", "\\|")


def _fails_without(name: str, module: ModuleType) -> Iterator[str]:
    for mutation, cases in REGISTRY.without.items():
        if name.removeprefix("test_") in [case.name for case in cases]:
            yield mutation.protection
    for other, test in vars(module).items():
        if other.endswith(_CAUSE) and name.startswith(other.removesuffix(_CAUSE)):
            yield _property(test).split(":")[0].split(";")[0].rstrip(".").lower()


if __name__ == "__main__":
    DOCUMENT.write_text(written(DOCUMENT.read_text()))
