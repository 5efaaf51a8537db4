"""`drivetl convert-kitti`: KITTI object or tracking data to one COCO dataset, split by drive."""

from __future__ import annotations

import argparse
import re
from collections.abc import Iterable
from pathlib import Path

from drivetl import console
from drivetl.adapters.footage import merge_attributes
from drivetl.adapters.kitti import read_kitti
from drivetl.adapters.kitti_mapping import find_mapping, standard_split
from drivetl.adapters.kitti_tracking import is_tracking, read_kitti_tracking
from drivetl.coco.records import SourceImage
from drivetl.coco.taxonomy import load_taxonomy
from drivetl.commands.flags import input_path
from drivetl.convert.build import Account
from drivetl.convert.run import add_error_argument, convert_and_write, print_summary
from drivetl.convert.split import add_split_arguments, split_options
from drivetl.errors import ConfigError
from drivetl.files.gc_pause import no_garbage_collection
from drivetl.files.shipped import shipped


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Flags of the command."""
    add = parser.add_argument
    add(
        "--root",
        type=Path,
        required=True,
        metavar="DIR",
        help="folder with training/image_2 and training/label_2, or with image_02 and label_02 of the tracking data",
    )
    add("--out", type=Path, required=True, metavar="DIR", help="new folder for the json files")
    add(
        "--mapping-dir",
        type=Path,
        metavar="DIR|none",
        help=(
            "the devkit's mapping folder (train_mapping.txt, train_rand.txt), which says which drive a frame is from; "
            "none: drives stay unknown (default: ROOT/mapping if it exists)"
        ),
    )
    add("--taxonomy", type=input_path, metavar="FILE.yaml", help="maps labels to classes (default: the one for KITTI)")
    add("--image-size", type=parse_size, metavar="WxH", help="size in px of images that are missing on disk")
    add(
        "--attributes",
        type=input_path,
        metavar="CSV",
        help="table with file_name and weather, timeofday, ... (default: ROOT/attributes.csv if it exists)",
    )
    add_split_arguments(parser)
    add_error_argument(parser)


def run(args: argparse.Namespace) -> None:
    """Convert and print the summary."""
    account = Account()
    images: Iterable[SourceImage]
    if is_tracking(args.root):
        images = read_kitti_tracking(args.root, account, image_size_wh=args.image_size, on_error=args.on_error)
        source, options = "kitti_tracking", split_options(args)
    else:
        mapping = find_mapping(args.root, args.mapping_dir)
        images = read_kitti(args.root, account, mapping=mapping, image_size_wh=args.image_size, on_error=args.on_error)
        source, options = "kitti", split_options(args, standard_split(mapping))
    taxonomy = load_taxonomy(args.taxonomy or shipped(f"datasets/{source}/taxonomy.yaml"))
    attributes = args.attributes or args.root / "attributes.csv"
    if args.attributes is not None or attributes.is_file():
        images = list(images)
        merge_attributes(images, attributes)
    with no_garbage_collection():  # the records are deleted inside, so the collector never scans them
        summary = convert_and_write(
            images, taxonomy, args.root, args.out, source=source, split=options, on_error=args.on_error, account=account
        )
        print_summary(summary, console.command("audit", args.out / "all.json"))
        del summary, images


def parse_size(text: str) -> tuple[int, int]:
    """`1242x375` -> (1242, 375). Raises ConfigError for anything else."""
    match = re.fullmatch(r"([1-9][0-9]{0,5})[xX]([1-9][0-9]{0,5})", text)
    if match is None:
        raise ConfigError(f"--image-size {text}: not a size", remedy="write it as 1242x375")
    return int(match[1]), int(match[2])
