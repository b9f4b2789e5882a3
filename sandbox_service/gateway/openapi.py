"""The description of the HTTP interface that /openapi.json serves: every route, answer and error, with examples."""

from __future__ import annotations

from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from pydantic.json_schema import models_json_schema

from sandbox_service.errors import (
    BadRequest,
    Conflict,
    HeadersTooLarge,
    InvalidCall,
    NotFound,
    Overloaded,
    ResultGone,
    SandboxError,
    ServiceFault,
    TooLarge,
    TooSlow,
    Unauthorized,
    Unavailable,
    UnsupportedMedia,
    WrongHost,
)
from sandbox_service.models import Batch, Call, Checks, Result, Ticket, Verdicts

Json = dict[str, Any]

_INTRO = """Runs code written by language models, fast and safely.

Send one piece of code as a **Call** to `POST /v1/calls`, or up to 1,024 together as a **Batch** to `POST /v1/batches`.
What became of the code is a **Result** with a `status`; HTTP errors are about the request alone.

* `failed`, `signaled`, `timed_out`, `out_of_memory`, `output_limit` are the code's doing; `expired` and `cancelled` the
  caller's; `infra_error` is ours: submit it again, never score it.
* Send an `id` of your own and repeat a request as often as you like: the same id and body give the same Result and
  run the code once; the same id with another body is a 409.
* 429 and 503 come before acceptance, with `Retry-After`; what was answered otherwise was accepted and is not lost.
* A client that closes its connection while it waits cancels what it waited for. With `?wait=0` it gets a Ticket
  instead, and the call goes on without it.
"""

_RESULT: Json = {
    "id": "0f3c6a1e9d2b4c57a8e0d1f2b3c4d5e6",
    "status": "ok",
    "exit_code": 0,
    "retryable": False,
    "stdout": "4\n",
    "stderr": "",
    "usage": {"wall_s": 0.0021, "cpu_s": 0.0018, "memory_peak_mb": 1.2},
    "attempts": 1,
}
_TICKET: Json = {"id": "step-7", "state": "queued", "url": "/v1/batches/step-7"}
_CALL_EXAMPLES: Json = {
    "smallest": {"summary": "The smallest call", "value": {"code": "print(2 + 2)"}},
    "full": {
        "summary": "With an id, input, limits and labels",
        "value": {
            "id": "rollout-17-turn-3",
            "code": "n = int(input())\nprint(sum(range(n)))",
            "stdin": "10\n",
            "expected_stdout": "45",
            "timeout_s": 30,
            "limits": {"wall_s": 5, "memory_mb": 256},
            "labels": {"run": "exp-1", "step": "7"},
        },
    },
}
_BATCH_EXAMPLES: Json = {
    "two": {
        "summary": "Two calls; the second gets the id `step-7.1`",
        "value": {"id": "step-7", "calls": [{"id": "first", "code": "print(1)"}, {"code": "print(2)"}]},
    }
}
_CHECKS_EXAMPLES: Json = {
    "two": {
        "summary": "Two answers; the second is marked in a longer text",
        "value": {
            "checks": [
                {"answer": "0.5", "reference": "\\frac{1}{2}"},
                {"answer": "So there are \\boxed{42} of them.", "reference": "41"},
            ]
        },
    }
}
_VERDICTS: Json = {"results": [{"status": "ok", "correct": True}, {"status": "ok", "correct": False}]}
_NDJSON_EXAMPLE = (
    '{"index":1,"result":{"id":"step-7.1","status":"ok","stdout":"2\\n"}}\n'
    '{"index":0,"result":{"id":"first","status":"ok","stdout":"1\\n"}}\n'
    '{"done":true,"id":"step-7","count":2}\n'
)
_NDJSON_TEACHES = (
    "With `Accept: application/x-ndjson`: one line for each Result as it finishes, in any order, then one terminal "
    "line. `done` is false there if Results are missing, and `error` says why; a stream without it was cut off."
)

_ERROR_SCHEMA: Json = {
    "title": "Error",
    "type": "object",
    "required": ["error"],
    "properties": {
        "error": {
            "type": "object",
            "required": ["code", "message"],
            "properties": {
                "code": {"type": "string", "description": "stable name of the error, to decide by"},
                "message": {"type": "string", "description": "what is wrong and what to do, for people"},
                "field": {"type": "string", "description": "the offending field: `calls.3.limits.wall_s`"},
                "retry_after_s": {"type": "number", "description": "seconds to wait before the next try"},
                "details": {
                    "type": "array",
                    "description": "every finding about the body, where there are any",
                    "items": {
                        "type": "object",
                        "required": ["field", "message"],
                        "properties": {"field": {"type": "string"}, "message": {"type": "string"}},
                    },
                },
            },
        }
    },
}
_BATCH_RESULTS_SCHEMA: Json = {
    "title": "BatchResults",
    "type": "object",
    "required": ["id", "results"],
    "properties": {
        "id": {"type": "string"},
        "results": {
            "type": "array",
            "items": {"$ref": "#/components/schemas/Result"},
            "description": "in the order of the batch's calls",
        },
    },
}

