# ruff: noqa: E501 (programs)
"""C: processes, time and signals. A call is dead in time, whatever it does, and touches no process but its own."""

from __future__ import annotations

import asyncio
import os
import signal
import time

import pytest

from sandbox_service.models import Result, Status
from tests.conftest import WaitUntil
from tests.security import machine, mutations, worker_mutations
from tests.security.bench import Bench, bench
from tests.security.cases import case, covers, prints, told
from tests.security.harness import KILL_S, NEIGHBOUR, NOISE_S, Attacker
from tests.security.mutation import Run
from tests.security.programs import KERNEL

BUSY = {
    "loop": "while True: pass",
    "threads": "import threading\nfor _ in range(8): threading.Thread(target=lambda: sum(iter(int, 1))).start()",
    "regular expression": "import re\nre.match(r'(a+)+$', 'a' * 40 + 'b')",
    "power in C": "x = 3 ** (10 ** 9)",
    "children": "import os, time\nfor _ in range(4):\n    if os.fork() == 0:\n        while True: pass\ntime.sleep(60)",
    "execs": "import os\nfor _ in range(4): os.fork()\nos.execv('/bin/sh', ['sh', '-c', 'while :; do :; done'])",
    "alarms": "import signal\nsignal.signal(signal.SIGALRM, lambda *_: None)\nsignal.setitimer(signal.ITIMER_REAL, 1e-4, 1e-4)\nwhile True: pass",
}
WAITING = {
    "sleep": "import time; time.sleep(1e9)",
    "select": "import select; select.select([], [], [])",
    "deadlock": "import threading; lock = threading.Lock(); lock.acquire(); lock.acquire()",
    "stop": "import os, signal; os.kill(os.getpid(), signal.SIGSTOP)",
    "everything ignored": (
        "import os, resource, signal, time\n"
        "signal.alarm(0); signal.setitimer(signal.ITIMER_REAL, 0)\n"
        "signal.pthread_sigmask(signal.SIG_BLOCK, range(1, 65))\n"
        "resource.setrlimit(resource.RLIMIT_CPU, (resource.getrlimit(resource.RLIMIT_CPU)[1],) * 2)\n"
        "while True:\n    try: time.sleep(60)\n    except BaseException: pass"
    ),
    "vfork": "import ctypes, os\nlibc = ctypes.PyDLL(None)\nif libc.vfork() == 0:\n    libc.sleep(100)",
    "reading a pipe": "import os; os.read(os.pipe()[0], 1)",
}


async def run_until_killed(call: Run, code: str, limit: str) -> None:
    began = time.monotonic()
    result = await call(code, limits={"cpu_s": 20, "wall_s": 20, f"{limit}_s": 0.4, "memory_mb": 512})
    assert (result.status, result.limit) == (Status.TIMED_OUT, limit), told(result)
    assert getattr(result.usage, f"{limit}_s") < 0.4 + 2 * (KILL_S + NOISE_S), result.usage
    assert time.monotonic() - began < 15


@pytest.mark.parametrize("code", BUSY.values(), ids=BUSY)
@covers("C01 C04 P11 P19")
async def test_what_is_busy_ends_at_its_cpu_limit(attacker: Attacker, code: str) -> None:
    """A loop in Python or in C, in threads or children: timed_out by the CPU time of all together."""
    await run_until_killed(attacker.call, code, "cpu")
    await attacker.verify_rest()


@pytest.mark.parametrize("code", WAITING.values(), ids=WAITING)
@covers("C02 C04 C10 P9 P11")
async def test_what_waits_ends_at_its_wall_limit(attacker: Attacker, code: str) -> None:
    """Sleeping, deadlocked, stopped, deaf to all signals or in a vfork: timed_out by the worker's clock."""
    await run_until_killed(attacker.call, code, "wall")
    await attacker.verify_rest()


async def test_what_is_busy_ends_is_really_caused_by() -> None:
    """The worker's clocks: without them children go on (the kernel's own limit knows single processes only)."""
    await run_without_clocks(BUSY["children"], "cpu")


async def test_what_waits_ends_is_really_caused_by() -> None:
    """The worker's clocks: without them a program that ignores everything goes on."""
    await run_without_clocks(WAITING["everything ignored"], "wall")


async def run_without_clocks(code: str, limit: str) -> None:
    async with bench(worker_mutations.NO_CLOCKS) as worker:
        with pytest.raises((AssertionError, TimeoutError)):
            async with asyncio.timeout(4):
                await run_until_killed(worker.run, code, limit)


