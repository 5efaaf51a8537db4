"""Reading images: the size from the header, bounded decoding to RGB uint8."""

from __future__ import annotations

import io
import struct
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

from drivetl.errors import DataError
from drivetl.files.image_headers import HEAD_BYTES, size_of_head
from drivetl.files.read import read_bytes

if TYPE_CHECKING:  # commands that only read text and headers do not wait for numpy
    import numpy as np
    import numpy.typing as npt

MAX_PIXELS = 200_000_000
"""Larger images are refused by their header: 200 megapixels are 600 MB decoded."""


TURNED = (5, 6, 7, 8)
"""EXIF orientations that swap width and height."""


Rgb: TypeAlias = "npt.NDArray[np.uint8]"
"""(H, W, 3) uint8 RGB."""


def image_size(path: Path | str) -> tuple[int, int]:
    """(width, height) in px from the header alone, as `read_rgb` would return it (EXIF rotation applied).

    Raises DataError for files that are missing, are no image, or are larger than MAX_PIXELS.
    """
    try:
        size = size_of_head(read_bytes(path, HEAD_BYTES))
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else error
        raise DataError(f"cannot be read ({reason})", remedy="check that the image exists", file=path) from None
    return _bounded(size if size is not None else _library_size(path, path), path)


def encoded_size(data: bytes, name: Path | str) -> tuple[int, int]:
    """What `image_size` gives, from the bytes of an image file; `name` is for the error."""
    size = size_of_head(data[:HEAD_BYTES])
    return _bounded(size if size is not None else _library_size(io.BytesIO(data), name), name)


def _bounded(size: tuple[int, int], path: Path | str) -> tuple[int, int]:
    width, height = size
    if width * height > MAX_PIXELS:
        raise DataError(f"{width} x {height} is larger than 200 megapixels", remedy="scale it down", file=path)
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
    except (UnidentifiedImageError, SyntaxError, ValueError, struct.error, EOFError, KeyError, OSError) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else "no known image format"
        raise DataError(f"not a readable image ({reason})", remedy="replace or remove the file", file=path) from None
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
