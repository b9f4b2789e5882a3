"""Each field of a Call, and each of a Result: what it does in the program, what it says of it."""

from __future__ import annotations

import base64
import json
from typing import Any

import httpx
import pytest

from sandbox_service.config import Settings
from sandbox_service.worker import rootfs
from tests.e2e.conftest import Answer, RunCall

FILE_MIB = 8
"""The most that is fetched of one file (inside/fetch.py)."""


def encoded(content: bytes) -> str:
    return base64.b64encode(content).decode()


def fetched(result: Answer) -> dict[str, bytes]:
    return {path: base64.b64decode(content) for path, content in result["files"].items()}


# stdin, args, env


async def test_stdin_is_what_was_given(run: RunCall) -> None:
    text = "3 4\nzwölf\n\x00end"
    result = await run("import sys; data = sys.stdin.buffer.read(); print(len(data), data.decode())", stdin=text)
    assert result["stdout"] == f"{len(text.encode())} {text}\n"


async def test_large_stdin_arrives_whole(run: RunCall) -> None:
    text = "".join(f"{number}\n" for number in range(200_000))
    result = await run("import sys; print(sum(map(int, sys.stdin)))", stdin=text)
    assert result["stdout"] == f"{sum(range(200_000))}\n"


async def test_without_stdin_input_is_at_its_end(run: RunCall) -> None:
    result = await run("import sys; print(repr(sys.stdin.read())); input()")
    assert (result["status"], result["stdout"]) == ("failed", "''\n")
    assert "EOFError" in result["stderr"]


async def test_args_follow_the_script_name(run: RunCall) -> None:
    args = ["--n", "5", "", "ä b"]
    result = await run("import sys; print(sys.argv[1:])", args=args)
    assert result["stdout"] == f"{args}\n"


async def test_env_is_what_was_given_and_nothing_of_ours(run: RunCall) -> None:
    result = await run("import json, os; print(json.dumps(dict(os.environ)))", env={"ALPHA": "1", "TZ": "Asia/Tokyo"})
    environment = json.loads(result["stdout"])
    assert (environment["ALPHA"], environment["TZ"]) == ("1", "Asia/Tokyo")
    assert not [name for name in environment if "SANDBOX" in name or "REDIS" in name]


# files in, files out


async def test_files_are_placed_in_the_working_directory(run: RunCall) -> None:
    files = {"data.bin": bytes(range(256)), "a/b/c.txt": b"deep", "a/empty": b"", "helper.py": b"def f(): return 41\n"}
    result = await run(
        "import helper\nprint(open('data.bin', 'rb').read() == bytes(range(256)), open('a/b/c.txt').read(), "
        "open('a/empty').read() == '', helper.f())",
        files={path: encoded(content) for path, content in files.items()},
    )
    assert (result["stdout"], result["stderr"]) == ("True deep True 41\n", "")


async def test_files_are_fetched_as_the_program_left_them(run: RunCall) -> None:
    result = await run(
        "import os\nos.makedirs('out/deep')\nopen('out/deep/r.bin', 'wb').write(bytes(range(256)))\n"
        "open('empty', 'w').close()\nopen('in.txt', 'a').write(' changed')",
        files={"in.txt": encoded(b"given")},
        fetch=["out/deep/r.bin", "empty", "in.txt"],
    )
    assert fetched(result) == {"out/deep/r.bin": bytes(range(256)), "empty": b"", "in.txt": b"given changed"}
    assert result["message"] is None


async def test_files_are_fetched_from_a_program_that_failed_or_was_killed(run: RunCall) -> None:
    code = "open('progress', 'w').write('half')\n"
    failed = await run(code + "1 / 0", fetch=["progress"])
    assert (failed["status"], fetched(failed)) == ("failed", {"progress": b"half"})
    killed = await run(code + "import time; time.sleep(30)", fetch=["progress"], limits={"wall_s": 0.3})
    assert (killed["status"], fetched(killed)) == ("timed_out", {"progress": b"half"})


@pytest.mark.parametrize(
    ("code", "why"),
    [
        ("pass", "missing"),
        ("import os; os.symlink('/etc/passwd', 'f')", "irregular"),
        ("import os; os.mkfifo('f')", "irregular"),
        ("import os; os.mkdir('f')", "irregular"),
        ("import socket; socket.socket(socket.AF_UNIX).bind('f')", "irregular"),
        ("open('f', 'w').write('x'); import os; os.chmod('f', 0)", "missing"),
        (f"open('f', 'wb').truncate(({FILE_MIB} << 20) + 1)", "too large"),
    ],
)
async def test_what_is_no_plain_file_is_not_fetched(run: RunCall, code: str, why: str) -> None:
    """The call keeps its status; the message says which file and why; the others come."""
    result = await run(f"{code}\nopen('good', 'w').write('here')", fetch=["f", "good"])
    assert fetched(result) == {"good": b"here"}, result
    assert result["message"] == f"not fetched (f: {why})"


