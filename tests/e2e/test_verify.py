"""Answer verification through the whole service: what is right, what an answer can cost, and whom it costs it."""

from __future__ import annotations

import httpx
import pytest

from sandbox_service.client import AsyncSandboxClient, CheckStatus
from sandbox_service.models import Checked

RIGHT = [
    (r"The answer is \boxed{0.5}.", r"\frac{1}{2}"),
    (r"so $x = 3$", "3"),
    (r"\boxed{(x+1)^2}", "x^2+2x+1"),
    (r"\[\boxed{\sqrt{18}}\]", r"3\sqrt{2}"),
    ("2^{10}", "1024"),
    (r"\boxed{\{2,1\}}", r"\{1,2\}"),
    (r"\boxed{\text{Monday}}", "Monday"),
    (r"\boxed{50\%}", "0.5"),
    (r"\begin{pmatrix} 1 & 2 \\ 3 & 4 \end{pmatrix}", r"$\begin{pmatrix} 1 & 2 \\ 3 & 4 \end{pmatrix}$"),
    ("It is 42", "42"),
    (r"\boxed{\$32348}", r"\$32,\!348"),
    (r"\boxed{36}", r"\$36"),
]
WRONG = [
    ("2^{100}", "2"),
    ("2", "2^{100}"),
    (r"\boxed{32}", r"\$32,\!348"),
    (r"3\pi", "3"),
    (r"\boxed{(1,3)}", "(1,2)"),
    ("I do not know", "7"),
    ("", "7"),
]


@pytest.fixture
async def sandbox(service_url: str) -> AsyncSandboxClient:
    return AsyncSandboxClient(service_url)


async def test_answers_are_compared_by_what_they_mean(sandbox: AsyncSandboxClient) -> None:
    """Equal in other words is right; a part of an answer is not the answer; results keep their places."""
    async with sandbox:
        verdicts = await sandbox.verify_batch([*RIGHT, *WRONG, *RIGHT[:2]])
    assert [verdict.correct for verdict in verdicts] == [True] * len(RIGHT) + [False] * len(WRONG) + [True] * 2


async def test_one_answer_is_a_condition(sandbox: AsyncSandboxClient) -> None:
    async with sandbox:
        assert await sandbox.verify(r"\boxed{1/2}", "0.5")
        assert not await sandbox.verify(r"\boxed{1/3}", "0.5")


async def test_what_was_not_judged_is_neither_right_nor_wrong(sandbox: AsyncSandboxClient) -> None:
    """A reference that cannot be read says nothing about the answer; to take it for a verdict raises."""
    async with sandbox:
        checked = await sandbox.verify("7", "I do not know")
    assert (checked.status, checked.correct) == (CheckStatus.BAD_REFERENCE, None)
    with pytest.raises(ValueError, match="bad_reference"):
        bool(checked)


EXPENSIVE = r"\boxed{(((((9^9)^9)^9)^9)^9)! + 10^{10^{10}}}"


async def test_an_expensive_answer_costs_its_own_verdict_only(sandbox: AsyncSandboxClient) -> None:
    """Answers that compute for ever or eat all memory, between others: none passes, all others are judged."""
    hard = [EXPENSIVE, r"\boxed{\int_0^1 " + "x^{" * 300 + "}" * 300 + "}", r"\boxed{" + "(" * 20_000 + "}"]
    pairs = [pair for answer in hard for pair in ((answer, "5"), (r"\boxed{5}", "5"))]
    async with sandbox:
        verdicts = await sandbox.verify_batch(pairs, limit_s=0.5)
    assert all(verdict.correct is False for verdict in verdicts[::2]), verdicts
    assert all(verdict == Checked(status=CheckStatus.OK, correct=True) for verdict in verdicts[1::2]), verdicts


async def test_bad_requests_name_the_field(http: httpx.AsyncClient) -> None:
    for body, field in (
        ({"checks": []}, "checks"),
        ({"checks": [{"answer": "1"}]}, "checks.0.reference"),
        ({"checks": [{"answer": "1", "reference": "1"}], "limit_s": 100}, "limit_s"),
        ({"checks": [{"answer": "1", "reference": "1"}], "more": 1}, "more"),
    ):
        answer = await http.post("/v1/verify", json=body)
        assert (answer.status_code, answer.json()["error"]["field"]) == (422, field)
