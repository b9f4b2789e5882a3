"""The zygote's memory, arranged in an interpreter of its own: it stays as this test leaves it."""

from __future__ import annotations

import subprocess
import sys

import pytest

from tests.inside.battery import OF_IMAGES, REPOSITORY

JOINED = """
import _datetime, _decimal, _json, _socket, _struct, json, math, select, zlib
from collections import Counter
from sandbox_service.inside import memory

def mappings_by_library():
    with open("/proc/self/maps") as maps:
        paths = [line.split()[5] for line in maps if ".so" in line]
    return Counter(paths)

before = mappings_by_library()
memory.settle()
after = mappings_by_library()
assert after.keys() == before.keys()
assert max(after.values()) <= 2 < min(before.values()), (before, after)
import array, bisect, _csv  # code of a library that comes later, and of those that were joined, still runs
assert json.loads(json.dumps({"a": [math.sqrt(4), zlib.crc32(b"x")]})) == {"a": [2.0, 2363233923]}
assert _decimal.Decimal(1) / 3 < 1 and array.array("d", [1])[0] == 1
"""

IMMORTAL = """
import gc, json, sys, weakref
from sandbox_service.inside import memory

def count(each):
    return sys.getrefcount(each)

class Kept:
    name = "an attribute of a class of the zygote"

class Ending:
    pass

def function(argument=("a default", 2.5)):
    return "a constant of a function"

kept, ending = Kept(), Ending()
mortal = [ending]
memory.settle(mortal)
del mortal
of_none = count(None)
shared = (Kept, kept, Kept.name, function, function.__code__, function(), *function.__defaults__[0:1],
    json, json.dumps, vars(json), json.JSONEncoder.encode.__code__.co_names[0])
assert [count(each) for each in shared] == [of_none] * len(shared), [count(each) for each in shared]
assert count(ending) < 10

gone = []
weakref.finalize(ending, gone.append, "what is left out")
del ending
later = Ending()
weakref.finalize(later, gone.append, "what comes later")
del later
cycle = Ending()
cycle.itself = cycle
weakref.finalize(cycle, gone.append, "a cycle")
del cycle
gc.enable()
gc.unfreeze()  # as a program may
gc.collect()
assert gone == ["what is left out", "what comes later", "a cycle"], gone
assert json.dumps([Kept().name, function()]) == '["an attribute of a class of the zygote", "a constant of a function"]'
"""


TOGETHER = """
from sandbox_service.inside import memory

many = [[bytes(size) for size in range(500)] for _ in range(100)]
many = [each[::3] for each in many]  # holes of all sizes
memory.settle()
new = [bytes(size) for size in range(15, 480, 16)]
places = [id(each) % (16 << 10) for each in new]
assert sum(place < 4096 for place in places) > 0.8 * len(places), places
"""


GATHERED = """
from sandbox_service.inside import heap

heap.gather()

import ctypes, sys
from sandbox_service.inside import memory

sbrk = ctypes.PyDLL(None).sbrk
sbrk.argtypes, sbrk.restype = (ctypes.c_ssize_t,), ctypes.c_void_p
HUGE_PAGE = 2 << 20

def is_in_heap(address):
    with open("/proc/self/maps") as maps:
        start, end = (int(each, 16) for each in next(line for line in maps if "[heap]" in line).split()[0].split("-"))
    return start <= address < end

def deep(depth):  # its frames are in pieces that come from the same allocator
    return depth and 1 + deep(depth - 1)

sys.setrecursionlimit(20_000)
early = [bytes(400) for _ in range(20_000)]
assert deep(10_000) == 10_000
assert sum(is_in_heap(id(each)) for each in early[-5_000:]) == 5_000
kept = early[::50]
del early
memory.settle()
assert sbrk(0) % HUGE_PAGE == 0
late = [bytes(400) for _ in range(40_000)]
assert not is_in_heap(id(late[-1]))
assert all(map(bytes(400).__eq__, kept))
del kept, late
for _ in range(200):
    assert deep(10_000) == 10_000
    [bytes(400) for _ in range(5_000)]
"""

ENLARGED = """
import ctypes, json, re, sys
from sandbox_service.inside import memory

def code():
    with open("/proc/self/maps") as maps:
        return [line for line in maps if "r-xp" in line and re.search("libpython|bin/python", line)]

def size(lines):
    return sum(int(end, 16) - int(start, 16) for start, end in (line.split()[0].split("-") for line in lines))

json.dumps(sorted(vars(re)))
before = size(code())
copied = []
memory._replace_by_huge_page, replace = copied.append, memory._replace_by_huge_page
memory.settle()
text = {start: ctypes.string_at(start, 2 << 20) for start in copied}
for start in copied:
    replace(start)
assert {start: ctypes.string_at(start, 2 << 20) for start in copied} == text
assert size(code()) >= before - len(copied) * (2 << 20)
print(len(copied), json.loads(json.dumps([re.sub("a", "b", "aa")])))
"""


def run(python: str, program: str) -> str:
    done = subprocess.run(
        [python, "-c", program], capture_output=True, text=True, check=False, timeout=60, cwd=REPOSITORY
    )
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


@pytest.mark.parametrize("python", dict.fromkeys((OF_IMAGES, sys.executable)))
def test_each_shared_library_is_two_mappings_afterwards(python: str) -> None:
    run(python, JOINED)


def test_what_the_zygote_has_is_immortal_and_nothing_else_is() -> None:
    """A child writes no counts into it (CPython 3.12); what a program may end, and all that it makes, still ends."""
    if not OF_IMAGES.endswith("3.12"):
        pytest.skip("this machine has no CPython 3.12")
    run(OF_IMAGES, IMMORTAL)


@pytest.mark.parametrize("python", dict.fromkeys((OF_IMAGES, sys.executable)))
def test_new_objects_lie_at_the_beginnings_of_pools(python: str) -> None:
    """Not in the holes that what was there before has left, each on a page that a child would have to copy."""
    run(python, TOGETHER)


@pytest.mark.parametrize("python", dict.fromkeys((OF_IMAGES, sys.executable)))
def test_arenas_lie_in_the_heap_until_the_zygote_is_made(python: str) -> None:
    """And nowhere near it afterwards; pieces of the call stack, which come from there as well, come and go."""
    run(python, GATHERED)


@pytest.mark.parametrize("python", dict.fromkeys((OF_IMAGES, sys.executable)))
def test_code_on_huge_pages_is_the_same_code(python: str) -> None:
    count, _, answer = run(python, ENLARGED).partition(" ")
    assert answer == "['bb']\n"
    if "libpython" in subprocess.run(["ldd", python], capture_output=True, text=True, check=True).stdout:
        assert int(count) >= 1
