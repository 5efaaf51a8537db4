"""What ignore regions in the loss are worth: half of the objects under ignore regions, or simply deleted.

    python tools/benchmark.py ignore --write

A tiny detector is trained on the sample city's town B and adapted to town A, where half of the objects have no label:
as ignore regions, as background, and with nothing hidden (the upper bound). Three
seeds, each with its own half. Runs are kept in `runs/study_ignore`; a killed study continues where it stopped.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt

from drivetl import console
from drivetl.coco.io import read_dataset, write_dataset
from drivetl.coco.records import Dataset, IgnoreRegion
from drivetl.commands import dispatch
from drivetl.config import load_config
from drivetl.files.shipped import shipped
from drivetl.metrics import coco_ap
from drivetl.metrics.match_store import MatchStore, match
from drivetl.metrics.measures import ratio_draws
from drivetl.metrics.operating import choose_thresholds
from drivetl.metrics.results import load_results, save_results
from drivetl.metrics.statistics import Interval, draw_weights, percentile_interval
from drivetl.metrics.truth import Floats
from drivetl.models.checkpoint import load_detector
from drivetl.processes import Group
from drivetl.training.finetune import begin_or_continue
from drivetl.training.validate import validate, validation_loader

TITLE = "Ignore regions in the loss: half of the objects of a town hidden"
WORK = Path("runs/study_ignore")
SEEDS = (0, 1, 2)
WAYS = {"deleted": "hidden half deleted", "honoured": "hidden half under ignore regions", "full": "nothing hidden"}
DRAWS = 1000
SIZE = ["--model.min_size", "128", "--model.max_size", "416", "--model.anchors", "keep"]


def run() -> list[dict[str, object]]:
    """One row per way of labelling, one per difference."""
    _prepare()
    scored = {(way, seed): _judge(_train(way, seed)) for seed in SEEDS for way in WAYS}
    return _rows(scored)


def _prepare() -> None:
    """Two towns, converted, and a detector that knows town B."""
    city, town_a, town_b = WORK / "city", WORK / "town_a", WORK / "town_b"
    frames = ["--scale", "0.5", "--frames-a", "340", "--frames-b", "240", "--jpeg"]
    to_a = ["--root", city / "town_a", "--taxonomy", shipped("configs/demo/town_a.yaml"), "--out", town_a]
    to_b = ["--root", city / "town_b", "--taxonomy", shipped("configs/demo/town_b.yaml"), "--out", town_b]
    steps: list[tuple[Path, list[object]]] = [
        (city, ["sample", "--out", city, *frames]),
        (town_a / "all.json", ["convert-kitti", *to_a, "--val-fraction", "0.5"]),
        (town_b / "all.json", ["convert-footage", "--format", "cvat", *to_b]),
    ]
    for made, command in steps:
        if not made.exists():
            dispatch([str(word) for word in command])
    data = ["--data.train", str(town_b / "train.json"), "--data.val", str(town_b / "val.json")]
    _finetune(WORK / "source", [*data, *SIZE, "--optim.epochs", "10", "--eval.every", "10"])


def _train(way: str, seed: int) -> Path:
    """The run of one way and seed."""
    train = WORK / f"{way}_{seed}.json"
    if not train.exists():
        whole = read_dataset(WORK / "town_a" / "train.json")
        write_dataset(whole if way == "full" else hide_half(whole, seed, way == "honoured"), train)
    run = WORK / f"{way}_{seed}"
    data = ["--data.train", str(train), "--data.val", str(WORK / "town_a" / "val.json"), "--seed", str(seed)]
    start = ["--model.start", str(WORK / "source"), "--model.norm", "train"]
    _finetune(run, [*data, *SIZE, *start, "--optim.epochs", "8", "--eval.every", "8"])
    return run


def _finetune(run: Path, overrides: list[str]) -> None:
    """Train unless it is finished; continue an unfinished training."""
    if (run / "README.md").exists():
        return
    tiny = shipped("configs/finetune/tiny.yaml")
    begin_or_continue(load_config(tiny, [*overrides, "--runtime.device", "cpu"]), run)


def hide_half(dataset: Dataset, seed: int, as_regions: bool) -> Dataset:
    """The dataset with each object's label lost with probability 1/2: to an ignore region of its box, or to nothing."""
    rng = np.random.default_rng(seed)
    for image in dataset.images:
        hidden = rng.random(len(image.annotations)) < 0.5
        if as_regions:
            image.ignore_regions += [
                IgnoreRegion(item.bbox_xywh, item.bbox_xywh[2] * item.bbox_xywh[3])
                for item, gone in zip(image.annotations, hidden, strict=True)
                if gone
            ]
        image.annotations = [item for item, gone in zip(image.annotations, hidden, strict=True) if not gone]
    return dataset


