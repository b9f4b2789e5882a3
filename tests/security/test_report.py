"""The suite is whole, and SECURITY.md says what it shows."""

from __future__ import annotations

from tests.security import report
from tests.security.pitfalls import PITFALLS
from tests.security.uncontrolled import UNCONTROLLED

COVERED = {id_ for module in report.MODULES.values() for row in report.rows(module) for id_ in row.ids}
ACCEPTANCE = [
    *(f"A{number:02}" for number in range(1, 13)),
    *(f"B{number:02}" for number in (1, 2, 3, 4, 5, 7, 9, 10, 11, 12, 13, 15)),
    *(f"C{number:02}" for number in (1, 2, 4, 5, 6, 7, 9, 10, 11, 12, 13)),
    *(f"D{number:02}" for number in (1, 2, 3, 4, 5, 6, 8, 9, 10, 11, 13, 14, 15)),
    *(f"E{number:02}" for number in (1, 2, 3, 4, 5, 6, 8, 9, 10, 11, 12, 13, 14, 16, 18, 19)),
    *(f"F{number:02}" for number in (1, 2, 3, 4, 5, 7, 8)),
]


def test_every_case_of_the_acceptance_list_is_covered() -> None:
    """A to F; B08, the comparison of objects, belongs to a way of calling that is not offered."""
    assert [id_ for id_ in ACCEPTANCE if id_ not in COVERED] == []


def test_every_pitfall_is_closed_or_accepted() -> None:
    assert list(PITFALLS) == [f"P{number}" for number in range(1, 41)]
    for key, pitfall in PITFALLS.items():
        assert report.closed_by(key) or pitfall.accepted, key
        for file in pitfall.elsewhere:
            assert (report.DOCUMENT.parent / file).exists(), file


def test_every_row_is_shown_able_to_fail_or_says_why_not() -> None:
    rows = [row for module in report.MODULES.values() for row in report.rows(module)]
    assert {row.name for row in rows if not row.without} == set(UNCONTROLLED)


def test_security_md_is_up_to_date() -> None:
    """Its tables are those of the suite; `python -m tests.security.report` renews them."""
    document = report.DOCUMENT.read_text()
    assert report.BEGIN in document
    assert document == report.written(document)
