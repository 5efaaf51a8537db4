"""Checks of boxes against each other: labelled twice, or labelled and ignored at once; and masks against boxes."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from drivetl.coco import masks
from drivetl.coco.audit_findings import Finding, about_boxes
from drivetl.coco.audit_tables import Floats, Ints, Tables
from drivetl.coco.boxes import clip_xyxy

_NEIGHBOURS = 64
"""How many followers (by left edge, in one image) a box is compared with: pairs of the same object are neighbours."""
_CHUNK = 2_000_000
_MASKS = 20_000
"""Masks looked at, evenly spread; more would take minutes."""


def check_duplicates(tables: Tables) -> list[Finding]:
    """The same object labelled twice: boxes that (nearly) coincide, of one class or of two."""
    rows = np.flatnonzero(tables.objects())
    rows = rows[np.lexsort((tables.boxes_xywh[rows, 0], tables.image_rows[rows]))]
    boxes, image_rows = tables.boxes_xyxy[rows], tables.image_rows[rows]
    classes = tables.category_ids[rows]
    found = {name: np.zeros(len(tables.crowd), np.bool_) for name in ("exact", "near", "classes")}
    twin = np.full(len(tables.crowd), -1)
    start = np.arange(len(rows))
    for step in range(1, _NEIGHBOURS + 1):
        start = start[start + step < len(rows)]
        follower = start + step
        # IoU >= 0.9 needs left edges within a tenth of the width; sorted by them, a box that failed once is done.
        near = (boxes[follower, 0] - boxes[start, 0]) <= 0.1 * (boxes[start, 2] - boxes[start, 0])
        start = start[near & (image_rows[start] == image_rows[follower])]
        if not len(start):
            break
        follower = start + step
        overlap = _iou_of_pairs(boxes[start], boxes[follower])
        same = classes[start] == classes[follower]
        for name, chosen in (
            ("exact", same & (overlap > 0.999)),
            ("near", same & (overlap > 0.9) & (overlap <= 0.999)),
            ("classes", ~same & (overlap > 0.95)),
        ):
            found[name][rows[follower[chosen]]] = True
            twin[rows[follower[chosen]]] = rows[start[chosen]]
    found["near"] &= ~found["exact"]

    def other(row: int) -> str:
        return f"beside annotation {tables.annotation_ids[twin[row]]!r} ({tables.name(tables.category_ids[twin[row]])})"

    findings = about_boxes(
        tables,
        found["exact"],
        "box-repeated",
        "error",
        "Objects labelled twice by the same box and class",
        "remove the copies: each counts as an object missed, however good the detector",
        other,
    )
    findings += about_boxes(
        tables,
        found["near"],
        "box-nearly-repeated",
        "warning",
        "Boxes of one class that overlap by IoU > 0.9",
        "look at the pictures: mostly two label sets merged, or one object labelled twice",
        other,
    )
    return findings + about_boxes(
        tables,
        found["classes"],
        "box-two-classes",
        "warning",
        "Boxes of two classes that overlap by IoU > 0.95",
        "decide for one class; detectors are punished for either answer",
        other,
    )


def _iou_of_pairs(a: Floats, b: Floats) -> Floats:
    """(P, 4) and (P, 4) xyxy -> (P,)."""
    sides = np.clip(np.minimum(a[:, 2:], b[:, 2:]) - np.maximum(a[:, :2], b[:, :2]), 0, None)
    inter = sides.prod(axis=1)
    union = (a[:, 2:] - a[:, :2]).prod(axis=1) + (b[:, 2:] - b[:, :2]).prod(axis=1) - inter
    return np.asarray(inter / np.maximum(union, 1e-9))


def check_ignored_objects(tables: Tables) -> list[Finding]:
    """Objects mostly inside an ignore region that holds for their class: a target and a blank at once."""
    objects, regions = np.flatnonzero(tables.objects()), np.flatnonzero(tables.sound() & tables.crowd)
    found, covered = np.zeros(len(tables.crowd), np.bool_), np.zeros(len(tables.crowd))
    boxes = tables.boxes_xyxy
    for object_rows, region_rows in _pairs_of_one_class(tables, objects, regions):
        a, b = boxes[object_rows], boxes[region_rows]
        sides = np.clip(np.minimum(a[:, 2:], b[:, 2:]) - np.maximum(a[:, :2], b[:, :2]), 0, None)
        share = sides.prod(axis=1) / (a[:, 2:] - a[:, :2]).prod(axis=1)
        for object_row, region_row in zip(object_rows[share > 0.7], region_rows[share > 0.7], strict=True):
            region = tables.annotation_records[region_row].get("segmentation")
            if region and _covered_by_mask(tables, int(object_row), region) <= 0.7:
                continue
            found[object_row] = True
        np.maximum.at(covered, object_rows, share)
    return about_boxes(
        tables,
        found,
        "object-ignored",
        "warning",
        "Objects that lie inside an ignore region of their class (more than 70 %)",
        "cut the region around them, or drop the objects: they are to be found and not to be counted at once",
        lambda row: f"{covered[row]:.0%} covered",
    )


def _pairs_of_one_class(tables: Tables, objects: Ints, regions: Ints) -> Iterator[tuple[Ints, Ints]]:
    """Chunks of (object rows, region rows) that share image and class."""
    ids, classes = np.unique(tables.category_ids, return_inverse=True)

    def key(rows: Ints) -> Ints:
        return np.asarray(tables.image_rows[rows] * len(ids) + classes[rows])

    objects = objects[np.argsort(key(objects), kind="stable")]
    keys = key(objects)
    first, last = (np.searchsorted(keys, key(regions), side) for side in ("left", "right"))
    counts = last - first
    start = 0
    for end in [*np.flatnonzero(np.diff(np.cumsum(counts) // _CHUNK)) + 1, len(regions)]:
        part = counts[start:end]
        offsets = np.arange(part.sum()) - np.repeat(np.cumsum(part) - part, part)
        yield objects[np.repeat(first[start:end], part) + offsets], np.repeat(regions[start:end], part)
        start = int(end)


def _covered_by_mask(tables: Tables, row: int, region: Any) -> float:
    """The share of a box that a region's polygons cover; 1 where they cannot be read."""
    width, height = (int(side) for side in tables.image_wh[row])
    if not _is_polygons(region) or width * height > 50_000_000:
        return 1.0
    x1, y1, x2, y2 = clip_xyxy(tuple(tables.boxes_xyxy[row]), width, height)
    part = masks.decode(region, height, width)[int(y1) : int(np.ceil(y2)), int(x1) : int(np.ceil(x2))]
    return float(part.mean()) if part.size else 1.0


