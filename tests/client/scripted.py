"""A real HTTP server on loopback that answers by script, so that a test can make it misbehave in exact ways."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from sandbox_service.models import Result, Status


@dataclass(frozen=True)
class Answer:
    """One scripted answer. `cut`: close the connection after the body, with more of it announced."""

    status: int = 200
    body: bytes = b""
    headers: dict[str, str] = field(default_factory=dict)
    cut: bool = False
    delay_s: float = 0.0


@dataclass(frozen=True)
class Seen:
    method: str
    path: str
    body: Any
    headers: dict[str, str]


Script = Callable[[Seen], Answer]


class ScriptedServer:
    """Answers the n-th request with script[n], later ones with the last."""

    def __init__(self) -> None:
        self.script: list[Answer | Script] = []
        self.seen: list[Seen] = []
        scripted = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def handle_any(self) -> None:
                length = int(self.headers.get("content-length", 0))
                body = json.loads(self.rfile.read(length)) if length else None
                seen = Seen(self.command, self.path, body, {k.lower(): v for k, v in self.headers.items()})
                scripted.seen.append(seen)
                step = scripted.script[min(len(scripted.seen), len(scripted.script)) - 1]
                self.answer(step if isinstance(step, Answer) else step(seen))

            do_GET = do_POST = do_DELETE = handle_any

            def answer(self, answer: Answer) -> None:
                time.sleep(answer.delay_s)
                self.send_response(answer.status)
                for name, value in answer.headers.items():
                    self.send_header(name, value)
                self.send_header("content-length", str(len(answer.body) + (1 if answer.cut else 0)))
                self.end_headers()
                self.wfile.write(answer.body)
                self.close_connection = answer.cut

            def log_message(self, *_: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        # A client that gave up is what some tests are about: no traceback for its closed connection.
        self._server.handle_error = lambda *_: None  # type: ignore[method-assign]
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,))
        self._thread.start()

    def close(self) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


def result_json(id: str, stdout: str = "") -> dict[str, Any]:
    return Result(id=id, status=Status.OK, stdout=stdout).model_dump(mode="json")


def echo(seen: Seen) -> Answer:
    """Answer all calls as if they had run: each its id, and its code as stdout."""
    return Answer(body=frames(seen.body["calls"], list(range(len(seen.body["calls"]))), done=True))


def error(status: int, code: str, retry_after_s: float | None = None, **headers: str) -> Answer:
    stated = {"code": code, "message": f"scripted {code}", "field": "code", "retry_after_s": retry_after_s}
    return Answer(status, json.dumps({"error": stated}).encode(), headers)


def frames(calls: list[dict[str, Any]], indexes: list[int], *, done: bool) -> bytes:
    lines = [{"index": index, "result": result_json(calls[index]["id"], calls[index]["code"])} for index in indexes]
    text = "".join(json.dumps(line) + "\n" for line in lines)
    return (text + ('{"done": true}\n' if done else "")).encode()


def infra_errors(seen: Seen) -> Answer:
    """Answer all calls as if the service had lost them."""
    lost = [
        Result(id=call["id"], status=Status.INFRA_ERROR, message="its worker was lost") for call in seen.body["calls"]
    ]
    lines = [{"index": index, "result": one.model_dump(mode="json")} for index, one in enumerate(lost)]
    return Answer(body="".join(json.dumps(line) + "\n" for line in [*lines, {"done": True}]).encode())
