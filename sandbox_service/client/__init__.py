"""The client SDK: `SandboxClient` and `AsyncSandboxClient`.

Loads httpx and pydantic and nothing of the server. From the caller to the wire: `_async.py` (the methods; `_sync.py`
is generated from it by `scripts/generate_sync_client.py`), `_loops.py` and `_thread.py` (an engine for each event loop,
or one in a thread), `_engine.py` with `_coalesce.py` and `_retries.py`, `_transport.py` (the seam), `_http.py`, and
`_wire.py`, which knows the protocol and does no I/O.

    with SandboxClient("http://127.0.0.1:8000") as sandbox:
        print(sandbox.run("print(6 * 7)").stdout)

What became of the code is in the Result's `status`; only a request that could not be answered raises, always a
subclass of `SandboxError` (or TimeoutError from `wait`).
"""

from sandbox_service.client._async import AsyncSandboxClient
from sandbox_service.client._retries import Retries
from sandbox_service.client._stats import Stats
from sandbox_service.client._sync import SandboxClient
from sandbox_service.errors import SandboxError
from sandbox_service.models import Call, Checked, CheckStatus, Limits, Result, Status, Ticket

__all__ = [
    "AsyncSandboxClient",
    "Call",
    "CheckStatus",
    "Checked",
    "Limits",
    "Result",
    "Retries",
    "SandboxClient",
    "SandboxError",
    "Stats",
    "Status",
    "Ticket",
]
