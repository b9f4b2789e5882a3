"""Compare answers with references by math-verify: `verify.py CPU_S`, pairs as JSON on stdin, one a line.

A supervisor forks a worker that goes through the pairs and writes a line for each: [status, is it correct]. Every pair
has CPU_S seconds of CPU time, kept by the kernel: an answer that uses them up ends the worker and loses its own verdict
and no other, for a new worker goes on with the next pair. The same goes for one that needs too much memory. A worker
whose caches keep much of what a pair needed ends by itself: in what is left the next ones would fail, and math-verify
takes that for a wrong answer. What was parsed before is not parsed again: the rollouts of one problem share a
reference, and often an answer.
"""

import functools
import json
import logging
import os
import re
import resource
import signal
import sys

from antlr4 import PredictionMode
from latex2sympy2_extended.latex2sympy2 import _Latex2Sympy as Parser
from math_verify import parse, verify

MEMORY_BYTES = 1 << 30
KEPT_BYTES = 128 << 20
"""What a worker may have kept of its pairs when it begins another one."""
MARKED = re.compile(r"(?<!\\)\$|\\boxed|\\fbox|\\\(|\\\[")
"""What math-verify looks for to find an answer in a text; in `\\$36` the sign is one of money."""
SENTENCE = re.compile(r"(?<![\\\w{])[^\W\d_]{2,}\s+[^\W\d_]{2,}\b")
"""Two words side by side."""
BEGUN = b"r"
"""Written when the reference of a pair is read, and its answer comes next."""


def parse_in_two_stages():
    """Let the LaTeX parser try the simpler way to predict first. Where that succeeds it gives the same tree (Parr, The
    Definitive ANTLR 4 Reference, 13.7), in less than half the time of a check; where it does not, all is as it was."""
    whole_way, make = Parser.parse, Parser.create_parser

    def create_parser(self, text):
        parser = make(self, text)
        parser._interp.predictionMode = self.mode
        return parser

    def parse(self, text):
        self.mode = PredictionMode.SLL
        try:
            return whole_way(self, text)
        except Exception:
            self.mode = PredictionMode.LL
            return whole_way(self, text)

    Parser.create_parser, Parser.parse = create_parser, parse


@functools.lru_cache(maxsize=512)
def read(text):
    """Parse a text. One that marks no answer and is no sentence is an answer as a whole: `2^{100}`, not its last 2."""
    if not MARKED.search(text) and not SENTENCE.search(text):
        text = f"\\boxed{{{text}}}"
    return parse(text, parsing_timeout=None, raise_on_error=False)


def check(answer, reference, progress):
    found = read(reference)
    if not found:
        return "bad_reference", None
    os.write(progress, BEGUN)
    given = read(answer)
    if not given:
        return "unparsed", False
    return "ok", verify(found, given, timeout_seconds=None, raise_on_error=False)


def data_bytes():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[5]) * resource.getpagesize()


def work(pairs, cpu_s, progress):
    resource.setrlimit(resource.RLIMIT_DATA, (MEMORY_BYTES, MEMORY_BYTES))
    most = data_bytes() + KEPT_BYTES
    for answer, reference in pairs:
        signal.setitimer(signal.ITIMER_PROF, cpu_s)  # its signal ends the process, whatever code it is in
        try:
            verdict = check(answer, reference, progress)
        except (MemoryError, RecursionError):
            verdict = "too_large", False
        signal.setitimer(signal.ITIMER_PROF, 0)  # or it could end the worker between two pairs, and the next one pay
        os.write(progress, f"{json.dumps(verdict)}\n".encode())
        if data_bytes() > most:
            break


def supervise(pairs, cpu_s):
    """Yield the verdict on every pair, in order."""
    done = 0
    while done < len(pairs):
        begun = done
        lines, progress = os.pipe()
        worker = os.fork()
        if worker == 0:
            os.close(lines)
            try:
                work(pairs[done:], cpu_s, progress)
                os._exit(0)
            finally:
                os._exit(1)
        os.close(progress)
        rest = b""
        while piece := os.read(lines, 65536):
            *whole, rest = (rest + piece).split(b"\n")
            for line in whole:
                done += 1
                yield json.loads(line.removeprefix(BEGUN))
        os.close(lines)
        _, status = os.waitpid(worker, 0)
        if done < len(pairs) and (status or done == begun):
            timed_out = os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGPROF
            yield (("timed_out" if timed_out else "too_large"), False) if rest else ("bad_reference", None)
            done += 1


if __name__ == "__main__":
    logging.disable()
    parse_in_two_stages()
    for verdict in supervise([json.loads(line) for line in sys.stdin], float(sys.argv[1])):
        print(json.dumps(verdict), flush=True)
