"""The client SDK: `SandboxClient` and `AsyncSandboxClient`.

Loads httpx and pydantic and nothing of the server. `_wire.py` knows the protocol and does no I/O, `_async.py` does
the I/O, `_sync.py` is generated from it by `scripts/generate_sync_client.py`.

    with SandboxClient("http://127.0.0.1:8000") as sandbox:
        print(sandbox.run("print(6 * 7)").stdout)

What became of the code is in the Result's `status`; only a request that could not be answered raises, always a
subclass of `SandboxError` (or TimeoutError from `wait`).
"""

from sandbox_service.client._async import AsyncSandboxClient
from sandbox_service.client._sync import SandboxClient
from sandbox_service.client._wire import Retries
from sandbox_service.errors import SandboxError
from sandbox_service.models import Call, Limits, Result, Status, Ticket

__all__ = [
    "AsyncSandboxClient",
    "Call",
    "Limits",
    "Result",
    "Retries",
    "SandboxClient",
    "SandboxError",
    "Status",
    "Ticket",
]
