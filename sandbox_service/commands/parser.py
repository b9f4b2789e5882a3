"""What can be asked for on the command line: commands and their options. `actions.py` does them."""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable
from pathlib import Path

from sandbox_service import __version__
from sandbox_service.commands import actions, examples
from sandbox_service.reasons import closest


def default_url() -> str:
    """Where `serve` answers on this machine, but for a SANDBOX_HOST that 127.0.0.1 does not reach.

    SANDBOX_PORT may be no port to ask at: 0, or what Kubernetes sets for a service of the name `sandbox`.
    """
    port = os.environ.get("SANDBOX_PORT", "")
    usable = port.isascii() and port.isdecimal() and 0 < int(port) < 65536
    return f"http://127.0.0.1:{port if usable else 8000}"


class _Parser(argparse.ArgumentParser):
    """Names the command or option that may be meant by one that is not known."""

    def _check_value(self, action: argparse.Action, value: object) -> None:
        known = [str(choice) for choice in action.choices or ()]
        if known and value not in known:
            meant = closest(str(value), known)
            hint = f"did you mean {meant}?" if meant else f"choose from {', '.join(known)}"
            raise argparse.ArgumentError(action, f"there is no {value!r}; {hint}")

    def parse_known_args(self, args=None, namespace=None):  # type: ignore[no-untyped-def]
        """Each command speaks for itself: the parser above would know its options no more."""
        found, unknown = super().parse_known_args(args, namespace)
        if unknown:
            name = unknown[0].partition("=")[0]
            meant = closest(name, self._option_string_actions) if name.startswith("-") else None
            self.error(f"there is no place for {unknown[0]}" + (f"; did you mean {meant}?" if meant else ""))
        return found, unknown


