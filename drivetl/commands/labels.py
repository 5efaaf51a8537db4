"""`drivetl labels`: write the labels of a COCO dataset, or the detections on it, for another tool."""

from __future__ import annotations

import argparse
import shlex
from collections import Counter
from dataclasses import replace
from pathlib import Path

from drivetl import console
from drivetl.adapters.kitti import write_labels
from drivetl.adapters.kitti_tracking import write_track_labels
from drivetl.adapters.writers import write_voc, write_yolo
from drivetl.coco.io import read_dataset
from drivetl.coco.records import Annotation, Dataset
from drivetl.commands.flags import input_path, new_path
from drivetl.convert.run import count_classes
from drivetl.errors import ConfigError, DataError
from drivetl.files.write import new_directory


def _write_kitti(dataset: Dataset, out: Path) -> Counter[str]:
    with new_directory(out) as work:
        write_labels(dataset, work / "label_2")
    return _masks(dataset)


def _write_tracks(dataset: Dataset, out: Path) -> Counter[str]:
    with new_directory(out) as work:
        write_track_labels(dataset, work / "label_02")
    return _masks(dataset)


def _write_cvat(dataset: Dataset, out: Path) -> Counter[str]:
    from drivetl.adapters.cvat_writer import write_cvat

    return write_cvat(dataset, out)


def _write_cvat_video(dataset: Dataset, out: Path) -> Counter[str]:
    from drivetl.adapters.cvat_writer import write_cvat_video

    return write_cvat_video(dataset, out)


def _masks(dataset: Dataset) -> Counter[str]:
    return Counter("masks" for image in dataset.images for item in image.annotations if item.segmentation is not None)


WRITERS = {
    "kitti": _write_kitti,
    "kitti-tracking": _write_tracks,
    "yolo": write_yolo,
    "voc": write_voc,
    "cvat": _write_cvat,
    "cvat-video": _write_cvat_video,
}
"""--format -> function that writes a new folder and returns counts of what the format cannot store."""

IMAGES = {"kitti": "image_2", "kitti-tracking": "image_02", "yolo": "images", "voc": "JPEGImages", "cvat": "images"}
"""--format -> the folder, next to the labels, where the tools of that format look for the images."""


THRESHOLD = 0.3


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Flags of the command."""
    parser.add_argument("data", type=input_path, metavar="DATA.json", help="dataset json in drivetl's format")
    parser.add_argument("--format", choices=tuple(WRITERS), required=True, help="format to write")
    parser.add_argument("--out", type=new_path, required=True, metavar="DIR", help="new folder for the label files")
    parser.add_argument(
        "--predictions",
        type=input_path,
        metavar="RESULTS.json",
        help="write these detections (COCO results) instead of the dataset's labels, to correct them in a tool",
    )
    parser.add_argument(
        "--threshold",
        type=float,
        metavar="SCORE",
        help="with --predictions: lowest score that is written (default: 0.3)",
    )
    parser.add_argument("--images", type=input_path, metavar="DIR", help="images root (default: the one in the json)")


def run(args: argparse.Namespace) -> None:
    """Write the labels, print the objects per class, and warn about everything that the format cannot store."""
    if args.threshold is not None and args.predictions is None:
        raise ConfigError("--threshold is for --predictions", remedy="leave it out, or give --predictions")
    if args.threshold is not None and not 0 <= args.threshold <= 1:
        raise ConfigError(f"--threshold is {args.threshold:g}", remedy="give a score from 0 to 1")
    dataset = read_dataset(args.data, args.images)
    if args.predictions is not None:
        lowest = THRESHOLD if args.threshold is None else args.threshold
        dataset = with_predictions(dataset, args.predictions, lowest)
    try:
        lost = WRITERS[args.format](dataset, args.out)
    except DataError as error:
        raise error.at(args.data) from None
    partly = sum(image.labelled is not None for image in dataset.images)
    if partly:
        lost["lists of the classes that an image is labelled for"] = partly
    counts: dict[str, int] = {"images": len(dataset.images), **count_classes(dataset.categories, dataset.images)}
    counts["ignore regions"] = sum(len(image.ignore_regions) for image in dataset.images)
    console.numbers(**counts, lost=dict(lost))
    console.table(f"{args.format} labels", ["", "in the dataset"], counts.items())
    for what, count in sorted(lost.items()):
        console.warn(f"{count} {what}: {args.format} cannot hold them")
    folder = image_folder(dataset, args.format)
    linked = folder is not None and args.format in IMAGES
    link = ["ln", "-s", str(folder.resolve()), str(args.out / IMAGES[args.format])] if folder and linked else []
    console.wrote(args.out, shlex.join(link))


def with_predictions(dataset: Dataset, results: Path, threshold: float) -> Dataset:
    """The same images with the detections that score at least `threshold` in place of objects and ignore regions; each
    has the attribute `score`. Raises DataError for results that are not of this dataset."""
    from drivetl.metrics.results import read_coco_results

    found = read_coco_results(results, dataset)
    objects: dict[int, list[Annotation]] = {image.id: [] for image in dataset.images}
    for row in range(len(found.scores)):
        if found.scores[row] < threshold:
            continue
        x, y, w, h = map(float, found.boxes_xywh[row])
        mask = found.segmentations[row] if found.segmentations is not None else None
        attributes = {"score": round(float(found.scores[row]), 4)}
        item = Annotation(int(found.category_id[row]), (x, y, w, h), w * h, mask, attributes)
        objects[int(found.image_id[row])].append(item)
    images = [replace(image, annotations=objects[image.id], ignore_regions=[]) for image in dataset.images]
    return replace(dataset, images=images)


def image_folder(dataset: Dataset, format_name: str) -> Path | None:
    """The folder that a link to the images must point to: the images root; for KITTI the one folder that has all
    images or drives. None where there is no such folder."""
    levels = {"kitti": 1, "kitti-tracking": 2}.get(format_name, 0)
    parents = {"/".join(image.file_name.split("/")[:-levels]) if levels else "" for image in dataset.images}
    folder = dataset.images_root / parents.pop() if len(parents) == 1 else None
    return folder if folder is not None and folder.is_dir() else None
