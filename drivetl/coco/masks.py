"""Segmentations: polygons and COCO RLE, through pycocotools.

pycocotools reads uninitialised memory for an RLE that is too short and accepts NaN as a coordinate; so `problem` checks
every segmentation from a file, and `decode` refuses one that does not fit the image.
"""

from __future__ import annotations

from math import isfinite
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from pycocotools import mask as rle_tools

from drivetl.coco.records import Annotation, Box, IgnoreRegion, ImageRecord, Segmentation
from drivetl.coco.rules import shape_problem
from drivetl.errors import DataError
from drivetl.files.arrays import numbers
from drivetl.files.images import described

Mask = npt.NDArray[np.uint8]
"""(H, W) uint8, 0 or 1."""

REMEDY = "fix or remove the segmentation"


def problem(segmentation: object, height: int, width: int) -> str | None:
    """What is wrong with a segmentation of an image of this size; None when it can be decoded."""
    shape = shape_problem(segmentation)
    if shape is not None:
        return shape
    if isinstance(segmentation, dict):
        return _rle_problem(segmentation, height, width)
    assert isinstance(segmentation, list)
    # pycocotools also follows a polygon's edges outside the image, in five steps per pixel
    far = 4 * (height + width) + 10_000
    for polygon in segmentation:
        if len(polygon) % 2:
            return f"a polygon has {len(polygon)} numbers, not pairs of x and y"
        try:
            usable = (
                bool not in map(type, polygon)
                and isfinite(sum(polygon))
                and -far < min(polygon, default=0) <= max(polygon, default=0) < far
            )
        except TypeError:
            usable = False
        if not usable:
            return "a polygon contains a non-finite or out-of-range coordinate"
    return None


def _rle_problem(rle: dict[str, Any], height: int, width: int) -> str | None:
    size, counts = rle["size"], rle["counts"]
    if list(size) != [height, width]:
        return f"RLE size {size!r} is not the image's [{height}, {width}]"
    if isinstance(counts, list):
        try:
            usable = all(isinstance(run, int) and run >= 0 for run in counts) and sum(counts) == height * width
        except TypeError:
            usable = False
        return None if usable else f"RLE counts do not fill {height} x {width} px"
    try:
        runs = run_lengths(counts.encode("ascii") if isinstance(counts, str) else counts)
    except ValueError:
        return "RLE counts are not COCO's text form"
    if (runs < 0).any() or int(runs.sum()) != height * width:
        return f"RLE counts do not fill {height} x {width} px"
    return None


def run_lengths(counts: bytes) -> npt.NDArray[np.int64]:
    """(N,) run lengths of a compressed RLE, as pycocotools' rleFrString reads them: 5 bits per letter from
    the lowest, bit 6 is set when more letters follow, and from the fourth run on it is the difference to the run before
    the previous one.

    Raises ValueError for letters outside that code.
    """
    letters = np.frombuffer(counts, np.uint8).astype(np.int64) - 48
    if not len(letters):
        return letters
    if letters.min() < 0 or letters.max() > 63 or letters[-1] & 32:
        raise ValueError("not COCO's text form")
    last = (letters & 32) == 0
    starts = np.flatnonzero(np.concatenate(([True], last[:-1])))
    lengths = np.diff(np.append(starts, len(letters)))
    if lengths.max() > 7:  # 35 bits: more pixels than any image has
        raise ValueError("a run is too long")
    shift = 5 * (np.arange(len(letters)) - np.repeat(starts, lengths))
    runs = np.add.reduceat((letters & 31) << shift, starts)
    negative = (letters[last] & 16) != 0
    runs -= negative.astype(np.int64) << (5 * lengths)
    runs[1::2] = np.cumsum(runs[1::2])
    runs[2::2] = np.cumsum(runs[2::2])
    return np.asarray(runs)


def to_rle(segmentation: Segmentation, height: int, width: int) -> dict[str, Any]:
    """Polygons, uncompressed or compressed RLE -> one compressed RLE whose counts are bytes (pycocotools' form).

    Polygons of fewer than three points cover nothing.
    """
    if isinstance(segmentation, dict):
        counts = segmentation["counts"]
        if isinstance(counts, list):
            return dict(rle_tools.frPyObjects(segmentation, height, width))
        return {"size": list(segmentation["size"]), "counts": counts.encode() if isinstance(counts, str) else counts}
    polygons = [polygon for polygon in segmentation if len(polygon) >= 6]
    if not polygons:
        return dict(rle_tools.encode(np.zeros((height, width), np.uint8, order="F")))
    return dict(rle_tools.merge(rle_tools.frPyObjects(polygons, height, width)))


def decode(segmentation: Segmentation, height: int, width: int) -> Mask:
    """(H, W) uint8 mask of 0 and 1. Raises DataError for a segmentation that does not fit the image."""
    reason = shape_problem(segmentation)
    if reason is None and not isinstance(segmentation, dict) and not any(len(polygon) >= 6 for polygon in segmentation):
        return np.zeros((height, width), np.uint8)
    reason = reason or problem(segmentation, height, width)
    if reason is not None:
        raise DataError(reason, remedy=REMEDY)
    return np.asarray(rle_tools.decode(to_rle(segmentation, height, width)), np.uint8)


def of_object(item: Annotation | IgnoreRegion, image: ImageRecord, file: Path | None) -> Mask | None:
    """(H, W) uint8 mask of an object or ignore region of an image; None without a segmentation.

    Raises DataError with the image and the dataset's file for a segmentation that does not fit the image.
    """
    if item.segmentation is None:
        return None
    try:
        return decode(item.segmentation, image.height, image.width)
    except DataError as error:
        raise of_image(error.reason, image, file) from None


def of_image(reason: str, image: ImageRecord, file: Path | None) -> DataError:
    """The error of a segmentation of an image."""
    return DataError(f"image {image.file_name!r}: {reason}", remedy=REMEDY, file=file or image.file_name)


def encode(mask: npt.NDArray[Any]) -> dict[str, Any]:
    """(H, W) mask of 0 and 1 -> compressed RLE with text counts, ready for JSON. Raises DataError for another array."""
    array = numbers(mask, "the mask", ("H", "W"), whole=True)
    if array.size and not 0 <= array.min() <= array.max() <= 1:
        raise DataError(f"the mask is {described(array)}", remedy="pass 0 and 1, for example mask > 0.5")
    rle = rle_tools.encode(np.asfortranarray(array.astype(np.uint8)))
    return {"size": [int(side) for side in rle["size"]], "counts": rle["counts"].decode()}


def area(segmentation: Segmentation, height: int, width: int) -> float:
    """px^2 covered. Raises DataError for a segmentation that does not fit the image."""
    reason = shape_problem(segmentation)
    if reason is None and not isinstance(segmentation, dict) and not any(len(polygon) >= 6 for polygon in segmentation):
        return 0.0
    reason = reason or problem(segmentation, height, width)
    if reason is not None:
        raise DataError(reason, remedy=REMEDY)
    return float(rle_tools.area(to_rle(segmentation, height, width)))


def box_xyxy(mask: Mask) -> Box | None:
    """The tight box around a mask's pixels, (x1, y1, x2, y2) continuous; None for an empty mask."""
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    if not len(rows):
        return None
    return float(columns[0]), float(rows[0]), float(columns[-1] + 1), float(rows[-1] + 1)
