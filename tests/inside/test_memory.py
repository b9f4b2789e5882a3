"""The zygote's memory, arranged in an interpreter of its own: it stays as this test leaves it."""

from __future__ import annotations

import subprocess
import sys

PROGRAM = """
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


def test_each_shared_library_is_two_mappings_afterwards() -> None:
    done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=False, timeout=60)
    assert (done.returncode, done.stderr) == (0, "")
