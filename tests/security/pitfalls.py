# ruff: noqa: E501 (a table)
"""The forty pitfalls of running programs in a forked interpreter, and what became of each here.

One is closed if a test covers it (the mark `covers`), in this suite or in a file named here; else it is accepted,
with the reason. `report.py` writes this into SECURITY.md.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Pitfall:
    title: str
    elsewhere: tuple[str, ...] = ()
    """Test files outside of this suite that cover it."""
    accepted: str = ""
    """What remains, and why that is accepted."""


PITFALLS = {
    "P1": Pitfall("what the zygote has read, every later child can read"),
    "P2": Pitfall("random state shared by all children of a fork", ("tests/inside/test_faithful.py",)),
    "P3": Pitfall("libraries that notice a fork by the process id"),
    "P4": Pitfall("threads at the fork", ("tests/inside/test_faithful.py",)),
    "P5": Pitfall("descriptors that leak"),
    "P6": Pitfall("accounting that is inherited"),
    "P7": Pitfall("memory layout and hash seed shared", (),
                  "the hash seed is one on purpose, the layout until the zygote is replaced; what parses a program's bytes outside is small"),
    "P8": Pitfall("signals, umask, folder, modules and hooks inherited", ("tests/inside/test_faithful_in_the_jail.py",)),
    "P9": Pitfall("a program that is pid 1"),
    "P10": Pitfall("kills by process id"),
    "P11": Pitfall("a deadline that the program itself keeps"),
    "P12": Pitfall("waiting for the pipe instead of the exit"),
    "P13": Pitfall("processes that cannot be killed", (), "a process stuck in the kernel cannot be made on purpose; the jail is given up after 20 s"),
    "P14": Pitfall("tracing between processes"),
    "P15": Pitfall("what the kernel counts by user", (),
                   "two workers on one machine can draw the same of 10,000 ranges of user ids; what is counted by user alone is bounded or charged to the call"),
    "P16": Pitfall("the zygote as the victim when memory ends"),
    "P17": Pitfall("file systems in memory, pipes and sockets as memory", (),
                   "record locks (fcntl) are charged to nobody: some 60 MiB for each second of CPU time, freed when the call ends"),
    "P18": Pitfall("floods of output"),
    "P19": Pitfall("CPU time of a neighbour", (), "weight, not quota: a call may use what is idle; caches are shared"),
    "P20": Pitfall("shared loopback ports and abstract names"),
    "P21": Pitfall("shared memory and queues by name"),
    "P22": Pitfall("writes to the page cache of read-only files", (), "a hole in the kernel that needs no call we refuse stays one"),
    "P23": Pitfall("what no namespace separates", (), "file locks and futexes on files of the image are a covert channel between calls that run at the same time"),
    "P24": Pitfall("io_uring"),
    "P25": Pitfall("user namespaces as attack surface"),
    "P26": Pitfall("clone3 and unknown system calls", ("tests/inside/test_seccomp_compiled.py",)),
    "P27": Pitfall("arguments compared in more bits than the kernel takes", ("tests/inside/test_seccomp_compiled.py",)),
    "P28": Pitfall("x32 numbers, and filters that end a thread", ("tests/inside/test_seccomp_jail.py",)),
    "P29": Pitfall("a nested /proc"),
    "P30": Pitfall("two filters, the inner one last and checked", ("tests/inside/test_seccomp_jail.py", "tests/inside/test_seccomp_kernel.py")),
    "P31": Pitfall("frames, hooks and objects of the runner"),
    "P32": Pitfall("results that can be forged"),
    "P33": Pitfall("ways of judging", (), "assertions inside the code are the code's own word"),
    "P34": Pitfall("posing as the zygote"),
    "P35": Pitfall("hooks that run before the sandbox, variables that steer the loader"),
    "P36": Pitfall("set-up failures that fail open"),
    "P37": Pitfall("the host touching a program's files", ("tests/inside/test_fetch.py",)),
    "P38": Pitfall("ids of clients as paths", ("tests/gateway/test_calls.py",)),
    "P39": Pitfall("userfaultfd, perf, keys, core files, terminals, modules"),
    "P40": Pitfall("timing of shared pages", (), "tells that neighbours run, not what: random slot, nothing kept per slot, no inotify"),
}  # fmt: skip
