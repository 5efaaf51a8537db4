"""The progress bar behind `drivetl.console`."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from typing import Any

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    Task,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.text import Text

from drivetl.console.text import printable

PLAIN_EVERY_S = 10.0
"""Seconds between two progress lines where stderr is not a terminal."""


BAR_WIDTH = 12
"""Columns of the bar itself: with the longest note of a training the whole fits a terminal of 80 columns."""


class _Progress(Progress):
    """A live bar in a terminal; elsewhere (a log file, CI) a plain line every PLAIN_EVERY_S; nothing when quiet."""

    printed_at = 0.0

    def __init__(self, *columns: ProgressColumn, quiet: bool, **options: Any) -> None:
        super().__init__(*columns, **options)
        self.quiet = quiet

    def update(self, task_id: TaskID, **fields: Any) -> None:
        super().update(task_id, **fields)
        self._print_line(task_id)

    def advance(self, task_id: TaskID, advance: float = 1) -> None:
        super().advance(task_id, advance)
        self._print_line(task_id)

    def _print_line(self, task_id: TaskID) -> None:
        if self.quiet or not self.disable or time.monotonic() - self.printed_at < PLAIN_EVERY_S:
            return
        task = next(item for item in self.tasks if item.id == task_id)
        if self.printed_at or (task.elapsed or 0) >= PLAIN_EVERY_S:
            self.printed_at = time.monotonic()
            left = f", about {task.time_remaining:.0f} s left" if task.time_remaining is not None else ""
            total = "" if task.total is None else f"/{task.total:.0f}"
            note = f"  {task.fields['note']}" if task.fields.get("note") else ""
            self.console.print(Text(printable(f"{task.description} {task.completed:.0f}{total}{left}{note}")))


class _Text(ProgressColumn):
    """A text of the task, printed as it is."""

    def __init__(self, text: Callable[[Task], str]) -> None:
        super().__init__()
        self.text = text

    def render(self, task: Task) -> Text:
        return Text(printable(self.text(task)))


def bar(console: Console, *, quiet: bool = False) -> Progress:
    """A bar with count, time spent and time left; give every task `note=""`. Lines said meanwhile stay above it."""
    return _Progress(
        _Text(lambda task: task.description),
        BarColumn(bar_width=BAR_WIDTH),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
        _Text(lambda task: str(task.fields["note"])),
        console=console,
        transient=True,
        redirect_stdout=sys.stdout.isatty(),  # what goes to a file is never sent to the terminal
        disable=quiet or not sys.stderr.isatty(),
        quiet=quiet,
    )
