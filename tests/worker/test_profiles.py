"""Which zygote a piece of code runs in: the smallest one that has what its imports name."""

from __future__ import annotations

import base64

import pytest

from sandbox_service.config import deploy_dir
from sandbox_service.errors import SetupError
from sandbox_service.models import Job, Limits
from sandbox_service.worker.execution import _sources
from sandbox_service.worker.profiles import SCANNED, choose, imported_names, read_profiles

PROFILES = read_profiles(deploy_dir() / "profiles.toml")


@pytest.mark.parametrize(
    ("code", "names"),
    [
        ("import numpy", {"numpy"}),
        ("import numpy as np, scipy.optimize as so  # both", {"numpy", "scipy"}),
        ("from sympy.abc import x", {"sympy"}),
        ("    import math; import json", {"math"}),
        ("def f():\n\tfrom numpy import array\n", {"numpy"}),
        ("important = 1\nfromage = 2\nprint('import numpy')", set()),
        ("x = 1; import numpy", set()),
        ("import numpy,", {"numpy"}),
        ("import ", set()),
        ("from . import numpy", set()),
        ("import numpy\r\nimport sympy\r\n", {"numpy", "sympy"}),
        ("", set()),
    ],
)
def test_imports_are_found_by_a_scan_of_the_text(code: str, names: set[str]) -> None:
    """A guess only: what it misses costs an import."""
    assert imported_names(code) == names


@pytest.mark.parametrize(
    ("names", "chosen"),
    [
        (set(), "bare"),
        ({"math", "itertools"}, "bare"),
        ({"unknown"}, "bare"),
        ({"numpy"}, "numpy"),
        ({"sympy", "math"}, "sympy"),
        ({"numpy", "sympy"}, "numpy-sympy"),
        ({"scipy"}, "scipy"),
        ({"numpy", "sympy", "scipy"}, "scipy"),
        ({"pandas"}, "data"),
        ({"networkx", "numpy"}, "data"),
    ],
)
def test_the_smallest_profile_that_has_the_most_is_chosen(names: set[str], chosen: str) -> None:
    assert choose(PROFILES, names).name == chosen


def test_a_profile_has_all_of_those_it_extends() -> None:
    named = {profile.name: profile for profile in PROFILES}
    both = named["numpy-sympy"]
    assert set(named["numpy"].modules) | set(named["sympy"].modules) == set(both.modules)
    assert len(both.modules) == len(set(both.modules))
    assert named["numpy"].serves | named["sympy"].serves == both.serves


def test_only_the_wanted_profiles_are_read() -> None:
    wanted = read_profiles(deploy_dir() / "profiles.toml", ("sympy", "bare"))
    assert [profile.name for profile in wanted] == ["bare", "sympy"]


def test_an_unknown_profile_is_refused_with_those_there_are() -> None:
    with pytest.raises(SetupError, match=r"no profile 'numby'.*bare, numpy"):
        read_profiles(deploy_dir() / "profiles.toml", ("numby",))


def test_a_profile_fits_an_image_that_has_its_packages() -> None:
    named = {profile.name: profile for profile in PROFILES}
    assert named["bare"].fits([])
    assert named["numpy"].fits(["numpy==2.0"])
    assert not named["numpy-sympy"].fits(["numpy==2.0"])


def test_a_search_for_imports_is_bounded() -> None:
    """However much source comes along: it holds up all that the worker does."""
    lines = b"import a\n" * SCANNED
    assert imported_names(lines.decode() + "import numpy\n") == {"a"}
    modules = {f"m{number}.py": base64.b64encode(b"import numpy\n" + lines).decode() for number in range(3)}
    sources = _sources(Job(id="a", code="import sympy", limits=Limits(), files=modules))
    assert len(sources) < 2 * SCANNED
    assert imported_names(sources) == {"sympy", "numpy", "a"}
