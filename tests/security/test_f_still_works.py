# ruff: noqa: E501 (programs)
"""F: what must still work under all of this. Faithfulness in depth: tests/inside/test_faithful_in_the_jail.py."""

from __future__ import annotations

import pytest

from sandbox_service.models import Status
from tests.security import mutations
from tests.security.bench import bench
from tests.security.cases import covers, told
from tests.security.harness import Attacker
from tests.security.mutation import Run

LIMITS = {"memory_mb": 1024, "cpu_s": 30, "wall_s": 40}

LIBRARIES = {
    "numpy": "import numpy as np; print(np.linalg.solve(np.eye(3) * 2, np.ones(3)).sum())",
    "scipy": "from scipy import optimize; print(round(optimize.brentq(lambda x: x * x - 2.25, 0, 2), 6))",
    "sympy": "from sympy import *; x = symbols('x'); print(sum(solve(x**2 - 1.5*x, x)).round(1))",
    "pandas": "import pandas as pd; print(pd.DataFrame({'a': [1.0, 2.0]}).a.mean())",
    "networkx": "import networkx as nx; print(nx.density(nx.path_graph(4)) * 3)",
    "matplotlib": "import matplotlib.pyplot as p; p.plot([1, 2]); p.savefig('f.png'); print(1.5)",
}

PROCESSES = {
    "threads": "from concurrent.futures import *\nprint(sum(ThreadPoolExecutor(8).map(abs, range(10))))",
    "asyncio": "import asyncio\nasync def f(): p = await asyncio.create_subprocess_exec('echo', '45', stdout=-1); return (await p.communicate())[0]\nprint(int(asyncio.run(f())))",
    **{
        f"multiprocessing {kind}": (
            f"import multiprocessing as m\nif __name__ == '__main__':\n    m.set_start_method('{kind}')\n"
            "    with m.Pool(2) as pool: print(sum(pool.map(abs, range(10))))"
        )
        for kind in ("fork", "spawn", "forkserver")
    },
    "manager": (
        "import multiprocessing as m\nif __name__ == '__main__':\n    with m.Manager() as manager:\n"
        "        made = manager.list(range(10)); print(sum(made))"
    ),
    "shared memory": (
        "from multiprocessing.shared_memory import SharedMemory as S\nm = S(create=True, size=9)\nm.buf[0] = 45\n"
        "other = S(m.name); print(other.buf[0]); other.close(); m.close(); m.unlink()"
    ),
    "pipeline": "import subprocess; print(subprocess.run('seq 9 | { s=0; while read n; do s=$((s+n)); done; echo $s; }', shell=True, capture_output=True, text=True).stdout.strip())",
    "timeout": "import subprocess\ntry: subprocess.run(['sleep', '9'], timeout=0.2)\nexcept subprocess.TimeoutExpired: print(45)",
    "numpy threads": "import numpy as np, threading\nt = [threading.Thread(target=lambda: np.ones((200, 200)) @ np.ones((200, 200))) for _ in range(4)]\n[x.start() for x in t]; [x.join() for x in t]; print(45)",
}

FILES = {
    "tempfile": "import tempfile\nwith tempfile.NamedTemporaryFile('w+') as f: f.write('45'); f.seek(0); print(f.read())",
    "copy": "import shutil\nopen('a', 'w').write('45' * 1); shutil.copy('a', 'b'); shutil.copytree('.', '/tmp/c'); print(open('/tmp/c/b').read())",
    "sqlite": "import sqlite3\nc = sqlite3.connect('d'); c.execute('pragma journal_mode=wal'); c.execute('create table t(x)'); c.execute('insert into t values (45)'); c.commit()\nprint(*sqlite3.connect('d').execute('select x from t').fetchone())",
    "mmap": "import mmap\nopen('m', 'wb').write(b'45'); f = open('m', 'r+b'); print(mmap.mmap(f.fileno(), 0)[:2].decode())",
    "zip": "import zipfile\nwith zipfile.ZipFile('z', 'w') as z: z.writestr('x', '45')\nprint(zipfile.ZipFile('z').read('x').decode())",
    "locks": "import fcntl\nf = open('l', 'w'); fcntl.lockf(f, fcntl.LOCK_EX); fcntl.flock(f, fcntl.LOCK_EX); print(45)",
    "signals": "import signal, time\ndef f(*_): print(45)\nsignal.signal(signal.SIGALRM, f); signal.setitimer(signal.ITIMER_REAL, 0.05); time.sleep(0.3)",
    "ids": "import ssl, hashlib, uuid, secrets, getpass, ctypes, platform, resource, os\nuuid.uuid4(); secrets.token_hex(); platform.platform(); os.cpu_count(); print(45)",
    "streams": "import os, sys\nopen('/dev/stdout', 'w').write('4'); open('/proc/self/fd/1', 'w').write('5\\n')",
}


@pytest.mark.parametrize(("code", "expected"), [
    *((code, "1.5") for code in LIBRARIES.values()),
    *((code, "45") for code in PROCESSES.values()),
    *((code, "45") for code in FILES.values()),
], ids=[*LIBRARIES, *PROCESSES, *FILES])  # fmt: skip
@covers("F01 F02 F03 F04 F05 F07 F08 P26")
async def test_what_programs_do_works(attacker: Attacker, code: str, expected: str) -> None:
    """Libraries, threads, processes in all start methods, files, locks, signals: no system call of theirs is refused."""
    await run_and_compare(attacker.call, code, expected)


async def run_and_compare(call: Run, code: str, expected: str) -> None:
    result = await call(code, limits=LIMITS)
    assert (result.status, result.stderr) == (Status.OK, ""), told(result)
    if expected == "1.5":
        assert float(result.stdout) == 1.5, told(result)
    else:
        assert result.stdout.strip() == expected, told(result)


async def test_what_programs_do_works_is_really_caused_by() -> None:
    """ENOSYS for clone3: libraries take another way then; after EPERM, they do not."""
    async with bench(mutations.CLONE3_IS_REFUSED) as worker:
        with pytest.raises(AssertionError):
            await run_and_compare(worker.run, PROCESSES["threads"], "45")


@covers("F08 P27")
async def test_multiprocessing_over_the_loopback(attacker: Attacker) -> None:
    """With `network: loopback`, a manager and a connection on 127.0.0.1 work."""
    await run_over_the_loopback(attacker.call)


async def test_multiprocessing_over_the_loopback_is_really_caused_by() -> None:
    """The filter for loopback: under the other one there are no internet sockets."""
    async with bench(mutations.NO_LOOPBACK) as worker:
        with pytest.raises(AssertionError):
            await run_over_the_loopback(worker.run)


async def run_over_the_loopback(call: Run) -> None:
    code = (
        "import multiprocessing.managers as m, multiprocessing\nif __name__ == '__main__':\n"
        "    manager = m.SyncManager(address=('127.0.0.1', 0)); manager.start(); print(sum(manager.list(range(10))))"
    )
    result = await call(code, network="loopback", limits=LIMITS)
    assert (result.status, result.stdout) == (Status.OK, "45\n"), told(result)
