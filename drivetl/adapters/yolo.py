"""YOLO txt: one file per image, rows `class cx cy w h` or `class x1 y1 x2 y2 x3 y3 ...` in fractions of the image.

Class names are in data.yaml, *.names or classes.txt; without such a file, the class numbers are the labels. Pose rows
(`kpt_shape` in data.yaml) give their boxes. An image without a label file is an image without objects, as the format
defines it.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path, PurePosixPath

from drivetl.adapters.reading import Footage, Reading, Sizes, Subsets, folder_drive
from drivetl.adapters.shapes import Points, box_of, flat, is_turned_rectangle, visible
from drivetl.adapters.yolo_names import NameFiles, Names
from drivetl.coco.records import SourceImage, SourceObject
from drivetl.errors import DataError
from drivetl.files.fields import number, shown, whole
from drivetl.files.paths import files_below, list_images
from drivetl.files.read import read_text

NO_LABELS = {"classes", "labels", "train", "val", "valid", "test", "readme", "obj"}
"""Text files next to the labels that are not labels, unless an image has that name."""

ROUNDING = 2e-6
"""Largest rounding error of an edge: centre and half size, each written with six decimals."""

ENOUGH_ROWS = 20
"""Box rows from which on it is no chance that all of them look like corners."""

FURTHEST = 1.5
"""A larger coordinate is not a fraction of the image; up to it, a box beyond the edge is clipped."""


@dataclass(slots=True)
class Row:
    """One parsed row, in fractions of the image."""

    label: str
    line: int
    box: tuple[float, float, float, float] | None
    """(x1, y1, x2, y2) of a box row."""
    polygon: Points | None
    """Vertices of a polygon row."""


def read(reading: Reading) -> Footage:
    """YOLO footage: every image below the images root with the rows of its label file."""
    root = reading.root
    if not root.is_dir():
        raise DataError("no such folder", remedy="--root must be the folder with images and labels", file=root)
    names = NameFiles(root)
    if not names.declared():
        reading.note("no class names found (data.yaml, obj.names, classes.txt): the labels are the class numbers")
    images_root = reading.images or next(
        (folder for folder in (root / "images", root / "JPEGImages", root / "obj_train_data") if folder.is_dir()), root
    )
    image_names = list_images(images_root) if images_root.is_dir() else []
    if not image_names:
        raise DataError(
            "contains no images, and YOLO labels need the sizes of the images",
            remedy="name the folder of the images with --images",
            file=images_root,
        )
    images = images_of(reading, names, images_root, image_names)
    return Footage(images_root, images, names.declared(), sized_by_files=True)


def parse(content: str, classes: Names, reading: Reading, file: Path) -> Iterator[Row]:
    """Rows of a label file; repeated rows are counted and left out.

    Raises DataError with the line for a row that is neither box nor polygon, a class without a name, and coordinates
    that are not fractions.
    """
    seen: set[str] = set()
    names = classes.names
    for line, raw in enumerate(content.splitlines(), 1):
        fields = raw.split()
        if not fields:
            continue
        label = label_of(fields[0], names)
        with reading.object(label or fields[0], file, line):
            if label is None:
                raise DataError(
                    f"class {shown(fields[0])} has no name; there are {len(names)} names, numbered from 0",
                    remedy=f"check the names file{f' {classes.path}' if classes.path else ''}",
                )
            key = " ".join(fields)
            if key in seen:
                reading.drop(label, "repeated row", file, line)
                continue
            seen.add(key)
            row = _parse_row(label, fields, line, classes.keypoints)
            if classes.keypoints is not None and len(fields) > 5:
                reading.note("keypoints of pose labels, not read")
            yield row


def label_of(value: object, names: Sequence[str]) -> str | None:
    """The name of a class number, or the number as text when there are no names; None for an unknown number."""
    try:
        class_id = whole(value, "class")
    except DataError:
        return None
    if not names and class_id >= 0:
        return str(class_id)
    return names[class_id] if 0 <= class_id < len(names) else None


def _parse_row(label: str, fields: list[str], line: int, keypoints: tuple[int, int] | None) -> Row:
    values = [number(value, "a column") for value in fields[1:]]
    if keypoints is not None and len(values) != 4:
        count = keypoints[0] * keypoints[1]
        if len(values) != 4 + count:
            raise DataError(
                f"a row of {len(fields)} values is not a pose row: kpt_shape {list(keypoints)} needs {5 + count}",
                remedy="fix kpt_shape in data.yaml, or remove it when the labels have no keypoints",
            )
        values = values[:4]
    if not (min(values, default=0) >= 1 - FURTHEST and max(values, default=0) <= FURTHEST):
        worst = max(values, key=abs)
        raise DataError(
            f"{worst:g} is not a fraction of the image", remedy="YOLO coordinates are divided by width and height"
        )
    if len(values) == 4:
        cx, cy, w, h = values
        if w < 0 or h < 0:
            raise DataError(f"box size {w:g} x {h:g} is negative", remedy="fix or remove the row")
        w, h = w / 2, h / 2
        return Row(label, line, (_snap(cx - w), _snap(cy - h), _snap(cx + w), _snap(cy + h)), None)
    if len(values) >= 6 and len(values) % 2 == 0:
        return Row(label, line, None, list(zip(values[::2], values[1::2], strict=True)))
    hint = "; with a sixth value, the confidence, it is a prediction" if len(values) == 5 else ""
    raise DataError(
        f"a row of {len(fields)} values is neither box nor polygon",
        remedy=f"a box has 5 values, a polygon 1 + 2 per vertex{hint}",
    )


def _look_like_pose(rows: list[Row]) -> bool:
    """Whether all polygons of a file look like `cx cy w h` and keypoints.

    The second "vertex", (w, h), is then far from the others, which lie in the box or are 0 0 (not labelled).
    """
    polygons = [row.polygon for row in rows if row.polygon is not None]
    if not polygons or len({len(points) for points in polygons}) > 1 or len(polygons[0]) < 5:
        return False
    for (cx, cy), (w, h), *rest in polygons:
        keypoints = [(x, y) for x, y in rest if x or y]
        if not all(2 * abs(x - cx) <= 1.05 * w and 2 * abs(y - cy) <= 1.05 * h for x, y in keypoints):
            return False
        x1, y1, x2, y2 = box_of([(cx, cy), *keypoints])
        if not (w < 2 * x1 - x2 or w > 2 * x2 - x1 or h < 2 * y1 - y2 or h > 2 * y2 - y1):
            return False
    return True


def _snap(edge: float) -> float:
    """The border of the image when the edge is beyond it only by the rounding of six decimals."""
    if 0.0 <= edge <= 1.0:
        return edge
    border = 0.0 if edge < 0 else 1.0
    return border if abs(edge - border) <= ROUNDING else edge


def images_of(
    reading: Reading, names: NameFiles, images_root: Path, image_names: list[str], *, orphans: bool = True
) -> Iterator[SourceImage]:
    """The named images with their rows; with `orphans`, label files without an image are errors."""
    sizes = Sizes(images_root)
    folders = [f"{reading.root}/{folder}" for folder in _label_folders(reading.root)]
    labels = _label_files(reading.root, images_root, *map(Path, folders))
    label_of_image = {
        name: _label_of(name, str(images_root), str(reading.root), folders, labels) for name in image_names
    }
    owners: dict[str, list[str]] = {}
    for name, label_file in label_of_image.items():
        owners.setdefault(label_file or "", []).append(name)
    if not any(label_of_image.values()) and not _unused(labels, owners):
        raise DataError(
            "contains no label file (.txt) for any of its images", remedy="check --root and --format", file=reading.root
        )
    own_labels = {Path(label_file) for label_file in owners if label_file}
    subsets = Subsets(sorted(set(reading.root.glob("*.txt")) - own_labels))
    n_boxes = n_corners = 0
    for name, label_file in label_of_image.items():
        if label_file is None:
            reading.note("images without a label file, taken as images without objects")
        path = Path(label_file) if label_file else None
        with reading.file(path or images_root / name, partial(_row_labels, path, names)):
            if label_file and len(owners[label_file]) > 1:
                raise DataError(
                    f"is the label file of both {' and '.join(owners[label_file])}",
                    remedy="give each image a different stem",
                )
            size = sizes.of(name)
            rows = list(parse(read_text(path), names.of(path), reading, path)) if path else []
            if path and _look_like_pose(rows):
                reading.list_place("label files whose polygons look like pose rows; set kpt_shape if they are", path)
            n_boxes += sum(row.box is not None for row in rows)
            n_corners += sum(row.box is not None and _may_be_corners(row.box) for row in rows)
            image = SourceImage(name, *size, drive=folder_drive(name), label_file=path)
            image.attributes = subsets.attributes(reading, name)
            image.objects = _objects(reading, rows, size, path)
            yield image
    if n_corners == n_boxes >= ENOUGH_ROWS and reading.on_error != "skip":
        raise DataError(
            f"all {n_boxes} box rows look like x1 y1 x2 y2: their third and fourth number exceed the first and second",
            remedy="write class, centre x, centre y, width, height",
            file=reading.root,
        )
    for label_file in _unused(labels, owners) if orphans else ():
        _orphan(reading, names, Path(label_file))


def _may_be_corners(box: tuple[float, float, float, float]) -> bool:
    """Whether width and height exceed the centre's x and y: rare for a box, always so for corners read as a box."""
    x1, y1, x2, y2 = box
    return 2 * (x2 - x1) > x1 + x2 and 2 * (y2 - y1) > y1 + y2


