"""How much image structure each severity of each condition keeps.

    python tools/bench/severity.py [--data ../shared/data] [--frames 8]

On clear frames, per condition and severity: the share of fine structure that is left, 1 for all of it.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

sys.path.insert(0, str(Path(__file__).parents[2]))

from drivetl.conditions import CATALOG, SETS, apply, pixel_seed
from drivetl.console import table, track
from drivetl.files.images import read_rgb

TITLE = "Severity ladders"
Image = npt.NDArray[np.uint8]
DATA = Path(__file__).parents[3] / "shared" / "data"


def structure(image: Image) -> npt.NDArray[np.float32]:
    """(H, W) luma between 1 and 8 px."""
    luma = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY).astype(np.float32)
    return np.asarray(cv2.GaussianBlur(luma, (0, 0), 1) - cv2.GaussianBlur(luma, (0, 0), 8), np.float32)


def kept(before: npt.NDArray[np.float32], after: npt.NDArray[np.float32]) -> float:
    """1 for the same structure, 0 for none of it or something else altogether."""
    a, b = float(np.linalg.norm(before)), float(np.linalg.norm(after))
    return float((before * after).sum()) / max(a * max(a, b), 1e-6)


def clear_frames(data: Path, count: int) -> list[Image]:
    """Half from KITTI, half from Cityscapes, 1024 px wide; none where the data is absent."""
    frames = []
    for folder in ("kitti/training/image_2", "cityscapes_400/images"):
        paths = sorted((data / folder).iterdir()) if (data / folder).is_dir() else []
        for index in np.linspace(0, len(paths) - 1, min(count // 2, len(paths))):
            image = read_rgb(paths[int(index)])
            size = (1024, round(1024 * image.shape[0] / image.shape[1]))
            frames.append(np.asarray(cv2.resize(image, size, interpolation=cv2.INTER_AREA), np.uint8))
    return frames


def run(data: Path = DATA, frames: int = 8) -> list[dict[str, Any]]:
    """A row per condition of the drive set."""
    pictures = clear_frames(data, frames)
    caches: list[dict[str, Any]] = [{} for _ in pictures]
    clear = [structure(image) for image in pictures]
    rows = []
    for name in track(list(SETS["drive"]) if pictures else [], "severities"):
        condition = CATALOG[name]
        row: dict[str, Any] = {
            "condition": name,
            "ladder": f"{', '.join(f'{v:g}' for v in condition.axis)} {condition.unit[1]}",
        }
        near = []
        for severity in range(1, 6):
            values = []
            for number, image in enumerate(pictures):
                seed = pixel_seed(number, name, severity)
                after = structure(apply(image, name, severity, seed, cache=caches[number]))
                values.append(kept(clear[number], after))
                half = slice(len(after) // 2, None)
                near.append(kept(clear[number][half], after[half]))
            row[f"kept at {severity}"] = float(np.mean(values))
        row["near at 5"] = float(np.mean(near[-len(pictures) :]))
        rows.append(row)
    return rows


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=DATA)
    parser.add_argument("--frames", type=int, default=8)
    args = parser.parse_args()
    rows = run(args.data, args.frames)
    columns = list(rows[0]) if rows else ["no clear frames"]
    table(TITLE, columns, [[f"{v:.2f}" if isinstance(v, float) else v for v in row.values()] for row in rows])


if __name__ == "__main__":
    main()
