"""What a person sees: progress with time left, warnings, tables, the path written and the next command."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable, Sequence, Sized
from pathlib import Path
from typing import Any, TypeVar

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.table import Table

T = TypeVar("T")

out = Console(highlight=False, emoji=False, soft_wrap=True)
err = Console(stderr=True, highlight=False, emoji=False, soft_wrap=True)


def warn(message: str) -> None:
    """One line on stderr. Warnings never go to stdout, which scripts read."""
    err.print(f"[yellow]warning:[/] {escape(message)}")


def say(message: str) -> None:
    """One line for a person, on stdout."""
    out.print(escape(message))


def escape(text: str) -> str:
    """Text that rich prints as it is: a bracket in a file name is not markup."""
    return text.replace("[", "\\[")


PLAIN_EVERY_S = 10.0
"""Between two progress lines where stderr is no terminal."""


SHOWN_EVERY_S = 0.1
"""Between two updates of a bar by `track`."""


class _Progress(Progress):
    """A live bar in a terminal; elsewhere (a log file, CI) a plain line now and then."""

    spoken_at = 0.0

    def update(self, task_id: TaskID, **fields: Any) -> None:
        super().update(task_id, **fields)
        self._speak(task_id)

    def advance(self, task_id: TaskID, advance: float = 1) -> None:
        super().advance(task_id, advance)
        self._speak(task_id)

    def _speak(self, task_id: TaskID) -> None:
        if not self.disable or time.monotonic() - self.spoken_at < PLAIN_EVERY_S:
            return
        task = next(item for item in self.tasks if item.id == task_id)
        if self.spoken_at or (task.elapsed or 0) >= PLAIN_EVERY_S:
            self.spoken_at = time.monotonic()
            left = f", about {task.time_remaining:.0f} s left" if task.time_remaining is not None else ""
            total = "" if task.total is None else f"/{task.total:.0f}"
            note = f"  {task.fields['note']}" if task.fields.get("note") else ""
            err.print(escape(f"{task.description} {task.completed:.0f}{total}{left}{note}"))


def progress_bar() -> Progress:
    """A bar on stderr with count, time spent and time left; give every task `note=""`."""
    return _Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
        TextColumn("{task.fields[note]}"),
        console=err,
        transient=True,
        disable=not sys.stderr.isatty(),
    )


def track(items: Iterable[T], description: str, total: int | None = None) -> Iterable[T]:
    """Iterate with a progress bar."""
    with progress_bar() as bar:
        count = total if total is not None else len(items) if isinstance(items, Sized) else None
        task = bar.add_task(description, total=count, note="")
        done, shown_at = 0, 0.0
        for item in items:
            yield item
            done += 1
            now = time.monotonic()
            if now - shown_at >= SHOWN_EVERY_S:  # telling the bar costs more than reading a label file
                bar.update(task, completed=done)
                shown_at = now
        bar.update(task, completed=done)


def table(title: str, columns: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Print a table; the first column is text, the others are right-aligned."""
    grid = Table(title=escape(title), title_justify="left", title_style="bold")
    for number, name in enumerate(columns):
        grid.add_column(name, justify="left" if number == 0 else "right")
    for row in rows:
        grid.add_row(*(escape(str(cell)) for cell in row))
    out.print(grid, soft_wrap=False)


def wrote(path: Path, next_command: str = "") -> None:
    """Say what was written and, where there is one, the command a person would run next."""
    out.print(f"wrote [bold]{escape(str(path))}[/]")
    if next_command:
        out.print(f"next:  [cyan]{escape(next_command)}[/]")
