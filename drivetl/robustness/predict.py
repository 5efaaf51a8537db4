"""Detections of images, labelled or not, and the forms they are handed on in: COCO results, KITTI result files."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
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
from drivetl.robustness.sweep import SupportsInfer, Task, load


def folder_dataset(folder: Path, categories: Sequence[str]) -> Dataset:
    """All images below a folder as a dataset without labels; ids 1..N in the order of their names.

    Raises DataError when the folder holds no image, or one that cannot be read.
    """
    names = list_images(require_directory(folder, "--images names a folder of pictures"))
    if not names:
        raise DataError("holds no images", remedy="--images names a folder of pictures", file=folder)
    records = []
    for number, name in enumerate(names, 1):
        width, height = image_size(folder / name)
        records.append(ImageRecord(number, name, width, height))
    return Dataset(tuple(categories), records, folder)


def predict(
    detector: SupportsInfer, dataset: Dataset, *, score: float = 0.0, batch_size: int = 8, workers: int = 0
) -> Iterator[tuple[ImageRecord, Detections]]:
    """Detections that score at least `score`, image after image; the order of images is not that of the dataset."""
    tasks = [Task(place, record, (CLEAN,)) for place, record in enumerate(dataset.images)]
    for batch in load(tasks, dataset.images_root, batch_size, workers):
        found = detector.infer([torch.from_numpy(pixels) for pixels in batch.pixels])
        for (place, _), one in zip(batch.items, found, strict=True):
            yield dataset.images[place], above(one, score)


def above(found: Detections, score: float) -> Detections:
    """The detections that score at least `score`."""
    kept = np.flatnonzero(found.scores >= score)
    masks = None if found.masks is None else [found.masks[row] for row in kept]
    return Detections(found.boxes[kept], found.scores[kept], found.labels[kept], masks)


def coco_results(image_id: int, found: Detections) -> list[dict[str, Any]]:
    """One image's rows of a COCO results list: boxes xywh in px to a thousandth, masks as RLE."""
    boxes = of_image(image_id, found).boxes_xywh
    rows: list[dict[str, Any]] = []
    for place, (box, value, label) in enumerate(zip(boxes, found.scores, found.labels, strict=True)):
        row = {
            "image_id": image_id,
            "category_id": int(label),
            "bbox": [round(float(side), 3) for side in box],
            "score": round(float(value), 6),
        }
        rows.append(row if found.masks is None else row | {"segmentation": found.masks[place]})
    return rows


def kitti_lines(found: Detections, categories: Sequence[str]) -> str:
    """A KITTI result file: 16 fields a line, everything that is not 2-D at the devkit's "not given"."""
    lines = []
    for box, value, label in zip(found.boxes.tolist(), found.scores.tolist(), found.labels, strict=True):
        name = categories[int(label) - 1].replace(" ", "_")
        line = KittiLine(f"{name[:1].upper()}{name[1:]}", box, score=value)
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
    """Which id is which image and class: a COCO json without annotations, for results of a folder."""
    return {
        "images": [
            {"id": one.id, "file_name": one.file_name, "width": one.width, "height": one.height}
            for one in dataset.images
        ],
        "annotations": [],
        "categories": [{"id": number, "name": name} for number, name in enumerate(dataset.categories, 1)],
    }
