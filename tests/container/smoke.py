#!/usr/bin/env python3
"""Ask a running service for every status that a program can have, then (with --humaneval) for the HumanEval set.

    smoke.py --url http://127.0.0.1:8000 [--key KEY] [--humaneval FILE]

What is asked for depends on namespaces, cgroups and filters of the machine below, so this tells whether a container
or a kernel can carry the service. Standard library only: it runs outside of the image, beside the service.
"""

import argparse
import json
import sys
import time
import urllib.request

# What a program does, the call, and what its Result has to hold.
EXPECTED = [
    ("prints", {"code": "print(6 * 7)"}, {"status": "ok", "stdout": "42\n"}),
    ("reads stdin", {"code": "print(input()[::-1])", "stdin": "abc"}, {"status": "ok", "stdout": "cba\n"}),
    ("uses numpy", {"code": "import numpy; print(numpy.arange(4).sum())"}, {"status": "ok", "stdout": "6\n"}),
    (
        "starts threads and processes",
        {
            "code": "import subprocess, threading\n"
            "t = threading.Thread(target=print, args=('thread',)); t.start(); t.join()\n"
            "print(subprocess.run(['echo', 'process'], capture_output=True, text=True).stdout)"
        },
        {"status": "ok", "stdout": "thread\nprocess\n\n"},
    ),
    ("writes a file", {"code": "open('a', 'w').write('b')", "fetch": ["a"]}, {"status": "ok", "files": {"a": "Yg=="}}),
    ("raises", {"code": "raise ValueError('no')"}, {"status": "failed", "exit_code": 1}),
    ("aborts", {"code": "import os; os.abort()"}, {"status": "signaled", "signal": "SIGABRT"}),
    (
        "spends its CPU time",
        {"code": "while True: pass", "limits": {"cpu_s": 1, "wall_s": 20}},
        {"status": "timed_out", "limit": "cpu"},
    ),
    (
        "sleeps too long",
        {"code": "import time; time.sleep(60)", "limits": {"wall_s": 1}},
        {"status": "timed_out", "limit": "wall"},
    ),
    (
        "takes too much memory",
        {"code": "x = b'x' * (600 << 20); print(len(x))", "limits": {"memory_mb": 32, "wall_s": 40}},
        {"status": "out_of_memory"},
    ),
    (
        "forks too often",
        {
            "code": "import os, signal\ntry:\n  while os.fork(): pass\n  signal.pause()\n"
            "except BlockingIOError: print('stopped')",
            "limits": {"processes": 20, "wall_s": 10},
        },
        {"status": "ok", "stdout": "stopped\n"},
    ),
    (
        "writes without end",
        {"code": "while True: print('x' * 1000)", "limits": {"output_kb": 4, "wall_s": 20}},
        {"status": "output_limit"},
    ),
    (
        "asks for a namespace",
        {"code": "import ctypes; print(ctypes.CDLL(None).unshare(0x10000000))"},
        {"status": "ok", "stdout": "-1\n"},
    ),
    (
        "asks for the network",
        {"code": "import socket\ntry: socket.socket()\nexcept OSError as e: print(e.errno)"},
        {"status": "ok", "stdout": "97\n"},
    ),
]


def post_batch(url: str, key: str | None, calls: list[dict[str, object]]) -> list[dict[str, object]]:
    headers = {"Content-Type": "application/json", **({"Authorization": f"Bearer {key}"} if key else {})}
    request = urllib.request.Request(f"{url}/v1/batches", json.dumps({"calls": calls}).encode(), headers)
    with urllib.request.urlopen(request, timeout=600) as answer:
        results: list[dict[str, object]] = json.load(answer)["results"]
    return results


def check_statuses(url: str, key: str | None) -> int:
    failures = 0
    results = post_batch(url, key, [call for _, call, _ in EXPECTED])
    for (what, _, expected), result in zip(EXPECTED, results, strict=True):
        wrong = {name: result.get(name) for name, value in expected.items() if result.get(name) != value}
        failures += bool(wrong)
        print(f"{'WRONG' if wrong else 'right':5}  {what}: {expected['status']}", flush=True)
        if wrong:
            print(f"       got {json.dumps(result)[:2000]}")
    return failures


def check_humaneval(url: str, key: str | None, file: str) -> int:
    calls = []
    with open(file) as lines:
        for problem in map(json.loads, lines):
            parts = (problem["prompt"], problem["canonical_solution"], problem["test"])
            calls.append({"code": "\n".join(parts) + f"\ncheck({problem['entry_point']})\n"})
    begin = time.monotonic()
    results = post_batch(url, key, calls)
    took = time.monotonic() - begin
    passed = sum(result["status"] == "ok" for result in results)
    print(f"HumanEval: {passed} of {len(calls)} ok in {took:.1f} s")
    for result in [result for result in results if result["status"] != "ok"][:3]:
        print(f"       got {json.dumps(result)[:2000]}")
    return len(calls) - passed


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--url", required=True)
    parser.add_argument("--key")
    parser.add_argument("--humaneval", metavar="FILE")
    arguments = parser.parse_args()
    failures = check_statuses(arguments.url, arguments.key)
    if arguments.humaneval:
        failures += check_humaneval(arguments.url, arguments.key, arguments.humaneval)
    print(f"{failures} failures")
    sys.exit(failures > 0)


if __name__ == "__main__":
    main()
