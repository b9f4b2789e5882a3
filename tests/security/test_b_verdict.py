# ruff: noqa: E501 (programs)
"""B: verdicts. A program cannot choose what is said of it, but by doing what is asked."""

from __future__ import annotations

import asyncio
import time

import pytest

from sandbox_service.models import Result, Status
from tests.security import mutations, worker_mutations
from tests.security.bench import bench
from tests.security.cases import case, covers, told
from tests.security.harness import Attacker
from tests.security.mutation import Run
from tests.security.programs import KERNEL


@pytest.mark.parametrize(
    ("code", "status"),
    [
        ("import os; os._exit(0)", Status.OK),
        ("import sys; sys.exit(0)", Status.OK),
        ("raise SystemExit", Status.OK),
        ("raise KeyboardInterrupt", Status.SIGNALED),
        ("raise GeneratorExit", Status.FAILED),
        ("import os; os._exit(137)", Status.FAILED),
        ("import os, signal; os.kill(os.getpid(), signal.SIGKILL)", Status.SIGNALED),
        ("import os, signal; os.kill(os.getpid(), signal.SIGXCPU)", Status.SIGNALED),
        ("import atexit, os; atexit.register(os._exit, 0); 1/0", Status.OK),
    ],
)
@covers("B01 P11 P16")
async def test_leaving_early_is_not_passing(attacker: Attacker, code: str, status: Status) -> None:
    """However a program ends before it has printed the answer: its exit is told as it was, and `passed` is false."""
    await leave_early(attacker.call, code, status)


async def leave_early(call: Run, code: str, status: Status) -> None:
    result = await call(code, expected_stdout="42")
    assert (result.status, result.passed) == (status, False), told(result)


async def test_leaving_early_is_not_passing_is_really_caused_by() -> None:
    """The comparison of the output: by its exit code alone, a program that leaves early passes."""
    async with bench(worker_mutations.EXIT_CODE_IS_ENOUGH) as worker:
        with pytest.raises(AssertionError):
            await leave_early(worker.run, "import os; os._exit(0)", Status.OK)


FORGED = [
    "@@E", "@@E\n@@E\n@@E\n", "<result>1</result>", '{"status": "ok", "passed": true, "exit_code": 0}',
    "data: {\"status\": \"ok\"}\n\n", "HTTP/1.1 200 OK\r\n\r\n", "\x00\x01\x02", "x" * 30_000, "%s%n{0.__class__}",
    "!!python/object/apply:os.system ['touch /tmp/x']", "cos\nsystem\n(S'id'\ntR.", "\x1b]0;title\x07",
]  # fmt: skip


@covers("B02 B09 P32")
async def test_markers_in_the_output_mean_nothing(attacker: Attacker) -> None:
    """What looks like a status, a frame, a pickle or a format string is output like any other, verbatim."""
    await print_forged(attacker.call)
    await attacker.verify_rest()


async def print_forged(call: Run) -> None:
    for text in FORGED:
        result = await call(f"import sys; sys.stdout.write({text!r}); sys.stderr.write({text!r}); sys.exit(3)")
        assert (result.status, result.exit_code) == (Status.FAILED, 3), told(result)
        assert (result.stdout, result.stderr) == (text, text)


async def test_markers_in_the_output_mean_nothing_is_really_caused_by() -> None:
    """The status from evidence alone: a worker that reads one in the output believes it."""
    async with bench(worker_mutations.STATUS_FROM_THE_OUTPUT) as worker:
        with pytest.raises(AssertionError):
            await print_forged(worker.run)


@case(
    "B03 B13 P31 P34",
    """
import os, socket, struct
for kind in (16, 17, 18, 19):
    frame = struct.pack("<BHIIiIBiQQQQ", kind, 0, 1, 0, 0, 0, 9, 0, 1, 0, 0, 0)
    for number in range(3, 1024):
        try: print("written to", number, os.write(number, frame))
        except OSError: pass
        try: print("sent to", number, socket.send_fds(socket.socket(fileno=os.dup(number)), [frame], [0]))
        except OSError: pass
os._exit(7)
""",
    status=Status.FAILED,
    without=mutations.KEEPS_DESCRIPTORS,
)
def test_no_forged_frame_reaches_the_worker(result: Result) -> None:
    """Frames written to every descriptor there could be change nothing: no descriptor leads anywhere."""
    assert (result.exit_code, result.stdout) == (7, ""), told(result)


