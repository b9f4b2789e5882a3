"""`run`: one file through the service, its Result as JSON.

The same path as every call (client, gateway, queue, worker), also when no service runs yet: then one is started for
this call and ended after it. Needs only the client if a service answers.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

import httpx
from pydantic import ValidationError

from sandbox_service.client import Call, Limits, Retries, SandboxClient, Status
from sandbox_service.commands.parser import default_url
from sandbox_service.errors import SetupError, Unavailable
from sandbox_service.reasons import flaws
from sandbox_service.tls import refused_tls

_PATIENCE_S = 5.0
"""Somebody waits at a terminal: a service that gives no answer is not tried for a minute."""


def run(options: argparse.Namespace) -> int:
    call = _call(options)
    key = read_key(options.api_key_file)
    given, *more = options.url or [default_url()]
    if more:
        raise SetupError("one call goes to one gateway: give --url once")
    _client(given, key)  # refuses an address or a key that is none, before a service is started
    with _service(given) as url, _client(url, key) as client:
        result = client.run(call)
    print(result.model_dump_json(indent=2 if sys.stdout.isatty() else None))
    return 0 if result.status is Status.OK else 1


def _client(url: str, key: str | None) -> SandboxClient:
    return SandboxClient(url, api_key=key, retries=Retries(patience_s=_PATIENCE_S))


def read_key(file: Path | None) -> str | None:
    """Return the API key in this file."""
    if file is None:
        return None
    key = _text(file).strip()
    if not key:
        raise SetupError(f"{file} is empty: the API key should be in it")
    return key


def _call(options: argparse.Namespace) -> Call:
    code = _text(Path(options.file))
    try:
        return Call(
            code=code,
            stdin=_text(options.stdin) if options.stdin else "",
            image=options.image,
            timeout_s=options.timeout_s,
            limits={name: getattr(options, name) for name in Limits.model_fields},
        )
    except ValidationError as error:
        field, wrong = next(flaws(Call, error))
        name = field.rpartition(".")[2]
        about = options.file if name == "code" else f"--{name.replace('_', '-')}"
        raise SetupError(f"{about}: {wrong}") from error


def _text(path: Path) -> str:
    """Return what is in the file (`-`: standard input), with its line ends as they are."""
    try:
        raw = sys.stdin.buffer.read() if str(path) == "-" else path.read_bytes()
        return raw.decode()
    except OSError as error:
        raise SetupError(f"cannot read {path}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise SetupError(f"{path} is not UTF-8 (byte {error.start}): a call takes text") from error


@contextmanager
def _service(url: str) -> Iterator[str]:
    """Yield the URL of a service: the given one if somebody answers there, else one of our own."""
    if url.startswith(("grpc://", "grpcs://")):
        yield url
        return
    try:
        httpx.get(f"{url}/healthz", timeout=5)
    except httpx.ConnectError as error:
        if refused := refused_tls(url, error):
            raise refused from error
        if urlsplit(url).hostname not in ("127.0.0.1", "localhost", "::1"):
            raise Unavailable(f"nothing answers at {url}: is the service running there?") from error
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        raise Unavailable(f"no usable answer from {url}: {error}") from error
    else:
        yield url
        return
    try:
        from sandbox_service.serve import temporary_service
    except ModuleNotFoundError as error:
        raise Unavailable(
            f"nothing answers at {url}: is the service running there? (To start one for this call, the packages of "
            f"`server` are needed: {error.name} is missing)"
        ) from error
    print(
        f"nothing answers at {url}: starting a service for this call (`sandbox-service serve` keeps one)",
        file=sys.stderr,
    )
    with temporary_service() as own:
        yield own
