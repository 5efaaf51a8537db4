"""KITTI objects and detections in columns: from label and result folders, a converted dataset, or COCO results."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from drivetl.coco.boxes import check_corners, xywh_to_xyxy
from drivetl.coco.records import Annotation, Dataset, IgnoreRegion
from drivetl.console import track, warn
from drivetl.errors import DataError
from drivetl.files.kitti_text import ANY_LINE, RESULT_LINE, KittiLine, line_of, parse_text
from drivetl.files.paths import require_directory
from drivetl.files.read import read_text
from drivetl.metrics.results import Results
from drivetl.metrics.truth import Floats, Ints

_EVALUATED = ("car", "pedestrian", "cyclist")
_USED = ("truncated", "occluded", "dimensions_hwl_m", "location_xyz_m")
"""Attributes that KITTI's evaluation uses."""


@dataclass(slots=True)
class KittiObjects:
    """Objects or detections of many frames, sorted by frame, in the file's order within a frame."""

    frames: tuple[str, ...]
    """(F,) names without suffix, sorted."""
    frame: Ints
    """(N,) index into `frames`; ascending."""
    names: tuple[str, ...]
    """(N,) class names in lower case: the devkit ignores case."""
    truncated: Floats
    """(N,) share outside the image, 0..1; -1 where unknown."""
    occluded: Floats
    """(N,) occlusion level 0..3; -1 where unknown."""
    boxes_xyxy: Floats
    """(N, 4) px."""
    scores: Floats
    """(N,) 1 for labels."""
    distance_m: Floats
    """(N,) z in the camera frame; NaN without a 3-D label."""


def read_labels(folder: Path, frames: Sequence[str] | None = None) -> KittiObjects:
    """Read a label folder: all its frames, or the named ones. Raises DataError with file, line and value."""
    folder = _inner(require_directory(folder, "--gt expects a KITTI label folder, like training/label_2"), "label_2")
    files = _text_files(folder)
    if not files:
        raise DataError("contains no label files", remedy="--gt expects a folder of 000000.txt, ...", file=folder)
    chosen = sorted(files if frames is None else set(frames))
    for frame in chosen:
        if frame not in files:
            raise DataError(f"frame {frame} has no label file", remedy="check the list of frames", file=folder)
    return _read(files, chosen, ANY_LINE)


def read_results(folder: Path, frames: Sequence[str]) -> KittiObjects:
    """Read a result folder for these frames. A missing file counts as no detections, with a warning.

    Raises DataError with file, line and value for an invalid line, for results of frames that are not evaluated, and
    when a frame has two files.
    """
    folder = _inner(require_directory(folder, "--predictions expects a folder of KITTI result files"), "data")
    files = _text_files(folder)
    unknown = sorted(set(files) - set(frames))
    if unknown:
        raise DataError(
            f"results for {len(unknown)} frames without labels ({', '.join(unknown[:3])}, ...)",
            remedy="use the labels of the same frames, or select the frames with --frames",
            file=files[unknown[0]],
        )
    missing = sorted(set(frames) - set(files))
    if missing:
        warn(
            f"{len(missing)} of {len(frames)} frames have no result file ({', '.join(missing[:3])}"
            f"{', ...' if len(missing) > 3 else ''}): counted as no detections"
        )
    return _read(files, sorted(frames), RESULT_LINE)


def _inner(folder: Path, name: str) -> Path:
    """The folder itself, or the subfolder of KITTI's layout that has the files."""
    for inner in (folder / name, folder / "training" / name):
        if inner.is_dir() and not any(folder.glob("*.txt")):
            return inner
    return folder


def _text_files(folder: Path) -> dict[str, Path]:
    """Frame name -> file. Raises DataError for two files of one frame (000007.txt and 7.txt or 000007.TXT)."""
    files: dict[str, Path] = {}
    by_number: dict[str, Path] = {}
    for path in sorted(folder.iterdir()):
        if path.suffix.lower() != ".txt" or not path.is_file():
            continue
        number = path.stem.lstrip("0") or "0"
        if number in by_number:
            raise DataError(
                f"a second file for frame {path.stem}, next to {by_number[number].name}",
                remedy="keep one of the two",
                file=path,
            )
        by_number[number] = path
        files[path.stem] = path
    return files


def _read(files: Mapping[str, Path], frames: Sequence[str], counts: tuple[int, ...]) -> KittiObjects:
    """The objects of these frames' files; counts: the allowed numbers of columns per line."""
    with_score = counts == RESULT_LINE
    frame_of: list[int] = []
    lines: list[KittiLine] = []
    for number, frame in enumerate(track(frames, "reading results" if with_score else "reading labels")):
        path = files.get(frame)
        if path is None:
            continue
        try:
            numbered = parse_text(read_text(path), counts)
        except DataError as error:
            raise error.at(path) from None
        for line_number, line in numbered:
            try:
                check_corners(line.box_xyxy)
            except DataError as error:
                raise error.at(path, line_number) from None
            lines.append(line)
        frame_of += [number] * len(numbered)
    return _columns(tuple(frames), frame_of, lines, with_score)


def _columns(
    frames: tuple[str, ...], frame_of: Sequence[int], lines: Sequence[KittiLine], with_score: bool
) -> KittiObjects:
    sizes = np.array([line.dimensions_hwl_m for line in lines], np.float64).reshape(-1, 3)
    z = np.array([line.location_xyz_m[2] for line in lines], np.float64)
    return KittiObjects(
        frames,
        np.array(frame_of, np.int64),
        tuple(line.label.lower() for line in lines),
        np.array([line.truncated for line in lines], np.float64),
        np.array([line.occluded for line in lines], np.float64),
        np.array([line.box_xyxy for line in lines], np.float64).reshape(-1, 4),
        np.array([line.score if with_score else 1.0 for line in lines], np.float64),
        np.where(sizes.min(axis=1, initial=np.inf) > 0, z, np.nan),
    )


def labels_of(dataset: Dataset) -> KittiObjects:
    """The labels that a converted KITTI dataset was made from: source labels, unclipped boxes, DontCare.

    Raises DataError for data of another source without an object of a class that KITTI evaluates.
    """
    images = sorted(dataset.images, key=lambda image: image.id)
    frame_of: list[int] = []
    lines: list[KittiLine] = []
    for number, image in enumerate(images):
        items: list[Annotation | IgnoreRegion] = [*image.annotations, *image.ignore_regions]
        for item in items:
            used = {name: item.attributes[name] for name in _USED if item.attributes.get(name) is not None}
            box = item.attributes.get("source_box_xyxy") or xywh_to_xyxy(item.bbox_xywh)
            lines.append(line_of(str(item.attributes.get("source_label", "DontCare")), box, used))
            frame_of.append(number)
    if dataset.info.get("source") != "kitti" and not any(line.label.lower() in _EVALUATED for line in lines):
        raise DataError(
            f"not from KITTI: no object has the source label {', '.join(_EVALUATED)} (classes: "
            f"{', '.join(dataset.categories)})",
            remedy="use --protocol coco, or a dataset written by convert-kitti",
        )
    return _columns(tuple(str(image.id) for image in images), frame_of, lines, with_score=False)


def detections_of(results: Results, dataset: Dataset) -> KittiObjects:
    """A detector's results on that dataset as KITTI detections; its class names are used as KITTI's."""
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
