"""Stands between any client and the service, and writes down every call that goes by.

    python -m loadtest.load.recorder --service http://127.0.0.1:8000 --port 8900 --log calls.jsonl

Point the client at the recorder. Each line of the log is {"at": seconds since the start, "call": the call without its
id, "result": what came back, if it came with the answer}: `python -m loadtest.load --replay calls.jsonl` sends them
again at the same pace and compares. Code and inputs stand in the log as they were sent. Whatever else a client asks for
(other APIs' dialects, checks of answers) goes by and is not written down.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, TextIO

import httpx
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import StreamingResponse
from starlette.routing import Route

_HOP_BY_HOP = {"host", "connection", "keep-alive", "transfer-encoding", "content-length", "content-encoding"}
_RECORDED = {"/v1/calls", "/v1/batches"}
_ANSWER_S = 900.0


class Recorder:
    def __init__(self, service: str, log: TextIO) -> None:
        self._log = log
        self._begun = time.monotonic()
        limits = httpx.Limits(max_connections=None)
        self._client = httpx.AsyncClient(base_url=service, timeout=_ANSWER_S, limits=limits, trust_env=False)

    async def pass_on(self, request: Request) -> StreamingResponse:
        at, body = time.monotonic() - self._begun, await request.body()
        url = httpx.URL(path=request.url.path, query=request.url.query.encode())
        headers = [(name, value) for name, value in request.headers.items() if name not in _HOP_BY_HOP]
        headers.append(("accept-encoding", "identity"))
        answer = await self._client.send(
            self._client.build_request(request.method, url, headers=headers, content=body), stream=True
        )

        async def pieces() -> AsyncIterator[bytes]:
            kept = []
            async for piece in answer.aiter_raw():
                kept.append(piece)
                yield piece
            await answer.aclose()
            if request.method == "POST" and request.url.path in _RECORDED and answer.is_success:
                self._note(at, body, b"".join(kept))

        passed = {name: value for name, value in answer.headers.items() if name not in _HOP_BY_HOP}
        return StreamingResponse(pieces(), answer.status_code, passed)

    def _note(self, at: float, body: bytes, answer: bytes) -> None:
        sent = json.loads(body)
        calls = sent.get("calls", [sent])
        results = _results(answer)
        for index, call in enumerate(calls):
            call.pop("id", None)
            entry: dict[str, Any] = {"at": round(at, 6), "call": call}
            if index in results:
                entry["result"] = results[index]
            self._log.write(json.dumps(entry) + "\n")
        self._log.flush()


def _results(answer: bytes) -> dict[int, Any]:
    """The Results of an answer of any form, by index; {} for a ticket."""
    lines = [json.loads(line) for line in answer.splitlines() if line.strip()]
    if len(lines) == 1 and "results" in lines[0]:
        return dict(enumerate(lines[0]["results"]))
    if len(lines) == 1 and "status" in lines[0]:
        return {0: lines[0]}
    return {line["index"]: line["result"] for line in lines if "index" in line}


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m loadtest.load.recorder",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--service", required=True, help="URL of the service")
    parser.add_argument("--port", type=int, default=8900)
    parser.add_argument("--log", type=Path, required=True, help="file to append to")
    options = parser.parse_args()
    with options.log.open("a") as log:
        recorder = Recorder(options.service, log)
        methods = ["GET", "POST", "DELETE"]
        app = Starlette(routes=[Route("/{path:path}", recorder.pass_on, methods=methods)])
        uvicorn.run(app, port=options.port, log_level="warning")


if __name__ == "__main__":
    main()
