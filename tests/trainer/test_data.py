"""`train data`: five rows of each source, made by hand in the form in which it is published."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from sandbox_service.cli import main
from sandbox_service.client.tools import TOOL_NAME, to_call
from sandbox_service.integrations import evaluate
from sandbox_service.trainer import curate
from sandbox_service.trainer.sources import RL, SFT, Dropped

ROWS = Path(__file__).parent / "data"
BAD_CALL = "a call that cannot be read, or of no listed tool"
CALLS = {
    "toolace": [
        ("Get Weather", {"city": "Brest (Finistère)", "days": 2}),
        ("tides/today", {"port": "Brest", "heights": [1.5, 2], "metric": True}),
        ("Get Weather", {"city": "Brest"}),
    ],
    "apigen-mt": [("get_order", {"order_id": "W1"}), ("think", {"thought": "hm"}), ("get_order", {"order_id": "W2"})],
    "glaive": [("get_rate", {"base": "USD", "note": "it's urgent"}), ("get_time", {})],
    "magicoder": [
        (TOOL_NAME, {"code": "for n in range(1, 4):\n    print(n * n)\n", "input": ""}),
        (TOOL_NAME, {"code": "print(int(input()) * 2)\n", "input": ""}),
    ],
    "tulu3": [],
    "nemotron": [],
}
DROPPED = {
    "toolace": {BAD_CALL: 2},
    "apigen-mt": {BAD_CALL: 2},
    "glaive": {BAD_CALL: 2},
    "magicoder": {"not one Python program": 2, "not Python": 1},
    "tulu3": {"not instruction following": 1, "an empty message": 1},
    "nemotron": {"reasoning": 1, "not chat": 1},
    "dapo": {"a duplicate": 1, "no integer answer": 1},
    "openmathreasoning": {"no stated answer": 1, "no integer answer": 1, "not from AoPS": 1},
    "project-euler": {"a huge number": 2, "no integer answer": 1},
}
ANSWERS = {
    "dapo": [("What is $6\\cdot 7$?", "42"), ("Find the least prime above 30.", "31"),
             ("Minus a thousand and one?", "-1001")],
    "openmathreasoning": [("Find the number of ways to seat five people in a row of five chairs.", "120"),
                          ("Find $x$ if $2x = 8$.", "4")],
    "project-euler": [("Add all multiples of 3 or 5 below 1000.", "233168"),
                      ("Sum of the even Fibonacci numbers up to four million?", "4613732")],
}  # fmt: skip


@pytest.fixture
def convert(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Any:
    def run(source: str, *more: str, rows: Path | None = None, out: str = "out.jsonl") -> tuple[list[Any], Any]:
        path = tmp_path / out
        assert main(["train", "data", source, str(rows or ROWS / f"{source}.jsonl"), "--out", str(path), *more]) == 0
        return [json.loads(line) for line in path.read_text().splitlines()], json.loads(capsys.readouterr().out)

    return run


def test_there_are_five_rows_of_each_source() -> None:
    names = {path.stem: len(path.read_text().splitlines()) for path in ROWS.glob("*.jsonl")}
    assert names == dict.fromkeys({*SFT, *RL} - {"verl"}, 5)


@pytest.mark.parametrize("source", SFT)
def test_sft_rows_are_plain_messages_with_calls_in_json(convert: Any, source: str) -> None:
    rows, told = convert(source)
    assert told["dropped"] == DROPPED[source]
    assert (told["read"], told["kept"]) == (5, len(rows)) == (5, 5 - sum(DROPPED[source].values()))
    calls = []
    for row in rows:
        assert set(row) == {"messages", "source"}
        assert row["messages"][-1]["role"] == "assistant"
        assert all(set(turn) == {"role", "content"} and turn["content"] for turn in row["messages"])
        for turn in row["messages"]:
            if turn["role"] == "assistant":
                for part in turn["content"].split("<tool_call>\n")[1:]:
                    call = json.loads(part.partition("\n</tool_call>")[0])
                    calls.append((call["name"], call["arguments"]))
    assert calls == CALLS[source]


def test_tools_stand_in_the_system_message_with_the_types_of_json_schema(convert: Any) -> None:
    system = convert("toolace")[0][0]["messages"][0]
    assert system["role"] == "system"
    between = system["content"].rpartition("<tools>\n")[2].partition("\n</tools>")[0]
    listed = [json.loads(line) for line in between.splitlines()]
    assert listed[0]["function"]["parameters"]["type"] == "object"
    assert listed[1]["function"]["parameters"]["properties"]["heights"] == {
        "type": "array",
        "items": {"type": "number"},
    }
    assert convert("apigen-mt")[0][0]["messages"][0]["content"].startswith("# Retail policy\nBe polite.\n\n# Tools")


def test_outputs_of_tools_are_user_messages_that_nobody_learns(convert: Any) -> None:
    roles = [turn["role"] for turn in convert("apigen-mt")[0][0]["messages"]]
    assert roles == ["system", "user", "assistant", "user", "assistant"]
    assert convert("glaive")[0][0]["messages"][3]["content"] == '<tool_response>\n{"rate": 0.9}\n</tool_response>'


def test_a_program_becomes_a_call_that_our_service_takes(convert: Any) -> None:
    turn = convert("magicoder")[0][0]["messages"][-1]["content"]
    assert turn.startswith("A loop does it.\n<tool_call>")
    assert turn.endswith("</tool_call>")
    call = json.loads(turn.partition("<tool_call>")[2].removesuffix("</tool_call>"))
    assert "range(1, 4)" in to_call(call).code


@pytest.mark.parametrize("source", ANSWERS)
def test_rl_rows_are_verls_and_eval_reads_them(convert: Any, tmp_path: Path, source: str) -> None:
    rows, told = convert(source)
    assert told["dropped"] == DROPPED[source]
    found = [(row["prompt"][0]["content"], row["reward_model"]["ground_truth"]) for row in rows]
    assert found == ANSWERS[source]
    assert all(row["prompt"][0]["role"] == "user" and row["data_source"] == "math" for row in rows)
    assert [(one.text, one.answer) for one in evaluate.load(tmp_path / "out.jsonl")] == found


def test_what_fewer_than_two_of_sixteen_answers_confirm_is_dropped(convert: Any, tmp_path: Path) -> None:
    """Ids are line numbers, as `eval` gives them to verl's rows."""
    rows, _ = convert("dapo", out="dapo.jsonl")
    answers = {1: ["42", "$42$", *["7"] * 14], 2: ["31", *["7"] * 14, None], 3: ["-1001"] * 16}
    samples = tmp_path / "samples.jsonl"
    samples.write_text(
        "".join(json.dumps({"id": str(id), "answer": one}) + "\n" for id, given in answers.items() for one in given)
    )
    kept, told = convert("verl", "--samples", str(samples), rows=tmp_path / "dapo.jsonl")
    assert kept == [rows[0], rows[2]]
    assert told["dropped"] == {"fewer than 2 answers confirm it": 1}


