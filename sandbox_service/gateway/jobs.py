"""From a client's Call to what the queue stores: ids, resolved limits, digest. Pure: no I/O, no clock.

Raises InvalidCall for what the schema alone cannot decide: an id twice in one batch, files larger than the disk limit,
an expected output larger than what is kept of the real one.
"""

from __future__ import annotations

import hashlib
import secrets

from sandbox_service.config import Settings
from sandbox_service.errors import InvalidCall
from sandbox_service.models import Batch, Call, Job, Limits
from sandbox_service.queue import Submission


def new_id() -> str:
    """Return an id that nobody can guess."""
    return secrets.token_hex(16)


def name_calls(batch: Batch, batch_id: str) -> list[str]:
    """Return the id of each call, in order: its own, or its place in the batch (clients cannot write a dot)."""
    ids = [call.id if call.id is not None else f"{batch_id}.{index}" for index, call in enumerate(batch.calls)]
    if len(set(ids)) != len(ids):
        seen: set[str] = set()
        for index, call_id in enumerate(ids):
            if call_id in seen:
                raise InvalidCall(
                    f"calls.{index}.id: {call_id!r} is the id of an earlier call", field=f"calls.{index}.id"
                )
            seen.add(call_id)
    return ids


def submission(
    call: Call,
    call_id: str,
    settings: Settings,
    *,
    age_s: float,
    keep: bool,
    within_s: float | None = None,
    place: str = "",
) -> Submission:
    """Return `call` ready for the queue. `keep`: somebody will hold a ticket for it. `within_s`: its transport's own
    deadline, counted from its arrival as `timeout_s` is. `place` is put before the names of fields (`calls.3.`)."""
    limits, lowered = settings.resolve(call.limits)
    _check_files(call, limits, place)
    _check_expected(call, limits, place)
    timeout_s = call.timeout_s or settings.default_timeout_s
    # The digest is of what was asked, before policy and deadlines: a repeat under others is no conflict.
    asked = call.model_dump_json(exclude={"id"}, exclude_defaults=True)
    return Submission(
        id=call_id,
        payload=_payload(call, call_id, limits, lowered, asked).encode(),
        digest=hashlib.sha256(asked.encode()).hexdigest(),
        image=call.image if call.image is not None else settings.image,
        priority=call.priority,
        labels=call.labels,
        timeout_s=max(0.0, (timeout_s if within_s is None else min(timeout_s, within_s)) - age_s),
        age_s=age_s,
        keep=keep,
    )


def _payload(call: Call, call_id: str, limits: Limits, lowered: list[str], asked: str) -> str:
    """Return the Job as JSON. Most calls set no limits: then it is what was asked with two fields more."""
    if not any(limit is not None for limit in call.limits.__dict__.values()):
        return f'{{"id":"{call_id}","limits":{limits.model_dump_json()},{asked[1:]}'
    job = Job.model_construct(**{**call.__dict__, "id": call_id, "limits": limits, "lowered": lowered})
    return job.model_dump_json(exclude_defaults=True)


def _check_files(call: Call, limits: Limits, place: str) -> None:
    if not call.files:
        return
    assert limits.disk_mb is not None
    total = sum(_decoded_size(content) for content in call.files.values())
    if total > limits.disk_mb * 2**20:
        raise InvalidCall(
            f"{place}files: they are {total} bytes together; the call's disk limit is {limits.disk_mb} MiB",
            field=f"{place}files",
        )


def _check_expected(call: Call, limits: Limits, place: str) -> None:
    """A cut stdout never passes, so the shortest stdout that would has to fit into what is kept."""
    if call.expected_stdout is None:
        return
    assert limits.output_kb is not None
    expected = call.expected_stdout.encode()
    kept = limits.output_kb * 2**10
    if len(expected) <= kept:
        return
    if call.compare == "strip":
        expected = expected.strip()
    elif call.compare == "lines":
        expected = b"\n".join(line.rstrip() for line in expected.rstrip().split(b"\n"))
    if len(expected) > kept:
        raise InvalidCall(
            f"{place}expected_stdout: it is {len(expected)} bytes long, but only {limits.output_kb} KiB of stdout are "
            "kept, so it could never pass; raise limits.output_kb (its maximum is SANDBOX_MAX_OUTPUT_KB)",
            field=f"{place}expected_stdout",
        )


def _decoded_size(content: str) -> int:
    return len(content) // 4 * 3 - content.count("=", -2)
