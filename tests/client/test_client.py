"""The client against a server that refuses, stalls, lies and cuts connections."""

from __future__ import annotations

import asyncio
import json
import ssl
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from sandbox_service import errors
from sandbox_service.client import AsyncSandboxClient, Call, CheckStatus, Retries, SandboxClient, Status
from tests.client.scripted import Answer, ScriptedServer, Seen, echo, error, frames, result_json

QUICK = Retries(base_s=0.01, cap_s=0.02, patience_s=0.2)


@pytest.fixture
def server() -> Iterator[ScriptedServer]:
    scripted = ScriptedServer()
    yield scripted
    scripted.close()


@pytest.fixture
async def client(server: ScriptedServer) -> AsyncIterator[AsyncSandboxClient]:
    async with AsyncSandboxClient(server.url, api_key="key", retries=QUICK) as client:
        yield client


async def test_a_call_is_sent_whole_and_its_result_read(server: ScriptedServer, client: AsyncSandboxClient) -> None:
    """Code, fields and key arrive; the id is made by the client; the Result comes back typed."""
    server.script = [echo]
    result = await client.run("print(1)", stdin="x", limits={"wall_s": 2})
    (seen,) = server.seen
    assert (seen.method, seen.path, seen.headers["authorization"]) == ("POST", "/v1/batches", "Bearer key")
    (call,) = seen.body["calls"]
    assert (call["stdin"], call["limits"]) == ("x", {"wall_s": 2})
    assert (result.id, result.status, result.stdout) == (call["id"], "ok", "print(1)")


async def test_a_refused_call_is_repeated_under_its_id(server: ScriptedServer, client: AsyncSandboxClient) -> None:
    """503, then 429, then an answer: one Result, and three times the very same body."""
    server.script = [error(503, "unavailable"), error(429, "overloaded"), echo]
    result = await client.run("print(1)")
    assert result.status == "ok"
    assert len(server.seen) == 3
    assert server.seen[0].body == server.seen[1].body == server.seen[2].body
    assert server.seen[0].body["calls"][0]["id"] == result.id


async def test_a_lost_connection_is_repeated_under_the_id(server: ScriptedServer, client: AsyncSandboxClient) -> None:
    """An answer cut in the middle of its body is no answer: the same call is sent again."""
    server.script = [Answer(body=b'{"id": "half', cut=True), echo]
    assert (await client.run(Call(id="mine", code="print(2)"))).id == "mine"
    assert [seen.body["calls"][0]["id"] for seen in server.seen] == ["mine", "mine"]


@pytest.mark.parametrize(
    "answer", [error(429, "overloaded", retry_after_s=0.3), Answer(503, b"<html>", {"retry-after": "1"})]
)
async def test_retry_after_is_honoured(server: ScriptedServer, client: AsyncSandboxClient, answer: Answer) -> None:
    """The pause before a repeat is at least what the server asked for, in the body or in the header."""
    server.script = [answer, echo]
    begun = time.monotonic()
    await client.run("print(1)")
    assert time.monotonic() - begun >= (0.3 if answer.status == 429 else 1.0)


async def test_a_pause_that_would_outlast_the_deadline_is_not_begun(server: ScriptedServer) -> None:
    """Retry-After beyond the caller's timeout: the refusal is raised at once, with how long it asked to wait."""
    server.script = [error(429, "overloaded", retry_after_s=3600)]
    begun = time.monotonic()
    async with AsyncSandboxClient(server.url) as client:
        with pytest.raises(errors.Overloaded) as caught:
            await client.run("print(1)", timeout_s=5)
    assert caught.value.retry_after_s == 3600
    assert time.monotonic() - begun < 3
    assert len(server.seen) == 1


async def test_repeats_are_bounded(server: ScriptedServer, client: AsyncSandboxClient) -> None:
    """When nothing but faults came for `patience_s`, the last one is raised, long before the call's deadline."""
    server.script = [error(503, "unavailable")]
    begun = time.monotonic()
    with pytest.raises(errors.Unavailable, match="scripted unavailable"):
        await client.run("print(1)")
    assert len(server.seen) >= 2
    assert time.monotonic() - begun < 30