async def test_a_link_on_the_way_is_not_followed(run: RunCall) -> None:
    result = await run("import os; os.symlink('/etc', 'd')", fetch=["d/passwd"])
    assert (result["status"], result["files"]) == ("ok", {})
    assert result["message"] == "not fetched (d/passwd: irregular)"


async def test_nothing_of_the_program_lives_on_to_change_what_is_fetched(run: RunCall) -> None:
    """A daemon that keeps a file growing is dead before the file is read."""
    result = await run(
        "import os, time\n"
        "f = open('f', 'w', buffering=1)\nf.write('begun')\nf.flush()\n"
        "if os.fork() == 0:\n"
        "    os.setsid()\n"
        "    if os.fork() == 0:\n"
        "        while True: f.write('x' * 4096); f.flush()\n"
        "    os._exit(0)\n"
        "os._exit(0)\n",
        fetch=["f"],
        limits={"disk_mb": 4},
    )
    assert result["status"] == "ok"
    assert fetched(result).get("f", b"begun").startswith(b"begun")


async def test_files_are_fetched_although_others_fill_the_memory(run: RunCall) -> None:
    """Files are memory of the call: reading some back needs no more room than the call was given."""
    result = await run(
        "open('small', 'w').write('here')\nfor n in range(10): open(f'big{n}', 'wb').write(bytes(40 << 20))",
        fetch=["small"],
        limits={"memory_mb": 1024, "disk_mb": 512},
    )
    assert (result["status"], fetched(result), result["attempts"]) == ("ok", {"small": b"here"}, 1), result


async def test_files_are_fetched_from_a_program_that_ran_out_of_memory(run: RunCall) -> None:
    """Also when it is its files that filled the memory."""
    result = await run(
        "open('small', 'w').write('here')\nfor n in range(30): open(f'big{n}', 'wb').write(bytes(4 << 20))",
        fetch=["small"],
        limits={"memory_mb": 64, "disk_mb": 512},
    )
    assert (result["status"], result["attempts"]) == ("out_of_memory", 1), result
    assert fetched(result) == {"small": b"here"}, result


# expected_stdout


@pytest.mark.parametrize(
    ("compare", "expected", "passed"),
    [
        ("exact", "1\n2\n", True),
        ("exact", "1\n2", False),
        ("strip", "  1\n2", True),
        ("strip", "1 \n2", False),
        ("lines", "1 \r\n2\n\n", True),
        ("lines", " 1\n2", False),
        ("lines", "1\n3", False),
    ],
)
async def test_stdout_is_compared_as_asked(run: RunCall, compare: str, expected: str, passed: bool) -> None:
    result = await run("print(1)\nprint(2)", expected_stdout=expected, compare=compare)
    assert (result["status"], result["passed"]) == ("ok", passed)


@pytest.mark.parametrize(
    ("code", "limits"),
    [
        ("print(1)\nraise SystemExit(1)", {}),
        ("print(1, flush=True)\nimport time; time.sleep(30)", {"wall_s": 0.3}),
        ("print(1)\nprint(' ' * 5000)", {"output_kb": 4}),
    ],
)
async def test_only_ok_with_complete_output_can_pass(run: RunCall, code: str, limits: dict[str, Any]) -> None:
    result = await run(code, expected_stdout="1", limits=limits)
    assert result["stdout"].strip() == "1"
    assert result["passed"] is False


SEARCH_MEMORY = r"""
import re
found = 0
for line in open("/proc/self/maps"):
    place, mode, *_ = line.split()
    start, end = (int(part, 16) for part in place.split("-"))
    with open("/proc/self/mem", "rb", 0) as memory:
        try:
            memory.seek(start)
            found += len(re.findall(rb"canary-[0-9]+-of-the-answer", memory.read(end - start)))
        except (OSError, OverflowError):
            pass
print("found" if found else "not found")
"""


async def test_the_expected_output_is_not_in_the_jail(run: RunCall) -> None:
    """A program that searches its own memory for the answer does not find it; what it was given it does find."""
    canary, limits = "canary-4711-of-the-answer", {"memory_mb": 1024}
    assert (await run(SEARCH_MEMORY, env={"GIVEN": canary}, limits=limits))["stdout"] == "found\n"
    result = await run(SEARCH_MEMORY, expected_stdout=canary, limits=limits)
    assert (result["stdout"], result["passed"]) == ("not found\n", False), result["stderr"]


# show_last_value, seed


async def test_show_last_value_prints_it_as_a_notebook_does(run: RunCall) -> None:
    result = await run("x = 6\nx * 7", show_last_value=True)
    assert "42" in result["stdout"]
    assert (await run("x = 6\nx * 7"))["stdout"] == ""
    assert (await run("6 * 7\nNone", show_last_value=True))["stdout"] == ""


DRAW = "import random, numpy\nprint(random.random(), numpy.random.rand(), numpy.random.randint(10**9))"


async def test_a_seed_fixes_random_and_numpy_random(run: RunCall) -> None:
    first, second, other = [(await run(DRAW, seed=seed))["stdout"] for seed in (7, 7, 8)]
    assert first == second != other


