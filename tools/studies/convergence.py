"""AP against steps: how far a detector carried over is ahead of one from the pretrained features alone.

Reads what the study `city` wrote down on the way of its trainings at the largest budget; one picture shows both.
"""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import numpy as np
from studies import city
from studies.runs import DRAWS, Job, Scores, finished, worded

from drivetl.files.write import write_atomically
from drivetl.label_curve.fit import seed_multipliers
from drivetl.metrics.truth import Floats

PICTURE = Path(__file__).parents[2] / "docs" / "transfer.png"
COLORS = {"full recipe": "#1f77b4", "features alone": "#d95f02", city.LONG: "#7570b3"}


def jobs(shared: Path, out: Path) -> list[Job]:
    """The city's headline trainings."""
    lines = tuple(city.name(line, labels, 0)[:-1] for line in COLORS for labels in city.BUDGETS)
    every = city.jobs(shared, out)
    return [job for job in every if job is every[0] or job.name.startswith(lines)]


def curve(line: str, out: Path, classes: list[str] | None = None) -> dict[int, Floats]:
    """Step -> (1 + B,) AP50 at the largest budget: mean over seeds, and draws of it; step 0 is the source.

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


def tables(jobs: list[Job], out: Path) -> list[tuple[str, str, str, list[dict[str, object]]]]:
    """One row per look: AP50 of every line."""
    scores = _first(jobs, out)
    curves = {line: curve(line, out, scores.frequent()) for line in COLORS}
    if not all(curves.values()):
        return []
    of_all = {line: curve(line, out) for line in COLORS}
    ours, alone = curves["full recipe"], curves[city.LONG]
    rows: list[dict[str, object]] = []
    for step in sorted(set(ours) | set(alone)):
        row: dict[str, object] = {"steps of two images": step}
        for line, found in curves.items():
            row[line] = worded(found[step][:, None]) if step in found else "-"
        for line, found in of_all.items():
            row[f"{line}, all classes"] = worded(found[step][:, None]) if step in found else "-"
        row["from features needs"] = steps_to(alone, float(ours[step][0])) if step in ours else "-"
        rows.append(row)
    images = len(scores.data.images)
    note = (
        f"AP50 in percent of the frequent classes ({', '.join(scores.frequent())}) and of all on"
        f" {len(range(0, images, 3))} frames of strasbourg while training on {city.MOST} labelled ones, mean and 95 %"
        " interval over three seeds (not over frames). Step 0: before the first step. `from features needs`: steps"
        f" until `{city.LONG}` has the AP50 that the full recipe has in this row. Reproduce: `python tools/study.py"
        " city ...`, then `python tools/study.py convergence --shared DIR --write`."
    )
    return [("convergence", "AP against steps: carried over, and from features alone", note, rows)]


def _first(jobs: list[Job], out: Path) -> Scores:
    return Scores(jobs[0].measured["val"], out)


def picture(jobs: list[Job], out: Path) -> Path:
    """Two panels: AP50 against labelled frames, and against steps."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10, 4), layout="constrained")
    FigureCanvasAgg(figure)
    left, right = figure.subplots(1, 2, sharey=True)
    scores, done = _first(jobs, out), {job.name for job in jobs if finished(job, out)}
    frequent = scores.frequent()
    before = scores.over_seeds([jobs[0].name], "val", "AP50")
    left.axhline(100 * before[0, -1], color="0.4", linestyle=":", label="the source, before adaptation")
    for line, color in COLORS.items():
        at = {}
        for labels in city.BUDGETS:
            names = [city.name(line, labels, seed) for seed in city.SEEDS]
            if ours := [name for name in names if name in done]:
                at[labels] = scores.over_seeds(ours, "val", "AP50")[:, -1]
        _band(left, at, line, color)
        _band(right, curve(line, out, frequent), line, color)
    left.set(
        xlabel="labelled frames of the new city",
        ylabel=f"AP50 of the {len(frequent)} frequent classes, %",
        xscale="log",
    )
    left.set_xticks(list(city.BUDGETS), [str(labels) for labels in city.BUDGETS])
    left.minorticks_off()
    right.set(xlabel=f"steps of two images, {city.MOST} labelled frames")
    left.set_title("What labels buy", loc="left")
    right.set_title("What steps buy", loc="left")
    for axis in (left, right):
        axis.grid(alpha=0.25)
        axis.spines[["top", "right"]].set_visible(False)
    left.set_ylim(0, 1.3 * left.get_ylim()[1])  # shared; room for the legend
    left.legend(frameon=False, loc="upper left")
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=130, metadata={"Software": None})
    write_atomically(PICTURE, buffer.getvalue())
    return PICTURE


def _band(axis: Any, at: dict[int, Floats], label: str, color: str) -> None:
    """A line of means with the 95 % band of their draws."""
    if not at:
        return
    values = 100 * np.stack(list(at.values()))
    low, high = np.quantile(values[:, 1:], [0.025, 0.975], axis=1)
    axis.fill_between(list(at), low, high, color=color, alpha=0.18, linewidth=0)
    axis.plot(list(at), values[:, 0], color=color, marker="o", label=label)
