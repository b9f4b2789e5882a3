"""A case: one program that attacks, one property that must survive it, and the protections that make it survive.

Each case is a test against the running service (`attack` in conftest.py). With `without=...` it is a second test: the
same program in a worker that lacks the named protection, where the same check has to fail (test_protections.py).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import pytest

from sandbox_service.models import Result, Status
from tests.security.mutation import Mutation

Check = Callable[[Result], None]


@dataclass(frozen=True)
class Case:
    name: str
    ids: tuple[str, ...]
    """Of the acceptance list (A01 ...) and of the pitfalls (P1 ...) that it covers."""
    code: str
    fields: dict[str, Any]
    status: Status
    check: Check
    retired: int = 0
    """Slots that the attack may cost; each is counted by the worker."""

    def verify(self, result: Result) -> None:
        """Raise AssertionError unless the attack ended as it must and found nothing."""
        assert result.status is self.status, told(result)
        self.check(result)


@dataclass
class Registry:
    """Every case, and the protections that each is shown to depend on; filled when the test modules are imported."""

    cases: list[Case] = field(default_factory=list)
    without: dict[Mutation, list[Case]] = field(default_factory=dict)
    """Where the case has to fail."""
    also_without: dict[Mutation, list[Case]] = field(default_factory=dict)
    """Where it has to pass all the same, because another layer is behind this one."""


REGISTRY = Registry()


def case(
    ids: str,
    code: str,
    *,
    without: tuple[Mutation, ...] | Mutation = (),
    also_without: tuple[Mutation, ...] = (),
    status: Status = Status.OK,
    retired: int = 0,
    **fields: Any,
) -> Callable[[Check], Callable[..., Any]]:
    """Make a test of a check: run `code` as an attack, with the general checks, then the check on its Result.

    The docstring of the check is the property.
    """

    def wrap(check: Check) -> Callable[..., Any]:
        name = check.__name__
        made = Case(name.removeprefix("test_"), tuple(ids.split()), code, fields, status, check, retired)
        REGISTRY.cases.append(made)
        for mutation in (without,) if isinstance(without, Mutation) else without:
            REGISTRY.without.setdefault(mutation, []).append(made)
        for mutation in also_without:
            REGISTRY.also_without.setdefault(mutation, []).append(made)

        @covers(ids)
        async def test(attack: Callable[..., Any]) -> None:
            await attack(made)

        test.__name__ = test.__qualname__ = name
        test.__doc__ = check.__doc__
        test.__module__ = check.__module__
        return test

    return wrap


def covers(ids: str) -> pytest.MarkDecorator:
    """Mark a test with the ids of the acceptance list and of the pitfalls that it covers."""
    return pytest.mark.covers(*ids.split())


def told(result: Result) -> str:
    return (
        f"{result.status.value} exit={result.exit_code} signal={result.signal} limit={result.limit} "
        f"message={result.message!r}\nstdout: {result.stdout[:3000]}\nstderr: {result.stderr[-3000:]}"
    )


def prints(expected: str) -> Check:
    """A check that the program wrote exactly this, and nothing to stderr."""

    def check(result: Result) -> None:
        assert (result.stdout, result.stderr) == (expected, ""), told(result)

    return check
