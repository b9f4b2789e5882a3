"""What each command does with its options: reads the settings it needs and hands over to its part.

A part is imported only when its command runs, so `--help` and `run` work where only the client is installed.
"""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from sandbox_service.errors import SetupError

if TYPE_CHECKING:
    from sandbox_service.config import Settings


def settings(**given: object) -> Settings:
    """Read the settings; what the command line gave wins over the environment."""
    from pydantic import ValidationError

    from sandbox_service.config import Settings
    from sandbox_service.reasons import wording

    try:
        return Settings(**given)  # type: ignore[arg-type]
    except ValidationError as error:
        wrong = [
            "".join(f"SANDBOX_{str(name).upper()}={found['input']}: " for name in found["loc"]) + wording(found["msg"])
            for found in error.errors()
        ]
        raise SetupError("these settings are not valid:\n  " + "\n  ".join(wrong)) from error


def service_settings(**given: object) -> Settings:
    """The same for a part of the service, which does not start beside a variable that nothing reads.

    A misspelt SANDBOX_API_KEYS_FILE would leave it open, and nobody would be told.
    """
    from sandbox_service.config import unknown_variables

    if unknown := unknown_variables():
        raise SetupError(
            "no setting has these names (`sandbox-service config` lists all); correct or unset them:\n  "
            + "\n  ".join(f"{name} (did you mean {meant}?)" if meant else name for name, meant in unknown.items())
        )
    return settings(**given)


def eval(options: argparse.Namespace) -> int:
    from sandbox_service.commands.evaluate import evaluate

    return evaluate(options)


def serve(options: argparse.Namespace) -> int:
    from sandbox_service.serve import serve

    given = _given(options, "host", "port", "grpc_port", "slots")
    return serve(service_settings(**given), given)


def _given(options: argparse.Namespace, *names: str) -> dict[str, object]:
    return {name: value for name in names if (value := getattr(options, name)) is not None}


def gateway(options: argparse.Namespace) -> int:
    from sandbox_service.gateway.app import serve

    serve(_with_redis(**_given(options, "host", "port", "grpc_port")))
    return 0


def worker(_options: argparse.Namespace) -> int:
    from sandbox_service.worker.worker import serve

    serve(_with_redis())
    return 0


def _with_redis(**given: object) -> Settings:
    found = service_settings(**given)
    if found.redis_url is None:
        raise SetupError(
            "set SANDBOX_REDIS_URL to the Redis that all parts share (`sandbox-service serve` brings its own)"
        )
    return found


def run(options: argparse.Namespace) -> int:
    from sandbox_service.commands.run import run

    return run(options)


def mcp(options: argparse.Namespace) -> int:
    from sandbox_service.commands.mcp import mcp

    return mcp(options)


def train(options: argparse.Namespace) -> int:
    from sandbox_service.commands.train import train

    return train(options)


def train_data(options: argparse.Namespace) -> int:
    from sandbox_service.commands.data import data

    return data(options)


def plan(options: argparse.Namespace) -> int:
    from sandbox_service.commands.plan import Demand, read_costs, show

    calls = max(1, round(options.rollouts * options.calls))
    demand = Demand(calls, options.over_s, options.mean_s, options.code_ms)
    return show(demand, read_costs(options.costs), as_json=options.json)


def rootfs_build(options: argparse.Namespace) -> int:
    from sandbox_service.commands.images import build

    return build(settings(), options.name, options.requirements, bare=options.bare, force=options.force)


def rootfs_info(options: argparse.Namespace) -> int:
    from sandbox_service.commands.images import info

    return info(settings(), as_json=options.json, check=options.verify)


def rootfs_prune(options: argparse.Namespace) -> int:
    from sandbox_service.commands.images import prune

    return prune(settings(), options.name)


def letters_list(options: argparse.Namespace) -> int:
    from sandbox_service.commands.letters import list_letters

    return list_letters(settings(), tenant=options.tenant, as_json=options.json)


def letters_show(options: argparse.Namespace) -> int:
    from sandbox_service.commands.letters import show

    return show(settings(), options.letter)


def letters_replay(options: argparse.Namespace) -> int:
    from sandbox_service.commands.letters import replay

    return replay(settings(), options.letter, everything=options.all)


def doctor(options: argparse.Namespace) -> int:
    from sandbox_service.doctor import report

    return report(settings(), as_json=options.json)


def config(options: argparse.Namespace) -> int:
    from sandbox_service.commands.settings import show

    return show(settings(), as_json=options.json)
