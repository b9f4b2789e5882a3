"""The Piston dialect: keys, units, codes and signals; python, bash and c++; errors as `message`."""

from __future__ import annotations

import base64
from typing import Any

import httpx
import pytest

Json = dict[str, Any]
STEP = {"stdout", "stderr", "output", "code", "signal", "message", "status", "memory", "cpu_time", "wall_time"}
LOOP = "print('begun', flush=True)\nwhile True: pass"


def body(code: str, language: str = "python", **fields: Any) -> Json:
    return {"language": language, "version": "*", "files": [{"content": code}], **fields}


async def execute(http: httpx.AsyncClient, asked: Json, path: str = "/api/v2/execute") -> Json:
    answer = await http.post(path, json=asked)
    assert answer.status_code == 200, answer.text
    found: Json = answer.json()
    assert set(found) - {"compile"} == {"language", "version", "run"}
    for step in filter(None, (found["run"], found.get("compile"))):
        assert set(step) == STEP
        assert step["output"] == step["stdout"] + step["stderr"]
    return found


async def test_a_program_that_succeeds(http: httpx.AsyncClient) -> None:
    """Input ends with a newline; times are whole ms, memory is bytes; there is no compile step."""
    code = "import platform, sys, time\ntime.sleep(0.1)\nprint(sys.argv[1:], repr(sys.stdin.read()), file=sys.stderr)\n"
    code += "print(platform.python_version())"
    found = await execute(http, body(code, args=["a", "b c"], stdin="1"))
    ran = found["run"]
    assert (found["language"], found["version"]) == ("python", ran["stdout"].strip())
    told = (await http.get("/api/v2/runtimes")).json()
    assert [each["version"] for each in told if each["language"] == "python"] == [found["version"]]
    assert "compile" not in found
    assert ran["stderr"] == "['a', 'b c'] '1\\n'\n"
    assert (ran["code"], ran["signal"], ran["message"], ran["status"]) == (0, None, None, None)
    assert isinstance(ran["wall_time"], int)
    assert ran["wall_time"] >= 100
    assert ran["memory"] is None or ran["memory"] > 1000


@pytest.mark.parametrize(
    ("code", "fields", "expected"),
    [
        ("import sys; sys.exit(3)", {}, (3, None, "RE")),
        ("1/0", {}, (1, None, "RE")),
        ("import os; os.kill(os.getpid(), 11)", {}, (None, "SIGSEGV", "SG")),
        (LOOP, {"run_timeout": 500}, (None, "SIGKILL", "TO")),
        (LOOP, {"run_cpu_time": 500}, (None, "SIGKILL", "TO")),
        ("x = b'x' * (1 << 30)", {"run_memory_limit": 64 << 20}, (None, "SIGKILL", "SG")),
        ("while True: print('x' * 100_000)", {}, (None, "SIGKILL", "OL")),
    ],
)
async def test_ends(http: httpx.AsyncClient, code: str, fields: Json, expected: tuple[object, ...]) -> None:
    ran = (await execute(http, body(code, **fields)))["run"]
    assert (ran["code"], ran["signal"], ran["status"]) == expected
    assert ran["message"]
    if expected[2] == "TO":
        assert ran["stdout"] == "begun\n"


async def test_files_beside_the_program(http: httpx.AsyncClient) -> None:
    """The first text file is the program, whatever it is called; others are where they say, decoded."""
    files = [
        {"name": "data/raw", "content": base64.b64encode(b"\xff1").decode(), "encoding": "base64"},
        {"name": "app.py", "content": "import util\nprint(util.x, open('data/raw', 'rb').read(), open('h').read())"},
        {"name": "./util.py", "content": "x = 7"},
        {"name": "h", "content": "6869", "encoding": "hex"},
    ]
    ran = (await execute(http, {"language": "py", "version": "3.x", "files": files}))["run"]
    assert ran["stdout"] == "7 b'\\xff1' hi\n", ran


