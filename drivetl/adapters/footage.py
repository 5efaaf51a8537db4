"""Custom footage in any format -> source images, their taxonomy and an account of the objects read."""

from __future__ import annotations

import csv
import importlib
import io
import re
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath

from drivetl import console
from drivetl.adapters.reading import Reader, Reading, is_below
from drivetl.coco.records import ImageRecord, SourceImage, SourceObject
from drivetl.coco.taxonomy import Taxonomy, own_labels
from drivetl.errors import ConfigError, DataError
from drivetl.files.fields import scalar
from drivetl.files.images import depth_of, image_size, is_deep, read_rgb
from drivetl.files.read import read_bytes, read_text

FORMATS = {
    "cvat": "cvat",
    "labelme": "labelme",
    "voc": "voc",
    "yolo": "yolo",
    "bdd100k": "bdd100k",
    "cityscapes": "cityscapes",
    "nuimages": "nuimages",
    "mot": "mot",
    "coco": "coco_json",
}
"""--format -> module of this package with `read(reading) -> Footage`."""

WRONG_SIZE_BELOW = 0.05
"""Relative difference below which an image is not a scaled copy of the labelled one: the labels give the size of
another camera or day, and boxes are correct as written. Some converted KITTI labels give 1242 x 375 for images of
1224 x 370."""


DEPTH_SAMPLE = 10
"""At about this many images, evenly spaced, the bits per channel are looked at."""


@dataclass(slots=True)
class Source:
    """Footage as the conversion needs it."""

    images: list[SourceImage]
    images_root: Path
    taxonomy: Taxonomy
    own_labels: bool
    """True without a taxonomy: the classes are the footage's own labels."""


def reader(name: str) -> Reader:
    """The reader of a format."""
    module = importlib.import_module(f"drivetl.adapters.{FORMATS[name]}")
    result: Reader = module.read
    return result


def read_footage(
    format_name: str, reading: Reading, *, attributes: Path | None = None, sequence_from: str | None = None
) -> Source:
    """Read footage of one format; `reading.account` counts what the reader left out.

    attributes: a CSV with `file_name` and further columns that are merged into the images.
    sequence_from: a regular expression with a group, searched in each file name; the group is the drive.
    Raises DataError with file and line for anything that cannot be read, ConfigError for an unusable expression.
    """
    pattern = _compiled(sequence_from) if sequence_from else None
    footage = reader(format_name)(reading)
    tracked = console.track(footage.images, "reading")
    images = list(tracked if footage.sized_by_files else true_sizes(reading, tracked, footage.images_root))
    if not images:
        raise DataError("no images found", remedy="check --root and --format", file=reading.root)
    _refuse_dark_images(reading, images, footage.images_root)
    reading.close()
    if attributes is not None:
        merge_attributes(images, attributes)
    if pattern is not None:
        for image in images:
            image.drive = sequence_of(image.file_name, pattern)
    number_frames(images)
    images.sort(key=lambda image: image.file_name)
    taxonomy = reading.taxonomy or derived_taxonomy(images, footage.declared, ordered=footage.ordered)
    return Source(images, footage.images_root, taxonomy, reading.taxonomy is None)


