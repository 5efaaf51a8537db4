"""Keys of the config that are off by default, one at a time: do they help where labels are few?

Source, target, labelled frames and evaluation are those of the study `city`; every line is the full recipe for LABELS
labelled frames (400 steps of two, a few more with repeat-factor sampling) with one key changed.
"""

from __future__ import annotations

from pathlib import Path

from studies import city, data
from studies.runs import Job, Scores, cells, finished

LABELS = 100
DEFAULT = "default"
LINES: dict[str, city.Flags] = {
    DEFAULT: {},
    "scale jitter, 0.5 to 2": {"data.scale_jitter": "[0.5, 2]"},
    "repeat-factor sampling": {"data.sampling": "repeat_factor"},
    "scale jitter, 0.7 to 1.4": {"data.scale_jitter": "[0.7, 1.4]"},
    "constant rate": {"optim.schedule": "constant"},
    "rate in steps": {"optim.schedule": "step"},
}
"""Line -> the key that it changes."""


def jobs(shared: Path, out: Path) -> list[Job]:
    """The source, then every line seed by seed."""
    first = city.source(shared, out)
    every = [first]
    for seed in city.SEEDS:
        for line, own in LINES.items():
            flags: city.Flags = city.DEFAULT | {"seed": seed, "optim.epochs": city.EPOCHS[LABELS], "eval.every": 99}
            flags |= {
                "model.start": out / "runs" / first.name,
                "data.val": data.thinned(first.measured["val"], city.GLANCE),
            }
            flags |= {"data.train": city.labelled(data.cities(shared, out / "data"), out, LABELS, seed, "regions")}
            every.append(Job(name(line, seed), flags | own, first.measured, (first.name,), city.SCORES_FROM))
    return every


def name(line: str, seed: int) -> str:
    """A job's name: `keys_scale-jitter-0.5-to-2_0`."""
    return f"keys_{line.replace(', ', ' ').replace(' ', '-')}_{seed}"


def tables(jobs: list[Job], out: Path) -> list[tuple[str, str, list[dict[str, object]]]]:
    """Every line, and what it gained over the default with the same seeds."""
    first, done = jobs[0], {job.name for job in jobs if finished(job, out)}
    if first.name not in done:
        return []
    scores = Scores(first.measured["val"], out)
    rows: list[dict[str, object]] = []
    for line in LINES:
        seeds = [seed for seed in city.SEEDS if {name(line, seed), name(DEFAULT, seed)} <= done]
        if not seeds:
            continue
        ours, theirs = ([name(one, seed) for seed in seeds] for one in (line, DEFAULT))
        rows.append({"line": line, "labels": LABELS, "seeds": len(seeds)} | cells(scores, ours, theirs))
    return [("keys", "Keys that are off by default: strasbourg from five other cities", rows)]
