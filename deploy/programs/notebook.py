"""Run the cells of a notebook in one process, with time limits for each and for all: `notebook.py CELL_S TOTAL_S`.

A supervisor forks the kernel that runs the cells, and keeps the time. What a cell writes and displays goes to files at
once, so that a cell that has to be ended leaves what it did until then. A cell over its time is interrupted, as by the
button of a notebook; if it does not heed that, the kernel is killed; either ends the notebook. The supervisor puts
everything into `results.json`: {"state": "done" | "timed_out" | "died", "cells": [{stdout, stderr, display, error}]}.
The cells could forge that, for their own request and no other; the call's limits hold from outside in any case.
"""

import ast
import base64
import builtins
import importlib.util
import io
import json
import linecache
import os
import re
import select
import signal
import subprocess
import sys
import time
import traceback
import types

FOLDER = "/tmp/.notebook"
GRACE_S = 0.5
STREAM_BYTES = 1 << 20
RESULT_BYTES = 7 << 20  # a file that is fetched may have 8 MiB
INLINE = "sandbox_inline"
QUIET_MAGICS = {"matplotlib", "config", "load_ext", "autoreload", "reload_ext", "precision", "pylab"}


# The kernel


class Inline:
    """Finds and loads a matplotlib backend: Agg, with a `show` that displays the open figures."""

    @staticmethod
    def find_spec(name, _path=None, _target=None):
        return importlib.util.spec_from_loader(name, Inline) if name == INLINE else None

    @staticmethod
    def create_module(_spec):
        return None

    @staticmethod
    def exec_module(module):
        from matplotlib.backends.backend_agg import FigureCanvasAgg

        module.FigureCanvas = FigureCanvasAgg
        module.show = lambda *_, **__: show_figures()


class Shown:
    """What `IPython.display` calls HTML, Markdown, Latex: a text that is displayed as that."""

    def __init__(self, data=""):
        self.data = data


HTML = type("HTML", (Shown,), {"_repr_html_": lambda self: self.data})
Markdown = type("Markdown", (Shown,), {"_repr_markdown_": lambda self: self.data})
Latex = type("Latex", (Shown,), {"_repr_latex_": lambda self: self.data})


class Ipython:
    """Finds and loads `IPython.display` where IPython is not installed. To libraries that ask, there is no IPython."""

    @staticmethod
    def find_spec(name, _path=None, _target=None):
        if name in ("IPython", "IPython.display"):
            return importlib.util.spec_from_loader(name, Ipython, is_package=name == "IPython")
        return None

    @staticmethod
    def create_module(_spec):
        return None

    @staticmethod
    def exec_module(module):
        if module.__name__ == "IPython":
            module.version_info, module.get_ipython = (0, 0, 0), lambda: None
        module.display, module.clear_output = display, lambda wait=False: None
        module.HTML, module.Markdown, module.Latex = HTML, Markdown, Latex


def run_cells(cells, events):
    """Run all cells, reporting the end of each by one byte."""
    main = sys.modules["__main__"] = types.ModuleType("__main__")
    main.__dict__["display"] = builtins.display = display
    sys.meta_path += [Inline, Ipython]  # last: what is installed comes first
    os.environ["MPLBACKEND"] = f"module://{INLINE}"
    if "matplotlib" in sys.modules:
        sys.modules["matplotlib"].use(f"module://{INLINE}")
    sys.stdout, sys.stderr = unbuffered(1), unbuffered(2)
    for index, source in enumerate(cells):
        capture(index)
        try:
            run_cell(index, source, main.__dict__)
            show_figures()
        except BaseException as error:
            record("error", describe(error))
        os.write(events, b".")


def unbuffered(descriptor):
    """A text stream that keeps nothing: what was written is there, whatever comes next."""
    file = io.FileIO(descriptor, "w", closefd=False)
    return io.TextIOWrapper(file, "utf-8", "backslashreplace", write_through=True)


def run_cell(index, source, names):
    name = f"<cell {index + 1}>"
    source = without_magics(source)
    linecache.cache[name] = (len(source), None, source.splitlines(keepends=True), name)
    tree = ast.parse(source, name)
    is_quiet = source.rstrip().endswith(";")
    last = tree.body.pop() if tree.body and isinstance(tree.body[-1], ast.Expr) and not is_quiet else None
    exec(compile(tree, name, "exec"), names)
    if last is not None:
        value = eval(compile(ast.Expression(last.value), name, "eval"), names)
        if value is not None:
            names["_"] = value
            display(value)


def without_magics(source):
    """Turn `!command` and `%magic` lines, which are not Python, into calls; leave what is Python alone."""
    try:
        ast.parse(source)
    except SyntaxError:
        builtins._system, builtins._magic = system, magic
        source = re.sub(r"^([ \t]*)!(.*)$", lambda m: f"{m[1]}_system({m[2]!r})", source, flags=re.MULTILINE)
        source = re.sub(r"^([ \t]*)%(?!=)(.*)$", lambda m: f"{m[1]}_magic({m[2]!r})", source, flags=re.MULTILINE)
    return source


def system(command):
    subprocess.run(command, shell=True, check=False)