async def test_a_service_that_says_when_to_come_back_is_believed(
    server: ScriptedServer, client: AsyncSandboxClient
) -> None:
    """429 with Retry-After, for longer than `patience_s`: the call still gets its Result."""
    begun = time.monotonic()

    def refuse_a_while(seen: Seen) -> Answer:
        busy = time.monotonic() - begun < 3 * QUICK.patience_s or len(server.seen) <= 3
        return error(429, "overloaded", retry_after_s=0.05) if busy else echo(seen)

    server.script = [refuse_a_while]
    assert (await client.run("print(1)")).status == "ok"
    assert len(server.seen) > 3


@pytest.mark.parametrize("kind", errors.WIRE_ERRORS, ids=lambda kind: kind.code)
async def test_each_wire_error_comes_back_as_its_class(
    server: ScriptedServer, client: AsyncSandboxClient, kind: type[errors.SandboxError]
) -> None:
    """The body's code decides the class; message and field survive; only retryable ones are repeated."""
    server.script = [error(kind.http, kind.code)]
    with pytest.raises(kind) as caught:
        await client.run("print(1)")
    assert type(caught.value) is kind
    assert (caught.value.message, caught.value.field) == (f"scripted {kind.code}", "code")
    assert (len(server.seen) > 1) == kind.retryable


@pytest.mark.parametrize(
    ("status", "kind"), [(502, errors.Unavailable), (504, errors.Unavailable), (404, errors.NotFound)]
)
async def test_a_proxys_page_is_read_by_its_status(
    server: ScriptedServer, client: AsyncSandboxClient, status: int, kind: type[errors.SandboxError]
) -> None:
    """An error that the service did not write still becomes a typed error."""
    server.script = [Answer(status, b"<html>Bad gateway</html>")]
    with pytest.raises(kind):
        await client.run("print(1)")


@pytest.mark.parametrize("status", [Status.OK, CheckStatus.OK])
def test_a_status_is_printed_as_its_word(status: Status | CheckStatus) -> None:
    """In a trainer's log, under any Python: by default 3.10 prints `ok` in one place and `Status.OK` in the other."""
    assert (str(status), f"{status}", f"{status:>4}", repr(status.value)) == ("ok", "ok", "  ok", "'ok'")


async def test_nobody_listening_is_unavailable() -> None:
    """A refused connection is a typed error that says where it tried."""
    async with AsyncSandboxClient("http://127.0.0.1:9", retries=QUICK) as client:
        with pytest.raises(errors.Unavailable, match=r"127\.0\.0\.1:9"):
            await client.run("print(1)")


async def test_tls_to_a_port_of_plain_http_fails_at_once_and_says_what_to_use(server: ScriptedServer) -> None:
    """Not retried: nothing would change."""
    begun = time.monotonic()
    async with AsyncSandboxClient(server.url.replace("http", "https")) as client:
        with pytest.raises(errors.SetupError, match=f"does not speak TLS; use {server.url}"):
            await client.run("print(1)")
    assert time.monotonic() - begun < 2
    assert not server.seen


async def test_a_certificate_that_is_not_trusted_fails_at_once(tmp_path: Path) -> None:
    names = ["-subj", "/CN=x", "-addext", "subjectAltName=IP:127.0.0.1"]
    key, certificate = str(tmp_path / "key.pem"), str(tmp_path / "certificate.pem")
    made = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", key, "-out", certificate, *names]
    subprocess.run(made, check=True, capture_output=True)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    listener = await asyncio.start_server(lambda _reader, writer: writer.close(), "127.0.0.1", 0, ssl=context)
    async with listener, AsyncSandboxClient(f"https://127.0.0.1:{listener.sockets[0].getsockname()[1]}") as client:
        with pytest.raises(errors.SetupError, match="not trusted here: self-signed certificate"):
            await client.run("print(1)")


