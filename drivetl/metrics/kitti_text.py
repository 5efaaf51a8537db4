"""KITTI's text files in columns: label folders, and any detector's result folder."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from drivetl.coco.records import Annotation, Dataset, IgnoreRegion
from drivetl.console import track, warn
from drivetl.errors import DataError
from drivetl.files.paths import require_directory
from drivetl.files.read import read_text
from drivetl.metrics.results import Results
from drivetl.metrics.truth import Floats, Ints

_NAMES_OF_FIELDS = "type truncated occluded alpha left top right bottom height width length x y z rotation_y score"
_EVALUATED = ("car", "pedestrian", "cyclist")


@dataclass(slots=True)
class KittiObjects:
    """Objects or detections of many frames, sorted by frame, in the file's order within a frame."""

    frames: tuple[str, ...]
    """(F,) names without suffix, sorted."""
    frame: Ints
    """(N,) index into `frames`; rises."""
    names: tuple[str, ...]
    """(N,) lower case: the devkit compares without case."""
    truncated: Floats
    """(N,) 0..1; -1 where not given."""
    occluded: Floats
    """(N,) 0..3; -1 where not given."""
    boxes_xyxy: Floats
    """(N, 4) px."""
    scores: Floats
    """(N,) 1 for labels."""
    distance_m: Floats
    """(N,) z in the camera's frame; NaN where no 3-D label is given."""


@dataclass(frozen=True, slots=True)
class _Row:
    frame: int
    name: str
    values: tuple[float, ...]


def read_labels(folder: Path, frames: Sequence[str] | None = None) -> KittiObjects:
    """Read a label folder: all its frames, or those named. Raises DataError with file, line and value."""
    folder = _inner(require_directory(folder, "--gt names a KITTI label folder, like training/label_2"), "label_2")
    files = _text_files(folder)
    if not files:
        raise DataError("holds no label files", remedy="--gt names a folder of 000000.txt, ...", file=folder)
    chosen = sorted(files if frames is None else set(frames))
    for frame in chosen:
        if frame not in files:
            raise DataError(f"frame {frame} has no label file", remedy="check the list of frames", file=folder)
    return _read(files, chosen, fields=(15, 16), with_score=False)


def read_results(folder: Path, frames: Sequence[str]) -> KittiObjects:
    """Read a result folder for these frames. A missing file means no detections there, and is said.

    Raises DataError with file, line and value for a broken line, for results of frames that are not evaluated, and
    when one frame has two files.
    """
    folder = _inner(require_directory(folder, "--predictions names a folder of KITTI result files"), "data")
    files = _text_files(folder)
    unknown = sorted(set(files) - set(frames))
    if unknown:
        raise DataError(
            f"results for {len(unknown)} frames without labels ({', '.join(unknown[:3])}, ...)",
            remedy="give the labels of the same frames, or name the frames with --frames",
            file=files[unknown[0]],
        )
    missing = sorted(set(frames) - set(files))
    if missing:
        warn(
            f"{len(missing)} of {len(frames)} frames have no result file ({', '.join(missing[:3])}"
            f"{', ...' if len(missing) > 3 else ''}): counted as no detections"
        )
    return _read(files, sorted(frames), fields=(16,), with_score=True)


def _inner(folder: Path, name: str) -> Path:
    """The folder, or the one inside that KITTI's layout puts the files in."""
    for inner in (folder / name, folder / "training" / name):
        if inner.is_dir() and not any(folder.glob("*.txt")):
            return inner
    return folder


def _text_files(folder: Path) -> dict[str, Path]:
    """Frame name -> file. Raises DataError for two files of one frame (000007.txt beside 7.txt or 000007.TXT)."""
    found: dict[str, Path] = {}
    by_number: dict[str, Path] = {}
    for path in sorted(folder.iterdir()):
        if path.suffix.lower() != ".txt" or not path.is_file():
            continue
        number = path.stem.lstrip("0") or "0"
        if number in by_number:
            raise DataError(
                f"a second file for frame {path.stem}, beside {by_number[number].name}",
                remedy="keep one of the two",
                file=path,
            )
        by_number[number] = path
        found[path.stem] = path
    return found


