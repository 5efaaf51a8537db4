"""Reading images: the size from the header, bounded decoding to RGB uint8."""

from __future__ import annotations

import io
import struct
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from drivetl.errors import DataError
from drivetl.files.image_headers import HEAD_BYTES, size_of_head
from drivetl.files.read import read_bytes

if TYPE_CHECKING:  # numpy is not imported by commands that only read text and headers
    import numpy as np
    import numpy.typing as npt

MAX_PIXELS = 200_000_000
"""Larger images are refused before decoding: 200 megapixels are 600 MB of RGB."""

DEEP_BELOW = 65536 // 4
"""A 16-bit image without a value of at least this holds 10, 12 or 14 bits, or shows next to nothing."""

ROTATED_ORIENTATIONS = (5, 6, 7, 8)
"""EXIF orientations that swap width and height."""

Rgb: TypeAlias = "npt.NDArray[np.uint8]"
"""(H, W, 3) uint8 RGB."""


def described(value: Any) -> str:
    """What a wrong image is: its type, and of an array or tensor also shape and range of values."""
    if not hasattr(value, "dtype") or not hasattr(value, "shape"):
        return f"a {type(value).__name__}"
    kind = f"{_dtype(value)} {'tensor' if type(value).__name__ == 'Tensor' else 'array'}"
    shape = ", ".join(map(str, value.shape))
    try:
        values = f" with values {float(value.min()):g} to {float(value.max()):g}"
    except (RuntimeError, ValueError, TypeError):  # empty, or without an order
        values = ""
    return f"({shape}) {kind}{values}"


def layout_remedy(image: Any, channel_axis: int) -> str:
    """How to turn an array (channel axis 2) or a tensor (channel axis 0) into one uint8 RGB image; "" if it is one."""
    first, n_dims = channel_axis == 0, len(image.shape)
    if n_dims == 4:
        return "pass the images one by one: list(batch)"
    if n_dims == 2:
        return "repeat a grey image in 3 channels: " + (
            "torch.stack([image] * 3)" if first else "np.stack([image] * 3, 2)"
        )
    if n_dims != 3 or 0 in image.shape:
        return "pass one image with 3 channels and at least one pixel"
    if image.shape[channel_axis] != 3:
        if image.shape[channel_axis] == 1:
            return f"repeat a grey image in 3 channels: {'image.repeat(3, 1, 1)' if first else 'image.repeat(3, 2)'}"
        if image.shape[channel_axis] == 4:
            return f"drop the fourth channel of an RGBA image: {'image[:3]' if first else 'image[..., :3]'}"
        if image.shape[2 - channel_axis] != 3:
            return "pass 3 channels, RGB"
        return f"move the channels {'first: image.permute(2, 0, 1)' if first else 'last: image.transpose(1, 2, 0)'}"
    if _dtype(image) == "uint8":
        return ""
    to_bytes = "byte()" if first else "astype(np.uint8)"
    unit_range = "float" in _dtype(image) and float(image.max()) <= 1
    return (
        f"scale it to 0..255: (255 * image).round().{to_bytes}"
        if unit_range
        else f"pass bytes 0..255: image.{to_bytes}"
    )


def check_rgb(image: Any, name: str = "the image") -> None:
    """Raises DataError unless it is an (H, W, 3) uint8 array of at least one pixel; says what it is and the way out."""
    import numpy as np

    if not isinstance(image, np.ndarray):
        raise DataError(f"{name} is {described(image)}", remedy="pass an (H, W, 3) uint8 RGB array")
    if remedy := layout_remedy(image, 2):
        raise DataError(f"{name} is {described(image)}; expected an (H, W, 3) uint8 RGB array", remedy=remedy)


def _dtype(value: Any) -> str:
    return str(value.dtype).removeprefix("torch.")


def image_size(path: Path | str) -> tuple[int, int]:
    """(width, height) in px from the header alone, as `read_rgb` would return it (EXIF rotation applied).

    Raises DataError for files that are missing, are not images, or have more than MAX_PIXELS.
    """
    try:
        size = size_of_head(read_bytes(path, HEAD_BYTES))
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else error
        raise DataError(f"cannot be read ({reason})", remedy="check that the image exists", file=path) from None
    return _bounded(size if size is not None else _library_size(path, path), path)


