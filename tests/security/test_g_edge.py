"""G: bytes sent to the service's HTTP port by somebody who means no good."""

from __future__ import annotations

import asyncio
import contextlib
import gzip
import json
import re
import socket
from urllib.parse import urlsplit

import pytest

from tests.security.cases import covers
from tests.security.harness import Attacker, Target

HOST = b"Host: localhost\r\n"
JSON = b"Content-Type: application/json\r\n"
CLOSE = b"Connection: close\r\n"
POST = b"POST /v1/calls HTTP/1.1\r\n" + HOST + JSON
CHUNKED = b"Transfer-Encoding: chunked\r\n"
CALL = b'{"code":"print(6*7)"}'
SMUGGLED = b"GET /healthz HTTP/1.1\r\n" + HOST + CLOSE + b"\r\n"
"""What a proxy in front would have taken for a part of the request before it."""
ANSWER_S = 30


async def send(target: Target, *parts: bytes, half_close: bool = False) -> bytes:
    """Everything that the service answers until it closes, or stays silent although it was asked to close."""
    address = urlsplit(target.url)
    reader, writer = await asyncio.open_connection(address.hostname, address.port)
    received = b""
    try:
        with contextlib.suppress(ConnectionError, TimeoutError):
            for part in parts:
                writer.write(part)
                await writer.drain()
            if half_close:
                writer.write_eof()
            async with asyncio.timeout(ANSWER_S):
                while piece := await reader.read(1 << 16):
                    received += piece
    finally:
        writer.close()
        with contextlib.suppress(OSError):
            await writer.wait_closed()
    return received


def statuses(answer: bytes) -> list[int]:
    return [int(number) for number in re.findall(rb"HTTP/1\.1 (\d{3}) ", answer)]


AMBIGUOUS = {
    "both lengths": POST + b"Content-Length: 21\r\n" + CHUNKED + b"\r\n0\r\n\r\n",
    "both lengths, chunked first": POST + CHUNKED + b"Content-Length: 5\r\n\r\n0\r\n\r\n",
    "two different lengths": POST + b"Content-Length: 21\r\nContent-Length: 0\r\n\r\n",
    "a list of lengths": POST + b"Content-Length: 21, 0\r\n\r\n",
    "a negative length": POST + b"Content-Length: -1\r\n\r\n",
    "a length with a plus": POST + b"Content-Length: +0\r\n\r\n",
    "a hexadecimal length": POST + b"Content-Length: 0x0\r\n\r\n",
    "a length past 64 bits": POST + b"Content-Length: 18446744073709551616\r\n\r\n",
    "no such coding": POST + b"Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n",
    "chunked is not the last coding": POST + b"Transfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n",
    "a space before the colon": POST + b"Transfer-Encoding : chunked\r\n\r\n0\r\n\r\n",
    "a folded header": POST + b"Transfer-Encoding:\r\n chunked\r\n\r\n0\r\n\r\n",
    "a chunk that is longer than told": POST + CHUNKED + b"\r\n3\r\n" + CALL + b"\r\n0\r\n\r\n",
    "a chunk without an end": POST + CHUNKED + b"\r\n2\r\n{}0\r\n\r\n",
    "a negative chunk": POST + CHUNKED + b"\r\n-1\r\n{}\r\n0\r\n\r\n",
    "a chunk past 64 bits": POST + CHUNKED + b"\r\n10000000000000002\r\n{}\r\n0\r\n\r\n",
    "a chunk of 0x2": POST + CHUNKED + b"\r\n0x2\r\n{}\r\n0\r\n\r\n",
    "a bare line feed after a chunk's size": POST + CHUNKED + b"\r\n2\n{}\n0\n\n",
    "NUL in a header": POST + b"X: \0\r\nContent-Length: 0\r\n\r\n",
    "a carriage return in a header": POST + b"X: y\rContent-Length: 0\r\n\r\n",
    "HTTP/0.9": b"GET /healthz\r\n",
    "HTTP/2": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "TLS": bytes.fromhex("16030100ca010000c60303") + b"x" * 200 + b"\r\n\r\n",
    "NUL in the path": b"GET /healthz\0 HTTP/1.1\r\n" + HOST + b"\r\n",
    "a method nobody knows": b"FROBNICATE /healthz HTTP/1.1\r\n" + HOST + b"\r\n",
    "an endless method": b"G" * 100_000 + b" /healthz HTTP/1.1\r\n" + HOST + b"\r\n",
}


@covers("G1 E09")
@pytest.mark.parametrize("name", AMBIGUOUS)
async def test_what_can_be_read_in_two_ways_is_not_read(name: str, target: Target) -> None:
    """Lengths and chunks that lie, smuggling, NUL, other protocols: one refusal, and nothing after it is answered."""
    answer = await send(target, AMBIGUOUS[name] + SMUGGLED, half_close=True)
    assert set(statuses(answer)) <= {400, 422, 431}, answer
    assert len(statuses(answer)) <= 1, answer
    assert b'"status":"ok"' not in answer


