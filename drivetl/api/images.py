"""Every form of an image that a caller may have, as one: (H, W, 3) uint8 RGB."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
import numpy.typing as npt

from drivetl.errors import DataError
from drivetl.files.images import Rgb, described, layout_remedy, read_rgb

if TYPE_CHECKING:
    from PIL.Image import Image as PilImage
    from torch import Tensor

ImageLike: TypeAlias = "str | Path | npt.NDArray[np.uint8] | PilImage | Tensor"
"""A path, an (H, W, 3) uint8 RGB array, a PIL image or a (3, H, W) uint8 RGB tensor."""

EXPECTED = "a path, an (H, W, 3) uint8 RGB array, a PIL image or a (3, H, W) uint8 RGB tensor"
WIDE_MODES = ("F", "I")
"""PIL's modes of more than 8 bits per channel, and those that begin with `I;`: a conversion to RGB would clip them."""


def apply(image: ImageLike, condition: str, severity: int, seed: int = 0, vehicles: npt.ArrayLike | None = None) -> Rgb:
    """The image under a condition of `drivetl.conditions.CATALOG`, a new (H, W, 3) uint8 RGB array.

    severity: 0 (unchanged) to 5; vehicles: (N, 4) xyxy px, whose lamps shine at night and dusk, None: unknown. The
    result is a pure function of the arguments. Raises ConfigError for an unknown condition or severity, DataError for
    anything that is not an image or such boxes.
    """
    from drivetl import conditions
    from drivetl.conditions.scene import checked_boxes

    boxes = None if vehicles is None else checked_boxes(vehicles)
    return conditions.apply(as_rgb(image), condition, severity, seed, vehicles=boxes)


def as_rgb(image: Any, name: str = "the image") -> Rgb:
    """Any ImageLike as (H, W, 3) uint8 RGB; an array is not copied.

    A file is turned as its EXIF orientation says; a PIL image stays as it is. Raises DataError that says what the image
    is, what is expected and how to convert it: another type, layout or range would give meaningless detections.
    """
    if isinstance(image, str | Path):
        return read_rgb(Path(image))
    if is_tensor(image):
        _refuse(image, layout_remedy(image, 0), name)
        return np.ascontiguousarray(image.permute(1, 2, 0).cpu().numpy())
    if _is_pil(image):
        return _of_pil(image, name)
    if not isinstance(image, np.ndarray):
        raise DataError(f"{name} is {described(image)}", remedy=f"pass {EXPECTED}")
    _refuse(image, layout_remedy(image, 2), name)
    return image


def is_tensor(value: Any) -> bool:
    """Whether it is a torch tensor; torch is not imported for that."""
    torch = sys.modules.get("torch")
    return torch is not None and isinstance(value, torch.Tensor)


def _refuse(image: Any, remedy: str, name: str) -> None:
    """Raises DataError if there is something to remedy."""
    if remedy:
        raise DataError(f"{name} is {described(image)}; expected {EXPECTED}", remedy=remedy)


def _is_pil(value: Any) -> bool:
    pil = sys.modules.get("PIL.Image")
    return pil is not None and isinstance(value, pil.Image)


def _of_pil(image: PilImage, name: str) -> Rgb:
    if image.mode in WIDE_MODES or image.mode.startswith("I;"):
        raise DataError(
            f"{name} is a PIL image of mode {image.mode}, with more than 8 bits per channel",
            remedy="scale its values to 8 bits, with one range for all images",
        )
    if 0 in image.size:
        raise DataError(f"{name} is an empty PIL image", remedy="pass one with at least one pixel")
    return np.asarray(image.convert("RGB"), np.uint8)
