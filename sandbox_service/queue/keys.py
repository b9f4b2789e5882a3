"""Every Redis key and channel of the service; none is named anywhere else. The scripts get these as constants."""

from __future__ import annotations

# A trailing colon: what follows names the call, batch, image, gateway or worker.
KEYS = {
    "CALL": "call:",  # hash per {tenant}:{id}
    "GONE": "gone:",  # per {tenant}:{id}: it was done; outlives the Result
    "BATCH": "batch:",  # hash per {tenant}:{batch}: the ids of its calls
    "WORK": "work:",  # stream per {image}:{class}:{tenant}: the lanes, which are removed when nobody uses them
    "LANES": "lanes",  # set of all streams
    "TURNS": "turns:",  # sorted set per {image}: tenants with queued calls, by the slot time they had
    "TENANT": "tenant:",  # hash per {tenant}: what it has queued and running, used, and may have
    "BACKLOG": "backlog",  # hash: calls queued, and bytes of all unfinished ones
    "WAKE": "wake:",  # list per {image}: a token wakes one waiting worker
    "UNWAIT": "unwait:",  # list per wait: a token ends it
    "WORKER": "worker:",  # per {worker}: its lease, and its images
    "WORKERS": "workers",  # set of names that may have a lease
    "DEAD": "dead",  # stream, bounded: calls that lost their worker twice
    "ENDED": "ended:",  # channel per gateway: calls that ended, with their Results
    "CANCELS": "cancels:",  # channel per worker: calls to kill
}
_PERMANENT = ("WORK", "LANES", "TURNS", "TENANT", "BACKLOG", "WORKERS", "DEAD")


def with_prefix(prefix: str) -> dict[str, str]:
    return {kind: f"{prefix}:{key}" for kind, key in KEYS.items()}


def is_permanent_key(key: str) -> bool:
    """Whether this key may stay forever: a fixed number of them exists per image and tenant, whatever the load."""
    _, _, name = key.partition(":")
    for kind in _PERMANENT:
        known = KEYS[kind]
        if name == known or (known.endswith(":") and name.startswith(known)):
            return True
    return False