WELL_FRAMED = {
    "depth of 100,000": (b"[" * 100_000, 422),
    "depth in a field": (b'{"code":' + b'{"a":' * 50_000 + b"1" + b"}" * 50_000 + b"}", 422),
    "a key twice": (b'{"code":"1","code":"2"}', 422),
    "NaN": (b'{"code":"1","limits":{"wall_s":NaN}}', 422),
    "infinity by overflow": (b'{"code":"1","limits":{"wall_s":1e400}}', 422),
    "a number of 100,000 digits": (b'{"code":"1","seed":' + b"9" * 100_000 + b"}", 422),
    "half a character": (b'{"code":"\\ud800"}', 422),
    "not UTF-8": (b'{"code":"\xff\xfe"}', 422),
    "UTF-16": ('{"code":"1"}'.encode("utf-16"), 422),
    "a path out of the folder": (b'{"code":"1","files":{"../x":""}}', 422),
    "a path with NUL": (b'{"code":"1","files":{"a\\u0000b":""}}', 422),
    "a path to fetch that is absolute": (b'{"code":"1","fetch":["/etc/passwd"]}', 422),
    "an id that is a path": (b'{"code":"1","id":"../../x"}', 422),
    "an id with a line feed": (b'{"code":"1","id":"x\\ny"}', 422),
    "a variable with a NUL": (b'{"code":"1","env":{"A":"x\\u0000y"}}', 422),
    "a variable with =": (b'{"code":"1","env":{"A=B":"x"}}', 422),
    "a field of ours": (b'{"code":"1","lowered":["wall_s"]}', 422),
    "200,000 fields": (b"{" + b",".join(b'"a%d":1' % i for i in range(199_000)) + b"}", 422),
    "a million fields": (b"{" + b",".join(b'"a%d":1' % i for i in range(1_000_000)) + b"}", 413),
    "nothing": (b"", 422),
    "null": (b"null", 422),
}


@covers("G1 D10")
@pytest.mark.parametrize("name", WELL_FRAMED)
async def test_a_hostile_body_is_refused(name: str, target: Target) -> None:
    """Depth, numbers, encodings, names and fields that nobody means well: 422 in the one shape, without its bytes."""
    body, status = WELL_FRAMED[name]
    answer = await send(target, POST + CLOSE + b"Content-Length: %d\r\n\r\n" % len(body) + body)
    assert statuses(answer) == [status], answer[:500]
    error = json.loads(answer.partition(b"\r\n\r\n")[2])["error"]
    assert len(error["message"]) < 1000
    assert "Traceback" not in error["message"]


@covers("G1")
@pytest.mark.parametrize(
    ("head", "status"),
    [
        (JSON + b"Content-Encoding: gzip\r\n", 415),
        (b"Content-Type: multipart/form-data; boundary=x\r\n", 415),
        (b"Content-Type: application/json; charset=utf-16\r\n", 415),
        (JSON + b"Host: elsewhere.example\r\n", 400),
    ],
    ids=["gzip", "multipart", "another charset", "two hosts"],
)
async def test_another_media_type_is_refused(head: bytes, status: int, target: Target) -> None:
    """Compressed and multipart bodies, other encodings: 415; what decides something twice: 400."""
    body = gzip.compress(CALL)
    length = b"Content-Length: %d\r\n\r\n" % len(body)
    answer = await send(target, b"POST /v1/calls HTTP/1.1\r\n" + HOST + CLOSE + head + length + body)
    assert statuses(answer) == [status], answer


@covers("G1")
async def test_a_page_of_another_site_is_refused(target: Target) -> None:
    """Without keys only localhost is a host: a name that resolves to loopback (DNS rebinding) reaches nothing."""
    answer = await send(target, b"GET /metrics HTTP/1.1\r\nHost: rebound.example\r\n" + CLOSE + b"\r\n")
    assert statuses(answer) in ([400], [403], [421]), answer


@covers("G1")
async def test_a_body_without_an_end_is_cut_off(target: Target) -> None:
    """Chunks that add up to more than a body may have: 413 while they arrive, not after a GiB of them."""
    chunk = b"%x\r\n" % (1 << 20) + b" " * (1 << 20) + b"\r\n"
    answer = await send(target, POST + CLOSE + CHUNKED + b"\r\n", *[chunk] * 64)
    assert statuses(answer) in ([413], []), answer  # none if the reset that ends it overtakes the answer


@covers("G1 B12")
async def test_a_client_that_closed_its_sending_half_is_answered(target: Target) -> None:
    """FIN after the request is no reason to leave the call unanswered or to crash."""
    answer = await send(target, POST + b"Content-Length: %d\r\n\r\n" % len(CALL) + CALL, half_close=True)
    assert statuses(answer) in ([200], []), answer


@covers("G6")
async def test_slow_and_silent_clients_hold_up_nobody(target: Target, attacker: Attacker) -> None:
    """300 connections that send nothing, half a head, half a body, or read nothing of a large answer: calls go on."""
    address = urlsplit(target.url)
    large = json.dumps({"code": "print('x' * 3_000_000)", "limits": {"output_kb": 4096}}).encode()
    starts = [
        b"",
        b"GET /healthz HTTP/1.1\r\nX: ",
        POST + b"Content-Length: 100\r\n\r\n{",
        POST + CHUNKED + b"\r\n1\r\n{\r\n",
    ]
    held: list[socket.socket] = []
    try:
        for number in range(300):
            held.append(socket.create_connection((address.hostname, address.port)))
            held[-1].sendall(starts[number % len(starts)])
        for _ in range(4):  # small windows, so that the answer waits for a reader
            slow = socket.socket()
            slow.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            slow.connect((address.hostname, address.port))
            slow.sendall(POST + b"Content-Length: %d\r\n\r\n" % len(large) + large)
            held.append(slow)
        for _ in range(5):
            assert (await attacker.call("print(6 * 7)")).stdout == "42\n"
    finally:
        for connection in held:
            connection.close()
    await attacker.verify_rest()


@covers("G5")
async def test_after_all_this_it_serves_as_before(target: Target, attacker: Attacker) -> None:
    """Ten thousand bytes of noise on a hundred connections at once, then the golden calls."""
    noise = [bytes((i * j + i) % 256 for j in range(10_000)) for i in range(100)]
    answers = await asyncio.gather(*(send(target, each, half_close=True) for each in noise))
    assert {status for answer in answers for status in statuses(answer)} <= {400, 431}
    await attacker.verify_rest()
