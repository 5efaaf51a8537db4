"""From a pool of frames to the chosen ones: look at all of them, weigh, choose, say why."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from drivetl.coco.detections import Detections
from drivetl.coco.folders import OnError
from drivetl.coco.io import read_dataset
from drivetl.coco.records import Dataset, ImageRecord
from drivetl.errors import ConfigError, DataError
from drivetl.metrics.truth import Floats
from drivetl.models.detector import Detector
from drivetl.prediction.thresholds import match_on_validation
from drivetl.selection.choose import Chosen, choose
from drivetl.selection.detect import Seen, detections_of, look_at_images, look_at_video
from drivetl.selection.distance import Objects, nearest_distances, objects_of
from drivetl.selection.pool import Bits, Frame, Pool, fingerprints_of, frames_of
from drivetl.selection.reasons import SURE_ENOUGH, reasons_of
from drivetl.selection.uncertainty import class_qualities, uncertainty, weights_of
from drivetl.selection.write import Selected


@dataclass(frozen=True)
class Options:
    """What the choice depends on besides the frames and the detector."""

    count: int
    gap_s: float = 2.0
    """Least time in s between two chosen frames of a drive."""
    seed: int = 0
    fps: float | None = None
    """Frames per second of numbered images."""
    batch_size: int = 8
    workers: int = 0


@dataclass(frozen=True)
class Labelled:
    """The frames that are labelled already."""

    frames: list[Frame]
    objects: Objects
    fingerprints: list[Bits]
    classes: frozenset[int]
    """Category ids that the detector is sure to see in them."""


@dataclass(frozen=True)
class Selection:
    """The chosen frames, best first, and what became of the others."""

    pool: Pool
    """Only the frames that could be read and are not labelled."""
    selected: list[Selected]
    chosen: Chosen
    n_labelled: int
    """Frames of the source that are labelled already."""


def difficulties(run: Path, categories: Sequence[str]) -> tuple[Floats, Floats, str]:
    """((K,) class weights, (K,) qualities, "") from the run's own validation; weights of 1, qualities of NaN and the
    reason where it has none."""
    try:
        qualities = class_qualities(match_on_validation(run, categories))
    except (DataError, ConfigError) as error:
        unknown = np.full(len(categories), np.nan)
        return weights_of(unknown), unknown, str(error.reason)
    return weights_of(qualities), qualities, ""


def select(
    pool: Pool,
    detector: Detector,
    class_weights: Floats,
    seen: Seen,
    options: Options,
    on_error: OnError,
    labelled: Path | None = None,
) -> Selection:
    """Choose frames of a pool. labelled: a dataset json of frames that are labelled already.

    Raises DataError when no frame can be read, or all are labelled or near-duplicates of labelled ones.
    """
    known = None if labelled is None else _labelled(labelled, detector, seen, options, on_error)
    before = len(pool.frames)
    if known is not None and labelled is not None:
        pool = _without(pool, read_dataset(labelled))
    n_labelled = before - len(pool.frames)
    keys, bits = _look(pool, detector, seen, options, on_error)
    frames = [frame for frame in pool.frames if frame.record.id in keys and frame.record.id in bits]
    if not frames:
        raise DataError("every frame is labelled already" if n_labelled else "no frame can be read")
    found = detections_of(seen, keys)
    detections = [found[frame.record.id] for frame in frames]
    objects = _objects(detections, [keys[frame.record.id] for frame in frames], seen)
    uncertainties = np.array([uncertainty(one, class_weights) for one in detections])
    chosen = choose(
        frames,
        objects,
        np.array([bits[frame.record.id] for frame in frames]),
        uncertainties,
        options.count,
        gap_s=options.gap_s,
        seed=options.seed,
        labelled=known.frames if known else (),
        labelled_fingerprints=known.fingerprints if known else (),
        nearest=nearest_distances(objects, known.objects) if known else None,
    )
    if not chosen.choices:
        raise DataError(
            f"no frame is left: {chosen.near} are near-duplicates of labelled frames, {chosen.close} are less than "
            f"{options.gap_s:g} s from one",
            remedy="name more footage",
        )
    reasons = reasons_of(
        chosen.choices, frames, detections, detector.categories, class_weights, known.classes if known else None
    )
    selected = [
        Selected(frames[choice.index], choice, detections[choice.index], why)
        for choice, why in zip(chosen.choices, reasons, strict=True)
    ]
    dataset = pool.dataset.subset([frame.record for frame in frames])
    return Selection(replace(pool, frames=frames, dataset=dataset), selected, chosen, n_labelled)


def _look(
    pool: Pool, detector: Detector, seen: Seen, options: Options, on_error: OnError
) -> tuple[dict[int, str], dict[int, Bits]]:
    if pool.video is not None:
        return look_at_video(detector, pool, seen, batch_size=options.batch_size)
    bits = fingerprints_of(pool.dataset, on_error)
    readable = pool.dataset.subset([image for image in pool.dataset.images if image.id in bits])
    keys = look_at_images(detector, readable, seen, on_error, batch_size=options.batch_size, workers=options.workers)
    return keys, bits


def _labelled(path: Path, detector: Detector, seen: Seen, options: Options, on_error: OnError) -> Labelled:
    dataset = read_dataset(path)
    bits = fingerprints_of(dataset, on_error)
    dataset = dataset.subset([image for image in dataset.images if image.id in bits])
    keys = look_at_images(detector, dataset, seen, on_error, batch_size=options.batch_size, workers=options.workers)
    images = [image for image in dataset.images if image.id in keys]
    found = detections_of(seen, keys)
    detections = [found[image.id] for image in images]
    classes = {int(label) for one in detections for label in one.labels[one.scores >= SURE_ENOUGH]}
    return Labelled(
        [frame for frame in frames_of(images, options.fps) if frame.record.drive],
        _objects(detections, [keys[image.id] for image in images], seen),
        [bits[image.id] for image in images],
        frozenset(classes),
    )


def _objects(detections: Sequence[Detections], keys: Sequence[str], seen: Seen) -> Objects:
    return objects_of(
        [seen.features[key] for key in keys], [one.scores for one in detections], [one.labels for one in detections]
    )


def _without(pool: Pool, labelled: Dataset) -> Pool:
    """The pool without the image files of a dataset."""
    taken = {_real(labelled, image) for image in labelled.images}
    frames = [frame for frame in pool.frames if _real(pool.dataset, frame.record) not in taken]
    return replace(pool, frames=frames, dataset=pool.dataset.subset([frame.record for frame in frames]))


def _real(dataset: Dataset, image: ImageRecord) -> Path:
    return (dataset.images_root / image.file_name).resolve()