def check_segmentations(tables: Tables) -> list[Finding]:
    """Segmentations that are readable, of the image's size, and inside their box."""
    with_mask = [
        row
        for row, record in enumerate(tables.annotation_records)
        if isinstance(record, dict) and record.get("segmentation")
    ]
    looked_at = with_mask[:: max(1, -(-len(with_mask) // _MASKS))]
    broken, beside = np.zeros(len(tables.crowd), np.bool_), np.zeros(len(tables.crowd), np.bool_)
    for row in looked_at:
        segmentation = tables.annotation_records[row]["segmentation"]
        if isinstance(segmentation, dict):
            broken[row] = not _is_rle(segmentation, tables.image_wh[row])
        elif not _is_polygons(segmentation):
            broken[row] = True
        else:
            beside[row] = _beside_box(segmentation, tables.boxes_xyxy[row])
    sample = "" if len(looked_at) == len(with_mask) else f" (of {len(looked_at)} looked at)"
    findings = about_boxes(
        tables,
        broken,
        "mask-unusable",
        "error",
        f"Segmentations that are no polygons and no RLE of the image's size{sample}",
        "polygons are lists of at least 6 numbers x1, y1, x2, y2, ...; an RLE's size is [height, width]",
    )
    return findings + about_boxes(
        tables,
        beside & tables.sound(),
        "mask-beside-box",
        "warning",
        f"Masks and boxes that do not agree (IoU of the mask's extent with the box below 0.8){sample}",
        "box and mask were changed apart: write the box again from the mask",
    )


def _is_polygons(segmentation: Any) -> bool:
    return isinstance(segmentation, list) and all(
        isinstance(polygon, list)
        and len(polygon) >= 6
        and len(polygon) % 2 == 0
        and all(isinstance(value, int | float) and abs(value) < 1e6 for value in polygon)
        for polygon in segmentation
    )


def _is_rle(segmentation: dict[str, Any], size_wh: Floats) -> bool:
    size = segmentation.get("size")
    if not isinstance(size, list) or len(size) != 2 or not isinstance(segmentation.get("counts"), str | list):
        return False
    return bool(np.isnan(size_wh).any()) or size == [size_wh[1], size_wh[0]]


def _beside_box(polygons: list[list[float]], box: Floats) -> bool:
    """Whether the polygons' extent and the box differ by more than 4 px and by more than IoU 0.8 allows."""
    x = np.concatenate([polygon[0::2] for polygon in polygons])
    y = np.concatenate([polygon[1::2] for polygon in polygons])
    extent = np.array([[x.min(), y.min(), x.max(), y.max()]])
    if np.abs(extent[0] - box).max(initial=0) <= 4 or np.isnan(box).any():
        return False
    return bool(_iou_of_pairs(extent, box[None])[0] < 0.8)


def check_areas(tables: Tables) -> list[Finding]:
    """`area` positive and at most the box: COCO sorts objects into small, medium and large by it."""
    objects, areas = tables.objects(), tables.areas
    box_areas = tables.boxes_xywh[:, 2:].prod(axis=1)
    with np.errstate(invalid="ignore"):
        wrong = objects & ((areas <= 0) | (areas > 1.02 * box_areas + 4))
    return about_boxes(
        tables,
        wrong,
        "area-wrong",
        "warning",
        "`area` is zero, negative or larger than the box",
        "write the mask's area, or width * height: small, medium and large AP go by it",
        lambda row: f"area {areas[row]:.6g}, box {box_areas[row]:.6g} px^2",
    )
