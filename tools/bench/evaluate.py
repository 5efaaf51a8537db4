"""COCO evaluation against pycocotools on the same truth and detections: time, memory, and that the numbers agree.

    python tools/bench/evaluate.py [IMAGES DETECTIONS]

Each side runs in a process of its own, so that the peak of memory is its own: what it adds to the truth and the
results list that both are given. Our time holds everything from that list to the numbers; pycocotools' time holds
`evaluate` and `accumulate` alone, without building its index (`loadRes`).
"""

from __future__ import annotations

import contextlib
import io
import json
import resource
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

N_CLASSES = 8
OBJECTS_PER_IMAGE = 8


def run(n_images: int = 5000, n_detections: int = 500_000) -> list[dict[str, Any]]:
    """One row per side, and one with the ratios. Raises AssertionError when the two do not agree."""
    ours, theirs = (_in_own_process(side, n_images, n_detections) for side in ("ours", "pycocotools"))
    np.testing.assert_allclose(ours.pop("stats"), theirs.pop("stats"), rtol=0, atol=1e-12)
    return [
        ours,
        theirs,
        {
            "what": "COCO evaluation: pycocotools / ours",
            "time_ratio": round(theirs["seconds"] / ours["seconds"], 1),
            "memory_ratio": round(theirs["peak_mb"] / max(ours["peak_mb"], 1.0), 2),
        },
    ]


def _in_own_process(side: str, n_images: int, n_detections: int) -> dict[str, Any]:
    command = [sys.executable, str(Path(__file__).resolve()), side, str(n_images), str(n_detections)]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def _street(n_images: int, n_detections: int) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Truth and detections as a detector with a low score floor leaves them: 40 % near an object."""
    rng = np.random.default_rng(0)
    n = n_images * OBJECTS_PER_IMAGE
    image, category = rng.integers(1, n_images + 1, n), rng.integers(1, N_CLASSES + 1, n)
    corner, size = rng.uniform(0, 1000, (n, 2)), rng.lognormal(4, 0.7, (n, 2))
    truth = {
        "images": [{"id": number, "width": 1242, "height": 375} for number in range(1, n_images + 1)],
        "categories": [{"id": number, "name": f"class {number}"} for number in range(1, N_CLASSES + 1)],
        "annotations": [
            {"id": row + 1, "image_id": int(image[row]), "category_id": int(category[row]),
             "bbox": [*corner[row].tolist(), *size[row].tolist()], "area": float(size[row].prod()),
             "iscrowd": int(rng.random() < 0.03)}
            for row in range(n)
        ],
    }  # fmt: skip
    pick, near = rng.integers(0, n, n_detections), rng.random(n_detections) < 0.4
    spread = rng.normal(0, 0.1, (n_detections, 4))
    boxes = np.hstack([corner[pick] + spread[:, :2] * size[pick], size[pick] * np.exp(spread[:, 2:])])
    boxes[~near, :2] = rng.uniform(0, 1000, ((~near).sum(), 2))
    labels = np.where(near, category[pick], rng.integers(1, N_CLASSES + 1, n_detections))
    scores = rng.random(n_detections) * np.where(near, 1.0, 0.6)
    columns = (image[pick].tolist(), labels.tolist(), boxes.tolist(), scores.tolist())
    keys = ("image_id", "category_id", "bbox", "score")
    return truth, [dict(zip(keys, row, strict=True)) for row in zip(*columns, strict=True)]


def _ours(
    truth: dict[str, Any], results: list[dict[str, Any]]
) -> tuple[Callable[[], Any], Callable[[Any], Any]]:
    from drivetl.evaluation import coco_ap
    from drivetl.evaluation.store import match

    return lambda: coco_ap.summarize(match(truth, results)), lambda found: found.stats


def _pycocotools(
    truth: dict[str, Any], results: list[dict[str, Any]]
) -> tuple[Callable[[], Any], Callable[[Any], Any]]:
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    gt = COCO()
    gt.dataset = truth
    gt.createIndex()
    evaluator = COCOeval(gt, gt.loadRes(results), "bbox")

    def measure() -> None:
        evaluator.evaluate()
        evaluator.accumulate()

    def stats(_: None) -> Any:
        evaluator.summarize()
        return evaluator.stats

    return measure, stats


def _side(name: str, n_images: int, n_detections: int) -> None:
    """Measure one side; print it as the last line, as JSON."""
    truth, results = _street(n_images, n_detections)
    with contextlib.redirect_stdout(io.StringIO()):
        measure, stats_of = {"ours": _ours, "pycocotools": _pycocotools}[name](truth, results)
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        started = time.perf_counter()
        found = measure()
        seconds = time.perf_counter() - started
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        stats = stats_of(found)
    row = {"what": f"COCO evaluation, {name}", "images": n_images, "detections": n_detections}
    row |= {"seconds": round(seconds, 3), "peak_mb": round((peak - before) / 1024, 1)}
    print(json.dumps(row | {"stats": [float(value) for value in stats]}))


if __name__ == "__main__":
    words = sys.argv[1:]
    if words and words[0] in ("ours", "pycocotools"):
        _side(words[0], *map(int, words[1:]))
    else:
        for line in run(*map(int, words)):
            print(json.dumps(line))
