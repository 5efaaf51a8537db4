"""The files that detections are written to, image by image: COCO results, CSV and KITTI result files."""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import numpy.typing as npt
import orjson

from drivetl.coco.detections import Detections
from drivetl.coco.records import Dataset, ImageRecord
from drivetl.errors import ConfigError, DataError, nearest
from drivetl.files.kitti_text import KittiLine, rounded, write_line
from drivetl.metrics.results import of_image

FORMATS = ("coco", "csv", "kitti")
CSV_COLUMNS = ("image_id", "file_name", "time_s", "class", "score", "x1", "y1", "x2", "y2", "track_id", "outcome")
RESULTS, TABLE, KITTI_FOLDER = "results.json", "detections.csv", "data"


@dataclass(frozen=True, slots=True)
class Found:
    """The N detections of one image, with what is known about them."""

    record: ImageRecord
    detections: Detections
    track_ids: npt.NDArray[np.int64] | None = None
    """(N,)"""
    outcomes: Sequence[str] | None = None
    """N words, see `outcomes.Outcome`."""
    time_s: float | None = None
    """Of a video's frame."""


Add = Callable[[Found], object]


def parse_formats(text: str) -> tuple[str, ...]:
    """`coco,csv` -> the formats in it. Raises ConfigError for an unknown one."""
    names = tuple(dict.fromkeys(word.strip() for word in text.split(",")))
    for name in names:
        if name not in FORMATS:
            raise ConfigError(f"--format: {name!r} is unknown", remedy=nearest(name, FORMATS))
    return names


@contextmanager
def result_files(folder: Path, formats: Sequence[str], categories: Sequence[str]) -> Iterator[Add]:
    """Write the results of images into a folder as they are added; the files are complete after the block.

    coco: results.json; csv: detections.csv; kitti: data/NAME.txt, one file per image.
    """
    writers = {"coco": _coco_file, "csv": _csv_file, "kitti": _kitti_files}
    with ExitStack() as stack:
        adders = [stack.enter_context(writers[name](folder, categories)) for name in formats]
        yield lambda found: [add(found) for add in adders]


@contextmanager
def _coco_file(folder: Path, _: Sequence[str]) -> Iterator[Add]:
    with (folder / RESULTS).open("wb") as file:
        file.write(b"[")
        empty = True

        def add(found: Found) -> None:
            nonlocal empty
            rows = coco_results(found.record.id, found.detections, found.track_ids)
            if rows:
                file.write((b"" if empty else b",") + orjson.dumps(rows, option=orjson.OPT_SERIALIZE_NUMPY)[1:-1])
                empty = False

        yield add
        file.write(b"]")


@contextmanager
def _csv_file(folder: Path, categories: Sequence[str]) -> Iterator[Add]:
    with (folder / TABLE).open("w", encoding="utf-8", newline="") as file:
        rows = csv.writer(file, lineterminator="\n")
        rows.writerow(CSV_COLUMNS)
        yield lambda found: rows.writerows(csv_rows(found, categories))


@contextmanager
def _kitti_files(folder: Path, categories: Sequence[str]) -> Iterator[Add]:
    (folder / KITTI_FOLDER).mkdir()

    def add(found: Found) -> None:
        path = folder / KITTI_FOLDER / kitti_name(found.record)
        path.write_text(kitti_lines(found.detections, categories), "utf-8")

    yield add


def coco_results(
    image_id: int, detections: Detections, track_ids: npt.NDArray[np.int64] | None = None
) -> list[dict[str, Any]]:
    """One image's rows of a COCO results list: boxes xywh in px to a thousandth, masks as RLE, track_id with tracks."""
    boxes = of_image(image_id, detections).boxes_xywh
    rows: list[dict[str, Any]] = []
    for index, (box, score, label) in enumerate(zip(boxes, detections.scores, detections.labels, strict=True)):
        row = {
            "image_id": image_id,
            "category_id": int(label),
            "bbox": [round(float(side), 3) for side in box],
            "score": round(float(score), 6),
        }
        if detections.masks is not None:
            row["segmentation"] = detections.masks[index]
        if track_ids is not None:
            row["track_id"] = int(track_ids[index])
        rows.append(row)
    return rows


def csv_rows(found: Found, categories: Sequence[str]) -> Iterator[list[Any]]:
    """One row of CSV_COLUMNS per detection; what is unknown is empty. Corners in px to a hundredth."""
    detections, n = found.detections, len(found.detections.scores)
    time_s = "" if found.time_s is None else f"{found.time_s:.3f}"
    tracks = [""] * n if found.track_ids is None else found.track_ids.tolist()
    for index in range(n):
        name, score = categories[int(detections.labels[index]) - 1], f"{float(detections.scores[index]):.4f}"
        corners = [f"{float(side):.2f}" for side in detections.boxes[index]]
        outcome = "" if found.outcomes is None else found.outcomes[index]
        yield [found.record.id, found.record.file_name, time_s, name, score, *corners, tracks[index], outcome]


def kitti_lines(detections: Detections, categories: Sequence[str]) -> str:
    """The text of a KITTI result file: 16 fields per line, the 3-D ones with the devkit's values for "unknown"."""
    lines = []
    for box, score, label in zip(detections.boxes.tolist(), detections.scores.tolist(), detections.labels, strict=True):
        name = categories[int(label) - 1].replace(" ", "_")
        line = KittiLine(f"{name[:1].upper()}{name[1:]}", box, score=score)
        lines.append(write_line(line, rounded, "{:.6f}".format) + "\n")
    return "".join(lines)


def kitti_name(record: ImageRecord) -> str:
    """The name of an image's KITTI result file."""
    return f"{PurePosixPath(record.file_name).stem}.txt"


def check_kitti_names(dataset: Dataset) -> None:
    """Raises DataError when two images would share a KITTI result file."""
    taken: dict[str, str] = {}
    for record in dataset.images:
        name = kitti_name(record)
        if name in taken:
            raise DataError(
                f"{taken[name]} and {record.file_name} would both be {name}", remedy="rename one, or use --format coco"
            )
        taken[name] = record.file_name


def images_document(images: Sequence[ImageRecord], categories: Sequence[str]) -> Mapping[str, Any]:
    """A COCO document without annotations: the image and class ids that results refer to."""
    return {
        "images": [
            {"id": image.id, "file_name": image.file_name, "width": image.width, "height": image.height}
            | ({"sequence": image.drive, "frame_index": image.frame_index} if image.frame_index is not None else {})
            for image in images
        ],
        "annotations": [],
        "categories": [{"id": number, "name": name} for number, name in enumerate(categories, 1)],
    }
