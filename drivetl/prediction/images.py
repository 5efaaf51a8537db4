"""Detections in the images of a dataset, and their tracks."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import PurePosixPath

import numpy as np
import numpy.typing as npt
import torch

from drivetl.coco.detections import Detections
from drivetl.coco.folders import OnError
from drivetl.coco.records import Dataset, ImageRecord
from drivetl.coco.tracks import NO_TRACKS, associate
from drivetl.conditions import CLEAN
from drivetl.robustness.sweep import SupportsInfer, Task, variant_loader


def predict(
    detector: SupportsInfer,
    dataset: Dataset,
    *,
    score: npt.ArrayLike = 0.0,
    batch_size: int = 8,
    workers: int = 0,
    on_error: OnError | None = None,
) -> Iterator[tuple[ImageRecord, Detections]]:
    """Detections that score at least `score`, image by image, not in the order of the dataset.

    score: one number, or (K,) one per class. Raises DataError for an image that cannot be read; with `on_error` the
    image is left out instead.
    """
    tasks = [Task(index, record, (CLEAN,)) for index, record in enumerate(dataset.images)]
    loader = variant_loader(tasks, dataset.images_root, batch_size, workers, report_unreadable=on_error is not None)
    for batch in loader:
        if on_error is not None:
            for index, reason in batch.unreadable:
                on_error(dataset.images[index].file_name, reason)
        if not batch.items:
            continue
        outputs = detector.infer([torch.from_numpy(pixels) for pixels in batch.pixels])
        for (index, _), detections in zip(batch.items, outputs, strict=True):
            yield dataset.images[index], with_min_score(detections, score)


def with_min_score(detections: Detections, score: npt.ArrayLike) -> Detections:
    """The detections that score at least `score`: one number, or (K,) one per class."""
    least = np.asarray(score, np.float64)
    kept = np.flatnonzero(detections.scores >= (least[detections.labels - 1] if least.ndim else least))
    masks = None if detections.masks is None else [detections.masks[row] for row in kept]
    return Detections(detections.boxes[kept], detections.scores[kept], detections.labels[kept], masks)


def track_images(dataset: Dataset, detections: Mapping[int, Detections]) -> dict[int, npt.NDArray[np.int64]]:
    """Image id -> (N,) track ids of its detections, drive by drive in the order of the frames.

    Images without a drive are grouped by their folder and ordered by name. Ids are unique within a drive.
    """
    drives: dict[str, list[ImageRecord]] = {}
    for image in dataset.images:
        drives.setdefault(image.drive or str(PurePosixPath(image.file_name).parent), []).append(image)
    ids = {}
    for images in drives.values():
        tracks = NO_TRACKS
        for image in sorted(images, key=lambda image: (image.frame_index or 0, image.file_name)):
            of_image = detections[image.id]
            tracks, ids[image.id] = associate(tracks, of_image.boxes, of_image.labels)
    return ids
