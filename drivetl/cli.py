"""The `drivetl` command, and the one place where an error becomes `error: ...` and exit code 2."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from drivetl import console
from drivetl.commands import dispatch
from drivetl.errors import DrivetlError


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit code (0 done, 2 the user's mistake)."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    try:
        return dispatch(arguments)
    except DrivetlError as error:
        console.err.print(f"[red]error:[/] {console.escape(in_words(error))}")
        return 2
    except KeyboardInterrupt:
        console.err.print("interrupted")
        return 130


def in_words(error: DrivetlError) -> str:
    """What an error says. From a loader's process torch hands it on as text, the traceback before it: that is left
    out."""
    text = str(error)
    return text.rpartition(f"{type(error).__name__}: ")[2].strip() if text.startswith("Caught ") else text


if __name__ == "__main__":
    sys.exit(main())
