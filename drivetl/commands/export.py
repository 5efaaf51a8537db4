"""`drivetl export`: export a run as one ONNX file."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Flags of the command."""
    parser.add_argument("--run", type=Path, required=True, dest="run_folder", metavar="RUN", help="run directory")
    parser.add_argument("--out", type=Path, required=True, metavar="FILE.onnx", help="file to write")
    parser.add_argument("--height", type=int, metavar="PX", help="input height (default: the run's model.min_size)")
    parser.add_argument("--width", type=int, metavar="PX", help="input width (default: the run's model.max_size)")
    parser.add_argument(
        "--image",
        type=Path,
        nargs="*",
        default=[],
        metavar="FILE",
        help="extra images for the comparison, resized to the input",
    )
    parser.add_argument(
        "--checkpoint", choices=("best", "last"), default="best", help="weights to export (default: best)"
    )


def run(args: argparse.Namespace) -> None:
    """Export, then compare ONNX Runtime with the model and print the largest differences."""
    import cv2
    import numpy as np

    from drivetl import console
    from drivetl.export.onnx import export
    from drivetl.files.images import read_rgb
    from drivetl.models.checkpoint import load_detector

    detector = load_detector(args.run_folder, args.checkpoint, "cpu", "fp32")
    transform: Any = detector.model.transform
    height, width = args.height or transform.min_size[-1], args.width or transform.max_size
    scaled = (cv2.resize(read_rgb(path), (width, height), interpolation=cv2.INTER_AREA) for path in args.image)
    frames = [np.asarray(frame, np.uint8) for frame in scaled]
    check = export(detector, args.out, height, width, frames)
    console.table(
        f"ONNX Runtime compared with the model, {width} x {height} px",
        ("images compared", "detections", "largest box difference, px", "largest score difference"),
        [(check.images, check.detections, f"{check.box_px:.2g}", f"{check.score:.2g}")],
    )
    console.wrote(args.out)