def test_what_shares_eight_words_with_an_evaluation_set_is_dropped(convert: Any, tmp_path: Path) -> None:
    held_out = tmp_path / "held-out.jsonl"
    texts = ["In how many orders? Find the number of WAYS to seat five people today.", "Find x if 2x = 8"]
    held_out.write_text("".join(json.dumps({"problem": text, "answer": "1"}) + "\n" for text in texts))
    rows, told = convert("openmathreasoning", "--decontaminate", str(held_out), rows=_more(tmp_path))
    assert [row["reward_model"]["ground_truth"] for row in rows] == ["6"]
    assert told["dropped"] == {"shares 8 words with an evaluation set": 2}


def _more(folder: Path) -> Path:
    """The two good rows, and one that shares seven words."""
    good = (ROWS / "openmathreasoning.jsonl").read_text().splitlines()[:2]
    near = json.loads(good[0]) | {"problem": "Find the number of ways to seat three people.", "expected_answer": "6"}
    (folder / "more.jsonl").write_text("\n".join([*good, json.dumps(near)]) + "\n")
    return folder / "more.jsonl"


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("42", "42"),
        (" $042$ ", "42"),
        ("\\boxed{-7}", "-7"),
        ("1,234,567", "1234567"),
        ("1{,}234", "1234"),
        ("+3", "3"),
    ],
)
def test_integers_have_one_spelling(written: str, meant: str) -> None:
    assert curate.integer(written) == meant


