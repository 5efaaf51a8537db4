"""COCO evaluation against pycocotools, and the sweep against the slower of its two halves, each in its own process.

    python tools/benchmark.py evaluate                        both tables in one
    python tools/bench/evaluate.py matching [IMAGES DETECTIONS]
    python tools/bench/evaluate.py sweep [FRAMES]
    python tools/bench/evaluate.py python [FRAMES]            the sweep of a detector in the user's own Python code

Matching: memory is what a side adds to the truth and the results list that both are given. Our time holds everything
from that list to the numbers; pycocotools' time holds `evaluate` and `accumulate` alone, without its index (`loadRes`).
Sweep: corruption alone is every variant made by the workers and thrown away, inference alone is the detector on
variants that lie ready in memory. `ratio` is the wall time over that of the slower half; the row below it divides by
what the processor time of both halves takes on all cores, which no schedule can beat where the device is the CPU.
Python: the same network as an object with `infer` that knows nothing of drivetl; its sweep includes the conversion of
images and the checks of its answers, inference alone does not.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

TITLE = "Evaluation: matching against pycocotools, the sweep against its slower half"
N_CLASSES = 8
OBJECTS_PER_IMAGE = 8
SIDES = ("drivetl", "pycocotools")
HALVES = ("corruption alone", "inference alone", "sweep")


def run(n_images: int = 5000, n_detections: int = 500_000, frames: int = 6) -> list[dict[str, Any]]:
    """Rows of all tables. Raises AssertionError when the two evaluators do not agree."""
    return [*matching(n_images, n_detections), *sweep(frames), *sweep(frames, "python detector")]


def matching(n_images: int = 5000, n_detections: int = 500_000) -> list[dict[str, Any]]:
    """Time and memory of both evaluators on the same truth and detections."""
    ours, theirs = (_in_own_process("matching", side, str(n_images), str(n_detections)) for side in SIDES)
    np.testing.assert_allclose(ours.pop("stats"), theirs.pop("stats"), rtol=0, atol=1e-12)
    what = f"COCO evaluation, {n_images:,} images, {n_detections:,} detections"
    rows = [
        {"what": what, "side": side, "wall_s": one["wall_s"], "cpu_s": one["cpu_s"], "peak_mb": one["peak_mb"]}
        for side, one in zip(SIDES, (ours, theirs), strict=True)
    ]
    return [
        *(row | {"ratio": None} for row in rows),
        {"what": what, "side": "pycocotools / drivetl, processor time", "ratio": theirs["cpu_s"] / ours["cpu_s"]},
        {"what": what, "side": "pycocotools / drivetl, memory", "ratio": theirs["peak_mb"] / max(ours["peak_mb"], 1.0)},
    ]


def sweep(frames: int = 6, kind: str = "run") -> list[dict[str, Any]]:
    """The sweep and its two halves, one after the other. kind: `run`, or `python detector` for the user's own code."""
    with tempfile.TemporaryDirectory() as folder:
        data = _sample(Path(folder), frames)
        found = {side: _in_own_process("sweep", side, str(data), kind) for side in HALVES}
    pictures = found["sweep"]["pictures"]
    name = "sweep" if kind == "run" else f"sweep of a {kind}"
    what = f"{name}, {pictures} images of 1242x375, bound by {found['sweep']['bound_by']}"
    whole = found["sweep"]["wall_s"]
    halves = [found[side] for side in HALVES[:2]]
    busy = sum(one["cpu_s"] for one in halves) / (os.cpu_count() or 1)
    return [
        *(
            {"what": what, "side": side, "wall_s": one["wall_s"], "cpu_s": one["cpu_s"], "peak_mb": one["peak_mb"]}
            for side, one in found.items()
        ),
        {"what": what, "side": "ratio to the slower half", "ratio": whole / max(one["wall_s"] for one in halves)},
        {"what": what, "side": "ratio to the bound of all cores", "ratio": whole / busy},
    ]


def _in_own_process(*words: str) -> dict[str, Any]:
    command = [sys.executable, str(Path(__file__).resolve()), "side", *words]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def _measured(work: Callable[[], Any]) -> tuple[Any, dict[str, Any]]:
    """What the work returns; its wall time, its processor time (children's too), and the memory it added."""
    before, started, spent = _peak_kb(), time.perf_counter(), _cpu_s()
    found = work()
    row = {"wall_s": time.perf_counter() - started, "cpu_s": _cpu_s() - spent}
    return found, row | {"peak_mb": (_peak_kb() - before) / 1024}


def _peak_kb() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def _cpu_s() -> float:
    each = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(one.ru_utime + one.ru_stime for one in each)


def _sample(folder: Path, frames: int) -> Path:
    """The sample city's frames as a dataset. Returns its json."""
    from drivetl.cli import main
    from drivetl.sample.write import write_town_a

    write_town_a(folder / "town", frames, jpeg=True)
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        main(["convert-kitti", "--root", str(folder / "town"), "--out", str(folder / "data")])
    return folder / "data" / "all.json"


class _OwnCode:
    """What a user writes around a network: arrays in, lists of numbers out, nothing of drivetl."""

    layout = "HWC"

    def __init__(self, model: Any, categories: tuple[str, ...]):
        self.model, self.categories = model, categories

    def infer(self, images: list[Any]) -> list[Any]:
        import torch

        with torch.inference_mode():
            found = self.model([torch.from_numpy(image).permute(2, 0, 1).float() / 255 for image in images])
        return [{key: output[key] for key in ("boxes", "scores", "labels")} for output in found]


