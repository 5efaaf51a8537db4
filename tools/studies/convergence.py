"""AP against steps: how far a transferred detector is ahead of one from pretrained features alone.

Reads the validation rows that the study `city` logged while training at its largest number of labelled frames.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from studies import city
from studies.runs import DRAWS, Job, Scores, worded

from drivetl.label_curve.fit import seed_multipliers
from drivetl.metrics.truth import Floats

LINES = ("full recipe", "features alone", city.LONG)


def jobs(shared: Path, out: Path) -> list[Job]:
    """The city's headline trainings."""
    lines = tuple(city.name(line, labels, 0)[:-1] for line in LINES for labels in city.EPOCHS)
    every = city.jobs(shared, out)
    return [job for job in every if job is every[0] or job.name.startswith(lines)]


def curve(line: str, out: Path, classes: list[str] | None = None) -> dict[int, Floats]:
    """Step -> (1 + B,) AP50 at the largest label count: mean over seeds, and draws of it; step 0 is the source.

    classes: the mean over these alone; None: over all that the watched frames show.
    """
    runs = [out / "runs" / city.name(line, city.MOST, seed) for seed in city.SEEDS]
    seeds = [_rows(run / "metrics.jsonl") for run in runs if (run / "README.md").is_file()]
    found = {}
    for step in sorted({row["step"] for rows in seeds for row in rows}):
        here = [row for rows in seeds for row in rows if row["step"] == step]
        each = [row["AP50_per_class"] for row in here]
        values = np.array(
            [row["AP50"] for row in here]
            if classes is None
            else [np.mean([one[name] for name in classes]) for one in each]
        )
        mean = values.mean()
        found[step] = np.array([mean, *(mean + seed_multipliers(DRAWS, len(values)) @ (values - mean))])
    return found


def _rows(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def steps_to(curve: dict[int, Floats], wanted: float) -> str:
    """The step at which the mean first reaches an AP50, linear between looks; `> N` where it never does."""
    steps = list(curve)
    means = [curve[step][0] for step in steps]
    for place, mean in enumerate(means):
        if mean >= wanted:
            if place == 0:
                return str(steps[0])
            share = (wanted - means[place - 1]) / (mean - means[place - 1])
            return f"{steps[place - 1] + share * (steps[place] - steps[place - 1]):.0f}"
    return f"> {steps[-1]}"


def tables(jobs: list[Job], out: Path) -> list[tuple[str, str, list[dict[str, object]]]]:
    """One row per look: AP50 of every line."""
    frequent = Scores(jobs[0].measured["val"], out).frequent()
    curves = {line: curve(line, out, frequent) for line in LINES}
    if not all(curves.values()):
        return []
    of_all = {line: curve(line, out) for line in LINES}
    ours, alone = curves["full recipe"], curves[city.LONG]
    rows: list[dict[str, object]] = []
    for step in sorted(set(ours) | set(alone)):
        row: dict[str, object] = {"steps of two images": step}
        for line, found in curves.items():
            row[line] = worded(found[step][:, None]) if step in found else "-"
        for line, found in of_all.items():
            row[f"{line}, all classes"] = worded(found[step][:, None]) if step in found else "-"
        row["steps from features alone"] = steps_to(alone, float(ours[step][0])) if step in ours else "-"
        rows.append(row)
    return [("convergence", "AP against steps: carried over, and from features alone", rows)]
