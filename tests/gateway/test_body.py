"""What is refused before acceptance, and that the answer names the field."""

from __future__ import annotations

import base64
import json
import math
import time
from collections.abc import AsyncIterator

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

from sandbox_service import metrics, models
from sandbox_service.gateway import body
from sandbox_service.gateway.compat import sandboxfusion
from sandbox_service.inside import interpreter
from sandbox_service.models import Call
from tests.gateway.conftest import Gateway, StartGateway

JSON = {"Content-Type": "application/json"}
CODE = '"code":"1"'

INVALID = {
    "unknown field": ('{"code":"1","cod":"2"}', "cod"),
    "missing code": ("{}", "code"),
    "wrong type": ('{"code":1}', "code"),
    "null": ('{"code":null}', "code"),
    "string for a number": (f'{{{CODE},"timeout_s":"3"}}', "timeout_s"),
    "boolean for a number": (f'{{{CODE},"limits":{{"memory_mb":true}}}}', "limits.memory_mb"),
    "NaN": (f'{{{CODE},"timeout_s":NaN}}', "timeout_s"),
    "Infinity": (f'{{{CODE},"limits":{{"wall_s":Infinity}}}}', "limits.wall_s"),
    "infinite by size": (f'{{{CODE},"timeout_s":1e999}}', "timeout_s"),
    "negative limit": (f'{{{CODE},"limits":{{"wall_s":-1}}}}', "limits.wall_s"),
    "zero limit": (f'{{{CODE},"limits":{{"cpu_s":0}}}}', "limits.cpu_s"),
    "oversized limit": (f'{{{CODE},"limits":{{"memory_mb":99999999999}}}}', "limits.memory_mb"),
    "huge integer": (f'{{{CODE},"seed":{"9" * 6000}}}', "seed"),
    "lone surrogate": ('{"code":"\\ud800"}', "code"),
    "lone surrogate in a file name": (f'{{{CODE},"files":{{"\\udc00":""}}}}', "files"),
    "duplicate key": ('{"code":"1","code":"2"}', "code"),
    "duplicate key spelt differently": ('{"code":"1","c\\u006fde":"2"}', "code"),
    "duplicate key inside": (f'{{{CODE},"env":{{"A":"1","A":"2"}}}}', "env.A"),
    "deep nesting": (f'{{{CODE},"x":{"[" * 100}{"]" * 100}}}', "x"),
    "deeper nesting": (f'{{{CODE},"x":{"[" * 300}{"]" * 300}}}', "x.0.0.0.0.0.0.0..."),
    "absolute path": (f'{{{CODE},"files":{{"/etc/x":""}}}}', "files./etc/x"),
    "path traversal": (f'{{{CODE},"files":{{"a/../../x":""}}}}', "files.a/../../x"),
    "traversal in fetch": (f'{{{CODE},"fetch":["../x"]}}', "fetch.0"),
    "a file that is another's folder": (f'{{{CODE},"files":{{"a/b/c":"","a":""}}}}', "files"),
    "a file where the code is": (f'{{{CODE},"files":{{"main.py":""}}}}', "files"),
    "a file below the code": (f'{{{CODE},"files":{{"main.py/b":""}}}}', "files"),
    "a file one byte too long": (
        json.dumps({"code": "1", "files": {"x": base64.b64encode(bytes(8 * 2**20 + 1)).decode()}}),
        "files.x",
    ),
    "base64 that is not ASCII": (f'{{{CODE},"files":{{"x":"äääa"}}}}', "files.x"),
    "bad base64": (f'{{{CODE},"files":{{"x":"a"}}}}', "files.x"),
    "loader variable": (f'{{{CODE},"env":{{"LD_PRELOAD":"x"}}}}', "env.LD_PRELOAD"),
    "a limit that no deployment could allow": (f'{{{CODE},"limits":{{"wall_s":3601}}}}', "limits.wall_s"),
    "bad id": (f'{{{CODE},"id":"a.b"}}', "id"),
    "reserved session": (f'{{{CODE},"session":"s"}}', "session"),
    "code too long": (json.dumps({"code": "x" * (256 * 1024 + 1)}), "code"),
    "too many files": (json.dumps({"code": "1", "files": {str(i): "" for i in range(65)}}), "files"),
}


