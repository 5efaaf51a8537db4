"""The doubtful labels of a dataset, ranked."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from drivetl.coco.boxes import area, intersection
from drivetl.coco.records import Box, Dataset, ImageRecord
from drivetl.doubt import scores
from drivetl.doubt.kinds import BADLY_LOCATED, KINDS, OVERLOOKED, SWAPPED
from drivetl.doubt.scores import NO_EVIDENCE, Boxes, Floats, Ints
from drivetl.metrics.results import Results

CONFIDENT = 0.3
"""Least confidence of a detection that is an overlooked object, or speaks against the place of a label."""
MIN_IOU, NEAR = 0.1, 0.3
"""IoU from which a detection and a label of its class may be one object, and from which they are."""
INSIDE = 0.5
"""Share of a box inside an ignore region from which nothing about it is doubted."""


@dataclass(frozen=True, slots=True)
class Doubt:
    """One label that is probably wrong, or one object that probably lacks a label."""

    kind: str
    image_id: int
    doubt: float
    """0..1: 1 - quality."""
    category_id: int
    """Class of the label; of an overlooked object, of the detection."""
    detected_id: int
    """Class of the detection."""
    confidence: float
    """Of the detection, 0..1."""
    iou: float
    """Of label and detection; of an overlooked object with the nearest label, 0 for none."""
    detection_xyxy: Box
    annotation: int | None = None
    """Position of the label in the image's annotations; None for an overlooked object."""
    label_xyxy: Box | None = None


@dataclass(frozen=True, slots=True)
class ImageScore:
    """Quality of the labels of one image, 0..1; 1: nothing is doubted."""

    image_id: int
    quality: float
    """Geometric mean of the three."""
    overlooked: float
    swapped: float
    badly_located: float


@dataclass(frozen=True)
class Found:
    """The result for a dataset."""

    doubts: list[Doubt]
    """All that are scored below 1, by falling doubt."""
    images: list[ImageScore]
    """The worst first."""
    scored: Mapping[str, int]
    """Kind -> boxes that were scored: labels, or confident detections without one."""
    skipped: Mapping[str, int]
    """Reason -> boxes that were not scored."""

    def beyond(self, thresholds: Mapping[str, float]) -> list[Doubt]:
        """The doubts that reach the threshold of their kind, by falling doubt."""
        return [doubt for doubt in self.doubts if doubt.doubt >= thresholds[doubt.kind]]


def find(dataset: Dataset, results: Results, known: Sequence[str] | None = None) -> Found:
    """Score every label of the dataset against the detections.

    results: category ids of the dataset. known: the classes that the detector has, default all; a label of another
    class is not doubted, and explains a detection in its place. Nothing is doubted in an ignore region that hides its
    class, and a detection of a class that its image does not label is left out. The result does not depend on the order
    of images, labels or detections, but for doubts of exactly equal rank, which are in the order of image ids.
    """
    names = dataset.categories
    of_detector = np.array([number for number, name in enumerate(names, 1) if known is None or name in known], np.int64)
    order = np.argsort(results.image_id, kind="stable")
    sorted_ids = results.image_id[order]
    doubts: list[Doubt] = []
    images: list[ImageScore] = []
    scored, skipped = Counter[str](), Counter[str]()
    for image in dataset.images:
        first, last = np.searchsorted(sorted_ids, [image.id, image.id + 1])
        found = detections_of(image, results, order[first:last], skipped)
        of_image, qualities = _of_image(image, found, of_detector, skipped)
        doubts += of_image
        for kind, quality in qualities.items():
            scored[kind] += int((~np.isnan(quality)).sum())
        pooled = {kind: scores.softmin(quality) for kind, quality in qualities.items()}
        images.append(ImageScore(image.id, scores.image_quality(list(qualities.values())), **pooled))
    doubts.sort(key=lambda row: (-row.doubt, row.image_id, row.kind, row.detection_xyxy, row.annotation or 0))
    images.sort(key=lambda row: (row.quality, row.image_id))
    return Found(doubts, images, {kind: scored[kind] for kind in KINDS}, dict(skipped))