_MEANINGS: dict[type[SandboxError], str] = {
    BadRequest: "A header that may be sent once was repeated, or this is not valid HTTP.",
    HeadersTooLarge: "The request's head is larger than 64 KiB.",
    InvalidCall: "The request is not valid; the message names the field. Nothing was accepted.",
    TooLarge: "The body is larger than SANDBOX_MAX_BODY_MB.",
    TooSlow: "The body took too long to arrive.",
    UnsupportedMedia: "The body is not plain, uncompressed `application/json`.",
    WrongHost: "A gateway without API keys answers to localhost only.",
    Unauthorized: "No API key, or not a known one (`Authorization: Bearer <key>`).",
    NotFound: "Nothing with this id (or it is another tenant's).",
    Conflict: "This id was used before with another body. Nothing was accepted.",
    ResultGone: "It was done, and its Result has passed its time to live.",
    Overloaded: "Too much is queued. Nothing was accepted; come back after `Retry-After` seconds.",
    Unavailable: "A part of the service is away, or this gateway is stopping. With a `Location` the request was "
    "accepted: ask there. Otherwise nothing was.",
    ServiceFault: "A fault of ours; it was logged. Repeating the request with the same id is safe.",
}
_ALWAYS: tuple[type[SandboxError], ...] = (
    BadRequest,
    HeadersTooLarge,
    Unauthorized,
    WrongHost,
    ServiceFault,
    Unavailable,
)
_OF_BODIES = (InvalidCall, TooLarge, TooSlow, UnsupportedMedia, Conflict, Overloaded)

_WAIT: Json = {
    "name": "wait",
    "in": "query",
    "description": "1: answer when it is done. 0: answer a Ticket at once.",
    "schema": {"type": "string", "enum": ["0", "1"], "default": "1"},
}
_WAIT_S: Json = {
    "name": "wait_s",
    "in": "query",
    "description": "Long poll: wait this many seconds for the end (at most SANDBOX_MAX_WAIT_S).",
    "schema": {"type": "number", "minimum": 0, "default": 0},
}
_ID: Json = {"name": "id", "in": "path", "required": True, "schema": {"type": "string"}}
_LABEL: Json = {
    "name": "label",
    "in": "query",
    "required": True,
    "description": "`name:value`",
    "schema": {"type": "string", "pattern": "^[A-Za-z0-9_.-]{1,64}:"},
    "example": "run:exp-1",
}


def operation(method: str, path: str) -> Json:
    """Return the keyword arguments that describe this route to FastAPI."""
    return {"response_model": None, **_OPERATIONS[method, path]}


def document(app: FastAPI) -> Json:
    """Return the whole OpenAPI document."""
    api = get_openapi(title=app.title, version=app.version, description=_INTRO, routes=app.routes)
    _, definitions = models_json_schema(
        [
            (Call, "validation"),
            (Batch, "validation"),
            (Checks, "validation"),
            (Result, "serialization"),
            (Ticket, "serialization"),
            (Verdicts, "serialization"),
        ],
        ref_template="#/components/schemas/{model}",
    )
    api["components"] = {
        "schemas": {**definitions["$defs"], "BatchResults": _BATCH_RESULTS_SCHEMA, "Error": _ERROR_SCHEMA},
        "securitySchemes": {
            "key": {"type": "http", "scheme": "bearer", "description": "needed where SANDBOX_API_KEYS_FILE is set"}
        },
    }
    return api


def _describe(
    summary: str,
    text: str,
    answers: Json,
    *,
    errors: tuple[type[SandboxError], ...] = (),
    parameters: tuple[Json, ...] = (),
    body: Json | None = None,
) -> Json:
    extra: Json = {"security": [{}, {"key": []}]}
    if parameters:
        extra["parameters"] = list(parameters)
    if body is not None:
        extra["requestBody"] = {"required": True, "content": {"application/json": body}}
    refusals: tuple[type[SandboxError], ...] = (*errors, *_ALWAYS)
    failures = {str(error.http): _failure(error) for error in refusals}
    return {"summary": summary, "description": text, "responses": {**answers, **failures}, "openapi_extra": extra}


def _answer(text: str, schema: Json | str, example: object = None, *, location: bool = False) -> Json:
    content: Json = {"schema": _ref(schema) if isinstance(schema, str) else schema}
    if example is not None:
        content["example"] = example
    described: Json = {"description": text, "content": {"application/json": content}}
    if location:
        described["headers"] = {"Location": {"description": "where to ask for it", "schema": {"type": "string"}}}
    return described


def _failure(error: type[SandboxError]) -> Json:
    example = {"error": {"code": error.code, "message": "..."}}
    described = _answer(_MEANINGS[error], "Error", example)
    if error in (Overloaded, Unavailable):
        described["headers"] = {"Retry-After": {"description": "seconds", "schema": {"type": "integer"}}}
    return described


def _ref(name: str) -> Json:
    return {"$ref": f"#/components/schemas/{name}"}


def _body(name: str, examples: Json) -> Json:
    return {"schema": _ref(name), "examples": examples}


def _object(**properties: Json) -> Json:
    return {"type": "object", "required": list(properties), "properties": properties}


