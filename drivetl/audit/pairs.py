"""Checks of boxes against each other: duplicates, and objects inside ignore regions."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from drivetl.audit.findings import Finding, about_boxes
from drivetl.audit.masks import covered_by_mask, iou_of_pairs
from drivetl.audit.tables import Ints, Tables

_NEIGHBOURS = 64
"""Each box is compared with this many next boxes, sorted by left edge: duplicates have almost the same left edge."""
_CHUNK = 2_000_000


def check_duplicates(tables: Tables) -> list[Finding]:
    """Duplicate boxes of one object: (nearly) identical boxes of the same class or of two classes."""
    rows = np.flatnonzero(tables.objects())
    rows = rows[np.lexsort((tables.boxes_xywh[rows, 0], tables.image_rows[rows]))]
    boxes, image_rows = tables.boxes_xyxy[rows], tables.image_rows[rows]
    classes = tables.category_ids[rows]
    duplicates = {name: np.zeros(len(tables.crowd), np.bool_) for name in ("exact", "near", "classes")}
    originals = np.full(len(tables.crowd), -1)
    start = np.arange(len(rows))
    for step in range(1, _NEIGHBOURS + 1):
        start = start[start + step < len(rows)]
        follower = start + step
        # IoU >= 0.9 needs left edges within a tenth of the width. Boxes are sorted by left edge, so a box that is too
        # far from one follower is too far from all later ones.
        near = (boxes[follower, 0] - boxes[start, 0]) <= 0.1 * (boxes[start, 2] - boxes[start, 0])
        start = start[near & (image_rows[start] == image_rows[follower])]
        if not len(start):
            break
        follower = start + step
        overlap = iou_of_pairs(boxes[start], boxes[follower])
        same = classes[start] == classes[follower]
        for name, matching in (
            ("exact", same & (overlap > 0.999)),
            ("near", same & (overlap > 0.9) & (overlap <= 0.999)),
            ("classes", ~same & (overlap > 0.95)),
        ):
            duplicates[name][rows[follower[matching]]] = True
            originals[rows[follower[matching]]] = rows[start[matching]]
    duplicates["near"] &= ~duplicates["exact"]

    def original(row: int) -> str:
        number = originals[row]
        return f"overlaps annotation {tables.annotation_ids[number]!r} ({tables.name(tables.category_ids[number])})"

    findings = about_boxes(
        tables,
        duplicates["exact"],
        "box-repeated",
        "error",
        "Duplicate boxes (same box and class)",
        "remove the copies: each counts as a false negative, even for a perfect detector",
        original,
    )
    findings += about_boxes(
        tables,
        duplicates["near"],
        "box-nearly-repeated",
        "warning",
        "Overlapping boxes of the same class (IoU > 0.9)",
        "check the example images: usually merged label sets or an object that is labelled twice",
        original,
    )
    return findings + about_boxes(
        tables,
        duplicates["classes"],
        "box-two-classes",
        "warning",
        "Overlapping boxes of two classes (IoU > 0.95)",
        "keep one class: with both, either prediction counts as an error",
        original,
    )


def check_ignored_objects(tables: Tables) -> list[Finding]:
    """Objects mostly inside an ignore region of their own class."""
    objects, regions = np.flatnonzero(tables.objects()), np.flatnonzero(tables.valid() & tables.crowd)
    ignored, covered = np.zeros(len(tables.crowd), np.bool_), np.zeros(len(tables.crowd))
    boxes = tables.boxes_xyxy
    for object_rows, region_rows in _pairs_of_same_class(tables, objects, regions):
        a, b = boxes[object_rows], boxes[region_rows]
        sides = np.clip(np.minimum(a[:, 2:], b[:, 2:]) - np.maximum(a[:, :2], b[:, :2]), 0, None)
        share = sides.prod(axis=1) / (a[:, 2:] - a[:, :2]).prod(axis=1)
        for object_row, region_row in zip(object_rows[share > 0.7], region_rows[share > 0.7], strict=True):
            region = tables.annotation_records[region_row].get("segmentation")
            if region and covered_by_mask(tables, int(object_row), region) <= 0.7:
                continue
            ignored[object_row] = True
        np.maximum.at(covered, object_rows, share)
    return about_boxes(
        tables,
        ignored,
        "object-ignored",
        "warning",
        "Objects inside an ignore region of their class (more than 70 % of the box)",
        "exclude them from the region, or remove the objects: they cannot be both a target and ignored",
        lambda row: f"{covered[row]:.0%} covered",
    )


def _pairs_of_same_class(tables: Tables, objects: Ints, regions: Ints) -> Iterator[tuple[Ints, Ints]]:
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


def check_areas(tables: Tables) -> list[Finding]:
    """`area` must be positive and at most the box area: COCO uses it to assign small, medium and large."""
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
        "write the mask area, or width * height: AP for small, medium and large objects depends on it",
        lambda row: f"area {areas[row]:.6g}, box {box_areas[row]:.6g} px^2",
    )
