"""Checks of each box against its image: format, position, size. A box is reported once, for its most severe fault."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from drivetl.audit.findings import Finding, Severity, about_boxes
from drivetl.audit.tables import Bools, Floats, Tables
from drivetl.coco import rules

VANISH_PX = 2.0
"""A side shorter than half a cell of the finest feature map (stride 4 in an FPN): too small to be detected."""
SMALL_PX = 8.0
"""A side shorter than two cells of the finest feature map: hard to learn."""
_TALL = ("pedestrian", "person", "walker")
_WIDE = ("car", "van")
_MIN_BOXES = 20
"""Fewer boxes than this say nothing about the box format of a class or dataset."""


def resize_scale(sizes_wh: Floats, min_size: float, max_size: float) -> Floats:
    """(N, 2) image sizes -> (N,) the factor by which torchvision's detectors resize them.

    min(min_size / short side, max_size / long side): torchvision.models.detection.transform._resize_image_and_masks.
    """
    return np.asarray(np.minimum(min_size / sizes_wh.min(axis=1), max_size / sizes_wh.max(axis=1)))


def check_boxes(tables: Tables, min_size: float, max_size: float) -> list[Finding]:
    """All checks that need only a box and the size of its image.

    min_size, max_size: short and long side of the model's resize, px."""
    with np.errstate(invalid="ignore", divide="ignore"):  # comparisons with NaN are False, which is correct here
        findings, reported = _unusable(tables)
        for check, code, severity, title, remedy in _CHECKS_BY_SEVERITY:
            faulty = check(tables) & ~reported
            reported = reported | faulty
            findings += about_boxes(tables, faulty, code, severity, title, remedy, lambda row: _image_size(tables, row))
        return findings + _check_sizes(tables, ~reported, min_size, max_size)


def _unusable(tables: Tables) -> tuple[list[Finding], Bools]:
    """Findings about boxes without a usable size, and an (A,) mask of those boxes."""
    sides = tables.boxes_xywh[:, 2:]
    broken: Bools = np.asarray(np.isnan(tables.boxes_xywh).any(axis=1))
    negative: Bools = np.asarray((sides < 0).any(axis=1) & ~broken)
    flat: Bools = np.asarray((sides == 0).any(axis=1) & ~broken & ~negative)
    findings = about_boxes(
        tables,
        broken,
        "box-unusable",
        "error",
        "Boxes that are not four finite numbers",
        "write bbox as [x, y, width, height] in px, or remove the annotation",
        lambda row: _box_problem(tables, row),
    )
    findings += about_boxes(
        tables,
        negative,
        "box-negative",
        "error",
        "Boxes with negative width or height",
        "x and y are the top-left corner; order the corners before subtracting",
        lambda row: _box_problem(tables, row),
    )
    findings += about_boxes(
        tables,
        flat,
        "box-degenerate",
        "error",
        "Boxes with zero width or height",
        "remove them: torchvision's detectors raise an error on such boxes",
    )
    return findings, broken | negative | flat


def _box_problem(tables: Tables, row: int) -> str:
    return rules.reason(rules.box_of, tables.annotation_records[row]) or ""


def _normalised(tables: Tables) -> Bools:
    """All four numbers are at most 1: fractions of the image size, as in YOLO labels."""
    boxes = tables.boxes_xywh
    large = (tables.image_wh > 16).all(axis=1)
    return np.asarray((np.abs(boxes) <= 1).all(axis=1) & (boxes[:, 2:] > 0).all(axis=1) & large)


def _outside(tables: Tables) -> Bools:
    """The box does not intersect the image."""
    boxes, sizes = tables.boxes_xyxy, tables.image_wh
    return np.asarray((boxes[:, :2] >= sizes).any(axis=1) | (boxes[:, 2:] <= 0).any(axis=1))


def _overflow(boxes_xywh: Floats, sizes: Floats) -> Floats:
    """(A,) how far each box extends beyond its image, as a fraction of the image side; 0 up to 2 px."""
    over = np.maximum(boxes_xywh[:, :2] + boxes_xywh[:, 2:] - sizes, -boxes_xywh[:, :2])
    return np.asarray(np.where(over > 2, over / sizes, 0).max(axis=1, initial=0))


def _centred(tables: Tables) -> Bools:
    """x, y is the box centre: read so, all boxes fit their images; read as top-left corner, many do not."""
    valid = tables.valid()
    boxes, sizes = tables.boxes_xywh[valid], tables.image_wh[valid]
    half = boxes[:, 2:] / 2
    fits = ((boxes[:, :2] - half >= -1) & (boxes[:, :2] + half <= sizes + 1)).all(axis=1)
    over = _overflow(boxes, sizes) > 0.02
    if len(boxes) < _MIN_BOXES or fits.mean() < 0.99 or over.sum() < max(3, 0.03 * len(boxes)):
        return np.zeros(len(valid), np.bool_)
    return valid


def _corners(tables: Tables) -> Bools:
    """bbox is x1, y1, x2, y2: it extends beyond the image as xywh, and fits as corners.

    If nearly all boxes of the dataset fit as corners and many overflow as xywh, all boxes are reported.
    """
    valid = tables.valid()
    boxes, sizes = tables.boxes_xywh, tables.image_wh
    fits = ((boxes[:, 2:] > boxes[:, :2]) & (boxes[:, 2:] <= sizes + 1) & (boxes[:, :2] >= -1)).all(axis=1) & valid
    over = fits & (_overflow(boxes, sizes) > 0.02)
    if valid.sum() >= _MIN_BOXES and fits.sum() > 0.98 * valid.sum() and over.sum() > 0.1 * valid.sum():
        return fits
    return over