def _probe(summary: str, text: str, answers: Json) -> Json:
    return {"summary": summary, "description": text, "responses": answers}


_TICKET_ANSWER = _answer("A Ticket: accepted and not done (or not waited for).", "Ticket", _TICKET, location=True)
_CALL_ANSWER = _answer("The Result.", "Result", _RESULT)
_BATCH_ANSWER: Json = _answer("The Results, in order.", "BatchResults", {"id": "step-7", "results": [_RESULT]})
_BATCH_ANSWER["content"]["application/x-ndjson"] = {"schema": {"type": "string"}, "example": _NDJSON_EXAMPLE}
_STATE: Json = {"type": "string", "enum": ["queued", "running", "done"]}
_CANCELLED_ANSWER = _answer(
    "Its state now; `running`: its worker is about to kill it. What was done keeps its Result.",
    _object(id={"type": "string"}, state=_STATE),
    {"id": "first", "state": "done"},
)
_READY_SCHEMA = _object(
    ready={"type": "boolean"},
    reasons={"type": "array", "items": {"type": "string"}},
    images={"type": "array", "items": {"type": "string"}},
)

_OPERATIONS: dict[tuple[str, str], Json] = {
    ("POST", "/v1/calls"): _describe(
        "Run one call",
        "Answers its Result when it is done, however the code ended. `timeout_s` bounds how long that takes, queueing "
        "included; a limit above the deployment's is lowered, and the Result's `message` says so.",
        {"200": _CALL_ANSWER, "202": _TICKET_ANSWER},
        errors=_OF_BODIES,
        parameters=(_WAIT,),
        body=_body("Call", _CALL_EXAMPLES),
    ),
    ("GET", "/v1/calls/{id}"): _describe(
        "Look up a call",
        "Its Result if it is done, else a Ticket. Results can be fetched for SANDBOX_RESULT_TTL_S.",
        {"200": _CALL_ANSWER, "202": _TICKET_ANSWER},
        errors=(InvalidCall, NotFound, ResultGone),
        parameters=(_ID, _WAIT_S),
    ),
    ("DELETE", "/v1/calls/{id}"): _describe(
        "Cancel a call",
        "One that has not started never starts; one that runs is killed.",
        {"200": _CANCELLED_ANSWER},
        errors=(NotFound, ResultGone),
        parameters=(_ID,),
    ),
    ("DELETE", "/v1/calls"): _describe(
        "Cancel calls by label",
        "All unfinished calls of yours that carry it: what a trainer that died left behind.",
        {"200": _answer("How many.", _object(cancelled={"type": "integer", "minimum": 0}), {"cancelled": 12})},
        errors=(InvalidCall,),
        parameters=(_LABEL,),
    ),
    ("POST", "/v1/batches"): _describe(
        "Run up to 1,024 calls",
        f"Accepted as a whole or not at all. Calls without an id get `<batch id>.<index>`. {_NDJSON_TEACHES}",
        {"200": _BATCH_ANSWER, "202": _TICKET_ANSWER},
        errors=_OF_BODIES,
        parameters=(_WAIT,),
        body=_body("Batch", _BATCH_EXAMPLES),
    ),
    ("GET", "/v1/batches/{id}"): _describe(
        "Look up a batch",
        f"Its Results if all are done, else a Ticket. {_NDJSON_TEACHES}",
        {"200": _BATCH_ANSWER, "202": _TICKET_ANSWER},
        errors=(InvalidCall, NotFound, ResultGone),
        parameters=(_ID, _WAIT_S),
    ),
    ("DELETE", "/v1/batches/{id}"): _describe(
        "Cancel a batch",
        "All its calls that are not done.",
        {"200": _CANCELLED_ANSWER},
        errors=(NotFound, ResultGone),
        parameters=(_ID,),
    ),
    ("POST", "/v1/verify"): _describe(
        "Check answers",
        "Compares up to 16,384 answers with references by what they mean (math-verify, in the sandbox). A verdict is "
        "`correct`: true or false; null where nothing was judged: `bad_reference`, `expired`, `infra_error`.",
        {"200": _answer("The verdicts, in order.", "Verdicts", _VERDICTS)},
        errors=tuple(error for error in _OF_BODIES if error is not Conflict),
        body=_body("Checks", _CHECKS_EXAMPLES),
    ),
    ("GET", "/healthz"): _probe(
        "Is the process alive?",
        "Says nothing of the rest of the service.",
        {"200": _answer("It is.", _object(status={"type": "string"}), {"status": "ok"})},
    ),
    ("GET", "/readyz"): _probe(
        "Can calls run?",
        "Ready: the queue answers, and a worker that passed its self-test is alive.",
        {
            "200": _answer("They can.", _READY_SCHEMA, {"ready": True, "reasons": [], "images": ["default"]}),
            "503": _answer("They cannot; the reasons say what to do.", _READY_SCHEMA),
        },
    ),
    ("GET", "/metrics"): _probe(
        "Metrics",
        "In Prometheus' text format; ids and tenants are never labels.",
        {"200": {"description": "The metrics.", "content": {"text/plain": {"schema": {"type": "string"}}}}},
    ),
}
