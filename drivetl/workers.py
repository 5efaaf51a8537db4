"""Worker processes: a dead worker is an error, and a dead parent ends its workers. Free of torch."""

from __future__ import annotations

import errno
import multiprocessing
import os
import re
import signal
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from typing import TypeVar

from drivetl.errors import DrivetlError

WATCH_EVERY_S = 1.0
"""Seconds between two looks of a worker at its parent."""

Job = TypeVar("Job")
Result = TypeVar("Result")

_DEAD_LOADER = re.compile(
    r"DataLoader worker \(pid\S* ([\d, ]+)\) (?:is killed by signal: ([^.]+)|exited unexpectedly)"
)
"""What torch says of a loader process that is gone."""


def run_jobs(function: Callable[[Job], Result], jobs: Iterable[Job], processes: int, *, flag: str) -> Iterator[Result]:
    """The results of `function(job)` as they are completed by `processes` spawned processes.

    flag: the one that sets the number of processes, for the remedy. Raises what `function` raises, and DrivetlError
    when a worker process dies. Whatever ends the iteration early also ends the workers.
    """
    context = multiprocessing.get_context("spawn")
    pool = ProcessPoolExecutor(processes, mp_context=context, initializer=_begin_worker)
    try:
        with dead_workers_as_errors(flag):
            for future in as_completed([pool.submit(function, job) for job in jobs]):
                yield future.result()
    except BaseException:
        workers = list((pool._processes or {}).values())
        pool.shutdown(wait=False, cancel_futures=True)
        for worker in workers:  # a job may take minutes
            worker.terminate()
        raise
    finally:
        pool.shutdown()


def _begin_worker() -> None:
    """The parent handles Ctrl-C and ends its workers; a worker whose parent is gone ends itself."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    end_with_parent()


def end_with_parent() -> None:
    """End this worker process, spawned or forked, when its parent is gone; nothing in any other process.

    It would wait for ever for a job that nobody sends, or for its results to be read: forked siblings hold the pipes
    of the dead parent open.
    """
    parent = multiprocessing.parent_process()
    if parent is not None:
        threading.Thread(target=_watch, args=(parent.pid,), daemon=True).start()


def _watch(parent: int | None) -> None:
    while os.getppid() == parent:
        time.sleep(WATCH_EVERY_S)
    os._exit(1)


@contextmanager
def dead_workers_as_errors(flag: str) -> Iterator[None]:
    """Turn the death of a worker process, of our own pool or of torch's loader, into one line with the remedy.

    flag: the one that sets the number of processes. torch reports a dead loader process at any moment, through
    SIGCHLD, so the block must contain everything that runs while the loader is alive. Raises DrivetlError.
    """
    try:
        yield
    except BrokenProcessPool:
        raise _dead_worker("", "", flag) from None
    except RuntimeError as error:
        text = str(error)
        if dead := _DEAD_LOADER.search(text):
            raise _dead_worker(f" (pid {dead[1]})", dead[2] or "", flag) from None
        if "shared memory" in text:
            raise _no_shared_memory(flag) from None
        raise
    except OSError as error:  # not of a file: a semaphore, which is in /dev/shm too
        if error.errno == errno.ENOSPC and error.filename is None:
            raise _no_shared_memory(flag) from None
        raise


def _dead_worker(pid: str, cause: str, flag: str) -> DrivetlError:
    if "Bus error" in cause:
        return _no_shared_memory(flag)
    how = f"was ended by the system ({cause})" if cause else "ended unexpectedly"
    return DrivetlError(
        f"a worker process{pid} {how}; the usual cause is too little memory",
        remedy=f"free memory, or use fewer workers ({flag})",
    )


def _no_shared_memory(flag: str) -> DrivetlError:
    return DrivetlError(
        "the worker processes have too little shared memory (/dev/shm)",
        remedy=f"start the container with a larger --shm-size, or use no workers ({flag} 0)",
    )
