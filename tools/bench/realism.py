"""Do synthetic conditions look like real ones? Image statistics of real bad weather and of conditions on clear frames.

    python tools/bench/realism.py [--data ../shared/data] [--frames 12]

One fixed motorway camera at day, on a wet road and at night (`highway_camera`), region by region of the same
background; photographs of real fog (`dawn_fog`) against synthetic fog on clear frames. No parameter is fitted here, but
the conditions were adjusted by eye and by these very figures: read them as a description, not as a held-out test.
"""

from __future__ import annotations

import argparse
import csv
import sys
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

sys.path.insert(0, str(Path(__file__).parents[2]))

from drivetl.conditions import Camera, apply, pixel_seed
from drivetl.console import say, table, track
from drivetl.files.images import read_rgb

TITLE = "Synthetic conditions next to real bad weather"
Image = npt.NDArray[np.uint8]
DATA = Path(__file__).parents[3] / "shared" / "data"
COLUMNS = ["luma", "5 %", "95 %", "saturation", "edges", "noise", "contrast up", "contrast middle", "contrast down"]
MAST = Camera(focal_px=700, horizon_px=88, centre_px=300, height_m=8, canyon_m=25)
"""The motorway camera, by eye: horizon and vanishing point of its lane markings at 640 x 360."""
REGIONS = {
    "sky": (0.08, 0.16, 0.2, 0.8),
    "trees": (0.28, 0.42, 0.72, 0.98),
    "far road": (0.36, 0.5, 0.4, 0.6),
    "road": (0.6, 0.95, 0.05, 0.35),
}
"""name -> rows from, to, columns from, to, as shares of the image."""


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
    """The named part of an image."""
    top, bottom, left, right = REGIONS[name]
    height, width = image.shape[:2]
    return np.ascontiguousarray(image[int(top * height) : int(bottom * height), int(left * width) : int(right * width)])