def parser() -> argparse.ArgumentParser:
    whole: argparse.ArgumentParser = _Parser(
        prog="sandbox-service",
        description="Runs code written by language models, fast and safely, for reinforcement learning.",
        epilog=examples.ALL,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    whole.add_argument("--version", action="version", version=f"sandbox-service {__version__}")
    commands = whole.add_subparsers(title="commands", metavar="COMMAND", required=True)

    serve = _command(commands, "serve", actions.serve, "run the whole service on this machine; Ctrl-C ends it")
    _add_addresses(serve)
    serve.add_argument("--slots", type=int, help="executions at once (SANDBOX_SLOTS)")

    gateway = _command(commands, "gateway", actions.gateway, "run one gateway; needs SANDBOX_REDIS_URL")
    _add_addresses(gateway)
    _command(commands, "worker", actions.worker, "run one worker; needs SANDBOX_REDIS_URL and root")
    _add_run(commands)
    _add_mcp(commands)
    _add_rootfs(commands)
    _add_letters(commands)
    _add_train(commands)
    _add_eval(commands)
    _add_plan(commands)

    doctor = _command(
        commands, "doctor", actions.doctor, "tell what this machine supports, and what to do about the rest"
    )
    doctor.add_argument("--json", action="store_true", help="print JSON")
    config = _command(commands, "config", actions.config, "print every setting: variable, value, default, meaning")
    config.add_argument("--json", action="store_true", help="print JSON")
    return whole


_Commands = argparse._SubParsersAction  # argparse has no public name for it


def _command(
    commands: _Commands[argparse.ArgumentParser],
    name: str,
    run: Callable[[argparse.Namespace], int],
    summary: str,
    details: str = "",
) -> argparse.ArgumentParser:
    parser = commands.add_parser(
        name,
        help=summary,
        description=f"{summary[0].upper()}{summary[1:]}.",
        epilog=details,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.set_defaults(command=run, called=name)
    return parser


def _add_addresses(part: argparse.ArgumentParser) -> None:
    part.add_argument("--host", help="address to listen on (SANDBOX_HOST)")
    part.add_argument("--port", type=int, help="port to listen on (SANDBOX_PORT)")
    part.add_argument("--grpc-port", type=int, help="port of gRPC; not offered without (SANDBOX_GRPC_PORT)")


def _add_run(commands: _Commands[argparse.ArgumentParser]) -> None:
    run = _command(commands, "run", actions.run, "run one file through the service and print its Result", examples.RUN)
    run.add_argument("file", help="Python file, or - for standard input")
    run.add_argument("--url", action="append", help=f"the service (default: {default_url()}, by SANDBOX_PORT)")
    run.add_argument("--api-key-file", type=Path, help="file with the API key, where the service asks for one")
    run.add_argument("--stdin", type=Path, metavar="FILE", help="what the program reads from its standard input")
    run.add_argument("--image", help="name of the image to run in")
    run.add_argument("--timeout-s", type=float, help="seconds until the answer is of no more use, queueing included")
    for limit, kind, meaning in (
        ("wall-s", float, "seconds it may run"),
        ("cpu-s", float, "CPU seconds it may use"),
        ("memory-mb", int, "MiB of memory"),
        ("output-kb", int, "KiB kept of each output"),
        ("processes", int, "processes and threads at once"),
        ("disk-mb", int, "MiB of files"),
    ):
        run.add_argument(f"--{limit}", type=kind, help=f"limit: {meaning}")


def _add_mcp(commands: _Commands[argparse.ArgumentParser]) -> None:
    mcp = _command(commands, "mcp", actions.mcp, "offer the service to language models as an MCP server", examples.MCP)
    mcp.add_argument(
        "--url",
        action="append",
        help=f"the service (default: {default_url()}, by SANDBOX_PORT); again for another gateway of it",
    )
    mcp.add_argument("--api-key-file", type=Path, help="file with the API key, where the service asks for one")
    mcp.add_argument("--http", type=int, metavar="PORT", help="serve HTTP on this port of 127.0.0.1, 0: a free one")
    mcp.add_argument("--wall-s", type=float, help="seconds a call may run (default: the service's)")
    mcp.add_argument("--image", help="name of the image to run in")
    mcp.add_argument("--timeout-s", type=float, default=120.0, help="seconds to wait for a result (default: 120)")
    mcp.add_argument("--max-chars", type=int, default=10_000, help="of each output that are shown (default: 10000)")


def _add_rootfs(commands: _Commands[argparse.ArgumentParser]) -> None:
    rootfs = _command(commands, "rootfs", actions.rootfs_info, "build, show and remove the images that calls run in")
    under = rootfs.add_subparsers(title="commands", metavar="COMMAND", required=True)
    build = _command(
        under, "build", actions.rootfs_build, "build an image, if it is not there or out of date", examples.BUILD
    )
    build.add_argument("--name", default="default", help="name that calls pick it by (default: %(default)s)")
    build.add_argument("--requirements", type=Path, metavar="FILE", help="pip requirements file with your packages")
    build.add_argument("--bare", action="store_true", help="leave out the default packages")
    build.add_argument("--force", action="store_true", help="build it again even if nothing changed")
    info = _command(under, "info", actions.rootfs_info, "list the images with hash, size and packages")
    info.add_argument("--json", action="store_true", help="print JSON")
    info.add_argument("--verify", action="store_true", help="read every file and compare it with what was built")
    prune = _command(under, "prune", actions.rootfs_prune, "remove images that have no name and that nothing runs in")
    prune.add_argument("name", nargs="*", help="names to give up first")


def _add_letters(commands: _Commands[argparse.ArgumentParser]) -> None:
    summary = "list, show and replay calls that lost their worker twice (infra_error)"
    letters = _command(commands, "dead-letters", actions.letters_list, summary, examples.LETTERS)
    under = letters.add_subparsers(title="commands", metavar="COMMAND", required=True)
    listing = _command(under, "list", actions.letters_list, "list dead letters, the latest first")
    listing.add_argument("--tenant", help="those of this tenant alone")
    listing.add_argument("--json", action="store_true", help="print JSON")
    show = _command(under, "show", actions.letters_show, "print one dead letter with its call, as JSON")
    show.add_argument("letter", help="its name, as `list` prints it")
    replay = _command(
        under, "replay", actions.letters_replay, "run calls again, under new ids, and remove their letters"
    )
    which = replay.add_mutually_exclusive_group(required=True)
    which.add_argument("letter", nargs="*", default=[], help="names, as `list` prints them")
    which.add_argument("--all", action="store_true", help="all that there are")


def _add_train(commands: _Commands[argparse.ArgumentParser]) -> None:
    summary = "train a model by GRPO-RoC with a service in the loop"
    train = _command(commands, "train", actions.train, summary, examples.TRAIN)
    train.add_argument("--recipe", default="nano", help="what to train, and how (default: %(default)s)")
    train.add_argument("--dry-run", action="store_true", help="print the recipe and end")
    train.add_argument("--emit", choices=["verl"], help="write the recipe for another trainer and end")
    train.add_argument(
        "--out",
        type=Path,
        default=Path("runs/train"),
        help="folder of the run; one that was stopped there goes on (default: %(default)s)",
    )
    train.add_argument(
        "--url",
        action="append",
        help="the service; again for another gateway of it; without it, one is started for this run (needs root)",
    )
    train.add_argument("--api-key-file", type=Path, help="file with the API key, where the service asks for one")
    train.add_argument("--seed", type=int, default=0, help="(default: %(default)s)")
    train.add_argument("--threads", type=_count, default=1, help="of torch; the service wants CPUs too (default: 1)")
    train.add_argument("--base", type=Path, metavar="FOLDER", help="start from this Qwen3 model, not from the recipe's")
    for option, what in (("--sft", "SFT on these conversations"), ("--problems", "RL on these problems")):
        train.add_argument(
            option, type=Path, nargs="+", default=[], metavar="FILE", help=f"{what}, written by `train data`"
        )
    under = train.add_subparsers(title="commands", metavar="COMMAND")
    data = _command(
        under, "data", actions.train_data, "turn published data sets into what trainers read", examples.DATA
    )
    data.add_argument("source", help="which data set the files are of; see below")
    data.add_argument("files", type=Path, nargs="+", metavar="FILE", help="its rows: .jsonl, .json or .parquet")
    data.add_argument("--out", type=Path, required=True, help="file to write: .jsonl or .parquet")
    data.add_argument(
        "--decontaminate",
        type=Path,
        nargs="+",
        default=[],
        metavar="FILE",
        help="evaluation sets, as `eval` reads them",
    )
    data.add_argument(
        "--samples",
        type=Path,
        metavar="FILE",
        help="of `eval --out`, over the one FILE of the source verl: keep what at least 2 answers confirm",
    )


def _add_plan(commands: _Commands[argparse.ArgumentParser]) -> None:
    plan = _command(
        commands, "plan", actions.plan, "predict what a training run needs: cores, gateways, Redis", examples.PLAN
    )
    plan.add_argument("--rollouts", type=_count, required=True, help="rollouts of one step")
    plan.add_argument("--calls", type=_positive, default=2.75, help="calls of a rollout (default: %(default)s)")
    plan.add_argument(
        "--over-s",
        type=_amount,
        default=0.0,
        help="seconds over which they come; 0: all at once (default: %(default)s)",
    )
    plan.add_argument("--mean-s", type=_positive, default=0.3, help="wanted mean of an answer (default: %(default)s)")
    plan.add_argument(
        "--code-ms", type=_amount, default=5.0, help="CPU of the code itself, milliseconds (default: %(default)s)"
    )
    plan.add_argument(
        "--costs", type=Path, metavar="FILE", help="costs measured on your machine (loadtest/capacity.py)"
    )
    plan.add_argument("--json", action="store_true", help="print JSON")


def _count(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"must be a whole number from 1 on, not {text!r}")
    return int(text)


def _amount(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value < float("inf"):
        raise argparse.ArgumentTypeError(f"must be a number from 0 on, not {text!r}")
    return value


def _positive(text: str) -> float:
    value = _amount(text)
    if value == 0:
        raise argparse.ArgumentTypeError("must be more than 0")
    return value


def _add_eval(commands: _Commands[argparse.ArgumentParser]) -> None:
    summary = "evaluate a model with the tool: avg@k and pass@k with intervals, calls, errors, lengths"
    add = _command(commands, "eval", actions.eval, summary, examples.EVAL).add_argument
    add(
        "--data",
        required=True,
        metavar="FILE",
        help="JSON lines with `problem` and `answer`, or as `train data` writes; GPQA's CSV",
    )
    add("--endpoint", metavar="URL", help="an OpenAI-compatible server, as in http://127.0.0.1:8100/v1")
    add("--model", metavar="NAME", help="the model's name there; a key is read from OPENAI_API_KEY")
    add("--folder", metavar="PATH", help="instead: a Hugging Face folder, run in this process")
    add("--template", choices=["paper", "short"], default="paper", help="of a folder's prompt (default: %(default)s)")
    add(
        "--url",
        action="append",
        help=f"of the service, where code runs (default: {default_url()}, by SANDBOX_PORT); again for another gateway",
    )
    add("--api-key-file", type=Path, metavar="FILE", help="with the service's API key")
    add("--samples", type=_count, default=16, help="of each question (default: %(default)s)")
    add("--temperature", type=_amount, default=0.6, help="(default: %(default)s)")
    add("--max-tokens", type=_count, default=30_720, help="that a sample may have (default: %(default)s)")
    add("--turns", type=_count, default=30, help="that a sample may have (default: %(default)s)")
    add("--wall-s", type=_positive, default=4.0, help="of one tool call (default: %(default)s)")
    add("--response-chars", type=_count, default=1000, help="of each stream that it reads (default: %(default)s)")
    add("--at-once", type=_count, default=256, help="samples under way (default: %(default)s)")
    add("--limit", type=_count, metavar="N", help="only the first N questions")
    add("--out", metavar="FILE", help="write every sample, as JSON lines")
    add("--unsolved", metavar="FILE", help="write the rows of the data that were not right in every sample")
