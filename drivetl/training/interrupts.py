"""Signals that end a command wait until the step is finished and its state is saved."""

from __future__ import annotations

import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)

Handler = Callable[[int, FrameType | None], object]
Handlers = dict[int, Handler]


class InterruptedWorkError(Exception):
    """Ends a piece of work early; the signal that came is delivered at the end of the block that holds it."""


class Held:
    """The signal that waits, if one came."""

    def __init__(self, handlers: Handlers):
        self._handlers = handlers
        self.number: int | None = None

    def hold(self, number: int, frame: FrameType | None) -> None:
        """The handler of SIGNALS: a first signal waits, a second one ends the command at once."""
        if self.number is not None:
            self._handlers[number](number, frame)
        self.number = number

    def deliver(self) -> None:
        """Do what the signal that came would have done. Raises what its handler raises, KeyboardInterrupt mostly."""
        number, self.number = self.number, None
        if number is not None:
            self._handlers[number](number, None)


@contextmanager
def held_signals() -> Iterator[Held]:
    """Hold SIGNALS back inside the block, whose end delivers the one that came; the block may do so before.

    One without a handler ends the process then, as it would have done. One that is ignored stays ignored (a shell
    starts a background command without SIGINT, nohup one without SIGHUP), and in other threads than the main one all
    stay what they are. An error that follows a signal gives way to it: a signal to the whole process group ends the
    loader's processes too.
    """
    before: dict[int, Any] = {}
    if threading.current_thread() is threading.main_thread():
        before = {number: signal.getsignal(number) for number in SIGNALS}
    handlers: Handlers = {number: handler for number, handler in before.items() if callable(handler)}
    handlers |= dict.fromkeys((number for number, found in before.items() if found is signal.SIG_DFL), _end_process)
    held = Held(handlers)
    for number in handlers:
        signal.signal(number, held.hold)
    try:
        yield held
    except Exception:
        held.deliver()
        raise
    finally:
        for number in handlers:
            signal.signal(number, before[number])
    held.deliver()


def _end_process(number: int, _frame: FrameType | None) -> None:
    """What a signal without a handler does; what was printed is not lost."""
    sys.stdout.flush()
    sys.stderr.flush()
    signal.signal(number, signal.SIG_DFL)
    signal.raise_signal(number)
