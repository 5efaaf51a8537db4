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
        console.err.print(f"[red]error:[/] {console.escape(str(error))}")
        return 2
    except KeyboardInterrupt:
        console.err.print("interrupted")
        return 130


if __name__ == "__main__":
    sys.exit(main())
