# ruff: noqa: E501 (programs)
"""A: data. What a program can find of the service, of other calls and of the machine."""

from __future__ import annotations

import asyncio
import os
import secrets

import pytest

from sandbox_service.models import Result, Status
from tests.security import mutations, worker_mutations
from tests.security.bench import bench
from tests.security.cases import case, covers, prints, told
from tests.security.harness import SLOTS, Attacker
from tests.security.mutation import Mutation, Run
from tests.security.programs import KERNEL, SCAN

ENVIRONMENT = ["HOME", "LANG", "MKL_NUM_THREADS", "MPLBACKEND", "OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "PATH",
               "PYTHONDONTWRITEBYTECODE", "PYTHONHASHSEED"]  # fmt: skip


@case(
    "A01 P1 P35",
    """
import os
names = lambda data: sorted({pair.split(b"=")[0].decode() for pair in data.split(b"\\0") if pair})
print(sorted(os.environ))
print(names(open("/proc/self/environ", "rb").read()))
for path in sorted(f"/proc/{name}/environ" for name in os.listdir("/proc") if name.isdigit()):
    if path == f"/proc/{os.getpid()}/environ": continue
    try: print(path, names(open(path, "rb").read()))
    except OSError as error: print(path, error.strerror)
""",
    without=(mutations.JAIL_INHERITS_ENVIRONMENT, mutations.DUMPABLE_ZYGOTE_AND_ONE_USER),
)
def test_the_environment_holds_allow_listed_names_only(result: Result) -> None:
    """No variable of the service is in a program's environment, nor in that of a process it can see."""
    at_start = sorted([*ENVIRONMENT, "LD_BIND_NOW"])  # for the zygote, which took it out of what programs inherit
    prints(f"{ENVIRONMENT}\n{at_start}\n/proc/1/environ Operation not permitted\n")(result)


@covers("A02 P1 P32")
async def test_memory_holds_nothing_of_earlier_calls(attacker: Attacker) -> None:
    """After calls with unique tokens in code, input, arguments, files and expected output, no later call finds one."""
    await leave_tokens_and_search(attacker.call)
    await attacker.verify_rest()


@pytest.mark.parametrize("mutation", [mutations.ZYGOTE_READS_PAYLOADS], ids=str)
async def test_memory_holds_nothing_of_earlier_calls_is_really_caused_by(mutation: Mutation) -> None:
    """The zygote never opens a payload; one that does keeps it in memory, and every later call has a copy."""
    async with bench(mutation) as worker:
        with pytest.raises(AssertionError, match=r"stdout: [1-9]"):
            await leave_tokens_and_search(worker.run)


async def leave_tokens_and_search(call: Run) -> None:
    mark = secrets.token_hex(6)
    fields = {"args": [f"argument-{mark}"], "env": {"NAME": f"variable-{mark}"}, "stdin": f"stdin-{mark}"}
    for number in range(4 * SLOTS):
        result = await call(
            f"token = 'code-{mark}-{number}'\nprint('out-' + token)",
            files={"f": "Y29udGVudC0="},
            expected_stdout=f"expected-{mark}",
            labels={"note": f"label-{mark}"},
            **fields,
        )
        assert result.passed is False
    halves = f"HALVES = {mark[:6]!r}, {mark[6:]!r}\n"
    for _ in range(2 * SLOTS):
        result = await call(halves + SCAN, limits={"memory_mb": 1024, "cpu_s": 30, "wall_s": 40})
        assert result.stdout == "0\n", told(result)
    control = await call(halves + f"kept = 'here-{mark}'\n" + SCAN, limits={"memory_mb": 1024, "cpu_s": 30})
    assert int(control.stdout) > 0, "the search finds nothing at all"


