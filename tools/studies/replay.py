"""A city with few labels: does strong augmentation help adaptation, does replaying the old cities' frames, and does a
source that was trained with strong augmentation transfer better?

Source, target, labelled frames and evaluation are those of the study `city`, of which every line here is the full
recipe with the named change.
"""

from __future__ import annotations

from pathlib import Path

from studies import city, data, robust
from studies.runs import Job, Scores, finished, worded

STRONG = "fog_severe-long_0"
"""The source, trained on for 600 steps with strong augmentation and averaged weights: a line of the study `robust`."""
MILD = {"optim.epochs": 4, "optim.lr": 3e-4, "optim.ema": 0, "optim.source_share": 0.3}
"""The recipe for 50 labels and mild augmentation."""
STRONG_RECIPE = {"optim.lr": 5e-4, "optim.ema": 0.995, "optim.source_share": 0}
"""What `recipe: auto` chooses for strong augmentation and more than 100 labels; LONG epochs."""
LONG = {25: 32, 50: 16, 100: 8, 200: 8}
"""Labelled frames -> epochs: 400 steps of two at least."""
LINES: dict[str, tuple[str, str, bool, city.Flags]] = {
    "photometric": ("cities", "photometric", False, {}),
    "severe": ("cities", "severe", False, STRONG_RECIPE),
    "severe, blended": ("cities", "severe", False, STRONG_RECIPE | {"optim.source_share": 0.3}),
    "severe, replay": ("cities", "severe", True, STRONG_RECIPE),
    "photometric, replay": ("cities", "photometric", True, {}),
    "photometric, replay, long": ("cities", "photometric", True, STRONG_RECIPE),
    "severe, mild recipe": ("cities", "severe", False, MILD),
    "strong source, photometric": (STRONG, "photometric", False, {}),
    "strong source, severe, replay": (STRONG, "severe", True, STRONG_RECIPE),
}
"""Line -> the source it starts from, preset, whether half of every batch are frames of the source, keys."""
AT_EVERY_BUDGET = ("photometric", "severe", "severe, replay")


def jobs(shared: Path, out: Path) -> list[Job]:
    """Both sources; every line at 50 labels, seed by seed; some lines at the other label counts."""
    plain = city.source(shared, out)
    strong = next(job for job in robust.jobs(shared, out) if job.name == STRONG)
    glance = data.thinned(plain.measured["val"], city.GLANCE)
    every = [plain, strong]
    for labels, lines in ((50, tuple(LINES)), (200, AT_EVERY_BUDGET), (25, AT_EVERY_BUDGET), (100, AT_EVERY_BUDGET)):
        for seed in city.SEEDS:
            for line in lines:
                start, preset, replay, own = LINES[line]
                flags = city.DEFAULT | {"data.augment": preset, "seed": seed, "eval.every": 99} | own
                flags |= {"model.start": out / "runs" / start, "data.val": glance}
                flags |= {"optim.epochs": LONG[labels]} if own.get("optim.ema") else {}
                flags |= {"data.train": city.labelled(data.cities(shared, out / "data"), out, labels, seed, "regions")}
                if replay:
                    flags |= {"data.source": plain.flags["data.train"], "data.source_share": 0.5}
                every.append(Job(name(line, labels, seed), flags, plain.measured, (start,), city.SCORES_FROM))
    return every


def name(line: str, labels: int, seed: int) -> str:
    """A job's name: `replay_50_severe-replay_0`."""
    return f"replay_{labels}_{line.replace(', ', '-').replace(' ', '-')}_{seed}"


def tables(jobs: list[Job], out: Path) -> list[tuple[str, str, list[dict[str, object]]]]:
    """Presets; then replay and another source."""
    others = [line for line in LINES if "replay" in line or "source" in line]
    presets = [line for line in LINES if line not in others]
    title = "with few labels: strasbourg from five other cities"
    return [
        ("replay", f"Strong augmentation {title}", _rows(presets, jobs, out)),
        ("replay_source", f"Replay and another source {title}", _rows([presets[0], *others], jobs, out)),
    ]


def _rows(lines: list[str], jobs: list[Job], out: Path) -> list[dict[str, object]]:
    """Both sources before adaptation, then the lines: AP50 and what it gained over the plain source."""
    plain, strong = jobs[:2]
    done = {job.name for job in jobs if finished(job, out)}
    if plain.name not in done:
        return []
    scores = Scores(plain.measured["val"], out)
    rows = [_row(scores, "the source, before adaptation", 0, [plain.name], plain.name)]
    if strong.name in done:
        rows.append(_row(scores, "the strong source, before adaptation", 0, [strong.name], plain.name, "clear"))
    for line in lines:
        for labels in city.EPOCHS:
            ours = [one for one in (name(line, labels, seed) for seed in city.SEEDS) if one in done]
            if ours:
                rows.append(_row(scores, line, labels, ours, plain.name))
    return rows


def _row(scores: Scores, line: str, labels: int, ours: list[str], source: str, name: str = "val") -> dict[str, object]:
    row: dict[str, object] = {"line": line, "labels": labels, "seeds": len(ours)}
    before = scores.over_seeds([source] * len(ours), "val", "AP50")
    after = scores.over_seeds(ours, name, "AP50")
    for title, column in (("AP50", 0), ("AP50 of frequent classes", -1)):
        row[title] = worded(after, column)
        row[f"{title} gain"] = "-" if ours == [source] else worded(after - before, column, signed=True)
    return row