async def test_without_a_seed_every_call_draws_anew(run: RunCall) -> None:
    draws = {(await run(DRAW))["stdout"] for _ in range(8)}
    assert len(draws) == 8


# network

SERVER_AND_CLIENT = """
import socket, threading
server = socket.create_server(("127.0.0.1", 0))
def answer():
    connection, _ = server.accept()
    connection.sendall(connection.recv(100).upper())
    connection.close()
threading.Thread(target=answer).start()
client = socket.create_connection(server.getsockname())
client.sendall(b"hello")
print(client.recv(100).decode())
"""


async def test_loopback_lets_a_program_talk_to_itself_and_nobody_else(run: RunCall) -> None:
    result = await run(SERVER_AND_CLIENT, network="loopback")
    assert (result["status"], result["stdout"]) == ("ok", "HELLO\n"), result["stderr"]
    outside = await run("import socket; socket.create_connection(('10.0.0.1', 80), 5)", network="loopback")
    assert "Network is unreachable" in outside["stderr"]


async def test_without_network_there_is_no_internet_socket(run: RunCall) -> None:
    result = await run(SERVER_AND_CLIENT)
    assert result["status"] == "failed"
    assert "Address family not supported by protocol" in result["stderr"]


async def test_two_calls_can_use_the_same_port_at_once(http: httpx.AsyncClient, run: RunCall) -> None:
    code = (
        "import socket, time\nserver = socket.create_server(('127.0.0.1', 8123))\ntime.sleep(0.5)\n"
        "server.settimeout(0)\n"
        "try: server.accept(); print('somebody came')\nexcept BlockingIOError: print('alone')"
    )
    calls = [{"code": code, "network": "loopback"} for _ in range(3)]
    answer = (await http.post("/v1/batches", json={"calls": calls})).json()
    assert [result["stdout"] for result in answer["results"]] == ["alone\n"] * 3


# what a Result tells


async def test_labels_and_id_are_echoed(run: RunCall) -> None:
    labels = {"run": "abc", "step": "12", "note": "ü"}
    result = await run("pass", id="echo-1", labels=labels)
    assert (result["id"], result["labels"]) == ("echo-1", labels)


async def test_a_limit_above_policy_is_lowered_and_said_so(run: RunCall) -> None:
    result = await run("pass", limits={"wall_s": 3000, "memory_mb": 1_000_000})
    assert result["status"] == "ok"
    assert result["message"] == "limits lowered to the highest allowed: wall_s, memory_mb"


async def test_output_that_is_not_utf8_is_replaced_and_flagged(run: RunCall) -> None:
    result = await run("import sys; sys.stdout.buffer.write(b'a\\xffb'); print('fine', file=sys.stderr)")
    assert (result["stdout"], result["stderr"]) == ("a\ufffdb", "fine\n")
    assert result["replaced"] == {"stdout": True, "stderr": False}


async def test_output_cut_inside_a_character_is_truncated_not_broken(run: RunCall) -> None:
    """The cut is ours: what was cut off is no byte that the program wrote wrongly."""
    result = await run("print('é' * 3000)", limits={"output_kb": 1})
    assert set(result["stdout"]) == {"é"}
    odd = await run("print('x' + 'é' * 3000)", limits={"output_kb": 1})
    assert set(odd["stdout"]) == {"x", "é"}
    assert (odd["truncated"]["stdout"], odd["replaced"]["stdout"]) == (True, False)


async def test_the_image_is_told_by_its_content_hash(run: RunCall) -> None:
    result = await run("pass", image="default")
    assert result["image"] == rootfs.load("default", Settings()).hash


async def test_an_unknown_image_is_refused(http: httpx.AsyncClient) -> None:
    response = await http.post("/v1/calls", json={"code": "pass", "image": "nope"})
    assert response.status_code == httpx.codes.UNPROCESSABLE_ENTITY
    assert response.json()["error"]["field"] == "image"
    assert "default" in response.json()["error"]["message"]


async def test_usage_is_measured(run: RunCall) -> None:
    result = await run(
        "import time\nb = bytearray(30 << 20)\nend = time.process_time() + 0.2\n"
        "while time.process_time() < end: pass\ntime.sleep(0.3)"
    )
    usage = result["usage"]
    assert 0.5 <= usage["wall_s"] < 5
    assert 0.2 <= usage["cpu_s"] < 0.5
    assert 30 <= usage["memory_peak_mb"] < 60
    assert usage["descheduled_s"] is None or 0 <= usage["descheduled_s"] <= usage["wall_s"]


async def test_timings_add_up_to_the_total(run: RunCall) -> None:
    result = await run("import time; time.sleep(0.2)")
    timings = dict(result["timings"])
    total = timings.pop("total")
    assert min(timings.values()) >= 0
    assert sum(timings.values()) == pytest.approx(total, abs=0.02)
    assert timings["ran"] == result["usage"]["wall_s"]