@case(
    "A03 P31 B03",
    """
import gc, os, select, socket, sys, threading
gc.unfreeze()
kinds = (socket.socket, type(select.epoll()))
numbers = {o.fileno() for o in gc.get_objects() if isinstance(o, kinds)} - {-1}
for number in range(3, 1024):
    try: os.write(number, b"x"); print("written to", number)
    except OSError as error:
        if error.errno != 9: print(number, error)
frame, depth = sys._getframe(), 0
while frame.f_back: frame, depth = frame.f_back, depth + 1
print(depth, frame.f_code.co_name, len(threading.enumerate()))
print([name for name in sys.modules if "sandbox" in name or "zygote" in name])
""",
    without=(mutations.KEEPS_DESCRIPTORS, mutations.MODULES_STAY),
)
def test_nothing_of_the_zygote_is_within_reach(result: Result) -> None:
    """No descriptor works but 0, 1 and 2, no frame lies below the program's, no module of ours is imported."""
    prints("0 <module> 1\n[]\n")(result)


@case(
    "A04 P5",
    """
import os, stat, sys
open_ones = []
for number in range(65536):
    try: open_ones.append((number, stat.filemode(os.fstat(number).st_mode)[0]))
    except OSError: pass
print(open_ones)
cwd, root, exe = (os.readlink(f"/proc/self/{name}") for name in ("cwd", "root", "exe"))
print(cwd, root, os.path.dirname(exe), exe == os.path.realpath(sys.executable))
folder = os.open("/", os.O_RDONLY)
for _ in range(20):
    os.fchdir(folder)
    folder = os.open("..", os.O_RDONLY)
print(os.stat(".").st_ino == os.stat("/").st_ino, os.path.exists("work"), os.path.exists("/var/lib/sandbox-service"))
""",
    without=mutations.KEEPS_DESCRIPTORS,
)
def test_only_the_standard_descriptors_are_open(result: Result) -> None:
    """Descriptors are 0 (null or memory), 1 and 2 (pipes); from any folder `..` ends at the image's root."""
    prints("[(0, 'c'), (1, 'p'), (2, 'p')]\n/tmp/work / /usr/bin True\nTrue False False\n")(result)


SECRETS_OF_INIT = ("mem", "maps", "fd", "root", "cwd", "exe", "stack", "syscall", "pagemap", "environ", "io", "ns/mnt")


@case(
    "A05 P14 P29",
    KERNEL
    + f"""
print(sorted(int(name) for name in os.listdir("/proc") if name.isdigit()), os.getpid(), os.getppid())
proc = os.open("/proc", os.O_RDONLY)
def look(path, **where):
    try:
        os.listdir(path) if path.endswith("fd") and not where else os.readlink(path, **where)
    except OSError as error:
        if error.errno != errno.EINVAL: raise
        os.read(os.open(path, os.O_RDONLY, **where), 10)
for name in {SECRETS_OF_INIT}:
    answers = [attempt(look, f"/proc/1/{{name}}"), attempt(look, f"1/{{name}}", dir_fd=proc),
               attempt(look, f"/proc//self/../1/./{{name}}"), attempt(look, f"/proc/1/task/1/{{name}}")]
    print(name, *{{"refused" if answer in ("EACCES", "EPERM") else answer for answer in answers}})
print(ask("openat2", proc, b"1/root", (ctypes.c_ulong * 3)(os.O_RDONLY, 0, 0), 24))
""",
    without=(mutations.PROC_OF_THE_JAIL, mutations.DUMPABLE_ZYGOTE_AND_ONE_USER),
)
def test_other_processes_are_out_of_sight(result: Result) -> None:
    """/proc shows the call's own processes and an init whose memory, files and folders nobody can open, however spelt."""
    prints("[1, 2] 2 0\n" + "".join(f"{name} refused\n" for name in SECRETS_OF_INIT) + "EPERM\n")(result)


