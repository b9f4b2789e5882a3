"""The container files name things of the package; these tests tell when one of them no longer exists.

What the files do is tested by scripts/image-test.sh and scripts/uml.sh.
"""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from sandbox_service import metrics
from sandbox_service.config import Settings

ROOT = Path(__file__).parents[2]
DASHBOARD = ROOT / "deploy/grafana/dashboards/sandbox.json"
PROFILE = json.loads((ROOT / "deploy/seccomp-container.json").read_text())


def test_dashboard_asks_for_metrics_that_exist() -> None:
    """A panel of a renamed metric would stay empty and look like a quiet service."""
    known = {
        name
        for registry in (metrics.GATEWAY, metrics.WORKER)
        for family in registry.collect()
        for name in (family.name, f"{family.name}_total", f"{family.name}_bucket")
    }
    asked = set(re.findall(r"\bsandbox_\w+", DASHBOARD.read_text()))
    assert len(asked) > 10
    assert asked - known == set()


def test_compose_sets_settings_that_exist() -> None:
    """A misspelt variable would be ignored without a word."""
    known = {f"SANDBOX_{name.upper()}" for name in Settings.model_fields}
    named = set(re.findall(r"SANDBOX_[A-Z_]+", (ROOT / "docker-compose.yml").read_text()))
    assert named
    assert named - known == set()


def test_stages_share_one_pinned_base() -> None:
    """The image is made from the interpreter it runs under (rootfs.py compares the two); the tag is a full one."""
    bases = set(re.findall(r"^FROM (\w+:\S+)", (ROOT / "Dockerfile").read_text(), re.M))
    assert bases == {"python:3.12-slim-bookworm"}


def test_container_is_never_privileged() -> None:
    """Three capabilities and no more: what is granted is seen in review, here."""
    text = re.sub(r"#.*", "", (ROOT / "docker-compose.yml").read_text())
    assert re.findall(r"cap_add:((?:\s+- \w+)+)", text) == ["\n      - SETUID  \n      - SETGID  \n      - CHOWN"]
    assert (
        re.search(r"privileged\s*:|SYS_ADMIN|docker\.sock|network_mode: host|pid: host|seccomp=unconfined", text)
        is None
    )


@pytest.mark.parametrize(
    "name", ["bpf", "ptrace", "keyctl", "userfaultfd", "io_uring_setup", "perf_event_open", "init_module", "kexec_load"]
)
def test_container_filter_refuses(name: str) -> None:
    """Calls that reach the kernel rather than a namespace are refused to the whole container, not to the jail alone."""
    rules = [rule for rule in PROFILE["syscalls"] if name in rule["names"]]
    assert PROFILE["defaultAction"] == "SCMP_ACT_ERRNO"
    assert [rule["action"] for rule in rules] == ["SCMP_ACT_ERRNO"]


def test_container_filter_allows_sockets_of_four_families_only() -> None:
    """AF_VSOCK reaches the hypervisor, AF_ALG and AF_RXRPC the kernel's parsers: no rule lets them pass."""
    rules = [rule for rule in PROFILE["syscalls"] if "socket" in rule["names"]]
    families = {(rule["args"][0]["value"], rule["args"][0]["op"]) for rule in rules}
    assert families == {(family, "SCMP_CMP_EQ") for family in (1, 2, 10, 16)}
