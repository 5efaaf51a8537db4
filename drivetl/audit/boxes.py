"""Checks of each box against its image: format mistakes, edges, sizes. A box gets one verdict, the gravest."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from drivetl.audit.findings import Finding, Severity, about_boxes
from drivetl.audit.tables import Bools, Floats, Tables

VANISH_PX = 2.0
"""A side below half a cell of the finest feature map (stride 4 in an FPN): no feature sees the object."""
SMALL_PX = 8.0
"""A side below two cells of the finest feature map: learnt with luck."""
_TALL = ("pedestrian", "person", "walker")
_WIDE = ("car", "van")
_ENOUGH = 20
"""Boxes from which on a class or a dataset as a whole is judged."""


def resize_scale(sizes_wh: Floats, min_size: float, max_size: float) -> Floats:
    """(N, 2) image sizes -> (N,) the factor by which torchvision's detectors resize them.

    min(min_size / short side, max_size / long side): torchvision.models.detection.transform._resize_image_and_masks.
    """
    return np.asarray(np.minimum(min_size / sizes_wh.min(axis=1), max_size / sizes_wh.max(axis=1)))


def check_boxes(tables: Tables, min_size: float, max_size: float) -> list[Finding]:
    """All checks that need a box and the size of its image alone."""
    with np.errstate(invalid="ignore", divide="ignore"):  # comparisons with the gaps are false, as they should be
        findings, settled = _unusable(tables)
        for check, code, severity, title, remedy in _VERDICTS:
            found = check(tables) & ~settled
            settled = settled | found
            findings += about_boxes(tables, found, code, severity, title, remedy, lambda row: _image_size(tables, row))
        return findings + _check_sizes(tables, ~settled, min_size, max_size)


def _unusable(tables: Tables) -> tuple[list[Finding], Bools]:
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
    )
    findings += about_boxes(
        tables,
        negative,
        "box-negative",
        "error",
        "Boxes of negative width or height",
        "x and y are the top-left corner; order the corners before subtracting",
    )
    findings += about_boxes(
        tables,
        flat,
        "box-degenerate",
        "error",
        "Boxes of zero width or height",
        "remove them: torchvision's detectors stop at the first one",
    )
    return findings, broken | negative | flat


def _normalised(tables: Tables) -> Bools:
    """All four numbers at most 1: shares of the image, as YOLO writes them."""
    boxes = tables.boxes_xywh
    large = (tables.image_wh > 16).all(axis=1)
    return np.asarray((np.abs(boxes) <= 1).all(axis=1) & (boxes[:, 2:] > 0).all(axis=1) & large)


def _outside(tables: Tables) -> Bools:
    """Nothing of the box lies in the image."""
    boxes, sizes = tables.boxes_xyxy, tables.image_wh
    return np.asarray((boxes[:, :2] >= sizes).any(axis=1) | (boxes[:, 2:] <= 0).any(axis=1))


def _overflow(boxes_xywh: Floats, sizes: Floats) -> Floats:
    """(A,) by how much a box runs past its image, as a share of the image's side; 0 up to 2 px."""
    over = np.maximum(boxes_xywh[:, :2] + boxes_xywh[:, 2:] - sizes, -boxes_xywh[:, :2])
    return np.asarray(np.where(over > 2, over / sizes, 0).max(axis=1, initial=0))


def _centred(tables: Tables) -> Bools:
    """x, y are the centre: all boxes of the dataset fit their images that way, and many do not as a corner."""
    sound = tables.sound()
    boxes, sizes = tables.boxes_xywh[sound], tables.image_wh[sound]
    half = boxes[:, 2:] / 2
    fits = ((boxes[:, :2] - half >= -1) & (boxes[:, :2] + half <= sizes + 1)).all(axis=1)
    over = _overflow(boxes, sizes) > 0.02
    if len(boxes) < _ENOUGH or fits.mean() < 0.99 or over.sum() < max(3, 0.03 * len(boxes)):
        return np.zeros(len(sound), np.bool_)
    return sound


def _corners(tables: Tables) -> Bools:
    """bbox holds x1, y1, x2, y2: it runs past the image as xywh, and fits as corners.

    Where nearly every box of the dataset would do as corners and many overflow as xywh, all of them are meant.
    """
    sound = tables.sound()
    boxes, sizes = tables.boxes_xywh, tables.image_wh
    fits = ((boxes[:, 2:] > boxes[:, :2]) & (boxes[:, 2:] <= sizes + 1) & (boxes[:, :2] >= -1)).all(axis=1) & sound
    over = fits & (_overflow(boxes, sizes) > 0.02)
    if sound.sum() >= _ENOUGH and fits.sum() > 0.98 * sound.sum() and over.sum() > 0.1 * sound.sum():
        return fits
    return over


