"""What a detector got right in labelled images: each detection found an object or is invented; objects are missed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from drivetl.coco.detections import Detections
from drivetl.coco.records import Dataset
from drivetl.metrics.match_store import match
from drivetl.metrics.results import concatenate, of_image
from drivetl.metrics.truth import from_dataset

FOUND, INVENTED, UNCOUNTED = "found", "invented", "uncounted"
"""A detection of an object; a false positive; in an ignore region, of a class not labelled there, or past the 100th."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """One image: its N detections and the M objects that were missed."""

    kinds: list[str]
    """N words, in the order of the detections."""
    missed_boxes: npt.NDArray[np.float64]
    """(M, 4) xyxy px."""
    missed_labels: npt.NDArray[np.int64]
    """(M,) category ids 1..K."""


def outcomes_of(dataset: Dataset, detections: Mapping[int, Detections]) -> dict[int, Outcome]:
    """Image id -> its outcome, by COCO's matching at an IoU of the boxes of 0.5.

    detections: of every image of the dataset, those that are shown; thresholds are applied before.
    """
    truth = from_dataset(dataset)
    results = concatenate(of_image(image.id, detections[image.id]) for image in dataset.images)
    results.segmentations = None
    store = match(truth, results)
    hit, ignored = store.tp_and_ignored()
    kinds = np.full(len(results), UNCOUNTED, dtype=object)
    kinds[store.source[hit]] = FOUND
    kinds[store.source[~hit & ~ignored]] = INVENTED
    missed = np.flatnonzero(~store.detected_objects(0.0) & ~truth.crowd)
    outcomes, first = {}, 0
    for image in dataset.images:
        last = first + len(detections[image.id].scores)
        rows = missed[truth.image_ids[truth.image[missed]] == image.id]
        boxes = truth.boxes_xywh[rows].copy()
        boxes[:, 2:] += boxes[:, :2]
        outcomes[image.id] = Outcome(kinds[first:last].tolist(), boxes, truth.category[rows] + 1)
        first = last
    return outcomes


def counts_of(
    dataset: Dataset, detections: Mapping[int, Detections], outcomes: Mapping[int, Outcome]
) -> npt.NDArray[np.int64]:
    """(K, 3) found, missed and invented objects of each class."""
    table = np.zeros((len(dataset.categories), 3), np.int64)
    for image in dataset.images:
        outcome, labels = outcomes[image.id], detections[image.id].labels
        for column, kind in ((0, FOUND), (2, INVENTED)):
            np.add.at(table[:, column], labels[[word == kind for word in outcome.kinds]] - 1, 1)
        np.add.at(table[:, 1], outcome.missed_labels - 1, 1)
    return table