@pytest.mark.parametrize("case", INVALID)
async def test_an_invalid_call_is_refused_by_field(http: httpx.AsyncClient, case: str) -> None:
    """422 with the field, in the error, its message and its details."""
    body, field = INVALID[case]
    answer = await http.post("/v1/calls", content=body, headers=JSON)
    assert answer.status_code == 422
    error = answer.json()["error"]
    assert error["code"] == "invalid_call"
    assert error["field"] == field
    assert error["message"].startswith(f"{field}: ")
    assert not any(detail["message"] == "" for detail in error.get("details", []))


@pytest.mark.parametrize(
    "body",
    [
        "",
        "{",
        "[]",
        "null",
        "3",
        '"x"',
        '{"code":"1"} x',
        b"\xff\xfe",
        '{"code":"\xff"}'.encode("latin-1"),
        "[" * 100_000,
    ],
)
async def test_what_is_no_json_object_is_refused(http: httpx.AsyncClient, body: str | bytes) -> None:
    """422 with a message, never a 500."""
    answer = await http.post("/v1/calls", content=body, headers=JSON)
    assert answer.status_code == 422
    assert answer.json()["error"]["message"]


@pytest.mark.parametrize(
    ("path", "call", "field", "reason"),
    [
        ("calls", {"code": "1", "std_in": ""}, "std_in", "; did you mean stdin?"),
        ("calls", {"code": "1", "limits": {"mem_mb": 1}}, "limits.mem_mb", "; did you mean memory_mb?"),
        ("batches", {"calls": [{"code": "1", "label": {}}]}, "calls.0.label", "; did you mean labels?"),
        ("verify", {"checks": [{"answer": "1", "reference": "1", "x": 1}]}, "checks.0.x", ", only answer, reference"),
    ],
)
async def test_an_unknown_field_is_told_with_the_nearest_known_one(
    path: str, call: dict[str, object], field: str, reason: str, http: httpx.AsyncClient
) -> None:
    answer = await http.post(f"/v1/{path}", json=call)
    assert (answer.status_code, answer.json()["error"]["message"]) == (422, f"{field}: there is no such field{reason}")


async def test_an_unknown_field_with_an_endless_name_is_compared_with_none(http: httpx.AsyncClient) -> None:
    """SECURITY: likeness takes time that grows with the name."""
    begun = time.monotonic()
    answer = await http.post("/v1/calls", json={"code": "1", "x" * 4_000_000: 1})
    assert answer.status_code == 422
    assert time.monotonic() - begun < 2


async def test_every_finding_is_listed(http: httpx.AsyncClient) -> None:
    """A body with several faults names them all."""
    answer = await http.post("/v1/calls", json={"code": 1, "seed": -1, "x": 2})
    assert {detail["field"] for detail in answer.json()["error"]["details"]} == {"code", "seed", "x"}


async def test_files_larger_than_the_disk_limit_are_refused(http: httpx.AsyncClient) -> None:
    """422 names `files`; they are measured decoded, against the call's own limit."""
    content = base64.b64encode(b"x" * (600 * 1024)).decode()
    call = {"code": "1", "limits": {"disk_mb": 1}, "files": {"a": content}}
    assert (await http.post("/v1/calls?wait=0", json=call)).status_code == 202
    answer = await http.post("/v1/calls", json=call | {"files": {"a": content, "b": content}})
    assert (answer.status_code, answer.json()["error"]["field"]) == (422, "files")


@pytest.mark.parametrize(
    ("path", "said"), [("a/b", ["'a/b'", "'a'"]), ("main.py", ["'main.py'", "code"]), ("main.py/b", ["'main.py/b'"])]
)
async def test_clashing_files_are_named(http: httpx.AsyncClient, path: str, said: list[str]) -> None:
    """Both paths, or that main.py is the code's own: it was a fault of ours, later, or a file lost in silence."""
    answer = await http.post("/v1/calls", json={"code": "1", "files": {path: "", "a": ""}})
    assert all(part in answer.json()["error"]["message"] for part in said)


