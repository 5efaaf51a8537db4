"""What would explain an AP of exactly zero: other class ids, another box format, or another scale."""

from __future__ import annotations

import numpy as np

from drivetl.metrics.results import Results
from drivetl.metrics.truth import Floats, GroundTruth, Ints

MAX_DETECTIONS = 300
MIN_SHARE = 0.3


def explain_zero(truth: GroundTruth, results: Results) -> str:
    """The most likely cause with its evidence, in one sentence; "" where nothing explains it.

    The 300 highest scores are compared with the objects of their image, whatever their class, at IoU 0.5.
    """
    rows = np.argsort(-results.scores, kind="stable")[:MAX_DETECTIONS]
    image_index = {int(image_id): index for index, image_id in enumerate(truth.image_ids)}
    images = np.array([image_index.get(int(image_id), -1) for image_id in results.image_id[rows]], np.int64)
    boxes = results.boxes_xywh[rows][images >= 0]
    images = images[images >= 0]
    if len(images) < 5:
        return ""
    height_width = truth.image_hw[images].astype(np.float64)
    readings = {
        "the class ids differ from the ground truth's": boxes,
        "the boxes are x1, y1, x2, y2 instead of x, y, width, height": np.hstack(
            [boxes[:, :2], boxes[:, 2:] - boxes[:, :2]]
        ),
        "the boxes are centre x, centre y, width, height": np.hstack([boxes[:, :2] - boxes[:, 2:] / 2, boxes[:, 2:]]),
        "the boxes are fractions of the image size": boxes * height_width[:, [1, 0, 1, 0]],
    }
    shares = {cause: _share_matched(read, images, truth) for cause, read in readings.items()}
    cause = max(shares, key=lambda name: shares[name])
    if shares[cause] < MIN_SHARE:
        return ""
    return f"{cause}: read so, {shares[cause]:.0%} of the {len(images)} highest scores match an object at IoU 0.5"


def _share_matched(boxes: Floats, images: Ints, truth: GroundTruth) -> float:
    """The share of (N, 4) xywh boxes with IoU of at least 0.5 with an object of any class in their image."""
    matched = 0
    for box, image in zip(boxes, images, strict=True):
        objects = truth.boxes_xywh[(truth.image == image) & ~truth.crowd]
        low = np.maximum(objects[:, :2], box[:2])
        high = np.minimum(objects[:, :2] + objects[:, 2:], box[:2] + box[2:])
        inside = np.clip(high - low, 0, None).prod(axis=1)
        union = objects[:, 2:].prod(axis=1) + max(box[2], 0) * max(box[3], 0) - inside
        matched += bool((inside >= 0.5 * np.maximum(union, 1e-9)).any())
    return matched / len(boxes)
