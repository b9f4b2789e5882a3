"""Structured logs: one JSON line to stderr for each event that matters.

Owns the set-up, which a process asks for once with `configure`; importing this module sets up nothing. What other
libraries log at warning or above comes out in the same form. Never log bytes of a user: no code, no output, no
exception message that could quote them (`fault` gives the part of an exception that is safe).
"""

from __future__ import annotations

import logging
import sys
import traceback
from contextlib import suppress
from pathlib import Path
from typing import TextIO, cast

import structlog
from structlog.typing import FilteringBoundLogger, Processor


class _Lasting:
    """Standard error, whose loss, as with a terminal that was closed, ends nobody who logs: there is work to finish."""

    def write(self, text: str) -> None:
        with suppress(OSError):
            sys.stderr.write(text)

    def flush(self) -> None:
        with suppress(OSError):
            sys.stderr.flush()


def configure(level: str) -> None:
    """Write JSON lines of this level (debug, info, warning, error) and above to stderr."""
    stream = cast("TextIO", _Lasting())
    threshold = getattr(logging, level.upper())
    shared: list[Processor] = [
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    structlog.configure(
        processors=[*shared, structlog.processors.JSONRenderer()],
        wrapper_class=structlog.make_filtering_bound_logger(threshold),
        logger_factory=structlog.PrintLoggerFactory(stream),
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(stream)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[structlog.stdlib.add_logger_name, *shared],
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                structlog.processors.JSONRenderer(),
            ],
        )
    )
    logging.basicConfig(handlers=[handler], level=max(threshold, logging.WARNING), force=True)


def get_logger(component: str) -> FilteringBoundLogger:
    """Return a logger whose lines say which part of the service wrote them."""
    return cast("FilteringBoundLogger", structlog.get_logger(component=component))


def fault(error: BaseException) -> dict[str, str]:
    """Return the type of an exception and where it was raised; not its message, which may quote a user's bytes."""
    frames = traceback.extract_tb(error.__traceback__)
    where = [f"{Path(frame.filename).name}:{frame.lineno} {frame.name}" for frame in frames[-4:]]
    return {"error": type(error).__name__, "where": " < ".join(reversed(where))}
