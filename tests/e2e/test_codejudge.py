"""The code-judge dialect: exact keys, order, reasons; python, cpp and math."""

from __future__ import annotations

import time
from typing import Any

import httpx
import pytest

Json = dict[str, Any]
JUDGED = {"sub_id", "success", "run_success", "cost", "reason"}
RUN = JUDGED | {"stdout", "stderr"}
SUM = "a, b = map(int, input().split())\nprint(a + b)"


def submission(solution: str, **fields: Any) -> Json:
    return {"type": "python", "solution": solution, **fields}


async def ask(http: httpx.AsyncClient, path: str, body: Json) -> Json:
    answer = await http.post(path, json=body)
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"] == "application/json"
    found: Json = answer.json()
    return found


@pytest.mark.parametrize(("path", "keys"), [("/run", RUN), ("/judge", JUDGED)])
async def test_one_submission(http: httpx.AsyncClient, path: str, keys: set[str]) -> None:
    """Exactly the keys of the original; the comparison ignores white space around the whole."""
    body = submission(SUM, sub_id="mine", input="1 2", expected_output=" 3 ")
    found = await ask(http, path, body)
    assert set(found) == keys
    assert (found["sub_id"], found["success"], found["run_success"], found["reason"]) == ("mine", True, True, "")
    assert isinstance(found["cost"], float)
    found = await ask(http, path, {**body, "expected_output": "4"})
    assert (found["success"], found["run_success"]) == (False, True)
    found = await ask(http, path, submission("1/0"))
    assert (found["success"], found["run_success"], found["reason"]) == (False, False, "")
    assert isinstance(found["sub_id"], str)


@pytest.mark.parametrize("kind", ["run", "judge"])
@pytest.mark.parametrize("size", ["batch", "long-batch"])
async def test_batches_keep_order_and_length(http: httpx.AsyncClient, kind: str, size: str) -> None:
    submissions = [submission(f"print({number})", expected_output=str(number)) for number in range(40)]
    submissions[7] = submission("import sys; sys.exit('no')", sub_id="seven")
    found = await ask(http, f"/{kind}/{size}", {"type": "batch", "submissions": submissions})
    assert set(found) == {"sub_id", "results"}
    assert [each["success"] for each in found["results"]] == [number != 7 for number in range(40)]
    assert found["results"][7]["sub_id"] == "seven"
    assert all(set(each) == (RUN if kind == "run" else JUDGED) for each in found["results"])
    if kind == "run":
        assert [each["stdout"] for each in found["results"][:3]] == ["0\n", "1\n", "2\n"]
        assert found["results"][7]["stderr"] == "no\n"


async def test_time_limit_output_cut_and_missing_input(http: httpx.AsyncClient) -> None:
    """A time-out says so as the original does; 1,000 characters of each stream; no input is its end."""
    submissions = [
        submission("import time\ntime.sleep(100)"),
        submission("print('x' * 5000)", expected_output="x" * 5000),
        submission("import sys\nprint(repr(sys.stdin.read()))", input=None),
        submission("open('file', 'w').write('x')\nprint(open('file').read())"),
    ]
    found = (await ask(http, "/run/long-batch", {"submissions": submissions}))["results"]
    assert (found[0]["reason"], found[0]["stdout"], found[0]["run_success"]) == (
        "worker_timeout",
        "Suicide from timeout.",
        False,
    )
    assert found[0]["cost"] > 9
    assert (found[1]["success"], len(found[1]["stdout"])) == (True, 1000)
    assert found[2]["stdout"] == "''\n"
    assert found[3]["stdout"] == "x\n"


@pytest.mark.timeout(150, func_only=True)
async def test_a_batch_under_load_is_answered_before_its_client_leaves(http: httpx.AsyncClient) -> None:
    """Behind 40 s of other calls for each slot, more work than is left of the 60 s: what is done has its verdict, the
    rest says `queue_timeout`, which rStar's client sends again, and those items alone."""
    slots = (await ask_status(http))["num_workers"]
    sleep = {"code": "import time\ntime.sleep(1)", "labels": {"test": "load"}}
    try:
        ahead = await http.post("/v1/batches?wait=0", json={"calls": [sleep] * 40 * slots})
        assert ahead.status_code == 202
        submissions = [submission(f"import time\ntime.sleep({2.5 * slots / 4})\nprint({n})") for n in range(32)]
        begun = time.monotonic()
        answer = await http.post("/run/long-batch", json={"type": "batch", "submissions": submissions}, timeout=60)
        assert time.monotonic() - begun < 58
        found = answer.json()["results"]
        assert {each["reason"] for each in found} == {"", "queue_timeout"}
        assert [each["stdout"] for each in found] == [
            "" if each["reason"] else f"{n}\n" for n, each in enumerate(found)
        ]
        assert all(each["run_success"] is (each["reason"] == "") for each in found)
    finally:
        await http.delete("/v1/calls?label=test:load")