def test_the_codes_own_path_is_the_one_that_is_refused() -> None:
    """The contract and the interpreter's side name the same file."""
    assert models.SCRIPT == interpreter.SCRIPT


async def test_files_of_the_largest_size_side_by_side_are_taken(http: httpx.AsyncClient) -> None:
    """The bound itself is allowed, and so are names that only look alike."""
    largest = base64.b64encode(bytes(models.FILE_BYTES)).decode()
    call = {"code": "1", "files": {"a": largest, "ab/c": "", "ab/d": "", "x/main.py": ""}}
    assert (await http.post("/v1/calls?wait=0", json=call)).status_code == 202


@pytest.mark.parametrize(
    ("compare", "expected", "status"),
    [
        ("exact", "x" * 1024, 202),
        ("exact", "x" * 1024 + "\n", 422),
        ("strip", "x" * 1024 + "\n", 202),
        ("strip", "x" * 1025, 422),
        ("lines", "x \n" * 512, 202),
        ("lines", "xx \n" * 512, 422),
        ("strip", "é" * 600, 422),
    ],
)
async def test_an_expected_stdout_that_could_never_pass_is_refused(
    http: httpx.AsyncClient, compare: str, expected: str, status: int
) -> None:
    """What is longer than the kept output, as it is compared; the message says which limit to raise."""
    call = {"code": "1", "expected_stdout": expected, "compare": compare, "limits": {"output_kb": 1}}
    answer = await http.post("/v1/calls?wait=0", json=call)
    assert answer.status_code == status
    if status == 422:
        assert answer.json()["error"]["field"] == "expected_stdout"
        assert "limits.output_kb" in answer.json()["error"]["message"]
    call["limits"] = {"output_kb": 2}
    assert (await http.post("/v1/calls?wait=0", json=call)).status_code == 202


@pytest.mark.parametrize("compare", ["exact", "lines"])
async def test_a_comparison_with_nothing_is_refused(http: httpx.AsyncClient, compare: str) -> None:
    """Nothing would be compared, and nobody would be told. A Call written out whole, with every default, is taken."""
    answer = await http.post("/v1/calls?wait=0", json={"code": "1", "compare": compare})
    assert (answer.status_code, answer.json()["error"]["field"]) == (422, "compare")
    assert "`expected_stdout`, which is missing" in answer.json()["error"]["message"]
    whole = {**Call(code="1").model_dump(), "compare": "strip"}
    assert (await http.post("/v1/calls?wait=0", json=whole)).status_code == 202
    given = {"code": "1", "compare": compare, "expected_stdout": ""}
    assert (await http.post("/v1/calls?wait=0", json=given)).status_code == 202


async def test_the_schema_says_what_a_comparison_needs(http: httpx.AsyncClient) -> None:
    """What it allows is accepted, and what it forbids is not."""
    schemas = (await http.get("/openapi.json")).json()["components"]["schemas"]
    call = Draft202012Validator({**schemas["Call"], "components": {"schemas": schemas}})
    for fields, fine in (
        ({}, True),
        ({"compare": "strip"}, True),
        ({"compare": "exact"}, False),
        ({"compare": "lines", "expected_stdout": None}, False),
        ({"compare": "lines", "expected_stdout": "1"}, True),
    ):
        assert call.is_valid({"code": "1", **fields}) is fine
        accepted = (await http.post("/v1/calls?wait=0", json={"code": "1", **fields})).status_code == 202
        assert accepted is fine


async def test_an_empty_batch_is_refused_in_plain_words(http: httpx.AsyncClient) -> None:
    """And the schema says so too."""
    answer = await http.post("/v1/batches", json={"calls": []})
    assert (answer.status_code, answer.json()["error"]["message"]) == (422, "calls: must hold at least one call")
    schema = (await http.get("/openapi.json")).json()["components"]["schemas"]["Batch"]
    assert schema["properties"]["calls"]["minItems"] == 1


