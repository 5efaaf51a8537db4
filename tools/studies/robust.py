"""Do strong presets, longer training and averaged weights help on real weather that was never trained on?

A motorway camera: trained on dry-day frames only, evaluated on the same camera's real night and wet road, from the
detector of five clear cities. Every preset is trained for the short and for the long recipe; what the weights detect on
the way gives AP50 against steps. Cities: five clear cities, then photos of real fog. Lines are from the same start, on
the same frames. A recipe is chosen on the first half of the real frames (`tuned`) and reported on the other
(`reported`).
"""

from __future__ import annotations

from pathlib import Path

from studies import city, data
from studies.runs import Job, Scores, finished, steps_of, worded
from studies.weather import CAMERA, camera_parts, fog_parts

SEEDS = (0, 1, 2)
SHORT = {"highway": {"optim.epochs": 3, "eval.every": 3}, "fog": {"optim.epochs": 1}}
"""The recipe of before: 135 steps of four on the camera, 120 steps of two in the cities."""
LONG = {
    "highway": {"optim.epochs": 12, "eval.every": 4, "optim.ema": 0.995},
    "fog": {"optim.epochs": 5, "optim.ema": 0.995, "eval.every": 5},
}
"""540 steps of four, 600 steps of two, weights averaged."""
DEFAULT = {"highway": city.DEFAULT | {"optim.batch_size": 4, "eval.every": 6}}
"""What a config gets that names only data and start, at the image size and the batch size of the other lines; evaluated
on the way also at 540 steps, the length of the long lines."""
LINES = {
    "default": ("auto", DEFAULT),
    "none": ("none", SHORT),
    "none long": ("none", LONG),
    "weather long": ("weather", LONG),
    "severe": ("severe", SHORT),
    "severe long": ("severe", LONG),
    "mixed long": ("mixed", LONG),
}
"""Line -> preset and length."""
CHOSEN = tuple(line for line in LINES if line != "default")
"""Those whose preset and length are written."""
PLAIN = ("none", "none long")
SWEPT = 3
"""Every third dry image is evaluated under conditions."""
ORDER = (("default",), ("none", "severe long"), ("none long", "mixed long"), ("weather long", "severe"))
"""The lines that are trained first, seed by seed, then the others."""


def jobs(shared: Path, out: Path) -> list[Job]:
    """The source on clear cities first, then the lines seed by seed."""
    source = city.source(shared, out)
    camera, fog = camera_parts(shared, out), fog_parts(shared, out)
    parts = [camera[name] for name in CAMERA if name != "train"]
    watched = data.union(data.highway(shared, out / "data"), out / "data" / "highway_watched.json", parts)
    fog["clear"] = Path(str(source.flags["data.val"]))
    dry = {"data.train": camera.pop("train"), "data.val": watched, "eval.keep_detections": "true"}
    dry |= {"model.min_size": 360, "model.max_size": 640, "optim.frozen_stages": 2, "optim.layer_decay": 1.0}
    clear = {"data.train": source.flags["data.train"], "data.val": data.thinned(source.measured["val"], city.GLANCE)}
    clear |= {"data.train_images": 240, "optim.batch_size": 2, "optim.frozen_stages": 2}
    every = [source]
    for lines in ORDER:
        for kind, flags, measured in (("highway", dry, camera), ("fog", clear, fog)):
            for seed in SEEDS:
                for line in lines:
                    preset, length = LINES[line]
                    if kind not in length:
                        continue
                    own = {"data.augment": preset, "seed": seed, "optim.lr": 5e-4}
                    own |= {"model.start": out / "runs" / source.name}
                    flags_of_line = own | flags | length[kind]
                    watch = kind == "highway"
                    job = Job(name(kind, line, seed), flags_of_line, measured, (source.name,), city.SCORES_FROM, watch)
                    job.swept = data.thinned(measured["dry"], SWEPT) if watch else None
                    every.append(job)
    return every


def name(kind: str, line: str, seed: int) -> str:
    """A job's name: `highway_severe-long_0`."""
    return f"{kind}_{line.replace(' ', '-')}_{seed}"


def tables(jobs: list[Job], out: Path) -> list[tuple[str, str, list[dict[str, object]]]]:
    """AP50 of every line on every set and its difference to no augmentation at its better length, seeds and draws
    paired; and AP50 against steps."""
    camera = _lines("highway", CHOSEN, jobs, out)
    default = _lines("highway", ("none", "default", "mixed long"), jobs, out)
    return [
        ("robust", "Do strong presets and longer training help on a real night and wet road?", camera),
        ("robust_steps", "AP50 on the motorway camera against training steps", _steps(jobs, out)),
        ("robust_fog", "Do strong presets and longer training help in real fog?", _lines("fog", CHOSEN, jobs, out)),
        ("robust_default", "What does the default gain on a real night and wet road?", default),
    ]


def _lines(kind: str, lines: tuple[str, ...], jobs: list[Job], out: Path) -> list[dict[str, object]]:
    rows: list[dict[str, object]] = []
    done = {job.name for job in jobs if finished(job, out)}
    measured = next(job.measured for job in jobs if job.name.startswith(kind))
    if kind == "highway":
        measured = measured | {"mPC": data.thinned(measured["dry"], SWEPT)}
    for set_name, path in measured.items():
        scores = Scores(path, out)
        for line in lines:
            seeds = [s for s in SEEDS if {name(kind, one, s) for one in (line, "none")} <= done]
            if not seeds:
                continue
            bases = [one for one in PLAIN if one != line and {name(kind, one, s) for s in seeds} <= done]
            ours = [name(kind, line, s) for s in seeds]
            row: dict[str, object] = {"measured on": set_name, "images": len(scores.data.images)}
            row |= {"trained with": line, "seeds": len(seeds)}
            for metric in ("AP50", "AP"):
                row[metric] = worded(scores.over_seeds(ours, set_name, metric))
                if line in PLAIN:
                    row[f"{metric} - none"] = "-"
                    continue
                best = max(bases, key=lambda base: _mean(scores, kind, base, seeds, set_name, metric))
                theirs = [name(kind, best, s) for s in seeds]
                row[f"{metric} - none"] = worded(scores.over_seeds(ours, set_name, metric, theirs), signed=True)
            rows.append(row)
    return rows


def _mean(scores: Scores, kind: str, line: str, seeds: list[int], set_name: str, metric: str) -> float:
    return float(scores.over_seeds([name(kind, line, s) for s in seeds], set_name, metric)[0, 0])


def _steps(jobs: list[Job], out: Path) -> list[dict[str, object]]:
    """One row per line, set and step at which the trainings were evaluated."""
    by_name = {job.name: job for job in jobs}
    rows: list[dict[str, object]] = []
    for line in CHOSEN:
        runs = [by_name[name("highway", line, s)] for s in SEEDS]
        runs = [job for job in runs if finished(job, out)]
        for set_name, path in runs[0].measured.items() if runs else ():
            scores = Scores(path, out)
            for step in steps_of(runs[0], out):
                found = scores.over_seeds([job.name for job in runs], f"{set_name}@{step}", "AP50")
                row: dict[str, object] = {"measured on": set_name, "trained with": line}
                rows.append(row | {"steps": step, "seeds": len(runs), "AP50": worded(found)})
    return rows