def detections_of(image: ImageRecord, results: Results, rows: Ints, skipped: Counter[str]) -> Boxes:
    """The detections of an image that may be evidence, in an order that depends on their values alone."""
    boxes = results.boxes_xywh[rows].copy()
    boxes[:, 2:] += boxes[:, :2]
    classes, confidence = results.category_id[rows], results.scores[rows]
    kept = np.ones(len(rows), bool)
    if image.labelled is not None:
        kept = np.isin(classes, image.labelled)
        skipped["detections of a class that is not labelled in the image"] += int((~kept).sum())
    hidden = hidden_in(image, boxes, classes)
    skipped["detections in an ignore region"] += int((hidden & kept).sum())
    kept &= ~hidden
    order = np.lexsort((*boxes.T, classes, -confidence))
    order = order[kept[order]]
    return Boxes(boxes[order], classes[order], confidence[order])


def labels_of(image: ImageRecord) -> Boxes:
    """The labels of an image."""
    boxes = np.array([item.bbox_xywh for item in image.annotations], np.float64).reshape(-1, 4)
    boxes[:, 2:] += boxes[:, :2]
    classes = np.array([item.category_id for item in image.annotations], np.int64)
    return Boxes(boxes, classes, np.ones(len(classes)))


def hidden_in(image: ImageRecord, boxes: Floats, classes: Ints) -> npt.NDArray[np.bool_]:
    """(N,) boxes of which INSIDE or more lies in one ignore region of their class."""
    hidden = np.zeros(len(boxes), bool)
    for region in image.ignore_regions:
        x, y, w, h = region.bbox_xywh
        shared = intersection(boxes, np.array([[x, y, x + w, y + h]]))[:, 0]
        of_class = np.isin(classes, region.category_ids) if region.category_ids else True
        hidden |= (shared >= INSIDE * np.maximum(area(boxes), 1e-9)) & of_class
    return hidden


def _of_image(
    image: ImageRecord, detections: Boxes, of_detector: Ints, skipped: Counter[str]
) -> tuple[list[Doubt], dict[str, Floats]]:
    """The doubts of an image, and kind -> the quality of its labels (for overlooked: of its detections)."""
    labels = labels_of(image)
    hidden = hidden_in(image, labels.xyxy, labels.classes)
    unknown = ~np.isin(labels.classes, of_detector)
    skipped["labels in an ignore region"] += int(hidden.sum())
    skipped["labels of a class that the detector lacks"] += int((unknown & ~hidden).sum())
    own = scores.assign(labels, detections, MIN_IOU)
    of_kind = {
        OVERLOOKED: scores.overlooked(labels, detections, own, CONFIDENT),
        SWAPPED: scores.swapped(labels, detections),
        BADLY_LOCATED: scores.badly_located(labels, detections, own, CONFIDENT, NEAR),
    }
    for kind in (SWAPPED, BADLY_LOCATED):
        of_kind[kind].quality[hidden | unknown] = np.nan
    overlap = scores.iou(labels.xyxy, detections.xyxy)
    doubts = [
        _doubt(kind, image, labels, detections, overlap, int(row), of_kind[kind])
        for kind in KINDS
        for row in np.flatnonzero(of_kind[kind].quality < 1)
    ]
    return doubts, {kind: item.quality for kind, item in of_kind.items()}


def _doubt(
    kind: str, image: ImageRecord, labels: Boxes, detections: Boxes, overlap: Floats, row: int, found: scores.Scores
) -> Doubt:
    label, detection = (int(found.evidence[row]), row) if kind == OVERLOOKED else (row, int(found.evidence[row]))
    shared = float(overlap[label, detection]) if label != NO_EVIDENCE else 0.0
    detected = int(detections.classes[detection])
    of_label = kind != OVERLOOKED
    return Doubt(
        kind,
        image.id,
        float(1 - found.quality[row]),
        int(labels.classes[label]) if of_label else detected,
        detected,
        float(detections.confidence[detection]),
        shared,
        _box(detections.xyxy[detection]),
        label if of_label else None,
        _box(labels.xyxy[label]) if of_label else None,
    )


def _box(row: Floats) -> Box:
    x1, y1, x2, y2 = map(float, row)
    return x1, y1, x2, y2


def counts(doubts: Iterable[Doubt]) -> Counter[str]:
    """Kind -> doubts."""
    return Counter(doubt.kind for doubt in doubts)
