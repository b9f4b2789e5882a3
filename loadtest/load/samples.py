"""What the CPUs were doing, from `perf`: samples with call chains, each given to a part of the service and to a kind of
work. The CPUs' timer takes them, which virtual machines have too; instructions are counted where that is possible.
"""

from __future__ import annotations

import re
import shutil
import signal
import subprocess
import tempfile
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

_HZ = 997
KINDS = ("page faults", "fork", "exit", "seccomp", "system calls", "interpreter", "native code", "kernel, else")
_SYSTEM_CALLS = {"clone": "fork", "clone3": "fork", "fork": "fork", "vfork": "fork", "seccomp": "seccomp"}
_SYSTEM_CALLS |= {"exit_group": "exit", "exit": "exit", "wait4": "system calls"}
_FORK = re.compile(r"PERF_RECORD_FORK\((\d+):\d+\):\((\d+):\d+\)")
_HEAD = re.compile(r"\S.*?\s+(\d+)/\d+\s+cpu-clock")
_FRAME = re.compile(r"\s+[0-9a-f]+ (.+) \((.*)\)$")
_NAME = re.compile(r"^(?:__x64_sys_|__do_sys_|__sys_|ksys_|kernel_|do_)")


class NoPerf(Exception):
    """`perf` is not there, or may not look."""


@dataclass
class Samples:
    """How many samples each part had of each kind and in each function; `idle`, and `others` of the machine, too."""

    kinds: dict[str, Counter[str]] = field(default_factory=lambda: defaultdict(Counter))
    functions: dict[str, Counter[str]] = field(default_factory=lambda: defaultdict(Counter))
    idle: int = 0
    others: int = 0
    instructions: float | None = None
    """Of all CPUs; None where the machine has no counter for them."""


@contextmanager
def sampling(parts: Mapping[int, str]) -> Iterator[Samples]:
    """Sample all CPUs within; the samples are there after it. `parts` says which process belongs to which part."""
    if shutil.which("perf") is None:
        raise NoPerf("`perf` is not installed (Debian: apt-get install linux-perf)")
    samples = Samples()
    with tempfile.TemporaryDirectory(prefix="perf-") as folder:
        data, counted = Path(folder, "data"), Path(folder, "counted")
        record = ["perf", "record", "--quiet", "-a", "-g", "-e", "cpu-clock", "-F", str(_HZ), "-o", str(data)]
        count = ["perf", "stat", "-a", "-x", ",", "-e", "instructions", "-o", str(counted)]
        running = [subprocess.Popen(each, stderr=subprocess.PIPE, text=True) for each in (record, count)]
        try:
            yield samples
        finally:
            for process in running:
                process.send_signal(signal.SIGINT)
            said = [process.communicate(timeout=60)[1] for process in running]
        if not data.exists():
            raise NoPerf(f"`perf record` cannot: {said[0].strip()[:300]}")
        script = ["perf", "script", "-i", str(data), "--no-inline", "--show-task-events"]
        told = subprocess.run(
            [*script, "-F", "comm,pid,tid,event,ip,sym,dso"], capture_output=True, text=True, errors="replace"
        )
        read(told.stdout.splitlines(), parts, samples)
        samples.instructions = _instructions(counted.read_text() if counted.exists() else "")


def _instructions(text: str) -> float | None:
    for line in text.splitlines():
        value, _, rest = line.partition(",")
        if "instructions" in rest and value.replace(".", "").isdigit():
            return float(value)
    return None


def read(lines: Sequence[str], parts: Mapping[int, str], samples: Samples) -> None:
    parents: dict[int, int] = {}
    pid, chain = -1, list[tuple[str, str]]()
    for line in [*lines, ""]:
        if frame := _FRAME.match(line):
            chain.append((frame[1], frame[2]))
            continue
        if pid >= 0:
            _add(samples, _part(pid, parts, parents), pid, chain)
        pid, chain = -1, []
        if fork := _FORK.search(line):
            parents[int(fork[1])] = int(fork[2])
        elif head := _HEAD.match(line):
            pid = int(head[1])


def _part(pid: int, parts: Mapping[int, str], parents: Mapping[int, int]) -> str | None:
    """The part that a process belongs to: its own, or that of the next ancestor that has one."""
    own = pid in parts
    while pid not in parts:
        if pid not in parents or parents[pid] == pid:
            return None
        pid = parents[pid]
    return "child" if parts[pid] == "zygote" and not own else parts[pid]


def _add(samples: Samples, part: str | None, pid: int, chain: Sequence[tuple[str, str]]) -> None:
    if pid == 0:
        samples.idle += 1
    elif part is None:
        samples.others += 1
    elif chain:
        kind, call = kind_of(chain)
        samples.kinds[part][kind] += 1
        name, image = chain[0]
        where = call or Path(image).name.partition(".")[0]
        samples.functions[part][f"{name} ({where})" if name != "[unknown]" else where] += 1


def kind_of(chain: Sequence[tuple[str, str]]) -> tuple[str, str | None]:
    """The kind of work of a call chain, innermost function first; in the kernel also what led there."""
    if "kernel" not in chain[0][1]:
        # perf-PID.map is what `perf` has for code in anonymous memory: here the interpreter's, on huge pages.
        is_interpreter = Path(chain[0][1]).name.startswith(("libpython", "python3", "perf-"))
        return "interpreter" if is_interpreter else "native code", None
    kernel = [name for name, image in chain if "kernel" in image]
    if any(name.endswith("exc_page_fault") for name in kernel):
        return "page faults", "page fault"
    if "do_syscall_64" in kernel:
        inner = [name for name in kernel[: kernel.index("do_syscall_64")] if name != "x64_sys_call"]
        call = _NAME.sub("", inner[-1]) if inner else "entry"
        return _SYSTEM_CALLS.get(call, "system calls"), call
    return "kernel, else", "interrupt" if any("interrupt" in name for name in kernel) else "kernel"
