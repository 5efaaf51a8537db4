"""Images of two cars each, and detectors that find as many of them as a test says."""

from pathlib import Path

import numpy as np

from drivetl.coco.records import Annotation, Dataset, ImageRecord
from drivetl.metrics.results import Results


def world(n_drives, per_drive=4):
    """Images with two cars each."""
    images = []
    for number in range(1, n_drives * per_drive + 1):
        record = ImageRecord(number, f"{number}.png", 100, 100, f"drive {(number - 1) // per_drive}", number, {})
        record.annotations = [Annotation(1, (x, 10.0, 20.0, 20.0), 400.0) for x in (5.0, 60.0)]
        images.append(record)
    return Dataset(("car",), images, Path())


def detections(dataset, n_detected):
    """`n_detected(image id)` of the two cars of each image, with exact boxes."""
    detected = [
        (image.id, item.bbox_xywh) for image in dataset.images for item in image.annotations[: n_detected(image.id)]
    ]
    ids, boxes = zip(*detected, strict=True)
    return Results.of(ids, np.ones(len(ids)), boxes, np.full(len(ids), 0.9))
