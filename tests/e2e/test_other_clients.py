"""Clients that cannot be installed here, written from what they send and read, each on connections of its own."""

from __future__ import annotations

import asyncio
import base64
from dataclasses import dataclass
from typing import Any

import httpx
import pytest
import sandbox_fusion as sdk

Json = dict[str, Any]


async def post(url: str, body: Json, timeout_s: float) -> Json:
    """As they all do: a connection for this request alone; an error status is an exception."""
    async with httpx.AsyncClient(timeout=timeout_s, trust_env=False, headers={"Connection": "close"}) as client:
        answer = await client.post(url, json=body)
    answer.raise_for_status()
    found: Json = answer.json()
    return found


async def test_tinker(service_url: str) -> None:
    """Its program imports a module that came along; whole seconds; it reads the status and the message."""
    files = {"testing_util.py": base64.b64encode(b"def run_test(x):\n    return x == 42").decode()}
    code = "import sys\nfrom testing_util import run_test\nsys.exit(0 if run_test({x}) else 1)"
    for x, status in ((42, "Success"), (41, "Failed")):
        body = {"code": code.format(x=x), "language": "python", "run_timeout": 6, "files": files}
        found = await post(f"{service_url}/run_code", body, 60)
        assert (found["status"], found["message"]) == (status, "")


async def test_roll_sends_each_case_twice(service_url: str) -> None:
    """With a key that the server does not know, both at once; it reads output and return code."""
    body = {
        "compile_timeout": 30, "run_timeout": 30, "code": "print(int(input()) + 1)", "language": "python",
        "stdin": "1", "expected_stdout": "2",
    }  # fmt: skip
    for found in await asyncio.gather(*(post(f"{service_url}/run_code", body, 30) for _ in range(2))):
        assert found["status"] == "Success"
        ran = found["run_result"]
        assert (ran["stdout"].strip(), ran["stderr"], ran["return_code"]) == ("2", "", 0)


async def test_skyrl_asks_if_it_lives_and_leaves_after_two_seconds_more(service_url: str) -> None:
    """A program over its limit is answered before that."""
    async with httpx.AsyncClient(trust_env=False) as client:
        assert (await client.get(service_url)).status_code in (200, 404)
    for run_timeout, code, status in ((30, "print(input())", "Success"), (2, "while True: pass", "Failed")):
        body = {"language": "python", "code": code, "stdin": "x", "run_timeout": run_timeout}
        found = await post(f"{service_url}/run_code", body, run_timeout + 2)
        assert found["status"] == status
        assert "RLIMIT_NPROC" not in found["run_result"]["stdout"] + found["run_result"]["stderr"]


async def test_verls_tool_adds_both_streams(service_url: str) -> None:
    body = {"code": "import sys\nprint('o')\nprint('e', file=sys.stderr)\n1/0", "language": "python", "run_timeout": 30}
    ran = (await post(f"{service_url}/run_code", body, 70))["run_result"]
    assert ran["status"] == "Finished"
    assert (ran["stdout"] + ran["stderr"]).startswith("o\ne\nTraceback")


async def test_simpletir_and_deepresearch_reckon_with_the_time(service_url: str) -> None:
    """Through the SDK, below a path that ends with a slash; the time that it took is a number, also of a time-out."""
    sdk.set_endpoint(f"{service_url}/faas/sandbox/")
    request = sdk.RunCodeRequest(code="print(1)", language="python", compile_timeout=1, run_timeout=5)
    slow = sdk.RunCodeRequest(code="while True: pass", language="python", compile_timeout=1, run_timeout=1)
    found, late = await asyncio.gather(
        *(sdk.run_code_async(each, max_attempts=1, client_timeout=20) for each in (request, slow))
    )
    assert found.run_result.stdout == "1\n"
    assert 0 < found.run_result.execution_time < 5
    assert (late.status, late.run_result.status) == ("Failed", "TimeLimitExceeded")
    assert late.run_result.execution_time >= 1


