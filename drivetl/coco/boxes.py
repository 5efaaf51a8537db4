"""Box conversions: files hold xywh, memory holds xyxy. Continuous pixels: x2 = x + w."""

from __future__ import annotations

from collections.abc import Sequence
from math import isfinite
from typing import TYPE_CHECKING, TypeAlias

from drivetl.coco.records import Box
from drivetl.errors import DataError

if TYPE_CHECKING:  # numpy is not imported by callers that convert single boxes
    import numpy as np
    import numpy.typing as npt

Boxes: TypeAlias = "npt.NDArray[np.float64]"
"""(N, 4) boxes, N may be 0."""

LIMIT_PX = 1e9
"""Larger coordinates are errors."""


def xywh_to_xyxy(box: Box) -> Box:
    """(x, y, w, h) -> (x1, y1, x2, y2)."""
    x, y, w, h = box
    return x, y, x + w, y + h


def clip_xyxy(box: Box, width: int, height: int) -> Box:
    """The part of a box inside the image [0, width] x [0, height]; degenerate when the box is outside."""
    x1, y1, x2, y2 = box
    return (min(max(x1, 0.0), width), min(max(y1, 0.0), height), min(max(x2, 0.0), width), min(max(y2, 0.0), height))


def check_corners(box_xyxy: Sequence[float]) -> None:
    """Raises DataError for a box with NaN, infinite or huge numbers, and for one with x2 < x1 or y2 < y1."""
    x1, y1, x2, y2 = box_xyxy
    if not (-LIMIT_PX < x1 <= x2 < LIMIT_PX and -LIMIT_PX < y1 <= y2 < LIMIT_PX):  # False for NaN too
        if all(isfinite(value) and abs(value) < LIMIT_PX for value in box_xyxy):
            raise DataError(
                f"box {list(box_xyxy)} has x2 < x1 or y2 < y1", remedy="write left, top, right, bottom in that order"
            )
        raise DataError(f"box {list(box_xyxy)} holds a number that no box can have", remedy="fix or remove the record")


def intersection(a: Boxes, b: Boxes) -> Boxes:
    """(N, 4) and (M, 4) xyxy -> (N, M) intersection areas in px^2."""
    import numpy as np

    top_left = np.maximum(a[:, None, :2], b[None, :, :2])
    bottom_right = np.minimum(a[:, None, 2:], b[None, :, 2:])
    sides = np.clip(bottom_right - top_left, 0, None)
    return np.asarray(sides[..., 0] * sides[..., 1])


def area(boxes: Boxes) -> Boxes:
    """(N, 4) xyxy -> (N,) areas in px^2."""
    return (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])