@pytest.mark.parametrize("chunked", [True, False])
async def test_a_body_that_is_too_large_is_413(start_gateway: StartGateway, chunked: bool) -> None:
    """With and without a Content-Length; the whole of it is never taken in."""
    gateway = await start_gateway(max_body_mb=1)
    sent = 0

    async def stream() -> AsyncIterator[bytes]:
        nonlocal sent
        for _ in range(64):
            sent += 2**20
            yield b" " * 2**20

    answer = await gateway.client.post("/v1/calls", content=stream() if chunked else b" " * (2**20 + 1), headers=JSON)
    assert (answer.status_code, answer.json()["error"]["code"]) == (413, "too_large")


async def test_a_body_of_the_largest_size_is_read(start_gateway: StartGateway) -> None:
    """The bound itself is allowed, and a body in many pieces is put together."""
    gateway = await start_gateway(max_body_mb=1)
    body = json.dumps({"code": "1", "stdin": ""}).encode()
    body = body[:-2] + b"x" * (2**20 - len(body)) + body[-2:]
    assert len(body) == 2**20

    async def stream() -> AsyncIterator[bytes]:
        for start in range(0, len(body), 100_000):
            yield body[start : start + 100_000]

    answer = await gateway.client.post("/v1/calls?wait=0", content=stream(), headers=JSON)
    assert answer.status_code == 202


@pytest.mark.parametrize(
    "headers",
    [
        {"Content-Type": "text/plain"},
        {"Content-Type": "multipart/form-data; boundary=x"},
        {},
        JSON | {"Content-Encoding": "gzip"},
        {"Content-Type": "application/json; charset=latin-1"},
        {"Content-Type": 'application/json;v=1; CharSet="utf-16"'},
    ],
)
async def test_other_media_are_415(http: httpx.AsyncClient, headers: dict[str, str]) -> None:
    """Only plain JSON is read; nothing is ever unpacked."""
    answer = await http.post("/v1/calls", content=b'{"code":"1"}', headers=headers)
    assert (answer.status_code, answer.json()["error"]["code"]) == (415, "unsupported_media")


@pytest.mark.parametrize("parameters", ["", "; charset=utf-8", ';charset="UTF-8"', "; v=1"])
async def test_json_in_utf_8_is_read(http: httpx.AsyncClient, parameters: str) -> None:
    """Said or not; other parameters of the media type do not matter."""
    headers = {"Content-Type": f"application/json{parameters}", "Content-Encoding": "identity"}
    assert (await http.post("/v1/calls?wait=0", content=b'{"code":"1"}', headers=headers)).status_code == 202


@pytest.mark.parametrize(
    ("method", "path", "field"),
    [
        ("POST", "/v1/calls?wait=2", "wait"),
        ("POST", "/v1/calls?wait_s=3", "wait_s"),
        ("POST", "/v1/batches?Wait=0", "Wait"),
        ("GET", "/v1/calls/x?wait_s=-1", "wait_s"),
        ("GET", "/v1/calls/x?wait_s=nan", "wait_s"),
        ("GET", "/v1/calls/x?wait_s=inf", "wait_s"),
        ("GET", "/v1/batches/x?wait_s=abc", "wait_s"),
    ],
)
async def test_query_parameters_are_checked(http: httpx.AsyncClient, method: str, path: str, field: str) -> None:
    """A wrong or unknown parameter is 422, not ignored."""
    answer = await http.request(method, path, json={"code": "1"})
    assert (answer.status_code, answer.json()["error"]["field"]) == (422, field)


async def test_refusals_are_counted(gateway: Gateway) -> None:
    """The metric goes up by code."""

    def count() -> float:
        return metrics.GATEWAY.get_sample_value("sandbox_calls_refused_total", {"code": "invalid_call"}) or 0

    before = count()
    await gateway.client.post("/v1/calls", json={})
    assert math.isclose(count(), before + 1)