@case(
    "A05 P40",
    KERNEL
    + """
told = {}
for folder in ("/proc/1", "/proc/1/task/1"):
    told.setdefault(attempt(os.listdir, folder), []).append(folder)
for name in os.listdir("/proc/self"):
    for path in (f"/proc/1/{name}", f"/proc/1/task/1/{name}"):
        told.setdefault(attempt(os.open, path, os.O_RDONLY), []).append(path)
print(told.pop("EPERM") != [], told)
import time
def clock(pid, kind): return (~pid << 3) | kind
def armed(number): return ask("timer_create", number, 0, bytes(8))
for kind in range(8):
    clocks = [attempt(time.clock_gettime, clock(1, kind)), ask("clock_gettime", clock(1, kind) & 0xFFFFFFFF | 7 << 32, bytes(16)),
              armed(clock(1, kind)), ask("clock_nanosleep", clock(1, kind), 0, bytes(16), 0)]
    print(kind, *clocks)
mine = [attempt(time.clock_gettime, each) for each in (clock(os.getpid(), 2), clock(0, 2), clock(0, 6))]
print(mine, armed(clock(os.getpid(), 2)), time.process_time() > 0, time.thread_time() > 0)
""",
    without=(mutations.INIT_IS_TOLD_OF, mutations.CLOCK_OF_INIT),
)
def test_the_life_of_a_slot_is_not_told(result: Result) -> None:
    """Times and counts of a slot's init, by which a call could tell how many came before it, are not to be read."""
    clocks = "".join(f"{kind} EINVAL EINVAL EINVAL EINVAL\n" for kind in range(8))
    prints("True {}\n" + clocks + "['allowed', 'allowed', 'allowed'] 0 True True\n")(result)


DRAWS = """
import os, random, secrets, ssl, tempfile, uuid
import numpy as np
print([random.random(), np.random.rand(), np.random.default_rng().random(), str(uuid.uuid1()), str(uuid.uuid4()),
       secrets.token_hex(), os.path.basename(tempfile.mktemp()), ssl.RAND_bytes(8).hex(), os.urandom(8).hex(),
       id(object()) and tempfile.mktemp()[-8:]])
"""


@covers("A07 P2 P3")
async def test_no_random_number_comes_twice(attacker: Attacker) -> None:
    """random, numpy, uuid, secrets, tempfile, ssl: distinct in all calls, of both zygotes; with a seed, equal."""
    await draw_and_compare(attacker.call, 30)
    seeded = {(await attacker.call("import random; print(random.random())", seed=5)).stdout for _ in range(2 * SLOTS)}
    assert len(seeded) == 1


async def test_no_random_number_comes_twice_is_really_caused_by() -> None:
    """The new random state of each call: without it, all calls of a zygote draw the same."""
    async with bench(mutations.RANDOM_STATE_IS_SHARED) as worker:
        with pytest.raises(AssertionError):
            await draw_and_compare(worker.run, 2)


async def draw_and_compare(call: Run, times: int) -> None:
    bare = DRAWS.replace("import numpy as np", "np = __import__('numpy')")
    results = await asyncio.gather(*(call(code) for code in (DRAWS, bare) for _ in range(times)))
    draws = [draw for result in results for draw in eval(result.stdout)]
    assert len(draws) == 2 * times * 10
    assert len(set(draws)) == len(draws)


ORDER = "print(hash('x'), {'a', 'b', 'c', 'd', b'e', None, 1.5})"


@covers("A08 P7")
async def test_the_order_of_sets_is_the_same_everywhere(attacker: Attacker) -> None:
    """hash(str) and the order of sets do not depend on the slot or the zygote, whose hash seed is fixed."""
    seen = {(await attacker.call(ORDER)).stdout for _ in range(2 * SLOTS)}
    assert seen == {(await attacker.call("import numpy\n" + ORDER)).stdout}


async def test_the_order_of_sets_is_the_same_is_really_caused_by() -> None:
    """The fixed hash seed: without it, two zygotes differ."""
    seen = set()
    for _ in range(2):
        async with bench(mutations.HASH_SEED_OF_EACH_ZYGOTE) as worker:
            seen.add((await worker.run(ORDER)).stdout)
    assert len(seen) == 2


@case(
    "A09 P32 P33",
    "HALVES = 'the-expect', 'ed-output-4711'\n" + SCAN,
    expected_stdout="the-expected-output-4711",
    without=worker_mutations.EXPECTED_OUTPUT_IN_THE_JAIL,
    limits={"memory_mb": 1024, "cpu_s": 30, "wall_s": 40},
)
def test_the_expected_output_is_not_in_the_jail(result: Result) -> None:
    """A program that searches its memory and all files it can read does not find what it should print."""
    assert (result.stdout, result.passed) == ("0\n", False), told(result)


