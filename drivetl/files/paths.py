"""File names and folders: relative paths that stay below their root, sorted listings."""

from __future__ import annotations

import difflib
import os
import re
from collections.abc import Iterable
from itertools import islice
from pathlib import Path, PurePosixPath

from drivetl.errors import DataError

IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".webp", ".tif", ".tiff")

MOST_SIBLINGS = 1000
"""Files of a folder among which the name that was meant is looked for."""

_PLAIN_NAME = re.compile(r"(?:[A-Za-z0-9_-][A-Za-z0-9_.-]*/)*[A-Za-z0-9_-][A-Za-z0-9_.-]*")
"""Names that need no further checks; most names match."""


def safe_relative(name: str) -> str:
    """The name with forward slashes. Raises DataError when it is not a relative path below its root."""
    if _PLAIN_NAME.fullmatch(name):
        return name
    posix = PurePosixPath(name.replace("\\", "/"))
    parts = posix.parts  # none for "" and "."
    if not parts or "\0" in name or posix.is_absolute() or ".." in parts or ":" in parts[0]:
        raise DataError(
            f"file name {name!r} is absolute or leaves its folder", remedy="use a name relative to the images root"
        )
    return str(posix)


def is_safe(name: str) -> bool:
    """Whether a file name stays under its root; False for an empty one."""
    try:
        safe_relative(name)
    except DataError:
        return False
    return True


def require_directory(path: Path, remedy: str) -> Path:
    """The path of an existing folder. Raises DataError with the remedy otherwise."""
    if not path.is_dir():
        raise DataError("no such folder" if not path.exists() else "not a folder", remedy=remedy, file=path)
    return path


def require(path: Path, others: Iterable[Path] = ()) -> None:
    """Raises DataError for a path that does not exist, with what was probably meant: a neighbour, or one of `others`.

    So it does for a path that the system does not accept.
    """
    try:
        path.stat()
    except OSError as error:
        same_stem = (f"did you mean {str(other)!r}?" for other in others if other.stem == path.stem)
        remedy = meant(path) or next(same_stem, "check the path")
        raise DataError(f"cannot be read ({error.strerror or error})", remedy=remedy, file=path) from None


def meant(path: Path) -> str:
    """`did you mean 'runs/city'?` for a neighbour of that path with a similar name, or ''."""
    try:
        names = sorted(entry.name for entry in islice(os.scandir(path.parent), MOST_SIBLINGS))
    except OSError:
        return ""
    near = difflib.get_close_matches(path.name, names, n=1, cutoff=0.75)
    return f"did you mean {str(path.parent / near[0])!r}?" if near else ""


def list_images(folder: Path) -> list[str]:
    """Names of all image files below a folder, relative to it, with forward slashes, sorted."""
    files = (name for name in files_below(folder, *IMAGE_SUFFIXES) if os.path.isfile(name))  # noqa: PTH113
    return sorted(os.path.relpath(name, folder).replace(os.sep, "/") for name in files)


def files_below(folder: Path, *suffixes: str) -> list[str]:
    """Paths of all files below a folder with one of the suffixes (in any case), sorted, without hidden and __MACOSX.

    A link to a folder is followed, unless its target is walked anyway or contains the folder itself.
    """
    root = os.path.realpath(folder)
    seen = {root}
    files = []
    for parent, folders, names in os.walk(folder, followlinks=True):
        folders[:] = [name for name in sorted(folders) if _is_new(f"{parent}/{name}", root, seen)]
        files += [f"{parent}/{name}" for name in names if _is_visible(name) and name.lower().endswith(suffixes)]
    return sorted(files)


def _is_visible(name: str) -> bool:
    return not name.startswith(".") and name != "__MACOSX"


def _is_new(folder: str, root: str, seen: set[str]) -> bool:
    """Whether to walk into a folder below the root; adds its real path to `seen`."""
    real = os.path.realpath(folder)
    if real in seen or not _is_visible(os.path.basename(folder)):  # noqa: PTH119
        return False
    if os.path.islink(folder):  # noqa: PTH114
        inside = Path(real).is_relative_to(root) and all(map(_is_visible, Path(real).relative_to(root).parts))
        if inside or Path(root).is_relative_to(real):
            return False
    seen.add(real)
    return True