@pytest.mark.parametrize(
    ("pairs", "said"),
    [
        ([(1, 0.5)], r"checks\.0\.answer: must be text, as in '0\.5', not int"),
        ([("1", "1"), ("1", None)], r"checks\.1\.reference: must be text, .*not NoneType"),
        (["ab"], r"checks\.0: must be a pair"),
    ],
)
async def test_an_answer_that_is_no_text_is_refused_by_its_place(
    pairs: list[tuple[str, str]], said: str, client: AsyncSandboxClient
) -> None:
    with pytest.raises(errors.InvalidCall, match=said):
        await client.verify_batch(pairs)


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"stdn": "x"}, "stdn: there is no such field; did you mean stdin"),
        ({"limits": {"walls": 1}}, r"limits\.walls: there is no such field; did you mean wall_s"),
        ({"limits": {"x": 1}}, r"limits\.x: there is no such field, only wall_s, cpu_s, memory_mb"),
    ],
)
async def test_an_unknown_field_is_refused_and_the_nearest_one_named(
    fields: dict[str, object], said: str, client: AsyncSandboxClient
) -> None:
    with pytest.raises(errors.InvalidCall, match=said):
        await client.run("print(1)", **fields)


async def test_silence_ends_at_the_callers_deadline(server: ScriptedServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """A server that accepts and never answers holds the caller no longer than its timeout and the margin."""
    monkeypatch.setattr("sandbox_service.client._engine.ANSWER_MARGIN_S", 0.1)
    server.script = [Answer(delay_s=2.0)]
    begun = time.monotonic()
    async with AsyncSandboxClient(server.url) as client:
        with pytest.raises(errors.Unavailable):
            await client.run("print(1)", timeout_s=0.2)
    assert time.monotonic() - begun < 1.5


async def test_a_wrong_field_never_leaves_the_client(server: ScriptedServer, client: AsyncSandboxClient) -> None:
    """What the models refuse is InvalidCall at once, and names the field."""
    with pytest.raises(errors.InvalidCall) as caught:
        await client.run("print(1)", limits={"wall_s": -1})
    assert caught.value.field == "limits.wall_s"
    assert server.seen == []


async def test_an_empty_batch_never_leaves_the_client(server: ScriptedServer, client: AsyncSandboxClient) -> None:
    """No calls have no results, as a step may have none; a Ticket for nothing is refused in the service's words."""
    assert await client.run_batch([]) == []
    with SandboxClient(server.url) as blocking:
        assert blocking.run_batch([]) == []
    with pytest.raises(errors.InvalidCall, match=r"^calls: must hold at least one call$"):
        await client.submit_batch([])
    assert server.seen == []


@pytest.mark.parametrize("url", ["http", "grpc"])
async def test_a_closed_client_says_so(server: ScriptedServer, url: str) -> None:
    """It opened connections again that nobody closed. What it did can still be read."""
    server.script = [echo]
    client = AsyncSandboxClient(server.url.replace("http", url), retries=QUICK)
    async with client:
        if url == "http":
            await client.run("print(1)")
    for use in (client.run("print(2)"), client.run_batch(["print(2)"]), client.get("x"), client.cancel_label("a", "b")):
        with pytest.raises(errors.SetupError, match="this client was closed"):
            await use
    await client.aclose()
    assert len(server.seen) == client.stats().calls == (url == "http")


@pytest.mark.parametrize("url", ["http", "grpc"])
def test_a_closed_blocking_client_says_so(server: ScriptedServer, url: str) -> None:
    server.script = [echo]
    with SandboxClient(server.url.replace("http", url), retries=QUICK) as client:
        if url == "http":
            client.run("print(1)")
    for use in (lambda: client.run("print(2)"), lambda: list(client.map(["print(2)"])), lambda: client.get("x")):
        with pytest.raises(errors.SetupError, match="this client was closed"):
            use()
    client.close()
    assert len(server.seen) == client.stats().calls == (url == "http")


def test_a_client_closed_in_one_event_loop_serves_the_next(server: ScriptedServer) -> None:
    """As a trainer does that calls asyncio.run for each step."""
    server.script = [echo]
    client = AsyncSandboxClient(server.url)

    async def step() -> str:
        async with client:
            return (await client.run("print(1)")).stdout

    assert [asyncio.run(step()) for _ in range(2)] == ["print(1)"] * 2


async def test_a_program_alone_is_no_batch(server: ScriptedServer, client: AsyncSandboxClient) -> None:
    """It would be a batch of its characters."""
    with pytest.raises(errors.InvalidCall, match="`run` takes one program"):
        await client.run_batch("print(1)")
    with pytest.raises(errors.InvalidCall, match="`run` takes one program"):
        await anext(client.map("print(1)"))
    assert server.seen == []


@pytest.mark.parametrize("key", ["a\n", "a b", "ä", "\0"])
def test_a_key_that_no_header_can_carry_is_refused_at_once_and_not_shown(key: str) -> None:
    with pytest.raises(ValueError, match="strip what was read") as caught:
        AsyncSandboxClient("http://127.0.0.1:9", api_key=key)
    assert key not in str(caught.value)


@pytest.mark.parametrize("give", ["run", "submit"])
async def test_code_can_be_given_by_name(server: ScriptedServer, client: AsyncSandboxClient, give: str) -> None:
    """As every other field of a call can."""
    server.script = [echo if give == "run" else Answer(202, b'{"id": "a", "state": "queued", "url": "/v1/calls/a"}')]
    await getattr(client, give)(code="print(1)", stdin="x")
    sent = server.seen[0].body["calls"][0] if give == "run" else server.seen[0].body
    assert (sent["code"], sent["stdin"]) == ("print(1)", "x")


@pytest.mark.parametrize("route", ["/v1", "/v1/", "/v1/calls", "/v1/calls/x?wait_s=1", "/v1/batches/", "/v1/verify"])
@pytest.mark.parametrize("kind", [AsyncSandboxClient, SandboxClient])
def test_the_address_is_that_of_the_service_not_of_its_api(kind: type[SandboxClient], route: str) -> None:
    """Below a path as well, which may be called as it likes."""
    for base in ("http://127.0.0.1:8000", "http://proxy/v1/sandbox", "http://proxy/v1/calls-eu", "http://v1"):
        with pytest.raises(errors.InvalidOption) as caught:
            kind(base + route)
        assert str(caught.value) == f"give the address of the service without {route.rstrip('/')}: {base}"
        kind(base)


@pytest.mark.parametrize("url", ["127.0.0.1:8000", "localhost:8000", "localhost", "", "ftp://host", "http://", "/v1"])
@pytest.mark.parametrize("kind", [AsyncSandboxClient, SandboxClient])
def test_an_address_that_is_none_is_refused_at_once(kind: type[SandboxClient], url: str) -> None:
    """Without its scheme every call failed, after all its repeats, as if the service were away."""
    with pytest.raises(ValueError, match="looks like http://"):
        kind(url)


async def test_a_batch_keeps_order_and_streams_out_of_order(server: ScriptedServer, client: AsyncSandboxClient) -> None:
    """Results come as they finish from `map`, and in the order of the calls from `run_batch`."""
    server.script = [lambda seen: Answer(body=frames(seen.body["calls"], [2, 0, 1], done=True))]
    calls = ["a", "b", "c"]
    assert [(index, result.stdout) async for index, result in client.map(calls)] == [
        (2, "c"),
        (0, "a"),
        (1, "b"),
    ]
    assert [result.stdout for result in await client.run_batch(calls)] == calls
    assert server.seen[0].headers["accept"] == "application/x-ndjson"


@pytest.mark.parametrize("cut", [True, False], ids=["connection lost", "ended without a terminal frame"])
async def test_a_cut_stream_is_resumed(server: ScriptedServer, client: AsyncSandboxClient, cut: bool) -> None:
    """What is missing is asked for again under the same ids; no index comes out twice, none is lost."""

    came: dict[str, object] = {}

    def first(seen: Seen) -> Answer:
        came.update(seen.body["calls"][1])
        return Answer(body=frames(seen.body["calls"], [1], done=False), cut=cut)

    def second(seen: Seen) -> Answer:
        return Answer(body=frames([*seen.body["calls"], came], [2, 0, 1], done=True))

    server.script = [first, second]
    got = [index async for index, _ in client.map(["a", "b", "c"])]
    assert got == [1, 0, 2]
    a, _, c = server.seen[0].body["calls"]
    assert server.seen[1].body["calls"] == [a, c]


@pytest.mark.parametrize("done", [False, True], ids=["no terminal frame", "a result left out"])
async def test_a_stream_that_stays_incomplete_is_our_fault(
    server: ScriptedServer, client: AsyncSandboxClient, done: bool
) -> None:
    """An incomplete stream is never a shorter list of results: it is an error after bounded repeats."""
    server.script = [lambda _: Answer(body=frames(server.seen[0].body["calls"], [0], done=done))]
    with pytest.raises(errors.ServiceFault, match=r"terminal frame|left out"):
        await client.run_batch(["a", "b"])
    assert len(server.seen) > 1


async def test_a_ticket_is_awaited_by_long_polls(server: ScriptedServer, client: AsyncSandboxClient) -> None:
    """submit answers a Ticket; `get` is None while it runs; `wait` polls until the Result is there."""
    ticket = b'{"id": "t", "state": "queued", "url": "/v1/calls/t"}'
    server.script = [
        Answer(202, ticket),
        Answer(202, ticket),
        Answer(202, ticket),
        Answer(body=json.dumps(result_json("t", "42")).encode()),
    ]
    assert (await client.submit("print(42)")).id == "t"
    assert await client.get("t") is None
    assert (await client.wait("t", timeout_s=5)).stdout == "42"
    assert server.seen[0].path == "/v1/calls?wait=0"
    assert server.seen[2].path.startswith("/v1/calls/t?wait_s=")


async def test_wait_gives_up_at_its_timeout(server: ScriptedServer, client: AsyncSandboxClient) -> None:
    """TimeoutError, not a Result: the call goes on."""
    server.script = [Answer(202, b'{"id": "t", "state": "running", "url": "/v1/calls/t"}', delay_s=0.05)]
    with pytest.raises(TimeoutError):
        await client.wait("t", timeout_s=0.12)


async def test_cancel_by_id_and_by_label(server: ScriptedServer, client: AsyncSandboxClient) -> None:
    """The two DELETE routes; the label's answer is a count."""
    server.script = [Answer(200, b"{}"), Answer(200, b'{"cancelled": 7}')]
    await client.cancel("abc")
    assert await client.cancel_label("run", "r 1") == 7
    assert [(seen.method, seen.path) for seen in server.seen] == [
        ("DELETE", "/v1/calls/abc"),
        ("DELETE", "/v1/calls?label=run%3Ar+1"),
    ]


async def test_many_calls_at_once_share_the_client(server: ScriptedServer, client: AsyncSandboxClient) -> None:
    """50 concurrent calls each get their own answer."""
    server.script = [echo]
    results = await asyncio.gather(*(client.run(f"print({n})") for n in range(50)))
    assert [result.stdout for result in results] == [f"print({n})" for n in range(50)]
    assert len({result.id for result in results}) == 50


def test_the_blocking_client_does_the_same(server: ScriptedServer) -> None:
    """The generated half runs a call, resumes a cut stream and raises typed errors."""
    server.script = [
        error(503, "unavailable"),
        echo,
        lambda seen: Answer(body=frames(seen.body["calls"], [], done=False), cut=True),
        echo,
    ]
    with SandboxClient(server.url, retries=QUICK) as client:
        assert client.run("print(1)").stdout == "print(1)"
        assert client.run("print(2)").stdout == "print(2)"
        assert [result.stdout for result in client.run_batch(["a", "b"])] == ["a", "b"]
        assert sorted((index, result.stdout) for index, result in client.map(["a", "b"])) == [(0, "a"), (1, "b")]
        server.script = [error(401, "unauthorized")]
        with pytest.raises(errors.Unauthorized):
            client.run("print(1)")


def test_importing_the_client_loads_no_server_code() -> None:
    """A trainer that imports the SDK gets httpx and pydantic, and nothing that only the service needs."""
    code = """if True:
        import sys, sandbox_service.client
        server = {"fastapi", "starlette", "uvicorn", "redis", "grpc", "structlog", "prometheus_client", "torch",
                  "pydantic_settings"}
        print(sorted(server & set(sys.modules)), sorted(m for m in sys.modules if m.startswith("sandbox_service.")))
    """
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert shown.startswith("[] ")
    assert "gateway" not in shown
    assert "worker" not in shown
    assert "config" not in shown


def test_the_blocking_client_is_up_to_date() -> None:
    """`_sync.py` is what the script makes of `_async.py`."""
    subprocess.run([sys.executable, "scripts/generate_sync_client.py", "--check"], check=True)
