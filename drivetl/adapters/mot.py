"""MOTChallenge: `<sequence>/gt/gt.txt`, rows `frame, id, left, top, width, height, flag, class, visibility`.

Rows with flag 0 are not counted by MOT's own evaluation and become ignore regions. Class names are in gt/labels.txt
(one per line, the first is class 1), else they are MOT16's. Coordinates are read as written.
"""

from __future__ import annotations

import configparser
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from drivetl.adapters.reading import Footage, ImageIndex, Reading, Sizes
from drivetl.coco.records import SourceImage, SourceObject
from drivetl.errors import DataError
from drivetl.files.fields import number, whole
from drivetl.files.read import read_text

CLASSES = (
    *("pedestrian", "person on vehicle", "car", "bicycle", "motorbike", "non motorized vehicle", "static person"),
    *("distractor", "occluder", "occluder on the ground", "occluder full", "reflection", "crowd"),
)
"""Classes 1..13. Source: Milan et al., MOT16: A Benchmark for Multi-Object Tracking, table 2; crowd: MOT20."""

MAX_FRAMES = 5_000_000


@dataclass(slots=True)
class SequenceInfo:
    """The content of seqinfo.ini."""

    name: str
    folder: str = "img1"
    suffix: str = ".jpg"
    length: int | None = None
    size: tuple[int, int] | None = None


def read(reading: Reading) -> Footage:
    """MOT footage: one sequence (a folder with gt/gt.txt) or a folder of sequences."""
    root = reading.root
    files = [root / "gt" / "gt.txt"] if (root / "gt" / "gt.txt").is_file() else sorted(root.glob("**/gt/gt.txt"))
    if not files:
        raise DataError("contains no gt/gt.txt", remedy="--root must be a sequence or a folder of sequences", file=root)
    images_root = reading.images or root
    return Footage(images_root, _all_images(reading, files, images_root))


def _all_images(reading: Reading, files: list[Path], images_root: Path) -> Iterator[SourceImage]:
    index, sizes = ImageIndex(images_root), Sizes(images_root)
    named = next((labels for path in files if (labels := path.with_name("labels.txt")).is_file()), None)
    for path in files:
        with reading.file(path, partial(_row_labels, path)):
            if named is not None:
                _refuse_missing_names(path, named)
            yield from _sequence_images(reading, path, index, sizes)


def _row_labels(path: Path) -> list[str]:
    """The labels of a file's rows, to count a sequence that cannot be read."""
    names = _names(path)
    return [_class(row, names) or "(unknown class)" for row in map(_fields, read_text(path).splitlines()) if row]


def _fields(line: str) -> list[str]:
    """The values of a row; [] for an empty line."""
    return [field.strip() for field in line.replace(";", ",").split(",")] if line.strip() else []


def _sequence_images(reading: Reading, path: Path, index: ImageIndex, sizes: Sizes) -> Iterator[SourceImage]:
    folder = path.parent.parent
    info = read_info(folder)
    prefix = folder.relative_to(reading.root).as_posix()
    prefix = f"{prefix}/{info.folder}" if prefix != "." else info.folder
    images = [name for name in index.names if name.startswith(prefix + "/")]
    numbered = _numbered(images, folder)
    size = info.size or (sizes.of(images[0]) if images else None)
    if size is None:
        raise DataError("the size of the images is unknown", remedy="add seqinfo.ini or the images", file=folder)
    if max([info.length or 0, *numbered]) > MAX_FRAMES:
        raise DataError(
            f"more than {MAX_FRAMES:,} frames", remedy="fix seqLength or the file names of the images", file=folder
        )
    content, names = read_text(path), _names(path)
    if not path.with_name("labels.txt").is_file():
        _refuse_ten_values(content, path)
    objects: dict[int, list[SourceObject]] = {}
    for frame, item in parse(reading, content, names, path):
        objects.setdefault(frame, []).append(item)
    last = max([info.length or 0, *numbered]) or max(objects, default=0)
    for frame in sorted({*range(1, last + 1), *objects}):
        if frame not in numbered and numbered:
            reading.note("labelled frames that were not extracted, left out with their objects")
            for item in objects.get(frame, []):
                reading.drop(item.label, "on a frame that was not extracted")
            continue
        if frame not in numbered:
            reading.note("frames that are not on disk; their size is taken from seqinfo.ini")
        name = numbered.get(frame, f"{prefix}/{frame:06d}{info.suffix}")
        yield SourceImage(name, *size, objects.get(frame, []), drive=info.name, frame_index=frame, label_file=path)


def _refuse_missing_names(path: Path, named: Path) -> None:
    """Raises DataError for rows with a class and no labels.txt, next to a sequence with one (`named`)."""
    if path.with_name("labels.txt").is_file():
        return
    rows = enumerate(map(_fields, read_text(path).splitlines()), 1)
    line = next((number for number, row in rows if len(row) > 7 and row[7] != "-1"), None)
    if line is not None:
        raise DataError(
            f"has classes and no labels.txt next to it, as {named} is for its sequence: they may be MOT16's or those",
            remedy="copy the labels.txt that belongs to it, or convert the sequences alone and merge them",
            file=path,
            line=line,
        )


