"""Which frames to label: those that `drivetl select` names, against random ones and ones evenly spaced in time.

Source: the five cities of the study `city`. Pool: the training recording of strasbourg (221 frames), which is one
drive, as a video of a new city is. Every choice is labelled in full and trained as the full recipe of `city`; the
trainings differ in their frames and their seed. `select` is asked once, for MOST frames; fewer are the first of those.
"""

from __future__ import annotations

import csv
from dataclasses import replace
from pathlib import Path

import numpy as np
from studies import city, data
from studies.runs import Job, Scores, cells, finished, worded

from drivetl import console
from drivetl.cli import main
from drivetl.coco.io import read_dataset
from drivetl.coco.records import ImageRecord
from drivetl.coco.writing import write_dataset

COUNTS = (25, 50)
MOST = max(COUNTS)
WAYS = ("select", "random", "uniform in time")
RATE_FPS = 17
"""Of Cityscapes' recordings, by which their frames are numbered."""


def jobs(shared: Path, out: Path) -> list[Job]:
    """The source; then every way at every count, seed by seed.

    `select` needs the finished source: before, its trainings are left out, and the next call adds them.
    """
    first = city.source(shared, out)
    cities, run = data.cities(shared, out / "data"), out / "runs" / first.name
    is_ready = (run / "README.md").is_file()
    if not is_ready:
        console.note("the trainings of `select` are added when the source is finished: start the study again then")
    every = [first]
    for count in COUNTS:
        for seed in city.SEEDS:
            for way in WAYS:
                if way == "select" and not is_ready:
                    continue
                flags: dict[str, object] = {
                    "model.start": run,
                    "seed": seed,
                    "data.train": labelled(cities, run, out, way, count, seed),
                    "data.val": data.thinned(first.measured["val"], city.GLANCE),
                    "eval.every": city.EPOCHS[count],
                }
                measured, needs = first.measured, (first.name,)
                every.append(Job(name(way, count, seed), flags | city.DEFAULT, measured, needs, city.SCORES_FROM))
    return every


def name(way: str, count: int, seed: int) -> str:
    """A job's name: `select_25_uniform-in-time_0`."""
    return f"select_{count}_{way.replace(' ', '-')}_{seed}"


def labelled(cities: Path, run: Path, out: Path, way: str, count: int, seed: int) -> Path:
    """The frames of the pool that a way chooses, with their labels."""
    seed = 0 if way == "select" else seed
    target = out / "data" / f"select_{way.replace(' ', '-')}_{count}_{seed}.json"
    if target.is_file():
        return target
    dataset = read_dataset(cities)
    pool = sorted(data.named(dataset.images, city.POOL), key=lambda image: image.file_name)
    if way == "select":
        chosen = selected(pool, cities, run, out)[:count]
    elif way == "random":
        chosen = [pool[place] for place in np.random.default_rng(seed).permutation(len(pool))[:count]]
    else:
        chosen = [pool[place] for place in evenly(len(pool), count, seed)]
    write_dataset(dataset.subset(sorted(chosen, key=lambda image: image.id)), target)
    return target


def evenly(n_frames: int, count: int, seed: int) -> list[int]:
    """`count` of 0..n_frames - 1 at equal steps from a start that depends on the seed."""
    step = n_frames / count
    start = np.random.default_rng(seed).random() * step
    return [int(start + number * step) for number in range(count)]


def selected(pool: list[ImageRecord], cities: Path, run: Path, out: Path) -> list[ImageRecord]:
    """The MOST frames of the pool that `drivetl select` names, best first."""
    folder = out / "data" / "select_frames"
    if not (folder / "selected.csv").is_file():
        bare = [replace(image, drive=city.POOL, annotations=[], ignore_regions=[], labelled=None) for image in pool]
        footage = out / "data" / "select_pool.json"
        write_dataset(read_dataset(cities).subset(bare), footage)
        flags = ["--run", str(run), "--count", str(min(MOST, len(pool))), "--fps", str(RATE_FPS), "--out", str(folder)]
        if main(["select", str(footage), *flags]):
            raise SystemExit(2)
    with (folder / "selected.csv").open(encoding="utf-8", newline="") as file:
        names = [row["file_name"] for row in csv.DictReader(file)]
    by_name = {image.file_name: image for image in pool}
    return [by_name[file_name] for file_name in names]


def tables(jobs: list[Job], out: Path) -> list[tuple[str, str, list[dict[str, object]]]]:
    """AP50 and AP of every way at every count, and what `select` gains over the others with the same seeds."""
    first = jobs[0]
    done = {job.name: job for job in jobs if finished(job, out)}
    if first.name not in done:
        return []
    scores = Scores(first.measured["val"], out)
    rows: list[dict[str, object]] = []
    for count in COUNTS:
        for way in WAYS:
            seeds = [seed for seed in city.SEEDS if name(way, count, seed) in done]
            if not seeds:
                continue
            ours = [name(way, count, seed) for seed in seeds]
            row: dict[str, object] = {"frames": count, "chosen": way, "seeds": len(seeds)}
            row["objects"] = round(float(np.mean([_objects(done[job]) for job in ours])))
            row |= cells(scores, ours, [first.name] * len(ours))
            both = [seed for seed in seeds if name("select", count, seed) in done]
            row["AP50 of select - this"] = "-"
            if way != "select" and both:
                pairs = [[name(one, count, seed) for seed in both] for one in ("select", way)]
                row["AP50 of select - this"] = worded(scores.over_seeds(pairs[0], "val", "AP50", pairs[1]), signed=True)
            rows.append(row)
    return [("select", "Which frames to label: strasbourg from five other cities", rows)]


def _objects(job: Job) -> int:
    """Labelled objects of a job's frames: what they cost to label."""
    return sum(len(image.annotations) for image in read_dataset(Path(str(job.flags["data.train"]))).images)