async def test_a_tree_search_sends_the_whole_history_of_cells(service_url: str) -> None:
    """Many notebooks at once by the SDK; it reads the driver's status and the last cell."""
    sdk.set_endpoint(service_url)
    history = ["x = {n}", "def double(y):\n    return 2 * y", "print(double(x))"]
    requests = [sdk.RunJupyterRequest(cells=[cell.format(n=n) for cell in history]) for n in range(4)]
    requests.append(sdk.RunJupyterRequest(cells=[*history[1:], "print('never defined')"]))
    answers = await asyncio.to_thread(sdk.run_concurrent, sdk.run_jupyter, args=[[each] for each in requests])
    assert all((each.status, each.driver.status) == ("Success", "Finished") for each in answers)
    assert [each.cells[-1].stdout for each in answers] == ["0\n", "2\n", "4\n", "6\n", "never defined\n"]
    assert all(each.cells[-1].error == [] for each in answers)
    assert answers[-1].cells[1].error[0]["ename"] == "NameError"


async def rstar(url: str, calls: list[tuple[str, str | None]]) -> list[Json]:
    """Batches of 32; of an answer, those items alone are sent again that say `queue_timeout`, four times at most."""

    async def batch(part: list[tuple[str, str | None]]) -> list[Json]:
        left = dict(enumerate(part))
        done: dict[int, Json] = {}
        for _ in range(4):
            submissions = [{"type": "python", "solution": code, "input": given} for code, given in left.values()]
            found = await post(f"{url}/run/long-batch", {"type": "batch", "submissions": submissions}, 60)
            assert len(found["results"]) == len(left)
            ended = {
                index: result
                for index, result in zip(left, found["results"], strict=True)
                if result["reason"] != "queue_timeout"
            }
            done |= ended
            left = {index: call for index, call in left.items() if index not in ended}
            if not left:
                break
        return [done[index] for index in range(len(part))]

    parts = [calls[at : at + 32] for at in range(0, len(calls), 32)]
    return [result for part in await asyncio.gather(*map(batch, parts)) for result in part]


async def test_rstar(service_url: str) -> None:
    """256 tool calls in eight batches at once, each on a connection of its own; the text that its model reads."""
    calls = [("print(int(input()) ** 2)", str(n)) if n % 8 else ("1/0", None) for n in range(256)]
    results = await rstar(service_url, calls)
    for n, result in enumerate(results):
        if n % 8:
            assert (result["run_success"], result["success"], result["stdout"]) == (True, True, f"{n**2}\n")
        else:
            assert (result["run_success"], result["reason"]) == (False, "")
            assert "ZeroDivisionError" in result["stderr"]
        assert isinstance(result["cost"], float)


@dataclass
class SubmissionResult:
    """What code-judge's own client makes of an answer: a key more or less is a TypeError."""

    sub_id: str
    success: bool
    run_success: bool
    cost: float
    reason: str
    stdout: str | None = None
    stderr: str | None = None


@dataclass
class ServerStatus:
    queue: int
    num_workers: int


@pytest.mark.parametrize("kind", ["run", "judge"])
async def test_code_judges_own_client(service_url: str, http: httpx.AsyncClient, kind: str) -> None:
    one = SubmissionResult(**await post(f"{service_url}/{kind}", {"type": "python", "solution": "print(1)"}, 30))
    assert one.success
    assert (one.stdout is None) == (kind == "judge")
    body = {"type": "batch", "submissions": [{"type": "python", "solution": "print(1)", "expected_output": "2"}] * 3}
    found = await post(f"{service_url}/{kind}/batch", body, 30)
    assert [SubmissionResult(**each).success for each in found["results"]] == [False] * 3
    status = ServerStatus(**(await http.get("/status")).json())
    assert status.num_workers >= 1


async def test_open_r1s_piston_client(service_url: str) -> None:
    """Many at once by any version; its score is in stdout, `stderr` is text, nothing at the top is called message."""
    endpoint = f"{service_url}/api/v2"
    async with httpx.AsyncClient(trust_env=False) as client:
        assert (await client.get(f"{endpoint}/runtimes")).status_code == 200

    async def execute(number: int) -> Json:
        files = [{"name": "main.py", "content": f"import sys\nprint({number} / 10)\nprint('why', file=sys.stderr)"}]
        body = {"language": "python", "version": "*", "files": files, "run_timeout": 5000}
        return await post(f"{endpoint}/execute", body, 30)

    for number, found in enumerate(await asyncio.gather(*map(execute, range(20)))):
        assert "message" not in found
        assert float(found["run"]["stdout"]) == number / 10
        assert (found["run"]["code"], found["run"]["signal"], found["run"]["stderr"]) == (0, None, "why\n")
