"""Trainings of a study: named, shared between processes, finished once. Detections are kept, so that tables can be
recomputed.

Layout below the study's folder: `data/` datasets, `runs/NAME` run directories, `found/NAME/SET.npz` detections,
`claims/NAME` the process that works on it.
"""

from __future__ import annotations

import os
from collections import Counter
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from drivetl import console
from drivetl.coco.io import read_dataset
from drivetl.conditions import SETS, Cell
from drivetl.config import load_config
from drivetl.label_curve.fit import class_draws, seed_multipliers
from drivetl.metrics.match_store import MatchStore, match
from drivetl.metrics.relabel import by_name
from drivetl.metrics.results import concatenate, load_results, of_image, save_results
from drivetl.metrics.statistics import draw_weights, enough
from drivetl.metrics.truth import Floats
from drivetl.models.checkpoint import load_detector
from drivetl.prediction.images import predict
from drivetl.robustness.run import run_sweep
from drivetl.robustness.score_cells import interval
from drivetl.training.finetune import begin_or_continue

LITE = Path(__file__).parents[2] / "configs" / "finetune" / "mobilenet_v2_lite.yaml"
DRAWS = 1000
CELLS = tuple((name, 3) for name in SETS["drive"])
"""Conditions that no preset renders as the evaluation does (held-out levels L2 and L3), at the middle severity."""
FREQUENT = 30
"""Objects of a class from which its AP is more than luck."""


@dataclass
class Job:
    """One training and what its detector is run on."""

    name: str
    flags: dict[str, object]
    """Dotted config keys over `configs/finetune/mobilenet_v2_lite.yaml`."""
    measured: dict[str, Path]
    """Set -> dataset json the finished detector is run on."""
    needs: tuple[str, ...] = ()
    """Jobs that must be finished before."""
    score_threshold: float = 0.05
    """Least score of a kept detection. AP is about ranking: at torchvision's 0.05 a rare class that a short training
    has made less sure of disappears, whatever its ranking."""
    watch: bool = False
    """Also keep what it detects on its way as `SET@STEP`: `data.val` must have the images of all measured sets."""
    swept: Path | None = None
    """A dataset json the finished detector is also run on in every cell of CELLS, as `swept@CONDITION_SEVERITY`."""


def work(jobs: list[Job], out: Path) -> None:
    """Finish every job that no other living process holds, in order."""
    for job in jobs:
        if finished(job, out) or not all((out / "found" / name).is_dir() for name in job.needs):
            continue
        claim = out / "claims" / job.name
        claim.parent.mkdir(parents=True, exist_ok=True)
        if not _claimed(claim):
            continue
        console.say(f"--- {job.name}")
        try:
            _train_and_measure(job, out)
        finally:
            claim.unlink()


def finished(job: Job, out: Path) -> bool:
    """Whether all its sets are measured."""
    return all(measured(out, job.name, name) for name in job.measured)


def measured(out: Path, job: str, name: str) -> bool:
    """Whether a job's detections on one set are there."""
    return (out / "found" / job / f"{name}.npz").is_file()


def _claimed(claim: Path) -> bool:
    """Take the claim unless a living process has it."""
    try:
        with claim.open("x") as file:
            file.write(str(os.getpid()))
        return True
    except FileExistsError:
        holder = claim.read_text()
        if holder and Path(f"/proc/{holder}").exists():
            return False
        claim.write_text(str(os.getpid()))
        return True


def _train_and_measure(job: Job, out: Path) -> None:
    run = out / "runs" / job.name
    if not (run / "README.md").is_file():  # the model card is written last
        overrides = [word for key, value in job.flags.items() for word in (f"--{key}", str(value))]
        begin_or_continue(load_config(LITE, overrides), run)
    if job.swept is not None:
        _sweep(job, run, out)
    if job.watch:
        _split_kept(job, run, out)
        return
    detector = load_detector(run, "last")  # what was trained, free of a choice on the validation set
    detector.model.roi_heads.score_thresh = job.score_threshold
    for name, path in job.measured.items():
        dataset = read_dataset(path)
        found = predict(detector, dataset)
        results = by_name(
            concatenate([of_image(record.id, one) for record, one in found]), detector.categories, dataset.categories
        )
        (out / "found" / job.name).mkdir(parents=True, exist_ok=True)
        save_results(out / "found" / job.name / f"{name}.npz", results)


def _sweep(job: Job, run: Path, out: Path) -> None:
    """Detections of the last weights in every cell; those of a killed sweep are reused."""
    assert job.swept is not None
    dataset = read_dataset(job.swept)
    names, severities = (sorted({cell[part] for cell in CELLS}) for part in (0, 1))
    detector = load_detector(run, "last")
    swept = run_sweep(detector, dataset, names, severities, cache=out / "cells" / job.name, workers=0)
    (out / "found" / job.name).mkdir(parents=True, exist_ok=True)
    for cell in CELLS:
        save_results(out / "found" / job.name / f"{_swept(cell)}.npz", swept.results("run", cell))


def _swept(cell: Cell) -> str:
    return f"swept@{cell[0]}_{cell[1]}"


