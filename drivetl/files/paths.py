"""Names and folders: paths that stay under their root, sorted listings."""

from __future__ import annotations

import os
import re
from pathlib import Path, PurePosixPath

from drivetl.errors import DataError

IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".webp", ".tif", ".tiff")


_PLAIN_NAME = re.compile(r"(?:[A-Za-z0-9_-][A-Za-z0-9_.-]*/)*[A-Za-z0-9_-][A-Za-z0-9_.-]*")
"""Names without anything to look at twice; most are."""


def safe_relative(name: str) -> str:
    """The name with forward slashes, when it stays under its root; DataError when it could leave it."""
    if _PLAIN_NAME.fullmatch(name):
        return name
    posix = PurePosixPath(name.replace("\\", "/"))
    parts = posix.parts  # none for "" and "."
    if not parts or "\0" in name or posix.is_absolute() or ".." in parts or ":" in parts[0]:
        raise DataError(
            f"file name {name!r} is absolute or leaves its folder", remedy="use a name relative to the images root"
        )
    return str(posix)


def require_directory(path: Path, remedy: str) -> Path:
    """The path, when it is a folder; else DataError with the way out."""
    if not path.is_dir():
        raise DataError("no such folder" if not path.exists() else "not a folder", remedy=remedy, file=path)
    return path


def list_images(folder: Path) -> list[str]:
    """Names of all image files below a folder, relative to it, with forward slashes, sorted."""
    found = (name for name in files_below(folder, *IMAGE_SUFFIXES) if os.path.isfile(name))  # noqa: PTH113
    return sorted(os.path.relpath(name, folder).replace(os.sep, "/") for name in found)


def files_below(folder: Path, *suffixes: str) -> list[str]:
    """Full names of all files below a folder with such a suffix in any case, sorted, without hidden and __MACOSX.

    A link to a folder is followed, unless what it points to is read anyway or holds the folder itself.
    """
    root = os.path.realpath(folder)
    seen = {root}
    found = []
    for place, folders, names in os.walk(folder, followlinks=True):
        folders[:] = [name for name in sorted(folders) if _is_new(f"{place}/{name}", root, seen)]
        found += [f"{place}/{name}" for name in names if _is_shown(name) and name.lower().endswith(suffixes)]
    return sorted(found)


def _is_shown(name: str) -> bool:
    return not name.startswith(".") and name != "__MACOSX"


def _is_new(folder: str, root: str, seen: set[str]) -> bool:
    """Whether to walk into a folder below the root; `seen` learns where it really lies."""
    real = os.path.realpath(folder)
    if real in seen or not _is_shown(os.path.basename(folder)):  # noqa: PTH119
        return False
    if os.path.islink(folder):  # noqa: PTH114
        inside = Path(real).is_relative_to(root) and all(map(_is_shown, Path(real).relative_to(root).parts))
        if inside or Path(root).is_relative_to(real):
            return False
    seen.add(real)
    return True