@case(
    "A10 P22 P37",
    """
import os, stat
strange = []
skipped = {"/proc", "/tmp", "/dev"}
for folder, folders, files in os.walk("/", onerror=lambda error: None):
    folders[:] = [f for f in folders if os.path.join(folder, f) not in skipped and not os.path.islink(os.path.join(folder, f))]
    for path in [os.path.join(folder, name) for name in [*folders, *files]]:
        status = os.lstat(path)
        if status.st_mode & (stat.S_ISUID | stat.S_ISGID): strange.append(("suid", path))
        if stat.S_ISSOCK(status.st_mode) or stat.S_ISBLK(status.st_mode) or stat.S_ISCHR(status.st_mode): strange.append(("special", path))
        if any(part in path for part in ("sandbox_service", ".git/", "redis.sock", "id_rsa", ".env", "api_keys")): strange.append(("ours", path))
        if stat.S_ISDIR(status.st_mode) and os.access(path, os.W_OK): strange.append(("writable", path))
print(strange[:20])
print(sorted(name for name in os.listdir("/dev")), os.listdir("/sandbox"))
""",
    without=mutations.CODE_FOLDER_STAYS,
    limits={"cpu_s": 30, "wall_s": 40},
)
def test_the_image_holds_nothing_of_the_service(result: Result) -> None:
    """No code or file of the service, no socket, no set-uid program, no writable folder but /tmp and what leads there."""
    prints("[]\n['fd', 'full', 'null', 'random', 'shm', 'stderr', 'stdin', 'stdout', 'urandom', 'zero'] []\n")(result)


NAMES = """
import glob, os, socket
for path in ["/proc/self/cgroup", "/proc/self/mountinfo", "/proc/self/mounts", *glob.glob("/proc/[0-9]*/cmdline")]:
    print(path, open(path).read())
print(socket.gethostname(), os.uname().nodename, os.path.exists("/sys/class"), os.path.exists("/.dockerenv"))
"""


async def look_for_names(call: Run, worker: str) -> None:
    name = f"call-{secrets.token_hex(4)}"
    result = await call(NAMES, id=name, labels={"run": name})
    assert result.status is Status.OK, told(result)
    for word in (name, worker, worker.split("-")[0] + "-", "sandbox-run-", "default", "redis", "control_fd"):
        assert word not in result.stdout, told(result)
    assert "sandbox sandbox False False" in result.stdout, told(result)
    groups = result.stdout.split("/proc/self/mountinfo")[0]
    assert all(line.endswith(":/") for line in groups.split()[1:]), groups


@covers("A11 G8")
async def test_the_kernel_tells_nothing_of_the_service(attacker: Attacker) -> None:
    """Groups, mounts, names and command lines hold no name of the worker or its folders, no id, tenant or host name."""
    await look_for_names(attacker.call, attacker.target.worker)


async def test_the_kernel_tells_nothing_of_the_service_is_really_caused_by() -> None:
    """The cgroup namespace: without it a program reads the name of its worker and its slot."""
    async with bench() as worker:
        await look_for_names(worker.run, "bench-worker")
    async with bench(mutations.NAMES_OF_GROUPS) as worker:
        with pytest.raises(AssertionError):
            await look_for_names(worker.run, "bench-worker")


