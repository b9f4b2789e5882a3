"""Arrange the zygote's memory so that forking it is cheap. Nothing here changes what a program can see or do.

Tried without gain: filling the holes in the C library's heap as well; MADV_POPULATE_WRITE of what a call writes to;
private pages in code mappings, so that a fork copies their page tables (50 faults fewer, but a fork of numpy + sympy
0.4 ms longer).
"""

from __future__ import annotations

import ctypes
import gc
import sys
from collections.abc import Sequence
from contextlib import suppress
from itertools import chain, pairwise
from types import CodeType
from typing import IO, NamedTuple

from sandbox_service.inside import heap
from sandbox_service.inside.heap import HUGE_PAGE, PAGE

_MADV_COLLAPSE = 25
_PROT_READ, _PROT_WRITE, _PROT_EXEC = 1, 2, 4
_MAP_PRIVATE_ANONYMOUS = 0x22
_MREMAP_MAYMOVE, _MREMAP_FIXED = 1, 2
_FAILED = (1 << 64) - 1
_PRESENT = 63
"""Of an entry of /proc/self/pagemap: the bit that says that the page is there."""

_IMMORTAL = 0xFFFFFFFF
"""The lower four of a reference count's eight bytes, in an object that is immortal."""

# Of obmalloc.c: pools of 16 KiB, each for objects of one size.
_POOL, _POOL_HEADER, _POOL_SIZES = 16 << 10, 48, range(48, 513, 16)
_BYTES_OVERHEAD = sys.getsizeof(b"")
_ENOUGH = 10_000
_FREE_LISTS = 80
"""PyList_MAXFREELIST."""
_filling: list[bytes] = []

_libc = ctypes.PyDLL(None)
_libc.madvise.argtypes = _libc.mprotect.argtypes = (ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int)
_libc.mmap.restype = _libc.mremap.restype = ctypes.c_void_p
_libc.mmap.argtypes = (ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int, ctypes.c_int, ctypes.c_int, ctypes.c_long)
_libc.mremap.argtypes = (ctypes.c_void_p, ctypes.c_size_t, ctypes.c_size_t, ctypes.c_int, ctypes.c_void_p)
_libc.munmap.argtypes = (ctypes.c_void_p, ctypes.c_size_t)


class _Mapping(NamedTuple):
    start: int
    end: int
    rights: str
    offset: int
    inode: str


def settle(mortal: Sequence[object] = ()) -> None:
    """Called last, when all that is alive will stay. From here on the garbage collector is off and does not see it.

    `mortal`: what a program can let go of and would notice, if it did not end then.
    """
    heap.scatter()
    gc.unfreeze()
    gc.collect()
    gc.disable()
    if ctypes.c_uint32.from_address(id(None)).value == _IMMORTAL:  # CPython 3.12 and 3.13
        _make_immortal(mortal)
    gc.freeze()
    _join()
    heap.to_huge_page()
    _collapse()
    _enlarge_code()
    _fill_pools()


def fill_free_list() -> None:
    """Fill CPython's list of lists to be used again, which the zygote's work would: a child could count earlier calls.

    SECURITY: tests/inside/test_faithful_in_the_jail.py, `test_a_call_cannot_count_earlier_ones`.
    """
    _ = [[] for _ in range(_FREE_LISTS)]


def _make_immortal(mortal: Sequence[object]) -> None:
    """Give all objects that can be found the reference count of None: one that nothing ever changes (PEP 683).

    A child then writes no count into what it only uses, and each page that it does not write to need not be copied.
    """
    waiting: list[object] = gc.get_objects()  # before anything is made here
    spared = {id(mortal), *map(id, mortal)}  # the list as well: it would hold the others for ever
    found: dict[int, object] = dict.fromkeys(spared)
    while waiting:
        new = []
        for each in waiting:
            if id(each) not in found:
                found[id(each)] = each  # it has to stay, or another one would be at its address later
                new.append(each)
        waiting = gc.get_referents(*new)
        for each in new:
            if type(each) is CodeType:  # not seen by the collector, nor is what it holds
                waiting += each.co_consts, each.co_names, each.co_name, each.co_qualname, each.co_filename
    for address in found.keys() - spared:
        ctypes.c_uint32.from_address(address).value = _IMMORTAL


