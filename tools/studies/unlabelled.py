"""Does footage without labels help, next to labelled frames?

A motorway camera: dry-day frames are labelled, the first half of the night or of the wet clip is not; reported on the
other half. The teacher is the detector of the study `robust` that saw the preset `severe` for long; every line trains
it further for 180 steps of two labelled frames (and one without labels). A city: strasbourg's recording without labels
next to 0, 50 or 200 labelled frames of it. Fog: five clear cities, and half of the photos of real fog without labels.
Lines change the default: another rate, no blending, no ignore band, another weight or threshold, a second round.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path

from studies import city, data, robust
from studies.runs import Job, Scores, finished, measured, worded
from studies.weather import camera_parts, fog_parts

from drivetl.coco.io import read_dataset
from drivetl.training.recipe import recipe

SEEDS = (0, 1, 2)
TEACHER = "teacher"
PLAIN = "labelled only"
PLAIN_FREE = "labelled only, rate 3e-4, not blended"
ROUND_2 = "a second round"
Flags = dict[str, object]
WITH: Flags = {"optim.batch_size": 3, "data.unlabelled_share": 0.3333}
"""One frame without labels next to the two labelled ones."""
FREE: Flags = {"optim.lr": 3e-4, "optim.source_share": 0.0}
LINES: dict[str, Flags] = {
    "unlabelled": {},
    "rate 3e-4, not blended": FREE,
    "rate 3e-4": {"optim.lr": 3e-4},
    "not blended": {"optim.source_share": 0.0},
    PLAIN_FREE: FREE,
    "no ignore band": {"data.pseudo_ignore_from": 0.6},
    "weight 1": {"data.unlabelled_weight": 1.0},
    "weight 0.25": {"data.unlabelled_weight": 0.25},
    "threshold 0.8": {"data.pseudo_threshold": 0.8},
    "threshold 0.4": {"data.pseudo_threshold": 0.4},
    ROUND_2: {},
}
"""Line -> how it differs from the default of data.unlabelled, in which half of the result is the teacher's weights."""
HEADLINES = (PLAIN, "unlabelled")
OTHERS = tuple(line for line in LINES if line not in HEADLINES)
CAMERA_SETS = ("dry", "night_reported", "night_tuned", "wet_reported", "wet_tuned")
CAMERA_PARTS = ("night", "wet")
CITY_PARTS = ("strasbourg_0", "strasbourg_50", "strasbourg_200")
"""How many frames of strasbourg are labelled."""


def jobs(shared: Path, out: Path) -> list[Job]:
    """The headlines, seed by seed: the camera's night and wet clip, fog, strasbourg; then the other lines of the night,
    and of wet clip and fog."""
    camera, fog, source = camera_parts(shared, out), fog_parts(shared, out), city.source(shared, out)
    every: list[Job] = []
    for seed in SEEDS:
        every += [job for part in CAMERA_PARTS for job in _camera(camera, out, part, seed, HEADLINES)]
        every += _fog(fog, source, out, seed, HEADLINES)
        every += [job for labels in (50, 0, 200) for job in _strasbourg(shared, source, out, labels, seed)]
    for seed in SEEDS:
        every += [job for part in CAMERA_PARTS for job in _camera(camera, out, part, seed, OTHERS)]
        every += _fog(fog, source, out, seed, OTHERS)
    return every


def name(part: str, line: str, seed: int) -> str:
    """A job's name: `unlabelled_night_no-ignore-band_0`."""
    return f"unlabelled_{part}_{line.replace(', ', ' ').replace(' ', '-')}_{seed}"


def teacher(part: str, seed: int) -> str:
    """The job whose detector labels and is trained further."""
    if part.startswith("strasbourg"):
        return "cities"
    return robust.name("fog" if part == "fog" else "highway", "severe long", seed)


def _recipe(n_images: int) -> Flags:
    """What `recipe: auto` chooses with footage that the start labels, two labelled frames a step."""
    chosen = dataclasses.asdict(recipe(n_images, "detector", 2, footage=True))
    return {f"optim.{key}": value for key, value in chosen.items()} | {"optim.batch_size": 2}


def _camera(camera: dict[str, Path], out: Path, part: str, seed: int, lines: tuple[str, ...]) -> list[Job]:
    """Two passes over 180 labelled frames, two a step. `labelled only` is the same whatever part is not labelled."""
    flags = _recipe(180) | {"data.train": camera["train"], "data.val": data.thinned(camera["dry"], 5), "seed": seed}
    flags |= {"data.augment": "severe", "model.anchors": "keep"}
    flags |= {"model.min_size": 360, "model.max_size": 640, "eval.every": 2}
    sets = {name: camera[name] for name in CAMERA_SETS}
    return [
        _job(part, line, seed, flags, camera[f"{part}_tuned"], sets, out)
        for line in lines
        if part != "wet" or not line.startswith(PLAIN)
    ]


def _fog(fog: dict[str, Path], source: Job, out: Path, seed: int, lines: tuple[str, ...]) -> list[Job]:
    """One pass over 240 frames of the clear cities, two a step."""
    flags = _recipe(240) | {"data.train": source.flags["data.train"], "data.train_images": 240, "seed": seed}
    flags |= {"data.augment": "severe", "model.anchors": "keep"}
    flags |= {"data.val": data.thinned(source.measured["val"], city.GLANCE), "optim.epochs": 1}
    sets = fog | {"clear": source.measured["val"]}
    return [_job("fog", line, seed, flags, fog["fog_tuned"], sets, out) for line in lines]


