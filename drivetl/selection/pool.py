"""The frames to choose from: images or a video, with drive, time and conditions of each; their labels are not used."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import numpy.typing as npt

from drivetl import console
from drivetl.coco.drives import drives_in_words
from drivetl.coco.folders import OnError
from drivetl.coco.io import read_dataset
from drivetl.coco.records import Dataset, ImageRecord
from drivetl.convert.leaks import fingerprint_of_file
from drivetl.errors import DataError
from drivetl.files.video import count_frames
from drivetl.prediction.inputs import VideoInput, find_input

PER_GAP = 4
"""Frames of a drive that are looked at within the least time between two chosen ones: more hardly differ."""
MOST_VALUES = 12
"""An attribute with more different values is a name or a measurement, not a condition."""

Bits = npt.NDArray[np.int8]


@dataclass(frozen=True, slots=True)
class Frame:
    """A frame that may be chosen."""

    record: ImageRecord
    """Without labels."""
    drive: str
    """Of the record; where that is unknown, the folder of the image."""
    time_s: float | None = None
    """Within its drive; None: unknown."""
    conditions: tuple[tuple[str, str], ...] = ()
    """(attribute, value) of the attributes with few values, such as (timeofday, night)."""


@dataclass(frozen=True)
class Pool:
    """All frames, in the order of drives, times and names, whatever the order they were given in."""

    frames: list[Frame]
    dataset: Dataset
    """Of these frames."""
    video: Path | None = None
    n_labels: int = 0
    """Labels of the source, which are not used."""
    skipped: int = 0
    """Frames left out because the one before is less than a PER_GAP-th of the least time away."""


def find_pool(
    sources: Sequence[str], categories: Sequence[str], fps: float | None, gap_s: float, on_error: OnError | None = None
) -> Pool:
    """The frames that the words of a command line name: see `prediction.inputs.find_input`, but a dataset json may have
    any classes and labels.

    fps: frames per second of numbered images; gap_s: the least time between two chosen frames of a drive. Raises
    DataError for what does not exist, cannot be read or has no image, ConfigError for a mixture.
    """
    path = Path(sources[0])
    if len(sources) == 1 and path.suffix.lower() == ".json" and path.is_file():
        found: Dataset | VideoInput = read_dataset(path)
    else:
        found = find_input(sources, categories, on_error)
    if isinstance(found, VideoInput):
        return _of_video(found, categories, gap_s)
    if not found.images:
        raise DataError("holds no images", remedy="check the conversion and the split", file=path)
    n_labels = sum(len(image.annotations) for image in found.images)
    frames = frames_of(found.images, fps)
    kept = spaced(frames, gap_s / PER_GAP)
    dataset = Dataset(tuple(categories), [frame.record for frame in kept], found.images_root)
    return Pool(kept, dataset, None, n_labels, len(frames) - len(kept))


def _of_video(source: VideoInput, categories: Sequence[str], gap_s: float) -> Pool:
    """The frames that the header promises, PER_GAP per gap; `look_at_video` leaves out those that are not there."""
    info, drive = source.info, source.path.stem
    n_frames = info.n_frames or count_frames(source.path)
    step = max(1, int(info.rate_fps * gap_s / PER_GAP))
    frames = [
        Frame(
            ImageRecord(number + 1, f"{drive}/{number:06d}.jpg", info.width, info.height, drive, number),
            drive,
            number / info.rate_fps,
        )
        for number in range(0, n_frames, step)
    ]
    dataset = Dataset(tuple(categories), [frame.record for frame in frames], source.path.parent)
    return Pool(frames, dataset, source.path, skipped=n_frames - len(frames))


def frames_of(images: Iterable[ImageRecord], fps: float | None) -> list[Frame]:
    """The images as frames, in the order of drives, times and names, without their labels."""
    records = [replace(image, annotations=[], ignore_regions=[], labelled=None) for image in images]
    names = condition_names(records)
    frames = [
        Frame(record, drive_of(record), time_of(record, fps), tuple((name, _value(record, name)) for name in names))
        for record in records
    ]
    return sorted(frames, key=lambda frame: (frame.drive, frame.time_s or 0.0, frame.record.file_name))


def drive_of(record: ImageRecord) -> str:
    """Its drive, or the folder it is in; "" for an image without either."""
    folder = str(PurePosixPath(record.file_name).parent)
    return record.drive or ("" if folder == "." else folder)


def time_of(record: ImageRecord, fps: float | None) -> float | None:
    """Seconds from the start of the drive: the attribute `time_s`, else the frame number divided by fps; None without.

    The number is the record's, else the one at the end of the file name.
    """
    known = record.attributes.get("time_s")
    if isinstance(known, int | float) and not isinstance(known, bool):
        return float(known)
    digits = re.search(r"([0-9]{1,12})$", PurePosixPath(record.file_name).stem)
    number = record.frame_index if record.frame_index is not None else int(digits[1]) if digits else None
    return None if fps is None or number is None else number / fps


def condition_names(records: Sequence[ImageRecord]) -> list[str]:
    """The attributes whose values are texts, 2 to MOST_VALUES different ones (a missing value is one), sorted."""
    names = sorted({name for record in records for name in record.attributes})
    texts = [name for name in names if all(isinstance(r.attributes.get(name), str | None) for r in records)]
    return [name for name in texts if 2 <= len({_value(record, name) for record in records}) <= MOST_VALUES]


def _value(record: ImageRecord, name: str) -> str:
    value: Any = record.attributes.get(name)
    return "" if value is None else str(value)


def spaced(frames: Sequence[Frame], least_s: float) -> list[Frame]:
    """The frames, sorted by drive and time, without those less than `least_s` after the last one kept of their drive.

    Frames of unknown time are kept.
    """
    kept: list[Frame] = []
    last: dict[str, float] = {}
    for frame in frames:
        before = last.get(frame.drive)
        if frame.time_s is not None:
            if before is not None and frame.time_s - before < least_s - 1e-9:
                continue
            last[frame.drive] = frame.time_s
        kept.append(frame)
    return kept


def fingerprints_of(dataset: Dataset, on_error: Callable[[str, str], object]) -> dict[int, Bits]:
    """Image id -> its fingerprint (`convert.leaks`); an image that cannot be read is left out and reported."""
    found: dict[int, Bits] = {}
    paths = [dataset.images_root / image.file_name for image in dataset.images]
    with ThreadPoolExecutor(os.cpu_count()) as threads:  # OpenCV decodes without holding the GIL
        results = threads.map(fingerprint_of_file, paths)
        tracked = console.track(results, "comparing", len(paths), "images")
        for image, path, bits in zip(dataset.images, paths, tracked, strict=True):
            if bits is None:
                on_error(image.file_name, f"{path}: cannot be read as an image - replace or remove it")
            else:
                found[image.id] = bits
    return found


def frames_in_words(frames: Sequence[Frame]) -> str:
    """`221 frames of 3 drives`."""
    return f"{len(frames)} frames of {drives_in_words(len({frame.drive for frame in frames}))}"
