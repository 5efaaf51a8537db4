"""The files of a selection: selected.json with pre-labels, selected.csv and .txt, the images of a video, the sheet."""

from __future__ import annotations

import csv
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt

from drivetl import console
from drivetl.coco.boxes import area
from drivetl.coco.detections import Detections
from drivetl.coco.records import Annotation, Dataset, ImageRecord
from drivetl.coco.writing import encode_datasets
from drivetl.draw.captions import Tile, captioned_sheet
from drivetl.draw.objects import draw_objects, jpeg
from drivetl.files.images import Rgb, read_rgb
from drivetl.files.video import read_some_frames
from drivetl.prediction.images import with_min_score
from drivetl.selection.choose import Choice
from drivetl.selection.pool import Frame
from drivetl.selection.reasons import UNSURE

DATASET, TABLE, NAMES, SHEET, IMAGES = "selected.json", "selected.csv", "selected.txt", "sheet.jpg", "images"
ATTRIBUTES = "attributes.csv"
"""Drives and conditions of the images, for `convert-footage --attributes`: labelling tools do not keep them."""
COLUMNS = ("rank", "file_name", "drive", "time_s", "uncertainty", "distance", "pre_labels", "reasons")
MOST_TILES = 100
"""On the sheet."""
TILE_WIDTH = 480
JPEG_QUALITY = 95
"""Of a video's frames."""


@dataclass(frozen=True)
class Selected:
    """A chosen frame with all that is written about it."""

    frame: Frame
    choice: Choice
    detections: Detections
    """From `uncertainty.LEAST_SCORE` on."""
    reasons: Sequence[str]


def pre_labelled(dataset: Dataset, selected: Sequence[Selected], scores: npt.ArrayLike) -> Dataset:
    """The chosen images in the order of their ids, with detections of at least (K,) `scores` as objects; each has the
    attribute `score`."""
    images = [
        replace(item.frame.record, annotations=annotations_of(with_min_score(item.detections, scores)))
        for item in selected
    ]
    return replace(
        dataset, images=sorted(images, key=lambda image: image.id), info={"source": "selection, pre-labelled"}
    )


def annotations_of(detections: Detections) -> list[Annotation]:
    """Detections as objects to be corrected, boxes in px to a hundredth, masks as RLE."""
    rows = []
    for index, corners in enumerate(detections.boxes.astype(np.float64)):
        x1, y1, x2, y2 = (round(float(side), 2) for side in corners)
        mask = None if detections.masks is None else detections.masks[index]
        score = {"score": round(float(detections.scores[index]), 4)}
        size = float(area(corners[None])[0])
        box = (x1, y1, round(x2 - x1, 2), round(y2 - y1, 2))
        rows.append(Annotation(int(detections.labels[index]), box, round(size, 2), mask, score))
    return rows


def write_dataset_for(dataset: Dataset, work: Path, final: Path) -> None:
    """Write selected.json into `work`, for a folder that will be `final`: its images root is relative to that."""
    (work / DATASET).write_bytes(b"".join(encode_datasets({"": dataset}, final)[""]))


def write_tables(selected: Sequence[Selected], dataset: Dataset, work: Path) -> None:
    """Write selected.csv (COLUMNS, best first) and selected.txt (the paths of the images, best first)."""
    labels = {image.id: len(image.annotations) for image in dataset.images}
    with (work / TABLE).open("w", encoding="utf-8", newline="") as file:
        rows = csv.writer(file, lineterminator="\n")
        rows.writerow(COLUMNS)
        for rank, item in enumerate(selected, 1):
            record, time_s = item.frame.record, item.frame.time_s
            rows.writerow(
                [
                    rank,
                    record.file_name,
                    item.frame.drive,
                    "" if time_s is None else f"{time_s:.3f}",
                    f"{item.choice.uncertainty:.3f}",
                    f"{item.choice.distance:.3f}",
                    labels[record.id],
                    "; ".join(item.reasons),
                ]
            )
    root = dataset.images_root.resolve()
    paths = [str(root / item.frame.record.file_name) for item in selected]
    (work / NAMES).write_text("".join(f"{path}\n" for path in paths), "utf-8")


