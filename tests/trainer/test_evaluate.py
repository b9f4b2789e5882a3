"""`sandbox-service eval` against a model server that follows a script, so that the score is known."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, ClassVar

import pytest

from sandbox_service.cli import main
from sandbox_service.client.tools import TOOL_NAME
from sandbox_service.errors import SetupError
from sandbox_service.integrations import evaluate
from sandbox_service.serve import temporary_service


class Model(BaseHTTPRequestHandler):
    """Computes the answer with the tool; every other sample of the second question it gets wrong, and never the third.

    The third question's samples call the tool for ever; the fourth is asked in vain: the server breaks.
    """

    asked: ClassVar[dict[str, int]] = {}
    lock = threading.Lock()

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        first, last = body["messages"][0]["content"], body["messages"][-1]
        if "broken" in first:
            self._send(500, {"error": "out of GPUs"})
        elif last["role"] == "tool" and "for ever" not in first:
            shown = last["content"].rpartition("stdout:\n")[2].strip()
            self._say({"content": f"<answer>\\boxed{{{shown}}}</answer>"})
        else:
            with self.lock:
                count = self.asked[first] = self.asked.get(first, -1) + 1
            code = (
                "print(1 +)" if "for ever" in first else "print(41)" if "hard" in first and count % 2 else "print(42)"
            )
            function = {"name": TOOL_NAME, "arguments": json.dumps({"code": code, "input": ""})}
            self._say({"content": "", "tool_calls": [{"id": "c", "type": "function", "function": function}]})

    def _say(self, message: dict[str, Any]) -> None:
        choice = {"message": {"role": "assistant", **message}, "finish_reason": "stop"}
        self._send(200, {"choices": [choice], "usage": {"completion_tokens": 10}})

    def _send(self, status: int, body: dict[str, Any]) -> None:
        data = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *_: Any) -> None: ...


@pytest.fixture
def endpoint() -> Iterator[str]:
    Model.asked.clear()
    with ThreadingHTTPServer(("127.0.0.1", 0), Model) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}/v1"
        server.shutdown()
        thread.join()


@pytest.mark.slow
@pytest.mark.timeout(120)
def test_the_score_of_a_model_whose_score_is_known(
    endpoint: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = [{"problem": name, "answer": "42"} for name in ("easy", "hard", "for ever")]
    data, out = tmp_path / "data.jsonl", tmp_path / "out.jsonl"
    data.write_text("".join(json.dumps(row) + "\n" for row in rows))
    with temporary_service() as service:
        command = ["eval", "--data", str(data), "--endpoint", endpoint, "--model", "m", "--service", service]
        assert main([*command, "--samples", "4", "--turns", "3", "--out", str(out), "--unsolved", f"{out}.hard"]) == 0
        found = json.loads(capsys.readouterr().out)
        data.write_text(
            json.dumps({"problem": "easy", "answer": "42"}) + "\n" + '{"question": "broken", "answer": 1}\n'
        )
        assert main([*command, "--samples", "1"]) == 1
        broken = json.loads(capsys.readouterr().out)
    assert found["avg@4"]["mean"] == pytest.approx(0.5)
    assert found["pass@1"]["mean"] == pytest.approx(0.5)
    assert found["pass@2"]["mean"] == pytest.approx((1 + 5 / 6 + 0) / 3)
    assert found["pass@4"]["mean"] == pytest.approx(2 / 3)
    assert found["avg@4"]["low"] == 0
    assert (found["samples"], found["lost"]) == (12, 0)
    assert found["calls"] == pytest.approx((4 + 4 + 8) / 12)
    assert found["call_errors"] == pytest.approx(8 / 16)
    assert found["truncated"] == pytest.approx(1 / 3)
    assert len(out.read_text().splitlines()) == 12
    assert [json.loads(row) for row in Path(f"{out}.hard").read_text().splitlines()] == rows[1:]
    assert (broken["avg@1"]["mean"], broken["samples"], broken["lost"]) == (1, 1, 1)


def test_gpqa_is_read_as_multiple_choice(tmp_path: Path) -> None:
    file = tmp_path / "gpqa.csv"
    file.write_text(
        "Question,Correct Answer,Incorrect Answer 1,Incorrect Answer 2,Incorrect Answer 3\n"
        + "".join(f"Question {number}?,right,a,b,c\n" for number in range(8))
    )
    questions = evaluate.load(file)
    assert len({question.answer for question in questions}) > 1
    for question in questions:
        assert f"({question.answer}) right" in question.text


def test_a_row_that_is_none_is_named(tmp_path: Path) -> None:
    file = tmp_path / "rows.jsonl"
    file.write_text('{"problem": "x", "answer": "1"}\n{"problem": "x"}\n')
    with pytest.raises(SetupError, match=r"rows.jsonl:2"):
        evaluate.load(file)
