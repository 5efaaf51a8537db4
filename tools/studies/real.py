"""Does a synthetic night, wet road or fog predict the drop on the real one?

Detectors that were trained on clear days alone: the motorway camera's dry day (three seeds of the study `weather`,
preset none), and the five clear cities. Each is measured on its clean frames under synthetic conditions, and on real
night, wet road or fog as they are.
"""

from __future__ import annotations

import dataclasses
import json
import os
from pathlib import Path
from typing import Any

import numpy as np
from pycocotools import mask as mask_api
from studies import data, weather
from studies.runs import Job, written

from drivetl.cli import main
from drivetl.coco.io import read_dataset
from drivetl.coco.records import Dataset, ImageRecord
from drivetl.coco.writing import write_dataset
from drivetl.metrics.results import Results, load_results
from drivetl.metrics.truth import Floats

SWEEPS = {
    **{f"highway_none_{seed}": ("highway_eval", "weather,timeofday", "night,wet_road") for seed in weather.SEEDS},
    "cities": ("fog_eval", "weather", "fog"),
}
"""Run -> dataset, attributes that tell real conditions, synthetic conditions."""


def jobs(shared: Path, out: Path) -> list[Job]:
    """The runs that are swept; the sweeps continue where they stopped."""
    known = weather.jobs(shared, out)
    camera(out)
    photos(shared, out)
    return [job for job in known if job.name in SWEEPS]


def camera(out: Path) -> Path:
    """The frames the camera's detectors are evaluated on: 70 of the dry day, all of the night and the wet day."""
    dry = {image.file_name for image in read_dataset(out / "data" / "highway_dry.json").images}
    return data.part(
        out / "data" / "highway" / "all.json",
        out / "data" / "highway_eval.json",
        lambda all_: [image for image in all_ if image.file_name in dry or image.drive != "pagi_16112021"],
    )


def photos(shared: Path, out: Path) -> Path:
    """The cities' validation frames as weather=clear and the photos as weather=fog, in the cities' classes."""
    target = out / "data" / "fog_eval.json"
    if target.is_file():
        return target
    clear, fog = read_dataset(out / "data" / "val.json"), read_dataset(data.fog(shared, out / "data"))
    number = {old: clear.categories.index(name) + 1 for old, name in enumerate(fog.categories, 1)}
    known = tuple(sorted(number.values()))
    images = []
    for dataset, word in ((clear, "clear"), (fog, "fog")):
        folder = os.path.relpath(dataset.images_root, shared)
        for image in dataset.images:
            image.id, image.file_name = len(images) + 1, f"{folder}/{image.file_name}"
            image.attributes["weather"] = word
            image.labelled = known
            image.drive = image.drive or Path(image.file_name).stem
            if dataset is fog:
                image.annotations = [
                    dataclasses.replace(item, category_id=number[item.category_id]) for item in image.annotations
                ]
            images.append(image)
    for image in images:  # both sides are evaluated on the classes that both label
        image.annotations = [item for item in image.annotations if item.category_id in known]
    write_dataset(Dataset(clear.categories, images, shared, clear.info), target)
    return target


def finish(jobs: list[Job], out: Path) -> None:
    """The sweeps of the runs that are finished; a partial sweep is continued."""
    for job in jobs:
        if (out / "runs" / job.name).is_dir() and not (out / "real" / job.name / "results.json").is_file():
            sweep(job.name, out)


def sweep(run: str, out: Path) -> None:
    """Run a sweep, or continue it."""
    dataset, slices, conditions = SWEEPS[run]
    words = ["eval-robustness", "--run", str(out / "runs" / run), "--data", str(out / "data" / f"{dataset}.json")]
    words += ["--slices", slices, "--conditions", conditions, "--severities", "1,2,3,4,5", "--metric", "AP50"]
    if main([*words, "--out", str(out / "real" / run)]):
        raise SystemExit(2)


def tables(jobs: list[Job], out: Path) -> list[tuple[str, str, list[dict[str, object]]]]:
    """Per run and pair: the real drop, the synthetic one, their difference."""
    rows: list[dict[str, object]] = []
    for run in (job.name for job in jobs):
        path = out / "real" / run / "results.json"
        if path.is_file():
            rows += _rows(run, json.loads(path.read_text("utf-8")))
    return [
        ("real", "AP50 lost on real conditions and on synthetic ones", rows),
        ("real_labels", "How well the real frames' labels fit", _label_rows(out)),
    ]


def _label_rows(out: Path) -> list[dict[str, object]]:
    """Per set of the camera's frames: how its labels and the detections lie on each other."""
    rows: list[dict[str, object]] = []
    for name in ("dry", "wet_tuned", "wet_reported", "night_tuned", "night_reported"):
        dataset = out / "data" / f"highway_{name}.json"
        found = [out / "found" / f"highway_none_{seed}" / f"{name}.npz" for seed in weather.SEEDS]
        if not dataset.is_file() or not all(path.is_file() for path in found):
            continue
        images = read_dataset(dataset).images
        best, of_label = [], []
        for results in map(load_results, found):
            sure = results.where(results.scores >= 0.5)
            for image in images:
                overlap = _overlaps(sure.where(sure.image_id == image.id), image)
                best.append(overlap.max(axis=1, initial=0))
                of_label.append(overlap.max(axis=0, initial=0))
        fit, reached = np.concatenate(best), np.concatenate(of_label)
        low, middle, high = np.quantile(fit[fit > 0.1], (0.25, 0.5, 0.75))
        labels = len(reached) // len(found)
        row: dict[str, object] = {"clip": name, "labels": labels, "an image": labels / len(images)}
        row |= {"IoU, lower quartile": float(low), "median": float(middle), "upper quartile": float(high)}
        row |= {f"recall at {least}": float((reached >= least).mean()) for least in (0.3, 0.5)}
        rows.append(row)
    return rows


def _overlaps(found: Results, image: ImageRecord) -> Floats:
    """(detections, labels) of one image: their IoU, 0 between classes."""
    if not len(found) or not image.annotations:  # for which pycocotools has no matrix
        return np.zeros((len(found), len(image.annotations)))
    boxes = np.array([item.bbox_xywh for item in image.annotations])
    same = found.category_id[:, None] == [item.category_id for item in image.annotations]
    return np.asarray(mask_api.iou(found.boxes_xywh, boxes, [0] * len(boxes)) * same)


def _rows(run: str, results: dict[str, object]) -> list[dict[str, object]]:
    agreement: Any = results["real"]
    rows: list[dict[str, object]] = []
    for pair in agreement["pairs"]:
        drops = [step["drop"]["point"] for step in pair["severities"]]
        rows.append(
            {
                "trained": run,
                "real": f"{pair['attribute']}={pair['value']}",
                "images": pair["images"],
                "synthetic": pair["condition"],
                "level": pair["level"],
                "clean": _worded(pair["clean"]),
                "real drop": _worded(pair["real_drop"]),
                "synthetic drop": _worded(pair["synthetic_drop"]),
                "synthetic, mildest": 100 * min(drops),
                "synthetic, strongest": 100 * max(drops),
                "synthetic - real": _turned(pair["difference"]),
            }
        )
    return rows


def _worded(found: dict[str, float]) -> str:
    return written({side: 100 * value for side, value in found.items()})


def _turned(found: dict[str, float]) -> str:
    """The difference the other way round."""
    sides = {"point": found["point"], "low": found["high"], "high": found["low"]}
    return written({side: -100 * value for side, value in sides.items()}, "+")
