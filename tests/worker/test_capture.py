"""Output of a program: kept up to the soft cap, counted beyond it, read without waiting."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from sandbox_service.worker import capture as capture_module
from sandbox_service.worker.capture import Capture


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    with ExitStack() as opened:
        yield opened


def test_what_fits_is_kept_whole(stack: ExitStack) -> None:
    capture = Capture(os.getuid(), 8, stack)
    os.write(capture.write_fd, b"12345678")
    capture.drain()
    assert (capture.kept, capture.truncated, capture.at_end) == (b"12345678", False, False)


def test_what_does_not_fit_is_counted_and_dropped(stack: ExitStack) -> None:
    capture = Capture(os.getuid(), 8, stack)
    for piece in (b"12345", b"67890", b"x" * 1000):
        os.write(capture.write_fd, piece)
        capture.drain()
    assert (capture.kept, capture.total, capture.truncated) == (b"12345678", 1010, True)


def test_draining_an_empty_pipe_does_not_wait(stack: ExitStack) -> None:
    capture = Capture(os.getuid(), 8, stack)
    capture.drain()
    assert (capture.kept, capture.at_end) == (b"", False)


def test_the_end_is_seen_when_the_last_writer_closes(stack: ExitStack) -> None:
    """A program that was forked holds the pipe as well; its end is not the worker's copy's end."""
    capture = Capture(os.getuid(), 8, stack)
    program = os.dup(capture.write_fd)
    capture.close_write_end()
    capture.drain()
    assert not capture.at_end
    os.write(program, b"last")
    os.close(program)
    capture.drain()
    assert (capture.at_end, capture.kept) == (True, b"last")


def test_one_turn_reads_no_more_than_its_share(stack: ExitStack) -> None:
    """A program that writes for ever does not keep the worker from its other calls."""
    capture = Capture(os.getuid(), 1 << 20, stack)
    os.write(capture.write_fd, b"x" * 65_536)
    capture.drain(at_most=1)
    os.write(capture.write_fd, b"y" * 4096)
    assert capture.total == 65_536
    capture.drain()
    assert capture.total == 65_536 + 4096


def test_the_program_owns_its_end(stack: ExitStack) -> None:
    """A program opens /dev/stdout anew: the kernel asks who owns the pipe."""
    capture = Capture(54321, 8, stack)
    assert os.fstat(capture.write_fd).st_uid == 54321


def test_both_ends_are_closed_in_the_end() -> None:
    with ExitStack() as stack:
        capture = Capture(os.getuid(), 8, stack)
        ends = (capture.fd, capture.write_fd)
    for end in ends:
        with pytest.raises(OSError, match="Bad file descriptor"):
            os.fstat(end)


def test_one_turn_is_short_also_if_each_read_finds_a_single_byte(
    stack: ExitStack, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So it is beside a program that writes byte by byte on another CPU: a million reads would take a second."""
    capture = Capture(os.getuid(), 8, stack)
    reads = 0

    def read(fd: int, size: int) -> bytes:
        nonlocal reads
        reads += 1
        return b"x"

    monkeypatch.setattr(capture_module.os, "read", read)
    capture.drain()
    monkeypatch.undo()
    assert 16 < reads <= 64, reads  # what one pipe can hold has to be read in one turn: 16 packets
