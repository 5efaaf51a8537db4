"""Errors that are the user's to mend. `drivetl.cli` turns each into one line on stderr and exit code 2."""

from __future__ import annotations

from pathlib import Path


class DrivetlError(Exception):
    """The base of everything a user can mend; its text says what is wrong and what to do about it."""


class ConfigError(DrivetlError):
    """A configuration file, an override or a flag that cannot be used."""


class CheckpointError(DrivetlError):
    """A checkpoint or run directory that cannot be used."""


class DataError(DrivetlError):
    """Something in an input file: `<file>:<line>: <reason> - <remedy>`.

    Parsers of text know the line and the reason; the reader that opened the file adds the file
    (`error.at(path)`), so a parser can be tested on strings alone.
    """

    def __init__(
        self, reason: str, *, remedy: str = "", file: Path | str | None = None, line: int | None = None
    ):
        self.reason, self.remedy, self.file, self.line = reason, remedy, file, line
        super().__init__(reason)

    def at(self, file: Path | str, line: int | None = None) -> DataError:
        """The same error with its place filled in where it was not known yet."""
        self.file = self.file if self.file is not None else file
        self.line = self.line if self.line is not None else line
        return self

    def __str__(self) -> str:
        place = f"{self.file}:{self.line}: " if self.line is not None else f"{self.file}: "
        return (
            (place if self.file is not None else "")
            + self.reason
            + (f" - {self.remedy}" if self.remedy else "")
        )
