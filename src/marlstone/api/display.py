"""Progress: a live bar on a terminal, one line that changes in a notebook, a line on stderr now and then elsewhere."""

import sys
import time
from types import TracebackType
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, TextColumn
from rich.progress import Progress as Bar

from marlstone.runs.progress import Progress

EVERY = 10.0
"""Seconds between lines where stderr is no terminal."""
WIDTH = 30
"""Characters of a notebook's bar."""


def duration(seconds: float) -> str:
    """`75` -> `1:15`, `4000` -> `1:06:40`."""
    minutes, second = divmod(round(seconds), 60)
    hours, minute = divmod(minutes, 60)
    return f"{hours}:{minute:02d}:{second:02d}" if hours else f"{minute}:{second:02d}"


def words(progress: Progress) -> str:
    """One readable line of a report."""
    parts: list[str] = [progress.phase]
    if progress.phase == "training":
        parts = [f"step {progress.step:,} of {progress.steps:,}" + (f" x {progress.seeds} seeds" if progress.seeds > 1 else "")]
        if progress.steps_per_second:
            parts.append(f"{progress.steps_per_second:,.0f} steps/s")
        if progress.episode_return is not None:
            parts.append(f"return {progress.episode_return:.3g}")
        if progress.eta is not None:
            parts.append(f"ETA {duration(progress.eta)}")
    elif progress.note:
        parts = [f"{progress.phase} {progress.note}", f"{progress.step + 1} of {progress.steps}"]
    return ", ".join(parts)


def in_notebook() -> bool:
    """Whether this process is a notebook's kernel, whose cells show what is displayed. Imports nothing."""
    ipython = sys.modules.get("IPython")
    shell = None if ipython is None else ipython.get_ipython()
    return shell is not None and type(shell).__name__ == "ZMQInteractiveShell"


class CellLine:
    """One line under a notebook's cell, replaced by each report."""

    def __init__(self) -> None:
        from IPython.display import display  # a kernel has it

        self._handle = display({"text/plain": ""}, raw=True, display_id=True)

    def show(self, done: float, text: str) -> None:
        """`done`: from 0 to 1."""
        full = round(min(max(done, 0.0), 1.0) * WIDTH)
        self._handle.update({"text/plain": f"{'█' * full}{'░' * (WIDTH - full)} {done:4.0%} {text}"}, raw=True)


class Display:
    """Shows reports; a context manager, called with each `Progress`, and the name of what it is of where there are several."""

    def __init__(self) -> None:
        console = Console(stderr=True)
        columns = (BarColumn(), TextColumn("{task.percentage:>3.0f}%"), TextColumn("{task.description}"))
        self._notebook = in_notebook()
        self._bar = Bar(*columns, console=console) if console.is_terminal and not self._notebook else None
        self._tasks: dict[str, Any] = {}
        self._cells: dict[str, CellLine] = {}
        self._spoke: dict[str, tuple[float, str]] = {}

    def __enter__(self) -> "Display":
        if self._bar is not None:
            self._bar.start()
        return self

    def __call__(self, progress: Progress, name: str = "") -> None:
        text = f"{name}: {words(progress)}" if name else words(progress)
        done = progress.step / max(progress.steps, 1)
        if self._notebook:
            if name not in self._cells:
                self._cells[name] = CellLine()
            self._cells[name].show(done, text)
            return
        if progress.phase == "done":
            if self._bar is not None and name in self._tasks:
                self._bar.remove_task(self._tasks.pop(name))
            return
        if self._bar is not None:
            if name not in self._tasks:
                self._tasks[name] = self._bar.add_task("starting", total=1.0)
            self._bar.update(self._tasks[name], completed=done, description=text)
            return
        spoke, phase = self._spoke.get(name, (0.0, ""))
        if progress.phase != phase or time.monotonic() - spoke >= EVERY:
            self._spoke[name] = time.monotonic(), progress.phase
            print(text, file=sys.stderr, flush=True)

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self._bar is not None:
            self._bar.stop()
        for name, cell in self._cells.items() if kind is None else ():
            cell.show(1.0, f"{name}: done" if name else "done")