def _read(files: Mapping[str, Path], frames: Sequence[str], fields: tuple[int, ...], with_score: bool) -> KittiObjects:
    rows: list[_Row] = []
    for number, frame in enumerate(track(frames, "reading results" if with_score else "reading labels")):
        path = files.get(frame)
        if path is None:
            continue
        for line, text in enumerate(read_text(path).splitlines(), 1):
            if text.strip():
                try:
                    rows.append(_parse(text, number, fields, with_score))
                except DataError as error:
                    raise error.at(path, line) from None
    return _columns(tuple(frames), rows, with_score)


def _parse(text: str, frame: int, fields: tuple[int, ...], with_score: bool) -> _Row:
    words = text.split()
    if len(words) not in fields:
        what = "a result line needs 16 fields, the score last" if with_score else "a label line needs 15 fields"
        raise DataError(f"{len(words)} fields", remedy=f"{what}: {_NAMES_OF_FIELDS}")
    try:
        values = tuple(map(float, words[1:]))
    except ValueError:
        word = next(word for word in words[1:] if not _is_number(word))
        raise DataError(f"{word!r} is not a number", remedy=f"fields are {_NAMES_OF_FIELDS}") from None
    x1, y1, x2, y2 = values[3:7]
    if not np.isfinite(values[3:7]).all() or x2 < x1 or y2 < y1:
        raise DataError(
            f"box {[x1, y1, x2, y2]} is not finite or has a negative size",
            remedy="write left, top, right, bottom in that order",
        )
    if with_score and not np.isfinite(values[14]):
        raise DataError(f"score {words[15]} is not a number", remedy="drop the line, or mend the detector")
    return _Row(frame, words[0].lower(), values)


def _is_number(word: str) -> bool:
    try:
        float(word)
    except ValueError:
        return False
    return True


def _columns(frames: tuple[str, ...], rows: Sequence[_Row], with_score: bool) -> KittiObjects:
    table = np.array([row.values[:14] for row in rows], np.float64).reshape(-1, 14)
    has_3d = table[:, 7:10].min(axis=1, initial=np.inf) > 0
    return KittiObjects(
        frames,
        np.array([row.frame for row in rows], np.int64),
        tuple(row.name for row in rows),
        table[:, 0],
        table[:, 1],
        table[:, 3:7],
        np.array([row.values[14] if with_score else 1.0 for row in rows], np.float64),
        np.where(has_3d, table[:, 12], np.nan),
    )


def labels_of(dataset: Dataset) -> KittiObjects:
    """A converted KITTI dataset as the label files it came from: source labels, unclipped boxes, DontCare.

    Raises DataError for other data in which nothing bears the name of a class that KITTI evaluates.
    """
    images = sorted(dataset.images, key=lambda image: image.id)
    rows = []
    for number, image in enumerate(images):
        every: list[Annotation | IgnoreRegion] = [*image.annotations, *image.ignore_regions]
        for item in every:
            said = item.attributes
            x, y, w, h = item.bbox_xywh
            box = tuple(said.get("source_box_xyxy") or (x, y, x + w, y + h))
            location = said.get("location_xyz_m") or (-1000.0, -1000.0, -1000.0)
            size = said.get("dimensions_hwl_m") or (-1.0, -1.0, -1.0)
            values = (said.get("truncated", -1), said.get("occluded", -1), -10, *box, *size, *location, -10)
            label = str(said.get("source_label", "DontCare")).lower()
            rows.append(_Row(number, label, tuple(float(value) for value in values)))
    if dataset.info.get("source") != "kitti" and not any(row.name in _EVALUATED for row in rows):
        raise DataError(
            f"not from KITTI: no object has the source label {', '.join(_EVALUATED)} (classes: "
            f"{', '.join(dataset.categories)})",
            remedy="use --protocol coco, or give what convert-kitti wrote",
        )
    return _columns(tuple(str(image.id) for image in images), rows, with_score=False)


def detections_of(results: Results, dataset: Dataset) -> KittiObjects:
    """Columns of a detector's results on that dataset; class names stand for KITTI's."""
    ids = np.array(sorted(image.id for image in dataset.images), np.int64)
    order = np.argsort(results.image_id, kind="stable")
    kept = results.where(order)
    boxes = kept.boxes_xywh.copy()
    boxes[:, 2:] += boxes[:, :2]
    unknown = np.full(len(kept), -1.0)
    return KittiObjects(
        tuple(str(number) for number in ids),
        np.searchsorted(ids, kept.image_id),
        tuple(dataset.categories[number - 1].lower() for number in kept.category_id),
        unknown,
        unknown,
        boxes,
        kept.scores,
        np.full(len(kept), np.nan),
    )
