"""Preload profiles: which zygote is the cheapest one to run a piece of code in.

A guess, never a verdict: code runs the same in every profile of an image, only an import costs more in a smaller one.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tomllib

from sandbox_service.errors import SetupError

SCANNED = 3 << 16
"""So many characters are looked through for imports: it takes a microsecond a line, and nothing else runs meanwhile."""
_IMPORT = re.compile(r"^[ \t]*(?:import[ \t]+([^#;\n]+)|from[ \t]+([A-Za-z_]\w*))", re.MULTILINE)


@dataclass(frozen=True)
class Profile:
    name: str
    modules: tuple[str, ...]
    serves: frozenset[str]
    """Top-level names that calls may import here without paying for it."""
    warm_ups: tuple[str, ...]

    def fits(self, packages: Iterable[str]) -> bool:
        """Whether an image with these packages (`name==version`) has all that this profile imports."""
        installed = {package.partition("==")[0].lower().replace("-", "_") for package in packages}
        return all(name in installed or name in sys.stdlib_module_names for name in self.serves)


def read_profiles(path: Path, wanted: Sequence[str] = ()) -> list[Profile]:
    """Read deploy/profiles.toml in its order, smallest first; only `wanted` ones if any are given.

    Raise SetupError for a name that is not there.
    """
    profiles: dict[str, Profile] = {}
    for table in tomllib.loads(path.read_text())["profile"]:
        profiles[table["name"]] = _profile(table, profiles)
    for name in wanted:
        if name not in profiles:
            raise SetupError(f"there is no profile {name!r}; {path.name} has {', '.join(profiles)}")
    return [profile for name, profile in profiles.items() if not wanted or name in wanted]


def _profile(table: dict[str, Any], known: dict[str, Profile]) -> Profile:
    extends = table.get("extends", [])
    bases = [known[name] for name in ([extends] if isinstance(extends, str) else extends)]
    own = table.get("serves") or [module.split(".")[0] for module in table["modules"]]
    return Profile(
        name=table["name"],
        modules=tuple(dict.fromkeys([*(m for base in bases for m in base.modules), *table["modules"]])),
        serves=frozenset(own).union(*(base.serves for base in bases)),
        warm_ups=tuple(dict.fromkeys([*(w for base in bases for w in base.warm_ups), table.get("warm_up", "")])),
    )


def imported_names(code: str) -> set[str]:
    """Top-level names that import statements in the beginning of `code` mention; a scan of the text, so comments can
    mislead it."""
    names: set[str] = set()
    for several, one in _IMPORT.findall(code[:SCANNED]):
        names.update(part.split()[0].split(".")[0] for part in several.split(",") if part.strip())
        if one:
            names.add(one)
    return names


def choose(profiles: Sequence[Profile], names: Iterable[str]) -> Profile:
    """Return the first (smallest) profile that serves the most of `names`."""
    names = frozenset(names)
    return max(profiles, key=lambda profile: (len(profile.serves & names), -profiles.index(profile)))
