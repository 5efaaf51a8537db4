"""Segmentations: polygons and COCO RLE, through pycocotools."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from pycocotools import mask as rle_tools

from drivetl.coco.records import Box, Segmentation

Mask = npt.NDArray[np.uint8]
"""(H, W) uint8, 0 or 1."""


def to_rle(segmentation: Segmentation, height: int, width: int) -> dict[str, Any]:
    """Polygons, uncompressed or compressed RLE -> one compressed RLE whose counts are bytes (pycocotools' form)."""
    if isinstance(segmentation, dict):
        if isinstance(segmentation["counts"], list):
            return dict(rle_tools.frPyObjects(segmentation, height, width))
        counts = segmentation["counts"]
        return {
            "size": list(segmentation["size"]),
            "counts": counts.encode() if isinstance(counts, str) else counts,
        }
    return dict(
        rle_tools.merge(
            rle_tools.frPyObjects([polygon for polygon in segmentation if len(polygon) >= 6], height, width)
        )
    )


def decode(segmentation: Segmentation, height: int, width: int) -> Mask:
    """(H, W) uint8 mask of 0 and 1."""
    if not isinstance(segmentation, dict) and not any(len(polygon) >= 6 for polygon in segmentation):
        return np.zeros((height, width), np.uint8)
    return np.asarray(rle_tools.decode(to_rle(segmentation, height, width)), np.uint8)


def encode(mask: npt.NDArray[Any]) -> dict[str, Any]:
    """(H, W) mask -> compressed RLE with text counts, ready for JSON."""
    rle = rle_tools.encode(np.asfortranarray(mask.astype(np.uint8)))
    return {"size": [int(side) for side in rle["size"]], "counts": rle["counts"].decode()}


def area(segmentation: Segmentation, height: int, width: int) -> float:
    """px^2 covered."""
    if not isinstance(segmentation, dict) and not any(len(polygon) >= 6 for polygon in segmentation):
        return 0.0
    return float(rle_tools.area(to_rle(segmentation, height, width)))


def box_xyxy(mask: Mask) -> Box | None:
    """The tight box around a mask's pixels, (x1, y1, x2, y2) continuous; None for an empty mask."""
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    if not len(rows):
        return None
    return float(columns[0]), float(rows[0]), float(columns[-1] + 1), float(rows[-1] + 1)