def encoded_size(data: bytes, name: Path | str) -> tuple[int, int]:
    """Like `image_size`, from the bytes of an image file; `name` is the file in the error."""
    size = size_of_head(data[:HEAD_BYTES])
    return _bounded(size if size is not None else _library_size(io.BytesIO(data), name), name)


def _bounded(size: tuple[int, int], path: Path | str) -> tuple[int, int]:
    width, height = size
    if width * height > MAX_PIXELS:
        raise DataError(f"{width} x {height} is larger than 200 megapixels", remedy="resize the image", file=path)
    return size


def _library_size(source: Path | str | io.BytesIO, path: Path | str) -> tuple[int, int]:
    """(width, height) in px from Pillow, with the EXIF rotation that OpenCV applies."""
    from PIL import Image, UnidentifiedImageError

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with Image.open(source) as image:
                width, height = image.size
                # Pillow has already rotated a TIFF; OpenCV rotates these three.
                rotated = (
                    image.format in ("JPEG", "PNG", "WEBP") and image.getexif().get(0x0112, 1) in ROTATED_ORIENTATIONS
                )
    except Image.DecompressionBombError:
        raise DataError("larger than 200 megapixels", remedy="resize the image", file=path) from None
    except (UnidentifiedImageError, SyntaxError, ValueError, struct.error, EOFError, KeyError, OSError) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else "unknown image format"
        raise DataError(f"not a readable image ({reason})", remedy="replace or remove the file", file=path) from None
    return (height, width) if rotated else (width, height)


def read_rgb(path: Path) -> Rgb:
    """(H, W, 3) uint8 RGB. Raises DataError when the file is missing, damaged or larger than MAX_PIXELS."""
    image_size(path)
    return decode_rgb(path.read_bytes(), path)


def decode_rgb(data: bytes, name: Path) -> Rgb:
    """(H, W, 3) uint8 RGB from the bytes of an image file; `name` is the file in the error.

    Of 16 bits per channel the upper eight are kept. Raises DataError for an image that cannot be decoded, and for one
    whose values use less than a quarter of its 16 bits (10, 12 or 14 bits of a camera), which would be almost black.
    """
    import cv2
    import numpy as np

    _refuse_dark_range(data, name)
    try:
        image = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
    except cv2.error:
        image = None
    if image is None:
        raise DataError("cannot be decoded as an image", remedy="replace or remove the file", file=name)
    return np.asarray(cv2.cvtColor(image, cv2.COLOR_BGR2RGB), np.uint8)


def is_deep(head: bytes) -> bool:
    """Whether the first 32 bytes are those of a PNG with 16 bits per channel, or of a TIFF, which may be as deep."""
    return (head.startswith(b"\x89PNG") and head[24:25] == b"\x10") or head.startswith((b"II*\0", b"MM\0*"))


@dataclass(frozen=True, slots=True)
class Depth:
    """The values of an image of more than 8 bits per channel."""

    kind: str
    """16-bit, int16, float32, ..."""
    highest: float
    usual: float
    """The value that 99.9 % of the pixels do not exceed: one hot pixel may be as high as the format allows."""

    @property
    def is_dim(self) -> bool:
        """Whether nearly all pixels are almost black: a night, or 12 bits with a hot pixel."""
        return self.usual < DEEP_BELOW

    @property
    def is_dark(self) -> bool:
        """Whether the upper eight bits do not hold the values, so that the image would be read as almost black."""
        return self.kind != "16-bit" or 0 < self.highest < DEEP_BELOW

    def __str__(self) -> str:
        return f"a {self.kind} image whose highest value is {self.highest:g}"


def depth_of(data: bytes) -> Depth | None:
    """The depth of an image file; None for 8 bits per channel, and for a file that cannot be decoded."""
    import cv2
    import numpy as np

    if not is_deep(data[:32]):
        return None
    try:
        image = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    except cv2.error:
        return None
    if image is None or image.dtype == np.uint8:
        return None
    colours = image if image.ndim == 2 else image[:, :, :3]  # without alpha
    usual = float(np.quantile(colours, 0.999))
    return Depth("16-bit" if image.dtype == np.uint16 else str(image.dtype), float(colours.max()), usual)


def _refuse_dark_range(data: bytes, name: Path) -> None:
    """Raises DataError when the upper eight bits of a deeper image do not hold its values."""
    depth = depth_of(data)
    if depth is not None and depth.is_dark:
        raise DataError(
            f"{depth}: read as 8 bits it would be almost black",
            remedy="scale its values to 8 bits, with one range for all images",
            file=name,
        )
