"""The jail's command line and the choice of its ids: pure functions of what the machine says."""

from __future__ import annotations

from pathlib import Path

import pytest

from sandbox_service.worker.nsjail import CODE_FOLDER, IdRange, choose_id_range, command


@pytest.mark.parametrize(
    ("uid_map", "expected"),
    [
        ("         0          0 4294967295\n", IdRange(100_000 + 9_999 * 4_096, 4_096)),  # no user namespace
        ("         0     100000      65536\n", IdRange(1_000, 4_096)),  # a container with one
        ("         0          0     165536\n", IdRange(100_000, 4_096)),
        ("         0          0     104095\n", IdRange(1_000, 4_096)),
        ("         0       1000          1\n         1     100000      65536\n", IdRange(1_000, 4_096)),  # rootless
        ("         0          0       5096\n", IdRange(1_000, 4_096)),
    ],
)
def test_ids_are_chosen_from_those_that_exist(uid_map: str, expected: IdRange) -> None:
    assert choose_id_range(uid_map, pick=lambda choices: choices - 1) == expected


@pytest.mark.parametrize("uid_map", ["", "0 1000 1\n", "0 0 5095\n"])
def test_too_few_ids_are_refused(uid_map: str) -> None:
    with pytest.raises(ValueError, match="at least 5096"):
        choose_id_range(uid_map)


def test_the_command_names_all_that_differs_from_jail_to_jail() -> None:
    words = command(
        Path("/bin/nsjail"), Path("/p/jail.cfg"), Path("/p/jail.policy"), Path("/images/x/rootfs"), Path("/run/code"),
        IdRange(1000, 4096), 17,
    )  # fmt: skip
    options = dict(zip(words[1:-1:2], words[2:-1:2], strict=True))
    assert words[0] == "/bin/nsjail"
    assert words[-1] == "--"
    assert options == {
        "--config": "/p/jail.cfg",
        "--seccomp_policy": "/p/jail.policy",
        "--chroot": "/images/x/rootfs",
        "--user": "0:1000:4096",
        "--group": "0:1000:4096",
        "--bindmount_ro": f"/run/code:{CODE_FOLDER}",
        "--pass_fd": "17",
    }
