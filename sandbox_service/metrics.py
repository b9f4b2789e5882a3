"""Every metric of the service, with its meaning. Ids, tenants and labels are never metric labels.

Gateway and worker have a registry each, and export that one alone: what a process does not measure would be a zero
that looks like a measurement.
"""

from __future__ import annotations

from prometheus_client import (
    GC_COLLECTOR,
    PLATFORM_COLLECTOR,
    PROCESS_COLLECTOR,
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
)

_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)


def _registry() -> CollectorRegistry:
    """Return a registry of the process's own figures: CPU time, memory, descriptors, garbage collection."""
    registry = CollectorRegistry()
    for collector in (PROCESS_COLLECTOR, PLATFORM_COLLECTOR, GC_COLLECTOR):
        registry.register(collector)
    return registry


GATEWAY = _registry()
CALLS_ACCEPTED = Counter("sandbox_calls_accepted", "Calls accepted into the queue", registry=GATEWAY)
CALLS_REFUSED = Counter(
    "sandbox_calls_refused", "Requests refused before acceptance, by error code", ["code"], registry=GATEWAY
)
CALLS_IN_FLIGHT = Gauge("sandbox_calls_in_flight", "Calls this gateway is waiting for", registry=GATEWAY)
QUEUE_DEPTH = Gauge("sandbox_queue_depth", "Calls in the queue that no worker has claimed yet", registry=GATEWAY)
UNFINISHED_BYTES = Gauge("sandbox_unfinished_bytes", "Bytes of all calls that have not ended yet", registry=GATEWAY)

WORKER = _registry()
RESULTS = Counter("sandbox_results", "Results, by status", ["status"], registry=WORKER)
STALE_RESULTS = Counter(
    "sandbox_stale_results", "Results refused because another attempt owned the call", registry=WORKER
)
QUEUE_WAIT = Histogram(
    "sandbox_queue_wait_seconds", "From acceptance to a worker's claim", buckets=_SECONDS, registry=WORKER
)
RUN_TIME = Histogram("sandbox_run_seconds", "From the fork to the child's exit", buckets=_SECONDS, registry=WORKER)
FORK_TIME = Histogram(
    "sandbox_fork_seconds", "From asking the zygote to its report of the fork", buckets=_SECONDS, registry=WORKER
)
SECOND_ATTEMPTS = Counter(
    "sandbox_second_attempts", "Executions that repeat one lost to a fault of ours", registry=WORKER
)
STARVED = Counter(
    "sandbox_starved_executions",
    "Executions repeated because they hit their wall limit for want of a CPU",
    registry=WORKER,
)
SLOTS = Gauge("sandbox_slots", "Executions this worker can run at once", registry=WORKER)
SLOTS_BUSY = Gauge("sandbox_slots_busy", "Executions under way", registry=WORKER)
PAUSED = Gauge(
    "sandbox_worker_paused",
    "1 while this worker claims no calls because it could not start them (no descriptor, process or jail)",
    registry=WORKER,
)
SLOTS_RETIRED = Counter(
    "sandbox_slots_retired", "Slots given up because they could not be verified clean", ["reason"], registry=WORKER
)
JAILS_RESTARTED = Counter("sandbox_jails_restarted", "Jails started again after they were lost", registry=WORKER)
PROFILE_CALLS = Counter(
    "sandbox_profile_calls", "Executions, by the preload profile that served them", ["profile"], registry=WORKER
)
CANARY_PASSED = Gauge(
    "sandbox_canary_passed_timestamp_seconds", "When the self-test last passed in all jails", registry=WORKER
)
CANARY_FAILURES = Counter(
    "sandbox_canary_failures", "Self-tests of a serving worker that found a layer missing", registry=WORKER
)