def magic(line):
    name = line.split()[0] if line.split() else ""
    if name not in QUIET_MAGICS:
        print(f"UsageError: Line magic function `%{name}` not found.", file=sys.stderr)


def display(*values):
    for value in values:
        record("display", bundle(value))


def bundle(value):
    """The value in every form that it offers, by media type."""
    forms = {"text/plain": repr(value)}
    for media, method in (
        ("text/html", "_repr_html_"),
        ("text/markdown", "_repr_markdown_"),
        ("text/latex", "_repr_latex_"),
        ("image/svg+xml", "_repr_svg_"),
        ("image/png", "_repr_png_"),
    ):
        try:
            form = getattr(value, method)()
        except Exception:  # a form that cannot be had is one less
            continue
        if form is not None:
            forms[media] = base64.b64encode(form).decode() if isinstance(form, bytes) else str(form)
    return picture(value) | forms if hasattr(value, "savefig") else forms


def show_figures():
    pyplot = sys.modules.get("matplotlib.pyplot")
    for number in pyplot.get_fignums() if pyplot else ():
        figure = pyplot.figure(number)
        record("display", {"text/plain": repr(figure), **picture(figure)})
        pyplot.close(figure)


def picture(figure):
    file = io.BytesIO()
    figure.savefig(file, format="png", bbox_inches="tight")
    return {"image/png": base64.b64encode(file.getvalue()).decode()}


def describe(error):
    trace = error.__traceback__
    while trace is not None and not trace.tb_frame.f_code.co_filename.startswith("<cell "):
        trace = trace.tb_next  # the frames of this file
    lines = traceback.format_exception(type(error), error, trace)
    return {"ename": type(error).__name__, "evalue": str(error), "traceback": [line.rstrip("\n") for line in lines]}


def capture(index):
    """From now on everything goes to the files of this cell, whoever writes it."""
    global current
    current = index
    for descriptor, stream in ((1, "stdout"), (2, "stderr")):
        file = os.open(path(index, stream), os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        os.dup2(file, descriptor)
        os.close(file)


def record(kind, value):
    with open(path(current, "events"), "a") as file:
        file.write(json.dumps([kind, value]) + "\n")


def path(index, kind):
    return f"{FOLDER}/{index}.{kind}"


# The supervisor


def supervise(cells, cell_s, total_s):
    """Run the cells; return the state at the end, and how many cells were begun."""
    end = time.monotonic() + total_s
    events, reports = os.pipe()
    kernel = os.fork()
    if kernel == 0:
        os.close(events)
        run_cells(cells, reports)
        os._exit(0)
    os.close(reports)
    for index in range(len(cells)):
        allowed = end if cell_s <= 0 else min(end, time.monotonic() + cell_s)
        heard = wait_for(events, allowed)
        if heard is None:
            os.kill(kernel, signal.SIGINT)
            wait_for(events, time.monotonic() + GRACE_S)
            os.kill(kernel, signal.SIGKILL)
            return "timed_out", index + 1
        if not heard:
            _, status = os.waitpid(kernel, 0)
            code = os.waitstatus_to_exitcode(status)
            with open(path(index, "events"), "a") as file:
                error = {"ename": "DeadKernelError", "evalue": f"the kernel ended with {code}", "traceback": []}
                file.write("\n" + json.dumps(["error", error]) + "\n")
            return "died", index + 1
    return "done", len(cells)


def wait_for(events, end):
    """Return what the kernel reported, b"" if it is gone, None if it did neither in time."""
    ready, _, _ = select.select([events], [], [], max(0.0, end - time.monotonic()))
    return os.read(events, 1) if ready else None


def collect(begun):
    left = RESULT_BYTES
    for index in range(begun):
        cell = {"stdout": read(index, "stdout"), "stderr": read(index, "stderr"), "display": [], "error": []}
        for line in read(index, "events", RESULT_BYTES).splitlines():
            try:
                kind, value = json.loads(line)
            except ValueError:  # cut, or not written whole when the kernel was killed
                continue
            cell[kind].append(value)
        left -= len(json.dumps(cell))
        if left < 0:
            cell = {"stdout": "", "stderr": "[left out: the results are too large]", "display": [], "error": []}
        yield cell


def read(index, kind, limit=STREAM_BYTES):
    try:
        with open(path(index, kind), "rb") as file:
            return file.read(limit).decode(errors="replace")
    except FileNotFoundError:
        return ""


def cut(text):
    """Undo how the cells were put into one file: the first line holds their lengths."""
    lengths, _, rest = text.partition("\n")
    for length in json.loads(lengths.removeprefix("#")):
        yield rest[:length]
        rest = rest[length + 1 :]


if __name__ == "__main__":
    os.unlink("main.py")
    with open(f"{FOLDER}/cells.py", encoding="utf-8", newline="") as file:
        cells = [*cut(file.read())]
    state, begun = supervise(cells, float(sys.argv[1]), float(sys.argv[2]))
    with open(f"{FOLDER}/results.json", "w") as file:
        json.dump({"state": state, "cells": [*collect(begun)]}, file)
