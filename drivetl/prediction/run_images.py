"""The images of a dataset or folder through one detector or two: results, tracks, outcomes and drawn images."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import numpy as np
import numpy.typing as npt
import orjson

from drivetl import console
from drivetl.coco.detections import Detections
from drivetl.coco.records import Dataset, ImageRecord
from drivetl.data.dataset import read_image
from drivetl.draw.objects import jpeg
from drivetl.errors import DataError
from drivetl.prediction.drawing import annotated, together
from drivetl.prediction.images import predict, track_images
from drivetl.prediction.model import Model
from drivetl.prediction.outcomes import Outcome, counts_of, outcomes_of
from drivetl.prediction.results import Found, images_document, result_files
from drivetl.workers import dead_workers_as_errors

SKIPPED = "skipped.json"
PICTURES = 100
"""Images to draw, unless the user says otherwise."""


@dataclass(frozen=True)
class ImageOptions:
    """How images are run, written and drawn."""

    formats: tuple[str, ...]
    outcomes: bool
    """Whether the dataset has labels, with which detections are compared."""
    list_images: bool
    """Whether to write images.json: the ids of images that no dataset json names."""
    batch_size: int = 8
    workers: int = 0
    track: bool = False
    colour_outcomes: bool = False
    """Colour boxes by what was found and invented instead of by class; needs `outcomes`."""
    pictures: int = PICTURES
    stop: bool = False
    """End at the first image that cannot be read, and keep the results so far."""


@dataclass
class _Results:
    """One model's results: image id -> ..."""

    model: Model
    detections: dict[int, Detections]
    track_ids: dict[int, npt.NDArray[np.int64]]
    outcomes: dict[int, Outcome]

    def of(self, record: ImageRecord) -> Found:
        outcome = self.outcomes.get(record.id)
        kinds = None if outcome is None else outcome.kinds
        return Found(record, self.detections[record.id], self.track_ids.get(record.id), kinds)


def run_images(
    dataset: Dataset, models: Sequence[Model], folder: Path, options: ImageOptions, unreadable: dict[str, str]
) -> tuple[Dataset, list[npt.NDArray[np.int64]]]:
    """Write each model's results into its folder, and drawn images and skipped.json into `folder`.

    Adds the images that cannot be read to `unreadable` (file name -> reason). Returns the images that were run, and
    for each model (K, 3) found, missed and invented objects; none without outcomes. Raises DataError when no image can
    be read, DrivetlError when a worker process dies.
    """
    detections = [_detect(model, dataset, options, unreadable) for model in models]
    done = dataset.subset([image for image in dataset.images if all(image.id in rows for rows in detections)])
    _write_skipped(folder, dataset, {image.id for image in done.images}, unreadable)
    results = [_results(model, rows, done, options) for model, rows in zip(models, detections, strict=True)]
    for of_model in results:
        _write(of_model, done, options)
    _draw(results, done, folder / "pictures", options)
    return done, [counts_of(done, item.detections, item.outcomes) for item in results if options.outcomes]


@dead_workers_as_errors("--workers")
def _detect(model: Model, dataset: Dataset, options: ImageOptions, unreadable: dict[str, str]) -> dict[int, Detections]:
    """Image id -> its detections; images that cannot be read are left out and listed."""

    def on_error(name: str, reason: str) -> None:
        unreadable[name] = reason
        if options.stop:
            raise _Stopped

    stream = predict(
        model.detector,
        dataset,
        score=model.scores,
        batch_size=options.batch_size,
        workers=options.workers,
        on_error=on_error,
    )
    detections: dict[int, Detections] = {}
    with suppress(_Stopped):
        for record, of_image in console.track(stream, "detecting", len(dataset.images), "images"):
            detections[record.id] = of_image
    if unreadable and not detections:
        raise DataError(next(iter(unreadable.values())))
    return detections


class _Stopped(Exception):  # noqa: N818 - not an error
    """Detection ends here."""


def _results(model: Model, detections: Mapping[int, Detections], done: Dataset, options: ImageOptions) -> _Results:
    kept = {image.id: detections[image.id] for image in done.images}
    for of_image in kept.values():
        model.count(of_image.labels)
    track_ids = track_images(done, kept) if options.track else {}
    return _Results(model, kept, track_ids, outcomes_of(done, kept) if options.outcomes else {})


def _write_skipped(folder: Path, dataset: Dataset, done: set[int], unreadable: dict[str, str]) -> None:
    """skipped.json: file name and reason of every image without detections; written only when there are some."""
    missing = dict.fromkeys(image.file_name for image in dataset.images if image.id not in done)
    reasons = dict.fromkeys(missing, "not reached") | unreadable
    rows = [{"file_name": name, "reason": reasons[name]} for name in sorted(reasons)]
    if rows:
        (folder / SKIPPED).write_text(json.dumps(rows, indent=1) + "\n", "utf-8")


def _write(results: _Results, dataset: Dataset, options: ImageOptions) -> None:
    model = results.model
    with result_files(model.folder, options.formats, model.categories) as add:
        for record in dataset.images:
            add(results.of(record))
    if options.list_images:
        document = images_document(dataset.images, model.categories)
        (model.folder / "images.json").write_bytes(orjson.dumps(document, option=orjson.OPT_INDENT_2))


def _draw(results: Sequence[_Results], dataset: Dataset, folder: Path, options: ImageOptions) -> None:
    """Write at most `pictures` images, evenly spaced; names that differ in the suffix alone keep it."""
    limit = options.pictures
    chosen = dataset.images[:: max(1, -(-len(dataset.images) // limit))] if limit else []
    taken: set[PurePosixPath] = set()
    for record in console.track(chosen, "drawing", unit="images"):
        name = PurePosixPath(record.file_name)
        duplicate = name.with_suffix("") in taken
        taken.add(name.with_suffix(""))
        path = folder / (f"{name}.jpg" if duplicate else name.with_suffix(".jpg"))
        path.parent.mkdir(parents=True, exist_ok=True)
        image = read_image(record, dataset.images_root)
        frames = []
        for item in results:
            outcome = item.outcomes.get(record.id) if options.colour_outcomes else None
            frames.append(annotated(image, item.of(record), item.model.categories, outcome))
        path.write_bytes(jpeg(together(frames, [item.model.name for item in results]), quality=90))