async def test_one_busy_process_ends_by_the_kernels_limit_too() -> None:
    """Behind the worker's clocks: RLIMIT_CPU, hard, a second later."""
    async with bench(worker_mutations.NO_CLOCKS) as worker:
        await run_until_killed(worker.run, BUSY["loop"], "cpu")


BOMBS = {
    "fork": "import os\nwhile True:\n    try: os.fork()\n    except OSError: pass",
    "shell": "import os\nos.execv('/bin/sh', ['sh', '-c', 'b() { b | b & }; b; sleep 60'])",
    "exec": "import os, sys\nfor _ in range(5):\n    try: os.fork()\n    except OSError: pass\nos.execv(sys.executable, [sys.executable, 'main.py'])",
    "threads": "import _thread, time\nwhile True:\n    try: _thread.start_new_thread(time.sleep, (60,))\n    except RuntimeError: pass",
    "chaser": "import os\nwhile True:\n    try:\n        if os.fork(): os._exit(0)\n    except OSError: pass",
}


@pytest.mark.parametrize("code", BOMBS.values(), ids=BOMBS)
@covers("C05 C06 C07 C12 P9 P10 P15")
async def test_a_bomb_stays_in_its_limits_and_dies(attacker: Attacker, code: str) -> None:
    """Forks, pipes of shells, execs, threads, runaways: the call ends in time, a neighbour forks at will meanwhile."""
    await bomb_beside_a_neighbour(attacker.call, code)
    await attacker.verify_rest()


async def bomb_beside_a_neighbour(call: Run, code: str) -> None:
    forking = (
        "import subprocess\nfor _ in range(5): print(subprocess.run(['echo', 'fine'], capture_output=True).stdout)"
    )
    bomb, neighbour = await asyncio.gather(
        call(code, limits={"wall_s": 1, "cpu_s": 5, "processes": 40}), call(forking, limits={"wall_s": 20})
    )
    # The chaser's first process ends by itself, at once; what it started ends with it.
    assert bomb.status in (Status.TIMED_OUT, Status.OK), told(bomb)
    assert neighbour.stdout == "b'fine\\n'\n" * 5, told(neighbour)


async def test_a_bomb_stays_in_its_limits_and_dies_is_really_caused_by() -> None:
    """The worker's clocks: without them a bomb goes on."""
    async with bench(worker_mutations.NO_CLOCKS, slots=2) as worker:
        with pytest.raises((AssertionError, TimeoutError)):
            async with asyncio.timeout(4):
                await bomb_beside_a_neighbour(worker.run, BOMBS["threads"])


@case(
    "C06 P15",
    KERNEL
    + """
count = 0
try:
    while count < 200:
        if os.fork() == 0:
            while True: signal.pause()
        count += 1
except OSError as error: print(count, errno.errorcode[error.errno])
""",
    without=worker_mutations.NO_PROCESS_LIMIT,
    limits={"processes": 40},
)
def test_processes_end_at_their_number(result: Result) -> None:
    """The fortieth process of a call that may have 40 is the last."""
    prints("39 EAGAIN\n")(result)


@case(
    "C09 P10 P14",
    KERNEL
    + """
signal.signal(signal.SIGTERM, signal.SIG_IGN)
os.setpgid(0, 0) if os.getsid(0) != os.getpid() else None
print(attempt(os.kill, 1, 0), attempt(os.kill, 1, 9), attempt(os.kill, 1, 15))
print(os.getppid(), attempt(os.kill, -1, 15))
print({attempt(os.kill, pid, 9) for pid in range(3, 32768)})
print({ask("tgkill", pid, pid, 9) for pid in range(3, 5000)}, ask("tgkill", 1, 1, 9), ask("tkill", 1, 9))
print({ask("pidfd_open", pid, 0) for pid in range(3, 5000)}, ask("pidfd_send_signal", os.pidfd_open(1), 9, 0, 0))
print(ask("rt_sigqueueinfo", 1, 9, bytes(128)), ask("prlimit64", 1, 7, bytes(16), 0), ask("setpriority", 0, 1, 5))
""",
    without=mutations.KEEPS_ROOT_AND_CAPABILITIES,
)
def test_signals_reach_the_calls_own_processes_only(result: Result) -> None:
    """No signal, by number or descriptor, reaches init, the zygote or another call; nor does a limit or a priority."""
    lines = result.stdout.splitlines()
    assert lines[0] == "EPERM EPERM EPERM", told(result)
    assert lines[1] in ("0 ESRCH", "0 EPERM", "0 allowed"), told(result)
    assert lines[2] == "{'ESRCH'}", told(result)
    assert lines[3] == "{'ESRCH'} EPERM EPERM", told(result)
    assert lines[4] == "{'ESRCH'} EPERM", told(result)
    assert lines[5] == "EPERM EPERM EPERM", told(result)