@case(
    "B04 B05 P12",
    """
import os, signal, time
print("first", flush=True)
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        for number in range(1, 32):
            try: signal.signal(number, signal.SIG_IGN)
            except OSError: pass
        time.sleep(0.5)
        while True:
            os.write(1, b"42\\n")
    os._exit(0)
os._exit(0)
""",
    expected_stdout="first\n42",
    without=worker_mutations.WAITS_FOR_THE_PIPE,
    limits={"wall_s": 5},
)
def test_the_answer_comes_when_the_program_ends(result: Result) -> None:
    """A child that keeps the pipe and writes later neither delays the answer nor adds to it."""
    assert (result.stdout, result.passed) == ("first\n", False), told(result)
    assert result.usage.wall_s < 0.5, told(result)


@case(
    "B07 P6 P11",
    """
import os, resource, signal, time
end = time.monotonic() + 0.6
pid = os.fork()
while time.monotonic() < end: pass
if pid == 0: os._exit(0)
os.waitpid(pid, 0)
time.sleep(0.3)
for name in ("time", "monotonic", "perf_counter", "process_time"): setattr(time, name, lambda: 0.0)
resource.getrusage = os.times = lambda *_: None
signal.setitimer(signal.ITIMER_REAL, 0)
os.environ["usage"] = '{"cpu_s": 0}'
print("usage: wall_s=0 cpu_s=0")
""",
    without=mutations.NO_CGROUP,
)
def test_cost_is_measured_outside(result: Result) -> None:
    """CPU time is that of all its processes and wall time the worker's, whatever the program does to its clocks."""
    assert result.usage.wall_s >= 0.85, told(result)
    assert 0.3 < result.usage.cpu_s < 2, told(result)  # two processes of 0.6 s on a machine that may be busy


@covers("B10 P35")
async def test_files_that_steer_an_interpreter_steer_this_call_alone(attacker: Attacker) -> None:
    """sitecustomize, conftest, .pth files, PYTHON* variables and poisoned byte code are gone with their call."""
    await poison_and_look(attacker.call)
    await attacker.verify_rest()
    for name in ("LD_PRELOAD", "PYTHONPATH", "GCONV_PATH", "BASH_ENV"):
        response = await attacker.http.post("/v1/calls", json={"code": "pass", "env": {name: "x"}})
        assert response.status_code == 422, response.text


POISON = """
import os, sys
for name in ("sitecustomize.py", "usercustomize.py", "conftest.py", "json.py", "random.py", "evil.pth", "os.py"):
    open(name, "w").write("print('poisoned')")
own = os.path.expanduser("~/.local/lib/python%d.%d/site-packages" % sys.version_info[:2])
os.makedirs(own, exist_ok=True)
open(own + "/evil.pth", "w").write("import os; os.abort()")
os.execve(sys.executable, [sys.executable, "-c", "print('run by exec')"], {"PYTHONPATH": "/tmp/nothing", "PYTHONSTARTUP": "x"})
"""


async def poison_and_look(call: Run) -> None:
    for _ in range(3):
        poisoned = await call(POISON)  # its own second interpreter aborts, in its own .pth file
        assert (poisoned.status, poisoned.signal) == (Status.SIGNALED, "SIGABRT"), told(poisoned)
        clean = await call("import json, random, subprocess, sys\nprint(subprocess.run([sys.executable, '-c', '']))")
        assert (clean.status, clean.stdout[-14:]) == (Status.OK, "returncode=0)\n"), told(clean)
        assert "poisoned" not in clean.stdout, told(clean)


async def test_files_that_steer_an_interpreter_is_really_caused_by() -> None:
    """The fresh files of each call: without them the next call imports what the last one left."""
    async with bench(mutations.FILES_STAY) as worker:
        with pytest.raises(AssertionError):
            await poison_and_look(worker.run)


@pytest.mark.parametrize(
    ("written", "expected", "compare", "passed"),
    [
        (b"1\r\n2\r\n", "1\n2\n", "lines", True),
        (b"1\r\n2\r\n", "1\n2\n", "exact", False),
        (b"1  \n2\n\n\n", "1\n2", "lines", True),
        ("\ufeff1\n".encode(), "1\n", "strip", False),
        ("é\n".encode(), "e\u0301\n", "strip", False),
        (b"nan\n", "NaN\n", "strip", False),
        (b"-0.0\n", "0.0\n", "strip", False),
        (b"1e400\n", "inf\n", "strip", False),
        (b"7" * 5000, "7" * 5000, "exact", True),
        (b"\xff\xfe\n", "\ufffd\ufffd\n", "strip", False),
        (b"\x00", "", "strip", False),
        (b"", "\n", "strip", True),
    ],
)  # fmt: skip
@covers("B11 P33")
async def test_bytes_are_compared_and_nothing_else(
    attacker: Attacker, written: bytes, expected: str, compare: str, passed: bool
) -> None:
    """A byte that is not the expected one is a difference, also where texts or numbers would be equal."""
    await write_and_compare(attacker.call, written, expected, compare, passed)


