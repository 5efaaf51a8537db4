"""Rounds of pseudo-labels: a run on footage without labels that starts from another one."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np

from drivetl.coco.hashes import file_hash
from drivetl.coco.io import read_dataset
from drivetl.coco.records import Dataset, ImageRecord
from drivetl.errors import CheckpointError
from drivetl.files.runs import PSEUDO, run_root
from drivetl.metrics.match_store import match
from drivetl.metrics.results import Results
from drivetl.models.source import weights_file
from drivetl.training.rundir import read_provenance
from drivetl.training.separate import image_files


def round_of(start: str) -> int:
    """The round of pseudo-labels by a teacher: 1, or one more than that of the run it is.

    A start that is not a run with a provenance.json has no round of its own.
    """
    before = _recorded(start).get("pseudo_round", 0)
    return 1 + (before if isinstance(before, int) else 0)


def was_trained_on(start: str, train: str) -> bool:
    """Whether `model.start` is a run, or a checkpoint of one, that was trained on the dataset json `train`."""
    recorded = _recorded(start).get("train_sha256")
    return recorded is not None and recorded == file_hash(Path(train))


def _recorded(start: str) -> dict[str, Any]:
    """provenance.json of the run that a start is; empty without a readable one."""
    run = _run_of(start)
    try:
        return read_provenance(run) if run is not None else {}
    except CheckpointError:
        return {}


def agreement(start: str, pseudo: Dataset) -> dict[str, int] | None:
    """How far new pseudo-labels are those that their teacher was trained on, in the frames of both.

    Returns the numbers of `frames`, of objects `before`, of those labelled `again` (same class, box IoU of at least
    0.5) and of `new` ones, which match none. None where the start is not a run with pseudo-labels of any of the frames.
    Raises DataError where those cannot be read.
    """
    run = _run_of(start)
    if run is None or not (run / PSEUDO).is_file():
        return None
    before = read_dataset(run / PSEUDO)
    ours, theirs = image_files(pseudo), image_files(before)
    shared = [file for file in ours if file in theirs]
    if not shared:
        return None
    numbers = {
        number: pseudo.categories.index(name) + 1
        for number, name in enumerate(before.categories, 1)
        if name in pseudo.categories
    }
    truth = [_under(theirs[file], ours[file], numbers) for file in shared]
    rows = [(ours[file].id, item) for file in shared for item in ours[file].annotations]
    boxes = np.array([item.bbox_xywh for _, item in rows], np.float64).reshape(-1, 4)
    scores = [float(item.attributes.get("score", 1.0)) for _, item in rows]
    found = Results.of([image for image, _ in rows], [item.category_id for _, item in rows], boxes, scores)
    again = int(match(dataclasses.replace(pseudo, images=truth), found).tp_and_ignored()[0].sum())
    objects = sum(len(image.annotations) for image in truth)
    return {"frames": len(shared), "before": objects, "again": again, "new": len(rows) - again}


def agreement_in_words(compared: dict[str, int], number: int) -> str:
    """What `agreement` found, for the labels of round `number`."""
    before, again = compared["before"], compared["again"]
    share = f"{again} of {before}" + (f" ({100 * again / before:.0f} %)" if before else "")
    return (
        f"round {number}: {share} pseudo-objects that the start was trained on are labelled again (same class, IoU"
        f" 0.5), {compared['new']} are new (frames of both rounds: {compared['frames']})"
    )


def _run_of(start: str) -> Path | None:
    """The folder of the run whose weights a start is; None for published weights."""
    weights = weights_file(start)
    return run_root(weights.parent) if weights is not None else None


def _under(labelled: ImageRecord, image: ImageRecord, numbers: dict[int, int]) -> ImageRecord:
    """The image with the objects of another record of it alone; numbers: category id there -> here."""
    objects = [
        dataclasses.replace(item, category_id=numbers[item.category_id])
        for item in labelled.annotations
        if item.category_id in numbers
    ]
    return dataclasses.replace(image, annotations=objects, ignore_regions=[], labelled=None)