def _fill_pools() -> None:
    """Fill the holes in CPython's pools, of one size after the other, up to a pool that is new.

    What a child makes then lies together, in few pages, not in holes all over the zygote's memory.
    """
    for size in _POOL_SIZES:
        for _ in range(_ENOUGH):  # some hundreds are; without such pools there is no end
            _filling.append(b"x" * (size - _BYTES_OVERHEAD))
            if id(_filling[-1]) % _POOL == _POOL_HEADER:
                break


def _mappings() -> list[_Mapping]:
    found = []
    with open("/proc/self/maps") as maps:
        for line in maps:
            addresses, rights, offset, _, inode = line.split(None, 5)[:5]
            start, end = (int(address, 16) for address in addresses.split("-"))
            found.append(_Mapping(start, end, rights, int(offset, 16), inode))
    return found


def _join() -> None:
    """Let the kernel keep each shared library as two mappings instead of five, since a fork copies each of them.

    To become one they need the same rights: what is only read may be executed next to code, and written next to data.
    That takes nothing from a program, which can change the rights of its memory as it likes, and gives it nothing.
    """
    for low, high in pairwise(_mappings()):
        is_one_file = low.inode == high.inode != "0" and low.offset + low.end - low.start == high.offset
        if low.end != high.start or not is_one_file:
            continue
        read_only, other = (low, high) if low.rights == "r--p" else (high, low)
        right = {"r-xp": _PROT_EXEC, "rw-p": _PROT_WRITE}.get(other.rights)
        if read_only.rights == "r--p" and right is not None:
            _libc.mprotect(read_only.start, read_only.end - read_only.start, _PROT_READ | right)


def _collapse() -> None:
    """Make huge pages of private memory: forking numpy and sympy takes half as long (1.2 ms, not 2.3).

    A kernel may refuse; then it only costs more.
    """
    for mapping in _mappings():
        if mapping.rights == "rw-p" and mapping.inode == "0" and (pages := _huge_pages(mapping)):
            _libc.madvise(pages.start, len(pages) * HUGE_PAGE, _MADV_COLLAPSE)


def _enlarge_code() -> None:
    """Put code that is in use on huge pages, as copies: a child runs it without a fault for each 16 pages of the file,
    and neither its fork nor its end goes through an entry for each. `perf` cannot name it any more.

    Only what fills a huge page can be: of libpython four fifths, where the file system aligns it.
    """
    with suppress(OSError), open("/proc/self/pagemap", "rb", buffering=0) as pagemap:  # a kernel may not have it
        code = [mapping for mapping in _mappings() if mapping.rights == "r-xp" and mapping.inode != "0"]
        for start in chain.from_iterable(map(_huge_pages, code)):
            if _is_in_use(start, pagemap):
                _replace_by_huge_page(start)


def _is_in_use(start: int, pagemap: IO[bytes]) -> bool:
    """Whether more than half of the pages that would be one huge page are there."""
    pagemap.seek(start // PAGE * 8)
    entries = memoryview(pagemap.read(HUGE_PAGE // PAGE * 8)).cast("Q")
    return sum(entry >> _PRESENT for entry in entries) * 2 > len(entries)


def _replace_by_huge_page(start: int) -> None:
    """If the kernel refuses, things are as they were."""
    room = _libc.mmap(None, 2 * HUGE_PAGE, _PROT_READ | _PROT_WRITE, _MAP_PRIVATE_ANONYMOUS, -1, 0)
    if room == _FAILED:
        return
    copy = _round_up(room)
    ctypes.memmove(copy, start, HUGE_PAGE)
    is_huge = _libc.madvise(copy, HUGE_PAGE, _MADV_COLLAPSE) == 0
    if is_huge and _libc.mprotect(copy, HUGE_PAGE, _PROT_READ | _PROT_EXEC) == 0:
        _libc.mremap(copy, HUGE_PAGE, HUGE_PAGE, _MREMAP_MAYMOVE | _MREMAP_FIXED, start)
    _libc.munmap(room, 2 * HUGE_PAGE)


def _huge_pages(mapping: _Mapping) -> range:
    """Addresses of the huge pages that lie in it as a whole."""
    return range(_round_up(mapping.start), mapping.end - HUGE_PAGE + 1, HUGE_PAGE)


def _round_up(address: int) -> int:
    return -(-address // HUGE_PAGE) * HUGE_PAGE
