"""Checks of boxes against each other: labelled twice, or labelled and ignored at once."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from drivetl.audit.findings import Finding, about_boxes
from drivetl.audit.masks import covered_by_mask, iou_of_pairs
from drivetl.audit.tables import Ints, Tables

_NEIGHBOURS = 64
"""How many followers (by left edge, in one image) a box is compared with: pairs of the same object are neighbours."""
_CHUNK = 2_000_000


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
        overlap = iou_of_pairs(boxes[start], boxes[follower])
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
            if region and covered_by_mask(tables, int(object_row), region) <= 0.7:
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
