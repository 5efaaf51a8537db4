"""Checks of segmentations: readable, of the image's size, in agreement with their boxes."""

from __future__ import annotations

from typing import Any

import numpy as np
from pycocotools import mask as rle_tools

from drivetl.audit.findings import Finding, about_boxes
from drivetl.audit.tables import Floats, Tables
from drivetl.coco import masks
from drivetl.coco.boxes import clip_xyxy
from drivetl.coco.masks import Mask

_MASKS = 20_000
"""Masks looked at, evenly spread; more would take minutes."""


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
        if is_polygons(segmentation) or is_rle(segmentation, tables.image_wh[row]):
            beside[row] = _beside_box(_extent(segmentation), tables.boxes_xyxy[row])
        else:
            broken[row] = True
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


def decoded(segmentation: Any, width: int, height: int) -> Mask | None:
    """(height, width) mask of 0 and 1; None when the segmentation is not usable or the image too large for it."""
    if width * height > 50_000_000:
        return None
    if is_polygons(segmentation) or is_rle(segmentation, np.array([width, height])):
        return masks.decode(segmentation, height, width)
    return None


def covered_by_mask(tables: Tables, row: int, region: Any) -> float:
    """The share of a box that a region's mask covers; 1 where it cannot be read."""
    width, height = (int(side) for side in tables.image_wh[row])
    mask = decoded(region, width, height)
    if mask is None:
        return 1.0
    x1, y1, x2, y2 = clip_xyxy(tuple(tables.boxes_xyxy[row]), width, height)
    part = mask[int(y1) : int(np.ceil(y2)), int(x1) : int(np.ceil(x2))]
    return float(part.mean()) if part.size else 1.0


def is_polygons(segmentation: Any) -> bool:
    """Whether it is a list of polygons of at least three points."""
    return isinstance(segmentation, list) and all(
        isinstance(polygon, list)
        and len(polygon) >= 6
        and len(polygon) % 2 == 0
        and all(isinstance(value, int | float) and abs(value) < 1e6 for value in polygon)
        for polygon in segmentation
    )


def is_rle(segmentation: Any, size_wh: Floats) -> bool:
    """Whether it is an RLE of an image of this size, its runs filling it; an unknown size (NaN) is believed.

    pycocotools reads an RLE that is too short without complaint, and fills the rest with what was in memory.
    """
    if not isinstance(segmentation, dict) or not isinstance(segmentation.get("size"), list):
        return False
    size, counts = segmentation["size"], segmentation.get("counts")
    if len(size) != 2 or not all(isinstance(side, int) and 0 < side < 1e6 for side in size):
        return False
    runs = counts if isinstance(counts, list) else _runs(counts) if isinstance(counts, str) else None
    if runs is None or not all(isinstance(run, int) and run >= 0 for run in runs):
        return False
    return sum(runs) == size[0] * size[1] and (bool(np.isnan(size_wh).any()) or size == [size_wh[1], size_wh[0]])


def _runs(counts: str) -> list[int] | None:
    """The run lengths in a compressed RLE, five bits a letter (rleFrString of cocodataset/cocoapi maskApi.c)."""
    runs: list[int] = []
    value, shift = 0, 0
    for letter in counts.encode():
        bits = letter - 48
        if not 0 <= bits < 64:
            return None
        value |= (bits & 31) << shift
        shift += 5
        if bits & 32:
            continue
        if bits & 16:
            value -= 1 << shift
        runs.append(value + runs[-2] if len(runs) > 2 else value)
        value, shift = 0, 0
    return runs if shift == 0 else None


def _extent(segmentation: Any) -> Floats:
    """(4,) xyxy px around polygons or an RLE."""
    if isinstance(segmentation, dict):
        x, y, w, h = rle_tools.toBbox(masks.to_rle(segmentation, *segmentation["size"]))
        return np.array([x, y, x + w, y + h])
    xs = np.concatenate([polygon[0::2] for polygon in segmentation])
    ys = np.concatenate([polygon[1::2] for polygon in segmentation])
    return np.array([xs.min(), ys.min(), xs.max(), ys.max()])


def _beside_box(extent: Floats, box: Floats) -> bool:
    """Whether a mask's extent and its box differ by more than 4 px and by more than IoU 0.8 allows."""
    if np.isnan(box).any() or np.abs(extent - box).max(initial=0) <= 4:
        return False
    return bool(iou_of_pairs(extent[None], box[None])[0] < 0.8)


def iou_of_pairs(a: Floats, b: Floats) -> Floats:
    """(P, 4) and (P, 4) xyxy -> (P,)."""
    sides = np.clip(np.minimum(a[:, 2:], b[:, 2:]) - np.maximum(a[:, :2], b[:, :2]), 0, None)
    inter = sides.prod(axis=1)
    union = (a[:, 2:] - a[:, :2]).prod(axis=1) + (b[:, 2:] - b[:, :2]).prod(axis=1) - inter
    return np.asarray(inter / np.maximum(union, 1e-9))
