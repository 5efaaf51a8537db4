"""Do our conditions look like the real ones? Figures of real bad weather and of ours from clear frames, side by side.

    python tools/bench/realism.py [--data ../shared/data] [--frames 12]

One fixed motorway camera at day, on a wet road and at night (`highway_camera`), region by region of the same
background; photographs of real fog (`dawn_fog`) against our fog on clear frames. Nothing is fitted here.
"""

from __future__ import annotations

import argparse
import csv
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt

sys.path.insert(0, str(Path(__file__).parents[2]))

from drivetl.coco.files import read_rgb
from drivetl.conditions import Camera, apply, pixel_seed
from drivetl.console import say, table, track

Image = npt.NDArray[np.uint8]
MAST = Camera(focal_px=700, horizon_px=88, centre_px=300, height_m=8, canyon_m=25)
"""The motorway camera, by eye: horizon and vanishing point of its lane markings at 640 x 360."""
REGIONS = {"sky": (0.08, 0.16, 0.2, 0.8), "trees": (0.28, 0.42, 0.72, 0.98), "far road": (0.36, 0.5, 0.4, 0.6), "road": (0.6, 0.95, 0.05, 0.35)}  # fmt: skip
"""name -> rows from, to, columns from, to, as shares of the picture."""


def figures(image: Image) -> list[float]:
    """Mean, 5 % and 95 % quantile of luma, saturation, edge density, noise: what a region looks like in six numbers."""
    luma = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY).astype(np.float32)
    saturation = cv2.cvtColor(image, cv2.COLOR_RGB2HSV)[..., 1]
    slope = cv2.magnitude(cv2.Sobel(luma, cv2.CV_32F, 1, 0), cv2.Sobel(luma, cv2.CV_32F, 0, 1)) / 8
    fine = luma - cv2.medianBlur(luma, 3)
    low, high = np.quantile(luma, (0.05, 0.95))
    noise = 1.48 * float(np.median(np.abs(fine[slope <= np.median(slope)])))
    return [float(luma.mean()), float(low), float(high), float(saturation.mean()), float(slope.mean()), noise]


def region(image: Image, name: str) -> Image:
    """The named part of a picture."""
    top, bottom, left, right = REGIONS[name]
    height, width = image.shape[:2]
    return np.ascontiguousarray(
        image[int(top * height) : int(bottom * height), int(left * width) : int(right * width)]
    )


def compare_highway(root: Path, frames: int) -> None:
    """Night and wet road made from the camera's day frames, against its real ones."""
    with (root / "attributes.csv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    real = {
        kind: [row["file_name"] for row in rows if (row["weather"], row["timeofday"]) == where]
        for kind, where in (
            ("day", ("dry", "daytime")),
            ("night", ("dry", "night")),
            ("wet_road", ("wet_road", "daytime")),
        )
    }
    pictures = {
        kind: [read_rgb(root / "images" / name) for name in spread(names, frames)]
        for kind, names in real.items()
    }
    for kind in ("night", "wet_road"):
        groups: list[tuple[str, list[Image]]] = [
            ("real day", pictures["day"]),
            (f"real {kind}", pictures[kind]),
        ]
        for severity in (1, 3, 5):
            made = [
                apply(image, kind, severity, pixel_seed(number, kind, severity), camera=MAST)
                for number, image in track(list(enumerate(pictures["day"])), f"{kind} {severity}")
            ]
            groups.append((f"ours, severity {severity}", made))
        for name in REGIONS:
            show(f"{kind}: {name}", groups, lambda image, name=name: region(image, name))


def compare_fog(data: Path, frames: int) -> None:
    """Real fog photographs against our fog on clear frames: contrast in bands of height, saturation, edges."""
    real = [
        read_rgb(path) for path in spread(sorted((data / "dawn_fog" / "JPEGImages").glob("*.jpg")), frames)
    ]
    clear = [
        read_rgb(path) for path in spread(sorted((data / "kitti/training/image_2").iterdir()), frames // 2)
    ]
    clear += [
        read_rgb(path) for path in spread(sorted((data / "cityscapes_400/images").iterdir()), frames // 2)
    ]
    groups = [("real fog", real), ("clear frames", clear)]
    for severity in (2, 3, 4, 5):
        made = [apply(image, "fog", severity, number) for number, image in enumerate(clear)]
        groups.append((f"ours, severity {severity}", made))
    show("fog: whole picture", groups, lambda image: image)
    bands = [(0.0, 0.2), (0.2, 0.35), (0.35, 0.45), (0.45, 0.6), (0.6, 0.8), (0.8, 1.0)]
    lines = [
        [title, *(f"{np.mean([contrast(image, *band) for image in images]):.3f}" for band in bands)]
        for title, images in groups
    ]
    table(
        "fog: local contrast by rows from top to bottom",
        ["", *(f"{100 * a:.0f}-{100 * b:.0f} %" for a, b in bands)],
        lines,
    )


def contrast(image: Image, top: float, bottom: float) -> float:
    """Deviation of luma from its surroundings (3 % of the width) over mean luma, in a band of rows."""
    wide = 640
    small = cv2.resize(
        image, (wide, round(image.shape[0] * wide / image.shape[1])), interpolation=cv2.INTER_AREA
    )
    luma = cv2.cvtColor(small, cv2.COLOR_RGB2GRAY).astype(np.float32)
    local = np.abs(luma - cv2.GaussianBlur(luma, (0, 0), 0.03 * wide))
    rows = slice(int(top * len(luma)), max(int(top * len(luma)) + 1, int(bottom * len(luma))))
    return float(local[rows].mean() / max(luma[rows].mean(), 1))


def show(title: str, groups: Sequence[tuple[str, list[Image]]], part: Callable[[Image], Image]) -> None:
    """One table: a line per group, medians over its pictures."""
    names = ["", "luma", "5 %", "95 %", "saturation", "edges", "noise"]
    lines = [
        [name, *(f"{value:.1f}" for value in np.median([figures(part(image)) for image in images], axis=0))]
        for name, images in groups
    ]
    table(title, names, lines)


def spread(items: Sequence[object], count: int) -> list:
    """`count` of the items, evenly spread."""
    return [items[int(i)] for i in np.linspace(0, len(items) - 1, min(count, len(items)))]


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, default=Path(__file__).parents[3] / "shared" / "data")
    parser.add_argument("--frames", type=int, default=12)
    args = parser.parse_args()
    found = False
    if (args.data / "highway_camera").is_dir():
        compare_highway(args.data / "highway_camera", args.frames)
        found = True
    if (args.data / "dawn_fog").is_dir():
        compare_fog(args.data, args.frames)
        found = True
    if not found:
        say(f"no highway_camera or dawn_fog under {args.data} - give their folder with --data")


if __name__ == "__main__":
    main()