@pytest.mark.parametrize("name", ["bash", "sh"])
async def test_bash(http: httpx.AsyncClient, name: str) -> None:
    ran = (await execute(http, body("read line; echo $line $1; exit 4", name, stdin="hi", args=["there"])))["run"]
    assert (ran["stdout"], ran["code"]) == ("hi there\n", 4)


async def test_cpp(http: httpx.AsyncClient) -> None:
    """All sources are compiled together; a failed compilation is what `run` is, too."""
    main = '#include "b.h"\n#include <cstdio>\nint main(int, char** v) { printf("%d%s", f(), v[1]); }'
    files = [
        {"name": "a.cpp", "content": main},
        {"name": "b.cpp", "content": "int f() { return 5; }"},
        {"name": "b.h", "content": "int f();"},
    ]
    found = await execute(http, {"language": "c++", "version": "*", "files": files, "args": ["!"]})
    assert (found["language"], found["compile"]["code"], found["compile"]["status"]) == ("c++", 0, None), found
    assert (found["run"]["stdout"], found["run"]["code"]) == ("5!", 0)
    for name in ("cpp", "g++"):
        found = await execute(http, body("int main() { return x; }", name))
        assert found["compile"] == found["run"]
        assert found["run"]["code"] == 1
        assert "was not declared" in found["compile"]["stderr"]


async def test_runtimes_and_prefixes(http: httpx.AsyncClient) -> None:
    for base in ("/api/v2", "/api/v2/piston", "/some/path/api/v2"):
        runtimes = (await http.get(f"{base}/runtimes")).json()
        assert [each["language"] for each in runtimes] == ["python", "bash", "c++"]
        assert {"language", "version", "aliases"} == set(runtimes[0])
        assert (await execute(http, body("print(1)", "python3"), f"{base}/execute"))["run"]["stdout"] == "1\n"
    for runtime in runtimes:
        exact = body("", runtime["language"], version=runtime["version"], files=[{"content": "int main() {}"}])
        assert (await http.post("/api/v2/execute", json=exact)).status_code == 200


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"language": None}, "language is required as a string"),
        ({"version": 3}, "version is required as a string"),
        ({"files": "x"}, "files is required as an array"),
        ({"files": [{"name": "x"}]}, "files[0].content is required as a string"),
        ({"files": []}, "files must include at least one utf8 encoded file"),
        ({"files": [{"content": "1"}, {"content": "%", "encoding": "hex"}]}, "files[1].content is not hex"),
        ({"files": [{"content": "1"}, {"name": "../x", "content": ""}]}, ""),
        ({"language": "cobol"}, "cobol-* runtime is unknown; there is python-3"),
        ({"version": "2.x"}, "python-2.x runtime is unknown"),
        ({"version": "nonsense"}, "python-nonsense runtime is unknown"),
        ({"run_timeout": 10**9}, "run_timeout cannot exceed the configured limit of 60000"),
        ({"language": ""}, "language is required as a string"),
        ({"files": [{"content": "1"}, {"content": 2}]}, "files[1].content is required as a string"),
        ({"files": None}, "files is required as an array"),
        ({"run_timeout": "3000"}, "if specified, run_timeout must be a number"),
        ({"compile_memory_limit": [1]}, "if specified, compile_memory_limit must be a number"),
        ({"run_cpu_time": -1}, "run_cpu_time must be non-negative"),
    ],
)
async def test_bad_requests_have_a_message(http: httpx.AsyncClient, changes: Json, message: str) -> None:
    answer = await http.post("/api/v2/execute", json={**body("print(1)"), **changes})
    assert answer.status_code == 400, answer.text
    assert set(answer.json()) == {"message"}
    assert message in answer.json()["message"]


async def test_what_is_not_json(http: httpx.AsyncClient) -> None:
    assert (await http.post("/api/v2/execute", content=b"x")).status_code == 415
    answer = await http.post("/api/v2/execute", content=b"{", headers={"content-type": "application/json"})
    assert (answer.status_code, set(answer.json())) == (400, {"message"})