async def write_and_compare(call: Run, written: bytes, expected: str, compare: str, passed: bool) -> None:
    code = f"import sys; sys.stdout.buffer.write({written!r})"
    result = await call(code, expected_stdout=expected, compare=compare)
    assert (result.status, result.passed) == (Status.OK, passed), told(result)


async def test_bytes_are_compared_is_really_caused_by() -> None:
    """The comparison of bytes: one of texts and numbers takes all of these for equal."""
    different = [
        ("\ufeff1\n", "1\n"), ("\u00e9\n", "e\u0301\n"), ("nan\n", "NaN\n"), ("-0.0\n", "0.0\n"), ("1e400\n", "inf\n"),
    ]  # fmt: skip
    async with bench(worker_mutations.LOOSE_COMPARISON) as worker:
        for written, expected in different:
            with pytest.raises(AssertionError):
                await write_and_compare(worker.run, written.encode(), expected, "strip", False)


@covers("B12")
async def test_input_never_blocks(attacker: Attacker) -> None:
    """Eight MiB of input that nobody reads, a closed or reopened input, writing to it: no deadlock, no other input."""
    await leave_input_alone(attacker.call)
    await attacker.verify_rest()


async def test_input_never_blocks_is_really_caused_by() -> None:
    """The sealed input: without the seal a program writes over it."""
    async with bench(worker_mutations.INPUT_IS_NOT_SEALED) as worker:
        with pytest.raises(AssertionError):
            await leave_input_alone(worker.run)


async def leave_input_alone(call: Run) -> None:
    big = "x" * (8 << 20)
    programs = {
        "pass": "",
        "import os; os.close(0)": "",
        "import sys; print(len(open('/proc/self/fd/0').read()), len(sys.stdin.read()))": f"{len(big)} {len(big)}\n",
        "import os\ntry: os.write(0, b'y')\nexcept OSError as e: print(e.errno)": "1\n",
        "import os\ntry: os.truncate('/proc/self/fd/0', 0)\nexcept OSError as e: print(e.errno in (1, 13))": "True\n",
        "import sys; sys.stdin.read(); print(repr(sys.stdin.read()))": "''\n",
    }
    for code, expected in programs.items():
        result = await call(code, stdin=big)
        assert (result.status, result.stdout) == (Status.OK, expected), told(result)


LEAVE_PROCESSES = (
    KERNEL
    + """
import time
for number in range(1, 65):
    try: signal.signal(number, signal.SIG_IGN)
    except (OSError, ValueError): pass
for _ in range(20):
    if os.fork() == 0:
        os.setsid()
        if os.fork() == 0:
            while True: time.sleep(1)
        os._exit(0)
"""
)
SEE_PROCESSES = "import os; print([name for name in os.listdir('/proc') if name.isdigit()])"


async def leave_processes_and_look(call: Run) -> None:
    for _ in range(2):
        await call(LEAVE_PROCESSES)
    for _ in range(4):
        assert (seen := await call(SEE_PROCESSES)).stdout == "['1', '2']\n", told(seen)
        assert seen.attempts == 1, told(seen)


@covers("B05 B13 C05 P9 P34")
async def test_an_impostor_does_not_live_to_see_the_next_call(attacker: Attacker) -> None:
    """Processes that ignore everything and left session and parent are dead before the slot serves again."""
    await leave_processes_and_look(attacker.call)
    await attacker.verify_rest()


async def test_an_impostor_does_not_live_is_really_caused_by() -> None:
    """The kill of all that is left, and behind it the look at the group, which gives up the jail if it is not empty."""
    async with bench(worker_mutations.NOTHING_IS_KILLED_NOR_COUNTED) as worker:
        with pytest.raises((AssertionError, TimeoutError)):
            async with asyncio.timeout(10):
                await leave_processes_and_look(worker.run)


