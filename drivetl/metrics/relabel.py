"""Detections under the classes of other data."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Mapping, Sequence

import numpy as np

from drivetl.metrics.results import Results
from drivetl.metrics.truth import Bools, Floats, Ints

MERGE_IOU = 0.5
"""torchvision's NMS threshold."""


def relabelled(results: Results, to: Mapping[int, int]) -> Results:
    """Detections under other category ids, in their order; those of classes that are not in `to` are left out.

    Where several classes become one, a box that overlaps a higher-scored one of another of them (IoU above 0.5) is left
    out, so that an object does not count twice.
    """
    kept = results.where(np.isin(results.category_id, list(to)))
    ids, places = np.unique(kept.category_id, return_inverse=True)
    labels = np.array([to[int(label)] for label in ids], np.int64)[places]
    several = [label for label, count in Counter(to.values()).items() if count > 1]
    relabelled = dataclasses.replace(kept, category_id=labels)
    return relabelled.where(~_repeated(kept, labels, np.isin(labels, several))) if several else relabelled


def by_name(results: Results, theirs: Sequence[str], ours: Sequence[str]) -> Results:
    """Detections under the category ids of other data, whose classes have the same names; those of classes without
    one are left out."""
    return relabelled(results, {number: ours.index(name) + 1 for number, name in enumerate(theirs, 1) if name in ours})


def _repeated(results: Results, labels: Ints, merged: Bools) -> Bools:
    """(N,) which of the merged detections repeat a better one of another class, image by image."""
    repeated = np.zeros(len(results), bool)
    rows = np.flatnonzero(merged)
    order = rows[np.lexsort((-results.scores[rows], labels[rows], results.image_id[rows]))]
    keys = np.column_stack([results.image_id[order], labels[order]])
    starts = np.flatnonzero(np.any(np.diff(keys, axis=0, prepend=keys[:1] - 1), axis=1))
    for group in np.split(order, starts[1:]):
        for position, row in enumerate(group):
            better = group[:position]
            other = better[~repeated[better] & (results.category_id[better] != results.category_id[row])]
            repeated[row] = bool((_iou(results.boxes_xywh[row], results.boxes_xywh[other]) > MERGE_IOU).any())
    return repeated


def _iou(box: Floats, boxes: Floats) -> Floats:
    """(N,) IoU of an xywh box (4,) with boxes (N, 4)."""
    low = np.maximum(box[:2], boxes[:, :2])
    high = np.minimum(box[:2] + box[2:], boxes[:, :2] + boxes[:, 2:])
    inside = np.clip(high - low, 0, None).prod(axis=1)
    union = box[2:].prod() + boxes[:, 2:].prod(axis=1) - inside
    ratio: Floats = np.divide(inside, union, out=np.zeros(len(boxes)), where=union > 0)
    return ratio
