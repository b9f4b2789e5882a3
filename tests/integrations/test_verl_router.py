"""The router where servers come and go and a cache fills up: the class in this process, and the actor behind verl's own
client."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("verl")
import ray
from verl.workers.rollout.llm_server import LLMServerClient
from verl.workers.rollout.replica import TokenOutput
from verl.workers.rollout.router import get_router_handle

from sandbox_service.integrations.verl.router import Router
from tests.integrations import verl_running as running

pytestmark = [pytest.mark.verl, pytest.mark.timeout(60, func_only=True)]
SETTINGS = {"kv_tokens": 1000, "max_response": 900}


def router(*servers: str, **settings: Any) -> Router:
    return Router(dict.fromkeys(servers, "handle"), {**SETTINGS, **settings})


async def acquired(made: Router, name: str, tokens: int) -> str | None:
    """The server; None if the rollout has to wait for one."""
    try:
        server, _ = await asyncio.wait_for(made.acquire_server(name, prompt_ids=[0] * tokens), 0.05)
    except asyncio.TimeoutError:
        return None
    made.release_server(server, name)
    return server


async def test_rollouts_of_a_server_that_is_removed_go_on_elsewhere() -> None:
    """Also one in the middle of a turn; what they give back of the server that is gone counts nowhere."""
    made = router("a", "b")
    homes = {name: await acquired(made, name, 10) for name in ("one", "two")}
    assert set(homes.values()) == {"a", "b"}
    gone = homes["one"]
    assert gone
    await made.acquire_server("one", prompt_ids=[0] * 50)
    made.remove_servers([gone])
    made.release_server(gone, "one")
    (left,) = made.get_all_servers()
    assert await acquired(made, "one", 60) == left == homes["two"]
    assert await acquired(made, "two", 60) == left
    assert made.get_status()["kv_tokens_used"] == {left: 120}
    for name in homes:
        made.trajectory_ended(name)
    assert (made.get_status()["trajectories"], made.get_total_inflight()) == (0, 0)


async def test_what_waits_outlives_all_servers_and_goes_on_when_one_is_there() -> None:
    """Who asks anew meanwhile is told in the words on which verl asks again."""
    made = router("a")
    for name, tokens in (("old", 10), ("young", 10), ("young", 500), ("old", 600)):
        assert await acquired(made, name, tokens) == "a"
    turn = asyncio.create_task(made.acquire_server("young", prompt_ids=[0] * 510))
    await asyncio.sleep(0)
    made.remove_servers(["a", "absent"])
    made.trajectory_ended("old")
    with pytest.raises(RuntimeError, match="No available servers in load balancer"):
        await made.acquire_server("new", prompt_ids=[0])
    assert not turn.done()
    made.add_servers({"b": "handle"})
    made.add_servers({"b": "another"})
    assert await asyncio.wait_for(turn, 1) == ("b", "another")
    assert made.get_status()["kv_tokens_used"] == {"b": 510}


async def test_the_youngest_rollout_gives_way_when_the_cache_is_full_and_comes_back() -> None:
    """Its turn ends where it is; the next one waits until an older rollout has ended."""
    made = router("a")
    assert [await acquired(made, name, 10) for name in ("old", "young")] == ["a", "a"]
    assert await acquired(made, "young", 500) == "a"
    assert await acquired(made, "old", 600) == "a"
    status = made.get_status()
    assert (status["kv_tokens_used"], status["waiting"]) == ({"a": 600}, 1)
    turn = asyncio.create_task(made.acquire_server("young", prompt_ids=[0] * 510))
    assert await acquired(made, "old", 610) == "a"
    assert not turn.done()
    made.trajectory_ended("old")
    assert (await asyncio.wait_for(turn, 1))[0] == "a"
    assert made.get_status()["kv_tokens_used"] == {"a": 510}
    made.trajectory_ended("young")
    assert made.get_status()["trajectories"] == 0


async def test_one_that_ends_while_it_waits_takes_no_place() -> None:
    made = router("a")
    for name, tokens in (("old", 10), ("young", 10), ("young", 500), ("old", 600)):
        assert await acquired(made, name, tokens) == "a"
    made.trajectory_ended("young")
    made.trajectory_ended("old")
    assert made.get_status() == {
        "servers": {"a": 0}, "total_inflight": 0, "active_servers": 1, "kv_tokens_used": {"a": 0}, "waiting": 0,
        "trajectories": 0,
    }  # fmt: skip


@pytest.mark.parametrize(("settings", "complaint"), [
    ({"kv_token": 5}, "the router has no setting kv_token; there are: kv_tokens"),
    ({"kv_tokens": 500}, "holds 500 tokens, a rollout may need 900"),
])  # fmt: skip
def test_wrong_settings_are_told(settings: dict[str, int], complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        router("a", **settings)


@ray.remote(num_cpus=0)
class Server:
    """Generates one token: its number."""

    def __init__(self, number: int) -> None:
        self._number = number

    def generate(self, **_: Any) -> TokenOutput:
        return TokenOutput(token_ids=[self._number])


async def test_verls_client_follows_it_to_another_server(ray_cluster: None, model_folder: Path, tmp_path: Path) -> None:
    """Turn by turn with verl's classes; a server is removed as verl's trainers remove one."""
    config = running.compose(["actor_rollout_ref.rollout.name=vllm"])
    settings = tmp_path / "router.yaml"
    settings.write_text(
        "router_class: sandbox_service.integrations.verl.router.KVRouter\nkv_tokens: 1000\nmax_response: 900\n"
    )
    servers = {f"server-{number}": Server.remote(number) for number in range(2)}
    handle = get_router_handle(servers, str(settings))
    client = LLMServerClient(config, handle)

    async def turn(tokens: list[int]) -> int:
        return (await client.generate("rollout", prompt_ids=tokens, sampling_params={})).token_ids[0]

    first = await turn([5] * 10)
    assert await turn([5] * 11) == first
    await handle.remove_servers.remote(server_ids=[f"server-{first}"])
    assert await turn([5] * 12) == 1 - first
    await handle.trajectory_ended.remote("rollout")
    assert (await handle.get_status.remote())["trajectories"] == 0
    for actor in (handle, *servers.values()):
        ray.kill(actor)
