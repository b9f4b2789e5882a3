"""Each status of the closed list, produced for real, with the evidence that goes with it."""

from __future__ import annotations

import asyncio
import os
import time
import uuid
from typing import Any

import httpx
import pytest

from tests.conftest import WaitUntil
from tests.e2e.conftest import Answer, RunCall
from tests.e2e.processes import kill_the_zygote_above

KILL_S = 0.25
"""A killed call is dead this long after its limit; a machine that is busy with other tests gets NOISE_S more."""
NOISE_S = 2.0


def told(result: Answer, *names: str) -> tuple[Any, ...]:
    return tuple(result[name] for name in names)


async def ticket(http: httpx.AsyncClient, code: str, **fields: Any) -> str:
    response = await http.post("/v1/calls?wait=0", json={"code": code, **fields})
    assert response.status_code == httpx.codes.ACCEPTED, response.text
    call_id: str = response.json()["id"]
    return call_id


async def result_of(http: httpx.AsyncClient, call_id: str, wait_s: float = 30) -> Answer:
    response = await http.get(f"/v1/calls/{call_id}", params={"wait_s": wait_s})
    assert response.status_code == httpx.codes.OK, response.text
    result: Answer = response.json()
    return result


async def state_of(http: httpx.AsyncClient, call_id: str) -> str:
    response = await http.get(f"/v1/calls/{call_id}")
    return "done" if response.status_code == httpx.codes.OK else str(response.json()["state"])


# ok, failed


async def test_exit_code_zero_is_ok(run: RunCall) -> None:
    result = await run("print(6 * 7)")
    assert told(result, "status", "exit_code", "signal", "limit") == ("ok", 0, None, None)
    assert told(result, "stdout", "stderr", "retryable", "attempts") == ("42\n", "", False, 1)


@pytest.mark.parametrize(
    ("code", "exit_code", "stderr"),
    [
        ("import sys; sys.exit(3)", 3, ""),
        ("raise ValueError('no such root')", 1, "ValueError: no such root"),
        ("print('never'\n", 1, "SyntaxError: '(' was never closed"),
        ("import os; os._exit(137)", 137, ""),
    ],
)
async def test_any_other_exit_is_failed(run: RunCall, code: str, exit_code: int, stderr: str) -> None:
    """Exit code 137 is what shells say of a killed program; a program that chooses it has just failed."""
    result = await run(code)
    assert told(result, "status", "exit_code", "signal", "limit") == ("failed", exit_code, None, None)
    assert stderr in result["stderr"]


# signaled


@pytest.mark.parametrize(
    ("code", "name"),
    [
        ("import ctypes; ctypes.string_at(0)", "SIGSEGV"),
        ("import os; os.abort()", "SIGABRT"),
        ("import os; os.kill(os.getpid(), 9)", "SIGKILL"),
        ("import os; os.kill(os.getpid(), 15)", "SIGTERM"),
    ],
)
async def test_ended_by_a_signal_is_signaled(run: RunCall, code: str, name: str) -> None:
    result = await run(code)
    assert told(result, "status", "signal", "exit_code", "limit") == ("signaled", name, None, None)


async def test_a_forbidden_system_call_is_signaled_by_sigsys(run: RunCall) -> None:
    """kexec_load (246 on x86_64, 104 on aarch64) has no harmless use: the filter ends whoever tries."""
    result = await run(
        "import ctypes, os\n"
        "print('before', flush=True)\n"
        "ctypes.CDLL(None).syscall({'x86_64': 246, 'aarch64': 104}[os.uname().machine], 0, 0, 0, 0)\n"
        "print('after')\n"
    )
    assert told(result, "status", "signal", "stdout") == ("signaled", "SIGSYS", "before\n")
    assert "system call" in result["message"]


# timed_out


async def test_sleeping_past_the_wall_limit_is_timed_out(run: RunCall) -> None:
    result = await run("import time\nprint('begun', flush=True)\ntime.sleep(60)", limits={"wall_s": 0.5})
    assert told(result, "status", "limit", "signal", "stdout") == ("timed_out", "wall", "SIGKILL", "begun\n")
    assert 0.5 <= result["usage"]["wall_s"] < 0.5 + KILL_S + NOISE_S
    assert result["usage"]["cpu_s"] < 0.5


BUSY = "while True: pass"
BUSY_PROCESSES = "import os\nfor _ in range(3): os.fork() or exec('while True: pass')\nwhile True: pass"
BUSY_THREADS = "import threading\nfor _ in range(4): threading.Thread(target=lambda: sum(iter(int, 1))).start()"
BUSY_CHILDREN_ONLY = (
    "import os, time\nfor _ in range(4):\n    if os.fork() == 0:\n        while True: pass\ntime.sleep(60)"
)


