"""Console output: progress with time left, warnings, tables, the path written, the next command, the --json line.

Colour and boxes are for terminals. Elsewhere, and where NO_COLOR is set, everything is plain text: a table is aligned
columns. rich is imported for what a terminal shows only, so that commands start fast.
"""

from __future__ import annotations

import json
import math
import os
import shlex
import shutil
import sys
import textwrap
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence, Sized
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO, TypeVar

from drivetl.console.text import one_line, printable

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import Progress

__all__ = [
    "Record",
    "be_quiet",
    "command",
    "error",
    "is_leader",
    "json_line",
    "loading",
    "note",
    "numbers",
    "printable",
    "progress_bar",
    "recording",
    "say",
    "suggest",
    "table",
    "track",
    "warn",
    "wrote",
]

T = TypeVar("T")

_STYLES = {"bold": "1", "red": "31", "yellow": "33", "cyan": "36"}
"""Style -> the number of a terminal's SGR sequence."""
TITLE_WIDTH = 80
"""Characters of a line of a plain table's title."""


@dataclass
class Record:
    """What a command has said: the content of its --json line."""

    quiet: bool = False
    """Nothing but warnings, errors and the --json line is printed."""
    wrote: list[str] = field(default_factory=list)
    numbers: dict[str, Any] = field(default_factory=dict)
    next: list[str] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)


_record = Record()
"""Of the command that runs."""


@contextmanager
def recording() -> Iterator[Record]:
    """A new Record for what is said in the block, as quiet as the one around it."""
    global _record
    outer, _record = _record, Record(_record.quiet)
    try:
        yield _record
    finally:
        _record = outer


def be_quiet(quiet: bool) -> None:
    """Print nothing but warnings and errors from here on, in this recording."""
    _record.quiet |= quiet


def numbers(**values: Any) -> None:
    """The headline numbers of a command, for its --json line. NaN, a number that could not be measured, is null."""
    _record.numbers |= values


def json_line(record: Record, command: str, exit_code: object) -> None:
    """Print the record as one line of JSON on stdout, also when it is quiet."""
    document = {
        "command": command,
        "exit_code": exit_code,
        "wrote": record.wrote,
        "numbers": record.numbers,
        "next": record.next,
        "error": record.errors[-1] if record.errors else None,
    }
    print(json.dumps(_plain(document), allow_nan=False), file=_stream("out"), flush=True)


def _plain(value: Any) -> Any:
    """The value as JSON has it: numpy's numbers as numbers, NaN and infinity as null, paths and the like as text."""
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    value = value.item() if hasattr(value, "item") else value
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return value if value is None or isinstance(value, bool | int | str) else str(value)


def error(message: str) -> None:
    """One line on stderr, at most 500 characters; it may end with a command, so it stays whole."""
    _record.errors.append(message)
    _print("err", ("error:", "red"), " ", one_line(message))


def warn(message: str) -> None:
    """One line on stderr, at most 500 characters; `_for_terminal`. Warnings never go to stdout, which scripts read."""
    _print("err", ("warning:", "yellow"), " ", _for_terminal(one_line(message), sys.stderr, len("warning: ")))


def note(message: str) -> None:
    """One line on stderr that is neither a warning nor an error; it may be a command, so it stays whole."""
    _print("err", printable(message))


def say(*messages: str) -> None:
    """Lines for a person, on stdout; `_for_terminal`."""
    for message in messages:
        _print("out", _for_terminal(printable(message), sys.stdout))


def _for_terminal(text: str, stream: TextIO, after: int = 0) -> str:
    """A line as a terminal shows it: on several lines if it is long, broken between words. Elsewhere it stays whole.

    after: characters before the text on its line.
    """
    if not _is_terminal(stream):
        return text
    indent = text[: len(text) - len(text.lstrip())]
    width = shutil.get_terminal_size().columns
    filled = textwrap.fill(
        text,
        width,
        initial_indent=" " * after,
        subsequent_indent=indent,
        break_long_words=False,
        break_on_hyphens=False,
        tabsize=1,
    )
    return filled[after:]


def _print(name: str, *parts: str | tuple[str, str]) -> None:
    """Print parts, each a text or (text, style), as they are. A quiet command prints on stderr only."""
    if name == "out" and _record.quiet:
        return
    stream = _stream(name)
    decorated = _is_decorated(stream)
    texts = [(part, "") if isinstance(part, str) else part for part in parts]
    print(
        "".join(f"\x1b[{_STYLES[style]}m{text}\x1b[0m" if style and decorated else text for text, style in texts),
        file=stream,
    )


