"""What `drivetl doubt` writes besides its page: tables, the images to review, and a copy with ignore regions."""

from __future__ import annotations

import csv
import io
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import orjson

from drivetl.coco.records import Annotation, Box, Dataset, IgnoreRegion
from drivetl.doubt.find import Doubt, Found, counts
from drivetl.doubt.kinds import BADLY_LOCATED, KINDS
from drivetl.metrics.results import Results

SCHEMA = "drivetl.doubt/1"
COLUMNS = (
    *("rank", "doubt", "kind", "class", "detected", "confidence", "iou", "image_id", "file_name", "annotation"),
    *("label_x", "label_y", "label_w", "label_h", "detected_x", "detected_y", "detected_w", "detected_h"),
)


def table(dataset: Dataset, doubts: Sequence[Doubt]) -> str:
    """doubt.csv: one line per doubt, the most doubtful first; boxes are xywh px. `annotation` is the position of the
    label among those of its image, from 0; it and the label's box are empty for an overlooked object."""
    names = {image.id: image.file_name for image in dataset.images}
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(COLUMNS)
    for rank, row in enumerate(doubts, 1):
        classes = [dataset.categories[number - 1] for number in (row.category_id, row.detected_id)]
        values = [f"{row.confidence:.3f}", f"{row.iou:.3f}", row.image_id, names[row.image_id]]
        label = [""] * 4 if row.label_xyxy is None else [f"{value:.1f}" for value in _xywh(row.label_xyxy)]
        place = "" if row.annotation is None else row.annotation
        box = [f"{value:.1f}" for value in _xywh(row.detection_xyxy)]
        writer.writerow([rank, f"{row.doubt:.3f}", row.kind, *classes, *values, place, *label, *box])
    return buffer.getvalue()


def document(
    dataset: Dataset, found: Found, thresholds: Mapping[str, float], detections: Mapping[str, Any]
) -> dict[str, Any]:
    """doubt.json: thresholds, counts, every doubt beyond its threshold, and the quality of every image, worst first.

    detections: where they are from.
    """
    doubts, names = found.beyond(thresholds), {image.id: image.file_name for image in dataset.images}
    of_kind, of_class = counts(doubts), defaultdict[str, dict[str, int]](lambda: dict.fromkeys(KINDS, 0))
    for row in doubts:
        of_class[dataset.categories[row.category_id - 1]][row.kind] += 1
    return {
        "schema": SCHEMA,
        "dataset": str(dataset.file),
        "detections": dict(detections),
        "thresholds": dict(thresholds),
        "images": len(dataset.images),
        "labels": sum(len(image.annotations) for image in dataset.images),
        "scored": dict(found.scored),
        "not_scored": dict(found.skipped),
        "counts": {kind: of_kind[kind] for kind in KINDS},
        "classes": {name: of_class[name] for name in dataset.categories if name in of_class},
        "doubts": [
            {
                "rank": rank,
                "kind": row.kind,
                "doubt": row.doubt,
                "class": dataset.categories[row.category_id - 1],
                "detected": dataset.categories[row.detected_id - 1],
                "confidence": row.confidence,
                "iou": row.iou,
                "image_id": row.image_id,
                "file_name": names[row.image_id],
                "annotation": row.annotation,
                "label_bbox": None if row.label_xyxy is None else _xywh(row.label_xyxy),
                "detection_bbox": _xywh(row.detection_xyxy),
            }
            for rank, row in enumerate(doubts, 1)
        ],
        "image_quality": [
            {"file_name": names[row.image_id], "image_id": row.image_id, "quality": row.quality}
            | {kind: getattr(row, kind) for kind in KINDS}
            for row in found.images
        ],
    }


def coco_results(results: Results) -> bytes:
    """A COCO results list: one record per detection."""
    rows = [
        {"image_id": image, "category_id": category, "bbox": box, "score": score}
        for image, category, box, score in zip(
            results.image_id.tolist(),
            results.category_id.tolist(),
            results.boxes_xywh.round(2).tolist(),
            results.scores.round(5).tolist(),
            strict=True,
        )
    ]
    return orjson.dumps(rows, option=orjson.OPT_APPEND_NEWLINE)


def to_review(dataset: Dataset, doubts: Sequence[Doubt]) -> Dataset:
    """The images with doubts, for a labelling tool. A doubtful label has the attribute `doubt`: `swapped 0.83: truck`;
    an overlooked object is added with its class and `doubt`, and with the detector's `score`."""
    of_image = _by_image(doubts)
    images = []
    for image in dataset.images:
        if image.id not in of_image:
            continue
        notes = defaultdict[int, list[str]](list)
        added = []
        for row in of_image[image.id]:
            text = f"{row.kind.replace('_', ' ')} {row.doubt:.2f}"
            if row.annotation is None:
                attributes = {"doubt": text, "score": round(row.confidence, 4)}
                x, y, w, h = _xywh(row.detection_xyxy)
                added.append(Annotation(row.category_id, (x, y, w, h), w * h, None, attributes))
            else:
                detected = "" if row.kind == BADLY_LOCATED else f": {dataset.categories[row.detected_id - 1]}"
                notes[row.annotation].append(text + detected)
        labels = [
            replace(item, attributes=item.attributes | {"doubt": ", ".join(notes[place])}) if place in notes else item
            for place, item in enumerate(image.annotations)
        ]
        images.append(replace(image, annotations=labels + added))
    return dataset.subset(images)


def as_ignore(dataset: Dataset, doubts: Sequence[Doubt]) -> Dataset:
    """A copy in which nothing that is doubted counts: neither as object nor as background.

    A doubtful label becomes an ignore region of the box around it and its detection, an overlooked object one of its
    detection's box. A region hides the class of the label and that of the detection, and no other.
    """
    of_image = _by_image(doubts)
    images = []
    for image in dataset.images:
        rows = of_image.get(image.id, [])
        gone = {row.annotation for row in rows}
        regions = [_region(row, image.width, image.height, len(dataset.categories)) for row in rows]
        labels = [item for place, item in enumerate(image.annotations) if place not in gone]
        images.append(replace(image, annotations=labels, ignore_regions=[*image.ignore_regions, *regions]))
    return dataset.subset(images)


def _region(row: Doubt, width: int, height: int, n_classes: int) -> IgnoreRegion:
    boxes = [row.detection_xyxy] + ([] if row.label_xyxy is None else [row.label_xyxy])
    left, top, right, bottom = zip(*boxes, strict=True)
    x1, y1 = max(0.0, min(left)), max(0.0, min(top))
    x2, y2 = max(x1, min(float(width), max(right))), max(y1, min(float(height), max(bottom)))
    hidden = tuple(sorted({row.category_id, row.detected_id}))
    attributes = {"doubt": row.kind, "doubt_score": round(row.doubt, 4)}
    area = (x2 - x1) * (y2 - y1)
    return IgnoreRegion((x1, y1, x2 - x1, y2 - y1), area, () if len(hidden) == n_classes else hidden, None, attributes)


def _by_image(doubts: Sequence[Doubt]) -> dict[int, list[Doubt]]:
    of_image: dict[int, list[Doubt]] = {}
    for row in doubts:
        of_image.setdefault(row.image_id, []).append(row)
    return of_image


def _xywh(box: Box) -> Box:
    x1, y1, x2, y2 = (round(value, 2) for value in box)
    return x1, y1, round(x2 - x1, 2), round(y2 - y1, 2)
