"""How much memory many calls at once cost the process that awaits them.

A server that answers by script (not the service: it is about the client) keeps back every answer until all calls are
awaited; then it lets them go. The client's process tells the most memory it had, and how long sending and collecting
took. `python -m loadtest.awaits --calls 45000`
"""

from __future__ import annotations

import argparse
import asyncio
import json
import multiprocessing
import resource
import socket
import sys
import time
from multiprocessing.synchronize import Event

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from sandbox_service.client import AsyncSandboxClient

CODE = "import sympy\nx = sympy.symbols('x')\nprint(sympy.solve(x**2 - {n}, x))\n" + "# as long as models write\n" * 20
STDOUT = "an answer of some length\n" * 8


def _serve(listener: socket.socket, go: Event) -> None:
    async def batch(request: Request) -> Response:
        calls = json.loads(await request.body())["calls"]
        while not go.is_set():  # noqa: ASYNC110  (an event of another process)
            await asyncio.sleep(0.05)
        lines = [
            {"index": index, "result": {"id": call["id"], "status": "ok", "stdout": STDOUT}}
            for index, call in enumerate(calls)
        ]
        body = "".join(json.dumps(line) + "\n" for line in [*lines, {"done": True}])
        return Response(body, media_type="application/x-ndjson")

    app = Starlette(routes=[Route("/v1/batches", batch, methods=["POST"])])
    uvicorn.Server(uvicorn.Config(app, log_level="error")).run(sockets=[listener])


def _peak_mb() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


async def _await_all(url: str, count: int, go: Event) -> dict[str, float]:
    begun, before_mb = time.monotonic(), _peak_mb()
    async with AsyncSandboxClient(url) as client:
        runs = [asyncio.ensure_future(client.run(CODE.format(n=n))) for n in range(count)]
        await asyncio.sleep(1)  # all that the streams take is sent
        if any(run.done() for run in runs):
            raise SystemExit("a call was answered before all were awaited")
        awaited_mb, sent_s = _peak_mb(), time.monotonic() - begun
        go.set()
        results = await asyncio.gather(*runs)
        assert all(result.stdout == STDOUT for result in results)
    return {
        "calls": count,
        "before_mb": round(before_mb, 1),
        "awaited_mb": round(awaited_mb, 1),
        "peak_mb": round(_peak_mb(), 1),
        "sent_s": round(sent_s, 2),
        "total_s": round(time.monotonic() - begun, 2),
        "requests_repeated": client.stats().retries,
    }


def main() -> int:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--calls", type=int, default=45_000, help="calls at once (default: %(default)s)")
    asked = options.parse_args()
    context = multiprocessing.get_context("spawn")
    go = context.Event()
    with socket.create_server(("127.0.0.1", 0), backlog=1024) as listener:
        server = context.Process(target=_serve, args=(listener, go), daemon=True)
        server.start()
        try:
            url = f"http://127.0.0.1:{listener.getsockname()[1]}"
            print(json.dumps(asyncio.run(_await_all(url, asked.calls, go))))
        finally:
            server.terminate()
            server.join(10)
    return 0


if __name__ == "__main__":
    sys.exit(main())
