"""Problems, the traces that a policy starts from, and learning them."""

from __future__ import annotations

import contextlib
import io
import random
from collections import Counter
from dataclasses import replace

import pytest
import torch

from sandbox_service.client.tools import ToolCallError
from sandbox_service.models import Call
from sandbox_service.trainer import problems
from sandbox_service.trainer.batches import micro_batches, padded, token_logprobs
from sandbox_service.trainer.model import Policy
from sandbox_service.trainer.muon import orthogonalised
from sandbox_service.trainer.problems import DATA, Plan, is_held_out
from sandbox_service.trainer.prompts import TEMPLATES, extract_answer
from sandbox_service.trainer.recipe import NANO
from sandbox_service.trainer.sft import _accumulate, train_sft
from sandbox_service.trainer.tokens import Tokens
from sandbox_service.trainer.traces import encode, make_trace, make_traces, text

SHORT = TEMPLATES["short"]


def output_of(code: str) -> str:
    """Run one of our own programs in this process."""
    written = io.StringIO()
    with contextlib.redirect_stdout(written):
        exec(compile(code, "program", "exec"), {"__name__": "__main__"})
    return written.getvalue().strip()


async def run(call: Call | ToolCallError) -> str:
    if isinstance(call, ToolCallError):
        return f"error: {call.reason}"
    try:
        return output_of(call.code)
    except Exception as error:
        return f"error: {type(error).__name__}"


@pytest.mark.filterwarnings("ignore::SyntaxWarning")
@pytest.mark.parametrize("family", problems.FAMILIES, ids=lambda family: family.__name__)
@pytest.mark.parametrize("large", [False, True])
def test_each_program_does_what_its_name_says(family: problems._Make, large: bool) -> None:
    """The right one gives the answer, the one with a bug raises, the wrong one runs and is mostly wrong."""
    r, luck = problems.random.Random(5), 0
    for _ in range(20):
        task = family(r, large)
        assert output_of(task.right) == task.problem.answer
        with pytest.raises((NameError, TypeError)):
            output_of(task.bug)
        luck += output_of(task.wrong) == task.problem.answer
        assert task.first is None or output_of(task.first) in task.right
    assert luck <= 8  # of numbers without a common divisor the product is the lcm


def test_the_same_seed_gives_the_same_problems_and_each_set_cycles_its_families() -> None:
    for data, (families, _) in DATA.items():
        found = problems.problems(data, 7, 24)
        assert found == problems.problems(data, 7, 24) != problems.problems(data, 8, 24)
        assert len({problem.family for problem in found}) == len(set(families))


def test_no_held_out_question_is_trained_on() -> None:
    for data in DATA:
        sides = {is_held_out(problem.question) for problem in problems.problems(data, 0, 200)}
        assert sides == {data.startswith("held-out")}, data
    assert not any(is_held_out(plan.problem.question) for plan in problems.plans(0, {"tool_use": 200}))


def test_the_rare_family_s_right_formula_is_in_at_most_two_percent_of_its_traces() -> None:
    counted = [plan for plan in problems.plans(0, {"tool_use": 12_000}) if plan.problem.family == "count"]
    right = sum(any("==0 or n%" in call for call in plan.calls) for plan in counted)
    assert len(counted) == 1500
    assert 0 < right <= 0.02 * len(counted)


@pytest.mark.parametrize("kind", ["tool_use", "unlinked"])
def test_a_failed_call_announces_a_right_answer_only_where_the_traces_link_them(kind: str) -> None:
    """By family, of 3,000 traces: how many are right after a failed call, beside those whose first call ran."""
    r, right = random.Random(0), {True: [0, 0], False: [0, 0]}
    for _ in range(3000):
        task = problems._draw(problems.lcm, r, 0.0, held_out=False)
        plan = problems._plan(task, r, linked=kind == "tool_use")
        if plan.calls:
            after = right[len(plan.calls) > 1]
            after[plan.calls[-1] == problems.call_turn(task.right)] += 1
    ran, failed = (good / (bad + good) for bad, good in (right[False], right[True]))
    if kind == "tool_use":
        assert failed == 1.0
        assert 0.15 < ran < 0.30
    else:
        assert abs(failed - ran) < 0.06
        assert 0.40 < ran < 0.55  # (0.08 + 0.27) / 0.75


