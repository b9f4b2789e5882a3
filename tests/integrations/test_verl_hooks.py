"""The plug-in's look at verl: whatever ours override, call or read, renamed or with other parameters, is told."""

from __future__ import annotations

import importlib
import re
import sys
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("verl")

from sandbox_service.integrations.verl import hooks
from tests.integrations.test_pages import ran

pytestmark = [pytest.mark.verl, pytest.mark.timeout(200, func_only=True)]
METHODS = [(part, name) for part, needs in hooks.NEEDS.items() for name in (*needs.overrides, *needs.calls)]
SETTERS = [(part, name, one) for part, needs in hooks.NEEDS.items() for name, read in needs.sets.items()
           for one in read.split()]  # fmt: skip


def owner(name: str) -> tuple[Any, str]:
    """What holds the thing of this name, and its last step."""
    module, _, path = name.partition(":")
    found: Any = importlib.import_module(module)
    *steps, last = path.split(".")
    for step in steps:
        found = getattr(found, step)
    return found, last


def told(part: str) -> str:
    with pytest.raises(ImportError) as error:
        hooks.fits(part)
    return str(error.value)


@pytest.mark.parametrize("part", hooks.NEEDS)
def test_this_verl_fits(part: str) -> None:
    hooks.fits(part)


@pytest.mark.parametrize(("part", "name"), METHODS)
def test_what_was_renamed_is_told(part: str, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    holder, last = owner(name)
    for one in (base for base in getattr(holder, "__mro__", [holder]) if last in vars(base) and base is not object):
        monkeypatch.delattr(one, last)
    short = re.escape(name.partition(":")[2])
    assert re.search(rf"there is no {short}|{short} (takes|has)", told(part))


@pytest.mark.parametrize(("part", "name"), METHODS)
def test_other_parameters_are_told(part: str, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """One more that has no default; and all of them gone for another."""
    holder, last = owner(name)
    monkeypatch.setattr(holder, last, lambda self, other: None)
    wanted = {**hooks.NEEDS[part].overrides, **hooks.NEEDS[part].calls}[name]
    said, short = told(part), name.partition(":")[2]
    assert f"{short} takes (other), not ({wanted})" in said or f"{short} has no {wanted.replace(' ', ', ')}" in said
    assert f"{short} wants other too" in said or "takes (other)" in said


@pytest.mark.parametrize(("part", "name", "attribute"), SETTERS)
def test_an_attribute_that_is_set_no_more_is_told(
    part: str, name: str, attribute: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    holder, last = owner(name)
    code = getattr(holder, last).__code__
    names = tuple(f"{one}s" if one == attribute else one for one in code.co_names)
    monkeypatch.setattr(getattr(holder, last), "__code__", code.replace(co_names=names))
    assert told(part) == f"{name.partition(':')[2]} sets no {attribute}"


def test_a_method_that_verl_demands_anew_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of an abstract class, and of the router's protocol."""
    holder, _ = owner("verl.experimental.agent_loop.tool_parser:ToolParser.register")
    monkeypatch.setattr(holder, "__abstractmethods__", frozenset({"extract_tool_calls", "parse_stream"}))
    assert told("parser") == "ToolParser demands a method that ours has not: parse_stream"
    holder, _ = owner("verl.workers.rollout.router:RequestLoadBalancer.get_status")
    monkeypatch.setattr(holder, "drain_server", lambda self, server_id: None, raising=False)
    assert told("router") == "RequestLoadBalancer demands a method that ours has not: drain_server"


def test_what_does_not_fit_is_named_on_stderr_and_not_registered(tmp_path: Path) -> None:
    """In a fresh process, through the entry point's module; the other parts are there."""
    program = """
import os
os.environ["VERL_USE_EXTERNAL_PLUGINS"] = "none"
from verl.experimental.agent_loop.agent_loop import AgentLoopBase, _agent_loop_registry
from verl.experimental.agent_loop.tool_parser import ToolParser
from verl.tools.base_tool import BaseTool
run = AgentLoopBase.run
del AgentLoopBase.run
AgentLoopBase.rollout = run
AgentLoopBase.__abstractmethods__ = frozenset({"rollout"})
async def execute(self, instance_id, arguments, **kwargs): ...
BaseTool.execute = execute
try:
    import sandbox_service.integrations.verl.plugin
except ImportError:
    print("rstar2" in _agent_loop_registry, "sandbox_json" in ToolParser._registry)
"""
    shown = ran([sys.executable, "-c", program], tmp_path)
    assert shown.stdout.split() == ["False", "True"], shown.stderr
    said = [line for line in shown.stderr.splitlines() if line.startswith("sandbox-service: ")]
    remedy = "What to do: pip install verl==0.9.1"
    assert said == [
        "sandbox-service: agent_loop does not fit verl 0.9.1 and is left out: there is no AgentLoopBase.run in "
        "verl.experimental.agent_loop.agent_loop; AgentLoopBase demands a method that ours has not: rollout. " + remedy,
        "sandbox-service: tool does not fit verl 0.9.1 and is left out: BaseTool.execute takes (instance_id arguments "
        "**kwargs), not (instance_id parameters **kwargs). " + remedy,
    ]
