"""Detections of labelled or unlabelled images, and their output formats: COCO results and KITTI result files."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import torch

from drivetl.coco.detections import Detections
from drivetl.coco.records import Dataset, ImageRecord
from drivetl.conditions import CLEAN
from drivetl.errors import DataError
from drivetl.files.images import image_size
from drivetl.files.kitti_text import KittiLine, rounded, write_line
from drivetl.files.paths import list_images, require_directory
from drivetl.metrics.results import of_image
from drivetl.robustness.sweep import SupportsInfer, Task, variant_loader

OnError = Callable[[str, str], None]
"""Called with the file name of an image that cannot be read and the reason."""


def folder_dataset(folder: Path, categories: Sequence[str], on_error: OnError | None = None) -> Dataset:
    """All images below a folder as a dataset without labels; ids 1..N in the order of their names.

    Raises DataError when the folder has no image, or, without `on_error`, one that cannot be read.
    """
    names = list_images(require_directory(folder, "--images expects a folder of images"))
    if not names:
        raise DataError("holds no images", remedy="--images expects a folder of images", file=folder)
    records = []
    for number, name in enumerate(names, 1):
        try:
            width, height = image_size(folder / name)
        except DataError as error:
            if on_error is None:
                raise
            on_error(name, str(error))
            continue
        records.append(ImageRecord(number, name, width, height))
    return Dataset(tuple(categories), records, folder)


def predict(
    detector: SupportsInfer,
    dataset: Dataset,
    *,
    score: float = 0.0,
    batch_size: int = 8,
    workers: int = 0,
    on_error: OnError | None = None,
) -> Iterator[tuple[ImageRecord, Detections]]:
    """Detections that score at least `score`, image by image, not in the order of the dataset.

    Raises DataError for an image that cannot be read; with `on_error` the image is left out instead.
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


def with_min_score(detections: Detections, score: float) -> Detections:
    """The detections that score at least `score`."""
    kept = np.flatnonzero(detections.scores >= score)
    masks = None if detections.masks is None else [detections.masks[row] for row in kept]
    return Detections(detections.boxes[kept], detections.scores[kept], detections.labels[kept], masks)


def coco_results(image_id: int, detections: Detections) -> list[dict[str, Any]]:
    """One image's rows of a COCO results list: boxes xywh in px to a thousandth, masks as RLE."""
    boxes = of_image(image_id, detections).boxes_xywh
    rows: list[dict[str, Any]] = []
    for index, (box, score, label) in enumerate(zip(boxes, detections.scores, detections.labels, strict=True)):
        row = {
            "image_id": image_id,
            "category_id": int(label),
            "bbox": [round(float(side), 3) for side in box],
            "score": round(float(score), 6),
        }
        rows.append(row if detections.masks is None else row | {"segmentation": detections.masks[index]})
    return rows


def kitti_lines(detections: Detections, categories: Sequence[str]) -> str:
    """The text of a KITTI result file: 16 fields per line, the 3-D ones with the devkit's values for "unknown"."""
    lines = []
    for box, score, label in zip(detections.boxes.tolist(), detections.scores.tolist(), detections.labels, strict=True):
        name = categories[int(label) - 1].replace(" ", "_")
        line = KittiLine(f"{name[:1].upper()}{name[1:]}", box, score=score)
        lines.append(write_line(line, rounded, "{:.6f}".format) + "\n")
    return "".join(lines)


def kitti_names(dataset: Dataset) -> dict[int, str]:
    """Image id -> name of its KITTI result file. Raises DataError when two images would share one."""
    names: dict[int, str] = {}
    taken: dict[str, str] = {}
    for record in dataset.images:
        name = f"{PurePosixPath(record.file_name).stem}.txt"
        if name in taken:
            raise DataError(
                f"{taken[name]} and {record.file_name} would both be {name}", remedy="rename one, or use --format coco"
            )
        taken[name] = record.file_name
        names[record.id] = name
    return names


def images_document(dataset: Dataset) -> Mapping[str, Any]:
    """A COCO document without annotations: the image and class ids that the results of a folder refer to."""
    return {
        "images": [
            {"id": image.id, "file_name": image.file_name, "width": image.width, "height": image.height}
            for image in dataset.images
        ],
        "annotations": [],
        "categories": [{"id": number, "name": name} for number, name in enumerate(dataset.categories, 1)],
    }
