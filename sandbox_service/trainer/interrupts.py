"""Ctrl-C where a run computes for minutes without an await."""

from __future__ import annotations

import asyncio
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def at_once() -> Iterator[None]:
    """Inside, Ctrl-C raises. asyncio's own handler cancels the task, which hears of it at its next await."""
    handler = signal.getsignal(signal.SIGINT)
    if threading.current_thread() is not threading.main_thread() or not callable(handler):  # not ours, or ignored
        yield
        return
    signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        task = asyncio.current_task()
        if task is not None and task.cancelling():  # it came since the last await
            raise asyncio.CancelledError
        yield
    finally:
        signal.signal(signal.SIGINT, handler)