@case(
    "C11 P15 P19",
    KERNEL
    + """
print(attempt(os.nice, -1), attempt(os.setpriority, os.PRIO_USER, 0, -5))
print([attempt(os.sched_setscheduler, 0, policy, os.sched_param(1)) for policy in (os.SCHED_FIFO, os.SCHED_RR)])
print(ask("sched_setattr", 0, bytes(48), 0), ask("ioprio_set", 1, 0, 1 << 13), ask("sched_setscheduler", 0, 6, bytes(8)))
""",
    without=mutations.NO_FILTERS,
    also_without=(mutations.NO_JAIL_FILTER,),
)
def test_no_program_gives_itself_priority(result: Result) -> None:
    """Nice, real-time and deadline scheduling, I/O priority: refused."""
    lines = result.stdout.splitlines()
    assert set(lines[0].split()) <= {"EPERM", "EACCES"}, told(result)
    assert lines[1:] == ["['EPERM', 'EPERM']", "EPERM EPERM EPERM"], told(result)


@covers("C11 P19")
async def test_many_threads_weigh_no_more_than_one(attacker: Attacker) -> None:
    """A call with 32 busy processes gets at most about twice the CPU time of a neighbour with one, not 32 times it."""
    await run_many_beside_one(attacker.call)
    await attacker.verify_rest()


HOGS = {
    "32 busy processes": ("import os\nfor _ in range(5): os.fork()\nwhile True: pass", 2.0),
    "a copier of memory": ("a = bytearray(64 << 20)\nwhile True: b = bytes(a)", 1.5),
    "a maker of processes": ("import os\nwhile True:\n    if os.fork() == 0: os._exit(0)\n    os.wait()", 1.5),
}
"""What they run, and by how much a neighbour may be slowed. Two groups of equal weight, one of them with processes on
both of two processors: the scheduler gives a call of one process two thirds of its processor, which is 1.5 already."""
IDLE_SPREAD = 1.25