def _refuse_dark_images(reading: Reading, images: list[SourceImage], root: Path) -> None:
    """Decode deep images (16 bits per channel) of a small sample; note them.

    Raises DataError when their values use so few bits that they would be read as almost black.
    """
    step = max(1, len(images) // DEPTH_SAMPLE)
    for image in images[::step]:
        path = root / image.file_name
        if is_below(image.file_name) and _is_file(path) and is_deep(read_bytes(path, 32)):
            try:
                read_rgb(path)
            except DataError as error:
                if reading.on_error != "skip":
                    raise
                reading.list_place(error.reason, path)
                continue
            depth = depth_of(path.read_bytes())
            if depth is not None:  # a TIFF may have 8 bits
                what = "almost black when read by the upper eight bits" if depth.is_dim else "read by the upper eight"
                reading.list_place(f"images of 16 bits (a sample), {what}", path)


def true_sizes(reading: Reading, images: Iterable[SourceImage], root: Path) -> Iterator[SourceImage]:
    """The images with the sizes of their files.

    When the labels give another size, the file is noted, and shapes are scaled unless the difference is below
    WRONG_SIZE_BELOW. A missing image keeps the size of its labels. An image that cannot be read, or whose aspect ratio
    differs from its labels, is an error, or rejected with its objects.
    """
    for image in images:
        path = root / image.file_name
        labelled_size = image.width, image.height
        try:
            size = image_size(path) if is_below(image.file_name) and _is_file(path) else labelled_size
            scaled = size != labelled_size and _fit(image, size, path)
        except DataError as error:
            if reading.on_error != "skip":
                raise
            reading.account.reject(error, [item.label for item in image.objects])
            reading.note("label files or images left out because they cannot be read")
            continue
        if scaled:
            reading.list_place("labels made for another size than the image has, scaled to it", path)
        elif size != labelled_size:
            reading.list_place("labels that give another size than the image has, which is taken", path)
        yield image


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except OSError as error:
        raise DataError(
            f"cannot be accessed ({error.strerror or error})", remedy="fix the file name", file=path
        ) from None


def _fit(image: SourceImage, size: tuple[int, int], path: Path) -> bool:
    """Set the (width, height) of the image file; True when the shapes were scaled to it.

    Raises DataError when the aspect ratio differs by more than a pixel: the file is not a scaled copy of the labelled
    image.
    """
    labelled_size = image.width, image.height
    image.width, image.height = size
    wrong_size = min(labelled_size) <= 0 or all(
        abs(new / old - 1) < WRONG_SIZE_BELOW for new, old in zip(size, labelled_size, strict=True)
    )
    if wrong_size and not any(isinstance(item.segmentation, dict) for item in image.objects):
        return False
    (width, height), (labelled_width, labelled_height) = size, labelled_size
    off_x = height * labelled_width / labelled_height - width
    off_y = width * labelled_height / labelled_width - height
    if wrong_size or min(abs(off_x), abs(off_y)) > 1:
        raise DataError(
            f"the image is {width} x {height}, its labels were made for {labelled_width} x {labelled_height}",
            remedy="fix the size in the labels, or restore the labelled image (not rotated)",
            file=path,
        )
    if any("keypoints" in item.extra for item in image.objects):
        raise DataError("has keypoints that were made for another size", remedy="restore the labelled image", file=path)
    for item in image.objects:
        _scale(item, labelled_size, size)
    return True


def _scale(item: SourceObject, labelled_size: tuple[int, int], size: tuple[int, int]) -> None:
    scale_x, scale_y = size[0] / labelled_size[0], size[1] / labelled_size[1]
    x1, y1, x2, y2 = item.box_xyxy
    item.box_xyxy = x1 * scale_x, y1 * scale_y, x2 * scale_x, y2 * scale_y
    if item.area is not None:
        item.area *= scale_x * scale_y
    if isinstance(item.segmentation, list):
        item.segmentation = [
            [value * (scale_y if index % 2 else scale_x) for index, value in enumerate(ring)]
            for ring in item.segmentation
        ]
    elif item.segmentation is not None:
        import cv2  # imported here, so that converting KITTI does not wait for it

        from drivetl.coco import masks

        mask = masks.decode(item.segmentation, labelled_size[1], labelled_size[0])
        item.segmentation = masks.encode(cv2.resize(mask, size, interpolation=cv2.INTER_NEAREST))
    if "unrotated_box_xyxy" in item.attributes:
        x1, y1, x2, y2 = item.attributes["unrotated_box_xyxy"]
        item.attributes["unrotated_box_xyxy"] = [x1 * scale_x, y1 * scale_y, x2 * scale_x, y2 * scale_y]


def _compiled(expression: str) -> re.Pattern[str]:
    try:
        pattern = re.compile(expression)
    except re.error as error:
        raise ConfigError(f"--sequence-from {expression!r} is not a regular expression: {error}") from None
    if pattern.groups < 1:
        raise ConfigError(
            f"--sequence-from {expression!r} has no group", remedy="put the part that is the drive into (...)"
        )
    return pattern


def sequence_of(file_name: str, pattern: re.Pattern[str]) -> str:
    """The first non-empty group of a match in the file name. Raises DataError for a name without a match."""
    match = pattern.search(file_name)
    drive = next((group for group in match.groups() if group), None) if match else None
    if drive is None:
        raise DataError(
            f"--sequence-from {pattern.pattern!r} does not match {file_name!r}",
            remedy="change the expression so that it matches every file name",
        )
    return drive


def number_frames(images: Iterable[SourceImage]) -> None:
    """Set missing frame indices to the number at the end of the file name, when it is unique in its drive.

    The leak report finds neighbouring frames by it.
    """
    drives: dict[str, list[tuple[SourceImage, int | None]]] = {}
    for image in images:
        if image.drive:
            digits = re.search(r"([0-9]{1,12})$", PurePosixPath(image.file_name).stem)
            drives.setdefault(image.drive, []).append((image, int(digits[1]) if digits else None))
    for frames in drives.values():
        numbers = {number for _, number in frames}
        usable = None not in numbers and len(numbers) == len(frames)
        if usable and all(image.frame_index is None for image, _ in frames):
            for image, number in frames:
                image.frame_index = number


def derived_taxonomy(images: Iterable[SourceImage], declared: tuple[str, ...], *, ordered: bool) -> Taxonomy:
    """The footage's own labels as classes, sorted (or in declared order).

    A label `<label>group` whose objects are all marked `ignore` is not a class: it hides the class `<label>`
    (Cityscapes crowds).
    """
    seen: Counter[str] = Counter()
    ignored: Counter[str] = Counter()
    for image in images:
        for item in image.objects:
            seen[item.label] += 1
            ignored[item.label] += item.ignore
    labels = set(seen) | set(declared)
    crowds = set() if ordered else {label for label in labels if label.endswith("group")}
    groups = {label for label in crowds if 0 < seen[label] == ignored[label]}
    bases = {label.removesuffix("group") for label in groups}
    classes = [label for label in (declared if ordered else sorted(labels | bases)) if label not in groups]
    taxonomy = own_labels(classes)
    if ordered:
        by_name = {item.name: item for item in taxonomy.classes}
        taxonomy = replace(taxonomy, classes=tuple(by_name[label] for label in classes))
    return replace(taxonomy, ignore=tuple((label, (label.removesuffix("group"),)) for label in sorted(groups)))


def merge_attributes(images: Iterable[SourceImage | ImageRecord], path: Path, *, partial: bool = False) -> list[str]:
    """Merge a CSV (file_name, then sequence, frame_index, weather, ...) into images; empty cells are skipped.

    A name may omit its folder when only one image has that name. partial: the images are a part of those in the
    CSV, and other rows are ignored. Returns the attribute columns of the CSV.

    Raises DataError with the line for a row whose file is unknown or duplicated, or whose number of cells is wrong.
    """
    records = list(images)
    short = [PurePosixPath(image.file_name).name for image in records]
    count = Counter(short)
    by_name = {name: image for name, image in zip(short, records, strict=True) if count[name] == 1}
    by_name |= {image.file_name: image for image in records}
    merged: set[str] = set()
    columns: list[str] = []
    for line, row in _csv_rows(path):
        name = row.pop("file_name")
        columns = [column for column in row if column not in ("sequence", "frame_index")]
        image = by_name.get(name.replace("\\", "/").removeprefix("./"))
        if image is None and partial:
            continue
        if image is None:
            raise DataError(
                f"no image is called {name!r}",
                remedy="write names relative to the images root, or remove the row",
                file=path,
                line=line,
            )
        if image.file_name in merged:
            raise DataError(f"{name!r} is duplicated", remedy="keep one row per image", file=path, line=line)
        merged.add(image.file_name)
        for column, value in row.items():
            if value == "":
                continue
            if column == "sequence":
                image.drive = value
            elif column == "frame_index":
                if not value.isascii() or not value.isdigit():
                    raise DataError(
                        f"frame_index {value!r} is not a whole number",
                        remedy="write 0, 1, 2, ...",
                        file=path,
                        line=line,
                    )
                image.frame_index = int(value)
            else:
                image.attributes[column] = scalar(value)
    return columns


def _csv_rows(path: Path) -> Iterator[tuple[int, dict[str, str]]]:
    rows = csv.reader(io.StringIO(read_text(path)), strict=True)
    try:
        head = [name.strip() for name in next(rows, [])]
        if "file_name" not in head or len(set(head)) != len(head) or "" in head:
            raise DataError(
                "the first line must be the column names: file_name and others, each once",
                remedy="for example file_name,sequence,weather,timeofday",
                file=path,
                line=1,
            )
        for row in rows:
            if not row:
                continue
            if len(row) != len(head):
                raise DataError(
                    f"{len(row)} cells for {len(head)} columns", remedy="fix the row", file=path, line=rows.line_num
                )
            yield rows.line_num, dict(zip(head, (cell.strip() for cell in row), strict=True))
    except csv.Error as error:
        raise DataError(f"not a CSV: {error}", remedy="fix the row", file=path, line=rows.line_num) from None
