"""Milliseconds per image and core for every condition, at KITTI's size and at 720p, next to two libraries.

    python tools/bench/conditions.py

One thread, processor time, best of several runs: other work on the machine has little influence. Times are for one
more variant of an image already used; the cost per new image (camera, sky, depth, linear light) is a row of
its own. imagecorruptions needs its own environment (`imagecorruptions-imaug==1.1.5`, `setuptools<81`): set
DRIVETL_IMAGECORRUPTIONS_PYTHON to its python to include its times.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import numpy as np

sys.path.insert(0, str(Path(__file__).parents[2]))

from drivetl.conditions import CATALOG, SETS, apply, scene_of

TITLE = "Conditions: milliseconds per image and core"
SIZES = {"ms_1242x375": (375, 1242), "ms_1280x720": (720, 1280)}
THEIRS = """
import json, sys, time, warnings
warnings.simplefilter("ignore")
import cv2, numpy as np
from imagecorruptions import corrupt
cv2.setNumThreads(1)
image = np.load(sys.argv[1])
times = {}
for name in sys.argv[2].split(","):
    corrupt(image, corruption_name=name, severity=1)
    best = []
    for severity in (1, 3, 5):
        runs = []
        for _ in range(3):
            start = time.thread_time()
            corrupt(image, corruption_name=name, severity=severity)
            runs.append(time.thread_time() - start)
        best.append(min(runs))
    times[name] = 1000 * sum(best) / 3
print(json.dumps(times))
"""


def run() -> list[dict[str, Any]]:
    """A row per condition, the sums, the libraries' own weather."""
    threads = cv2.getNumThreads()
    cv2.setNumThreads(1)
    try:
        pictures = {column: picture(*size) for column, size in SIZES.items()}
        rows = [ours(name, pictures) for name in CATALOG]
        once = {column: round(best_ms(partial(first_look, image)), 1) for column, image in pictures.items()}
        others = albumentations_rows(pictures)
    finally:
        cv2.setNumThreads(threads)
    theirs = {f"imagecorruptions_{column[3:]}": imagecorruptions_ms(image) for column, image in pictures.items()}
    for row in rows:
        row |= {column: times.get(CATALOG[row["what"]].published, "") for column, times in theirs.items()}
    published = {
        "what": "the published 15, one severity",
        **{column: round(sum(row[column] for row in rows if row["what"] in SETS["common"]), 1) for column in SIZES},
        **{
            column: round(sum(times[CATALOG[n].published] for n in SETS["common"]), 1) if times else ""
            for column, times in theirs.items()
        },
    }
    medians = [
        {"what": what, **{column: median(row[column] for row in rows if row["what"] in names) for column in SIZES}}
        for what, names in (("median of all conditions", CATALOG), ("median of the physical ones", SETS["drive"]))
    ]
    return [*rows, {"what": "once per image: camera, sky, depth, light", **once}, published, *medians, *others]


def median(values: Iterable[float]) -> float:
    """Rounded to a tenth."""
    return round(float(np.median(list(values))), 1)


def picture(height: int, width: int) -> np.ndarray:
    """A street-like image: sky, textured houses and road, markings, bright and red spots."""
    rng = np.random.default_rng(0)
    texture = cv2.GaussianBlur(rng.normal(0, 1, (height, width, 3)).astype(np.float32), (0, 0), 1.5)
    image = 95 + 60 * texture
    horizon = int(0.46 * height)
    image[: horizon // 2] = 215
    for x in range(0, width, width // 5):
        cv2.line(image, (width // 2, horizon), (x, height), (225, 225, 225), 3, cv2.LINE_AA)
    for x, y in rng.uniform(0, 1, (30, 2)):
        colour = (230, 225, 215) if x < 0.5 else (200, 20, 20)
        cv2.circle(image, (int(x * width), int(horizon + (y - 0.3) * 0.2 * height)), 3, colour, -1)
    return np.clip(image, 0, 255).astype(np.uint8)


def first_look(image: np.ndarray) -> None:
    """What the first variant of an image pays for the others."""
    scene = scene_of(image)
    _ = scene.linear, scene.luminance, scene.depth, scene.ground, scene.sky_colour


def best_ms(work: Callable[[], object], times: int = 5) -> float:
    """Processor time of this thread, the best of several."""
    runs = []
    for _ in range(times):
        start = time.thread_time()
        work()
        runs.append(time.thread_time() - start)
    return 1000 * min(runs)


def ours(name: str, pictures: dict[str, np.ndarray]) -> dict[str, Any]:
    """One condition at every size."""
    return {"what": name, **{column: variant_ms(name, image) for column, image in pictures.items()}}


def variant_ms(name: str, image: np.ndarray) -> float:
    """One more variant of an image already seen, mean over three severities."""
    cache: dict[str, Any] = {}
    apply(image, name, 3, 0, cache=cache)
    return round(float(np.mean([best_ms(partial(apply, image, name, s, 0, cache=cache)) for s in (1, 3, 5)])), 1)


def albumentations_rows(pictures: dict[str, np.ndarray]) -> list[dict[str, Any]]:
    """albumentations' own weather, which drivetl does not use."""
    os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")
    import albumentations as library

    made = {
        "RandomFog": library.RandomFog(p=1),
        "RandomRain": library.RandomRain(p=1),
        "RandomSnow": library.RandomSnow(p=1),
        "RandomSunFlare": library.RandomSunFlare(p=1),
        "Spatter": library.Spatter(p=1),
        "MotionBlur": library.MotionBlur(p=1),
    }
    return [
        {
            "what": f"albumentations {name}",
            **{column: round(best_ms(partial(one, image=image)), 1) for column, image in pictures.items()},
        }
        for name, one in made.items()
    ]


def imagecorruptions_ms(image: np.ndarray) -> dict[str, float]:
    """Published name -> ms, from the other environment; empty when none is named."""
    python = os.environ.get("DRIVETL_IMAGECORRUPTIONS_PYTHON", "")
    if not python:
        return {}
    import tempfile

    names = ",".join(sorted({item.published for item in CATALOG.values()} - {""}))
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "image.npy"
        np.save(path, image)
        result = subprocess.run([python, "-c", THEIRS, str(path), names], capture_output=True, text=True, check=True)
    return {name: round(value, 1) for name, value in json.loads(result.stdout.splitlines()[-1]).items()}


def main() -> None:
    """Print the rows."""
    from drivetl.console import table

    rows = run()
    columns = list(rows[0])
    table(TITLE, columns, [[row.get(column, "") for column in columns] for row in rows])


if __name__ == "__main__":
    main()