@covers("G6 C11 P19")
@pytest.mark.parametrize("hog", HOGS)
async def test_a_neighbour_is_slowed_by_at_most_half(hog: str, attacker: Attacker) -> None:
    """Beside a copier of memory or a maker of processes a call takes at most 1.5 times as long as beside an idle slot, in
    the same minute; beside 32 busy processes at most twice as long."""

    async def fastest(count: int = 12) -> tuple[float, float]:
        results = [await attacker.call(NEIGHBOUR) for _ in range(count)]
        times = sorted(result.usage.wall_s for result in results if result.usage is not None)
        return times[0], times[count // 2]

    if os.cpu_count() == 1:
        pytest.skip("two calls at once share the one processor of this machine")
    idle, usual = await fastest()
    if usual > IDLE_SPREAD * idle:
        pytest.skip(f"others use this machine: {idle:.3f} s, but mostly {usual:.3f} s with nothing beside it")
    limits = {"wall_s": 5, "cpu_s": 30, "memory_mb": 512}
    code, most = HOGS[hog]
    beside = asyncio.create_task(attacker.call(code, limits=limits))
    await asyncio.sleep(0.5)
    busy, _ = await fastest()
    assert not beside.done()
    await beside
    await attacker.verify_rest()
    assert busy <= most * idle, f"{busy:.3f} s beside {hog}, {idle:.3f} s beside an idle slot"


async def run_many_beside_one(call: Run) -> None:
    hog = "import os\nfor _ in range(5): os.fork()\nwhile True: pass"
    one = "while True: pass"
    limits = {"wall_s": 2, "cpu_s": 30}
    many, single = await asyncio.gather(call(hog, limits=limits), call(one, limits=limits))
    assert (many.status, single.status) == (Status.TIMED_OUT, Status.TIMED_OUT)
    assert many.usage.cpu_s < 5 * single.usage.cpu_s, (many.usage, single.usage)


@case(
    "C12 P9",
    KERNEL
    + """
print(ask("prctl", 36, 0, 0, 0, 0), ask("prctl", 1, 9, 0, 0, 0), flush=True)
made = 0
while made < 2000:
    pid = os.fork()
    if pid == 0:
        try:
            if os.fork() == 0: os._exit(0)
        except OSError: os._exit(1)  # those before it are not reaped yet
        os._exit(0)
    made += os.waitpid(pid, 0)[1] == 0
os.write(1, b"two thousand orphans\\n")
os._exit(0)
""",
    without=mutations.UNREAPED_ORPHANS,
    limits={"cpu_s": 30, "wall_s": 40},
)
def test_orphans_are_reaped(result: Result) -> None:
    """Thousands of orphans are reaped while they come: they never fill the call's number of processes for good."""
    assert result.stdout.endswith("two thousand orphans\n"), told(result)


@covers("C13 P9")
async def test_signals_work_as_on_any_machine(attacker: Attacker) -> None:
    """Handlers, alarms, SIGPIPE, atexit, abort and kill of oneself: the program is not pid 1, so that they do."""
    await send_signals(attacker.call)
    await attacker.verify_rest()


async def send_signals(call: Run) -> None:
    programs = {
        "import signal, os\nsignal.signal(signal.SIGUSR1, lambda *_: print('handled'))\nos.kill(os.getpid(), 10)": (
            "ok", None, "handled\n"),
        "import signal, time\nsignal.signal(signal.SIGALRM, lambda *_: print('rang'))\nsignal.alarm(1)\ntime.sleep(3)\nprint('on')": (
            "ok", None, "rang\non\n"),
        "import signal, time\nsignal.setitimer(signal.ITIMER_REAL, 0.05)\ntime.sleep(5)": ("signaled", "SIGALRM", ""),
        "import atexit; atexit.register(print, 'last')": ("ok", None, "last\n"),
        "import os; os.abort()": ("signaled", "SIGABRT", ""),
        "import os; os.kill(os.getpid(), 15)": ("signaled", "SIGTERM", ""),
        "import faulthandler, ctypes; faulthandler.enable(); ctypes.string_at(0)": ("signaled", "SIGSEGV", ""),
        "import subprocess\np = subprocess.Popen(['sleep', '9']); p.terminate(); print(p.wait())": ("ok", None, "-15\n"),
        "import os, signal\nsignal.signal(signal.SIGPIPE, signal.SIG_DFL)\nr, w = os.pipe(); os.close(r); os.write(w, b'x')": (
            "signaled", "SIGPIPE", ""),
    }  # fmt: skip
    for code, expected in programs.items():
        result = await call(code, limits={"wall_s": 15})
        assert (result.status.value, result.signal, result.stdout) == expected, told(result)


async def test_signals_work_as_on_any_machine_is_really_caused_by() -> None:
    """The init that is pid 1: a program that is pid 1 itself gets no signal that it has no handler for."""
    async with bench(mutations.PROGRAM_IS_PID_1) as worker:
        with pytest.raises(AssertionError):
            await send_signals(worker.run)


@covers("C10 P13 L03")
async def test_a_slot_that_lost_its_init_is_replaced(wait_until: WaitUntil) -> None:
    """An init killed from outside: the slot is made anew, and nothing of the old one is left, not even a zombie."""
    async with bench() as worker:
        await lose_the_init(worker, wait_until)


async def test_a_slot_that_lost_its_init_is_replaced_is_really_caused_by(wait_until: WaitUntil) -> None:
    """The replacement of a slot: without it there is no new init until a call needs one."""
    async with bench(mutations.LOST_SLOTS_STAY) as worker:
        with pytest.raises(TimeoutError):
            await lose_the_init(worker, wait_until)


async def lose_the_init(worker: Bench, wait_until: WaitUntil) -> None:
    await worker.run("pass")
    await wait_until(worker.is_at_rest)  # an init that dies while it cleans is a slot in doubt, another story
    before = machine.footprint(worker.jail)
    [(init,)] = machine.zygotes_and_inits(worker.jail).values()
    os.kill(init, signal.SIGKILL)
    await wait_until(lambda: machine.zygotes_and_inits(worker.jail)[before.zygotes[0]] not in ([], [init]))
    results = [await worker.run("print('here')") for _ in range(3)]
    assert [(result.stdout, result.attempts) for result in results] == [("here\n", 1)] * 3
    await wait_until(lambda: machine.footprint(worker.jail) == before)
