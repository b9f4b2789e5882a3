"""The durable queue between gateways and workers, on Redis Streams (Redis 7 or Valkey 8, not Cluster).

Owns every Redis key, and the states of a call: queued → running → done, queued → done, running → queued. Each
transition is one Lua script (`lua/`), so a crash or a race can only fall between two of them. Invariants:
- A call that was accepted ends with exactly one Result. The first end wins; a later attempt's is refused as stale.
- While a call has not ended, one stream entry stands for it; afterwards none does. Streams hold what is in flight.
- An attempt belongs to one worker, which owns it only while its heartbeat key lives; `recover` takes it back.
- A call's key holds its tenant: no request of one tenant can name a call of another.
- Tenants with calls queued share the slots by their weights, whatever each has queued.
- Every key expires, but for those on the permanent list (`keys.py`).
- Deadlines are read off the server's clock; hosts' clocks are never compared.

It does not read payloads or results, and knows nothing of HTTP, slots or code. Nothing else imports redis.
"""

from sandbox_service.queue.keys import is_permanent_key
from sandbox_service.queue.letters import DeadLetter
from sandbox_service.queue.policy import NO_LIMITS, Policy
from sandbox_service.queue.queue import Queue
from sandbox_service.queue.records import Ended, Execution, Record, State, Submission
from sandbox_service.queue.scripts import MAX_ATTEMPTS

__all__ = [
    "MAX_ATTEMPTS",
    "NO_LIMITS",
    "DeadLetter",
    "Ended",
    "Execution",
    "Policy",
    "Queue",
    "Record",
    "State",
    "Submission",
    "is_permanent_key",
]
