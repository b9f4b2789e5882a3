"""A router for verl that places rollouts by KV cache (paper 3.2), with the scheduler of our trainer inside.

    router_class: sandbox_service.integrations.verl.router.KVRouter
    kv_tokens: 400000        # of one server: vLLM logs "GPU KV cache size: 400,000 tokens"
    max_response: 12288      # rollout.response_length

A rollout waits in `acquire_server` until a server has room for what rollouts are expected to need, stays on that
server to its end (also while its tools run), and gives its place back when `rstar2` says that it ended. verl routes
turns, and has no way to stop one: a rollout that the scheduler preempts or moves goes on to the end of its turn, and
its next turn waits for the new place.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import Any

import ray

from sandbox_service.integrations.verl.hooks import fits
from sandbox_service.trainer.scheduler import Abort, Generate, Policy, Scheduler

fits("router")
_AT_ONCE = 1_000_000


@dataclass
class _Trajectory:
    prompt: int
    length: int
    place: tuple[str, int] | None = None
    """Server and attempt; None while it waits."""
    ended: bool = False
    placed: asyncio.Event = field(default_factory=asyncio.Event)


class Router:
    """Its methods are verl's RequestLoadBalancer."""

    def __init__(self, servers: dict[str, Any], yaml_config: dict[str, Any]) -> None:
        known = {"router_class", "kv_tokens", "max_response", "policy"}
        if unknown := set(yaml_config) - known:
            raise ValueError(f"the router has no setting {min(unknown)}; there are: {', '.join(sorted(known))}")
        self._kv_tokens = int(yaml_config["kv_tokens"])
        self._limit = int(yaml_config["max_response"])
        self._scheduler = Scheduler(Policy(yaml_config.get("policy", Policy.EXPECTED)), self._limit)
        self._servers: dict[str, Any] = {}
        self._trajectories: dict[str, _Trajectory] = {}
        self._inflight: dict[str, int] = {}
        self._join(servers)

    async def acquire_server(self, request_id: str, prompt_ids: list[int] | None = None) -> tuple[str, Any]:
        """Wait for a place. `prompt_ids`: all tokens of the trajectory so far."""
        if not self._servers:
            raise RuntimeError("No available servers in load balancer")  # these words tell verl to ask again
        length = len(prompt_ids or ())
        trajectory = self._trajectories.get(request_id)
        if trajectory is None:
            self._scheduler.submit(request_id, length)
            trajectory = self._trajectories[request_id] = _Trajectory(length, length)
        else:
            trajectory.length = max(trajectory.length, min(length, trajectory.prompt + self._limit))
            if trajectory.place and self._scheduler.turn_over(request_id, trajectory.length, trajectory.place[1]):
                self._act()
                self._scheduler.tool_done(request_id, trajectory.length)
        self._act()
        while trajectory.place is None:
            await trajectory.placed.wait()
        server = trajectory.place[0]
        self._inflight[server] += 1
        return server, self._servers[server]

    def release_server(self, server_id: str, request_id: str | None = None) -> None:
        """A turn is over; the rollout keeps its place."""
        if self._inflight.get(server_id):
            self._inflight[server_id] -= 1

    def trajectory_ended(self, request_id: str) -> None:
        """The rollout is over, well or not. Ours, not verl's."""
        trajectory = self._trajectories.get(request_id)
        if trajectory is None:
            return
        trajectory.ended = True
        self._finish(request_id, trajectory)
        self._act()

    def require_acquire_fields(self) -> list[str]:
        return ["prompt_ids"]

    def require_release_fields(self) -> list[str]:
        return ["request_id"]

    def add_servers(self, servers: dict[str, Any]) -> None:
        self._join(servers)
        self._act()

    def remove_servers(self, server_ids: list[str]) -> None:
        """Their rollouts queue again where they stood."""
        for name in server_ids:
            if self._servers.pop(name, None) is not None:
                self._inflight.pop(name, None)
                self._scheduler.engine_left(name)
        self._act()

    def get_all_servers(self) -> list[str]:
        return list(self._servers)

    def get_status(self) -> dict[str, Any]:
        return {
            "servers": dict(self._inflight),
            "total_inflight": self.get_total_inflight(),
            "active_servers": len(self._servers),
            "kv_tokens_used": {name: self._scheduler.used(name) for name in self._servers},
            "waiting": self._scheduler.waiting(),
            "trajectories": len(self._trajectories),
        }

    def clear_sticky_cache(self) -> dict[str, Any]:
        """Nothing to clear: places are given by KV cache, and rollouts that run keep theirs."""
        return {"cleared_entries": 0, "server_loads": dict(self._inflight)}

    def get_total_inflight(self) -> int:
        return sum(self._inflight.values())

    def _join(self, servers: dict[str, Any]) -> None:
        for name, handle in servers.items():
            if name not in self._servers:  # verl's own router takes one that is there already, too
                self._scheduler.engine_joined(name, self._kv_tokens)
                self._inflight[name] = 0
            self._servers[name] = handle

    def _finish(self, request_id: str, trajectory: _Trajectory) -> None:
        """Give its place back; one that waits for a place gives it back when it has it."""
        if trajectory.place and self._scheduler.finished(request_id, trajectory.length, trajectory.place[1]):
            del self._trajectories[request_id]

    def _act(self) -> None:
        """Carry out what the scheduler decides, until there is nothing to decide."""
        while actions := self._scheduler.next():
            for action in actions:
                trajectory = self._trajectories[action.rollout]
                if isinstance(action, Generate):
                    trajectory.place = (action.engine, action.attempt)
                    self._scheduler.grew(action.rollout, trajectory.length, action.attempt)
                    trajectory.placed.set()
                    if trajectory.ended:
                        self._finish(action.rollout, trajectory)
                elif isinstance(action, Abort):
                    trajectory.place = None
                    trajectory.placed.clear()


KVRouter = ray.remote(max_concurrency=_AT_ONCE)(Router)
"""What verl is given. As many rollouts wait in it as a step has: at Ray's 1,000 calls at once none that ended could
tell, and nothing would go on."""
