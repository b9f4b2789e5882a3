"""Which system call ended a program: read from the kernel's log, told where it is known, never guessed."""

from __future__ import annotations

import os
import time

import pytest

from sandbox_service.worker.kernel_log import KernelLog, parse

RECORD = (
    b"5,863,2497446094,-;audit: type=1326 audit(1795716342.307:3): auid=4294967295 uid=25029257 gid=0 ses=4294967295 "
    b'pid=13430 comm="python" exe="/usr/bin/python3.11" sig=31 arch=c000003e syscall=246 compat=0 ip=0x7f'
)
X86 = os.uname().machine == "x86_64"


def test_a_record_names_the_process_and_the_call() -> None:
    """With a security module there is one field more."""
    assert parse(RECORD) == (1795716342, 25029257, 13430, 0xC000003E, 246)
    assert parse(RECORD.replace(b" pid=", b" subj=system_u:x (enforce) pid=")) == parse(RECORD)


@pytest.mark.parametrize(
    "record",
    [
        b"4,1,2,-;python[7]: segfault at 0",
        b"4,1,2,-;x: " + RECORD.partition(b";")[2],
        b"4,1,2,-;" + RECORD.partition(b";")[2].replace(b"1326", b"1300"),
        RECORD.replace(b"sig=31", b"sig=11"),
        RECORD.replace(b'"python"', b'"a pid=1 sig=31"'),  # the kernel would write such a name in hexadecimal
        RECORD[:150],
        b"",
    ],
)
def test_what_only_looks_like_a_record_is_none(record: bytes) -> None:
    """A program's name can stand in other lines of the log, after their beginning."""
    assert parse(record) is None


async def read(*records: bytes, pid: int = 13430, since: float = 1795716342) -> str | None:
    """What a log says that holds these records: a pipe of packets, which gives one for each read as the kernel does."""
    log = KernelLog()
    log.close()
    log._fd, end = os.pipe2(os.O_NONBLOCK | os.O_DIRECT)
    try:
        for record in records:
            os.write(end, record)
        return await log.call_that_ended(pid, 25029257, since)
    finally:
        log.close()
        os.close(end)


@pytest.mark.skipif(not X86, reason="a record of x86_64")
async def test_the_record_of_the_process_is_found_among_others() -> None:
    """Not that of a child, of another user with the same number, or of an earlier process of it."""
    child = RECORD.replace(b"pid=13430", b"pid=13431").replace(b"syscall=246", b"syscall=169")
    stranger = RECORD.replace(b" uid=25029257", b" uid=25029258").replace(b"syscall=246", b"syscall=169")
    earlier = RECORD.replace(b"(1795716342", b"(1795716300").replace(b"syscall=246", b"syscall=169")
    assert await read(child, stranger, earlier, RECORD) == "kexec_load"
    assert await read(child, stranger, earlier) is None
    assert await read(RECORD.replace(b"c000003e", b"40000003")) == "number 246 of another architecture"
    assert await read(RECORD.replace(b"syscall=246", b"syscall=1073741863")) == "number 39 of x32"


@pytest.mark.parametrize("instead", ["/dev/null", "/proc/self/mem"])
async def test_what_is_no_log_tells_nothing_and_holds_nobody_up(instead: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Some containers have /dev/null in its place, which always reads as empty; other faults may last as well."""
    opened = os.open
    monkeypatch.setattr(os, "open", lambda _, flags: opened(instead, flags))
    log = KernelLog()
    assert await log.call_that_ended(1, 1, 0) is None
    assert log._fd == -1


async def test_a_machine_without_such_a_log_costs_no_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """In a container there is no /dev/kmsg, or it may not be read: no name, and no wait for one."""
    monkeypatch.setattr(os, "open", lambda *_: (_ for _ in ()).throw(PermissionError))
    log = KernelLog()
    begun = time.monotonic()
    assert await log.call_that_ended(1, 1, 0) is None
    assert time.monotonic() - begun < 0.05
