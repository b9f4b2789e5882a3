"""What surrounds the build of an image: where it goes and how far it is are told (a bar where somebody is watching,
lines elsewhere), and one that is told to end leaves nothing behind."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from sandbox_service.config import Settings
from sandbox_service.worker import rootfs
from sandbox_service.worker.rootfs import Step


@contextmanager
def build_progress(settings: Settings) -> Iterator[rootfs.Progress]:
    """Yield a reporter: a bar on a terminal, else one line for each step. Silent if nothing had to be built."""
    console = Console(stderr=True, soft_wrap=True, highlight=False)
    new = "" if settings.state_dir.exists() else ", a new folder"
    place = f"{settings.state_dir.absolute()} (SANDBOX_STATE_DIR{new})"
    begun = False
    with _bar(console) if console.is_terminal else _lines(console) as show, ended_by_signals():

        def report(step: Step, detail: str) -> None:
            nonlocal begun
            if not begun:  # of a folder that was mistyped nobody would hear again
                console.print(f"image: building it in {place}", markup=False)
            begun = True
            show(step, detail)

        yield report


@contextmanager
def ended_by_signals() -> Iterator[None]:
    """Have SIGTERM, and the end of the terminal, end this block as Ctrl-C does, by an exception."""

    def end(number: int, _frame: FrameType | None) -> None:
        for each in before:  # what is being put in order is not ended once more
            signal.signal(each, signal.SIG_IGN)
        raise SystemExit(128 + number)

    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGHUP)}
    for number, handler in before.items():
        if handler is not signal.SIG_IGN:  # as nohup has it
            signal.signal(number, end)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def _lines(console: Console) -> Iterator[rootfs.Progress]:
    seen: set[Step] = set()

    def report(step: Step, _detail: str) -> None:
        if step not in seen:
            seen.add(step)
            console.print(f"image: {step.title}")

    yield report


@contextmanager
def _bar(console: Console) -> Iterator[rootfs.Progress]:
    steps = list(Step)
    columns = (BarColumn(), TimeElapsedColumn(), TextColumn("{task.description} [dim]{task.fields[detail]}"))
    with Progress(*columns, console=console, transient=True) as progress:
        task = progress.add_task("", total=sum(step.share for step in steps), detail="", visible=False)

        def report(step: Step, detail: str) -> None:
            done = sum(earlier.share for earlier in steps[: steps.index(step)])
            progress.update(task, description=f"image: {step.title}", completed=done, detail=detail[:60], visible=True)

        yield report
