"""The Lua scripts as texts to run: each is constants + `lua/common.lua` + its own file."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from importlib.resources import files

from sandbox_service.models import CANCELLED_MESSAGE, Result, Status

MAX_ATTEMPTS = 2
GONE_FACTOR = 2
"""A call is known to have existed this many times as long as its Result can be fetched."""
WAKE_TTL_MS = 60_000
_DEAD_LETTERS = 1_000
_LETTER_BYTES = 256 * 2**10
"""A dead letter keeps its call, to be replayed, up to this size."""
_ANNOUNCED_BYTES = 4 * 2**10
"""A result up to this size is in the announcement of its call's end; a gateway fetches larger ones."""
_MEMORY = 128
"""How long a tenant's calls take is a mean over about this many of them."""
_NAMES = ("submit", "fetch", "claim", "finish", "retry", "release", "cancel", "recover", "sweep", "depth")


@dataclass(frozen=True, slots=True)
class Script:
    text: str
    sha: str
    """What EVALSHA names it by."""


def load_scripts(keys: dict[str, str], result_ttl_s: float) -> dict[str, Script]:
    # Called, `dict` refuses a name that would stand for two things.
    constants: dict[str, str | int] = dict(
        **keys,
        GROUP="workers",
        TICKET="+",
        MOST_ATTEMPTS=MAX_ATTEMPTS,
        DEAD_LETTERS=_DEAD_LETTERS,
        LETTER_BYTES=_LETTER_BYTES,
        ANNOUNCED_BYTES=_ANNOUNCED_BYTES,
        MEMORY=_MEMORY,
        WAKE_TTL_MS=WAKE_TTL_MS,
        RESULT_TTL_MS=round(result_ttl_s * 1000),
        GONE_TTL_MS=round(GONE_FACTOR * result_ttl_s * 1000),
        **_own_results(),
    )
    declared = "".join(f"local {name} = {_lua(value)}\n" for name, value in constants.items())
    folder = files("sandbox_service.queue") / "lua"
    common = (folder / "common.lua").read_text()
    scripts = {}
    for name in _NAMES:
        # A full server refuses new calls; those it has must still be able to end, which frees memory.
        first = "#!lua\n" if name == "submit" else "#!lua flags=allow-oom\n"
        text = first + declared + common + (folder / f"{name}.lua").read_text()
        scripts[name] = Script(text, hashlib.sha1(text.encode()).hexdigest())  # noqa: S324 (Redis chose it)
    return scripts


def _own_results() -> dict[str, str]:
    """Results that the queue itself gives, but for id, labels, attempts and timings, which the scripts fill in."""
    lost = Result(id="", status=Status.INFRA_ERROR, retryable=True)
    results = {
        "EXPIRED": Result(id="", status=Status.EXPIRED, message="its deadline passed before a worker was free"),
        "CANCELLED": Result(id="", status=Status.CANCELLED, message=CANCELLED_MESSAGE),
        "LOST": lost.model_copy(update={"message": f"its worker was lost {MAX_ATTEMPTS} times while it ran"}),
        "LOST_TOO_LATE": lost.model_copy(
            update={"message": "its worker was lost while it ran, and its deadline passed before another was free"}
        ),
    }
    return {name: result.model_dump_json() for name, result in results.items()}


def _lua(value: str | int) -> str:
    return str(value) if isinstance(value, int) else f"[==[{value}]==]"
