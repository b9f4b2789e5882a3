"""Who is asking: API keys to tenants, and which Host names a keyless gateway answers to.

Keys are kept as sha256 only and compared in constant time over all of them. Without a key file there is one tenant,
`default`, and the gateway listens on loopback alone; there the Host header is checked, because a web page could
otherwise reach it through DNS rebinding.
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import hmac
import ipaddress
import re
from pathlib import Path

from starlette.types import Scope

from sandbox_service.config import Settings
from sandbox_service.errors import SetupError, Unauthorized, WrongHost

DEFAULT_TENANT = "default"
_LINE = re.compile(r"^([A-Za-z0-9_-]{1,64}):([0-9a-fA-F]{64})(?:\s+\*?-)?$")  # sha256sum writes its "  -" behind
_DIGEST = "64 hex digits, of `printf %s KEY | sha256sum`"
_ASKED = (
    "this service asks for an API key: `Authorization: Bearer KEY`; in the client `api_key`, on the command line "
    "`--api-key-file`"
)


class Gatekeeper:
    """Tells the tenant of a request, or refuses it."""

    def __init__(self, settings: Settings) -> None:
        self._file = settings.api_keys_file
        self._keys: list[tuple[bytes, str]] = []
        self._hosts = {"localhost", "127.0.0.1", "[::1]", settings.host.lower()}
        if self._file is not None:
            self.reload()
        else:
            _refuse_strangers(settings.host, "SANDBOX_HOST")
            if settings.grpc_port is not None:
                _refuse_strangers(settings.grpc_host, "SANDBOX_GRPC_HOST")

    def reload(self) -> None:
        """Read the key file again; if it cannot be used, raise SetupError and keep the keys that are in force."""
        if self._file is not None:
            self._keys = read_keys(self._file)

    def tenant(self, authorization: bytes) -> str:
        """Return whose key this is, from the header of that name. Unauthorized: keys are in force, and it is none."""
        if self._file is None:
            return DEFAULT_TENANT
        return self._holder(_key(authorization))

    def check_host(self, scope: Scope) -> None:
        """SECURITY: a page of another site that resolves its name to loopback is refused (test_auth.py)."""
        if self._file is not None:
            return
        host = header(scope, b"host").decode("latin-1").lower()
        name = host if host.endswith("]") else host.rpartition(":")[0] or host
        if name not in self._hosts:
            raise WrongHost("this gateway has no API keys and answers to localhost only; use http://127.0.0.1:<port>")

    def _holder(self, key: bytes) -> str:
        # SECURITY: digests of equal length, every key compared, no early exit: time tells nothing (test_auth.py).
        digest = hashlib.sha256(key).digest()
        found = None
        for known, tenant in self._keys:
            if hmac.compare_digest(known, digest):
                found = tenant
        if found is None:
            raise Unauthorized("this API key is not known here" if key else _ASKED)
        return found


def read_keys(file: Path) -> list[tuple[bytes, str]]:
    """Return (digest, tenant) of every line. A tenant may have several keys; `#` starts a comment."""
    try:
        text = file.read_text()
    except (OSError, UnicodeDecodeError) as error:
        why = error.strerror if isinstance(error, OSError) else error
        raise SetupError(f"cannot read the API keys in {file}: {why}") from error
    keys = []
    for number, line in enumerate(text.splitlines(), 1):
        entry = line.partition("#")[0].strip()
        if not entry:
            continue
        match = _LINE.match(entry)
        if match is None:
            raise SetupError(f"{file} line {number}: write `tenant:sha256-of-key` ({_DIGEST})")
        keys.append((bytes.fromhex(match[2]), match[1]))
    if not keys:
        raise SetupError(
            f"{file} holds no key, so nobody could call the service; add a `tenant:sha256-of-key` line ({_DIGEST})"
        )
    return keys


def _refuse_strangers(host: str, setting: str) -> None:
    if not is_loopback(host):
        raise SetupError(
            f"refusing to listen on {host} without API keys: anybody who reaches it could run code. "
            f"Set SANDBOX_API_KEYS_FILE to a file of `tenant:sha256-of-key` lines ({_DIGEST}), or {setting}=127.0.0.1"
        )


def is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def header(scope: Scope, name: bytes) -> bytes:
    """Return the value of a header, empty if it was not sent."""
    return next((bytes(value) for known, value in scope["headers"] if known == name), b"")


def _key(authorization: bytes) -> bytes:
    """Return the key that was sent: as a bearer token, or as the password of a URL (`http://key:KEY@host`), which is
    how clients of other services can send one."""
    scheme, _, credentials = authorization.partition(b" ")
    if scheme.lower() == b"bearer":
        return credentials.strip()
    if scheme.lower() == b"basic":
        with contextlib.suppress(ValueError):
            return base64.b64decode(credentials.strip(), validate=True).partition(b":")[2]
    return b""
