"""The `drivetl` command: the only place where an error becomes `error: ...` and exit code 2."""

from __future__ import annotations

import errno
import io
import os
import signal
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from types import FrameType

from drivetl import console
from drivetl.commands import command_of, dispatch
from drivetl.commands.completion import complete
from drivetl.errors import DrivetlError
from drivetl.files.write import NO_ROOM

SIGNALS = (signal.SIGTERM, signal.SIGHUP)
"""These end a command as Ctrl-C does: what it wrote so far is cleaned up."""


UNUSABLE = (errno.ENAMETOOLONG, errno.EACCES, errno.EPERM)
"""Error numbers of a path that nobody, or not this user, can look at: `is_file` raises them."""


class Terminated(KeyboardInterrupt):
    """One of SIGNALS arrived; the argument is its number."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit code: 0 done, 1 a gate failed, 2 the user's mistake, 128 + N signal N."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # as stderr: a letter that it lacks must not end the command
    complete()
    arguments = list(sys.argv[1:] if argv is None else argv)
    with console.recording() as record:
        code: object = 1  # an error of the program itself leaves with a traceback
        try:
            code = _run(arguments)
            return code
        except SystemExit as stop:
            code = stop.code
            raise
        finally:
            if "--json" in arguments and "--help" not in arguments and console.is_leader():
                console.json_line(record, command_of(arguments), code)


def _run(arguments: list[str]) -> int:
    """Run one command and print its error, if there is one. Raises SystemExit for mistakes in the flags."""
    try:
        with _signals_as_exceptions():
            code = dispatch(arguments)
            sys.stdout.flush()
            return code
    except DrivetlError as error:
        console.error(message_of(error))
        return 2
    except BrokenPipeError:  # `drivetl info DATA | head`: what is left goes nowhere
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 128 + signal.SIGPIPE
    except OSError as error:
        place = f"{error.filename}: " if error.filename else ""
        if error.errno in UNUSABLE and place:
            console.error(f"{place}cannot be accessed ({error.strerror}) - check the path and its permissions")
            return 2
        if error.errno not in NO_ROOM:
            raise
        console.error(f"{place}cannot be written ({error.strerror}) - free space on the disk, or choose another --out")
        return 2
    except KeyboardInterrupt as stop:
        console.note("terminated" if isinstance(stop, Terminated) else "interrupted")
        for note in getattr(stop, "__notes__", ()):
            console.note(note)
        return 128 + (stop.args[0] if isinstance(stop, Terminated) else signal.SIGINT)


@contextmanager
def _signals_as_exceptions() -> Iterator[None]:
    """Raise Terminated at SIGNALS inside the block, so that every clean-up runs; ignored signals stay ignored."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.getsignal(number) for number in SIGNALS}
    for number, handler in before.items():
        if handler is signal.SIG_DFL:
            signal.signal(number, _terminate)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _terminate(number: int, _frame: FrameType | None) -> None:
    raise Terminated(number)


def message_of(error: DrivetlError) -> str:
    """The message of an error. One raised in a loader's process arrives as text with its traceback: drop that part."""
    text = str(error)
    return text.rpartition(f"{type(error).__name__}: ")[2].strip() if text.startswith("Caught ") else text


if __name__ == "__main__":
    sys.exit(main())
