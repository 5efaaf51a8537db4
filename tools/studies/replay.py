"""A city with few labels: does strong augmentation help adaptation, does replaying the old cities' frames, and does a
source that was trained with strong augmentation transfer better?

Source, target, labelled frames and evaluation are those of the study `city`, of which every line here is the full
recipe with the named change.
"""

from __future__ import annotations

from pathlib import Path

from studies import city, data
from studies.runs import Job, Scores, finished, worded

STRONG = {"data.augment": "severe", "optim.epochs": 8, "optim.ema": 0.995}
"""The source's own training, twice as long and with averaged weights."""
LINES: dict[str, tuple[str, str, bool]] = {
    "photometric": ("cities", "photometric", False),
    "severe": ("cities", "severe", False),
    "mixed": ("cities", "mixed", False),
    "photometric, replay": ("cities", "photometric", True),
    "severe, replay": ("cities", "severe", True),
    "strong source, photometric": ("cities_strong", "photometric", False),
    "strong source, severe, replay": ("cities_strong", "severe", True),
}
"""Line -> the source it starts from, preset, whether half of every batch are frames of the source."""
AT_EVERY_BUDGET = ("photometric", "severe, replay", "strong source, severe, replay")


def jobs(shared: Path, out: Path) -> list[Job]:
    """Both sources; every line at 50 labels, seed by seed; some lines at the other label counts."""
    plain = city.source(shared, out)
    strong = Job("cities_strong", plain.flags | STRONG, plain.measured, score_threshold=city.SCORES_FROM)
    glance = data.thinned(plain.measured["val"], city.GLANCE)
    every = [plain, strong]
    for labels, lines in ((50, tuple(LINES)), (200, AT_EVERY_BUDGET), (100, AT_EVERY_BUDGET), (25, AT_EVERY_BUDGET)):
        for seed in city.SEEDS:
            for line in lines:
                start, preset, replay = LINES[line]
                flags = city.DEFAULT | {"data.augment": preset, "seed": seed, "eval.every": 99}
                flags |= {"model.start": out / "runs" / start, "data.val": glance}
                flags |= {"data.train": city.labelled(data.cities(shared, out / "data"), out, labels, seed, "regions")}
                if replay:
                    flags |= {"data.source": plain.flags["data.train"], "data.source_share": 0.5}
                every.append(Job(name(line, labels, seed), flags, plain.measured, (start,), city.SCORES_FROM))
    return every


def name(line: str, labels: int, seed: int) -> str:
    """A job's name: `replay_50_severe-replay_0`."""
    return f"replay_{labels}_{line.replace(', ', '-').replace(' ', '-')}_{seed}"


def tables(jobs: list[Job], out: Path) -> list[tuple[str, str, list[dict[str, object]]]]:
    """Both sources before adaptation, then every line: AP50 and what it gained over the plain source."""
    plain, strong = jobs[0], jobs[1]
    done = {job.name for job in jobs if finished(job, out)}
    if plain.name not in done:
        return []
    scores = Scores(plain.measured["val"], out)
    rows = [_row(scores, "the source, before adaptation", 0, [plain.name], plain.name)]
    if strong.name in done:
        rows.append(_row(scores, "the strong source, before adaptation", 0, [strong.name], plain.name))
    for line in LINES:
        for labels in city.EPOCHS:
            ours = [one for one in (name(line, labels, seed) for seed in city.SEEDS) if one in done]
            if ours:
                rows.append(_row(scores, line, labels, ours, plain.name))
    return [("replay", "Strong augmentation and replay with few labels: strasbourg from five other cities", rows)]


def _row(scores: Scores, line: str, labels: int, ours: list[str], source: str) -> dict[str, object]:
    row: dict[str, object] = {"line": line, "labels": labels, "seeds": len(ours)}
    for title, column in (("AP50", 0), ("AP50 of frequent classes", -1)):
        row[title] = worded(scores.over_seeds(ours, "val", "AP50"), column)
        gained = scores.over_seeds(ours, "val", "AP50", [source] * len(ours))
        row[f"{title} gain"] = "-" if ours == [source] else worded(gained, column, signed=True)
    return row
