"""Errors that a user can fix. `drivetl.cli` prints each as one line on stderr and exits with code 2."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from pathlib import Path
from typing import TypeVar

E = TypeVar("E", bound="DrivetlError")


class DrivetlError(Exception):
    """Place, reason and remedy of an error: `<file>:<line>: <reason> - <remedy>`.

    A parser of text knows the line and the reason; the reader that opened the file adds the file (`error.at(path)`),
    so a parser can be tested on strings alone. The subclasses name the kind of input that is wrong.
    """

    def __init__(
        self, reason: str, *, remedy: str = "", file: Path | str | None = None, line: int | None = None
    ) -> None:
        super().__init__(reason)
        self.reason, self.remedy, self.file, self.line = reason, remedy, file, line

    def at(self: E, file: Path | str, line: int | None = None) -> E:
        """The same error with file and line filled in, where they were unknown."""
        self.file = self.file if self.file is not None else file
        self.line = self.line if self.line is not None else line
        return self

    def __str__(self) -> str:
        line = f":{self.line}" if self.line is not None else ""
        location = f"{self.file}{line}: " if self.file is not None else ""
        return location + self.reason + (f" - {self.remedy}" if self.remedy else "")


class ConfigError(DrivetlError):
    """A configuration file, an override or a flag."""


class CheckpointError(DrivetlError):
    """A checkpoint or a run directory."""


class DataError(DrivetlError):
    """A dataset, an image, a results file or another input file."""


def check_least(*values: tuple[str, float | None, float]) -> None:
    """Raises ConfigError for the first (name, value, least) whose value is smaller; None is not checked."""
    for name, value, least in values:
        if value is not None and value < least:
            raise ConfigError(f"{name} is {value}", remedy=f"it must be at least {least}")


def nearest(name: str, known: Iterable[str], otherwise: str = "") -> str:
    """The remedy for an unknown name: "did you mean 'fog'?", else `otherwise`, else the list of the known names."""
    names = list(known)
    folded = {item.casefold(): item for item in reversed(names)}
    near = difflib.get_close_matches(name.casefold(), folded, n=1, cutoff=0.5)
    return f"did you mean {folded[near[0]]!r}?" if near else otherwise or f"known: {', '.join(names) or 'none'}"