PLANT = (
    KERNEL
    + """
import socket
for folder in ("/tmp", "/tmp/work", "/dev/shm", os.environ["HOME"], "/var/tmp", "/run", "/"):
    attempt(lambda: open(os.path.join(folder, "planted"), "w").close())
os.makedirs("__pycache__"); open("__pycache__/json.cpython-311.pyc", "w").close(); open("json.py", "w").write("1/0")
libc.shmget(0x5EED, 4096, 0o1666); libc.msgget(0x5EED, 0o1666); libc.semget(0x5EED, 1, 0o1666)
libc.mq_open(b"/planted", os.O_CREAT | os.O_RDWR, 0o666, None)
ask("add_key", b"user", b"planted", b"x", 1, -4)
a, b = socket.socketpair(socket.AF_UNIX)
kept = socket.socket(socket.AF_UNIX); kept.bind("\\0planted")
file = open("/tmp/big", "wb"); file.write(bytes(1 << 20)); file.flush()
socket.send_fds(a, [b"x"], [kept.fileno(), file.fileno(), a.fileno(), b.fileno()])
socket.send_fds(b, [b"x"], [a.fileno(), b.fileno()])
import builtins, math; math.planted = builtins.planted = 1
os.nice(3); os.umask(0o77)
print("planted")
"""
)
LOOK = (
    f"NICE = {os.nice(0)}\n"  # the service's, which these tests have started
    + KERNEL
    + """
import builtins, json, math, socket
found = [os.path.join(d, n) for top in ("/tmp", "/dev/shm") for d, ds, ns in os.walk(top) for n in ns + ds]
found = [name for name in found if name not in ("/tmp/work", "/tmp/.shm", "/tmp/work/main.py")]
for name, rest in (("shmget", (0, 0)), ("msgget", (0,)), ("semget", (0, 0))):
    if getattr(libc, name)(0x5EED, *rest) >= 0: found.append(name)
if libc.mq_open(b"/planted", os.O_RDWR) >= 0: found.append("mq_open")
if isinstance(ask("request_key", b"user", b"planted", 0, 0), int): found.append("key")
if attempt(socket.socket(socket.AF_UNIX).bind, "\\0planted") != "allowed": found.append("abstract")
if hasattr(math, "planted") or hasattr(builtins, "planted"): found.append("module")
if (os.nice(0), os.umask(0)) != (NICE, 0o22): found.append("nice or umask")
if os.getpid() != 2: found.append(f"pid {os.getpid()}")
if os.listdir("/proc/self/task") != ["2"]: found.append("tasks")
print(found)
"""
)


@covers("A12 P8 P17 P21 P23")
async def test_nothing_planted_is_found_by_a_later_call(attacker: Attacker) -> None:
    """Files, IPC, keys, sockets, names, modules, priority: what a call leaves is in no slot when the next one starts."""
    await plant_and_look(attacker.call)
    await attacker.verify_rest()


@pytest.mark.parametrize("mutation", mutations.WHAT_CLEANS_A_SLOT, ids=str)
async def test_nothing_planted_is_found_is_really_caused_by(mutation: Mutation) -> None:
    """Each thing that cleans a slot is needed: without it the next call finds what was planted."""
    async with bench(mutation) as worker:
        with pytest.raises(AssertionError):
            await plant_and_look(worker.run)


async def plant_and_look(call: Run) -> None:
    for _ in range(SLOTS):
        planted = await call(PLANT)
        assert planted.stdout == "planted\n", told(planted)
    for _ in range(2 * SLOTS):
        assert (found := await call(LOOK)).stdout == "[]\n", told(found)


@covers("A12 P20")
async def test_closed_connections_leave_no_port_taken(attacker: Attacker) -> None:
    """A port that a connection of an earlier call still holds (TIME_WAIT) is free for the next call."""
    await connect_in_turn(attacker.call)
    await attacker.verify_rest()


async def test_closed_connections_leave_no_port_taken_is_really_caused_by() -> None:
    """A call with loopback has a network namespace of its own; in the slot's, ports stay taken."""
    async with bench(mutations.NETWORK_OF_THE_SLOT) as worker:
        with pytest.raises(AssertionError):
            await connect_in_turn(worker.run)


async def connect_in_turn(call: Run) -> None:
    code = """
import socket
server = socket.socket(); server.bind(("127.0.0.1", 8123)); server.listen()
client = socket.create_connection(("127.0.0.1", 8123)); other, _ = server.accept()
other.close(); client.close(); print("connected", len(open("/proc/net/tcp").readlines()))
"""
    results = [(await call(code, network="loopback")) for _ in range(2 * SLOTS)]
    assert {result.stdout for result in results} == {results[0].stdout}, told(results[-1])
    assert results[0].stdout.startswith("connected"), told(results[0])