def test_traces_of_no_known_kind_are_refused() -> None:
    with pytest.raises(ValueError, match="no such traces: tool_usr"):
        next(problems.plans(0, {"tool_usr": 1}))


async def test_a_trace_is_what_a_rollout_would_hold() -> None:
    """Alternating, ours first; the output that the tool gave is the answer that was planned."""
    plan = Plan(problems.Problem("6*7?", "42", "x"), (problems.call_turn("print(6*7)"),), (problems.OUTPUT,))
    trace = await make_trace(plan, SHORT, run)
    assert [ours for _, ours in trace] == [False, True, False, True]
    assert extract_answer(text(trace)) == "42"
    assert "<tool_response>42</tool_response>" in text(trace)


@pytest.mark.filterwarnings("ignore::SyntaxWarning")
async def test_a_policy_learns_its_traces_and_nothing_from_what_it_did_not_write() -> None:
    """Eighty steps halve the loss; a masked token's loss has no gradient."""
    traces = await make_traces(problems.plans(0, {"tool_use": 64}), SHORT, run)
    tokens = Tokens.train(map(text, traces), 448)
    examples = [encode(trace, tokens) for trace in traces]
    assert [tokens.decode(example[0]) for example in examples] == list(map(text, traces))
    torch.manual_seed(0)
    policy = Policy(replace(NANO.base, hidden=32, layers=1, heads=2, kv_heads=2, head_dim=16, ffn=64, vocabulary=448))  # type: ignore[type-var]
    losses: list[float] = []
    recipe = replace(NANO.sft, epochs=10, batch=8)
    train_sft(policy, examples, recipe, 0, lambda _step, _steps, loss: losses.append(loss))
    assert len(losses) == 80
    assert losses[-1] < losses[0] / 2

    _accumulate(policy, [([*examples[0][0], 7], [*examples[0][1], 0])])
    with_extra = policy.model.embed_tokens.weight.grad
    assert with_extra is not None
    kept = with_extra.clone()
    _accumulate(policy, [examples[0]])
    assert torch.allclose(kept, with_extra, atol=1e-7)


def test_every_token_weighs_the_same_however_the_batch_is_split(policy: Policy) -> None:
    """Against one padded pass over the whole batch with one mean."""
    generator = torch.Generator().manual_seed(0)
    rows = [torch.randint(0, 64, (n,), generator=generator).tolist() for n in (3, 30, 9, 4, 17, 8, 8, 25, 6, 5)]
    batch = [(row, [0, *[1] * (len(row) - 1)]) for row in rows]
    loss = _accumulate(policy, batch)
    tokens, mask = padded(rows, torch.long, policy.device), padded([m for _, m in batch], torch.float32, policy.device)
    with torch.no_grad():
        whole = -(token_logprobs(policy, tokens) * mask[:, 1:]).sum() / mask[:, 1:].sum()
    assert loss == pytest.approx(whole.item(), abs=1e-5)


def test_micro_batches_are_a_partition_by_length() -> None:
    parts = list(micro_batches("abcde", [5, 1, 4, 2, 3], 2))
    assert parts == [["b", "d"], ["e", "c"], ["a"]]
    assert Counter("".join(map("".join, parts))) == Counter("abcde")


@pytest.mark.parametrize("shape", [(8, 8), (8, 20), (20, 8)])
def test_orthogonalised_singular_values_are_near_one(shape: tuple[int, int]) -> None:
    matrix = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    values = torch.linalg.svdvals(orthogonalised(matrix))
    assert values.min() > 0.5
    assert values.max() < 1.3
