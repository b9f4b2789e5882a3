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
    "socket options": (
        "import socket as module, struct\nfrom socket import *\na, b = socketpair()\n"
        "for name in ('SO_SNDBUF', 'SO_RCVBUF', 'SO_REUSEADDR', 'SO_PASSCRED', 'SO_KEEPALIVE'): a.setsockopt(SOL_SOCKET, getattr(module, name), 1)\n"
        "a.setsockopt(SOL_SOCKET, SO_RCVTIMEO, struct.pack('ll', 1, 0))\n"
        "names = 'SO_TYPE', 'SO_DOMAIN', 'SO_PROTOCOL', 'SO_ERROR', 'SO_ACCEPTCONN'\n"
        "print(45 + sum(b.getsockopt(SOL_SOCKET, getattr(module, name)) for name in names) - SOCK_STREAM - AF_UNIX)\n"
        "import os; assert struct.unpack('3i', a.getsockopt(SOL_SOCKET, SO_PEERCRED, 12)) == (os.getpid(), os.getuid(), os.getgid())"
    ),
    "pipeline": "import subprocess; print(subprocess.run('seq 9 | { s=0; while read n; do s=$((s+n)); done; echo $s; }', shell=True, capture_output=True, text=True).stdout.strip())",
    "timeout": "import subprocess\ntry: subprocess.run(['sleep', '9'], timeout=0.2)\nexcept subprocess.TimeoutExpired: print(45)",
    "numpy threads": "import numpy as np, threading\nt = [threading.Thread(target=lambda: np.ones((200, 200)) @ np.ones((200, 200))) for _ in range(4)]\n[x.start() for x in t]; [x.join() for x in t]; print(45)",
}

OVER_THE_LOOPBACK = {
    "http": (
        "import http.server, threading, urllib.request\n"
        "class H(http.server.BaseHTTPRequestHandler):\n"
        "    def do_GET(self): self.send_response(200); self.end_headers(); self.wfile.write(b'45')\n"
        "    def log_message(self, *_): pass\n"
        "s = http.server.ThreadingHTTPServer(('127.0.0.1', 0), H); threading.Thread(target=s.serve_forever, daemon=True).start()\n"
        "print(urllib.request.urlopen(f'http://127.0.0.1:{s.server_port}').read().decode())"
    ),
    "asyncio streams": (
        "import asyncio\nasync def answer(r, w): w.write(await r.readline()); await w.drain(); w.close()\n"
        "async def f():\n    for host in ('127.0.0.1', '::1', None):\n"
        "        s = await asyncio.start_server(answer, host, 0, reuse_address=True, reuse_port=True)\n"
        "        r, w = await asyncio.open_connection(*s.sockets[0].getsockname()[:2]); w.write(b'45\\n'); got = await r.readline()\n"
        "    print(got.decode().strip())\nasyncio.run(f())"
    ),
    "datagrams": (
        "import asyncio\nclass P(asyncio.DatagramProtocol):\n    def datagram_received(self, data, _): print(data.decode()); done.set()\n"
        "async def f():\n    global done; done = asyncio.Event(); l = asyncio.get_running_loop()\n"
        "    t, _ = await l.create_datagram_endpoint(P, ('127.0.0.1', 0), allow_broadcast=True)\n"
        "    c, _ = await l.create_datagram_endpoint(P, remote_addr=t.get_extra_info('sockname')); c.sendto(b'45'); await done.wait()\nasyncio.run(f())"
    ),
    "options": (
        "import socket as module, struct\nfrom socket import *\nl = create_server(('::', 0), family=AF_INET6, dualstack_ipv6=True, reuse_port=True)\n"
        "c = create_connection(('127.0.0.1', l.getsockname()[1]), timeout=5); s, _ = l.accept()\n"
        "for level, names in ((SOL_SOCKET, 'SO_KEEPALIVE SO_RCVBUF SO_SNDBUF'), (IPPROTO_TCP, 'TCP_NODELAY TCP_KEEPIDLE TCP_KEEPCNT TCP_QUICKACK')):\n"
        "    for name in names.split(): c.setsockopt(level, getattr(module, name), 1)\n"
        "c.setsockopt(SOL_SOCKET, SO_LINGER, struct.pack('ii', 1, 0)); c.setsockopt(IPPROTO_IP, IP_TTL, 9); c.getsockopt(IPPROTO_TCP, TCP_INFO, 99)\n"
        "assert c.getsockopt(SOL_SOCKET, SO_ERROR) == 0; c.sendall(b'45'); print(s.recv(9).decode())"
    ),
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


@pytest.mark.parametrize("code", OVER_THE_LOOPBACK.values(), ids=[*OVER_THE_LOOPBACK])
@covers("F02 F08 P27")
async def test_servers_over_the_loopback(attacker: Attacker, code: str) -> None:
    """With `network: loopback`, http.server, asyncio's streams and datagrams, and the usual socket options work."""
    result = await attacker.call(code, network="loopback", limits=LIMITS)
    assert (result.status, result.stdout, result.stderr) == (Status.OK, "45\n", ""), told(result)


async def run_over_the_loopback(call: Run) -> None:
    code = (
        "import multiprocessing.managers as m, multiprocessing\nif __name__ == '__main__':\n"
        "    manager = m.SyncManager(address=('127.0.0.1', 0)); manager.start(); print(sum(manager.list(range(10))))"
    )
    result = await call(code, network="loopback", limits=LIMITS)
    assert (result.status, result.stdout) == (Status.OK, "45\n"), told(result)
