# Generated from _async.py by scripts/generate_sync_client.py. Do not edit.
"""The client's methods: what they take and give. `_engine.py` does the work."""

from __future__ import annotations

import queue
import time
from collections.abc import Awaitable, Callable, Iterable, Iterator, Sequence, Sized
from functools import partial
from types import TracebackType
from typing import Any, TypeVar

from sandbox_service.client import _wire
from sandbox_service.client._engine import ANSWER_MARGIN_S, Options
from sandbox_service.client._progress import Bar
from sandbox_service.client._retries import Retries
from sandbox_service.client._stats import Stats
from sandbox_service.client._thread import InThread
from sandbox_service.client._transport import Transport, check_url
from sandbox_service.errors import InvalidOption
from sandbox_service.models import BATCH_CALLS, Call, Checked, Checks, CheckStatus, Result, Ticket

T = TypeVar("T")

_DEFAULT_RETRIES = Retries()


class SandboxClient:
    """Runs code on a sandbox service.

    What became of the code is in the Result; a SandboxError means that there is no answer (see `errors.py`).
    Requests that were refused (429, 503) or broken (connection lost, stream cut) are repeated under the same id
    until the call's `timeout_s` has passed; the service runs no call twice for that. A call that ended as
    `infra_error` is run again under an id that follows from its own, at most `retries.infra_errors` times.

    Calls of many tasks travel together: up to `coalesce_calls` of them, gathered for at most `coalesce_s` seconds
    while others are under way, in one stream that brings back each Result as it finishes.

    `url`: one gateway, or several of the same service, which take turns and stand in for each other; `http://`, or
    `grpc://` with the extra `grpc` (`https://`, `grpcs://`). InvalidOption: it is no address. `max_connections`:
    streams at once to all of them; more calls wait here.

    One client serves many tasks, event loops and threads. It can be pickled (the key goes along) and used on after a
    fork (but not over gRPC, whose library is not made for it). Closed (`with` does), it raises SetupError.
    """

    def __init__(
        self,
        url: str | Sequence[str],
        *,
        api_key: str | None = None,
        retries: Retries = _DEFAULT_RETRIES,
        coalesce_calls: int = 64,
        coalesce_s: float = 0.003,
        max_connections: int = 256,
    ) -> None:
        urls = tuple(check_url(each) for each in ([url] if isinstance(url, str) else url))
        if not urls:
            raise ValueError("give the address of at least one gateway, as in http://127.0.0.1:8000")
        if not 1 <= coalesce_calls <= BATCH_CALLS:
            raise ValueError(f"coalesce_calls must be 1 to {BATCH_CALLS}")
        if api_key is not None and not (api_key.isascii() and api_key.isprintable() and " " not in api_key):
            raise InvalidOption(
                "api_key has a space, a line end or another character that no key has; strip what was read"
            )
        self._options = Options(urls, api_key, retries, coalesce_calls, coalesce_s, max_connections)
        self._service = InThread(self._options)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({', '.join(self._options.urls)})"

    def __getstate__(self) -> Options:
        return self._options

    def __setstate__(self, options: Options) -> None:
        self._options = options
        self._service = InThread(options)

    def __enter__(self) -> SandboxClient:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """End what is under way, which then raises Unavailable, and close the connections."""
        self._service.close()

    def run(self, code: str | Call, **fields: object) -> Result:
        """Run code and return its Result: `run("print(input())", stdin="hi", limits={"wall_s": 2})`, or a Call.

        Who stops waiting (a cancelled task, Ctrl-C) cancels the call.
        """
        return self._service.run(_wire.prepare(code, fields))

    def run_batch(self, calls: Sequence[Call | str]) -> list[Result]:
        """Run calls; results[i] belongs to calls[i]. An error ends it, as in `map`."""
        _wire.refuse_text(calls)
        results: dict[int, Result] = {}
        for index, result in self.map(calls, in_flight=len(calls)):
            results[index] = result
        return [results[index] for index in range(len(calls))]

    def map(
        self, calls: Iterable[Call | str], *, in_flight: int = 4096, progress: bool = False
    ) -> Iterator[tuple[int, Result]]:
        """Run calls; yield (index, Result) of each as it finishes, each index exactly once.

        `calls` is read only as far as `in_flight` calls are under way. `progress` draws a bar on stderr. A
        SandboxError of one call ends it; then, and when the caller leaves the loop, what is under way is cancelled.
        """
        _wire.refuse_text(calls)
        done: queue.SimpleQueue[int] = queue.SimpleQueue()
        futures: dict[int, Any] = {}
        source = enumerate(calls)
        with Bar(len(calls) if isinstance(calls, Sized) else None, shown=progress) as bar:
            try:
                while True:
                    while len(futures) < in_flight and (following := next(source, None)) is not None:
                        index, call = following
                        futures[index] = self._service.start(_wire.prepare(call, {}))
                        futures[index].add_done_callback(partial(_put, done, index))
                    if not futures:
                        return
                    index = done.get()
                    result: Result = futures.pop(index).result()
                    bar.advance()
                    yield index, result
            finally:
                for future in futures.values():
                    future.cancel()

    def verify(
        self, answer: str, reference: str, *, limit_s: float = 2.0, timeout_s: float = _wire.DEFAULT_TIMEOUT_S
    ) -> Checked:
        """Say whether an answer means the same as the reference: `verify("so \\\\boxed{1/2}", "0.5").correct`.

        Each is a whole text that marks it (`\\boxed{}`, `$...$`) or the bare answer. `limit_s`: CPU seconds for it.
        """
        return (self.verify_batch([(answer, reference)], limit_s=limit_s, timeout_s=timeout_s))[0]

    def verify_batch(
        self,
        pairs: Sequence[tuple[str, str]],
        *,
        limit_s: float = 2.0,
        timeout_s: float = _wire.DEFAULT_TIMEOUT_S,
    ) -> list[Checked]:
        """Check (answer, reference) pairs, as `verify` does one; results[i] belongs to pairs[i].

        What ended as `infra_error` is checked again, at most `retries.infra_errors` times.
        """
        if not pairs:
            return []
        deadline = time.monotonic() + timeout_s
        verdicts: dict[int, Checked] = {}
        left = list(range(len(pairs)))
        for _ in range(1 + self._options.retries.infra_errors):
            for checks in _wire.prepare_checks([pairs[index] for index in left], limit_s):
                indexes, left = left[: len(checks.checks)], left[len(checks.checks) :]
                verdicts.update(zip(indexes, self._check(checks, deadline), strict=True))
            left = [index for index, verdict in verdicts.items() if verdict.status is CheckStatus.INFRA_ERROR]
            if not left:
                break
        return [verdicts[index] for index in range(len(pairs))]

    def submit(self, code: str | Call, **fields: object) -> Ticket:
        """Hand in a call without waiting for it. Await it with `wait`, or poll it with `get`, by ticket or id."""
        call = _wire.prepare(code, fields)
        return self._service.ask(lambda gateway, left_s: gateway.submit(call, left_s), _wire.patience_s([call]))

    def submit_batch(self, calls: Sequence[Call | str]) -> Ticket:
        """Hand in up to 1,024 calls, all or none of them. Await them with `wait_batch`, or poll with `get_batch`."""
        batch = _wire.prepare_batch(calls)
        patience_s = _wire.patience_s(batch.calls)
        return self._service.ask(lambda gateway, left_s: gateway.submit_batch(batch, left_s), patience_s)

    def get(self, id: str | Ticket) -> Result | None:
        """Return the Result of a call, None while it is not done."""
        name = _wire.id_of("calls", id)
        return self._service.ask(lambda gateway, left_s: gateway.get(name, 0, left_s), ANSWER_MARGIN_S)

    def get_batch(self, id: str | Ticket) -> list[Result] | None:
        """Return the Results of a batch in the order of its calls, None while one is not done."""
        name = _wire.id_of("batches", id)
        return self._service.ask(lambda gateway, left_s: gateway.get_batch(name, 0, left_s), ANSWER_MARGIN_S)

    def wait(self, id: str | Ticket, *, timeout_s: float = _wire.DEFAULT_TIMEOUT_S) -> Result:
        """Return the Result of a call as soon as it is done. TimeoutError: it is not yet, and goes on."""
        name = _wire.id_of("calls", id)

        def get(gateway: Transport, wait_s: float, left_s: float) -> Awaitable[Result | None]:
            return gateway.get(name, wait_s, left_s)

        return self._wait(get, f"call {name}", timeout_s)

    def wait_batch(self, id: str | Ticket, *, timeout_s: float = _wire.DEFAULT_TIMEOUT_S) -> list[Result]:
        """Return the Results of a batch as soon as all are done. TimeoutError: they are not yet, and go on."""
        name = _wire.id_of("batches", id)

        def get(gateway: Transport, wait_s: float, left_s: float) -> Awaitable[list[Result] | None]:
            return gateway.get_batch(name, wait_s, left_s)

        return self._wait(get, f"batch {name}", timeout_s)

    def cancel(self, id: str | Ticket) -> None:
        """Cancel a call: it never starts, or is killed. A call that is done keeps its Result."""
        name = _wire.id_of("calls", id)
        self._service.ask(lambda gateway, left_s: gateway.cancel(name, left_s), ANSWER_MARGIN_S)

    def cancel_batch(self, id: str | Ticket) -> None:
        """Cancel all calls of a batch that are not done."""
        name = _wire.id_of("batches", id)
        self._service.ask(lambda gateway, left_s: gateway.cancel_batch(name, left_s), ANSWER_MARGIN_S)

    def cancel_label(self, name: str, value: str) -> int:
        """Cancel all unfinished calls that carry this label; return how many."""
        return self._service.ask(lambda gateway, left_s: gateway.cancel_label(name, value, left_s), ANSWER_MARGIN_S)

    def stats(self, *, reset: bool = False) -> Stats:
        """Return what this client did since the last reset, in all event loops: for the log of a training step."""
        return self._service.stats(reset=reset)

    def _check(self, checks: Checks, deadline: float) -> list[Checked]:
        def send(gateway: Transport, left_s: float) -> Awaitable[list[Checked]]:
            within_s = max(0.001, deadline - time.monotonic())
            return gateway.verify(checks.model_copy(update={"timeout_s": within_s}), left_s)

        return self._service.ask(send, max(0.0, deadline - time.monotonic()) + ANSWER_MARGIN_S)

    def _wait(self, get: Callable[[Transport, float, float], Awaitable[T | None]], name: str, timeout_s: float) -> T:
        """Ask by long polls: `get(transport, seconds to hold the answer, seconds for the attempt)`."""
        deadline = time.monotonic() + timeout_s

        def poll(gateway: Transport, left_s: float) -> Awaitable[T | None]:
            wait_s = max(0.0, min(_wire.LONG_POLL_S, deadline - time.monotonic()))
            return get(gateway, wait_s, min(left_s, wait_s + ANSWER_MARGIN_S))

        while True:
            remaining_s = max(0.0, deadline - time.monotonic())
            answer = self._service.ask(poll, remaining_s + ANSWER_MARGIN_S)
            if answer is not None:
                return answer
            if time.monotonic() >= deadline:
                raise TimeoutError(f"{name} is not done after {timeout_s:g} s")


def _put(done: queue.SimpleQueue[int], index: int, _future: object) -> None:
    done.put_nowait(index)
