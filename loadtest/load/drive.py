"""One client process: sends its calls by a plan and notes when each was due, sent and answered.

Open loop: every request has a time at which it is due, which no answer changes; latency counts from that time, so a
service (or a client) that falls behind cannot hide it. Closed loop: each connection sends its next request when it
has its answer. A burst is an open loop in which everything is due at once.

Speaks HTTP/1.1 by itself, because a client library would take more CPU time than the service; gRPC by its library.
Answers are checked.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import socket
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import uvloop

from loadtest.load.traffic import Shot

if TYPE_CHECKING:
    from loadtest.load.rpc import Channel

PHASES = ("admitted", "queued", "dispatched", "forked", "ran", "collected", "total")
ANSWER_S = 1800.0
"""So long a client waits; the last call of a burst is answered after all others."""
_HEAD = 1 << 20
_IP_BIND_ADDRESS_NO_PORT = 24
IDLE_S = 60.0
"""A connection that was idle for longer is not used again: the gateway may be about to close it."""


class Transport(Enum):
    SINGLE = "single"
    BATCH = "batch"
    STREAM = "stream"
    RPC = "gRPC"
    """A call each, all on one connection."""
    RPC_BATCH = "gRPC batch"

    @property
    def one_by_one(self) -> bool:
        return self in (Transport.SINGLE, Transport.RPC)

    @property
    def over_grpc(self) -> bool:
        return self in (Transport.RPC, Transport.RPC_BATCH)


@dataclass(frozen=True)
class Plan:
    """What one process does. `due_s` has a time for each request after the start; None makes it a closed loop."""

    urls: tuple[str, ...]
    """Of gateways; over gRPC their addresses, HOST:PORT."""
    transport: Transport
    connections: int
    """Requests at once of a closed loop; of an open one, connections are made as they are needed."""
    batch: int = 1
    due_s: Sequence[float] | None = None
    sources: tuple[str, ...] = ()
    """Local addresses to connect from, in turn."""
    keep_alive: bool = True


@dataclass
class Record:
    """What became of the calls of one process; times are on the monotonic clock, which all processes share."""

    due: list[float] = field(default_factory=list)
    sent: list[float] = field(default_factory=list)
    done: list[float] = field(default_factory=list)
    place: list[int] = field(default_factory=list)
    """The call's number in the process."""
    phases: list[tuple[float, ...]] = field(default_factory=list)
    statuses: Counter[str] = field(default_factory=Counter)
    ids: list[str] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)
    duplicated: int = 0
    second_attempts: int = 0
    accepted: list[float] = field(default_factory=list)
    """When the head of each streamed answer came: its calls are accepted then."""
    cpu_s: float = 0.0


class Refused(Exception):
    """An answer that is no Result."""


