"""Atomic writes: a file or folder appears complete or not at all."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from drivetl.errors import DataError


def write_atomically(path: Path, content: bytes | str) -> None:
    """Write a complete file or nothing, also when the process is killed.

    Raises DataError when the file cannot be written.
    """
    data = content.encode() if isinstance(content, str) else content
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    except OSError as error:
        raise _unwritable(path, error) from None
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
            raise _unwritable(path, error) from None
        raise


def _unwritable(path: Path, error: OSError) -> DataError:
    reason = f"cannot be written ({error.strerror or error})"
    return DataError(reason, remedy="choose a writable folder with free space", file=path)


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


@contextmanager
def new_directory(path: Path, remedy: str = "name another folder with --out") -> Iterator[Path]:
    """Create a folder that appears complete at the end of the block, or not at all after an error.

    Yields a temporary folder next to `path`, or next to the target when `path` is a link. Raises DataError when
    `path` exists and is not empty, is the working directory, or cannot be written.
    """
    target = Path(os.path.realpath(path))
    try:
        if target.exists() and (not target.is_dir() or any(target.iterdir())):
            raise DataError("exists already and is never overwritten", remedy=remedy, file=path)
        if target == Path.cwd():
            raise DataError("is the working directory, which cannot be replaced", remedy=remedy, file=path)
        target.parent.mkdir(parents=True, exist_ok=True)
        holder = tempfile.TemporaryDirectory(dir=target.parent, prefix=f".{target.name}.")
    except OSError as error:
        raise _unwritable(path, error) from None
    with holder as name:
        work = Path(name) / target.name
        work.mkdir()
        yield work
        try:
            if target.exists():
                target.rmdir()
            os.replace(work, target)  # noqa: PTH105
        except OSError as error:
            raise _unwritable(path, error) from None
