"""The nsjail command line of one jail; a pure function. What never changes stands in deploy/jail.cfg."""

from __future__ import annotations

import secrets
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

CODE_FOLDER = "/sandbox"
_FIRST_ID, _IDS, _RANGES = 100_000, 4_096, 10_000


@dataclass(frozen=True)
class IdRange:
    """User ids outside the jail that its ids from 0 on are mapped to; the same numbers serve as group ids."""

    first: int
    count: int

    @property
    def mapping(self) -> str:
        return f"0:{self.first}:{self.count}"


def choose_id_range(uid_map: str, pick: Callable[[int], int] = secrets.randbelow) -> IdRange:
    """Choose ids for a worker's jails from the text of /proc/self/uid_map (user_namespaces(7)).

    At random, where there are enough, so that two workers on one machine do not share what the kernel counts by
    user. Raise ValueError if this user namespace has too few ids to keep jails away from the ids that people use.
    """
    available = max((int(inside) + int(count) for inside, _, count in map(str.split, uid_map.splitlines())), default=0)
    for first, choices in ((_FIRST_ID, _RANGES), (_FIRST_ID, 1), (1_000, 1)):
        if first + choices * _IDS <= available:
            return IdRange(first + pick(choices) * _IDS, _IDS)
    raise ValueError(f"this user namespace maps {available} ids only; at least 5096 are needed")


def command(
    binary: Path, policy: Path, seccomp_policy: Path, rootfs: Path, code: Path, ids: IdRange, control_fd: int
) -> list[str]:
    """Return the argument list up to `--`; the command to run in the jail follows it.

    `code` is mounted read-only on CODE_FOLDER. `control_fd` is kept open in the jail under the same number.
    """
    return [
        str(binary),
        *("--config", str(policy)),
        *("--seccomp_policy", str(seccomp_policy)),
        *("--chroot", str(rootfs)),
        *("--user", ids.mapping),
        *("--group", ids.mapping),
        *("--bindmount_ro", f"{code}:{CODE_FOLDER}"),
        *("--pass_fd", str(control_fd)),
        "--",
    ]
