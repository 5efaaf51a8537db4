"""Checks of segmentations: valid polygons or RLE, of the image's size, consistent with their boxes."""

from __future__ import annotations

from typing import Any

import numpy as np
from pycocotools import mask as rle_tools

from drivetl.audit.findings import Finding, about_boxes
from drivetl.audit.tables import Floats, Tables
from drivetl.coco import masks
from drivetl.coco.boxes import clip_xyxy
from drivetl.coco.masks import Mask

_MAX_MASKS = 20_000
"""Segmentations checked at most, evenly spaced; more would take minutes."""


def check_segmentations(tables: Tables) -> list[Finding]:
    """Invalid segmentations, and segmentations that do not match their box."""
    with_mask = [
        row
        for row, record in enumerate(tables.annotation_records)
        if isinstance(record, dict) and record.get("segmentation")
    ]
    checked = with_mask[:: max(1, -(-len(with_mask) // _MAX_MASKS))]
    invalid, mismatched = np.zeros(len(tables.crowd), np.bool_), np.zeros(len(tables.crowd), np.bool_)
    for row in checked:
        segmentation = tables.annotation_records[row]["segmentation"]
        if is_polygons(segmentation) or is_rle(segmentation, tables.image_wh[row]):
            mismatched[row] = _differs_from_box(_extent(segmentation), tables.boxes_xyxy[row])
        else:
            invalid[row] = True
    sample = "" if len(checked) == len(with_mask) else f" (in a sample of {len(checked)})"
    findings = about_boxes(
        tables,
        invalid,
        "mask-unusable",
        "error",
        f"Segmentations that are neither polygons nor an RLE of the image's size{sample}",
        "polygons are lists of at least 6 numbers x1, y1, x2, y2, ...; an RLE's size is [height, width]",
    )
    return findings + about_boxes(
        tables,
        mismatched & tables.valid(),
        "mask-beside-box",
        "warning",
        f"Masks that do not match their box (IoU of the mask's bounding box with the box below 0.8){sample}",
        "box and mask were edited separately: recompute the box from the mask",
    )


def decoded(segmentation: Any, width: int, height: int) -> Mask | None:
    """(height, width) mask of 0 and 1; None if the segmentation is invalid or the image has over 50 megapixels."""
    if width * height > 50_000_000:
        return None
    if is_polygons(segmentation) or is_rle(segmentation, np.array([width, height])):
        return masks.decode(segmentation, height, width)
    return None


def covered_by_mask(tables: Tables, row: int, region: Any) -> float:
    """The fraction of a box that a region's mask covers; 1 if the mask cannot be decoded."""
    width, height = (int(side) for side in tables.image_wh[row])
    mask = decoded(region, width, height)
    if mask is None:
        return 1.0
    x1, y1, x2, y2 = clip_xyxy(tuple(tables.boxes_xyxy[row]), width, height)
    part = mask[int(y1) : int(np.ceil(y2)), int(x1) : int(np.ceil(x2))]
    return float(part.mean()) if part.size else 1.0


def is_polygons(segmentation: Any) -> bool:
    """Whether the segmentation is a list of polygons, each of at least three points."""
    return isinstance(segmentation, list) and all(
        isinstance(polygon, list)
        and len(polygon) >= 6
        and len(polygon) % 2 == 0
        and all(isinstance(value, int | float) and abs(value) < 1e6 for value in polygon)
        for polygon in segmentation
    )


def is_rle(segmentation: Any, size_wh: Floats) -> bool:
    """Whether the segmentation is a complete RLE of an image of this size; with an unknown size (NaN), of its own size.

    pycocotools decodes an RLE that is too short without an error: the rest of the mask is uninitialised memory.
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
    """The run lengths of a compressed RLE, five bits per character (rleFrString of cocodataset/cocoapi maskApi.c)."""
    runs: list[int] = []
    value, shift = 0, 0
    for character in counts.encode():
        bits = character - 48
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
    """(4,) xyxy px bounding box of polygons or an RLE."""
    if isinstance(segmentation, dict):
        x, y, w, h = rle_tools.toBbox(masks.to_rle(segmentation, *segmentation["size"]))
        return np.array([x, y, x + w, y + h])
    xs = np.concatenate([polygon[0::2] for polygon in segmentation])
    ys = np.concatenate([polygon[1::2] for polygon in segmentation])
    return np.array([xs.min(), ys.min(), xs.max(), ys.max()])


def _differs_from_box(extent: Floats, box: Floats) -> bool:
    """Whether a mask's bounding box differs from the box by more than 4 px and their IoU is below 0.8."""
    if np.isnan(box).any() or np.abs(extent - box).max(initial=0) <= 4:
        return False
    return bool(iou_of_pairs(extent[None], box[None])[0] < 0.8)


def iou_of_pairs(a: Floats, b: Floats) -> Floats:
    """IoU of each pair: (P, 4) and (P, 4) xyxy -> (P,)."""
    sides = np.clip(np.minimum(a[:, 2:], b[:, 2:]) - np.maximum(a[:, :2], b[:, :2]), 0, None)
    inter = sides.prod(axis=1)
    union = (a[:, 2:] - a[:, :2]).prod(axis=1) + (b[:, 2:] - b[:, :2]).prod(axis=1) - inter
    return np.asarray(inter / np.maximum(union, 1e-9))
