"""Custom footage in any of nine formats -> one COCO dataset, split without a leak."""

from __future__ import annotations

import argparse
from pathlib import Path

from drivetl import console
from drivetl.adapters.footage import FORMATS, read_footage
from drivetl.adapters.reading import Reading
from drivetl.coco.convert import add_error_argument, convert_and_write, print_summary
from drivetl.coco.split import add_split_arguments, split_options
from drivetl.coco.taxonomy import load_taxonomy

HELP = "custom footage (CVAT, LabelMe, VOC, YOLO, BDD100K, ...) -> one COCO dataset"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The flags of convert-footage."""
    parser.add_argument(
        "--format", required=True, choices=tuple(FORMATS), help="what the labelling tool wrote"
    )
    parser.add_argument(
        "--root", required=True, type=Path, help="folder of the labels, or the label file itself"
    )
    parser.add_argument(
        "--out", required=True, type=Path, help="new folder for all.json, train.json, val.json"
    )
    parser.add_argument("--images", type=Path, help="images root, where it is not found below --root")
    parser.add_argument(
        "--taxonomy",
        type=Path,
        help="labels -> driving classes (datasets/*/taxonomy.yaml); without: own labels",
    )
    parser.add_argument(
        "--attributes",
        type=Path,
        metavar="CSV",
        help="file_name and further columns: sequence, weather, timeofday, ...",
    )
    parser.add_argument(
        "--sequence-from",
        metavar="REGEX",
        help="its first group, searched in each file name, is the drive or clip",
    )
    parser.add_argument(
        "--visible-masks",
        action="store_true",
        help="YOLO polygons that run on beneath what hides them: paint them in order, keep what is visible",
    )
    parser.add_argument(
        "--rotated",
        choices=("enclose", "refuse"),
        default="enclose",
        help="rotated boxes: the upright box around each, counted; or an error (enclose)",
    )
    add_error_argument(parser)
    add_split_arguments(parser, standard=False)


def run(args: argparse.Namespace) -> None:
    """Read, split, write, and say what became of every object."""
    taxonomy = load_taxonomy(args.taxonomy) if args.taxonomy else None
    reading = Reading(
        args.root,
        args.images,
        on_error=args.on_error,
        taxonomy=taxonomy,
        rotated=args.rotated,
        visible_masks=args.visible_masks,
    )
    source = read_footage(args.format, reading, attributes=args.attributes, sequence_from=args.sequence_from)
    if source.own_labels:
        console.say(
            f"no --taxonomy: the classes are the footage's own {len(source.taxonomy.classes)} labels: "
            + ", ".join(source.taxonomy.categories)
        )
    summary = convert_and_write(
        source.images,
        source.taxonomy,
        source.images_root,
        args.out,
        source=args.format,
        split=split_options(args),
        on_error=args.on_error,
        account=reading.account,
    )
    print_summary(summary, f"drivetl audit {args.out / 'all.json'}")
