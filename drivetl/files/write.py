"""Atomic writes: a file or folder appears complete or not at all."""

from __future__ import annotations

import errno
import fcntl
import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import cache
from itertools import chain, count
from pathlib import Path

from drivetl.errors import DataError

NO_ROOM = frozenset((errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EIO))
"""Error numbers of a disk that is full, or takes no more for another reason: the path does not matter."""
_HIDDEN = re.compile(r"\.(.+)\.[a-z0-9_]{8}")
"""The name of a file or folder while it is written; the group is its final name."""


def write_atomically(path: Path, content: bytes | str) -> None:
    """Write a complete file or nothing, also when the process is killed.

    A hidden file that a killed process left is removed by the first write to the same path in a later process, or by
    `remove_leftovers`. Raises DataError when the file cannot be written.
    """
    data = content.encode() if isinstance(content, str) else content
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        for leftover in _leftovers_at_start(path.parent.absolute()).pop(path.name, ()):
            with suppress(OSError):  # it is in use, or gone
                _remove_unlocked(leftover)
        handle, name = _hidden_file(path)
    except OSError as error:
        raise unwritable(path, error) from None
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(name, 0o666 & ~_umask())  # noqa: PTH101 - mkstemp gives 0600
        os.replace(name, path)  # noqa: PTH105
    except BaseException as error:
        Path(name).unlink(missing_ok=True)
        if isinstance(error, OSError):  # a full disk, or a folder of that name
            raise unwritable(path, error) from None
        raise


def _hidden_file(path: Path) -> tuple[int, str]:
    """(handle, name) of a locked new file next to `path`."""
    while True:
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        if _lock(handle, name):
            return handle, name
        os.close(handle)


def _lock(handle: int, name: str) -> bool:
    """Mark a file or folder as in use by a live process; False when another one has just removed it."""
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:  # a file system without locks: nobody can take it for a leftover either
        return True
    return Path(name).exists()


def remove_leftovers(folder: Path, name: str = "") -> None:
    """Remove the hidden files and folders in `folder` that killed processes left: those of `name`, or all.

    What a live process is writing is locked and stays.
    """
    found = _hidden(folder)
    for path in (path for of_name in ([name] if name else found) for path in found.get(of_name, ())):
        with suppress(OSError):  # another process may remove it at the same time
            _remove_unlocked(path)


@cache
def _leftovers_at_start(folder: Path) -> dict[str, list[Path]]:
    """`_hidden`, listed once per process: a folder of many files is not listed again for each of them."""
    return _hidden(folder)


def _hidden(folder: Path) -> dict[str, list[Path]]:
    """Final name -> the hidden files and folders under which it is, or was, being written."""
    found: dict[str, list[Path]] = {}
    with suppress(OSError):
        for path in sorted(folder.iterdir()):
            if match := _HIDDEN.fullmatch(path.name):
                found.setdefault(match[1], []).append(path)
    return found


def _remove_unlocked(path: Path) -> None:
    """Raises BlockingIOError for a locked path, another OSError where locks or the path do not exist."""
    handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink()
    finally:
        os.close(handle)


def unwritable(path: Path, error: OSError) -> DataError:
    reason = f"cannot be written ({error.strerror or error})"
    return DataError(reason, remedy="choose a writable folder with free space", file=path)


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def is_taken(path: Path) -> bool:
    """Whether something other than an empty folder is there."""
    return path.exists() and (not path.is_dir() or any(path.iterdir()))


def free_path(path: Path) -> Path:
    """The path, or the first of NAME_2, NAME_3, ... next to it that is free."""
    numbered = (path.with_name(f"{path.name}_{number}") for number in count(2))
    return next(item for item in chain([path], numbered) if not item.exists())


def check_new(path: Path, remedy: str = "") -> None:
    """Raises DataError when something other than an empty folder is there: nothing is ever overwritten."""
    try:
        taken = is_taken(path)
    except OSError as error:  # such as a name that is too long
        raise unwritable(path, error) from None
    if taken:
        remedy = remedy or f"name another {'folder' if path.is_dir() else 'file'} with --out"
        raise DataError("exists already and is never overwritten", remedy=remedy, file=path)


@contextmanager
def new_directory(path: Path, remedy: str = "name another folder with --out") -> Iterator[Path]:
    """Create a folder that appears complete at the end of the block, or not at all after an error.

    Yields a temporary folder next to `path`, or next to the target when `path` is a link; one that a killed process
    left there is removed. Raises DataError when `path` exists and is not empty, is the working directory, or cannot be
    written; also for an OSError of the block that comes from writing into the folder.
    """
    target = Path(os.path.realpath(path))
    try:
        if is_taken(target):
            raise DataError("exists already and is never overwritten", remedy=remedy, file=path)
        if target == Path.cwd():
            raise DataError("is the working directory, which cannot be replaced", remedy=remedy, file=path)
        target.parent.mkdir(parents=True, exist_ok=True)
        remove_leftovers(target.parent, target.name)
        handle, holder = _hidden_folder(target)
    except OSError as error:
        raise unwritable(path, error) from None
    try:
        work = holder / target.name
        work.mkdir()
        yield work
        if target.exists():
            target.rmdir()
        os.replace(work, target)  # noqa: PTH105
    except OSError as error:
        if error.errno in NO_ROOM or Path(str(error.filename or "")).is_relative_to(holder):
            raise unwritable(path, error) from None
        raise
    finally:
        shutil.rmtree(holder, ignore_errors=True)
        os.close(handle)


def _hidden_folder(target: Path) -> tuple[int, Path]:
    """(handle, path) of a locked new folder next to `target`."""
    while True:
        name = tempfile.mkdtemp(dir=target.parent, prefix=f".{target.name}.")
        handle = os.open(name, os.O_RDONLY)
        if _lock(handle, name):
            return handle, Path(name)
        os.close(handle)
