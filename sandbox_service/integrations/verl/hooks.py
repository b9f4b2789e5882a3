"""What each part needs of verl, looked at before the part is registered: `fits` raises where it is not there.

Without it a renamed method would be called by nobody, a renamed field dropped by pydantic, and with a renamed attribute
of the client the router would never learn that a rollout ended: all in silence.
"""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

TESTED = "0.9.1"
"""The verl that the contract tests run with: its hooks move from version to version."""
_LOOP, _ROUTER = "verl.experimental.agent_loop.agent_loop", "verl.workers.rollout.router:RequestLoadBalancer"
_PARSER, _REWARD = "verl.experimental.agent_loop.tool_parser", "verl.experimental.reward_loop.reward_manager"
_BUFFER = "verl.trainer.ppo.v1.replay_buffer"
_SAMPLE = "global_steps partition_id batch_size"


@dataclass(frozen=True)
class Needs:
    """Names are `module:Class.method`, parameters in their order."""

    overrides: Mapping[str, str] = field(default_factory=dict)
    """What ours stand in for: these parameters and no others, and nothing else of their class that must be there."""
    calls: Mapping[str, str] = field(default_factory=dict)
    """What ours call, with these arguments at most."""
    sets: Mapping[str, str] = field(default_factory=dict)
    """Attributes that ours read, by the method that sets them."""


NEEDS = {
    "agent_loop": Needs(
        overrides={f"{_LOOP}:AgentLoopBase.run": "sampling_params **kwargs"},
        calls={
            f"{_LOOP}:register": "agent_name",
            f"{_LOOP}:AgentLoopMetrics": "num_preempted",
            f"{_LOOP}:AgentLoopOutput": "prompt_ids response_ids response_mask response_logprobs num_turns metrics "
            "extra_fields",
            "verl.workers.rollout.llm_server:LLMServerClient.generate": "request_id prompt_ids sampling_params",
            "verl.workers.rollout.replica:TokenOutput": "token_ids log_probs num_preempted extra_fields",
        },
        sets={
            f"{_LOOP}:AgentLoopBase.__init__": "config rollout_config server_manager tokenizer",
            "verl.workers.rollout.llm_server:LLMServerClient.__init__": "_load_balancer",
        },
    ),
    "parser": Needs(
        overrides={f"{_PARSER}:ToolParser.extract_tool_calls": "responses_ids tools"},
        calls={f"{_PARSER}:ToolParser.register": "name", f"{_PARSER}:FunctionCall": "name arguments"},
        sets={f"{_PARSER}:ToolParser.__init__": "tokenizer"},
    ),
    "reward": Needs(
        overrides={f"{_REWARD}.base:RewardManagerBase.run_single": "data"},
        calls={
            f"{_REWARD}:register": "name",
            f"{_REWARD}.base:RewardManagerBase.__init__": "config tokenizer compute_score",
        },
        sets={f"{_REWARD}.base:RewardManagerBase.__init__": "tokenizer"},
    ),
    "router": Needs(
        overrides={
            f"{_ROUTER}.acquire_server": "request_id **extra",
            f"{_ROUTER}.release_server": "server_id request_id",
            f"{_ROUTER}.require_acquire_fields": "",
            f"{_ROUTER}.require_release_fields": "",
            f"{_ROUTER}.add_servers": "servers",
            f"{_ROUTER}.remove_servers": "server_ids",
            f"{_ROUTER}.get_all_servers": "",
            f"{_ROUTER}.get_status": "",
            f"{_ROUTER}.clear_sticky_cache": "",
            f"{_ROUTER}.get_total_inflight": "",
        }
    ),
    "sampler": Needs(
        overrides={f"{_BUFFER}:ReplayBuffer.sample": _SAMPLE, f"{_BUFFER}:ReplayBufferAsync.sample": _SAMPLE},
        calls={
            f"{_BUFFER}:ReplayBuffer.__init__": "trainer_mode trainer_config max_off_policy_threshold "
            "max_off_policy_strategy sampler_kwargs refill_fn filter_groups_metric train_batch_size gen_batch_size "
            "sync_refill_failed_groups",
            "transfer_queue:kv_clear": "keys partition_id",
            "transfer_queue:kv_batch_get": "keys partition_id select_fields",
            "transfer_queue:KVBatchMeta": "partition_id keys tags",
        },
    ),
    "tool": Needs(
        overrides={"verl.tools.base_tool:BaseTool.execute": "instance_id parameters **kwargs"},
        calls={
            "verl.tools.base_tool:BaseTool.__init__": "config tool_schema",
            "verl.tools.schemas:ToolResponse": "text",
        },
        sets={
            "verl.tools.base_tool:BaseTool.__init__": "config",
            "verl.experimental.agent_loop.tool_agent_loop:AgentData.__init__": "request_id extra_fields",
        },
    ),
}


def fits(part: str) -> None:
    """ImportError with all that is wrong: the part is not registered, and whoever configured it is told."""
    if found := list(misfits(NEEDS[part])):
        raise ImportError("; ".join(found))


def misfits(needs: Needs) -> Iterator[str]:
    for name, wanted in needs.overrides.items():
        if isinstance(found := _parameters(name), str):
            yield found
        elif (has := " ".join(map(_spelt, found))) != wanted:
            yield f"{_short(name)} takes ({has}), not ({wanted})"
    for owner in {name.rpartition(".")[0] for name in needs.overrides}:
        for method in sorted(_demanded(owner) - {name.rpartition(".")[2] for name in needs.overrides}):
            yield f"{_short(owner)} demands a method that ours has not: {method}"
    for name, passed in needs.calls.items():
        if isinstance(found := _parameters(name), str):
            yield found
            continue
        names, given = {one.name for one in found}, passed.split()
        if unknown := [one for one in given if one not in names]:
            yield f"{_short(name)} has no {', '.join(unknown)}"
        if more := [one.name for one in found if _is_required(one) and one.name not in given]:
            yield f"{_short(name)} wants {', '.join(more)} too"
    for name, read in needs.sets.items():
        code = getattr(inspect.unwrap(_found(name)), "__code__", None)
        if unknown := [one for one in read.split() if code is None or one not in code.co_names]:
            yield f"{_short(name)} sets no {', '.join(unknown)}"


def _parameters(name: str) -> list[inspect.Parameter] | str:
    """Without `self`; or what is wrong."""
    found = _found(name)
    if isinstance(found, str):
        return found
    return [one for one in inspect.signature(found).parameters.values() if one.name != "self"]


def _found(name: str) -> Any:
    """The object of a name; a text says that there is none."""
    module, _, path = name.partition(":")
    try:
        found: Any = importlib.import_module(module)
        for step in path.split("."):
            found = getattr(found, step)
    except (ImportError, AttributeError):
        return f"there is no {_short(name)} in {module}"
    return found


def _demanded(owner: str) -> set[str]:
    """The abstract methods of a class, or the methods of a protocol."""
    found = _found(owner)
    if getattr(found, "_is_protocol", False):
        return {name for name, value in vars(found).items() if inspect.isfunction(value) and not name.startswith("_")}
    return set(getattr(found, "__abstractmethods__", ()))


def _spelt(parameter: inspect.Parameter) -> str:
    return str(parameter.replace(annotation=parameter.empty, default=parameter.empty))


def _is_required(parameter: inspect.Parameter) -> bool:
    return parameter.default is parameter.empty and not _spelt(parameter).startswith("*")


def _short(name: str) -> str:
    return name.partition(":")[2]