def _strasbourg(shared: Path, source: Job, out: Path, labels: int, seed: int) -> list[Job]:
    """180 steps of two labelled frames or a few more, with and without the rest of the recording; without labels of
    strasbourg, on 200 frames of the other cities."""
    whole, part = data.cities(shared, out / "data"), f"strasbourg_{labels}"
    flags = _recipe(labels or 200) | {"seed": seed, "data.augment": "photometric"}
    flags |= {"data.val": data.thinned(source.measured["val"], city.GLANCE), "eval.every": 99}
    if labels:
        flags |= {"data.train": city.labelled(whole, out, labels, seed, "regions")}
    else:
        flags |= {"data.train": source.flags["data.train"], "data.train_images": 200}
    rest = rest_of_pool(whole, out, labels, seed)
    return [_job(part, line, seed, flags, rest, source.measured, out, city.SCORES_FROM) for line in HEADLINES]


def rest_of_pool(whole: Path, out: Path, labels: int, seed: int) -> Path:
    """The frames of strasbourg's training recording that are not labelled."""
    known = read_dataset(city.labelled(whole, out, labels, seed, "regions")).images if labels else []
    names = {image.file_name for image in known}
    target = out / "data" / f"target_{whole.parent.name}_rest_{labels}_{seed}.json"
    return data.part(whole, target, lambda all_: [i for i in data.named(all_, city.POOL) if i.file_name not in names])


def _job(
    part: str,
    line: str,
    seed: int,
    flags: Flags,
    unlabelled: Path,
    sets: dict[str, Path],
    out: Path,
    score_threshold: float = 0.05,
) -> Job:
    before = name(part, "unlabelled", seed) if line == ROUND_2 else teacher(part, seed)
    own = flags | {"model.start": out / "runs" / before / "checkpoints" / "last"}
    if not line.startswith(PLAIN):
        own |= WITH | {"data.unlabelled": unlabelled}
    own |= LINES.get(line, {})
    return Job(name(part, line, seed), own, sets, (before,), score_threshold)


def tables(jobs: list[Job], out: Path) -> list[tuple[str, str, list[dict[str, object]]]]:
    """Camera, city and fog: the default on every set, less `labelled only` and the teacher; then the other lines, less
    the default. Seeds and draws are paired."""
    done = {job.name: job for job in jobs if finished(job, out)}
    question = "Does footage without labels help"
    return [
        ("unlabelled", f"{question} on a motorway camera?", _rows(CAMERA_PARTS, done, out)),
        ("unlabelled_city", f"{question} in a new city?", _rows(CITY_PARTS, done, out)),
        ("unlabelled_fog", f"{question} in real fog?", _rows(("fog",), done, out)),
        (
            "unlabelled_lines",
            "Which part of the default of data.unlabelled matters?",
            _rows((*CAMERA_PARTS, "fog"), done, out, tuple(LINES), ("unlabelled", TEACHER)),
        ),
    ]


def _rows(
    parts: tuple[str, ...],
    done: dict[str, Job],
    out: Path,
    lines: tuple[str, ...] = (TEACHER, *HEADLINES),
    bases: tuple[str, ...] = (PLAIN, TEACHER),
) -> list[dict[str, object]]:
    """Every line on every set of the parts, less the bases."""
    scores: dict[Path, Scores] = {}
    rows: list[dict[str, object]] = []
    for part in parts:
        first = next((job for job in done.values() if job.name.startswith(f"unlabelled_{part}_")), None)
        for set_name, path in first.measured.items() if first is not None else ():
            of_set = scores.setdefault(path, Scores(path, out))
            for line in lines:
                seeds = [s for s in SEEDS if _is_known(part, line, s, set_name, out)]
                if seeds:
                    row: dict[str, object] = {"without labels": part, "measured on": set_name}
                    row |= {"images": len(of_set.data.images), "trained with": line, "seeds": len(seeds)}
                    rows.append(row | _cells(of_set, part, line, bases, seeds, set_name, out))
    return rows


def _run(part: str, line: str, seed: int) -> str:
    """The job of a line; those of labelled frames only are the night's also for the wet clip."""
    if line == TEACHER:
        return teacher(part, seed)
    return name("night" if part == "wet" and line.startswith(PLAIN) else part, line, seed)


def _is_known(part: str, line: str, seed: int, set_name: str, out: Path) -> bool:
    return measured(out, _run(part, line, seed), set_name)


def _cells(
    scores: Scores, part: str, line: str, bases: tuple[str, ...], seeds: list[int], set_name: str, out: Path
) -> dict[str, object]:
    cells: dict[str, object] = {}
    columns = {"AP50": ("AP50", 0), "AP": ("AP", 0)}
    if part in CITY_PARTS:
        columns["AP50 of frequent classes"] = ("AP50", -1)
    for title, (metric, column) in columns.items():
        found = scores.over_seeds([_run(part, line, s) for s in seeds], set_name, metric)
        cells[title] = worded(found, column)
        for base in bases:
            both = [s for s in seeds if line not in (base, TEACHER) and _is_known(part, base, s, set_name, out)]
            difference = "-"
            if both:
                ours, theirs = ([_run(part, one, s) for s in both] for one in (line, base))
                difference = worded(scores.over_seeds(ours, set_name, metric, theirs), column, signed=True)
            cells[f"{title} - {base}"] = difference
    return cells
