"""Console output: progress with time left, warnings, tables, the path written and the next command."""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence, Sized
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from drivetl.console.text import one_line, printable

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import Progress

    out: Console
    err: Console

__all__ = ["error", "printable", "progress_bar", "say", "table", "track", "warn", "wrote"]

T = TypeVar("T")


@cache
def _console(name: str) -> Console:
    """The console of stdout ("out") or stderr. rich is imported on first use, so that commands start fast."""
    from rich.console import Console

    return Console(stderr=name == "err", highlight=False, emoji=False, soft_wrap=True)


def __getattr__(name: str) -> Console:
    """`console.out` and `console.err`, made on first use."""
    if name not in ("out", "err"):
        raise AttributeError(name)
    return _console(name)


def error(message: str) -> None:
    """One line on stderr, at most 500 characters."""
    _print("err", ("error:", "red"), " ", one_line(message))


def warn(message: str) -> None:
    """One line on stderr, at most 500 characters. Warnings never go to stdout, which scripts read."""
    _print("err", ("warning:", "yellow"), " ", one_line(message))


def say(*messages: str) -> None:
    """Lines for a person, on stdout: each message is one line."""
    for message in messages:
        _print("out", printable(message))


def _print(name: str, *parts: str | tuple[str, str]) -> None:
    """Print parts, each a text or (text, style), as they are: nothing in them is read as rich's markup."""
    from rich.text import Text

    _console(name).print(Text.assemble(*parts))


SHOWN_EVERY_S = 0.1
"""Seconds between two updates of a bar by `track`."""


def progress_bar() -> Progress:
    """A bar on stderr with count, time spent and time left; give every task `note=""`."""
    from drivetl.console.progress import bar

    return bar(_console("err"))


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
            if now - shown_at >= SHOWN_EVERY_S:  # an update of the bar costs more than reading a label file
                bar.update(task, completed=done)
                shown_at = now
        bar.update(task, completed=done)


def table(title: str, columns: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Print a table; the first column is text, the others are right-aligned."""
    from rich.table import Table
    from rich.text import Text

    grid = Table(title=Text(printable(title), "bold") if title else None, title_justify="left")
    for number, name in enumerate(columns):
        grid.add_column(Text(printable(name)), justify="left" if number == 0 else "right")
    for row in rows:
        grid.add_row(*(Text(printable(str(cell))) for cell in row))
    _console("out").print(grid, soft_wrap=False)


def wrote(path: Path, *next_commands: str) -> None:
    """Print the path that was written and, if there are any, the commands to run next."""
    _print("out", "wrote ", (printable(str(path)), "bold"))
    for command in filter(None, next_commands):
        _print("out", "next:  ", (printable(command), "cyan"))
