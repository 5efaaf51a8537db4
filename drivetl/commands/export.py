"""`drivetl export`: export a run as one ONNX file."""

from __future__ import annotations

import argparse
from collections import Counter
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from drivetl.commands.flags import input_path, run_directory
from drivetl.errors import ConfigError

if TYPE_CHECKING:
    from drivetl.models.detector import Detector


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Flags of the command."""
    add = parser.add_argument
    add("--run", type=run_directory, required=True, dest="run_folder", metavar="RUN", help="run directory")
    add("--out", type=Path, required=True, metavar="FILE.onnx", help="file to write")
    add("--height", type=int, metavar="PX", help="input height (default: of the run's data)")
    add("--width", type=int, metavar="PX", help="input width (default: of the run's data)")
    add(
        "--any-size",
        action="store_true",
        help="take images of any size (the default when the images of the run's data differ in size)",
    )
    add(
        "--image",
        type=input_path,
        nargs="*",
        default=[],
        metavar="FILE",
        help="extra images for the comparison; letterboxed to a fixed input size",
    )
    add("--checkpoint", choices=("best", "last"), default="best", help="weights to export (default: best)")


def run(args: argparse.Namespace) -> None:
    """Export, then compare ONNX Runtime with the model and print the largest differences."""
    if args.any_size and (args.height is not None or args.width is not None):
        raise ConfigError("--any-size with a height or width", remedy="leave one of them out")

    from drivetl import console

    with console.loading("torch"):
        from drivetl.export.onnx import export, other_sizes
        from drivetl.files.images import read_rgb
        from drivetl.models.checkpoint import load_detector

    detector = load_detector(args.run_folder, args.checkpoint, "cpu", "fp32")
    height, width, any_size = choose_size(args, detector)
    images = [read_rgb(path) for path in args.image]
    check = export(detector, args.out, height, width, images, any_size=any_size)
    console.say(f"images of another size: {other_sizes(detector, None if any_size else (height, width))}")
    console.numbers(**asdict(check), input_size="any" if any_size else {"height": height, "width": width})
    console.table(
        f"ONNX Runtime compared with the model, {'several sizes' if any_size else f'{width} x {height} px'}",
        ("images compared", "detections", "differing", "largest box difference, px", "largest score difference"),
        [(check.images, check.detections, check.differing, f"{check.box_px:.2g}", f"{check.score:.2g}")],
    )
    console.wrote(args.out)


def choose_size(args: argparse.Namespace, detector: Detector) -> tuple[int, int, bool]:
    """(height, width, whether the graph takes any size): of the flags, else of the run's data; prints the choice."""
    from drivetl import console

    if args.height is not None and args.width is not None:
        return args.height, args.width, False
    if args.any_size:
        transform: Any = detector.model.transform
        return int(transform.min_size[-1]), int(transform.max_size), True
    data, sizes = data_sizes(args.run_folder)
    (height, width), count = sizes.most_common(1)[0]
    if len(sizes) > 1 and args.height is None and args.width is None:
        console.say(f"input of any size: the images of {data} have {len(sizes)} sizes; --width and --height fix one")
        return height, width, True
    height = height if args.height is None else args.height
    width = width if args.width is None else args.width
    of_all = "" if len(sizes) == 1 else f" of {count} of its {sizes.total()} images"
    console.say(f"input size {width} x {height} px{of_all}, from {data}; --width and --height choose another")
    return height, width, False


def data_sizes(run: Path) -> tuple[Path, Counter[tuple[int, int]]]:
    """The run's data.val, and how many of its images have each (height, width) in px: a detector is used on such.

    Raises ConfigError that names the flags when the run or its data does not tell.
    """
    from drivetl.coco.io import read_dataset
    from drivetl.errors import DrivetlError
    from drivetl.files.runs import run_root, validation_data

    try:
        data = validation_data(run_root(run))
        sizes = Counter((image.height, image.width) for image in read_dataset(data).images)
    except DrivetlError as error:
        raise ConfigError(
            f"the size of the run's images is unknown ({error.reason})",
            remedy="name it with --height and --width, or use --any-size",
        ) from None
    if not sizes:
        raise ConfigError(
            f"{data} has no images to take the size from", remedy="name it with --height and --width, or use --any-size"
        )
    return data, sizes
