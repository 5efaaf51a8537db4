"""KITTI tracking data (training/image_02/<sequence>, training/label_02/<sequence>.txt) -> source images, and back.

A label line is `frame track_id`, then a line of KITTI's object data; DontCare has track -1.
"""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

from drivetl.adapters.kitti import SUFFIXES, label_entries, reject_label_file, source_object
from drivetl.coco.records import Dataset, SourceImage, SourceObject
from drivetl.convert.build import Account
from drivetl.errors import DataError
from drivetl.files.images import image_size
from drivetl.files.kitti_text import line_of, parse_line, write_line
from drivetl.files.paths import require_directory, safe_relative
from drivetl.files.read import read_text
from drivetl.files.write import new_directory

_LAYOUT = "--root must contain training/image_02 and training/label_02 (unpack KITTI's two tracking zip files into it)"


def is_tracking(root: Path) -> bool:
    """Whether a folder has the layout of the tracking data and not that of the object data."""
    folders = (root / "training", root)
    return any((folder / "label_02").is_dir() for folder in folders) and not any(
        (folder / "label_2").is_dir() for folder in folders
    )


def read_kitti_tracking(
    root: Path, account: Account, *, image_size_wh: tuple[int, int] | None = None, on_error: str = "stop"
) -> Iterator[SourceImage]:
    """All frames, sequence by sequence; `sequence` is the folder's name, `frame_index` the file's number.

    A frame without lines has no objects. When the images of a sequence are missing, `image_size_wh` (px) is their size
    and only frames with lines are converted.
    Raises DataError like `read_kitti`.
    """
    training = next((path for path in (root / "training", root) if (path / "label_02").is_dir()), None)
    if training is None:
        raise DataError("contains no label_02", remedy=_LAYOUT, file=root)
    prefix = "image_02" if training == root else f"{training.name}/image_02"
    names = {path.stem for path in (training / "label_02").glob("*.txt") if not path.name.startswith(".")}
    images_folder = training / "image_02"
    if images_folder.is_dir():
        names |= {path.name for path in images_folder.iterdir() if path.is_dir()}
    elif image_size_wh is None:
        require_directory(images_folder, f"{_LAYOUT}; without images give --image-size WxH")
    for sequence in sorted(names):
        label_file = training / "label_02" / f"{sequence}.txt"
        frames: dict[int, list[SourceObject]] = {}
        if label_file.exists():
            try:
                frames = read_track_labels(label_file, account, on_error)
            except DataError as error:
                reject_label_file(error, label_file, account, on_error)
                continue
        else:
            account.notes["sequences have no label file; their frames became samples without objects"] += 1
        images = _frame_names(images_folder / sequence)
        for frame in sorted(frames.keys() | images.keys()):
            objects = frames.get(frame, [])
            try:
                if frame in images:
                    width, height = image_size(images_folder / sequence / images[frame])
                else:
                    width, height = _size_of_missing(images_folder / sequence, frame, objects, image_size_wh)
                    account.notes["images are missing; their size is that of --image-size"] += 1
            except DataError as error:
                account.reject_image(error.at(label_file), objects, on_error)
                continue
            name = f"{prefix}/{sequence}/{images.get(frame, f'{frame:06d}.png')}"
            yield SourceImage(name, width, height, objects, sequence, frame, label_file=label_file)


def read_track_labels(path: Path, account: Account, on_error: str = "stop") -> dict[int, list[SourceObject]]:
    """Frame -> objects of a sequence. Raises DataError with file and line, or counts the line with "skip".

    A file that cannot be read is a DataError in both cases.
    """
    frames: dict[int, list[SourceObject]] = defaultdict(list)
    for number, line in enumerate(read_text(path).split("\n"), 1):
        if not line or line.isspace():
            continue
        try:
            frame, item = parse_track_line(line, number)
        except DataError as error:
            error.at(path)
            if on_error != "skip":
                raise
            account.reject(error)
        else:
            frames[frame].append(item)
    return frames


def parse_track_line(text: str, number: int) -> tuple[int, SourceObject]:
    """(frame, object) of one line; the track is in `attributes.track_id`. Raises DataError with the line number."""
    fields = text.split(None, 2)
    if len(fields) < 3:
        raise DataError(
            f"{len(fields)} fields instead of 17 (or 18 with a score)",
            remedy="a line is: frame track_id, then the 15 columns of an object",
            line=number,
        )
    frame, track, rest = fields
    if not (frame.isascii() and frame.isdecimal() and len(frame) <= 9):
        raise DataError(
            f"frame is {frame[:40]!r}, not a whole number from 0", remedy="fix or remove the line", line=number
        )
    digits = track.removeprefix("-")
    if not (digits.isascii() and digits.isdecimal() and len(digits) <= 9):
        raise DataError(f"track_id is {track[:40]!r}, not a whole number", remedy="fix or remove the line", line=number)
    item = source_object(parse_line(rest, number), number)
    item.attributes["track_id"] = int(track)
    return int(frame), item


def _frame_names(folder: Path) -> dict[int, str]:
    """Frame number -> file name; empty for a missing folder."""
    by_frame: dict[int, str] = {}
    if not folder.is_dir():
        return by_frame
    for name in sorted(os.listdir(folder)):  # noqa: PTH208
        stem, suffix = os.path.splitext(name)  # noqa: PTH122
        if suffix.lower() not in SUFFIXES or name.startswith("."):
            continue
        if not (stem.isascii() and stem.isdecimal() and len(stem) <= 9):
            raise DataError(
                f"image {name!r} is not named by its frame number", remedy="rename it like 000012.png", file=folder
            )
        if int(stem) in by_frame:
            raise DataError(
                f"frame {int(stem)} is duplicated: {by_frame[int(stem)]} and {name}", remedy="remove one", file=folder
            )
        by_frame[int(stem)] = name
    return by_frame


def _size_of_missing(
    folder: Path, frame: int, objects: list[SourceObject], size_wh: tuple[int, int] | None
) -> tuple[int, int]:
    if size_wh is None:
        line = objects[0].line if objects else None
        raise DataError(
            f"label without image: {folder}/{frame:06d}.png is missing",
            remedy="add the image, remove the lines of this frame, or give --image-size WxH",
            line=line if isinstance(line, int) else None,
        )
    return size_wh


def write_track_labels(dataset: Dataset, folder: Path) -> int:
    """Write one tracking label file per sequence into a new folder; returns the number of lines.

    Objects without `attributes.track_id` get track -1.
    Raises DataError when the folder exists, or an image has no drive or no frame index.
    """
    files: dict[str, list[str]] = defaultdict(list)
    for image in sorted(dataset.images, key=lambda image: (image.drive, image.frame_index or 0)):
        if not image.drive or image.frame_index is None:
            raise DataError(
                f"image {image.file_name!r} has no drive and frame index",
                remedy="KITTI's tracking labels need both; write object labels instead",
            )
        if safe_relative(f"{image.drive}.txt").count("/"):
            raise DataError(f"drive {image.drive!r} cannot be a file name", remedy="rename it without slashes")
        lines = files[image.drive]
        for label, box, attributes in label_entries(image, dataset):
            track = attributes.get("track_id", -1)
            lines.append(f"{image.frame_index} {track} {write_line(line_of(label, box, attributes))}")
    with new_directory(folder) as work:
        for sequence, lines in files.items():
            (work / f"{sequence}.txt").write_text("".join(f"{line}\n" for line in lines))
    return sum(map(len, files.values()))
