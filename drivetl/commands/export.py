"""`drivetl export`: export a run as one ONNX file."""

from __future__ import annotations

import argparse
from collections import Counter
from pathlib import Path

from drivetl.commands.flags import input_path, run_directory
from drivetl.errors import ConfigError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Flags of the command."""
    add = parser.add_argument
    add("--run", type=run_directory, required=True, dest="run_folder", metavar="RUN", help="run directory")
    add("--out", type=Path, required=True, metavar="FILE.onnx", help="file to write")
    add("--height", type=int, metavar="PX", help="input height (default: of the run's data)")
    add("--width", type=int, metavar="PX", help="input width (default: of the run's data)")
    add(
        "--image",
        type=input_path,
        nargs="*",
        default=[],
        metavar="FILE",
        help="extra images for the comparison, resized to the input",
    )
    add("--checkpoint", choices=("best", "last"), default="best", help="weights to export (default: best)")


def run(args: argparse.Namespace) -> None:
    """Export, then compare ONNX Runtime with the model and print the largest differences."""
    import cv2
    import numpy as np

    from drivetl import console
    from drivetl.export.onnx import export
    from drivetl.files.images import read_rgb
    from drivetl.models.checkpoint import load_detector

    detector = load_detector(args.run_folder, args.checkpoint, "cpu", "fp32")
    height, width = args.height, args.width
    if height is None or width is None:
        data_height, data_width = data_size_hw(args.run_folder)
        height, width = height or data_height, width or data_width
    scaled = (cv2.resize(read_rgb(path), (width, height), interpolation=cv2.INTER_AREA) for path in args.image)
    frames = [np.asarray(frame, np.uint8) for frame in scaled]
    check = export(detector, args.out, height, width, frames)
    console.table(
        f"ONNX Runtime compared with the model, {width} x {height} px",
        ("images compared", "detections", "largest box difference, px", "largest score difference"),
        [(check.images, check.detections, f"{check.box_px:.2g}", f"{check.score:.2g}")],
    )
    console.wrote(args.out)


def data_size_hw(run: Path) -> tuple[int, int]:
    """The (height, width) in px that most images of a run's data.val have: a detector is used on such images.

    Raises ConfigError that names the flags when the run or its data does not tell.
    """
    from drivetl import console
    from drivetl.coco.io import read_dataset
    from drivetl.commands.compare import validation_data
    from drivetl.errors import DrivetlError
    from drivetl.models.checkpoint import run_root

    try:
        data = validation_data(run_root(run))
        sizes = Counter((image.height, image.width) for image in read_dataset(data).images)
    except DrivetlError as error:
        raise ConfigError(
            f"the size of the run's images is unknown ({error.reason})", remedy="name it with --height and --width"
        ) from None
    if not sizes:
        raise ConfigError(f"{data} has no images to take the size from", remedy="name it with --height and --width")
    (height, width), count = sizes.most_common(1)[0]
    of_all = "" if len(sizes) == 1 else f" of {count} of its {sizes.total()} images"
    console.say(f"input size {width} x {height} px{of_all}, from {data}; --width and --height choose another")
    return height, width
