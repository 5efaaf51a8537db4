"""A city with few labels: what transfer is worth, part by part.

Source: five cities of Cityscapes (994 frames). Target: strasbourg; one of its two recordings is validation (144
frames), the labelled frames come from the other: whole minutes of driving in a seeded order, nested in their number.
"""

from __future__ import annotations

import shutil
from itertools import groupby
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from studies import data
from studies.runs import Job, Scores, cells, finished, worded

from drivetl.coco.io import read_dataset
from drivetl.coco.records import ImageRecord
from drivetl.coco.writing import write_dataset

SEEDS = (0, 1, 2)
EPOCHS = {25: 7, 50: 4, 100: 8, 200: 8}
"""Labelled frames -> epochs: 91, 100, 400 and 800 steps of two, as many as `recipe: auto` takes from a detector."""
MOST = max(EPOCHS)
"""Labelled frames of the trainings that are watched on their way: the study `convergence` reads their rows."""
SCORES_FROM = 0.005
GLANCE = 12
"""Every 12th validation frame is evaluated during training; it decides nothing."""
VAL, POOL = "strasbourg_000000", "strasbourg_000001"

Flags = dict[str, object]
NAIVE: Flags = {
    "optim.lr": 3e-4,
    "optim.batch_size": 2,
    "optim.layer_decay": 1.0,
    "optim.frozen_stages": 2,
    "model.anchors": "keep",
}
"""Plain fine-tuning: all but the two lowest stages (torchvision's habit) at one rate, AdamW."""
FITTED = NAIVE | {"model.anchors": "fit"}
LEFT = ("epochs", "lr", "layer_decay", "heads_only_epochs", "frozen_stages", "l2sp", "ema", "source_share")
DEFAULT: Flags = {"optim.recipe": "auto", "optim.batch_size": 2} | {f"optim.{key}": "auto" for key in LEFT}
"""The defaults of a config without these keys (drivetl/training/recipe.py), anchors fitted."""
LONGER, SHORTER = "full recipe, 8 epochs", "full recipe, 3 epochs"
"""Whether another length gains more."""
WIDE, WIDE_EPOCHS = "full recipe, 8 images a step", "full recipe, 8 images a step, as many epochs"
"""Whether the length is one of steps or of epochs: as many steps with four times the images, or every image as
often."""
LONG = "features alone, own recipe"
"""Eight steps an image: the default without a detector to start from."""
LINES: dict[str, tuple[str, str, Flags]] = {
    "features alone": ("features", "regions", NAIVE | {"optim.lr": 1e-3, "model.anchors": "fit"}),
    "heads only": ("cities", "regions", NAIVE | {"optim.frozen_stages": 9}),
    "full, reset head": ("reset", "deleted", NAIVE),
    "+ surgery": ("cities", "deleted", NAIVE),
    "+ fitted anchors": ("cities", "deleted", FITTED),
    "+ ignore regions": ("cities", "regions", NAIVE),
    "+ gradual unfreezing": ("cities", "regions", NAIVE | {"optim.heads_only_epochs": 1, "optim.unfreeze_every": 1}),
    "+ layer decay": ("cities", "regions", NAIVE | {"optim.layer_decay": 0.6}),
    "+ source share": ("cities", "regions", NAIVE | {"optim.source_share": 0.3}),
    "full recipe": ("cities", "regions", DEFAULT),
    LONGER: ("cities", "regions", DEFAULT | {"optim.epochs": 8}),
    SHORTER: ("cities", "regions", DEFAULT | {"optim.epochs": 3}),
    WIDE: ("cities", "regions", DEFAULT | {"optim.batch_size": 8}),
    WIDE_EPOCHS: (
        "cities",
        "regions",
        {key: value for key, value in DEFAULT.items() if key != "optim.epochs"} | {"optim.batch_size": 8},
    ),
    LONG: ("features", "regions", DEFAULT),
}
"""Line -> what it starts from, ignore regions honoured or deleted, the config's keys."""
BASE = {
    "+ surgery": "full, reset head",
    "+ fitted anchors": "+ surgery",
    "+ ignore regions": "+ surgery",
    "+ gradual unfreezing": "+ ignore regions",
    "+ layer decay": "+ ignore regions",
    "+ source share": "+ ignore regions",
    "full recipe": "+ ignore regions",
    LONGER: "full recipe",
    SHORTER: "full recipe",
    WIDE: "full recipe",
    WIDE_EPOCHS: "full recipe",
}
"""Line -> the line it adds its part to."""
AT_EVERY_BUDGET = ("full recipe", "features alone")


def source(shared: Path, out: Path) -> Job:
    """The detector of the five cities, from the pretrained features."""
    cities, folder = data.cities(shared, out / "data"), out / "data"
    flags: Flags = {
        "data.train": data.part(cities, folder / "source.json", lambda all_: data.named(all_, "(?!strasbourg)")),
        "data.val": data.part(cities, folder / "val.json", lambda all_: data.named(all_, VAL)),
        "model.start": shared / "weights" / "mobilenet_v2_features.pt",
    }
    return Job("cities", flags, {"val": Path(str(flags["data.val"]))}, score_threshold=SCORES_FROM)