@pytest.mark.parametrize("written", ["", "4.0", "1,23", "x", "1/2", "٣", "3 apples", "3, 4", "10^{9}", "None"])
def test_what_is_no_integer_is_dropped(written: str) -> None:
    with pytest.raises(Dropped, match="no integer"):
        curate.integer(written)


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["nosuch", "a.jsonl", "--out", "o.jsonl"], "no source 'nosuch'; for SFT: toolace"),
        (["dapo", "absent.jsonl", "--out", "o.jsonl"], "there is no absent.jsonl"),
        (["dapo", "a.csv", "--out", "o.jsonl"], "a.csv: rows are read from .jsonl, .json, .parquet"),
        (["dapo", "a.jsonl", "--out", "o.txt"], "o.txt: say which form, .jsonl or .parquet"),
        (["dapo", "a.jsonl", "--out", "a.jsonl"], "a.jsonl would be overwritten"),
        (["dapo", "a.jsonl", "--out", "o.jsonl"], "a.jsonl: row 1 is none of dapo: it has no 'prompt'"),
        (
            ["toolace", "list.json", "--out", "o.jsonl"],
            "list.json: row 2 is none of toolace: an object expected, not int",
        ),
        (["dapo", "bad.jsonl", "--out", "o.jsonl"], "bad.jsonl:2: not JSON"),
        (["dapo", "a.jsonl", "--samples", "s.jsonl", "--out", "o.jsonl"], "--samples goes with the source verl"),
        (["project-euler", "none.jsonl", "--out", "o.jsonl"], 'no row is left, nothing was written: {"source"'),
        (
            ["verl", "v.jsonl", "--samples", "s.jsonl", "--out", "o.jsonl"],
            "sample of id 9, and v.jsonl has no such row",
        ),
    ],
)
def test_errors_say_what_and_where(
    arguments: list[str], complaint: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    Path("a.jsonl").write_text('{"x": 1}\n')
    Path("a.csv").write_text("x\n")
    Path("bad.jsonl").write_text((ROWS / "dapo.jsonl").read_text().splitlines()[0] + "\n{\n")
    Path("list.json").write_text(json.dumps([json.loads((ROWS / "toolace.jsonl").read_text().splitlines()[0]), 1]))
    Path("none.jsonl").write_text('{"problem": "?", "answer": "x"}\n')
    Path("v.jsonl").write_text(
        json.dumps({"prompt": [{"role": "user", "content": "?"}], "reward_model": {"ground_truth": "1"}})
    )
    Path("s.jsonl").write_text('{"id": "9", "answer": "1"}\n')
    assert main(["train", "data", *arguments]) == 2
    assert complaint in capsys.readouterr().err
    assert not Path("o.jsonl").exists()


def test_parquet_is_written_and_read_where_pyarrow_is(convert: Any, tmp_path: Path, capsys: Any) -> None:
    pytest.importorskip("pyarrow")
    rows, _ = convert("dapo")
    path = tmp_path / "dapo.parquet"
    assert main(["train", "data", "dapo", str(ROWS / "dapo.jsonl"), "--out", str(path)]) == 0
    capsys.readouterr()
    assert convert("verl", rows=path, out="again.jsonl")[0] == rows
    assert [(one.text, one.answer) for one in evaluate.load(path)] == ANSWERS["dapo"]