def _split_kept(job: Job, run: Path, out: Path) -> None:
    """The detections that the training kept, per step and measured set; those of the last step are the set's own."""
    kept = sorted(run.glob("eval/step_*.npz"))
    (out / "found" / job.name).mkdir(parents=True, exist_ok=True)
    for file in kept:  # the last one last: a set without a step in its name says that the job is finished
        results = load_results(file)
        for name, path in job.measured.items():
            ids = [image.id for image in read_dataset(path).images]
            part = results.where(np.isin(results.image_id, ids))
            save_results(out / "found" / job.name / f"{name}@{int(file.stem.rpartition('_')[2])}.npz", part)
            if file == kept[-1]:
                save_results(out / "found" / job.name / f"{name}.npz", part)


def steps_of(job: Job, out: Path) -> list[int]:
    """The steps at which a watched job was evaluated."""
    name = next(iter(job.measured))
    found = (out / "found" / job.name).glob(f"{name}@*.npz")
    return sorted(int(path.stem.rpartition("@")[2]) for path in found)


class Scores:
    """AP and AP50 of finished jobs on one dataset under draws that all jobs share: drives resampled, and seeds."""

    def __init__(self, data: Path, out: Path, iou_type: str = "bbox"):
        """iou_type: bbox, or segm for the AP of masks."""
        self.data, self.out, self.iou_type = read_dataset(data), out, iou_type
        self._known: dict[tuple[str, str], dict[str, Floats]] = {}

    def of(self, job: str, name: str) -> dict[str, Floats]:
        """Metric -> (1 + B, K + 2): as measured, then under each draw; column 0 the mean over classes, the last one the
        mean over those with FREQUENT objects or more."""
        key = (job, name)
        if key not in self._known:
            found = load_results(self.out / "found" / job / f"{name}.npz")
            store = match(self.data, found, self.iou_type)
            draws = class_draws(store, draw_weights(_units(store), DRAWS))
            often = [self.data.categories.index(name) + 1 for name in self.frequent()]
            self._known[key] = {
                metric: np.column_stack([values, values[:, often].mean(axis=1)]) for metric, values in draws.items()
            }
        return self._known[key]

    def mean_of_cells(self, job: str) -> dict[str, Floats]:
        """As `of`, the mean over CELLS: mPC of a swept job."""
        if (job, "mPC") not in self._known:
            each = [self.of(job, _swept(cell)) for cell in CELLS]
            means = {metric: np.mean([values[metric] for values in each], axis=0) for metric in each[0]}
            self._known[job, "mPC"] = means
        return self._known[job, "mPC"]

    def frequent(self) -> list[str]:
        """The classes of FREQUENT objects or more: in those below, one object moves the mean over classes by points."""
        counts = Counter(item.category_id for image in self.data.images for item in image.annotations)
        return [name for number, name in enumerate(self.data.categories, 1) if counts[number] >= FREQUENT]

    def over_seeds(self, jobs: list[str], name: str, metric: str, minus: list[str] | None = None) -> Floats:
        """(1 + B, K + 2): the mean over seeds, less that of `minus` (paired by place), and its draws.

        name: a measured set, or `mPC` of swept jobs.
        """
        of = partial(self.of, name=name) if name != "mPC" else self.mean_of_cells
        each = np.stack([of(job)[metric] for job in jobs])
        if minus is not None:
            each = each - np.stack([of(job)[metric] for job in minus])
        points, mean = each[:, 0], each.mean(axis=0)
        spread = seed_multipliers(DRAWS, len(jobs)) @ (points - points.mean(axis=0))
        return np.vstack([mean[:1], mean[1:] + spread])


def cells(scores: Scores, ours: list[str], theirs: list[str]) -> dict[str, object]:
    """AP50, AP, and AP50 of the frequent classes on `val`: the mean over jobs, and its gain over others, paired by
    place; a dash where they are the same."""
    row: dict[str, object] = {}
    for title, metric, column in (("AP50", "AP50", 0), ("AP", "AP", 0), ("AP50 of frequent classes", "AP50", -1)):
        row[title] = worded(scores.over_seeds(ours, "val", metric), column)
        gained = scores.over_seeds(ours, "val", metric, theirs)
        row[f"{title} gain"] = "-" if ours == theirs else worded(gained, column, signed=True)
    return row


def _units(store: MatchStore) -> tuple[int, ...]:
    """What draws resample: drives, or blocks of three consecutive frames of a clip too short for its usual blocks."""
    units = store.units()
    return units if enough(units) else tuple(place // 3 for place in range(len(units)))


def worded(draws: Floats, column: int = 0, *, signed: bool = False, scale: float = 100.0) -> str:
    """`31.2 [28.0, 34.1]` of one column of (1 + B, 1 + K)."""
    return written(interval(scale * draws[0, column], scale * draws[1:, column]), "+" if signed else "")


def written(found: dict[str, float], sign: str = "") -> str:
    """An interval as text; sign: `+` for a difference."""
    return f"{found['point']:{sign}.1f} [{found['low']:{sign}.1f}, {found['high']:{sign}.1f}]"
