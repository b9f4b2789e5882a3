"""The state of a CPython interpreter that a program can notice, put as a cold `python main.py` finds it.

`prepare` does once, in the zygote, all that is the same for each program. `renew` does after the fork only what has
to differ between two of them: it is on the path of every call, and each page it writes to is copied by the kernel.
The zygote forks without CPython's after-fork hooks, so what those do and a program can notice is done here too.
"""

from __future__ import annotations

import atexit
import builtins
import gc
import io
import itertools
import os
import signal
import sys
import time
import warnings
import weakref
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from importlib.machinery import SourceFileLoader
from types import ModuleType
from typing import Any, TextIO, cast

from sandbox_service.inside import randomness

WORK_FOLDER = "/tmp/work"
SCRIPT = "main.py"
MAIN = f"{WORK_FOLDER}/{SCRIPT}"

# Modules that every interpreter imports before it looks at the script; a file of the same name never replaces them.
_IMPORTED_AT_START = {
    *sys.builtin_module_names,
    *("_collections_abc", "_sitebuiltins", "abc", "codecs", "encodings", "genericpath", "io", "os", "posixpath"),
    *("site", "stat", "zipimport"),
}

_main_values: dict[str, object] = {}
_main_thread: Any = None
_process: Any = None


def prepare_before_imports() -> None:
    os.umask(0o022)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    sys.path[0] = WORK_FOLDER
    sys.argv[:] = [SCRIPT]
    sys.orig_argv[:] = [sys.executable, SCRIPT]


def prepare_after_imports() -> None:
    global _main_thread, _process
    _forget_what_the_preloaded_remember()
    randomness.prepare()
    if threading := sys.modules.get("threading"):
        _main_thread = threading.main_thread()
    if process := sys.modules.get("multiprocessing.process"):
        _process = process.current_process()


def make_main_module() -> None:
    """Make `__main__` as pymain_run_file() leaves it, its names in the same order.

    What the garbage collector would track is filled in after the fork: the dictionary of a program must not be among
    the frozen objects, or nothing that hangs on it would ever be collected.
    """
    main = sys.modules["__main__"] = ModuleType("__main__")
    _main_values.update(
        __loader__=SourceFileLoader("__main__", MAIN), __annotations__=None, __builtins__=builtins, __file__=MAIN
    )
    main.__dict__.update(dict.fromkeys((*_main_values, "__cached__")))
    if gc.is_tracked(main.__dict__):
        raise RuntimeError("this interpreter tracks a dictionary of strings")


def what_a_program_may_end() -> list[object]:
    """Return what the zygote made that has to end as soon as a program lets go of it: it flushes, or holds the rest."""
    main = sys.modules["__main__"]
    streams: list[Any] = [sys.stdin, sys.stdout, sys.stderr]
    return [main, main.__dict__, *(part for each in streams for part in (each, each.buffer, each.buffer.raw))]


@contextmanager
def restored() -> Iterator[None]:
    """Undo what the body does to the import system."""
    kept = sys.path, sys.meta_path, sys.modules["io"]
    yield
    sys.path, sys.meta_path, sys.modules["io"] = kept


@contextmanager
def new_standard_streams() -> Iterator[None]:
    """Replace sys.stdin, stdout and stderr by what programs will have; in the body, they lead nowhere.

    The objects remember what their descriptors are when they are made: 0 can seek (a file in memory, /dev/null), 1
    and 2 are pipes. A child has no need to make them anew, for they are never written to in the zygote itself.
    """
    kept = [os.dup(descriptor) for descriptor in range(3)]
    nowhere = os.open(os.devnull, os.O_RDWR)
    pipe = os.pipe()
    os.dup2(nowhere, 0)
    os.dup2(pipe[1], 1)
    os.dup2(pipe[1], 2)
    for descriptor in range(3):
        _replace_stream(descriptor)
    os.dup2(nowhere, 1)
    os.dup2(nowhere, 2)
    try:
        yield
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        for descriptor, old in enumerate(kept):
            os.dup2(old, descriptor)
        for descriptor in (*kept, nowhere, *pipe):
            os.close(descriptor)


def _replace_stream(descriptor: int) -> None:
    """Make the stream as create_stdio() in pylifecycle.c does, with the encoding that this interpreter chose."""
    name = ("stdin", "stdout", "stderr")[descriptor]
    old: TextIO = getattr(sys, name)
    mode = "w" if descriptor else "r"
    buffer = open(descriptor, f"{mode}b", closefd=False)  # noqa: SIM115
    buffer.raw.__dict__["name"] = f"<{name}>"  # type: ignore[attr-defined]
    stream = io.TextIOWrapper(buffer, old.encoding, old.errors, "\n", line_buffering=name == "stderr")
    stream.__dict__["mode"] = mode
    sys.__dict__.update({name: stream, f"__{name}__": stream})


def _forget_what_the_preloaded_remember() -> None:
    warnings._filters_mutated()  # type: ignore[attr-defined] # each module's "already warned" list is void now
    cast(dict[object, object], vars(warnings)["onceregistry"]).clear()
    sys.path_importer_cache.pop(WORK_FOLDER, None)
    atexit.unregister(weakref.finalize._exitfunc)  # type: ignore[attr-defined] # a program's first one registers it
    vars(weakref.finalize)["_registry"].clear()
    weakref.finalize._registered_with_atexit = False  # type: ignore[attr-defined]
    if tempfile := sys.modules.get("tempfile"):
        vars(tempfile).update(_name_sequence=None, tempdir=None)
    if threading := sys.modules.get("threading"):
        vars(threading)["_counter"] = itertools.count(1).__next__  # names of threads: matplotlib had one
    if process := sys.modules.get("multiprocessing.process"):
        vars(process).update(ORIGINAL_DIR=WORK_FOLDER)


def renew(seed: int | None) -> None:
    """Make this forked interpreter another one than its siblings. `seed` None: random numbers from the system."""
    randomness.renew(seed)
    if _main_thread is not None:
        _main_thread._set_native_id()
    if _process is not None:
        _process.authkey = os.urandom(32)
    try:
        os.lseek(0, 0, os.SEEK_SET)
    except OSError:  # a pipe
        _replace_stream(0)
    gc.freeze()  # what the zygote made since it froze is none of the program's garbage either
    gc.enable()
    sys.modules["__main__"].__dict__.update(_main_values, __annotations__={})


def take_arguments(arguments: list[str], environment: dict[str, str]) -> None:
    if arguments:
        sys.argv += arguments
        sys.orig_argv += arguments
    for name, value in environment.items():
        os.environ[name] = value
    if "TZ" in environment:
        time.tzset()  # an interpreter does it when it starts


def forget_shadowed_modules(paths: Iterable[str]) -> None:
    """Let a file of the program win over a preloaded module of the same name, as it does on a cold import."""
    names = {path.split("/")[0].removesuffix(".py") for path in paths} - _IMPORTED_AT_START
    if names:
        for module in [module for module in sys.modules if module.split(".")[0] in names]:
            del sys.modules[module]
