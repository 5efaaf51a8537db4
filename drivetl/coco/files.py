"""Reading and writing files safely: atomic writes, names that stay under their root, bounded images."""

from __future__ import annotations

import io
import os
import re
import struct
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any, TypeAlias

import yaml

from drivetl.coco.headers import HEAD_BYTES, size_of_head
from drivetl.errors import DataError

if TYPE_CHECKING:  # whoever only reads text and headers does not wait for numpy
    import numpy as np
    import numpy.typing as npt

MAX_PIXELS = 200_000_000
"""Larger images are refused by their header: 200 megapixels are 600 MB decoded."""

TURNED = (5, 6, 7, 8)
"""EXIF orientations that swap width and height."""

IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".webp", ".tif", ".tiff")

_PLAIN_NAME = re.compile(r"(?:[A-Za-z0-9_-][A-Za-z0-9_.-]*/)*[A-Za-z0-9_-][A-Za-z0-9_.-]*")
"""Names without anything to look at twice; most are."""

Rgb: TypeAlias = "npt.NDArray[np.uint8]"
"""(H, W, 3) uint8 RGB."""


def write_atomically(path: Path, content: bytes | str) -> None:
    """Write a whole file or nothing: a reader never sees half of it, whatever kills the writer.

    Raises DataError when the place cannot be written to.
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
        if isinstance(error, OSError):  # a full disk, a folder in the file's place
            raise _unwritable(path, error) from None
        raise


def _unwritable(path: Path, error: OSError) -> DataError:
    reason = f"cannot be written ({error.strerror or error})"
    return DataError(reason, remedy="name a place with room and permission", file=path)


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


@contextmanager
def new_directory(path: Path, remedy: str = "name another folder with --out") -> Iterator[Path]:
    """Fill a folder that must not exist yet; it appears whole at the end, or not at all.

    Yields a temporary folder beside `path`, or beside what a link of that name points to. Raises DataError when
    `path` exists and is not empty, is the working directory, or cannot be written to.
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


def safe_relative(name: str) -> str:
    """The name with forward slashes, when it stays under its root; DataError when it could leave it."""
    if _PLAIN_NAME.fullmatch(name):
        return name
    posix = PurePosixPath(name.replace("\\", "/"))
    parts = posix.parts  # none for "" and "."
    if not parts or "\0" in name or posix.is_absolute() or ".." in parts or ":" in parts[0]:
        raise DataError(
            f"file name {name!r} is absolute or leaves its folder",
            remedy="use a name relative to the images root",
        )
    return str(posix)


def require_directory(path: Path, remedy: str) -> Path:
    """The path, when it is a folder; else DataError with the way out."""
    if not path.is_dir():
        raise DataError("no such folder" if not path.exists() else "not a folder", remedy=remedy, file=path)
    return path


def read_text(path: Path | str) -> str:
    """A text file as UTF-8 (a byte order mark is dropped); DataError when missing or in another encoding."""
    try:
        data = _read(path)
    except OSError as error:
        raise DataError(
            f"cannot be read ({error.strerror or error})",
            remedy="check the path and its permissions",
            file=path,
        ) from None
    try:
        return data.decode().removeprefix("\ufeff")
    except UnicodeDecodeError as error:
        raise DataError(
            f"byte 0x{data[error.start]:02x} is not UTF-8",
            remedy="save the file as UTF-8",
            file=path,
            line=data.count(b"\n", 0, error.start) + 1,
        ) from None


def _read(path: Path | str, most: int | None = None) -> bytes:
    """A file's bytes, or up to `most` of its first: by system calls alone, in half the time of a file object."""
    handle = os.open(path, os.O_RDONLY | getattr(os, "O_BINARY", 0))
    try:
        data = os.read(handle, most or 1 << 16)
        if most is None:
            pieces = [data]
            while pieces[-1]:
                pieces.append(os.read(handle, 1 << 20))
            data = b"".join(pieces)
        return data
    finally:
        os.close(handle)


def load_yaml(path: Path) -> Any:
    """A parsed YAML document of plain values. Raises DataError with the line where the syntax breaks."""
    text = read_text(path)
    try:
        return yaml.safe_load(text)
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else None
        raise DataError(
            f"not valid YAML: {error.problem}", remedy="mend the syntax", file=path, line=line
        ) from None
    except (yaml.YAMLError, RecursionError, ValueError):
        raise DataError("not valid YAML", remedy="mend the syntax", file=path) from None


def image_size(path: Path | str) -> tuple[int, int]:
    """(width, height) in px from the header alone, as `read_rgb` would return it (EXIF rotation applied).

    Raises DataError for files that are missing, are no image, or are larger than MAX_PIXELS.
    """
    try:
        size = size_of_head(_read(path, HEAD_BYTES))
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else error
        raise DataError(
            f"cannot be read ({reason})", remedy="check that the image exists", file=path
        ) from None
    return _bounded(size if size is not None else _library_size(path, path), path)


def encoded_size(data: bytes, name: Path | str) -> tuple[int, int]:
    """What `image_size` gives, from the bytes of an image file; `name` is for the error."""
    size = size_of_head(data[:HEAD_BYTES])
    return _bounded(size if size is not None else _library_size(io.BytesIO(data), name), name)


def _bounded(size: tuple[int, int], path: Path | str) -> tuple[int, int]:
    width, height = size
    if width * height > MAX_PIXELS:
        raise DataError(
            f"{width} x {height} is larger than 200 megapixels", remedy="scale it down", file=path
        )
    return size


def _library_size(source: Path | str | io.BytesIO, path: Path | str) -> tuple[int, int]:
    """(width, height) in px as Pillow and OpenCV agree on it."""
    from PIL import Image, UnidentifiedImageError

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with Image.open(source) as image:
                width, height = image.size
                # Pillow has turned a TIFF already; OpenCV turns these three.
                turned = image.format in ("JPEG", "PNG", "WEBP") and image.getexif().get(0x0112, 1) in TURNED
    except Image.DecompressionBombError:
        raise DataError("larger than 200 megapixels", remedy="scale it down", file=path) from None
    except (
        UnidentifiedImageError,
        SyntaxError,
        ValueError,
        struct.error,
        EOFError,
        KeyError,
        OSError,
    ) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else "no known image format"
        raise DataError(
            f"not a readable image ({reason})", remedy="replace or remove the file", file=path
        ) from None
    return (height, width) if turned else (width, height)


def read_rgb(path: Path) -> Rgb:
    """(H, W, 3) uint8 RGB. Raises DataError when the file is missing, damaged or larger than MAX_PIXELS."""
    image_size(path)
    return decode_rgb(path.read_bytes(), path)


def decode_rgb(data: bytes, name: Path) -> Rgb:
    """(H, W, 3) uint8 RGB from the bytes of an image file; `name` is for the error."""
    import cv2
    import numpy as np

    try:
        image = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
    except cv2.error:
        image = None
    if image is None:
        raise DataError("cannot be decoded as an image", remedy="replace or remove the file", file=name)
    return np.asarray(cv2.cvtColor(image, cv2.COLOR_BGR2RGB), np.uint8)


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
