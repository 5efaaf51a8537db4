"""KITTI object data (training/image_2, training/label_2) -> source images, and datasets -> KITTI label files."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

from drivetl.adapters.kitti_mapping import DriveMapping
from drivetl.coco.boxes import xywh_to_xyxy
from drivetl.coco.records import Annotation, Dataset, IgnoreRegion, ImageRecord, SourceImage, SourceObject
from drivetl.convert.build import Account
from drivetl.errors import DataError
from drivetl.files.images import image_size
from drivetl.files.kitti_text import LABELS, KittiLine, attributes_of, line_of, parse_line, parse_plain, write_line
from drivetl.files.paths import require_directory
from drivetl.files.read import read_bytes, read_text
from drivetl.files.write import new_directory

SUFFIXES = (".png", ".jpg", ".jpeg")
_LAYOUT = "--root must contain training/image_2 and training/label_2 (unpack KITTI's two zip files into it)"


def read_kitti(
    root: Path,
    account: Account,
    *,
    mapping: DriveMapping | None = None,
    image_size_wh: tuple[int, int] | None = None,
    on_error: str = "stop",
) -> Iterator[SourceImage]:
    """All frames in the order of their ids; file names are relative to `root`.

    A frame without a label file is an image without objects (counted in `account.notes`). `image_size_wh` (px) is
    the size of images that are missing.
    Raises DataError for a missing folder and, while frames are read, for a label without image, a broken line and an
    unreadable image; with on_error="skip" these records are counted in `account.rejected` instead.
    """
    training = find_training(root)
    label_folder, image_folder = str(training / "label_2"), str(training / "image_2")
    labels = _files_by_id(label_folder, (".txt",))
    images = _image_names(image_folder, required=image_size_wh is None)
    prefix = "image_2" if training == root else f"{training.name}/image_2"
    for frame in sorted(labels.keys() | images.keys()):
        label_file = f"{label_folder}/{labels[frame]}" if frame in labels else None
        if label_file is None:
            account.notes["images have no label file and became samples without objects"] += 1
        try:
            objects = [] if label_file is None else read_labels(label_file, account, on_error)
        except DataError as error:
            reject_label_file(error, Path(label_file or ""), account, on_error)
            continue
        if n_scores := sum("score" in item.attributes for item in objects):
            account.notes["label lines with a score, read as labels: they may be predictions"] += n_scores
        try:
            sequence, index = mapping.of(frame) if mapping is not None else ("", None)
            if frame in images:
                width, height = image_size(f"{image_folder}/{images[frame]}")
            else:
                width, height = _size_of_missing(image_folder, frame, label_file, image_size_wh)
                account.notes["images are missing; their size is that of --image-size"] += 1
        except DataError as error:
            account.reject_image(error, objects, on_error)
            continue
        name = f"{prefix}/{images.get(frame, frame + '.png')}"
        yield SourceImage(name, width, height, objects, sequence, index, label_file=label_file)


def find_training(root: Path) -> Path:
    """The folder that contains label_2: root/training or root itself. Raises DataError when neither does."""
    require_directory(root, _LAYOUT)
    for folder in (root / "training", root):
        if (folder / "label_2").is_dir():
            return folder
    raise DataError("contains no label_2", remedy=_LAYOUT, file=root)


def read_labels(path: Path | str, account: Account, on_error: str = "stop") -> list[SourceObject]:
    """The objects of one label file. Raises DataError with file and line, or with "skip" counts the line.

    A file that cannot be read is a DataError in both cases: its image is not known to be without objects.
    """
    objects = []
    text = read_text(path)
    plain = parse_plain(text)
    if plain is not None:
        return list(map(source_object, plain, range(1, len(plain) + 1)))
    for number, line in enumerate(text.split("\n"), 1):
        if not line or line.isspace():
            continue
        try:
            objects.append(source_object(parse_line(line, number), number))
        except DataError as error:
            error.at(path)
            if on_error != "skip":
                raise
            account.reject(error)
    return objects


def reject_label_file(error: DataError, path: Path, account: Account, on_error: str) -> None:
    """Count a label file that cannot be read: each of its lines is an object, and its images are left out.

    A folder with the name of a label file has no lines. Raises the error unless on_error is "skip".
    """
    if on_error != "skip":
        raise error
    lines = read_bytes(path).split(b"\n") if path.is_file() and os.access(path, os.R_OK) else []
    account.reject(error, ["unreadable record"] * sum(bool(line.strip()) for line in lines))
    account.notes["label files that cannot be read, left out with their images"] += 1


def source_object(line: KittiLine, number: int) -> SourceObject:
    """The object of label line `number`; all columns except type and box become attributes, unrounded."""
    x1, y1, x2, y2 = line.box_xyxy
    box_xyxy = (float(x1), float(y1), float(x2), float(y2))
    return SourceObject(line.label, box_xyxy, None, None, False, attributes_of(line), {}, number)


def _files_by_id(folder: str, suffixes: tuple[str, ...]) -> dict[str, str]:
    """Frame id -> file name, without hidden files. Raises DataError when two files share an id."""
    require_directory(Path(folder), _LAYOUT)
    by_id: dict[str, str] = {}
    for name in sorted(os.listdir(folder)):  # noqa: PTH208 - a Path per file costs more than the listing
        stem, dot, suffix = name.rpartition(".")
        if not dot or f".{suffix.lower()}" not in suffixes or name.startswith("."):
            continue
        if stem in by_id:
            raise DataError(f"frame {stem} is duplicated: {by_id[stem]} and {name}", remedy="remove one", file=folder)
        by_id[stem] = name
    return by_id


def _image_names(folder: str, required: bool) -> dict[str, str]:
    if not Path(folder).is_dir() and not required:
        return {}
    require_directory(Path(folder), f"{_LAYOUT}; without images give --image-size WxH")
    return _files_by_id(folder, SUFFIXES)


def _size_of_missing(
    folder: str, frame: str, label_file: str | None, size_wh: tuple[int, int] | None
) -> tuple[int, int]:
    """`size_wh` for a frame without image. Raises DataError when it is None."""
    if size_wh is None:
        raise DataError(
            f"label without image: {folder}/{frame}.png is missing",
            remedy="add the image, remove the label file, or give --image-size WxH",
            file=label_file,
        )
    return size_wh


def write_labels(dataset: Dataset, folder: Path) -> int:
    """Write one KITTI label file per image, named like the image, into a new folder; returns the number of lines.

    KITTI's columns are read from `attributes`, including the box before clipping, so that all numbers of KITTI's own
    labels are restored. Objects of another source get their class name and KITTI's marks for unknown values; their
    ignore regions become DontCare.
    Raises DataError when the folder exists, or two images have the same stem.
    """
    stems = [PurePosixPath(image.file_name).stem for image in dataset.images]
    if len(set(stems)) != len(stems):
        duplicate = next(stem for stem in stems if stems.count(stem) > 1)
        raise DataError(
            f"two images are called {duplicate!r}, but KITTI has one folder", remedy="write the drives separately"
        )
    count = 0
    with new_directory(folder) as work:
        for stem, image in zip(stems, dataset.images, strict=True):
            lines = [write_line(line_of(*entry)) for entry in label_entries(image, dataset)]
            (work / f"{stem}.txt").write_text("".join(f"{line}\n" for line in lines))
            count += len(lines)
    return count


def label_entries(image: ImageRecord, dataset: Dataset) -> Iterator[tuple[str, tuple[float, ...], dict[str, object]]]:
    """(type, (left, top, right, bottom), attributes) of every annotation and ignore region of an image."""
    for item in image.annotations:
        yield _label(item, dataset), _box(item), item.attributes
    for region in image.ignore_regions:
        own = region.attributes.get("source_label")
        yield str(own) if own in LABELS else "DontCare", _box(region), region.attributes


def _label(item: Annotation, dataset: Dataset) -> str:
    own = item.attributes.get("source_label")
    return str(own) if own in LABELS else dataset.categories[item.category_id - 1].replace(" ", "_")


def _box(item: Annotation | IgnoreRegion) -> tuple[float, ...]:
    before = item.attributes.get("source_box_xyxy")
    return tuple(before) if before is not None else xywh_to_xyxy(item.bbox_xywh)
