"""Compare answers with references by math-verify: `verify.py CPU_S`, the pairs as JSON on stdin, a line each.

A supervisor forks a worker that goes through the pairs and writes one line for each: [status, is it correct]. Every
pair has CPU_S seconds of CPU time, kept by the kernel: an answer that uses them up ends the worker, loses its own
verdict and no other, for a new worker goes on with the next pair. The same goes for one that needs too much memory.
References and answers that were parsed before are not parsed again: the rollouts of one problem share a reference.
"""

import functools
import json
import os
import resource
import signal
import sys

from math_verify import parse, verify

MEMORY_BYTES = 1 << 30
LOGGERS = ("math_verify.parser", "math_verify.grader", "math_verify.utils")


@functools.lru_cache(maxsize=256)
def parsed(text):
    return parse(text, parsing_timeout=None, raise_on_error=False)


def check(answer, reference):
    """The status and verdict of one pair. Whether the reference can be used is seen before the answer is looked at."""
    gold = parsed(reference)
    if not gold:
        return "bad_reference", None
    os.write(progress, b"r")
    found = parsed(answer)
    if not found:
        return "unparsed", False
    return "ok", verify(gold, found, timeout_seconds=None, raise_on_error=False)


def work(pairs, cpu_s):
    for limit, most in ((resource.RLIMIT_DATA, MEMORY_BYTES), (resource.RLIMIT_CORE, 0)):
        resource.setrlimit(limit, (most, most))
    for answer, reference in pairs:
        # SIGPROF's default action ends the process, whatever code it is in.
        signal.setitimer(signal.ITIMER_PROF, cpu_s)
        try:
            status, correct = check(answer, reference)
        except (MemoryError, RecursionError):
            status, correct = "too_large", False
        except Exception:
            status, correct = "unparsed", False
        os.write(progress, f"{json.dumps([status, correct])}\n".encode())


def supervise(pairs, cpu_s):
    """Yield the line of every pair, in order."""
    global progress
    done = 0
    while done < len(pairs):
        lines, progress = os.pipe()
        worker = os.fork()
        if worker == 0:
            os.close(lines)
            work(pairs[done:], cpu_s)
            os._exit(0)
        os.close(progress)
        rest = b""
        while piece := os.read(lines, 65536):
            *whole, rest = (rest + piece).split(b"\n")
            for line in whole:
                done += 1
                yield json.loads(line.lstrip(b"r"))
        os.close(lines)
        _, status = os.waitpid(worker, 0)
        if done < len(pairs):
            timed_out = os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGPROF
            # Nothing written yet: it was the reference that was too much.
            word = "bad_reference" if not rest else "timed_out" if timed_out else "too_large"
            yield [word, False if rest else None]
            done += 1


if __name__ == "__main__":
    import logging

    for name in LOGGERS:
        logging.getLogger(name).disabled = True
    progress = -1
    pairs = [json.loads(line) for line in sys.stdin]
    for line in supervise(pairs, float(sys.argv[1])):
        print(json.dumps(line))