def _judge(run: Path) -> MatchStore:
    """The last weights on the fully labelled validation drives."""
    val, kept = read_dataset(WORK / "town_a" / "val.json"), run / "eval" / "last.npz"
    if not kept.exists():
        detector = load_detector(run, "last", "cpu", "fp32")
        loader = validation_loader(val, 8, 0, detector.device, Group(), 0.0)
        save_results(kept, validate(detector.model, loader, detector.device, detector.precision, Group()))
    store = match(val, load_results(kept))
    console.say(f"{run.name}: AP50 {coco_ap.ap(store, 0.5)[0]:.3f}")
    return store


def _recall(store: MatchStore, score: Floats | float, weights: Floats) -> Floats:
    """(B,) share of all objects found at IoU 0.5, in percent."""
    found, real = store.detected_objects(score), ~store.truth.crowd
    return 100 * ratio_draws(_per_image(store, found & real), _per_image(store, real), weights)


def _per_image(store: MatchStore, objects: npt.NDArray[np.bool_]) -> Floats:
    return np.bincount(store.truth.image[objects], minlength=store.n_images).astype(np.float64)


def _false_alarms(store: MatchStore, score: float, weights: Floats) -> Floats:
    """(B,) detections an image that score enough, find nothing and lie in no ignore region."""
    tp, ignored = store.tp_and_ignored()
    alarms = store.image[(store.scores >= score) & ~tp & ~ignored]
    counts = np.bincount(alarms, minlength=store.n_images).astype(np.float64)
    return ratio_draws(counts, np.ones(store.n_images), weights)


def _rows(scored: dict[tuple[str, int], MatchStore]) -> list[dict[str, object]]:
    first = next(iter(scored.values()))
    weights = np.vstack([np.ones(first.n_images), draw_weights(first.units(), DRAWS)])
    measures = {
        "AP": lambda store, weights: 100 * coco_ap.ap(store, None, weights),
        "AP50": lambda store, weights: 100 * coco_ap.ap(store, 0.5, weights),
        "recall at score 0.5": lambda store, weights: _recall(store, 0.5, weights),
        "false alarms an image at score 0.5": lambda store, weights: _false_alarms(store, 0.5, weights),
        "recall at 0.3 false alarms": lambda store, weights: _recall(
            store, choose_thresholds(store, "fp_per_image", 0.3), weights
        ),
    }
    picked = np.random.default_rng(0).integers(0, len(SEEDS), (DRAWS, len(SEEDS)))
    rows: list[dict[str, object]] = [{"labels of town A": text} for text in WAYS.values()]
    rows += [{"labels of town A": f"regions minus {way}"} for way in ("deleted", "full")]
    for name, measure in measures.items():
        values = {way: np.array([measure(scored[way, seed], weights) for seed in SEEDS]) for way in WAYS}
        columns = [values[way] for way in WAYS]
        columns += [values["honoured"] - values["deleted"], values["honoured"] - values["full"]]
        for row, column in zip(rows, columns, strict=True):
            row[name] = _text(_over_seeds(column, picked), signed="minus" in str(row["labels of town A"]))
    return rows


def _over_seeds(values: Floats, picked: npt.NDArray[np.int64]) -> Interval:
    """(seeds, 1 + draws) -> the mean over seeds of the first column, and its interval over draws of drives and
    seeds."""
    draws = values[picked, np.arange(1, values.shape[1])[:, None]].mean(axis=1)
    return percentile_interval(draws, float(values[:, 0].mean()))


def _text(interval: Interval, signed: bool) -> str:
    one = "{:+.1f}" if signed else "{:.1f}"
    point, low, high = (one.format(value) for value in (interval.point, interval.low, interval.high))
    return f"{point} [{low}, {high}]"
