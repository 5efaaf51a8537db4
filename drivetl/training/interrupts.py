"""Signals that end a command wait until the step is finished and its state is saved."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)

Handlers = dict[int, Callable[[int, FrameType | None], object]]


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

    Only those with a handler are held: a signal that ends the process, or is ignored, stays what it is, and so do all
    in other threads than the main one. An error that follows a signal gives way to it: a signal to the whole process
    group ends the loader's processes too.
    """
    handlers: Handlers = {}
    if threading.current_thread() is threading.main_thread():
        found = {number: signal.getsignal(number) for number in SIGNALS}
        handlers = {number: handler for number, handler in found.items() if callable(handler)}
    held = Held(handlers)
    for number in handlers:
        signal.signal(number, held.hold)
    try:
        yield held
    except Exception:
        held.deliver()
        raise
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)
    held.deliver()
