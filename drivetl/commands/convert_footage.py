"""Custom footage in any of nine formats -> one COCO dataset, split without a leak."""

from __future__ import annotations

import argparse
from pathlib import Path

from drivetl import console
from drivetl.adapters.footage import FORMATS, read_footage
from drivetl.adapters.labelme import INSIDE, gather_embedded
from drivetl.adapters.reading import Reading
from drivetl.adapters.video import extract_videos
from drivetl.coco.taxonomy import load_taxonomy
from drivetl.convert.run import add_error_argument, convert_and_write, print_summary
from drivetl.convert.split import add_split_arguments, split_options
from drivetl.errors import ConfigError
from drivetl.files.paths import require_directory


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The flags of convert-footage."""
    parser.add_argument("--format", choices=tuple(FORMATS), help="what the labelling tool wrote")
    parser.add_argument("--root", type=Path, help="folder of the labels, or the label file itself")
    parser.add_argument("--out", required=True, type=Path, help="new folder for all.json, train.json, val.json")
    parser.add_argument("--images", type=Path, help="images root, where it is not found below --root")
    parser.add_argument(
        "--taxonomy", type=Path, help="labels -> driving classes (datasets/*/taxonomy.yaml); without: own labels"
    )
    parser.add_argument(
        "--attributes",
        type=Path,
        metavar="CSV",
        help="file_name and further columns: sequence, weather, timeofday, ...",
    )
    parser.add_argument(
        "--sequence-from", metavar="REGEX", help="its first group, searched in each file name, is the drive"
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
    parser.add_argument(
        "--video", type=Path, metavar="FILE", help="instead of labels: extract frames of a video, or of all in a folder"
    )
    parser.add_argument("--fps", type=_rate, default=2.0, metavar="RATE|all", help="frames a second of --video (2)")
    parser.add_argument(
        "--keep-duplicates", action="store_true", help="keep frames of --video that show nothing new (a parked car)"
    )
    add_error_argument(parser)
    add_split_arguments(parser, standard=False)


def _rate(text: str) -> float | None:
    return None if text == "all" else float(text)


def run(args: argparse.Namespace) -> None:
    """Extract a video's frames, or read, split and write footage and say what became of every object."""
    if args.video is not None:
        if args.format or args.root:
            raise ConfigError(
                "--video extracts frames and reads no labels",
                remedy="extract first, then run --format with --images OUT/images",
            )
        _extract(args)
        return
    if not args.format or not args.root:
        raise ConfigError("--format and --root say what to convert", remedy="or --video what to extract")
    _convert(args)


def _extract(args: argparse.Namespace) -> None:
    drives = extract_videos(args.video, args.out, fps=args.fps, keep_duplicates=args.keep_duplicates)
    console.table(
        "frames",
        ["drive", "decoded", "kept", "nothing new"],
        [[drive.name, drive.seen, len(drive.frames), drive.duplicates] for drive in drives],
    )
    for drive in drives:
        if drive.cut_off:
            console.warn(
                f"{drive.name}: the video breaks off after {drive.seen} of {drive.expected} frames; what came before is"
                " kept"
            )
    console.wrote(
        args.out / "frames.json",
        f"drivetl convert-footage --format cvat --root LABELS --images {args.out / 'images'} --out DATA",
    )


def _convert(args: argparse.Namespace) -> None:
    if args.images is not None:
        require_directory(args.images, "--images is the folder that file names are relative to")
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
    inside = INSIDE in reading.account.notes
    images_root = args.out / "images" if inside else source.images_root
    summary = convert_and_write(
        source.images,
        source.taxonomy,
        images_root,
        args.out,
        source=args.format,
        split=split_options(args),
        on_error=args.on_error,
        account=reading.account,
    )
    if inside:
        names = [image.file_name for image in summary.outline.images]
        gather_embedded(args.root, source.images_root, names, images_root)
        console.wrote(images_root)
    elif not any((images_root / image.file_name).is_file() for image in summary.outline.images):
        console.warn("none of the images is on disk; before training, name their folder with --images")
    print_summary(summary, f"drivetl audit {args.out / 'all.json'}")