def _swapped(tables: Tables) -> Bools:
    """Width and height exchanged: the box runs past the image, fits when turned, and then looks like its class.

    Classes whose shape is known (people stand, cars are wide) are also judged as a whole by their median.
    """
    sound = tables.sound()
    boxes, sizes = tables.boxes_xywh, tables.image_wh
    turned = boxes[:, [0, 1, 3, 2]]
    suspicious = sound & (_overflow(boxes, sizes) > 0.02) & (_overflow(turned, sizes) == 0)
    found = np.zeros(len(sound), np.bool_)
    objects = tables.objects()
    for category_id in np.unique(tables.category_ids[objects]):
        members = tables.category_ids == category_id
        own = boxes[members & objects]
        slant = np.log(own[:, 2] / own[:, 3])  # above 0: wider than tall
        expected = _expected_slant(tables.name(category_id))
        if expected and len(own) >= _ENOUGH and np.median(slant) * expected < -0.22:  # a ratio of 1.25
            found |= members & objects
            continue
        typical = expected or float(np.median(slant))
        all_slants = np.log(np.where(sound, boxes[:, 2], 1.0) / np.where(sound, boxes[:, 3], 1.0))
        found |= members & suspicious & (all_slants * np.sign(typical) < -0.18)
    return found


def _expected_slant(name: str) -> float:
    """1 for classes that are wider than tall, -1 for those taller than wide, 0 where nothing is known."""
    lowered = name.lower()
    return -1.0 if lowered in _TALL else 1.0 if lowered in _WIDE else 0.0


def _past_edge(tables: Tables) -> Bools:
    """Partly outside, by more than a pixel."""
    boxes, sizes = tables.boxes_xyxy, tables.image_wh
    return np.asarray((boxes[:, :2] < -1).any(axis=1) | (boxes[:, 2:] > sizes + 1).any(axis=1))


def _image_size(tables: Tables, row: int) -> str:
    width, height = tables.image_wh[row]
    return f"in {width:.0f} x {height:.0f}"


def _check_sizes(tables: Tables, judged: Bools, min_size: float, max_size: float) -> list[Finding]:
    """Sizes after the network's resize, and shapes that no object has; ignore regions may be anything."""
    objects = tables.objects() & judged
    sizes = tables.image_wh
    scale = resize_scale(sizes, min_size, max_size)
    side = tables.boxes_xywh[:, 2:].min(axis=1) * scale
    aspect = tables.boxes_xywh[:, 2] / tables.boxes_xywh[:, 3]
    share = tables.boxes_xywh[:, 2:].prod(axis=1) / sizes.prod(axis=1)

    def resized(row: int) -> str:
        w, h = tables.boxes_xywh[row, 2:] * scale[row]
        return f"{w:.1f} x {h:.1f} px after the resize x{scale[row]:.3f}"

    findings = about_boxes(
        tables,
        objects & (side < VANISH_PX),
        "box-vanishes",
        "warning",
        f"Objects with a side below {VANISH_PX:.0f} px after the network's resize",
        "raise model.min_size and model.max_size, or turn them into ignore regions: no feature sees them",
        resized,
    )
    findings += about_boxes(
        tables,
        objects & (side >= VANISH_PX) & (side < SMALL_PX),
        "box-small",
        "note",
        f"Objects with a side of {VANISH_PX:.0f} to {SMALL_PX:.0f} px after the network's resize",
        "a larger model.min_size helps most here; see `drivetl anchors`",
        resized,
    )
    findings += about_boxes(
        tables,
        objects & (share > 0.9),
        "box-whole-image",
        "warning",
        "Objects that cover more than 90 % of their image",
        "often a placeholder box: look at the pictures",
        lambda row: _image_size(tables, row),
    )
    return findings + about_boxes(
        tables,
        objects & ((aspect > 12) | (aspect < 1 / 12)) & (side >= VANISH_PX),
        "box-sliver",
        "note",
        "Objects more than twelve times as long as wide",
        "slivers at the image's edge or behind other objects teach little; ignore them if they are many",
        lambda row: f"width / height = {aspect[row]:.3g}",
    )


_VERDICTS: tuple[tuple[Callable[[Tables], Bools], str, Severity, str, str], ...] = (
    (
        _normalised,
        "box-normalised",
        "error",
        "Boxes in shares of the image instead of pixels",
        "multiply by the image's width and height",
    ),
    (
        _outside,
        "box-outside",
        "error",
        "Boxes that lie wholly outside their image",
        "check that they belong to this image and to its true size; remove them otherwise",
    ),
    (
        _centred,
        "box-centred",
        "error",
        "bbox seems to hold the centre (cx, cy, w, h) instead of the top-left corner",
        "subtract half the width and height from x and y",
    ),
    (
        _corners,
        "box-corners",
        "error",
        "bbox seems to hold x1, y1, x2, y2 instead of x, y, width, height",
        "write width = x2 - x1 and height = y2 - y1",
    ),
    (
        _swapped,
        "box-swapped",
        "error",
        "Width and height of boxes seem exchanged",
        "write bbox as x, y, width, height; look at the pictures",
    ),
    (
        _past_edge,
        "box-past-edge",
        "warning",
        "Boxes that run past the edge of their image",
        "clip them to the image (every drivetl converter does)",
    ),
)
"""From the gravest to the mildest: (check, code, severity, title, remedy)."""