@pytest.mark.parametrize("code", [BUSY, BUSY_PROCESSES, BUSY_THREADS, BUSY_CHILDREN_ONLY])
async def test_all_processes_and_threads_share_one_cpu_limit(run: RunCall, code: str) -> None:
    result = await run(code, limits={"cpu_s": 0.5, "wall_s": 30})
    assert told(result, "status", "limit") == ("timed_out", "cpu")
    assert 0.5 <= result["usage"]["cpu_s"] < 0.5 + 2 * (KILL_S + NOISE_S)
    assert result["usage"]["wall_s"] < 20


async def test_a_program_can_not_outlive_its_limit_by_ignoring_signals(run: RunCall) -> None:
    result = await run(
        "import signal, time\n"
        "for number in set(signal.Signals) - {signal.SIGKILL, signal.SIGSTOP}:\n"
        "    signal.signal(number, signal.SIG_IGN)\n"
        "while True:\n"
        "    try: time.sleep(60)\n"
        "    except BaseException: pass\n",
        limits={"wall_s": 0.3},
    )
    assert told(result, "status", "limit") == ("timed_out", "wall")
    assert result["usage"]["wall_s"] < 0.3 + KILL_S + NOISE_S


async def test_a_program_can_not_starve_its_own_end(run: RunCall) -> None:
    """Its main process was killed alone and got no CPU beside those it had started: the jail was given up for it."""
    code = """
import os, time
os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
for _ in range(50):
    if os.fork() == 0:
        while True: pass
held = bytearray(200 << 20)
os.nice(19)
time.sleep(60)
"""
    result = await run(code, limits={"wall_s": 1.5, "cpu_s": 30})
    assert told(result, "status", "limit", "attempts") == ("timed_out", "wall", 1)


async def test_a_stopped_program_still_times_out(run: RunCall) -> None:
    result = await run("import os, signal; os.kill(os.getpid(), signal.SIGSTOP)", limits={"wall_s": 0.3})
    assert told(result, "status", "limit") == ("timed_out", "wall")


# out_of_memory


@pytest.mark.parametrize(
    "code",
    [
        "b = bytearray(1 << 30)\nprint(len(b))",
        "pieces = []\nwhile True: pieces.append(b'x' * (1 << 20))",
        "with open('/tmp/big', 'wb') as f:\n    while True: f.write(b'x' * (1 << 20))",
    ],
)
async def test_more_memory_than_the_limit_is_out_of_memory(run: RunCall, code: str) -> None:
    """Files in /tmp are memory as well: a larger disk limit is no way around the memory limit."""
    result = await run(code, limits={"memory_mb": 64, "disk_mb": 512})
    assert told(result, "status", "limit", "signal") == ("out_of_memory", "memory", "SIGKILL"), result["stderr"]
    assert 32 < result["usage"]["memory_peak_mb"] <= 65


async def test_the_memory_limit_is_on_top_of_the_interpreter(run: RunCall) -> None:
    result = await run("b = bytearray(48 << 20)\nprint(len(b))", limits={"memory_mb": 64})
    assert told(result, "status", "stdout") == ("ok", f"{48 << 20}\n")
    assert 48 <= result["usage"]["memory_peak_mb"] <= 64


async def test_a_killed_child_is_not_the_programs_own_end(run: RunCall) -> None:
    """out_of_memory is said of the main process only: one that survives its child's death ends as it likes."""
    result = await run(
        "import os\n"
        "pid = os.fork()\n"
        "if pid == 0:\n"
        "    open('/proc/self/oom_score_adj', 'w').write('1000')\n"
        "    pieces = []\n"
        "    while True: pieces.append(b'x' * (1 << 20))\n"
        "print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))\n",
        limits={"memory_mb": 64},
    )
    assert told(result, "status", "stdout") == ("ok", "-9\n")


# output_limit and truncation


@pytest.mark.parametrize("stream", ["stdout", "stderr"])
async def test_a_flood_of_output_is_cut_off(run: RunCall, stream: str) -> None:
    """Past 64 times the soft cap the program is killed; what fits the soft cap comes back, flagged."""
    result = await run(
        f"import sys\nwhile True: sys.{stream}.write('0123456789abcde\\n' * 1024)", limits={"output_kb": 4}
    )
    assert told(result, "status", "limit", "signal") == ("output_limit", "output", "SIGKILL")
    assert result[stream] == "0123456789abcde\n" * 256
    assert result["truncated"] == {"stdout": stream == "stdout", "stderr": stream == "stderr"}


async def test_output_past_the_soft_cap_is_dropped_and_the_program_goes_on(run: RunCall) -> None:
    result = await run(
        "import sys\nfor _ in range(10): print('x' * 1023)\nprint('end', file=sys.stderr)", limits={"output_kb": 4}
    )
    assert told(result, "status", "exit_code", "limit") == ("ok", 0, None)
    assert result["stdout"] == ("x" * 1023 + "\n") * 4
    assert told(result, "stderr", "truncated") == ("end\n", {"stdout": True, "stderr": False})


async def test_output_that_just_fits_is_not_flagged(run: RunCall) -> None:
    result = await run("print('x' * 4095)", limits={"output_kb": 4})
    assert told(result, "stdout", "truncated") == ("x" * 4095 + "\n", {"stdout": False, "stderr": False})