def _unused(labels: dict[str, str], owners: dict[str, list[str]]) -> list[str]:
    """Label files without an image; a file that is also reached by a link counts once."""
    left = [
        name for name in labels.values() if name not in owners and PurePosixPath(name).stem.lower() not in NO_LABELS
    ]
    used = {os.path.realpath(name) for name in owners if name} if left else set()
    by_real_path = {os.path.realpath(name): name for name in left}
    return sorted(name for real, name in by_real_path.items() if real not in used)


def _row_labels(path: Path | None, names: NameFiles) -> list[str]:
    """The labels of a file's rows, to count an image that cannot be read."""
    rows = [line.split() for line in read_text(path).splitlines()] if path else []
    return [label_of(fields[0], names.of(path).names) or fields[0] for fields in rows if fields and path]


def _label_files(*folders: Path) -> dict[str, str]:
    """Paths of the text files below all folders, by the path with its suffix in lower case."""
    paths = sorted({name for folder in folders for name in files_below(folder, ".txt")})
    return {os.path.normpath(name)[: -len(".txt")] + ".txt": name for name in paths}


def _label_of(name: str, images_root: str, root: str, folders: list[str], labels: dict[str, str]) -> str | None:
    """The label file of an image: next to it, with `labels` for `images` in its path, or in a label folder."""
    stem = name.rpartition(".")[0]
    with_labels = "/".join("labels" if part == "images" else part for part in stem.split("/"))
    candidates = [f"{folder}/{stem}.txt" for folder in [images_root, *folders, root]] + [
        f"{folder}/{with_labels}.txt" for folder in [root, *folders]
    ]
    normal = map(os.path.normpath, candidates)  # a root of "." is in front of some names only
    return next((labels[candidate] for candidate in normal if candidate in labels), None)


