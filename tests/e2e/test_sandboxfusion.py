"""The SandboxFusion dialect, row by row of what its clients send and read (statuses, keys, files, limits)."""

from __future__ import annotations

import base64
from typing import Any

import httpx
import pytest

Json = dict[str, Any]
KEYS = {"status", "message", "compile_result", "run_result", "executor_pod_name", "files"}
STEP = {"status", "execution_time", "return_code", "stdout", "stderr"}
SANDBOX_ERROR = {"status": "SandboxError", "compile_result": None, "run_result": None, "files": {}}


async def run_code(http: httpx.AsyncClient, code: str, **fields: Any) -> Json:
    answer = await http.post("/run_code", json={"code": code, "language": "python", **fields})
    assert answer.status_code == 200, answer.text
    found: Json = answer.json()
    assert set(found) == KEYS
    for step in filter(None, (found["compile_result"], found["run_result"])):
        assert set(step) >= STEP
        assert isinstance(step["stdout"] + step["stderr"], str)
        assert isinstance(step["execution_time"], float)
    return found


def b64(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


async def test_a_program_that_succeeds(http: httpx.AsyncClient) -> None:
    """Success, no compile result, output as text; stdin reaches it, and unknown keys do not matter."""
    found = await run_code(http, "print(input())", stdin="hi", expected_stdout="hi", run_timeout=30)
    ran = found["run_result"]
    assert (found["status"], found["message"], found["compile_result"]) == ("Success", "", None)
    assert (ran["status"], ran["return_code"], ran["stdout"], ran["stderr"]) == ("Finished", 0, "hi\n", "")


async def test_a_program_without_stdin_reads_the_end(http: httpx.AsyncClient) -> None:
    for stdin in (None, ""):
        found = await run_code(http, "import sys; print(repr(sys.stdin.read()))", stdin=stdin)
        assert found["run_result"]["stdout"] == "''\n"


@pytest.mark.parametrize(
    ("code", "code_of_exit", "text"),
    [("1/0", 1, "ZeroDivisionError"), ("import sys; sys.exit(3)", 3, ""), ("if", 1, "SyntaxError")],
)
async def test_a_failure_of_a_python_program_is_one_of_its_run(
    http: httpx.AsyncClient, code: str, code_of_exit: int, text: str
) -> None:
    """A compile result would turn verl's -2 into -4 for the whole sample."""
    found = await run_code(http, code)
    assert (found["status"], found["compile_result"], found["message"]) == ("Failed", None, "")
    assert (found["run_result"]["status"], found["run_result"]["return_code"]) == ("Finished", code_of_exit)
    assert text in found["run_result"]["stderr"]


async def test_a_time_limit_keeps_what_was_written(http: httpx.AsyncClient) -> None:
    found = await run_code(http, "import time\nprint('early', flush=True)\ntime.sleep(30)", run_timeout=0.7)
    ran = found["run_result"]
    assert (found["status"], ran["status"], ran["return_code"]) == ("Failed", "TimeLimitExceeded", None)
    assert ran["stdout"] == "early\n"
    assert 0.7 <= ran["execution_time"] < 3


async def test_children_left_behind_are_no_time_out(http: httpx.AsyncClient) -> None:
    """They hold stdout open; upstream waits for them until the limit."""
    found = await run_code(http, "import subprocess\nsubprocess.Popen(['sleep', '50'])\nprint('done')", run_timeout=20)
    assert (found["status"], found["run_result"]["stdout"]) == ("Success", "done\n")


async def test_much_output_is_no_time_out(http: httpx.AsyncClient) -> None:
    """A megabyte of each stream comes back; more is cut and flagged. What is not UTF-8 is replaced."""
    found = await run_code(http, "import sys\nprint('x' * 1_000_000)\nsys.stderr.write('y' * 1_000_000)")
    assert (len(found["run_result"]["stdout"]), len(found["run_result"]["stderr"])) == (1_000_001, 1_000_000)
    found = await run_code(http, "import sys\nsys.stdout.buffer.write(b'\\xff' + b'x' * 3_000_000)")
    assert (found["status"], found["run_result"]["truncated"]) == ("Success", True)
    assert found["run_result"]["stdout"].startswith("\ufffdx")


async def test_time_limits_beyond_all_bounds_are_lowered(http: httpx.AsyncClient) -> None:
    """Once they made a call that no worker could read, and its client waited for ever."""
    found = await run_code(http, "print(1)", run_timeout=1e9, compile_timeout=1e9)
    assert found["status"] == "Success"


async def test_an_offending_number_that_json_does_not_have_is_not_sent_back(http: httpx.AsyncClient) -> None:
    answer = await http.post("/run_code", content=b'{"code": "1", "run_timeout": 1e999}')
    assert (answer.status_code, "Infinity" in answer.text) == (422, False)


async def test_all_that_verl_sends(http: httpx.AsyncClient) -> None:
    """Its eight fields, whole numbers for times; and numbers as text or with a fraction, as other clients have them."""
    body = {
        "compile_timeout": 10, "run_timeout": 10, "code": "print(1)", "stdin": "", "memory_limit_MB": 1024,
        "language": "python", "files": {}, "fetch_files": [],
    }  # fmt: skip
    for changes in ({}, {"run_timeout": 2.5}, {"compile_timeout": "10", "memory_limit_MB": 512.0}, {"stdin": None}):
        answer = await http.post("/run_code", json={**body, **changes})
        assert (answer.status_code, answer.headers["content-type"]) == (200, "application/json")
        assert answer.json()["run_result"]["stdout"] == "1\n", changes


@pytest.mark.parametrize("limit_s", [0, -1])
async def test_no_time_at_all_is_used_up_at_once(http: httpx.AsyncClient, limit_s: float) -> None:
    """As in the original, which waits that long for the program; -1 is "no limit" for memory alone."""
    found = await run_code(http, "import time; time.sleep(5); print(1)", run_timeout=limit_s)
    assert (found["status"], found["run_result"]["status"]) == ("Failed", "TimeLimitExceeded")
    assert (found["run_result"]["return_code"], found["run_result"]["stdout"]) == (None, "")


async def test_the_time_limit_is_fine_grained_and_ends_all_processes(http: httpx.AsyncClient) -> None:
    """0.3 s; what the program started is gone with it, and its output until then is kept, on both streams."""
    code = (
        "import os, subprocess, sys, time\n"
        "subprocess.Popen('while true; do date +%s%N > /tmp/alive; sleep 0.01; done', shell=True)\n"
        "print('out', flush=True)\nprint('err', file=sys.stderr)\ntime.sleep(60)"
    )
    found = await run_code(http, code, run_timeout=0.3)
    ran = found["run_result"]
    assert (found["status"], ran["status"], ran["return_code"]) == ("Failed", "TimeLimitExceeded", None)
    assert (ran["stdout"], ran["stderr"]) == ("out\n", "err\n")
    assert 0.3 <= ran["execution_time"] < 1.5
    assert (await run_code(http, "import os; print(os.path.exists('/tmp/alive'))"))["run_result"]["stdout"] == "False\n"


async def test_what_was_written_before_a_time_limit_can_be_fetched(http: httpx.AsyncClient) -> None:
    code = "import time\nopen('part.txt', 'w').write('p')\ntime.sleep(60)"
    found = await run_code(http, code, run_timeout=0.5, fetch_files=["part.txt", "/etc/hostname", "../../root/x"])
    assert (found["status"], found["files"]) == ("Failed", {"part.txt": b64("p")})


async def test_threads_of_numpy_under_a_memory_limit(http: httpx.AsyncClient) -> None:
    """SkyRL sends a call again for the sake of a word that OpenBLAS says under limits of addresses or of stacks."""
    code = (
        "import numpy, threading\n"
        "work = lambda: numpy.linalg.svd(numpy.random.rand(200, 200))\n"
        "threads = [threading.Thread(target=work) for _ in range(8)]\n"
        "[each.start() for each in threads]; [each.join() for each in threads]; print('done')"
    )
    for limit in (256, 1024):
        ran = (await run_code(http, code, memory_limit_MB=limit, run_timeout=30))["run_result"]
        assert (ran["stdout"], ran["stderr"]) == ("done\n", "")


async def test_memory(http: httpx.AsyncClient) -> None:
    """numpy works under verl's 1024; a program over its limit failed, with a clear line and a flag."""
    found = await run_code(http, "import numpy\nprint(numpy.ones(3).sum())", memory_limit_MB=1024)
    assert found["run_result"]["stdout"] == "3.0\n"
    found = await run_code(http, "x = bytearray(500_000_000)\nprint(len(x))", memory_limit_MB=100)
    ran = found["run_result"]
    assert (found["status"], ran["status"], ran["oom_killed"]) == ("Failed", "Finished", True)
    assert ran["return_code"] in (-9, 137)
    assert "MemoryError" in ran["stderr"]
    assert (await run_code(http, "x = bytearray(800_000_000)\nprint(len(x))"))["status"] == "Success"


async def test_files_lie_beside_the_script(http: httpx.AsyncClient) -> None:
    """Uploaded modules can be imported, also one called main; null and ignored ones are left out; paths may be absolute
    below /tmp and /mnt; what is fetched has the name that it was asked for, and what is missing is left out."""
    code = (
        "import testing_util, os, sys\n"
        "from sub.deep import y\n"
        "import main\n"
        "print(testing_util.x, y, main.z, open('/mnt/in.txt').read(), sorted(os.listdir()))\n"
        "print(os.path.dirname(os.path.abspath(sys.argv[0])) == os.getcwd())\n"
        "open('out.txt', 'w').write('o')\n"
        "open('/tmp/abs.txt', 'w').write('a')\n"
        "open('/mnt/m.txt', 'w').write('m')\n"
    )
    files = {
        "testing_util.py": b64("x = 1"),
        "./sub/deep.py": b64("y = 2"),
        "main.py": b64("z = 3"),
        "/mnt/in.txt": b64("four"),
        "gone": None,
        "IGNORE_THIS_FILE": b64(""),
    }
    fetch = ["out.txt", "/tmp/abs.txt", "/mnt/m.txt", "missing"]
    found = await run_code(http, code, files=files, fetch_files=fetch)
    first, second = found["run_result"]["stdout"].splitlines()
    assert first.startswith("1 2 3 four [")
    assert second == "True"
    assert "gone" not in first
    assert "IGNORE" not in first
    assert found["files"] == {"out.txt": b64("o"), "/tmp/abs.txt": b64("a"), "/mnt/m.txt": b64("m")}


@pytest.mark.parametrize(
    "files", [{"a": "a"}, {"/etc/passwd": ""}, {"../../etc/x": ""}, {"a": "", "a/b": ""}, {"": ""}]
)
async def test_files_that_cannot_be_placed_are_a_sandbox_error(http: httpx.AsyncClient, files: Json) -> None:
    found = await run_code(http, "print(1)", files=files)
    assert {key: found[key] for key in SANDBOX_ERROR} == SANDBOX_ERROR
    assert found["message"]


async def test_a_language_that_is_not_here_says_which_are(http: httpx.AsyncClient) -> None:
    found = await run_code(http, "x", language="rust")
    assert {key: found[key] for key in SANDBOX_ERROR} == SANDBOX_ERROR
    assert "python, bash, cpp" in found["message"]


@pytest.mark.parametrize(
    "language",
    [
        *("nodejs", "go", "go_test", "java", "php", "csharp", "typescript", "sql", "rust", "cuda", "lua", "R", "perl"),
        *("D_ut", "ruby", "scala", "julia", "pytest", "junit", "kotlin_script", "jest", "verilog", "python_gpu"),
        *("lean", "swift", "racket", "python2", "gtest", "react"),
    ],
)
async def test_every_name_of_a_language_is_known(http: httpx.AsyncClient, language: str) -> None:
    found = await run_code(http, "1", language=language)
    assert (found["status"], found["run_result"]) == ("SandboxError", None)


async def test_bash(http: httpx.AsyncClient) -> None:
    found = await run_code(http, 'read x\necho "${x^^}" >&2\nexit 4', language="bash", stdin="hi\n")
    ran = found["run_result"]
    assert (found["status"], found["compile_result"], ran["return_code"], ran["stderr"]) == ("Failed", None, 4, "HI\n")


HELLO = "#include <iostream>\nint main() { int x; std::cin >> x; std::cout << x * 2 << std::endl; }"


async def test_cpp(http: httpx.AsyncClient) -> None:
    """Both results are there when it compiles; a compile error leaves no run result, a run error does."""
    found = await run_code(http, HELLO, language="cpp", stdin="21", compile_timeout=50)
    assert found["status"] == "Success", found
    assert (found["compile_result"]["status"], found["compile_result"]["return_code"]) == ("Finished", 0)
    assert found["run_result"]["stdout"] == "42\n"
    found = await run_code(http, "int main() { return x; }", language="cpp", compile_timeout=50)
    assert (found["status"], found["run_result"]) == ("Failed", None)
    assert found["compile_result"]["return_code"] == 1
    assert "was not declared" in found["compile_result"]["stderr"]
    found = await run_code(http, "int main() { int* p = 0; *p = 1; }", language="cpp", compile_timeout=50)
    assert (found["status"], found["run_result"]["return_code"]) == ("Failed", -11)


async def test_a_compiler_has_a_limit_of_its_own(http: httpx.AsyncClient) -> None:
    code = "template<int N> struct F { static const long v = F<N-1>::v + F<N-2>::v; };\n" + "#include <bits/stdc++.h>\n"
    found = await run_code(http, code * 1 + "int main() {}", language="cpp", compile_timeout=0.05)
    assert (found["status"], found["run_result"]) == ("Failed", None)
    assert (found["compile_result"]["status"], found["compile_result"]["return_code"]) == ("TimeLimitExceeded", None)


@pytest.mark.parametrize(
    ("body", "place"),
    [
        ({"language": "python"}, ["body", "code"]),
        ({"code": "1", "language": "klingon"}, ["body", "language"]),
        ({"code": 1, "language": "python"}, ["body", "code"]),
        ({"code": "1", "run_timeout": "soon"}, ["body", "run_timeout"]),
        ({"code": "1", "run_timeout": None}, ["body", "run_timeout"]),
        ({"code": "1", "language": None}, ["body", "language"]),
        ({"code": "1", "language": "js"}, ["body", "language"]),
        ({"code": "1", "memory_limit_MB": 1.5}, ["body", "memory_limit_MB"]),
        ({"code": "1", "stdin": 1}, ["body", "stdin"]),
        ({"code": "1", "files": []}, ["body", "files"]),
        ({"code": "1", "files": {"a": 1}}, ["body", "files", "a"]),
        ({"code": "1", "fetch_files": "a"}, ["body", "fetch_files"]),
        ([], ["body"]),
    ],
)
async def test_bad_requests_have_the_shape_of_fastapi(http: httpx.AsyncClient, body: Any, place: list[str]) -> None:
    answer = await http.post("/run_code", json=body)
    assert answer.status_code == 422
    assert answer.json()["detail"][0]["loc"] == place
    assert {"type", "msg"} <= set(answer.json()["detail"][0])


async def test_without_a_language_it_is_python_and_a_prefix_does_not_matter(http: httpx.AsyncClient) -> None:
    answer = await http.post("/faas/sandbox/run_code", json={"code": "print(1)"})
    assert answer.json()["run_result"]["stdout"] == "1\n"
    assert (await http.get("/faas/sandbox/v1/ping")).json() == (await http.get("/v1/ping")).json() == "pong"
    assert (await http.get("/")).status_code == 200


async def run_jupyter(http: httpx.AsyncClient, cells: list[str], **fields: Any) -> Json:
    answer = await http.post("/run_jupyter", json={"cells": cells, **fields})
    assert answer.status_code == 200, answer.text
    found: Json = answer.json()
    assert set(found) == {"status", "message", "driver", "cells", "executor_pod_name", "files"}
    return found


async def test_what_notebooks_import_to_display_is_there_and_ipython_is_not(http: httpx.AsyncClient) -> None:
    """`IPython.display` in cells alone: an ordinary program finds no IPython, and libraries are told there is none."""
    cells = [
        "from IPython.display import display, HTML, Markdown, clear_output\ndisplay(1)\ndisplay(HTML('<b>x</b>'))",
        "Markdown('*y*')",
        "import IPython\nIPython.get_ipython() is None",
        "%time x = 1\nprint('on')",
    ]
    ran = (await run_jupyter(http, cells))["cells"]
    assert [cell["error"] for cell in ran] == [[]] * 4
    assert ran[0]["display"][0] == {"text/plain": "1"}
    assert ran[0]["display"][1]["text/html"] == "<b>x</b>"
    assert ran[1]["display"][0]["text/markdown"] == "*y*"
    assert ran[2]["display"] == [{"text/plain": "True"}]
    assert (ran[3]["stdout"], ran[3]["stderr"]) == ("on\n", "UsageError: Line magic function `%time` not found.\n")
    found = await run_code(http, "import IPython")
    assert "No module named 'IPython'" in found["run_result"]["stderr"]


async def test_cells_share_their_state(http: httpx.AsyncClient) -> None:
    """Output, last values and errors of each cell; they go on after an error."""
    cells = ["x = 20", "print(x)\nx + 1", "1/0", "import sys; print('e', file=sys.stderr)", "x += 1; x;", "f'{x}'"]
    found = await run_jupyter(http, cells, fetch_files=["none"])
    assert (found["status"], found["driver"]["status"], found["files"]) == ("Success", "Finished", {})
    ran = found["cells"]
    assert [cell["stdout"] for cell in ran] == ["", "20\n", "", "", "", ""]
    assert ran[1]["display"] == [{"text/plain": "21"}]
    assert (ran[2]["error"][0]["ename"], ran[2]["error"][0]["evalue"]) == ("ZeroDivisionError", "division by zero")
    assert "ZeroDivisionError" in ran[2]["error"][0]["traceback"][-1]
    assert ran[3]["stderr"] == "e\n"
    assert ran[4]["display"] == []
    assert ran[5]["display"] == [{"text/plain": "'21'"}]


async def test_figures_are_displayed(http: httpx.AsyncClient) -> None:
    cells = ["import matplotlib.pyplot as plt\nplt.plot([1, 2])\nplt.show()", "plt.plot([3]); None"]
    found = await run_jupyter(http, cells, total_timeout=55)
    for cell in found["cells"]:
        pictures = [each["image/png"] for each in cell["display"] if "image/png" in each]
        assert [base64.b64decode(picture)[1:4] for picture in pictures] == [b"PNG"], cell


@pytest.mark.parametrize(
    ("body", "place"),
    [({}, ["body", "cells"]), ({"cells": "1"}, ["body", "cells"]), ({"cells": [1]}, ["body", "cells", 0])],
)
async def test_bad_notebooks_have_the_shape_of_fastapi(http: httpx.AsyncClient, body: Any, place: list[object]) -> None:
    answer = await http.post("/run_jupyter", json=body)
    assert (answer.status_code, answer.json()["detail"][0]["loc"]) == (422, place)


async def test_a_notebook_has_files_and_no_memory_of_others(http: httpx.AsyncClient) -> None:
    """Files as for a program; each request is a kernel of its own; no cells are none; what cannot be placed says so."""
    cells = ["import util\nx = util.y\nopen('out', 'w').write(str(x))", "!echo from the shell", "%matplotlib inline\nx"]
    found = await run_jupyter(
        http, cells, files={"util.py": b64("y = 3")}, fetch_files=["out"], kernel="python3", memory_limit_MB=512
    )
    assert (found["status"], found["files"]) == ("Success", {"out": b64("3")}), found
    assert found["cells"][1]["stdout"] == "from the shell\n"
    assert found["cells"][2]["display"] == [{"text/plain": "3"}]
    found = await run_jupyter(http, ["x"])
    assert found["status"] == "Success"
    assert found["cells"][0]["error"][0]["ename"] == "NameError"
    found = await run_jupyter(http, [])
    assert (found["status"], found["cells"]) == ("Success", [])
    found = await run_jupyter(http, ["1"], files={"a": "a"})
    assert (found["status"], found["driver"], found["cells"]) == ("SandboxError", None, [])
    assert "not base64" in found["message"]


@pytest.mark.parametrize("limit", ["cell_timeout", "total_timeout"])
async def test_a_notebook_over_its_time_keeps_its_cells(http: httpx.AsyncClient, limit: str) -> None:
    cells = ["print('first')", "print('second', flush=True)\nimport time\ntime.sleep(40)", "print('never')"]
    found = await run_jupyter(http, cells, **{limit: 2})
    assert (found["status"], found["driver"]["status"]) == ("Failed", "TimeLimitExceeded")
    assert [cell["stdout"] for cell in found["cells"]] == ["first\n", "second\n"]


async def test_a_kernel_that_dies_keeps_its_cells(http: httpx.AsyncClient) -> None:
    found = await run_jupyter(http, ["print(1)", "import os\nos._exit(3)", "print(2)"])
    assert (found["status"], found["driver"]["status"]) == ("Failed", "Finished")
    assert found["cells"][0]["stdout"] == "1\n"
    assert found["cells"][1]["error"][0]["ename"] == "DeadKernelError"