class Connection:
    """One HTTP connection to a gateway."""

    def __init__(self, url: str, source: str | None) -> None:
        parts = urlsplit(url)
        assert parts.hostname is not None
        self._host, self._port = parts.hostname, parts.port or 80
        self._source = source
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None
        self._rests_since = float("inf")

    def rest(self) -> None:
        """It has its answer, and may be used again."""
        self._rests_since = time.monotonic()

    async def open(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """Connect, unless it is, and did not rest for long."""
        if time.monotonic() - self._rests_since > IDLE_S:
            self.close()
        self._rests_since = float("inf")
        if self._streams is None:
            if self._source is None:
                self._streams = await asyncio.open_connection(self._host, self._port, limit=_HEAD)
            else:
                connected = await _connect_from(self._source, self._host, self._port)
                self._streams = await asyncio.open_connection(sock=connected, limit=_HEAD)
        return self._streams

    async def post(self, path: str, body: bytes, accept: str, on_head: Callable[[], None]) -> asyncio.StreamReader:
        """Send a request; return where to read its body from, and call `on_head` when its head is there."""
        reader, writer = await self.open()
        writer.write(
            f"POST {path} HTTP/1.1\r\nHost: {self._host}\r\nAccept: {accept}\r\nContent-Type: application/json\r\n"
            f"Content-Length: {len(body)}\r\n\r\n".encode()
            + body
        )
        head = await reader.readuntil(b"\r\n\r\n")
        on_head()
        self.length = _content_length(head)
        if head[9:12] != b"200":
            raise Refused(f"HTTP {head[9:12].decode()}: {(await self.body(reader))[:300]!r}")
        return reader

    async def body(self, reader: asyncio.StreamReader) -> bytes:
        if self.length is not None:
            return await reader.readexactly(self.length)
        return b"".join([piece async for piece in chunks(reader)])

    def close(self) -> None:
        if self._streams is not None:
            self._streams[1].close()
            self._streams = None


async def _connect_from(source: str, host: str, port: int) -> socket.socket:
    """Connect from this address. Its port is chosen when both ends are known: to find one that is free among 15,000 of
    the same address by itself takes the kernel a millisecond, and then clients would have no time left to send."""
    made = socket.socket()
    try:
        made.setblocking(False)
        made.setsockopt(socket.IPPROTO_IP, _IP_BIND_ADDRESS_NO_PORT, 1)
        made.bind((source, 0))
        await asyncio.get_running_loop().sock_connect(made, (host, port))
    except BaseException:
        made.close()
        raise
    return made


def _content_length(head: bytes) -> int | None:
    lowered = head.lower()
    at = lowered.find(b"\r\ncontent-length:")
    return None if at < 0 else int(lowered[at + 17 : lowered.index(b"\r\n", at + 17)])


async def chunks(reader: asyncio.StreamReader):  # type: ignore[no-untyped-def]
    while size := int(await reader.readuntil(b"\r\n"), 16):
        yield (await reader.readexactly(size + 2))[:-2]
    await reader.readexactly(2)


class Driver:
    def __init__(self, plan: Plan, shots: Sequence[Shot], start: float, told: Callable[[int], None]) -> None:
        self._plan = plan
        self._shots = shots
        self._start = start
        self._told = told
        self._urls, self._sources = itertools.cycle(plan.urls), itertools.cycle(plan.sources or (None,))
        self._idle: list[Connection] = []
        self._channels: dict[str, Channel] = {}
        self.record = Record()

    def _requests(self) -> Iterator[range]:
        size = 1 if self._plan.transport.one_by_one else self._plan.batch
        return (range(at, min(at + size, len(self._shots))) for at in range(0, len(self._shots), size))

    async def run(self) -> Record:
        if self._plan.transport.over_grpc:
            from loadtest.load.rpc import Channel

            self._channels = {url: Channel(url) for url in self._plan.urls}
        await asyncio.sleep(max(0.0, self._start - time.monotonic()))
        if self._plan.due_s is None:
            requests = self._requests()
            await asyncio.gather(*(self._closed(requests) for _ in range(self._plan.connections)))
        else:
            async with asyncio.TaskGroup() as group:
                for numbers, due_s in zip(self._requests(), self._plan.due_s, strict=True):
                    due = self._start + due_s
                    if (pause := due - time.monotonic()) > 0:
                        await asyncio.sleep(pause)
                    group.create_task(self._send(numbers, due))
        for connection in self._idle:
            connection.close()
        for channel in self._channels.values():
            await channel.close()
        self.record.cpu_s = time.process_time()
        return self.record

    async def _closed(self, requests: Iterator[range]) -> None:
        for numbers in requests:
            await self._send(numbers, time.monotonic())

    async def _send(self, numbers: range, due: float) -> None:
        if self._plan.transport.over_grpc:
            await self._send_rpc(numbers, due)
        else:
            await self._send_http(numbers, due)

    async def _send_http(self, numbers: range, due: float) -> None:
        connection = self._idle.pop() if self._idle else Connection(next(self._urls), next(self._sources))
        sent = time.monotonic()
        try:
            async with asyncio.timeout(ANSWER_S):
                if self._plan.transport is Transport.STREAM:
                    await self._stream(connection, numbers, due, sent)
                else:
                    await self._ask(connection, numbers, due, sent)
        except (Refused, OSError, TimeoutError, EOFError) as error:
            self.record.faults.append(f"no answer: {error!r}")
            connection.close()
            return
        if self._plan.keep_alive:
            connection.rest()
            self._idle.append(connection)
        else:
            connection.close()

    async def _send_rpc(self, numbers: range, due: float) -> None:
        channel = self._channels[next(self._urls)]
        sent, seen = time.monotonic(), set[int]()
        try:
            async with asyncio.timeout(ANSWER_S):
                if self._plan.transport is Transport.RPC:
                    result = await channel.run(self._shots[numbers[0]])
                    self._note(numbers[0], result, due, sent, time.monotonic())
                    return
                async for index, result in channel.run_batch([self._shots[number] for number in numbers]):
                    if index in seen:
                        self.record.duplicated += 1
                        continue
                    seen.add(index)
                    self._note(numbers[index], result, due, sent, time.monotonic())
        except (Refused, TimeoutError) as error:
            self.record.faults.append(f"no answer: {error!r}")

    async def _ask(self, connection: Connection, numbers: range, due: float, sent: float) -> None:
        if self._plan.transport is Transport.SINGLE:
            reader = await connection.post("/v1/calls", self._shots[numbers[0]].body, "application/json", _nothing)
            results = [json.loads(await connection.body(reader))]
        else:
            reader = await connection.post("/v1/batches", self._batch(numbers), "application/json", _nothing)
            results = json.loads(await connection.body(reader))["results"]
        now = time.monotonic()
        for number, result in zip(numbers, results, strict=True):
            self._note(number, result, due, sent, now)

    async def _stream(self, connection: Connection, numbers: range, due: float, sent: float) -> None:
        def accepted() -> None:
            self.record.accepted.append(time.monotonic())

        reader = await connection.post("/v1/batches", self._batch(numbers), "application/x-ndjson", accepted)
        rest, seen, end = b"", set[int](), None
        async for piece in chunks(reader):
            now = time.monotonic()
            *lines, rest = (rest + piece).split(b"\n")
            for line in map(json.loads, lines):
                if (index := line.get("index")) is None:
                    end = line
                    continue
                if index in seen:
                    self.record.duplicated += 1
                    continue
                seen.add(index)
                self._note(numbers[index], line["result"], due, sent, now)
        if end is None or not end["done"]:
            self.record.faults.append(f"the stream ended early: {end}")

    def _batch(self, numbers: range) -> bytes:
        return b'{"calls":[' + b",".join([self._shots[number].body for number in numbers]) + b"]}"

    def _note(self, number: int, result: dict[str, object], due: float, sent: float, now: float) -> None:
        record, timings = self.record, result["timings"]
        assert isinstance(timings, dict)
        record.due.append(due)
        record.sent.append(sent)
        record.done.append(now)
        record.place.append(number)
        record.phases.append(tuple(timings[phase] for phase in PHASES))
        record.statuses[str(result["status"])] += 1
        record.ids.append(str(result["id"]))
        record.second_attempts += result["attempts"] == 2
        if (fault := self._shots[number].fault(result)) is not None:
            record.faults.append(fault)
        self._told(1)


def _nothing() -> None:
    pass


def drive(plan: Plan, shots: Sequence[Shot], start: float, told: Callable[[int], None]) -> Record:
    """Carry out a plan in this process."""
    return uvloop.run(Driver(plan, shots, start, told).run())
