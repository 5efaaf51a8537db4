"""The `drivetl` command: the only place where an error becomes `error: ...` and exit code 2."""

from __future__ import annotations

import io
import sys
from collections.abc import Sequence

from drivetl import console
from drivetl.commands import dispatch
from drivetl.errors import DrivetlError


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit code: 0 done, 1 a gate failed, 2 the user's mistake, 130 interrupted."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # as stderr: a letter that it lacks must not end the command
    arguments = list(sys.argv[1:] if argv is None else argv)
    try:
        return dispatch(arguments)
    except DrivetlError as error:
        console.error(message_of(error))
        return 2
    except KeyboardInterrupt:
        console.err.print("interrupted")
        return 130


def message_of(error: DrivetlError) -> str:
    """The message of an error. One raised in a loader's process arrives as text with its traceback: drop that part."""
    text = str(error)
    return text.rpartition(f"{type(error).__name__}: ")[2].strip() if text.startswith("Caught ") else text


if __name__ == "__main__":
    sys.exit(main())