def _refuse_ten_values(content: str, path: Path) -> None:
    """Raises DataError for rows of ten values with a class: VisDrive numbers other classes, and MOT15 has a position
    in metres there, or -1 for none.
    """
    for line, fields in enumerate(map(_fields, content.splitlines()), 1):
        if len(fields) == 10 and all(field.isdecimal() for field in fields[7:]):
            raise DataError(
                f"a row of 10 values has {fields[7]} for its class: VisDrive's classes have other numbers than MOT's, "
                "and MOT15 has a position there",
                remedy="write the class names into gt/labels.txt, class 1 first, or remove the last values",
                file=path,
                line=line,
            )


def _numbered(names: list[str], folder: Path) -> dict[int, str]:
    """Frame number -> image. Raises DataError for frame 0 and for two images with one number."""
    by_frame: dict[int, str] = {}
    for name in names:
        stem = Path(name).stem
        if not stem.isdecimal():
            continue
        frame = int(stem)
        if frame == 0:
            raise DataError(f"{name!r} is frame 0", remedy="MOT counts frames from 1: rename or remove it", file=folder)
        if frame in by_frame:
            raise DataError(f"frame {frame} may be {by_frame[frame]!r} or {name!r}", remedy="remove one", file=folder)
        by_frame[frame] = name
    return by_frame


def read_info(folder: Path) -> SequenceInfo:
    """seqinfo.ini of a sequence; only the folder's name without it. Raises DataError when it cannot be read."""
    path = folder / "seqinfo.ini"
    info = SequenceInfo(folder.resolve().name)
    if not path.is_file():
        return info
    parser = configparser.ConfigParser(interpolation=None)
    try:
        parser.read_string(read_text(path))
        section = parser["Sequence"]
    except (configparser.Error, KeyError) as error:
        line = getattr(error, "lineno", None)
        raise DataError(
            "contains no readable section [Sequence]", remedy="fix seqinfo.ini", file=path, line=line
        ) from None
    try:
        info.name = section.get("name", info.name).strip() or info.name
        info.folder = section.get("imDir", info.folder).strip().strip("/") or info.folder
        info.suffix = section.get("imExt", info.suffix).strip() or info.suffix
        info.length = whole(section["seqLength"], "seqLength") if "seqLength" in section else None
        if "imWidth" in section and "imHeight" in section:
            info.size = whole(section["imWidth"], "imWidth"), whole(section["imHeight"], "imHeight")
    except DataError as error:
        raise error.at(path) from None
    return info


def _names(path: Path) -> tuple[str, ...]:
    labels = path.with_name("labels.txt")
    return tuple(line.strip() for line in read_text(labels).rstrip().splitlines()) if labels.is_file() else CLASSES


def parse(reading: Reading, content: str, names: tuple[str, ...], file: Path) -> Iterator[tuple[int, SourceObject]]:
    """(frame, object) of every row. Raises DataError with the line of a broken row."""
    for line, raw in enumerate(content.splitlines(), 1):
        fields = _fields(raw)
        if not fields:
            continue
        with reading.object(_class(fields, names) or "(unknown class)", file, line):
            yield _row(fields, names, line)


def _class(fields: list[str], names: tuple[str, ...]) -> str | None:
    """The name of a row's class; pedestrian when the row has no class (MOT15 writes -1 or leaves it out)."""
    if len(fields) < 8:
        return names[0] if names else None
    try:
        class_id = whole(fields[7], "class")
    except DataError:
        return None
    if class_id == -1:
        return names[0] if names else None
    return names[class_id - 1] if 1 <= class_id <= len(names) else None


def _row(fields: list[str], names: tuple[str, ...], line: int) -> tuple[int, SourceObject]:
    if len(fields) < 6:
        raise DataError(
            f"a row has {len(fields)} values, not six or more", remedy="write frame, id, left, top, width, height, ..."
        )
    frame = whole(fields[0], "frame")
    if not 1 <= frame <= MAX_FRAMES:
        raise DataError(f"frame {frame} is not a valid frame number", remedy="frames are counted from 1")
    left, top, width, height = (
        number(value, name) for value, name in zip(fields[2:6], ("left", "top", "width", "height"), strict=True)
    )
    if width < 0 or height < 0:
        raise DataError(f"box size {width:g} x {height:g} is negative", remedy="fix or remove the row")
    label = _class(fields, names)
    if label is None:
        raise DataError(f"class {fields[7]!r} has no name", remedy=f"classes are 1..{len(names)}; see gt/labels.txt")
    item = SourceObject(label, (left, top, left + width, top + height), line=line)
    track = whole(fields[1], "id")
    if track != -1:
        item.attributes["track_id"] = track
    item.ignore = len(fields) > 6 and number(fields[6], "flag") == 0
    if len(fields) > 8:
        item.attributes["visibility"] = number(fields[8], "visibility")
    return frame, item
