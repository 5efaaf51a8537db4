"""Detections for judging labels: by a run that did not see them, or out of fold, by drive, where it did."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from drivetl import console
from drivetl.coco.drives import Drives
from drivetl.coco.hashes import file_hash
from drivetl.coco.io import read_dataset, write_dataset
from drivetl.coco.records import Dataset, ImageRecord
from drivetl.config import FinetuneConfig, speed_keys, values_of, with_values
from drivetl.errors import DataError
from drivetl.files.write import write_atomically
from drivetl.metrics.relabel import by_name
from drivetl.metrics.results import Results, concatenate, load_results, of_image, save_results
from drivetl.models.checkpoint import load_detector
from drivetl.prediction.images import predict
from drivetl.training.finetune import begin_or_continue
from drivetl.workers import dead_workers_as_errors

FOLDS = 2
PLAN = "folds.json"
"""File in the folder of the folds: of which data and config they are."""


@dataclass(frozen=True)
class Options:
    """How detectors are run."""

    device: str = "auto"
    batch_size: int = 8
    workers: int = 0


@dead_workers_as_errors("--workers")
def detect(run: Path, dataset: Dataset, options: Options, which: str = "best") -> Results:
    """The detections of a run on all images, with the category ids of the dataset; classes are matched by name."""
    detector = load_detector(run, which, options.device)
    stream = predict(detector, dataset, batch_size=options.batch_size, workers=options.workers)
    parts = [
        of_image(record.id, found)
        for record, found in console.track(stream, f"detecting with {run.name}", len(dataset.images), "images")
    ]
    found = by_name(concatenate(parts), detector.categories, dataset.categories)
    found.segmentations = None
    return found


def folds_of(images: Sequence[ImageRecord], count: int = FOLDS) -> list[list[ImageRecord]]:
    """The images in `count` folds of about the same number of images and objects; no drive is in two of them.

    A single drive is cut into blocks of consecutive images; an image of unknown drive is alone. Raises DataError for
    fewer blocks than folds.
    """
    units = np.array(Drives.of(images).units(), np.int64)
    sizes = np.bincount(units, [1.0 + len(image.annotations) for image in images]) if len(images) else np.zeros(0)
    if len(sizes) < count:
        raise DataError(
            f"{len(images)} images are too few for {count} folds", remedy="name a --run that was not trained on them"
        )
    totals, fold_of = np.zeros(count), np.zeros(len(sizes), np.int64)
    for unit in np.argsort(-sizes, kind="stable"):
        fold_of[unit] = np.argmin(totals)
        totals[fold_of[unit]] += sizes[unit]
    return [
        [image for image, unit in zip(images, units, strict=True) if fold_of[unit] == fold] for fold in range(count)
    ]


def fold_config(config: FinetuneConfig, train: Path, held_out: Path, epochs: int | None) -> FinetuneConfig:
    """The run's config for the training of one fold: its own start and recipe, evaluated once, at the end."""
    values: dict[str, Any] = {"data.train": str(train), "data.val": str(held_out), "data.train_images": 0}
    values |= {"eval.stop_after": 0, "eval.keep_detections": False}
    values |= {"runtime.tensorboard": False, "runtime.mlflow": False}
    # these may have the images that are held out
    values |= {"data.source": "", "data.source_share": 0.0, "data.unlabelled": "", "data.pseudo": ""}
    length = config.optim.epochs if epochs is None else epochs
    values |= {"optim.epochs": length, "eval.every": length}
    heads_only = config.optim.heads_only_epochs
    if isinstance(length, int) and isinstance(heads_only, int):
        values["optim.heads_only_epochs"] = min(heads_only, length - 1)
    return with_values(config, values)


def detect_out_of_fold(
    dataset: Dataset, config: FinetuneConfig, folder: Path, options: Options, epochs: int | None = None
) -> Results:
    """Detections on all images, each by a detector that was trained without its drive.

    The trainings and their detections are kept in `folder`: what is finished is used again, a killed training
    continues. Raises DataError where the folder is of other data or another config.
    """
    folds = folds_of(dataset.images)
    _check_plan(folder, dataset, config, epochs)
    parts = []
    for number, held_out in enumerate(folds, 1):
        rest = [image for other in folds if other is not held_out for image in other]
        parts.append(_fold(dataset, number, held_out, rest, config, folder, options, epochs))
    return concatenate(parts)


def _fold(
    dataset: Dataset,
    number: int,
    held_out: list[ImageRecord],
    rest: list[ImageRecord],
    config: FinetuneConfig,
    folder: Path,
    options: Options,
    epochs: int | None,
) -> Results:
    """Train without the held-out images, then detect on them; or what was detected before."""
    kept = folder / f"fold_{number}.npz"
    if kept.is_file():
        console.say(f"fold {number} of {FOLDS} is finished: {kept}")
        return load_results(kept)
    train, val = (folder / f"fold_{number}_{name}.json" for name in ("train", "held_out"))
    for path, images in ((train, rest), (val, held_out)):
        write_dataset(dataset.subset(sorted(images, key=lambda image: image.id)), path)
    run = folder / f"fold_{number}"
    drives = Drives.of(held_out).independent_in_words()
    console.say(f"fold {number} of {FOLDS}: {len(rest)} images to train on, {len(held_out)} of {drives} held out")
    if not (run / "README.md").is_file():  # the model card is written last
        values = {"runtime.device": options.device}
        begin_or_continue(with_values(fold_config(config, train, val, epochs), values), run)
    # the last weights: the best ones were chosen on the held-out labels
    results = detect(run, read_dataset(val), options, "last")
    save_results(kept, results)
    return results


def _check_plan(folder: Path, dataset: Dataset, config: FinetuneConfig, epochs: int | None) -> None:
    """Write what the folds are of, or compare it with what is there."""
    assert dataset.file is not None
    compared = {key: value for key, value in values_of(config).items() if key not in speed_keys()}
    plan = {"data": file_hash(dataset.file), "folds": FOLDS, "epochs": epochs, "config": compared}
    text, path = json.dumps(plan, indent=1, sort_keys=True) + "\n", folder / PLAN
    if path.is_file() and path.read_text("utf-8") != text:
        raise DataError(
            "its folds are of other data or of another run", remedy="remove it, or use another --out", file=folder
        )
    write_atomically(path, text)
