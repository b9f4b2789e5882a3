"""The connection itself, and how a gateway process starts and stops."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import socket
import struct
import subprocess
import sys
import time
from http.client import HTTPConnection
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import pytest

from sandbox_service.errors import SetupError
from sandbox_service.gateway import server
from tests.conftest import WaitUntil
from tests.gateway.apart import process
from tests.gateway.conftest import Gateway, ScriptedWorker


async def raw(url: str, *parts: bytes, pause_s: float = 0) -> bytes:
    """Send bytes as they are; return everything that comes back until the connection is closed."""
    address = urlsplit(url)
    reader, writer = await asyncio.open_connection(address.hostname, address.port)
    try:
        for part in parts:
            writer.write(part)
            await writer.drain()
            await asyncio.sleep(pause_s)
        async with asyncio.timeout(10):
            return await reader.read()
    finally:
        writer.close()
        with contextlib.suppress(OSError):
            await writer.wait_closed()


async def test_a_process_says_where_it_is_and_stops_with_0(environment: dict[str, str]) -> None:
    """Port 0: the ready line has the URL. SIGTERM: exit code 0."""
    async with process(**environment) as gateway:
        url = str((await gateway.event("ready"))["url"])
        async with httpx.AsyncClient(base_url=url) as http:
            assert (await http.get("/healthz")).status_code == 200
        gateway.process.send_signal(signal.SIGTERM)
        await gateway.event("stopped")
        assert await gateway.process.wait() == 0


async def test_a_stopping_gateway_lets_waiting_calls_finish(
    environment: dict[str, str], worker: ScriptedWorker, wait_until: WaitUntil
) -> None:
    """The answer that comes within drain_s is delivered; new connections are not taken."""
    async with process(**environment, SANDBOX_DRAIN_S="20") as gateway:
        url = str((await gateway.event("ready"))["url"])
        async with httpx.AsyncClient(base_url=url) as http:
            post = asyncio.create_task(http.post("/v1/calls", json={"id": "x", "code": "hold"}))
            await wait_until(lambda: worker.holds("x"))
            gateway.process.send_signal(signal.SIGTERM)
            await gateway.event("stopping")
            async with httpx.AsyncClient(base_url=url) as other:
                with pytest.raises(httpx.ConnectError):
                    await other.get("/healthz")
            await worker.let_go("x")
            assert (await post).json()["status"] == "ok"
        assert await gateway.process.wait() == 0


async def test_a_stopping_gateway_tells_who_waits_longer_where_to_ask(
    environment: dict[str, str], worker: ScriptedWorker, wait_until: WaitUntil
) -> None:
    """After drain_s: 503 with the id and a Location; a stream gets a terminal frame. The calls go on."""
    async with process(**environment, SANDBOX_DRAIN_S="0.3") as gateway:
        url = str((await gateway.event("ready"))["url"])
        async with httpx.AsyncClient(base_url=url, timeout=20) as http:
            post = asyncio.create_task(http.post("/v1/calls", json={"id": "x", "code": "hold"}))
            batch = {"id": "b", "calls": [{"code": "hold"}]}
            headers = {"Accept": "application/x-ndjson"}
            stream = asyncio.create_task(http.post("/v1/batches", json=batch, headers=headers))
            await wait_until(lambda: worker.holds("x") and worker.holds("b.0"))
            gateway.process.send_signal(signal.SIGTERM)
            answer = await post
            assert (answer.status_code, answer.headers["location"]) == (503, "/v1/calls/x")
            assert "call x" in answer.json()["error"]["message"]
            assert answer.headers["retry-after"] == "1"
            end = json.loads((await stream).text)
            assert (end["done"], end["error"]["code"]) == (False, "unavailable")
        assert await gateway.process.wait() == 0
    assert worker.holds("x")
    assert worker.holds("b.0")


async def test_a_gateway_that_would_be_open_to_strangers_does_not_start(environment: dict[str, str]) -> None:
    """It says so in one line, and exits with an error."""
    assert "SANDBOX_API_KEYS_FILE" in _refusal(environment | {"SANDBOX_HOST": "0.0.0.0"})


async def test_a_taken_port_is_told(environment: dict[str, str], gateway: Gateway) -> None:
    """With what to set."""
    port = str(urlsplit(gateway.url).port)
    assert "SANDBOX_PORT" in _refusal(environment | {"SANDBOX_PORT": port})


def _refusal(environment: dict[str, str]) -> str:
    """Return what the command says that cannot start."""
    command = [sys.executable, "-m", "sandbox_service", "gateway"]
    known = {"PATH": os.environ["PATH"], **environment}
    ran = subprocess.run(command, env=known, capture_output=True, text=True, check=False)
    assert ran.returncode == SetupError.exit_code
    [line] = ran.stderr.splitlines()
    assert line.startswith("sandbox-service: ")
    return line


def test_a_host_that_no_resolver_takes_is_told() -> None:
    with pytest.raises(SetupError, match="--host"):
        server._bind("gateway..lan", 0)


async def test_keys_are_reloaded_on_sighup(environment: dict[str, str], tmp_path: Path) -> None:
    """Without a restart; a broken file is reported and changes nothing."""
    keys = tmp_path / "keys"
    keys.write_text(f"alice:{'0' * 64}\n")
    async with process(**environment, SANDBOX_API_KEYS_FILE=str(keys)) as gateway:
        await gateway.event("ready")
        gateway.process.send_signal(signal.SIGHUP)
        await gateway.event("keys_reloaded")
        keys.write_text("")
        gateway.process.send_signal(signal.SIGHUP)
        await gateway.event("keys_not_reloaded")
        assert gateway.process.returncode is None


async def test_a_dripping_head_is_cut_off(gateway: Gateway, monkeypatch: pytest.MonkeyPatch) -> None:
    """A connection that never completes its request's head does not stay."""
    monkeypatch.setattr(server, "HEAD_S", 0.3)
    address = urlsplit(gateway.url)
    reader, writer = await asyncio.open_connection(address.hostname, address.port)
    writer.write(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nX: ")
    began = time.monotonic()
    with contextlib.suppress(OSError):
        while time.monotonic() - began < 5 and not reader.at_eof():
            writer.write(b"x")
            await writer.drain()
            await asyncio.sleep(0.05)
    writer.close()
    assert 0.2 < time.monotonic() - began < 3


async def test_a_silent_connection_is_cut_off(gateway: Gateway, monkeypatch: pytest.MonkeyPatch) -> None:
    """One that sends nothing at all, too."""
    monkeypatch.setattr(server, "HEAD_S", 0.3)
    assert await raw(gateway.url) == b""


async def test_a_dripping_body_is_refused(gateway: Gateway, monkeypatch: pytest.MonkeyPatch) -> None:
    """408 when the body takes too long."""
    monkeypatch.setattr("sandbox_service.gateway.body.BODY_S", 0.2)
    head = b"POST /v1/calls HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: 99\r\n"
    answer = await raw(gateway.url, head + b"Connection: close\r\n\r\n{", b'"code"')
    assert answer.startswith(b"HTTP/1.1 408 ")
    assert b'"too_slow"' in answer


@pytest.mark.parametrize("request_bytes", [b"\x00\x01\x02\r\n\r\n", b"GET\r\n\r\n", b"GET / HTTP/9.9\r\n\r\n"])
async def test_what_is_not_http_gets_a_400_in_the_one_shape(gateway: Gateway, request_bytes: bytes) -> None:
    """uvicorn's own answer would be plain text."""
    answer = await raw(gateway.url, request_bytes)
    assert answer.startswith(b"HTTP/1.1 400 ")
    assert json.loads(answer.partition(b"\r\n\r\n")[2])["error"]["code"] == "bad_request"


async def test_both_lengths_are_refused(gateway: Gateway) -> None:
    """Content-Length with Transfer-Encoding is how requests are smuggled: never two answers."""
    request = (
        b"POST /v1/calls HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: 6\r\n"
        b"Transfer-Encoding: chunked\r\n\r\n0\r\n\r\nGET /healthz HTTP/1.1\r\nHost: localhost\r\n"
        b"Connection: close\r\n\r\n"
    )
    answer = await raw(gateway.url, request)
    assert answer.startswith(b"HTTP/1.1 400 ")
    assert b'"status":"ok"' not in answer


async def test_connections_beyond_the_limit_get_429(gateway: Gateway) -> None:
    """In the one shape with Retry-After, while the others go on."""
    gateway.server.config.limit_concurrency = 1
    address = urlsplit(gateway.url)
    idle = [await asyncio.open_connection(address.hostname, address.port) for _ in range(2)]
    answer = await raw(gateway.url, b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n")
    for _, writer in idle:
        writer.close()
    assert answer.startswith(b"HTTP/1.1 429 ")
    assert b"retry-after: 1" in answer.lower()
    assert b'"overloaded"' in answer


LINE = b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n"
CLOSE = b"Connection: close\r\n\r\n"
MANY = b"X: y\r\n" * 170_000
ONE = b"X: " + b"y" * 1_000_000 + b"\r\n"


@pytest.mark.parametrize(
    "head",
    [
        LINE + MANY + CLOSE,
        LINE + ONE + CLOSE,
        b"GET /?" + b"y" * 1_000_000 + b" HTTP/1.1\r\n\r\n",
        LINE + MANY[:60_000],
    ],
    ids=["many headers", "one header", "long path", "many headers without an end"],
)
async def test_a_large_head_is_refused(gateway: Gateway, head: bytes) -> None:
    """431 in the one shape, then the end, long before the time a slow head is given; the next client is served."""
    began = time.monotonic()
    answer = await raw(gateway.url, head)
    assert time.monotonic() - began < 2
    assert answer.startswith(b"HTTP/1.1 431 ")
    assert json.loads(answer.partition(b"\r\n\r\n")[2])["error"]["code"] == "headers_too_large"
    assert (await gateway.client.get("/healthz")).status_code == 200


async def test_a_refused_client_cannot_stay(gateway: Gateway, monkeypatch: pytest.MonkeyPatch) -> None:
    """One that keeps its side open after the 431 is cut off."""
    monkeypatch.setattr(server, "LINGER_S", 0.2)
    address = urlsplit(gateway.url)
    _, writer = await asyncio.open_connection(address.hostname, address.port)
    writer.write(LINE + MANY)
    began = time.monotonic()
    with contextlib.suppress(OSError):
        while time.monotonic() - began < 5:
            writer.write(b"x")
            await writer.drain()
            await asyncio.sleep(0.02)
    writer.close()
    assert time.monotonic() - began < 3


async def test_heads_are_counted_each_anew(gateway: Gateway) -> None:
    """Heads of 30 KiB, one after the other and all at once, are served: no head counts for the next."""
    head = LINE + b"X: " + b"y" * 30_000 + b"\r\n"
    many = LINE + b"".join(b"X-%d: %s\r\n" % (number, b"y" * 300) for number in range(100))
    waiting = await raw(gateway.url, head + b"\r\n", many + b"\r\n", head + b"\r\n", head + CLOSE, pause_s=0.1)
    assert waiting.count(b"HTTP/1.1 200 ") == 4
    at_once = await raw(gateway.url, (head + b"\r\n") * 5 + head + CLOSE)
    assert at_once.count(b"HTTP/1.1 200 ") == 6


@pytest.mark.parametrize("chunked", [False, True])
async def test_a_body_is_no_head(gateway: Gateway, worker: ScriptedWorker, chunked: bool) -> None:
    """A body far larger than any head is read, and the request after it too."""
    body = json.dumps({"code": "1", "stdin": "x" * 1_000_000}).encode()
    head = b"POST /v1/calls HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
    if chunked:
        request = head + b"Transfer-Encoding: chunked\r\n\r\n%x\r\n%s\r\n0\r\n\r\n" % (len(body), body)
    else:
        request = head + b"Content-Length: %d\r\n\r\n%s" % (len(body), body)
    answer = await raw(gateway.url, request, LINE + CLOSE)
    assert answer.count(b"HTTP/1.1 200 ") == 2


TRAILED = (
    b"POST /v1/calls HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
    b"Transfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n"
)


async def test_trailers_count_as_head(gateway: Gateway) -> None:
    """They would be as good for filling memory."""
    answer = b""
    with contextlib.suppress(ConnectionError):  # cut off while it sends; a gateway that reads on times out instead
        answer = await raw(gateway.url, TRAILED, MANY)
    assert not answer or answer.startswith(b"HTTP/1.1 431 ")


async def test_a_trailer_is_no_header(gateway: Gateway) -> None:
    """A second Host after the body is not seen at all: the body is what is refused."""
    answer = await raw(gateway.url, TRAILED + b"Host: elsewhere\r\nHost: localhost\r\n\r\n" + LINE + CLOSE)
    assert answer.startswith(b"HTTP/1.1 422 ")
    assert b"HTTP/1.1 200 " in answer


@pytest.mark.parametrize("name", ["Host", "Content-Type", "content-encoding", "Authorization"])
async def test_a_repeated_header_that_decides_something_is_refused(gateway: Gateway, name: str) -> None:
    """400 in the one shape, for every route, equal or not."""
    twice = f"{name}: localhost\r\n{name.upper()}: localhost\r\n".encode()
    for line in (b"GET /healthz HTTP/1.1\r\n", b"GET /v1/calls/x HTTP/1.1\r\n"):
        host = b"" if name == "Host" else b"Host: localhost\r\n"
        answer = await raw(gateway.url, line + host + twice + CLOSE)
        assert answer.startswith(b"HTTP/1.1 400 ")
        error = json.loads(answer.partition(b"\r\n\r\n")[2])["error"]
        assert error["code"] == "bad_request"
        assert name.lower() in error["message"]


async def test_pipelined_requests_are_bounded(gateway: Gateway) -> None:
    """A flood of them without waiting for answers ends the connection; what a client may mean well is served above."""
    answer = b""
    with contextlib.suppress(ConnectionError):  # a gateway that reads on answers all of them
        answer = await raw(gateway.url, (LINE + b"\r\n") * 1000 + LINE + CLOSE)
    assert answer.count(b"HTTP/1.1 200 ") <= server.PIPELINED
    assert (await gateway.client.get("/healthz")).status_code == 200


BUSY = """
import time
from sandbox_service.gateway import server
server.HEAD_S = server.KEEP_ALIVE_S = 1
on_url = server.Protocol.on_url
def compute(self, url):
    if url == b"/busy":
        time.sleep(1.5)
    on_url(self, url)
server.Protocol.on_url = compute
"""


@pytest.mark.parametrize("kept", [False, True])
async def test_a_busy_gateway_cuts_nobody_off(environment: dict[str, str], kept: bool) -> None:
    """A request is sent in time, on a new or a kept connection, while the gateway is busy with another one for longer
    than a head may take or a connection be idle: once it closed the connection with the request unread."""

    async def ask(client: HTTPConnection) -> int:
        answer = await asyncio.to_thread(client.getresponse)
        answer.read()
        return answer.status

    async with process(BUSY, **environment) as child:
        netloc = urlsplit(str((await child.event("ready"))["url"])).netloc
        with contextlib.closing(HTTPConnection(netloc, timeout=10)) as client:
            client.connect()
            if kept:
                client.request("GET", "/healthz")
                assert await ask(client) == 200
            with contextlib.closing(HTTPConnection(netloc, timeout=10)) as other:
                other.request("GET", "/busy")
                await asyncio.sleep(0.5)
                client.request("GET", "/healthz")
                assert await ask(other) == 404
                assert await ask(client) == 200


async def test_many_may_wait_to_be_accepted(gateway: Gateway) -> None:
    """As many as the kernel allows; it says so itself (the sixth number of TCP_INFO, for a socket that listens)."""
    told = gateway.server._listener.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 104)
    (backlog,) = struct.unpack_from("I", told, 8 + 5 * 4)
    assert backlog == min(server.BACKLOG, int(Path("/proc/sys/net/core/somaxconn").read_text()))
