"""`sandbox-service eval` against a model server that follows a script, and whose score is therefore known."""

from __future__ import annotations

import json
import threading
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from sandbox_service.cli import main
from sandbox_service.client.tools import TOOL_NAME
from tests.client.scripted import Answer, ScriptedServer, Seen
from tests.tiny_model import write_model
from tests.trainer.test_evaluate import SHARED

pytestmark = pytest.mark.slow
ROWS = [
    {"id": "sure", "problem": "sure: 6 * 7", "answer": "42"},
    {"id": "half", "problem": "half: 2 + 2", "answer": "4"},
    {"id": "never", "problem": "never: 1 / 3", "answer": "\\frac{1}{3}"},
    {"id": "endless", "problem": "endless", "answer": "1"},
]


class Model:
    """`sure` is right by its one call, `half` in every other sample and without a call. `never` makes two calls that
    fail, one of them no JSON, and answers wrongly; `endless` writes until its tokens are used up."""

    def __init__(self, *, native: bool) -> None:
        self._native, self._lock = native, threading.Lock()
        self._asked: Counter[str] = Counter()

    def __call__(self, seen: Seen) -> Answer:
        messages = seen.body["messages"]
        kind = messages[0]["content"].rpartition("\n")[2].partition(":")[0]
        with self._lock:
            self._asked[kind] += 1
            count = self._asked[kind]
        if kind == "endless":
            return _said({"content": "so "}, "length", seen.body["max_tokens"])
        if kind == "half":
            return _said({"content": f"<answer>\\boxed{{{4 if count % 2 else 5}}}</answer>"})
        if len(messages) == 1:
            good = json.dumps({"code": "print(6 * 7)", "input": ""})
            return self.calls([good] if kind == "sure" else ["{", json.dumps({"code": "1 / 0", "input": ""})])
        shown = [turn["content"] for turn in messages[2:]]
        if kind == "sure":
            value = "42" if "42" in shown[0] else "nothing"
            return _said({"content": f"It is <answer>\\boxed{{{value}}}</answer>"})
        assert "must be JSON" in "".join(shown)
        assert "ZeroDivisionError" in "".join(shown)
        return _said({"content": "<answer>\\boxed{0.3}</answer>"})

    def calls(self, arguments: list[str]) -> Answer:
        if self._native:
            calls = [
                {"id": f"c{at}", "type": "function", "function": {"name": TOOL_NAME, "arguments": one}}
                for at, one in enumerate(arguments)
            ]
            return _said({"content": None, "tool_calls": calls}, "tool_calls")
        bodies = [f'<tool_call>{{"name": "{TOOL_NAME}", "arguments": {one}}}</tool_call>' for one in arguments]
        return _said({"content": "".join(bodies)})


def _said(message: dict[str, Any], reason: str = "stop", tokens: int = 10) -> Answer:
    choice = {"message": {"role": "assistant", **message}, "finish_reason": reason}
    return Answer(body=json.dumps({"choices": [choice], "usage": {"completion_tokens": tokens}}).encode())


@pytest.fixture
def server() -> Iterator[ScriptedServer]:
    made = ScriptedServer()
    yield made
    made.close()


def evaluated(
    server: ScriptedServer, service_url: str, folder: Path, capsys: pytest.CaptureFixture[str], *more: str
) -> tuple[int, dict[str, Any]]:
    data = folder / "data.jsonl"
    data.write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    code = main([
        "eval", "--endpoint", f"{server.url}/v1", "--model", "scripted", "--url", service_url, "--data", str(data),
        "--samples", "4", "--max-tokens", "100", *more,
    ])  # fmt: skip
    return code, json.loads(capsys.readouterr().out)


