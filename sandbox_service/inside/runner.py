"""Run one program in a freshly forked child just as `python main.py` would in a cold interpreter.

What holds: the same exit status, standard output and standard error, whatever the program does to its interpreter;
its source is a real file; nothing of the program is looked at before `seal` has taken the last right from this
process; nothing here judges the program, its verdict comes from outside (wait status, cgroup, clock).

`prepare` makes the interpreter ready once, in the zygote, where no program ever runs. Isolation is not made here.
"""

from __future__ import annotations

import _ast
import builtins
import ctypes
import importlib
import os
import signal
import sys
from collections.abc import Callable
from types import CodeType
from typing import NoReturn, cast

from sandbox_service.inside import callstack, ending, interpreter, memory
from sandbox_service.inside.callstack import attempt
from sandbox_service.inside.ending import finish, outcome
from sandbox_service.inside.interpreter import MAIN, SCRIPT, WORK_FOLDER, renew, take_arguments

vars()["__builtins__"] = dict(vars(builtins))  # for the functions below, whatever a program does to its own

_AST_ONLY = 0x400  # ast.PyCF_ONLY_AST
_FILE_INPUT = 257  # Py_file_input
_REHEARSAL = "import math\nprint(math.sqrt(2), [n * n for n in range(3)])"
_REHEARSALS = 20

_exit = os._exit  # a program may replace it in `os`
_libc = ctypes.PyDLL(None)
_libc.fopen.restype = ctypes.c_void_p
_flush_c = _libc.fflush
_run_file = ctypes.pythonapi.PyRun_FileExFlags
_run_file.restype = ctypes.py_object


Job = tuple[str, list[str], dict[str, str], dict[str, bytes], bool, int | None]
"""One program as the worker sends it: code, arguments, environment, files, show_last_value, seed. Names would be nicer,
but each is an object of the zygote's that a child writes to."""


def prepare(modules: list[str], warm_up: str, rehearse_entrance: Callable[[], None] = lambda: None) -> None:
    """Make this process, the zygote, ready to fork children that call `run`: once, as the last thing before it serves.

    `modules` are imported; `warm_up` is a trusted program of the profile, run so that what it uses is warm. Raise
    what they raise, and RuntimeError for an interpreter or a module that cannot be used in this way.
    """
    descriptors = os.listdir("/proc/self/fd")
    interpreter.prepare_before_imports()
    for module in modules:
        importlib.import_module(module)
    callstack.prepare()
    ending.prepare()
    with interpreter.new_standard_streams():
        error = attempt(exec, compile(warm_up, "<warm-up>", "exec"), {"__name__": "__main__"})
        if error is not None:
            raise error
        interpreter.prepare_after_imports()
        rehearse_entrance()
        _rehearse()
    # A fork copies one thread only, and a child closes all descriptors: neither may be missed by what was imported.
    if os.listdir("/proc/self/fd") != descriptors or len(os.listdir("/proc/self/task")) != 1:
        raise RuntimeError("a preloaded module has started a thread or keeps a file open: it cannot be preloaded")
    memory.settle(interpreter.what_a_program_may_end())
    ending.remember_beginning()


def _rehearse() -> None:
    """Go the way of a call often enough for the interpreter to have adapted its code, so that a child need not."""
    job: Job = (_REHEARSAL, [], {}, {}, False, None)
    home = os.getcwd()
    os.makedirs(WORK_FOLDER, exist_ok=True)
    os.chdir(WORK_FOLDER)
    for _ in range(_REHEARSALS):
        interpreter.make_main_module()
        renew(None)
        with interpreter.restored():
            if ending.let_go(_run_program(job)) != 0:
                raise RuntimeError("the rehearsal of a call failed")
    os.unlink(SCRIPT)
    os.chdir(home)
    interpreter.make_main_module()


def run(job: Job, seal: Callable[[], None]) -> NoReturn:
    """Become the program in `job`, in the current folder. An exception means that it never started."""
    renew(job[-1])
    seal()
    status = finish(_run_program(job))
    _flush_c(None)
    if status < 0:
        signal.signal(-status, signal.SIG_DFL)
        os.kill(os.getpid(), -status)
    _exit(status)


def _run_program(job: Job) -> int:
    """Run it; return its exit code, or minus the signal that has to end it. What fails here is its own failure."""
    code, arguments, environment, files, show_last_value, _ = job
    source = code.encode("utf-8", "surrogatepass")
    try:
        take_arguments(arguments, environment)
        if files:
            for path, content in files.items():
                os.makedirs(os.path.dirname(path) or ".", exist_ok=True)
                _write(path, content)
            interpreter.forget_shadowed_modules(files)
        _write(SCRIPT, source)
    except (OSError, ValueError) as refusal:
        os.write(2, f"the program's files, arguments and environment could not be set up: {refusal}\n".encode())
        return 1
    namespace = sys.modules["__main__"].__dict__
    return outcome(_execute(source, show_last_value, namespace), namespace)


def _write(path: str, content: bytes) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o666)
    while content:
        content = content[os.write(descriptor, content) :]
    os.close(descriptor)


def _execute(source: bytes, show_last_value: bool, namespace: dict[str, object]) -> BaseException | None:
    """Compile and run; return what it raised, with a traceback that begins in the program."""
    for code in _compile(source, show_last_value) or (None,):
        error = attempt(exec, code, namespace) if code else _execute_file(namespace)
        if error is not None:
            return error
    return None


def _compile(source: bytes, show_last_value: bool) -> tuple[CodeType, ...]:
    """The program; with `show_last_value`, a last expression apart, which runs as at a prompt. () if it has errors."""
    try:
        if not show_last_value:
            return (compile(source, MAIN, "exec", 0, True),)
        tree = cast(_ast.Module, compile(source, MAIN, "exec", _AST_ONLY, True))
        last = [tree.body.pop()] if tree.body and isinstance(tree.body[-1], _ast.Expr) else []
        return (
            compile(tree, MAIN, "exec", 0, True),
            compile(_ast.Interactive(last), MAIN, "single", 0, True),
        )
    except BaseException:
        return ()


def _execute_file(namespace: dict[str, object]) -> BaseException | None:
    """Let the interpreter read the script by itself: line by line, which changes the details of a syntax error."""
    file = ctypes.c_void_p(_libc.fopen(MAIN.encode(), b"rb"))
    names = ctypes.py_object(namespace)
    return attempt(_run_file, file, MAIN.encode(), _FILE_INPUT, names, names, 1, None)
