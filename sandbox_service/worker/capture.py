"""What a program writes to one of its output pipes, kept up to a soft cap and counted beyond it."""

from __future__ import annotations

import os
from contextlib import ExitStack

_CHUNK = 65_536
_SMALLEST = 16_384
"""What a read counts as at least: while a program writes byte by byte, each of ours may find a single one."""


class Capture:
    """The reading end of one pipe. SECURITY: memory is bounded by the soft cap, whatever the program writes
    (tests/e2e: `test_a_flood_of_output_is_cut_off`)."""

    def __init__(self, owner: int, soft_cap: int, stack: ExitStack) -> None:
        """Make the pipe, to be closed by `stack`; `owner` is the uid outside the jail that may open /dev/stdout."""
        self.fd, self.write_fd = os.pipe2(os.O_CLOEXEC)
        stack.callback(self._close)
        os.set_blocking(self.fd, False)
        os.fchown(self.write_fd, owner, owner)
        self.total = 0
        self.at_end = False
        self._soft_cap = soft_cap
        self._kept = bytearray()

    @property
    def kept(self) -> bytes:
        return bytes(self._kept)

    @property
    def truncated(self) -> bool:
        return self.total > self._soft_cap

    def drain(self, at_most: int = 1 << 20) -> None:
        """Read what is there, at most `at_most` bytes, without waiting."""
        while not self.at_end and at_most > 0:
            try:
                piece = os.read(self.fd, _CHUNK)
            except BlockingIOError:
                return
            self.at_end = not piece
            self.total += len(piece)
            at_most -= max(len(piece), _SMALLEST)
            if (room := self._soft_cap - len(self._kept)) > 0:
                self._kept += piece[:room]

    def close_write_end(self) -> None:
        if self.write_fd >= 0:
            os.close(self.write_fd)
            self.write_fd = -1

    def _close(self) -> None:
        self.close_write_end()
        os.close(self.fd)