def _sweep_side(side: str, data: str, kind: str) -> dict[str, Any]:
    """Measure the sweep or one of its halves: all physical conditions at severity 3 and the clean images."""
    import torch

    from drivetl.coco.io import read_dataset
    from drivetl.conditions import CLEAN, SETS
    from drivetl.detectors.any_detector import AnyDetector
    from drivetl.models.build import ModelSpec, build_model
    from drivetl.models.detector import Detector
    from drivetl.models.precision import choose_precision
    from drivetl.models.runtime import choose_device
    from drivetl.robustness.detection_cache import DetectionCache, image_keys
    from drivetl.robustness.sweep import Task, default_workers, variant_loader
    from drivetl.robustness.sweep import sweep as whole_sweep

    dataset = read_dataset(Path(data))
    cells = [CLEAN, *((name, 3) for name in SETS["drive"])]
    device = choose_device("auto")
    arch = "fasterrcnn_mobilenet_v2_fpn"
    spec = ModelSpec(arch, dataset.categories, 375, 1242, 500, 300, 128, 100, 0.05, frozen_norm=True)
    torch.manual_seed(0)
    model = build_model(spec).to(device)
    own = _OwnCode(model.eval(), dataset.categories)
    detector: Any = Detector(model, dataset.categories, device, choose_precision("auto", device)[0], "bench")
    if kind != "run":
        detector = AnyDetector(own)
    workers, size = default_workers(device.type), 8
    tasks = [Task(place, image, tuple(cells), dataset.categories) for place, image in enumerate(dataset.images)]

    def variants() -> Any:
        return variant_loader(tasks, dataset.images_root, size, workers)

    if side == HALVES[0]:
        return _measured(lambda: sum(len(batch.items) for batch in variants()))[1]
    if side == HALVES[1]:
        batches = [batch.pixels for batch in variants()]
        if kind == "run":
            infer, ready = detector.infer, [[torch.from_numpy(one) for one in batch] for batch in batches]
        else:
            infer, ready = own.infer, [list(np.ascontiguousarray(batch.transpose(0, 2, 3, 1))) for batch in batches]
        infer(ready[0])
        return _measured(lambda: [infer(batch) for batch in ready])[1]
    with tempfile.TemporaryDirectory() as folder:
        store = DetectionCache(Path(folder), {"weights": "bench"})
        detector.infer([torch.from_numpy(one) for one in next(iter(variants())).pixels])
        timing, row = _measured(
            lambda: whole_sweep(
                {"run": detector}, {"run": store}, dataset, image_keys(dataset), cells, workers=workers, batch_size=size
            )
        )
    return row | {"pictures": timing.pictures, "bound_by": timing.bound_by}


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
            {
                "id": row + 1,
                "image_id": int(image[row]),
                "category_id": int(category[row]),
                "bbox": [*corner[row].tolist(), *size[row].tolist()],
                "area": float(size[row].prod()),
                "iscrowd": int(rng.random() < 0.03),
            }
            for row in range(n)
        ],
    }
    pick, near = rng.integers(0, n, n_detections), rng.random(n_detections) < 0.4
    spread = rng.normal(0, 0.1, (n_detections, 4))
    boxes = np.hstack([corner[pick] + spread[:, :2] * size[pick], size[pick] * np.exp(spread[:, 2:])])
    boxes[~near, :2] = rng.uniform(0, 1000, ((~near).sum(), 2))
    labels = np.where(near, category[pick], rng.integers(1, N_CLASSES + 1, n_detections))
    scores = rng.random(n_detections) * np.where(near, 1.0, 0.6)
    columns = (image[pick].tolist(), labels.tolist(), boxes.tolist(), scores.tolist())
    keys = ("image_id", "category_id", "bbox", "score")
    return truth, [dict(zip(keys, row, strict=True)) for row in zip(*columns, strict=True)]


def _ours(truth: dict[str, Any], results: list[dict[str, Any]]) -> tuple[Callable[[], Any], Callable[[Any], Any]]:
    from drivetl.metrics import coco_ap
    from drivetl.metrics.match_store import match

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


def _matching_side(side: str, n_images: int, n_detections: int) -> dict[str, Any]:
    """Measure one evaluator."""
    truth, results = _street(n_images, n_detections)
    with contextlib.redirect_stdout(io.StringIO()):
        measure, stats_of = {"drivetl": _ours, "pycocotools": _pycocotools}[side](truth, results)
        found, row = _measured(measure)
        return row | {"stats": [float(value) for value in stats_of(found)]}


if __name__ == "__main__":
    words = sys.argv[1:]
    sys.path.insert(0, str(Path(__file__).parents[2]))
    if words[:2] == ["side", "matching"]:
        print(json.dumps(_matching_side(words[2], *map(int, words[3:]))))
    elif words[:2] == ["side", "sweep"]:
        print(json.dumps(_sweep_side(*words[2:])))
    else:
        numbers = [int(word) for word in words[1:]]
        if words[:1] in (["sweep"], ["python"]):
            rows = sweep(*(numbers or [6]), "run" if words[0] == "sweep" else "python detector")
        else:
            rows = matching(*numbers) if words else run()
        for line in rows:
            print(json.dumps(line))
