"""Detections that were made elsewhere, as a detector of a sweep that has nothing left to infer.

A folder has one COCO results json per cell: `clean/0.json`, `fog/3.json`, ... An image without detections in a file is
an image in which nothing was found. A cell without a file is absent: its numbers are NaN, never zero. Category ids are
those of the dataset; with a `classes.txt` in the folder they are the detector's own, and line 1 is the name of id 1.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from drivetl.coco.detections import Detections
from drivetl.coco.records import Dataset
from drivetl.conditions import CLEAN, Cell, cell_name
from drivetl.console import track
from drivetl.errors import ConfigError, DataError
from drivetl.files.paths import require_directory
from drivetl.files.read import read_text
from drivetl.metrics.results import Results, read_coco_results
from drivetl.metrics.truth import GroundTruth, from_dataset
from drivetl.robustness.detection_cache import DetectionCache

CLASSES = "classes.txt"

MOST_OUTSIDE = 0.01
"""Share of the boxes that may lie outside their image."""


class ResultsCache(DetectionCache):
    """The detections of a folder, in place of those that a sweep would infer."""

    def __init__(self, of_cell: Mapping[Cell, Results], absent: Sequence[Cell]):
        super().__init__(None, {})
        self.of_cell, self.absent = of_cell, frozenset(absent)

    def has(self, key: str, cell: Cell) -> bool:
        """True: nothing is inferred, in absent cells either."""
        return True

    def cells(self) -> list[Cell]:
        return sorted(self.of_cell)

    def results(self, cell: Cell, images: Mapping[str, int]) -> Results:
        """Detections of a cell in these images, as they are in the file. Raises KeyError for an absent cell."""
        found = self.of_cell[cell]
        return found.where(np.isin(found.image_id, list(images.values())))


class ResultsFolder:
    """A folder of results with what a sweep and its report know of a detector."""

    run = None
    precision = None
    device = None

    def __init__(
        self, name: str, categories: Sequence[str], cache: ResultsCache, digest: str, manifest: dict[str, Any] | None
    ):
        self.name, self.categories, self.cache = name, tuple(categories), cache
        self.weights_hash, self.augmentation = digest, manifest

    def infer(self, images: list[Any]) -> list[Detections]:
        """Never called: `ResultsCache` has everything."""
        raise ConfigError("stored results cannot detect in other images", remedy="evaluate them on their own dataset")


def read_results_folder(
    folder: Path,
    dataset: Dataset,
    conditions: Sequence[str],
    severities: Sequence[int],
    *,
    manifest: dict[str, Any] | None = None,
    iou_type: str = "bbox",
) -> ResultsFolder:
    """Read the results of the clean cell and of every cell (condition, severity) that has a file.

    manifest: the augmentation that the detector was trained with. Raises DataError when `clean/0.json` is missing, when
    no other cell has a file, and for detections that do not fit the dataset.
    """
    require_directory(folder, remedy="name the folder with clean/0.json, fog/3.json, ...")
    cells = [CLEAN, *((name, severity) for name in conditions for severity in severities)]
    files = {cell: path for cell in cells if (path := folder / f"{cell_name(cell)}.json").is_file()}
    if CLEAN not in files:
        raise DataError(
            "no clean/0.json: without results on unmodified images nothing can be compared",
            remedy="add it as COCO results",
            file=folder,
        )
    if len(files) == 1:
        raise DataError(
            f"no results under conditions: no {cell_name(cells[-1])}.json or any other of {len(cells) - 1} cells",
            remedy="name --conditions and --severities that it has",
            file=folder,
        )
    categories = _class_names(folder) or dataset.categories
    truth, digest = _images_under(categories, dataset), hashlib.blake2b(digest_size=8)
    digest.update("\n".join(categories).encode())
    of_cell = {}
    for cell, path in track(files.items(), "reading", total=len(files)):
        of_cell[cell] = _read(path, truth, dataset, iou_type)
        digest.update(cell_name(cell).encode() + hashlib.sha256(path.read_bytes()).digest())
    cache = ResultsCache(of_cell, [cell for cell in cells if cell not in files])
    return ResultsFolder(folder.resolve().name, categories, cache, digest.hexdigest(), manifest)


def _class_names(folder: Path) -> tuple[str, ...]:
    """The detector's own classes in id order; none without a classes.txt, whose ids are then the dataset's."""
    path = folder / CLASSES
    if not path.is_file():
        return ()
    names = tuple(line.strip() for line in read_text(path).splitlines())
    if not names or not all(names):
        raise DataError("a line without a name", remedy="write the name of class id N into line N", file=path)
    return names


def _images_under(categories: Sequence[str], dataset: Dataset) -> GroundTruth:
    """The images of the dataset and these classes: what the ids of a results file are checked against."""
    images = [replace(image, annotations=[], ignore_regions=[], labelled=None) for image in dataset.images]
    return from_dataset(replace(dataset, categories=tuple(categories), images=images))


def conditions_in(folder: Path, conditions: Sequence[str], severities: Sequence[int]) -> list[str]:
    """Those of the conditions that have a file at one severity at least."""
    return [
        name
        for name in conditions
        if any((folder / f"{cell_name((name, severity))}.json").is_file() for severity in severities)
    ]


def _read(path: Path, truth: GroundTruth, dataset: Dataset, iou_type: str) -> Results:
    results = read_coco_results(path, truth)
    if len(results) and not 0 <= results.scores.min() <= results.scores.max() <= 1:
        raise DataError(
            f"scores from {results.scores.min():g} to {results.scores.max():g}",
            remedy="write 0..1: logits need a sigmoid or a softmax",
            file=path,
        )
    _check_boxes(results, dataset, path)
    masks = results.segmentations if results.segmentations is not None else [None] * len(results)
    if iou_type == "segm" and any(mask is None for mask in masks):
        raise DataError("a detection has no mask", remedy="use --iou-type bbox", file=path)
    return results


def _check_boxes(results: Results, dataset: Dataset, path: Path) -> None:
    """Raises DataError for boxes of images of another size, or in fractions of the size.

    A few boxes outside may be a detector's slips; they match nothing.
    """
    if not len(results):
        return
    sizes = {image.id: (image.width, image.height) for image in dataset.images}
    size_wh = np.array([sizes[int(number)] for number in results.image_id])
    first, last = results.boxes_xywh[:, :2], results.boxes_xywh[:, :2] + results.boxes_xywh[:, 2:]
    if last.max() <= 1.5 and size_wh.min() > 16:
        raise DataError(
            f"no box goes beyond {last.max():g}",
            remedy="write px of the image (are these 0..1 of its size?)",
            file=path,
        )
    outside = np.flatnonzero(((first >= size_wh) | (last <= 0)).any(axis=1))
    if len(outside) > MOST_OUTSIDE * len(results):
        row = outside[0]
        box, (width, height) = ", ".join(f"{side:g}" for side in results.boxes_xywh[row]), size_wh[row]
        raise DataError(
            f"[{row}]: the box ({box}) is outside image {results.image_id[row]} of {width} x {height} px, as are "
            f"{len(outside)} of {len(results)}",
            remedy="write px of the dataset's images (are these of resized or padded ones?)",
            file=path,
        )