def compare_highway(root: Path, frames: int) -> list[dict[str, Any]]:
    """Night and wet road made from the camera's day frames, against its real ones."""
    with (root / "attributes.csv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    kinds = {"day": ("dry", "daytime"), "night": ("dry", "night"), "wet_road": ("wet_road", "daytime")}
    pictures, empty, vehicles = {}, {}, []
    for kind, where in kinds.items():
        names = [row["file_name"] for row in rows if (row["weather"], row["timeofday"]) == where]
        chosen = spread(names, frames)
        pictures[kind] = [read_rgb(root / "images" / name) for name in chosen]
        empty[kind] = emptied([root / "images" / name for name in names])
        if kind == "day":
            vehicles = [
                boxes(root / "labels" / f"{Path(n).stem}.txt", i) for n, i in zip(chosen, pictures[kind], strict=True)
            ]
    none = [np.zeros((0, 4), np.float32)] * len(empty["day"])
    result = []
    for kind in ("night", "wet_road"):
        result += beside_real(kind, pictures, vehicles, [*REGIONS])
        result += beside_real(kind, empty, none, ["far road", "road"], " without traffic")
    return result


def boxes(path: Path, image: Image) -> npt.NDArray[np.float32]:
    """(N, 4) xyxy px of the camera's labels, which are vehicles all: rows `class x y w h` as shares of the image."""
    rows = (
        np.loadtxt(path, ndmin=2).reshape(-1, 5)[:, 1:] if path.is_file() and path.stat().st_size else np.zeros((0, 4))
    )
    centre, half = rows[:, :2], rows[:, 2:] / 2
    size = (image.shape[1], image.shape[0]) * 2
    return np.asarray(np.concatenate([centre - half, centre + half], axis=1) * size, np.float32)


def beside_real(
    kind: str,
    pictures: dict[str, list[Image]],
    vehicles: list[npt.NDArray[np.float32]],
    regions: list[str],
    ending: str = "",
) -> list[dict[str, Any]]:
    """Rows of one condition: real day, the real condition, and ours made of the day at five severities.

    vehicles: (N, 4) xyxy px in each image of the day.
    """
    groups = {"real day": pictures["day"], f"real {kind}": pictures[kind]}
    for severity in range(1, 6):
        groups[f"{kind} {severity} from day"] = [
            apply(image, kind, severity, pixel_seed(number, kind, severity), camera=MAST, vehicles=vehicles[number])
            for number, image in track(list(enumerate(pictures["day"])), f"{kind} {severity}")
        ]
    return [row for name in regions for row in summary(f"{kind}: {name}{ending}", groups, partial(region, name=name))]


def emptied(paths: list[Path], count: int = 4) -> list[Image]:
    """The fixed camera's view without traffic: per-pixel medians of `count` interleaved sets of frames."""
    return [
        np.median([read_rgb(path) for path in paths[first::count]], axis=0).astype(np.uint8) for first in range(count)
    ]


def compare_fog(data: Path, frames: int) -> list[dict[str, Any]]:
    """Real fog photographs against our fog on clear frames of two data sets."""
    real = [read_rgb(path) for path in spread(sorted((data / "dawn_fog" / "JPEGImages").glob("*.jpg")), frames)]
    clear = [read_rgb(path) for path in spread(sorted((data / "kitti/training/image_2").iterdir()), frames // 2)]
    clear += [read_rgb(path) for path in spread(sorted((data / "cityscapes_400/images").iterdir()), frames // 2)]
    groups = {"real fog": real, "clear frames": clear}
    for severity in (2, 3, 4, 5):
        groups[f"fog {severity} from clear"] = [apply(image, "fog", severity, n) for n, image in enumerate(clear)]
    return summary("fog", groups, lambda image: image)


def contrast(image: Image, top: float, bottom: float) -> float:
    """Deviation of luma from its surroundings (3 % of the width) over mean luma, in a band of rows."""
    wide = 640
    small = cv2.resize(image, (wide, round(image.shape[0] * wide / image.shape[1])), interpolation=cv2.INTER_AREA)
    luma = cv2.cvtColor(small, cv2.COLOR_RGB2GRAY).astype(np.float32)
    local = np.abs(luma - cv2.GaussianBlur(luma, (0, 0), 0.03 * wide))
    rows = slice(int(top * len(luma)), max(int(top * len(luma)) + 1, int(bottom * len(luma))))
    return float(local[rows].mean() / max(luma[rows].mean(), 1))


def summary(what: str, groups: dict[str, list[Image]], part: Callable[[Image], Image]) -> list[dict[str, Any]]:
    """A row per group: medians over its images."""
    rows = []
    for name, images in groups.items():
        values = [
            (*figures(part(image)), *(contrast(image, third / 3, (third + 1) / 3) for third in range(3)))
            for image in images
        ]
        row = dict(zip(COLUMNS, np.median(values, axis=0).round(3).tolist(), strict=True))
        rows.append({"what": what, "images": name, **row})
    return rows


def spread(items: Sequence[object], count: int) -> list:
    """`count` of the items, evenly spread."""
    return [items[int(i)] for i in np.linspace(0, len(items) - 1, min(count, len(items)))]


def run(data: Path = DATA, frames: int = 12) -> list[dict[str, Any]]:
    """All rows; none where the data is absent."""
    rows = []
    if (data / "highway_camera").is_dir():
        rows += compare_highway(data / "highway_camera", frames)
    if (data / "dawn_fog").is_dir():
        rows += compare_fog(data, frames)
    return rows


def main() -> None:
    """Print a table per region."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=DATA)
    parser.add_argument("--frames", type=int, default=12)
    args = parser.parse_args()
    rows = run(args.data, args.frames)
    if not rows:
        say(f"no highway_camera or dawn_fog under {args.data} - give their folder with --data")
    for what in dict.fromkeys(row["what"] for row in rows):
        lines = [[row["images"], *(row[name] for name in COLUMNS)] for row in rows if row["what"] == what]
        table(what, ["", *COLUMNS], lines)


if __name__ == "__main__":
    main()
