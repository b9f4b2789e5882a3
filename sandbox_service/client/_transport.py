"""The seam between the client and a way to reach the service: one implementation per scheme of a URL.

A transport makes one attempt at a time and knows nothing of retries, fail-over or coalescing: `_engine.py` does those
for all of them. Whatever goes wrong in an attempt is a SandboxError; its class says if it may be tried again, and its
`retry_after_s` is set if and only if the service answered and asked to come back.
"""

from __future__ import annotations

import importlib.util
import re
from collections.abc import AsyncGenerator, Sequence
from typing import Protocol
from urllib.parse import urlsplit

from sandbox_service.client import _http
from sandbox_service.errors import InvalidOption, SetupError
from sandbox_service.models import Batch, Call, Checked, Checks, Result, Ticket

_ROUTE = re.compile(r"(?<!/)/v1(/(calls|batches|verify)(?=[/?]|$)[^#]*)?/*$")
"""At the end of an address: of our own API, which the client adds."""


class Transport(Protocol):
    """One address of the service, for one event loop. Calls come with their ids and `timeout_s` set.

    `timeout_s` bounds an attempt as a whole; past it, the attempt ends with Unavailable.
    """

    @property
    def url(self) -> str: ...

    def stream(self, calls: Sequence[Call], timeout_s: float) -> AsyncGenerator[Result, None]:
        """Run calls; yield the Result of each as it finishes. It ends when the service says that all were sent.

        An error that is about one of the calls alone has a `field` that begins with `calls.INDEX.`.
        """
        ...

    async def submit(self, call: Call, timeout_s: float) -> Ticket: ...

    async def submit_batch(self, batch: Batch, timeout_s: float) -> Ticket: ...

    async def get(self, id: str, wait_s: float, timeout_s: float) -> Result | None:
        """Return a call's Result, or None if it is not done after `wait_s` seconds."""
        ...

    async def get_batch(self, id: str, wait_s: float, timeout_s: float) -> list[Result] | None: ...

    async def cancel(self, id: str, timeout_s: float) -> None: ...

    async def cancel_batch(self, id: str, timeout_s: float) -> None: ...

    async def cancel_label(self, name: str, value: str, timeout_s: float) -> int: ...

    async def verify(self, checks: Checks, timeout_s: float) -> list[Checked]: ...

    async def close(self) -> None: ...


def check_url(url: str) -> str:
    """Return the address without a slash at its end. InvalidOption: no request could ever be sent there.

    SetupError: the packages that it needs are not installed.
    """
    if not _is_address(url):
        raise InvalidOption(
            f"{url!r} is not the address of a service; it looks like http://127.0.0.1:8000 or grpc://127.0.0.1:50051"
        )
    if route := _ROUTE.search(url):
        raise InvalidOption(f"give the address of the service without {route[0].rstrip('/')}: {url[: route.start()]}")
    if url.startswith("grpc") and importlib.util.find_spec("grpc") is None:
        raise SetupError(
            "grpc:// needs packages that are not installed: pip install '.[grpc]' in a checkout of this project"
        )
    return url.rstrip("/")


def _is_address(url: str) -> bool:
    try:
        parts = urlsplit(url)
        return parts.scheme in ("http", "https", "grpc", "grpcs") and bool(parts.hostname) and parts.port != 0
    except ValueError:  # a port that is no number
        return False


def open_transport(url: str, *, api_key: str | None, max_connections: int) -> Transport:
    """Return the transport for a URL that `check_url` took. Connects when it is first used."""
    if url.startswith("grpc"):
        from sandbox_service.client._grpc import GrpcTransport

        return GrpcTransport(url, api_key=api_key)
    return _http.HttpTransport(url, api_key=api_key, max_connections=max_connections)
