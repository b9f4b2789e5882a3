"""What a load test runs against: a service (a given one or its own), and the interpreter of the image without one."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from sandbox_service.config import Settings
from sandbox_service.serve import temporary_service
from sandbox_service.worker import rootfs


def add_option(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--url", help="a running service; without it one is started for this test alone")


@contextmanager
def service(url: str | None) -> Iterator[str]:
    """Yield the URL of the service to test."""
    if url is not None:
        yield url
        return
    with temporary_service() as own:
        yield own


def image_python() -> Path:
    """Return the interpreter of the image that calls run in, as a path that this machine can execute."""
    settings = Settings()
    image = rootfs.load(settings.image, settings)
    return image.path / image.python.lstrip("/")