def _swapped(tables: Tables) -> Bools:
    """Width and height swapped: the box extends beyond the image, fits when swapped, and then has its class's shape.

    Classes of known shape (people are tall, cars are wide) are also checked as a whole by their median.
    """
    valid = tables.valid()
    boxes, sizes = tables.boxes_xywh, tables.image_wh
    exchanged = boxes[:, [0, 1, 3, 2]]
    suspicious = valid & (_overflow(boxes, sizes) > 0.02) & (_overflow(exchanged, sizes) == 0)
    swapped = np.zeros(len(valid), np.bool_)
    objects = tables.objects()
    for category_id in np.unique(tables.category_ids[objects]):
        members = tables.category_ids == category_id
        own = boxes[members & objects]
        log_aspect = np.log(own[:, 2] / own[:, 3])  # above 0: wider than tall
        expected = _expected_orientation(tables.name(category_id))
        if expected and len(own) >= _MIN_BOXES and np.median(log_aspect) * expected < -0.22:  # a ratio of 1.25
            swapped |= members & objects
            continue
        typical = expected or float(np.median(log_aspect))
        all_log_aspects = np.log(np.where(valid, boxes[:, 2], 1.0) / np.where(valid, boxes[:, 3], 1.0))
        swapped |= members & suspicious & (all_log_aspects * np.sign(typical) < -0.18)
    return swapped


def _expected_orientation(name: str) -> float:
    """1 for classes that are wider than tall, -1 for classes that are taller than wide, 0 if unknown."""
    lowered = name.lower()
    return -1.0 if lowered in _TALL else 1.0 if lowered in _WIDE else 0.0


def _past_edge(tables: Tables) -> Bools:
    """Partly outside the image, by more than a pixel."""
    boxes, sizes = tables.boxes_xyxy, tables.image_wh
    return np.asarray((boxes[:, :2] < -1).any(axis=1) | (boxes[:, 2:] > sizes + 1).any(axis=1))


def _image_size(tables: Tables, row: int) -> str:
    width, height = tables.image_wh[row]
    return f"in {width:.0f} x {height:.0f}"


def _check_sizes(tables: Tables, unreported: Bools, min_size: float, max_size: float) -> list[Finding]:
    """Sizes after the model's resize, and implausible shapes; ignore regions may have any size and shape."""
    objects = tables.objects() & unreported
    sizes = tables.image_wh
    scale = resize_scale(sizes, min_size, max_size)
    side = tables.boxes_xywh[:, 2:].min(axis=1) * scale
    aspect = tables.boxes_xywh[:, 2] / tables.boxes_xywh[:, 3]
    share = tables.boxes_xywh[:, 2:].prod(axis=1) / sizes.prod(axis=1)

    def resized(row: int) -> str:
        w, h = tables.boxes_xywh[row, 2:] * scale[row]
        return f"{w:.1f} x {h:.1f} px after resizing by {scale[row]:.3f}"

    findings = about_boxes(
        tables,
        objects & (side < VANISH_PX),
        "box-vanishes",
        "warning",
        f"Objects with a side shorter than {VANISH_PX:.0f} px after the model's resize",
        "raise model.min_size and model.max_size, or make them ignore regions: they are too small to be detected",
        resized,
    )
    findings += about_boxes(
        tables,
        objects & (side >= VANISH_PX) & (side < SMALL_PX),
        "box-small",
        "note",
        f"Objects with a side of {VANISH_PX:.0f} to {SMALL_PX:.0f} px after the model's resize",
        "a larger model.min_size helps most here; see `drivetl anchors`",
        resized,
    )
    findings += about_boxes(
        tables,
        objects & (share > 0.9),
        "box-whole-image",
        "warning",
        "Objects that cover more than 90 % of their image",
        "often a placeholder box: check the example images",
        lambda row: _image_size(tables, row),
    )
    return findings + about_boxes(
        tables,
        objects & ((aspect > 12) | (aspect < 1 / 12)) & (side >= VANISH_PX),
        "box-sliver",
        "note",
        "Objects with an aspect ratio above 12:1",
        "slivers at the image edge or behind other objects add little to training; if there are many, ignore them",
        lambda row: f"width / height = {aspect[row]:.3g}",
    )


_CHECKS_BY_SEVERITY: tuple[tuple[Callable[[Tables], Bools], str, Severity, str, str], ...] = (
    (
        _normalised,
        "box-normalised",
        "error",
        "Boxes in normalised coordinates (0 to 1) instead of pixels",
        "multiply by the image width and height",
    ),
    (
        _outside,
        "box-outside",
        "error",
        "Boxes completely outside their image",
        "check image_id and the image size; if both are correct, remove the boxes",
    ),
    (
        _centred,
        "box-centred",
        "error",
        "bbox appears to be [cx, cy, width, height] instead of [x, y, width, height]",
        "subtract half the width and height from x and y",
    ),
    (
        _corners,
        "box-corners",
        "error",
        "bbox appears to be [x1, y1, x2, y2] instead of [x, y, width, height]",
        "write width = x2 - x1 and height = y2 - y1",
    ),
    (
        _swapped,
        "box-swapped",
        "error",
        "Box width and height appear to be swapped",
        "write bbox as [x, y, width, height]; check the example images",
    ),
    (
        _past_edge,
        "box-past-edge",
        "warning",
        "Boxes that extend beyond their image",
        "clip them to the image (every drivetl converter does)",
    ),
)
"""(check, code, severity, title, remedy), most severe first: a box is reported by the first check that matches."""
