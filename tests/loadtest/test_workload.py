"""The workload's own health: what later load tests rely on."""

from __future__ import annotations

from pathlib import Path

import pytest

from loadtest.workload import Expected, humaneval, humaneval_path, load, read, split
from sandbox_service.models import Result, Status

CALLS = load("toolcalls")


def share(count: int) -> float:
    return count / len(CALLS)


def test_there_are_enough_calls_and_their_names_are_unique() -> None:
    """At least 200 calls; a name tells one call."""
    assert len(CALLS) >= 200
    assert len({call.name for call in CALLS}) == len(CALLS)
    assert len({call.call.code for call in CALLS}) == len(CALLS)


def test_the_mix_is_the_one_the_load_tests_need() -> None:
    """p95 of the code is at least 2 KB; about 5 % time out and about 5 % write 64 KB; most succeed."""
    sizes = sorted(len(call.call.code.encode()) for call in CALLS)
    assert sizes[int(0.95 * len(sizes))] >= 2048
    statuses = [call.expected.status for call in CALLS]
    assert 0.04 <= share(statuses.count(Status.TIMED_OUT)) <= 0.06
    assert 0.04 <= share(sum(call.expected.truncated for call in CALLS)) <= 0.08
    assert share(statuses.count(Status.OK)) >= 0.7


def test_every_status_that_code_alone_can_have_occurs() -> None:
    """ok, failed, signaled, timed_out by both clocks, out_of_memory, output_limit."""
    assert {call.expected.status for call in CALLS} == {
        Status.OK,
        Status.FAILED,
        Status.SIGNALED,
        Status.TIMED_OUT,
        Status.OUT_OF_MEMORY,
        Status.OUTPUT_LIMIT,
    }
    assert {"wall", "cpu"} <= {call.expected.limit for call in CALLS}


def test_outputs_are_checked_almost_everywhere() -> None:
    """At most 5 % of the calls have an output that varies; no call that is `ok` prints nothing by mistake."""
    unchecked = [call for call in CALLS if call.expected.stdout is None and call.expected.stdout_sha256 is None]
    assert share(len(unchecked)) <= 0.05
    assert [call.name for call in CALLS if call.expected.status is Status.OK and call.expected.stdout == ""] == []


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("print(1)\n", "not a `# key: value` line"),
        ("# stdout: 1\n\nprint(1)\n", "status"),
        ("# status: fine\n\nprint(1)\n", "fine"),
        ("# status: ok\n# colour: red\n\nprint(1)\n", "colour"),
        ("# status: ok\n# limits: wall_s=-1\n\nprint(1)\n", "wall_s"),
        ("# status: ok\n# stdout: 1\n# stdout_varies: why\n\nprint(1)\n", "more than one"),
    ],
)
def test_a_wrong_header_is_refused(tmp_path: Path, text: str, problem: str) -> None:
    """A typing error in a header cannot silently weaken a check."""
    path = tmp_path / "call.py"
    path.write_text(text)
    with pytest.raises(ValueError, match=problem):
        read(path, "call")


def test_the_header_is_not_part_of_the_code() -> None:
    """What is sent is what the model wrote: the answer is not in it."""
    header, code = split("# status: ok\n# stdout: 4\n\n# compute\n\nprint(4)\n")
    assert header == {"status": ["ok"], "stdout": ["4"]}
    assert code == "# compute\n\nprint(4)\n"


def test_a_mismatch_is_seen() -> None:
    """Each thing that is expected is compared."""
    expected = Expected(Status.FAILED, exit_code=3, signal="SIGSEGV", limit="wall", stdout="a\n", last_error="E: no")
    result = Result(id="x", status=Status.OK, exit_code=0, stdout="b\n")
    assert len(list(expected.mismatches(result))) == 6
    assert list(Expected(Status.OK, stdout="b\n", files=frozenset({"f"})).mismatches(result)) == [
        "files ['f'] were not returned"
    ]


@pytest.mark.skipif(not humaneval_path().exists(), reason="HumanEval's file is not here (set HUMANEVAL)")
def test_humaneval_is_whole() -> None:
    """164 problems; the variant with `pass` for a body has no solution in it."""
    canonical, empty = humaneval(), humaneval(body="pass")
    assert len(canonical) == len(empty) == 164
    assert all(a.call.code != b.call.code for a, b in zip(canonical, empty, strict=True))
    assert {call.expected.status for call in empty} == {Status.FAILED}
