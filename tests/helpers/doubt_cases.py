"""A street of known labels, the detections of a perfect detector, and faults planted one at a time."""

from dataclasses import replace
from pathlib import Path

import numpy as np

from drivetl.coco.records import Annotation, Dataset, ImageRecord
from drivetl.metrics.results import Results

CLASSES = ("car", "person", "truck")


def street(n_images=4, seed=0, root=Path()):
    """Images of 400 x 200 px with four objects each, far apart; image 2 is empty; two images per drive."""
    rng = np.random.default_rng(seed)
    images = []
    for number in range(1, n_images + 1):
        objects = []
        for column in range(0 if number == 2 else 4):
            w, h = (float(side) for side in rng.integers(30, 70, 2))
            x, y = float(column * 100 + rng.integers(5, 25)), float(rng.integers(10, 120))
            objects.append(Annotation(int(rng.integers(1, 4)), (x, y, w, h), w * h))
        drive = f"drive {(number + 1) // 2}"
        images.append(ImageRecord(number, f"{number:03d}.png", 400, 200, drive, number, annotations=objects))
    return Dataset(CLASSES, images, root, {"source": "test"})


def perfect(dataset, confidence=0.9):
    """One detection per label, of its class and box."""
    rows = [(image.id, item) for image in dataset.images for item in image.annotations]
    boxes = np.array([item.bbox_xywh for _, item in rows]).reshape(-1, 4)
    ids, classes = [number for number, _ in rows], [item.category_id for _, item in rows]
    return Results.of(ids, classes, boxes, [confidence] * len(rows))


def with_labels(dataset, image_id, change):
    """The dataset with the annotations of one image changed: a list -> a list."""
    return dataset.subset(
        [
            replace(image, annotations=change(list(image.annotations))) if image.id == image_id else image
            for image in dataset.images
        ]
    )


def removed(items):
    """Without the second label."""
    return items[:1] + items[2:]


def swapped(items):
    """The second label with the next class."""
    return [*items[:1], replace(items[1], category_id=items[1].category_id % len(CLASSES) + 1), *items[2:]]


def shifted(items):
    """The second label shifted to the right and down by 30 % of its size."""
    x, y, w, h = items[1].bbox_xywh
    return [*items[:1], replace(items[1], bbox_xywh=(x + 0.3 * w, y + 0.3 * h, w, h)), *items[2:]]


FAULTS = {"overlooked": removed, "swapped": swapped, "badly_located": shifted}
"""Kind -> what makes it, from the labels of an image."""