def _label_folders(root: Path) -> list[str]:
    """`labels` and other folders whose name begins with it, sorted."""
    return sorted(path.name for path in root.glob("labels*") if path.is_dir())


def _objects(reading: Reading, rows: list[Row], size: tuple[int, int], file: Path | None) -> list[SourceObject]:
    width, height = size
    pixels: list[tuple[Row, Points | None]] = [
        (row, [(x * width, y * height) for x, y in row.polygon] if row.polygon else None) for row in rows
    ]
    usable: list[tuple[Row, Points | None]] = []
    for row, points in pixels:
        x1, y1, x2, y2 = box_of(points) if points else row.box or (0, 0, 0, 0)
        if points and is_turned_rectangle(points):
            if reading.rotated == "refuse":
                with reading.object(row.label, file or reading.root, row.line):
                    raise DataError("a rotated box", remedy="use --rotated enclose, or redraw the box")
                continue
            reading.note("polygons that are rotated boxes, each enclosed by its upright box")
        if x2 <= x1 or y2 <= y1:
            reading.drop(row.label, "row of zero size", file, row.line)
        else:
            usable.append((row, points))
    if reading.visible_masks:
        return _visible_objects(reading, usable, size)
    return [_plain_object(row, points, size) for row, points in usable]


def _plain_object(row: Row, points: Points | None, size: tuple[int, int]) -> SourceObject:
    if points is not None:
        return SourceObject(row.label, box_of(points), [flat(points)], line=row.line)
    assert row.box is not None
    x1, y1, x2, y2 = row.box
    return SourceObject(row.label, (x1 * size[0], y1 * size[1], x2 * size[0], y2 * size[1]), line=row.line)


def _visible_objects(
    reading: Reading, rows: list[tuple[Row, Points | None]], size: tuple[int, int]
) -> list[SourceObject]:
    """Objects with the visible part of their polygons; box rows are unchanged and hide nothing."""
    polygons = [(row.label, [points] if points else []) for row, points in rows]
    needs_mask = [bool(rings) and reading.needs_mask(label) for label, rings in polygons]
    parts = visible(polygons, size, needs_mask, pixel_index=False)
    objects = []
    for (row, points), part, masked in zip(rows, parts, needs_mask, strict=True):
        label = row.label
        if part is not None:
            segmentation, box, area = part
            objects.append(SourceObject(label, box, segmentation, area, line=row.line))
        elif masked:
            reading.drop(label, "hidden completely behind later polygons")
        else:
            objects.append(_plain_object(row, points, size))
    return objects


def _orphan(reading: Reading, names: NameFiles, path: Path) -> None:
    """A text file without an image is an error when it contains rows; otherwise it is not a label file."""
    with reading.file(path):
        first = next((line.split() for line in read_text(path).splitlines() if line.strip()), [])
        if len(first) < 5 or not all(_is_number(value) for value in first):
            return
        rows = list(parse(read_text(path), names.of(path), reading, path))
        error = DataError(
            "label file without an image",
            remedy="add the image, or name the folder of the images with --images",
            file=path,
        )
        if reading.on_error != "skip":
            raise error
        reading.account.reject(error, [row.label for row in rows])


def _is_number(value: str) -> bool:
    try:
        float(value)
    except ValueError:
        return False
    return True
