"""A COCO dataset -> the label files of another tool: KITTI, YOLO or Pascal VOC."""

from __future__ import annotations

import argparse
from collections import Counter
from pathlib import Path

from drivetl import console
from drivetl.adapters.kitti import write_labels
from drivetl.adapters.kitti_tracking import write_track_labels
from drivetl.adapters.writers import write_voc, write_yolo
from drivetl.coco.io import read_dataset
from drivetl.coco.records import Dataset
from drivetl.convert.run import count_classes
from drivetl.errors import DataError
from drivetl.files.write import new_directory


def _write_kitti(dataset: Dataset, out: Path) -> Counter[str]:
    with new_directory(out) as work:
        write_labels(dataset, work / "label_2")
    return _masks(dataset)


def _write_tracks(dataset: Dataset, out: Path) -> Counter[str]:
    with new_directory(out) as work:
        write_track_labels(dataset, work / "label_02")
    return _masks(dataset)


def _masks(dataset: Dataset) -> Counter[str]:
    return Counter("masks" for image in dataset.images for item in image.annotations if item.segmentation is not None)


WRITERS = {"kitti": _write_kitti, "kitti-tracking": _write_tracks, "yolo": write_yolo, "voc": write_voc}
"""--format -> what writes a new folder and returns what the format cannot hold, with counts."""

IMAGES = {"kitti": "image_2", "kitti-tracking": "image_02", "yolo": "images", "voc": "JPEGImages"}
"""--format -> the folder, beside the labels, in which its tools look for the images."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Flags of the command."""
    parser.add_argument("data", type=Path, metavar="DATA.json", help="the dataset")
    parser.add_argument("--format", choices=tuple(WRITERS), required=True, help="what the other tool reads")
    parser.add_argument("--out", type=Path, required=True, help="new folder for the label files")
    parser.add_argument("--images", type=Path, help="images root, where it is not the one that the json names")


def run(args: argparse.Namespace) -> None:
    """Write the labels, say how many objects of each class there are and what could not be kept."""
    dataset = read_dataset(args.data, args.images)
    try:
        lost = WRITERS[args.format](dataset, args.out)
    except DataError as error:
        raise error.at(args.data) from None
    partly = sum(image.labelled is not None for image in dataset.images)
    if partly:
        lost["lists of the classes that an image is labelled for"] = partly
    counts: dict[str, int] = {"images": len(dataset.images), **count_classes(dataset.categories, dataset.images)}
    counts["ignore regions"] = sum(len(image.ignore_regions) for image in dataset.images)
    console.table(f"{args.format} labels", ["", "in the dataset"], counts.items())
    for what, count in sorted(lost.items()):
        console.warn(f"{count} {what}: {args.format} cannot hold them")
    folder = image_folder(dataset, args.format)
    link = f"ln -s {folder.resolve()} {args.out / IMAGES[args.format]}" if folder is not None else ""
    console.wrote(args.out, link)


def image_folder(dataset: Dataset, format_name: str) -> Path | None:
    """The folder whose name the other tool expects: the images root, for KITTI the one folder that holds all images
    or drives; None where there is none."""
    levels = {"kitti": 1, "kitti-tracking": 2}.get(format_name, 0)
    parents = {"/".join(image.file_name.split("/")[:-levels]) if levels else "" for image in dataset.images}
    folder = dataset.images_root / parents.pop() if len(parents) == 1 else None
    return folder if folder is not None and folder.is_dir() else None