def jobs(shared: Path, out: Path) -> list[Job]:
    """The source; every line at 50 labels, seed by seed; the two headline lines at the other label counts."""
    first = source(shared, out)
    val = first.measured["val"]
    starts = {
        "features": Path(str(first.flags["model.start"])),
        "cities": out / "runs" / first.name,
        "reset": out / "runs" / "cities_reset",
    }
    if (starts["cities"] / "README.md").is_file() and not starts["reset"].is_dir():
        forget_head(starts["cities"], starts["reset"])
    every = [first]
    plan = [(line, 50) for line in LINES]
    plan += [(line, labels) for labels in (25, 100, MOST) for line in AT_EVERY_BUDGET]
    plan += [(SHORTER, 100), (SHORTER, MOST), (WIDE, 100), (WIDE_EPOCHS, 100), (LONG, MOST)]
    for place in range(0, len(plan), len(LINES)):
        for seed in SEEDS:
            for line, labels in plan[place : place + len(LINES)]:
                start, regions, flags = LINES[line]
                own: Flags = {"model.start": starts[start], "seed": seed, "optim.epochs": EPOCHS[labels]}
                own |= {"data.train": labelled(data.cities(shared, out / "data"), out, labels, seed, regions)}
                own |= {"data.val": data.thinned(val, GLANCE), "eval.every": EPOCHS[labels]}
                if labels == MOST:
                    own |= {"data.val": data.thinned(val, 3), "eval.every": 1}
                every.append(Job(name(line, labels, seed), own | flags, first.measured, (first.name,), SCORES_FROM))
    return every


def name(line: str, labels: int, seed: int) -> str:
    """A job's name: `city_50_layer-decay_0`."""
    return f"city_{labels}_{line.replace('+ ', '').replace(', ', ' ').replace(' ', '-')}_{seed}"


def labelled(whole: Path, out: Path, count: int, seed: int, regions: str) -> Path:
    """The first `count` frames of the target's pool in this seed's order; ignore regions kept or deleted."""
    target = out / "data" / f"target_{whole.parent.name}_{count}_{seed}_{regions}.json"
    if target.is_file():
        return target
    dataset = read_dataset(whole)
    pool = sorted(data.named(dataset.images, POOL), key=lambda image: image.file_name)
    drives: list[list[ImageRecord]] = [list(frames) for _, frames in groupby(pool, lambda image: image.drive)]
    order = np.random.default_rng(seed).permutation(len(drives))
    chosen = [image for place in order for image in drives[place]][:count]
    if regions == "deleted":
        for image in chosen:
            image.ignore_regions.clear()
    write_dataset(dataset.subset(sorted(chosen, key=lambda image: image.id)), target)
    return target


def forget_head(run: Path, copy: Path) -> None:
    """A copy of a run whose box predictor is as a new one: what loading all but the head gives elsewhere."""
    work = copy.with_name("." + copy.name)
    shutil.copytree(run, work, dirs_exist_ok=True)
    weights = work / "checkpoints" / "best" / "model.safetensors"
    state = load_file(weights)
    torch.manual_seed(0)
    for key in sorted(key for key in state if "box_predictor" in key and key.endswith(".weight")):
        rows, columns = state[key].shape
        fresh = torch.nn.Linear(columns, rows)
        state[key] = fresh.weight.detach()
        state[key.removesuffix("weight") + "bias"] = fresh.bias.detach()
    save_file(state, weights)
    work.rename(copy)


def tables(jobs: list[Job], out: Path) -> list[tuple[str, str, list[dict[str, object]]]]:
    """Every line at every label count: AP50 and AP, and what it gained over the source before adaptation."""
    first = jobs[0]
    if not finished(first, out):
        return []
    scores, done = Scores(first.measured["val"], out), {job.name for job in jobs if finished(job, out)}
    rows: list[dict[str, object]] = [
        {"line": "the source, before adaptation", "labels": 0, "seeds": 1}
        | cells(scores, [first.name], [first.name])
        | {"base": "-", "AP50 gain over base": "-"}
    ]
    for line in LINES:
        for labels in EPOCHS:
            ours = [name(line, labels, seed) for seed in SEEDS if name(line, labels, seed) in done]
            if not ours:
                continue
            row: dict[str, object] = {"line": line, "labels": labels, "seeds": len(ours)}
            row |= cells(scores, ours, [first.name] * len(ours))
            base = BASE.get(line, "")
            pairs = [(name(line, labels, s), name(base, labels, s)) for s in SEEDS]
            pairs = [pair for pair in pairs if base and done.issuperset(pair)]
            row["base"] = base or "-"
            row["AP50 gain over base"] = "-"
            if pairs:
                ours, theirs = map(list, zip(*pairs, strict=True))
                row["AP50 gain over base"] = worded(scores.over_seeds(ours, "val", "AP50", theirs), signed=True)
            rows.append(row)
    return [("city", "A city with few labels: strasbourg from five other cities", rows)]