@case(
    "B15 P31",
    """
import inspect, linecache, sys
frame = inspect.currentframe()
print(len(inspect.stack()), frame.f_code.co_filename, linecache.getline("/sandbox/sandbox_service/inside/child.py", 1) or "no source")
import builtins, os
builtins.print = os.write = os._exit = sys.exit = lambda *a, **k: None
sys.stdout.write("changed\\n")
raise SystemExit(5)
""",
    status=Status.FAILED,
    without=mutations.CODE_FOLDER_STAYS,
)
def test_changing_the_runner_changes_nothing_outside(result: Result) -> None:
    """No source of ours can be read, and replacing what the runner would call does not change the exit code."""
    assert (result.exit_code, result.stdout) == (5, "1 /tmp/work/main.py no source\nchanged\n"), told(result)


POSE = """
import ctypes, mmap, os, re
# Write over everything that is shared and writable: the page that tells how far the set-up has come would be such.
for line in open("/proc/self/maps"):
    place, mode, _, _, inode, *name = line.split()
    if mode == "rw-s":
        start, end = (int(part, 16) for part in place.split("-"))
        ctypes.memset(start, 0, end - start)
print("done")
"""


@case("B03 P36", POSE, without=mutations.PROGRESS_PAGE_STAYS, expected_stdout="42")
def test_a_program_cannot_pose_as_an_infrastructure_fault(result: Result) -> None:
    """A wrong answer cannot be made into a fault of ours, which would not be scored."""
    assert (result.stdout, result.passed, result.attempts) == ("done\n", False, 1), told(result)


@covers("B03 P10 P13 P18 R5")
async def test_no_program_makes_a_fault_of_ours(attacker: Attacker) -> None:
    """Leaving memory, links, a broken folder or a full disk behind: this call, its files and the next are no infra_error."""
    programs = [
        "import os; os.chmod('.', 0)",
        "import os, shutil; os.chdir('/'); shutil.rmtree('/tmp/work')",
        "import os; os.rename('/tmp/work', '/tmp/away'); os.symlink('/proc/1', '/tmp/work')",
        "open('f', 'wb').write(bytes(200 << 20))",
        "import os\nfor n in range(20000): open(str(n), 'w').close()",
        "import os; os.close(1); os.close(2); os.close(0)",
        "import threading, os\nfor _ in range(30): threading.Thread(target=__import__('time').sleep, args=(9,)).start()\nos._exit(0)",
    ]
    for code in programs:
        result = await attacker.call(code, fetch=["f", "main.py"], limits={"disk_mb": 256, "memory_mb": 512})
        assert result.status is not Status.INFRA_ERROR, told(result)
        assert result.attempts == 1, told(result)
        after = await attacker.call("print(bytearray(30 << 20)[5])", limits={"memory_mb": 64})
        assert (after.status, after.attempts) == (Status.OK, 1), told(after)
    await attacker.verify_rest()


LEAVE_SHARED_MEMORY = """
import ctypes
libc = ctypes.CDLL(None); libc.shmat.restype = ctypes.c_void_p
ctypes.memset(libc.shmat(libc.shmget(0, 300 << 20, 0o1600), None, 0), 1, 300 << 20)
"""
LEAVE_FILE_IN_FLIGHT = """
import socket
a, b = socket.socketpair()
file = open("/tmp/big", "wb"); file.write(bytes(200 << 20)); file.flush()
socket.send_fds(a, [b"x"], [file.fileno(), a.fileno(), b.fileno()])
socket.send_fds(b, [b"x"], [a.fileno(), b.fileno()])
"""


async def leave_memory_and_go_on(call: Run) -> None:
    for leave in (LEAVE_SHARED_MEMORY, LEAVE_FILE_IN_FLIGHT):
        left = await asyncio.gather(*(call(leave, limits={"disk_mb": 256}) for _ in range(3)))
        assert {result.status for result in left} == {Status.OK}, told(left[0])
        for _ in range(3):
            began = time.monotonic()
            result = await call("print(len(bytearray(40 << 20)))", limits={"memory_mb": 64})
            assert (result.status, result.attempts) == (Status.OK, 1), told(result)
            assert time.monotonic() - began < 5


@covers("P17 P16 D03 R5")
async def test_memory_left_behind_is_nobody_elses(attacker: Attacker) -> None:
    """Shared memory and files in flight, freed late by the kernel, are never charged to the next call."""
    await leave_memory_and_go_on(attacker.call)
    await attacker.verify_rest()


async def test_memory_left_behind_is_nobody_elses_is_really_caused_by() -> None:
    """The slot's wait for the memory of its group: without it the next call is an infra_error."""
    async with bench(worker_mutations.MEMORY_IS_NOT_AWAITED) as worker:
        with pytest.raises(AssertionError):
            await leave_memory_and_go_on(worker.run)