MIB = 2**20
FILLED = {
    "numbers": b'{"code":"1","x":[' + b"1," * MIB + b"1]}",
    "texts": b'{"code":"1","args":[' + b'"",' * MIB + b'""]}',
    "calls": b'{"calls":[' + b"{}," * MIB + b"{}]}",
    "pairs": b'{"code":"1",' + b'"":"",' * MIB + b'"":""}',
    "openings": b'{"code":"1","x":' + b"[" * MIB,
    "behind a text of quotation marks": b'{"code":"\\\\","stdin":"' + b'\\"' * MIB + b'","x":[' + b"1," * MIB + b"1]}",
}


@pytest.mark.parametrize("path", ["/v1/calls", "/v1/batches", "/run/long-batch", "/api/v2/execute"])
@pytest.mark.parametrize("kind", FILLED)
async def test_a_body_made_of_millions_of_values_is_not_parsed(http: httpx.AsyncClient, path: str, kind: str) -> None:
    """Such a body held the gateway, with all who waited for it, for up to seven seconds."""
    answer = await http.post(path, content=FILLED[kind], headers=JSON)
    assert answer.status_code == 413
    assert "has more than 200,000 JSON values; split the batch" in answer.text


@pytest.mark.parametrize(
    "honest",
    [
        {"calls": [{"code": "print([1, 2], {3: 4})\n" * 700, "stdin": '"a\\", [{,\n' * 20} for _ in range(900)]},
        {"submissions": [{"type": "python", "solution": "1", "input": "[1, 2]", "expected_output": "2"}] * 16_384},
        {"calls": [{"code": "1", "stdin": "1,2,3,4,5,6," * 90_000} for _ in range(14)]},
    ],
    ids=["a batch of large programs", "the largest batch of code-judge", "large inputs"],
)
def test_what_is_large_without_many_values_is_parsed(honest: object) -> None:
    """Separators inside texts are no values."""
    assert not body.has_too_many_values(json.dumps(honest).encode())


documents = st.recursive(
    st.none() | st.integers() | st.text(alphabet='ab,[{"\\:\n'),
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(st.text(alphabet='a,[{"\\'), inner, max_size=5),
    max_leaves=30,
)


@given(documents, st.integers(1, 40))
def test_values_are_counted_as_a_parser_would(document: object, most: int) -> None:
    """Items and pairs; what is empty counts once. Texts may hold whatever looks like more."""

    def count(value: object) -> int:
        inner = [*value.values()] if isinstance(value, dict) else value if isinstance(value, list) else None
        return 0 if inner is None else max(1, len(inner)) + sum(map(count, inner))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(body, "MAX_VALUES", most)
        assert body.has_too_many_values(json.dumps(document).encode()) == (count(document) >= most)


def test_a_notebooks_results_made_of_millions_of_values_are_none() -> None:
    """The cells write that file themselves, and the gateway reads it."""
    told = b'{"state":"done","cells":[%s]}'
    assert sandboxfusion._read_notebook(base64.b64encode(told % b"").decode()) == ("done", [])
    assert sandboxfusion._read_notebook(base64.b64encode(told % (b"0," * MIB + b"0")).decode()) == ("died", [])
    wide = (told.decode() % '"\u2241",1').encode("utf-16")  # the bytes of that sign hold a quotation mark
    assert sandboxfusion._read_notebook(base64.b64encode(wide).decode()) == ("died", [])


async def test_a_million_errors_are_not_described(http: httpx.AsyncClient) -> None:
    """One body of a few MiB held the gateway for seconds, because each of its errors was put into words."""
    fields = b",".join(b'"%07x":1' % number for number in range(190_000))
    response = await http.post("/v1/calls", content=b'{"code":"1",' + fields + b"}", headers=JSON)
    assert response.status_code == 422
    assert response.json()["error"]["message"].startswith("the body has 190000 errors")
    assert len(response.content) < 1000