def _stream(name: str) -> TextIO:
    """stdout ("out") or stderr. While a progress bar is shown, a terminal's is one that prints above the bar."""
    stream = sys.stderr if name == "err" else sys.stdout
    above_bar = _is_terminal(stream)
    return stream if above_bar else getattr(stream, "rich_proxied_file", stream)


def _is_terminal(stream: TextIO) -> bool:
    return stream.isatty() and os.environ.get("TERM") != "dumb"


def _is_decorated(stream: TextIO) -> bool:
    """Whether colour and boxes are shown there."""
    return _is_terminal(stream) and not os.environ.get("NO_COLOR")


@contextmanager
def loading(name: str) -> Iterator[None]:
    """Say on stderr that a large package is being imported in the block, which takes seconds the first time."""
    if name in sys.modules or _record.quiet or not is_leader():
        yield
        return
    stream, terminal = _stream("err"), _is_terminal(sys.stderr)
    print(f"loading {name} ...", end="" if terminal else "\n", file=stream, flush=True)
    try:
        yield
    finally:
        if terminal:
            print("\r\x1b[2K", end="", file=stream, flush=True)


def is_leader() -> bool:
    """Whether this process is the first of those that torchrun started, or the only one."""
    return os.environ.get("RANK", "0") == "0"


SHOWN_EVERY_S = 0.1
"""Seconds between two updates of a bar by `track`."""


@cache
def _console(name: str) -> Console:
    """rich's console of stdout ("out") or stderr."""
    from rich.console import Console

    return Console(stderr=name == "err", highlight=False, emoji=False, soft_wrap=True)


def progress_bar() -> Progress:
    """A bar on stderr with count, time spent and time left; give every task `note=""`."""
    from drivetl.console.progress import bar

    return bar(_console("err"), quiet=_record.quiet)


def track(items: Iterable[T], description: str, total: int | None = None, unit: str = "") -> Iterable[T]:
    """Iterate with a progress bar; with a unit (images, frames) it shows how many are done per second."""
    with progress_bar() as bar:
        count = total if total is not None else len(items) if isinstance(items, Sized) else None
        task = bar.add_task(description, total=count, note="")
        done, shown_at, began = 0, 0.0, time.monotonic()
        for item in items:
            yield item
            done += 1
            now = time.monotonic()
            if now - shown_at >= SHOWN_EVERY_S:  # an update of the bar costs more than reading a label file
                pace = f"{done / max(now - began, 1e-9):.1f} {unit}/s" if unit else ""
                bar.update(task, completed=done, note=pace)
                shown_at = now
        bar.update(task, completed=done)


def table(title: str, columns: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Print a table; the first column is text, the others are right-aligned."""
    if _record.quiet:
        return
    heads = [printable(name) for name in columns]
    cells = [[printable(str(cell)) for cell in row] for row in rows]
    if _is_decorated(sys.stdout):
        _boxed_table(printable(title), heads, cells)
        return
    text = textwrap.wrap(printable(title), TITLE_WIDTH)
    text += _aligned([heads, *cells] if any(heads) else cells)
    _print("out", "\n".join(text))


def _boxed_table(title: str, heads: Sequence[str], cells: Sequence[Sequence[str]]) -> None:
    from rich.box import SIMPLE_HEAD
    from rich.table import Table
    from rich.text import Text

    grid = Table(
        title=Text(title, "bold") if title else None,
        title_justify="left",
        box=SIMPLE_HEAD,
        pad_edge=False,
        collapse_padding=True,
        show_header=any(heads),
    )
    for number, name in enumerate(heads):
        grid.add_column(Text(name), justify="left" if number == 0 else "right", overflow="fold")
    for row in cells:
        grid.add_row(*map(Text, row))
    _console("out").print(grid, soft_wrap=False)


def _aligned(rows: Sequence[Sequence[str]]) -> list[str]:
    """Rows as lines with two spaces between the columns; the first is left-aligned, the others right-aligned."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        "  ".join(
            text.ljust(width) if number == 0 else text.rjust(width)
            for number, (text, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    ]


def command(*words: object) -> str:
    """A drivetl command as a line for a shell, for example `command("view", path)`."""
    return shlex.join(["drivetl", *map(str, words)])


def wrote(path: Path, *next_commands: str) -> None:
    """Print the path that was written and, if there are any, the commands to run next: complete, as they run."""
    _record.wrote.append(str(path))
    _print("out", "wrote ", (printable(str(path)), "bold"))
    suggest(*next_commands)


def suggest(*next_commands: str) -> None:
    """Print the commands to run next: complete, as they run."""
    for line in filter(None, next_commands):
        _record.next.append(line)
        _print("out", "next:  ", (printable(line), "cyan"))