# expired


async def test_a_deadline_that_passes_in_the_queue_is_expired_and_never_ran(http: httpx.AsyncClient) -> None:
    """All slots are busy; the late call leaves no trace in the busy ones' answers: it has no worker and no usage."""
    label = {"test": uuid.uuid4().hex}
    busy = [await ticket(http, "import time; time.sleep(30)", labels=label) for _ in range(3 * (os.cpu_count() or 1))]
    try:
        response = await http.post("/v1/calls", json={"code": "print('ran')", "timeout_s": 0.3})
    finally:
        await http.delete("/v1/calls", params={"label": f"test:{label['test']}"})
    result = response.json()
    assert told(result, "status", "stdout", "exit_code", "attempts") == ("expired", "", None, 0)
    assert told(result, "retryable", "worker") == (False, None)
    for call_id in busy:
        assert (await result_of(http, call_id))["status"] == "cancelled"


# cancelled


async def test_a_running_call_is_killed_by_delete(http: httpx.AsyncClient, wait_until: WaitUntil) -> None:
    call_id = await ticket(http, "print('begun', flush=True)\nimport time; time.sleep(30)")

    async def is_running() -> bool:
        return await state_of(http, call_id) == "running"

    await wait_until(is_running, timeout_s=20)
    await asyncio.sleep(0.2)
    began = time.monotonic()
    await http.delete(f"/v1/calls/{call_id}")
    result = await result_of(http, call_id)
    assert told(result, "status", "signal", "limit", "retryable") == ("cancelled", "SIGKILL", None, False)
    assert result["stdout"] == "begun\n"
    assert time.monotonic() - began < KILL_S + NOISE_S


async def test_a_queued_call_is_cancelled_by_delete_and_never_starts(http: httpx.AsyncClient) -> None:
    label = {"test": uuid.uuid4().hex}
    for _ in range(3 * (os.cpu_count() or 1)):
        await ticket(http, "import time; time.sleep(30)", labels=label)
    try:
        call_id = await ticket(http, "print('ran')")
        answer = (await http.delete(f"/v1/calls/{call_id}")).json()
        result = await result_of(http, call_id, wait_s=5)
    finally:
        await http.delete("/v1/calls", params={"label": f"test:{label['test']}"})
    assert answer["state"] == "done"
    assert told(result, "status", "stdout", "attempts", "exit_code") == ("cancelled", "", 0, None)


async def test_calls_are_cancelled_by_label(http: httpx.AsyncClient) -> None:
    """Queued and running ones alike; a call with another value of the label goes on."""
    name = uuid.uuid4().hex
    doomed = [await ticket(http, "import time; time.sleep(30)", labels={"run": name}) for _ in range(12)]
    spared = await ticket(http, "print('spared')", labels={"run": f"{name}x"})
    answer = (await http.delete("/v1/calls", params={"label": f"run:{name}"})).json()
    assert answer["cancelled"] == len(doomed)
    results = await asyncio.gather(*(result_of(http, call_id) for call_id in doomed))
    assert {result["status"] for result in results} == {"cancelled"}
    assert told(await result_of(http, spared), "status", "stdout") == ("ok", "spared\n")


async def test_a_deadline_that_passes_while_it_runs_cancels_it(run: RunCall) -> None:
    result = await run("print('begun', flush=True)\nimport time; time.sleep(30)", timeout_s=0.7)
    assert told(result, "status", "limit", "stdout") == ("cancelled", "deadline", "begun\n")
    assert result["timings"]["total"] < 0.7 + KILL_S + NOISE_S


# infra_error


@pytest.fixture
def mark() -> str:
    """A process name that nothing else has; at most 15 bytes."""
    return uuid.uuid4().hex[:15]


def marked_sleep(mark: str, sleep_s: float) -> str:
    return f"open('/proc/self/comm', 'w').write({mark!r})\nimport time; time.sleep({sleep_s})\nprint('done')"


async def test_a_lost_jail_is_made_good_by_a_second_attempt(
    http: httpx.AsyncClient, wait_until: WaitUntil, mark: str
) -> None:
    call_id = await ticket(http, marked_sleep(mark, 2))
    await kill_the_zygote_above(mark, wait_until)
    result = await result_of(http, call_id)
    assert told(result, "status", "stdout", "attempts", "retryable") == ("ok", "done\n", 2, False)


async def test_a_jail_lost_twice_is_infra_error_and_no_verdict(
    http: httpx.AsyncClient, wait_until: WaitUntil, mark: str
) -> None:
    call_id = await ticket(http, marked_sleep(mark, 20), expected_stdout="done\n")
    await kill_the_zygote_above(mark, wait_until)
    await kill_the_zygote_above(mark, wait_until)
    result = await result_of(http, call_id)
    assert told(result, "status", "attempts", "retryable", "passed") == ("infra_error", 2, True, None)
    assert told(result, "exit_code", "signal", "limit", "stdout") == (None, None, None, "")
    assert "zygote" in result["message"]
