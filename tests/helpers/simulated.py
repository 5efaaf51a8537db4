"""Small simulated drives and detectors whose true performance is known, for the laws of the statistics."""

import numpy as np

from drivetl.coco.drives import Drives
from drivetl.metrics.results import Results
from drivetl.metrics.truth import GroundTruth

IMAGES_PER_DRIVE = 2


def drives(n_drives, objects_per_image=4):
    """Images of `n_drives` drives, each with the same boxes far from one another."""
    n_images = n_drives * IMAGES_PER_DRIVE
    n_objects = n_images * objects_per_image
    boxes = np.tile([0.0, 0.0, 50.0, 50.0], (n_objects, 1))
    boxes[:, 0] = np.tile(np.arange(objects_per_image) * 60.0, n_images)
    return GroundTruth(
        categories=("car",),
        category_ids=np.array([1]),
        image_ids=np.arange(1, n_images + 1),
        image_hw=np.full((n_images, 2), 375),
        drives=Drives(tuple(f"drive {i // IMAGES_PER_DRIVE}" for i in range(n_images))),
        image_attributes=[{}] * n_images,
        image=np.repeat(np.arange(n_images), objects_per_image),
        category=np.zeros(n_objects, np.int64),
        boxes_xywh=boxes,
        area=np.full(n_objects, 2500.0),
        crowd=np.zeros(n_objects, bool),
        attributes=[{}] * n_objects,
        segmentations=[None] * n_objects,
    )


def detect(truth, rng, skill=0.6, difficulty=None):
    """Detections of a simulated detector: more of them in easier drives; its false positives score lower."""
    n_images = len(truth.image_ids)
    if difficulty is None:
        difficulty = rng.normal(0, 0.8, n_images // IMAGES_PER_DRIVE)
    evidence = skill + difficulty[truth.image // IMAGES_PER_DRIVE] + rng.normal(0, 1, len(truth.image))
    detected = evidence > 0
    scores = 1 / (1 + np.exp(-(evidence[detected] + rng.normal(0, 0.5, detected.sum()))))
    ghosts = np.repeat(np.arange(n_images), rng.poisson(1.0, n_images))
    image = np.concatenate([truth.image[detected], ghosts])
    boxes = np.vstack([truth.boxes_xywh[detected], np.tile([400.0, 300, 20, 20], (len(ghosts), 1))])
    scores = np.concatenate([scores, rng.beta(1.5, 3, len(ghosts))])
    return Results.of(truth.image_ids[image], np.ones(len(image)), boxes, scores)
