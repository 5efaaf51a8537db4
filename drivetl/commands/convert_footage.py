"""`drivetl convert-footage`: custom footage in any of nine formats to one COCO dataset, split by drive."""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path

from drivetl import console
from drivetl.adapters.footage import FORMATS, read_footage
from drivetl.adapters.reading import Reading
from drivetl.coco.taxonomy import load_taxonomy
from drivetl.commands.flags import input_path
from drivetl.convert.run import add_error_argument, convert_and_write, print_summary
from drivetl.convert.split import add_split_arguments, split_options
from drivetl.errors import ConfigError
from drivetl.files.paths import require_directory


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Flags of the command."""
    add = parser.add_argument
    formats = ", ".join(FORMATS)
    add(
        "--format",
        choices=tuple(FORMATS),
        metavar="NAME",
        help=f"format of the labels: {formats} (required without --video)",
    )
    add("--root", type=Path, metavar="PATH", help="folder of the labels, or the label file (required without --video)")
    add("--out", required=True, type=Path, metavar="DIR", help="new folder for all.json, train.json and val.json")
    add("--images", type=Path, metavar="DIR", help="images root, if it is not found below --root")
    add(
        "--taxonomy",
        type=input_path,
        metavar="FILE.yaml",
        help="maps labels to driving classes, see datasets/*/taxonomy.yaml (default: the labels are the classes)",
    )
    add(
        "--attributes",
        type=input_path,
        metavar="CSV",
        help="table with file_name and columns like sequence (the drive), weather, timeofday, ...",
    )
    add("--sequence-from", metavar="REGEX", help="the drive is the first group of this pattern in each file name")
    add(
        "--visible-masks",
        action="store_true",
        help="YOLO polygons that include hidden parts: later polygons cover earlier ones, only visible parts are kept",
    )
    add(
        "--rotated",
        choices=("enclose", "refuse"),
        default="enclose",
        help="rotated boxes: replace each by the upright box around it, and count them; or stop (default: enclose)",
    )
    add(
        "--video",
        type=Path,
        metavar="PATH",
        help="extract the frames of a video, or of all videos in a folder, instead of converting labels",
    )
    add(
        "--fps",
        type=_rate,
        default=2.0,
        metavar="RATE|all",
        help="with --video: frames per second to keep (default: 2)",
    )
    add(
        "--keep-duplicates",
        action="store_true",
        help="with --video: also keep frames that show nothing new (the car is parked)",
    )
    add_error_argument(parser)
    add_split_arguments(parser, standard=False)


def _rate(text: str) -> float | None:
    return None if text == "all" else float(text)


def run(args: argparse.Namespace) -> None:
    """Extract a video's frames, or convert labelled footage and report what happened to every object."""
    if args.video is not None:
        if args.format or args.root:
            raise ConfigError(
                "--video extracts frames and reads no labels",
                remedy="extract first, then run --format with --images OUT/images",
            )
        _extract(args)
        return
    if not args.format or not args.root:
        raise ConfigError("nothing to convert", remedy="name --format and --root, or --video to extract frames")
    _convert(args)


def resume_flags(args: argparse.Namespace) -> list[str] | None:
    """Nothing to add: extracted frames, and a conversion whose embedded images were being written, are kept."""
    journals = [] if args.video is None else (args.out / "images").glob("*/extraction.jsonl")
    return [] if any(journals) or (args.out / "summary.json").is_file() else None


def _extract(args: argparse.Namespace) -> None:
    from drivetl.adapters.video import extract_videos

    drives = extract_videos(args.video, args.out, fps=args.fps, keep_duplicates=args.keep_duplicates)
    console.table(
        "frames",
        ["drive", "decoded", "kept", "nothing new"],
        [[drive.name, drive.seen, len(drive.frames), drive.duplicates] for drive in drives],
    )
    for drive in drives:
        if drive.lost:
            console.warn(
                f"{drive.name}: {drive.lost} damaged frames cannot be decoded and are left out; later ones are kept"
            )
        if drive.cut_off:
            console.warn(
                f"{drive.name}: the video breaks off after {drive.seen} of {drive.expected} frames; the others are kept"
            )
    console.numbers(frames=sum(len(drive.frames) for drive in drives), drives=len(drives))
    console.wrote(args.out / "frames.json")
    words = (
        "convert-footage",
        "--format",
        "cvat",
        "--root",
        "LABELS",
        "--images",
        args.out / "images",
        "--out",
        "DATA",
    )
    console.say(f"label the frames, then convert the labels, for example: {console.command(*words)}")


def _convert(args: argparse.Namespace) -> None:
    from drivetl.adapters.labelme import INSIDE, gather_embedded

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
            f"no --taxonomy: the {len(source.taxonomy.classes)} labels of the footage are the classes: "
            + ", ".join(source.taxonomy.categories)
        )
    embedded = INSIDE in reading.account.notes
    images_root = args.out / "images" if embedded else source.images_root
    split = split_options(args)
    if embedded and not split.check_images:  # they are not on disk yet, and a second run must give the same summary
        split = replace(split, sample_images=0)
    summary = convert_and_write(
        source.images,
        source.taxonomy,
        images_root,
        args.out,
        source=args.format,
        split=split,
        on_error=args.on_error,
        account=reading.account,
    )
    if embedded:
        names = [image.file_name for image in summary.outline.images]
        gather_embedded(args.root, source.images_root, names, images_root)
        console.wrote(images_root)
    elif not any((images_root / image.file_name).is_file() for image in summary.outline.images):
        console.warn("none of the images is on disk; convert again with --images before training")
    print_summary(summary, console.command("audit", args.out / "all.json"))
