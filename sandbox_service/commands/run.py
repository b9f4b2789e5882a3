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

from sandbox_service.client import Call, Limits, SandboxClient, Status
from sandbox_service.client._wire import refused_tls
from sandbox_service.errors import InvalidCall, SetupError, Unavailable


def run(options: argparse.Namespace) -> int:
    call = _call(options)
    key = read_key(options.api_key_file)
    with _service(options.url) as url, SandboxClient(url, api_key=key) as client:
        result = client.run(call)
    print(result.model_dump_json(indent=2 if sys.stdout.isatty() else None))
    return 0 if result.status is Status.OK else 1


def read_key(file: Path | None) -> str | None:
    """Return the API key in this file."""
    return _text(file).strip() if file is not None else None


def _call(options: argparse.Namespace) -> Call:
    code = _text(Path(options.file))
    try:
        return Call(
            code=code,
            stdin=_text(options.stdin) if options.stdin else "",
            image=options.image,
            timeout_s=options.timeout_s,
            limits=Limits(**{name: getattr(options, name) for name in Limits.model_fields}),
        )
    except ValidationError as error:
        first = error.errors()[0]
        raise InvalidCall(first["msg"], field=".".join(map(str, first["loc"]))) from error


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
    if not url.startswith(("http://", "https://")):
        raise SetupError(f"{url!r} is no URL: write it with its scheme, as in http://127.0.0.1:8000")
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
    from sandbox_service.serve import temporary_service

    print(
        f"nothing answers at {url}: starting a service for this call (`sandbox-service serve` keeps one)",
        file=sys.stderr,
    )
    with temporary_service() as own:
        yield own
