"""Shapes of other formats: polygons, run-length masks, curves, and their visible parts when they overlap."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
from pycocotools import mask as rle_tools

from drivetl.adapters.reading import Reading, is_nonzero
from drivetl.coco import masks
from drivetl.coco.records import Box, Segmentation, SourceObject
from drivetl.errors import DataError
from drivetl.files.fields import mapping, number, shown
from drivetl.files.images import MAX_PIXELS

Points = list[tuple[float, float]]
"""Vertices (x, y) in px."""

MAX_COORDINATE = 1e6
"""Larger coordinates are errors and not clipped: drawing takes time in proportion to the length of an edge."""

NOT_PAINTED = frozenset({"license plate"})
"""Cityscapes polygons that are part of another object: its own drawing tool leaves them out (their id is -1)."""


def points_of(values: Sequence[Any], name: str) -> Points:
    """Points from a list [[x, y], ...]. Raises DataError for anything but pairs of finite numbers."""
    points = []
    for index, pair in enumerate(values):
        if not isinstance(pair, list | tuple) or len(pair) < 2:
            raise DataError(f"{name}[{index}] is {shown(pair)}, not x, y", remedy="fix or remove the record")
        point = (number(pair[0], f"x of {name}[{index}]"), number(pair[1], f"y of {name}[{index}]"))
        if max(abs(point[0]), abs(point[1])) > MAX_COORDINATE:
            raise DataError(f"{name}[{index}] is {shown(list(point))}, far outside any image", remedy="fix the record")
        points.append(point)
    return points


def flat(points: Points) -> list[float]:
    """[(x, y), ...] -> [x, y, x, y, ...]."""
    return [value for point in points for value in point]


def pairs(polygon: Sequence[float]) -> Points:
    """[x, y, x, y, ...] -> [(x, y), ...]."""
    return list(zip(polygon[::2], polygon[1::2], strict=True))


def box_of(points: Points) -> Box:
    """The box (x1, y1, x2, y2) in px around vertices."""
    xs, ys = [x for x, _ in points], [y for _, y in points]
    return min(xs), min(ys), max(xs), max(ys)


def rotated_box(box: Box, degrees: float) -> Box:
    """The upright box that encloses a box rotated clockwise about its centre."""
    x1, y1, x2, y2 = box
    angle = math.radians(degrees)
    width = abs((x2 - x1) * math.cos(angle)) + abs((y2 - y1) * math.sin(angle))
    height = abs((x2 - x1) * math.sin(angle)) + abs((y2 - y1) * math.cos(angle))
    cx, cy = (x1 + x2) / 2, (y1 + y2) / 2
    return cx - width / 2, cy - height / 2, cx + width / 2, cy + height / 2


def is_turned_rectangle(points: Points) -> bool:
    """Whether four vertices (px) are the corners of a rectangle that is not upright: a rotated box."""
    if len(points) != 4:
        return False
    (ax, ay), (bx, by), (cx, cy), (dx, dy) = points
    first, second = (bx - ax, by - ay), (cx - bx, cy - by)
    a, b = math.hypot(*first), math.hypot(*second)
    if min(a, b) < 2:
        return False
    closes = math.hypot(ax - bx + cx - dx, ay - by + cy - dy) <= max(0.5, 0.01 * (a + b))
    square = abs(first[0] * second[0] + first[1] * second[1]) <= 0.02 * a * b
    return closes and square and min(abs(first[0]), abs(first[1])) > max(1.0, 0.02 * a)


def enclose_rotated(reading: Reading, item: SourceObject) -> None:
    """Replace a box by the upright box around it when its attribute `rotation` (degrees, clockwise) is not 0.

    CVAT exports the box before its rotation and the angle as an attribute. Raises DataError with --rotated refuse.
    """
    degrees = item.attributes.get("rotation")
    if not is_nonzero(degrees) or "unrotated_box_xyxy" in item.attributes:
        return
    angle = number(degrees, "rotation")
    if not angle % 360:
        return
    if item.segmentation is not None:
        reading.note("objects with a rotation and a mask: the mask is taken as written")
        return
    if reading.rotated == "refuse":
        raise DataError(f"a box rotated by {angle:g} degrees", remedy="use --rotated enclose, or redraw the box")
    reading.note("rotated boxes, each enclosed by its upright box")
    item.attributes |= {"rotation": angle, "unrotated_box_xyxy": list(item.box_xyxy)}
    item.box_xyxy, item.area = rotated_box(item.box_xyxy, angle), None


def ellipse_outline(cx: float, cy: float, rx: float, ry: float, degrees: float = 0.0, corners: int = 48) -> Points:
    """Vertices on an ellipse with radii rx and ry, rotated clockwise about its centre."""
    turn = math.radians(degrees)
    angles = [2 * math.pi * corner / corners for corner in range(corners)]
    return [
        (
            cx + rx * math.cos(angle) * math.cos(turn) - ry * math.sin(angle) * math.sin(turn),
            cy + rx * math.cos(angle) * math.sin(turn) + ry * math.sin(angle) * math.cos(turn),
        )
        for angle in angles
    ]


def bezier_outline(points: Points, types: str, steps: int = 8) -> Points:
    """The outline of Scalabel vertices: L is a corner, C C C are two control points and the end of a cubic curve.

    A run of C whose last curve lacks its end point ends at the next corner (the first one when it closes the shape).
    Source: scalabel/label/transforms.py, which passes the same codes to matplotlib as LINETO and CURVE4.
    """
    if len(types) != len(points) or set(types) - {"L", "C"}:
        raise DataError(f"types {shown(types)} do not fit {len(points)} vertices", remedy="write one L or C per vertex")
    outline: Points = []
    index = 0
    while index < len(points):
        if types[index] == "L" or not outline:
            outline.append(points[index])
            index += 1
            continue
        if index + 1 >= len(points):
            outline.append(points[index])
            break
        start, first, second = outline[-1], points[index], points[index + 1]
        end = points[index + 2] if index + 2 < len(points) else points[0]
        for step in range(1, steps + 1):
            t = step / steps
            weights = ((1 - t) ** 3, 3 * t * (1 - t) ** 2, 3 * t * t * (1 - t), t**3)
            curve = (start, first, second, end)
            outline.append(
                (
                    sum(w * p[0] for w, p in zip(weights, curve, strict=True)),
                    sum(w * p[1] for w, p in zip(weights, curve, strict=True)),
                )
            )
        index += 3
    return outline


def checked_rle(value: object, width: int, height: int) -> dict[str, Any]:
    """A foreign COCO RLE, its runs proven to fill the image exactly, with text counts.

    Raises DataError when the size or the sum is wrong.
    """
    record = mapping(value, "run-length mask")
    rle = {"size": record.get("size") or [height, width], "counts": record.get("counts")}
    problem = masks.problem(rle, height, width)
    if problem is not None:
        raise DataError(problem, remedy="fix or remove the record")
    if isinstance(rle["counts"], list):
        return compressed(rle["counts"], width, height)
    return {"size": [height, width], "counts": rle["counts"]}


def compressed(runs: list[int], width: int, height: int) -> dict[str, Any]:
    """Column-major runs, background first -> COCO RLE with text counts."""
    rle = rle_tools.frPyObjects({"size": [height, width], "counts": runs}, height, width)
    return {"size": [height, width], "counts": rle["counts"].decode()}


def row_major_rle(
    runs: list[int], left: int, top: int, width: int, height: int, image: tuple[int, int]
) -> tuple[dict[str, Any], Box] | None:
    """CVAT's mask: row-major runs (background first) of a (height, width) crop -> COCO RLE and its tight box.

    image: (width, height). None when the mask is empty. Raises DataError when runs or crop do not fit.
    """
    if width < 1 or height < 1 or width * height > MAX_PIXELS or left < 0 or top < 0:
        raise DataError(f"mask crop {width} x {height} at {left}, {top} is not usable", remedy="fix the record")
    if left + width > image[0] or top + height > image[1]:
        raise DataError(
            f"mask crop {width} x {height} at {left}, {top} is not inside the image {image[0]} x {image[1]}",
            remedy="check the size of the image",
        )
    if any(run < 0 for run in runs) or sum(runs) != width * height:
        raise DataError(f"the mask's runs cover {sum(runs)} px, its crop has {width * height}", remedy="fix the record")
    values = np.arange(len(runs)) % 2 == 1
    crop = np.repeat(values, runs).reshape(height, width)
    return encode_crop(crop, left, top, image)


def encode_crop(
    crop: npt.NDArray[np.bool_], left: int, top: int, image: tuple[int, int]
) -> tuple[dict[str, Any], Box] | None:
    """(h, w) bool mask of a crop at (left, top) -> COCO RLE in the whole image and the tight box; None when empty.

    image: (width, height). Works on the crop only, so small objects are fast in large images.
    """
    columns, rows = np.nonzero(crop.T)
    if not len(columns):
        return None
    width, height = image
    flat_index = (columns.astype(np.int64) + left) * height + rows + top
    breaks = np.flatnonzero(np.diff(flat_index) != 1)
    starts = np.concatenate(([flat_index[0]], flat_index[breaks + 1]))
    ends = np.concatenate((flat_index[breaks], [flat_index[-1]])) + 1
    edges = np.concatenate(([0], np.column_stack((starts, ends)).ravel(), [width * height]))
    box = (
        float(columns.min() + left),
        float(rows.min() + top),
        float(columns.max() + left + 1),
        float(rows.max() + top + 1),
    )
    return compressed([int(run) for run in np.diff(edges)], width, height), box


def raster(
    points: Points, image: tuple[int, int], *, pixel_index: bool
) -> tuple[npt.NDArray[np.bool_], int, int] | None:
    """The pixels of a polygon as (crop, left, top); None without pixels inside the image (width, height).

    pixel_index: vertices are pixel indices and the border belongs to the polygon, as Cityscapes draws it; else they
    are continuous coordinates and COCO's rule decides which pixels belong to the polygon.
    """
    width, height = image
    x1, y1, x2, y2 = box_of(points)
    left, top = max(math.floor(x1), 0), max(math.floor(y1), 0)
    right, bottom = min(math.ceil(x2) + pixel_index, width), min(math.ceil(y2) + pixel_index, height)
    if right <= left or bottom <= top or len(points) < 3:
        return None
    shape = (bottom - top, right - left)
    if pixel_index:
        crop = np.zeros(shape, np.uint8)
        vertices = np.rint(np.asarray(points)).astype(np.int32) - (left, top)
        cv2.fillPoly(crop, [vertices.astype(np.int32)], 1)
    else:
        shifted = [value - (left, top)[index % 2] for index, value in enumerate(flat(points))]
        crop = rle_tools.decode(rle_tools.merge(rle_tools.frPyObjects([shifted], *shape)))
    return crop.astype(bool), left, top


def visible(
    polygons: Sequence[tuple[str, list[Points]]], image: tuple[int, int], needed: Sequence[bool], *, pixel_index: bool
) -> list[tuple[Segmentation, Box, float] | None]:
    """The visible part of each polygon when all are painted in order, later ones over earlier ones.

    polygons: (label, rings) back to front; image: (width, height). Per polygon (RLE, box xyxy, area px^2); None when it
    is hidden completely or not needed (it still hides others).
    """
    width, height = image
    canvas = np.full((height, width), -1, np.int32)
    extents = [
        _paint(canvas, rings, image, index, pixel_index=pixel_index) if label not in NOT_PAINTED else None
        for index, (label, rings) in enumerate(polygons)
    ]
    parts: list[tuple[Segmentation, Box, float] | None] = []
    for index, extent in enumerate(extents):
        if not needed[index]:
            parts.append(None)
            continue
        encoded, layer = None, canvas
        if extent is None:  # part of the object below it: it hides nothing and nothing hides it
            layer = np.full((height, width), -1, np.int32)
            extent = _paint(layer, polygons[index][1], image, index, pixel_index=pixel_index)
        left, top, right, bottom = extent
        if right > left and bottom > top:
            crop = layer[top:bottom, left:right] == index
            encoded = encode_crop(crop, left, top, image)
        parts.append((encoded[0], encoded[1], float(crop.sum())) if encoded else None)
    return parts


def _paint(
    canvas: npt.NDArray[np.int32], rings: list[Points], image: tuple[int, int], value: int, *, pixel_index: bool
) -> tuple[int, int, int, int]:
    """Paint rings into a canvas; returns the extent (left, top, right, bottom) of the painted pixels."""
    left, top, right, bottom = image[0], image[1], 0, 0
    for ring in rings:
        drawn = raster(ring, image, pixel_index=pixel_index)
        if drawn is not None:
            crop, x, y = drawn
            canvas[y : y + crop.shape[0], x : x + crop.shape[1]][crop] = value
            left, top = min(left, x), min(top, y)
            right, bottom = max(right, x + crop.shape[1]), max(bottom, y + crop.shape[0])
    return left, top, right, bottom
