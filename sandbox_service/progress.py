"""Shows how far the build of an image is: a bar where somebody is watching, lines elsewhere."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from sandbox_service.worker import rootfs
from sandbox_service.worker.rootfs import Step


@contextmanager
def build_progress() -> Iterator[rootfs.Progress]:
    """Yield a reporter: a bar on a terminal, else one line for each step. Silent if nothing had to be built."""
    console = Console(stderr=True)
    if console.is_terminal:
        with _bar(console) as reporter:
            yield reporter
    else:
        seen: set[Step] = set()

        def report(step: Step, _detail: str) -> None:
            if step not in seen:
                seen.add(step)
                console.print(f"image: {step.title}", highlight=False)

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