@pytest.mark.parametrize("native", [True, False], ids=["tool_calls", "text"])
def test_the_score_is_the_scripts(
    native: bool, server: ScriptedServer, service_url: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """avg@4 (4 + 2 + 0 + 0) / 16; pass@2 of `half` is 1 - C(2,2)/C(4,2) = 5/6. Calls are `tool_calls` or text."""
    server.script = [Model(native=native)]
    out, unsolved = tmp_path / "samples.jsonl", tmp_path / "unsolved.jsonl"
    code, found = evaluated(server, service_url, tmp_path, capsys, "--out", str(out), "--unsolved", str(unsolved))
    assert (code, found["questions"], found["samples"], found["lost"]) == (0, 4, 16, 0)
    shares = {name: share["mean"] for name, share in found.items() if "@" in name}
    assert shares == pytest.approx({"avg@4": 0.375, "pass@1": 0.375, "pass@2": (1 + 5 / 6) / 4, "pass@4": 0.5})
    # Over four questions with shares 1, 1/2, 0, 0: a standard deviation of 0.479.
    assert found["avg@4"]["low"] == 0
    assert found["avg@4"]["high"] == pytest.approx(0.375 + 1.96 * 0.4787 / 2, abs=1e-3)
    assert (found["calls"], found["call_errors"]) == pytest.approx(((4 + 8) / 16, 8 / 12))
    assert (found["truncated"], found["no_answer"]) == (0.25, 0.25)
    assert found["tokens"] == pytest.approx((20 + 10 + 20 + 100) / 4)
    samples = [json.loads(line) for line in out.read_text().splitlines()]
    assert Counter((one["id"], one["correct"]) for one in samples) == {
        ("sure", True): 4, ("half", True): 2, ("half", False): 2, ("never", False): 4, ("endless", False): 4,
    }  # fmt: skip
    assert [json.loads(line)["id"] for line in unsolved.read_text().splitlines()] == ["half", "never", "endless"]


def test_a_sample_that_the_endpoint_lost_is_in_no_figure(
    server: ScriptedServer, service_url: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """`endless` is refused by the server: its samples are lost, not wrong, and the exit code says so."""
    model = Model(native=True)
    server.script = [lambda seen: Answer(400, b"too long") if "endless" in str(seen.body["messages"]) else model(seen)]
    code, found = evaluated(server, service_url, tmp_path, capsys)
    assert (code, found["questions"], found["samples"], found["lost"]) == (1, 3, 12, 4)
    assert found["avg@4"]["mean"] == pytest.approx(0.5)
    assert "endless/0" in found["lost_because"][0]
    assert "answered 400: too long" in found["lost_because"][0]


@pytest.mark.parametrize(("name", "rows"), [("aime24", 30), ("aime25", 30), ("math500", 500)])
def test_the_papers_sets_are_played_whole(
    name: str, rows: int, server: ScriptedServer, service_url: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Of two samples of each problem one prints the reference with the tool and answers it, the other answers none."""
    data = SHARED / f"{name}.jsonl"
    if not data.exists():
        pytest.skip(f"{data} is not here")
    known = {row["problem"]: str(row["answer"]) for row in map(json.loads, data.read_text().splitlines())}
    asked: Counter[str] = Counter()
    lock = threading.Lock()

    def model(seen: Seen) -> Answer:
        messages = seen.body["messages"]
        if len(messages) == 3:
            shown = messages[2]["content"].partition("stdout:\n")[2]
            return _said({"content": f"<answer>\\boxed{{{shown}}}</answer>"})
        problem = next(problem for problem in known if messages[0]["content"].endswith(problem))
        with lock:
            asked[problem] += 1
            second = asked[problem] == 2
        if second:
            return _said({"content": "<answer>\\boxed{\\text{I do not know}}</answer>"})
        return Model(native=True).calls([json.dumps({"code": f"print({known[problem]!r})", "input": ""})])

    server.script = [model]
    out = tmp_path / "samples.jsonl"
    code = main([
        "eval", "--endpoint", f"{server.url}/v1", "--model", "scripted", "--data", str(data), "--url", service_url,
        "--samples", "2", "--at-once", "32", "--out", str(out),
    ])  # fmt: skip
    found = json.loads(capsys.readouterr().out)
    wrong = [line for line in out.read_text().splitlines() if not json.loads(line)["correct"]]
    assert (code, found["questions"], found["samples"], found["lost"]) == (0, rows, 2 * rows, 0), found["lost_because"]
    assert (found["avg@2"]["mean"], found["pass@2"]["mean"], found["calls"]) == (0.5, 1, 0.5), wrong


@pytest.mark.parametrize(
    ("turn", "score", "tokens", "outcome"),
    [
        # </reason>, <answer>, \\boxed{42}, </answer>, <|im_end|>
        ("</reason><answer>\\boxed{42}</answer><|im_end|>", 0.5, 14, {("sure", True, "42"), ("half", False, "42")}),
        (None, 0, None, None),
    ],
    ids=["always 42", "random weights"],
)  # fmt: skip
def test_a_hugging_face_folder_plays_in_the_papers_format(
    turn: str | None, score: float, tokens: int | None, outcome: set[Any] | None, service_url: str, tmp_path: Path,
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    """A model that always answers 42 is right in one question of two; random weights never are."""
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    write_model(tmp_path / "model", turn)
    data, out = tmp_path / "data.jsonl", tmp_path / "samples.jsonl"
    data.write_text("".join(json.dumps(row) + "\n" for row in ROWS[:2]))
    code = main([
        "eval", "--folder", str(tmp_path / "model"), "--data", str(data), "--url", service_url,
        "--samples", "4", "--max-tokens", "40", "--out", str(out),
    ])  # fmt: skip
    found = json.loads(capsys.readouterr().out)
    samples = [json.loads(line) for line in out.read_text().splitlines()]
    assert (code, found["lost"], Counter(one["id"] for one in samples)) == (0, 0, {"sure": 4, "half": 4})
    assert (found["avg@4"]["mean"], found["pass@4"]["mean"]) == (score, score)
    if outcome:
        assert {(one["id"], one["correct"], one["answer"]) for one in samples} == outcome
        assert (found["tokens"], found["turns"], found["calls"], found["no_answer"]) == (tokens, 1, 0, 0)