async def ask_status(http: httpx.AsyncClient) -> Json:
    found: Json = (await http.get("/status")).json()
    return found


async def test_a_program_that_leaves_a_process_behind_is_waited_for(http: httpx.AsyncClient) -> None:
    """As Python's multiprocessing does when the main program ends; its limit is ten seconds."""
    child = "import multiprocessing, time\np = multiprocessing.Process(target=time.sleep, args=(100,))\np.start()"
    ten = '#include <unistd.h>\n#include <stdio.h>\nint main() { sleep(%d); puts("done"); }'
    submissions = [
        submission(child),
        submission("import time\ntime.sleep(10)"),
        {"type": "cpp", "solution": ten % 13},
        {"type": "cpp", "solution": ten % 3},
    ]
    found = (await ask(http, "/run/long-batch", {"submissions": submissions}))["results"]
    late = ("worker_timeout", "Suicide from timeout.", False)
    assert [(each["reason"], each["stdout"], each["run_success"]) for each in found] == [
        *[late] * 3,
        ("", "done\n", True),
    ]


async def test_what_clients_send_beside_what_is_needed(http: httpx.AsyncClient) -> None:
    """Unknown keys, options, nulls, no type of the batch; the order is the request's; ids of one's own or new ones."""
    submissions = [submission("print(1)", options={"a": "b"}, extra=1, expected_output=None, input=""), submission("1")]
    found = await ask(http, "/run/long-batch", {"sub_id": "all", "submissions": submissions, "more": {}})
    assert found["sub_id"] == "all"
    assert [each["success"] for each in found["results"]] == [True, True]
    assert len({each["sub_id"] for each in found["results"]}) == 2
    assert isinstance((await ask(http, "/judge/batch", {"submissions": submissions}))["sub_id"], str)


async def test_what_broke_the_original_does_not_matter(http: httpx.AsyncClient) -> None:
    """Output that is not UTF-8 or looks like its own markers, and imports from the future."""
    code = "from __future__ import annotations\nimport sys\nsys.stdout.buffer.write(b'\\xff@@E ok')"
    found = await ask(http, "/run", submission(code))
    assert (found["run_success"], found["stdout"], found["reason"]) == (True, "\ufffd@@E ok", "")


async def test_cpp(http: httpx.AsyncClient) -> None:
    code = "#include <iostream>\nint main() { int a, b; std::cin >> a >> b; std::cout << a + b; }"
    body = {"submissions": [
        {"type": "cpp", "solution": code, "input": "1 2", "expected_output": "3"},
        {"type": "cpp", "solution": "int main() { return x; }"},
        {"type": "cpp", "solution": "int main() { return 5; }"},
    ]}  # fmt: skip
    good, wrong, failed = (await ask(http, "/run/long-batch", body))["results"]
    assert (good["success"], good["stdout"]) == (True, "3"), good
    assert (wrong["run_success"], wrong["reason"]) == (False, "")
    assert "was not declared" in wrong["stderr"]
    assert failed["run_success"] is False


async def test_math(http: httpx.AsyncClient) -> None:
    """Answers are compared by what they mean; beside programs, in their places."""
    body = {"submissions": [
        {"type": "math", "solution": r"so \boxed{0.5}", "expected_output": r"\frac{1}{2}"},
        submission("print(1)"),
        {"type": "math", "solution": "3", "expected_output": "4"},
        {"type": "math", "solution": "3", "expected_output": "I do not know"},
    ]}  # fmt: skip
    found = (await ask(http, "/run/batch", body))["results"]
    assert [(each["success"], each["run_success"], each["reason"]) for each in found] == [
        (True, True, ""),
        (True, True, ""),
        (False, True, ""),
        (False, False, "invalid_input"),
    ]
    assert [each["stderr"] for each in found if each["reason"]] == [
        "`expected_output` is missing, or cannot be read as mathematics\n"
    ]


async def test_ping_and_status(http: httpx.AsyncClient) -> None:
    assert (await http.get("/ping")).json() == "pong"
    status = (await http.get("/status")).json()
    assert set(status) == {"queue", "num_workers"}
    assert status["num_workers"] >= 1


@pytest.mark.parametrize(
    ("path", "body"),
    [("/run", {"type": "python"}), ("/run", submission("1") | {"type": "java"}), ("/run/batch", {"submissions": []})],
)
async def test_bad_requests_have_the_shape_of_fastapi(http: httpx.AsyncClient, path: str, body: Json) -> None:
    answer = await http.post(path, json=body)
    assert answer.status_code == 422
    assert answer.json()["detail"][0]["loc"][0] == "body"