def write_attributes(images: Sequence[ImageRecord], path: Path) -> bool:
    """Write drive, frame number and text attributes of the images as a CSV; whether there was anything to write."""
    names = sorted({name for image in images for name, value in image.attributes.items() if isinstance(value, str)})
    rows = [
        [
            image.file_name,
            image.drive,
            "" if image.frame_index is None else image.frame_index,
            *(image.attributes.get(name, "") for name in names),
        ]
        for image in images
    ]
    if not any(cell != "" for row in rows for cell in row[1:]):
        return False
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["file_name", "sequence", "frame_index", *names])
        writer.writerows(rows)
    return True


def write_video_frames(video: Path, selected: Sequence[Selected], folder: Path) -> None:
    """Write the chosen frames of a video as JPEG under the names of their records."""
    records = {item.frame.record.frame_index: item.frame.record for item in selected}
    stream = read_some_frames(video, records.__contains__)
    for number, image in console.track(stream, "extracting", len(records), "frames"):
        path = folder / records[number].file_name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(jpeg(image, quality=JPEG_QUALITY))


def write_sheet(
    selected: Sequence[Selected],
    images: Path,
    categories: Sequence[str],
    scores: npt.ArrayLike,
    heading: str,
    path: Path,
) -> None:
    """Write the contact sheet of the first MOST_TILES frames: pre-labels solid with names, what the detector is unsure
    of dashed."""
    shown = selected[:MOST_TILES]
    tiles = [
        Tile(
            _drawn(read_rgb(images / item.frame.record.file_name), item.detections, categories, scores),
            title_of(item.frame),
            item.reasons,
        )
        for item in console.track(shown, "drawing", unit="images")
    ]
    more = "" if len(shown) == len(selected) else f"the first {len(shown)} of {len(selected)}; "
    subheading = f"{more}best first; solid: pre-labels; dashed: detections below their score, possibly objects"
    ratio = float(np.mean([tile.image.shape[0] / tile.image.shape[1] for tile in tiles])) + 0.2
    columns = max(min(2, len(tiles)), min(6, round(math.sqrt(len(tiles) * ratio))))  # wide enough for the heading
    sheet = captioned_sheet(tiles, heading, subheading, categories, columns, TILE_WIDTH)
    path.write_bytes(jpeg(sheet, quality=90))


def title_of(frame: Frame) -> str:
    """`drive  0:12.5`, or the file's name where drive or time are unknown."""
    if not frame.drive or frame.time_s is None:
        return frame.record.file_name
    minutes, seconds = divmod(frame.time_s, 60)
    return f"{frame.drive}  {int(minutes)}:{seconds:04.1f}"


def _drawn(image: Rgb, found: Detections, categories: Sequence[str], scores: npt.ArrayLike) -> Rgb:
    """The image at the width of a tile with the pre-labels and the detections that make it uncertain, in the colours of
    the classes: names and scores would hide small objects."""
    least = np.broadcast_to(np.asarray(scores, np.float64), len(categories))[found.labels - 1]
    sure, unsure = found.scores >= least, (found.scores < least) & (found.scores >= UNSURE[0])
    scale = TILE_WIDTH / image.shape[1]
    canvas = draw_objects(
        image,
        found.boxes[unsure],
        found.labels[unsure].tolist(),
        width=TILE_WIDTH,
        dashed=True,
        show_labels=False,
        categories=categories,
    )
    return draw_objects(
        canvas, found.boxes[sure] * scale, found.labels[sure].tolist(), show_labels=False, categories=categories
    )


def drive_rows(frames: Sequence[Frame], selected: Sequence[Selected]) -> list[tuple[str, int, int]]:
    """(drive, frames, chosen frames) of each drive, sorted."""
    counts: Mapping[str, list[int]] = {frame.drive: [0, 0] for frame in frames}
    for frame in frames:
        counts[frame.drive][0] += 1
    for item in selected:
        counts[item.frame.drive][1] += 1
    return [(drive, *row) for drive, row in sorted(counts.items())]  # type: ignore[misc]
