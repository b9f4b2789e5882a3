"""Whose CPU time it was, from /proc before and after: each part of the service's, the clients', and that of others.

A child's time is in its zygote's account of the dead it has reaped; that of a slot's init is its own. Times are what
the scheduler counted, in steps of a hundredth of a second, so a figure needs seconds of work behind it.
"""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from loadtest.load.cluster import Cluster

TICK_S = 1 / os.sysconf("SC_CLK_TCK")
CPUS = len(os.sched_getaffinity(0))
PARTS = ("gateway", "redis", "worker", "zygote", "child", "init", "generator")
BUSY_LIMIT = 0.05
"""A measurement is valid while others take less than this share of all CPUs."""
_KTHREADD = 2
_HELPERS = ("kworker", "ksoftirqd", "rcu")


@dataclass
class Account:
    """CPU seconds and minor page faults, by part."""

    at: float = 0.0
    busy_s: float = 0.0
    stolen_s: float = 0.0
    own_s: float = 0.0
    kernel_s: dict[int, float] = field(default_factory=dict)
    """Of each of the kernel's threads that unmounts, frees or sends for whoever runs."""
    cpu_s: dict[str, float] = field(default_factory=lambda: defaultdict(float))
    faults: dict[str, int] = field(default_factory=lambda: defaultdict(int))
    rss_mb: dict[str, float] = field(default_factory=lambda: defaultdict(float))

    def since(self, before: Account) -> Account:
        """What was used between two accounts; memory is as it is now."""
        return Account(
            self.at - before.at,
            self.busy_s - before.busy_s,
            self.stolen_s - before.stolen_s,
            self.own_s - before.own_s,
            {pid: used - before.kernel_s[pid] for pid, used in self.kernel_s.items() if pid in before.kernel_s},
            {part: used - before.cpu_s.get(part, 0.0) for part, used in self.cpu_s.items()},
            {part: used - before.faults.get(part, 0) for part, used in self.faults.items()},
            dict(self.rss_mb),
        )

    @property
    def service_s(self) -> float:
        return sum(used for part, used in self.cpu_s.items() if part != "generator")

    @property
    def foreign_share(self) -> float:
        """The share of all CPUs that neither the test nor the service used."""
        own_s = self.own_s + sum(self.kernel_s.values())
        return max(0.0, self.busy_s - own_s + self.stolen_s) / (self.at * CPUS)

    @property
    def is_valid(self) -> bool:
        return self.foreign_share < BUSY_LIMIT


@dataclass(frozen=True)
class _Process:
    name: str
    parent: int
    own_s: float
    reaped_s: float
    own_faults: int
    reaped_faults: int
    rss_mb: float


_PAGE_MB = os.sysconf("SC_PAGE_SIZE") / 2**20


def _processes() -> dict[int, _Process]:
    found = {}
    for entry in os.scandir("/proc"):
        if not entry.name.isdigit():
            continue
        try:
            name, _, rest = Path(entry.path, "stat").read_bytes().rpartition(b")")
        except OSError:
            continue  # it has ended
        fields = rest.split()
        parent, minor, reaped_minor = int(fields[1]), int(fields[7]), int(fields[8])
        user, system, reaped_user, reaped_system = map(int, fields[11:15])
        own, reaped = TICK_S * (user + system), TICK_S * (reaped_user + reaped_system)
        rss_mb = int(fields[21]) * _PAGE_MB
        comm = name.partition(b"(")[2].decode(errors="replace")
        found[int(entry.name)] = _Process(comm, parent, own, reaped, minor, reaped_minor, rss_mb)
    return found


def _machine() -> tuple[float, float]:
    """CPU seconds that all CPUs were busy, and that a hypervisor took, since the start."""
    user, nice, system, _, _, irq, softirq, steal, *_ = map(
        int, Path("/proc/stat").read_text().partition("\n")[0].split()[1:]
    )
    return TICK_S * (user + nice + system + irq + softirq), TICK_S * steal


def parts(service: Cluster) -> dict[int, str]:
    """Which part of the service each of its processes is, by its id."""
    return _parts(service, _children(_processes()))


def _children(table: Mapping[int, _Process]) -> defaultdict[int, list[int]]:
    children: defaultdict[int, list[int]] = defaultdict(list)
    for pid, process in table.items():
        children[process.parent].append(pid)
    return children


def _parts(service: Cluster, children: defaultdict[int, list[int]]) -> dict[int, str]:
    parts = {service.redis.pid: "redis"}
    parts |= {process.pid: "gateway" for process in service.gateways}
    for worker in service.workers:
        parts[worker.pid] = "worker"
        for jail in children[worker.pid]:
            parts[jail] = "jail"
            for zygote in children[jail]:
                parts[zygote] = "zygote"
                parts |= dict.fromkeys(children[zygote], "init")
    return parts


def take(service: Cluster | None, at: float) -> Account:
    """Read the account of this process, all below it, and the parts of `service`, which are below it too."""
    table = _processes()
    children = _children(table)
    account = Account(at)
    account.busy_s, account.stolen_s = _machine()
    below, line = set(), [os.getpid()]
    while line:
        pid = line.pop()
        if pid in table:
            below.add(pid)
            line += children[pid]
    account.own_s = sum(table[pid].own_s + table[pid].reaped_s for pid in below)
    account.kernel_s = {
        pid: one.own_s
        for pid, one in table.items()
        if one.parent == _KTHREADD and not one.rss_mb and one.name.startswith(_HELPERS)
    }
    parts = {} if service is None else _parts(service, children)
    for pid, part in parts.items():
        if pid not in table:
            continue
        process = table[pid]
        if part == "zygote":
            account.cpu_s["child"] += process.reaped_s
            account.faults["child"] += process.reaped_faults
        elif part == "init":
            account.cpu_s["init"] += process.reaped_s
        if part != "jail":
            account.cpu_s[part] += process.own_s
            account.faults[part] += process.own_faults
            account.rss_mb[part] += process.rss_mb
    account.cpu_s["generator"] = sum(
        table[pid].own_s + (table[pid].reaped_s if pid == os.getpid() else 0.0) for pid in below - set(parts)
    )
    return account
