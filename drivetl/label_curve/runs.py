"""The runs of `drivetl budget`: one training per (regime, label count, seed), and the analysis of all of them.

Finished runs are in rows.jsonl and are never trained again; a killed training resumes from its saved state.
"""

from __future__ import annotations

import json
import math
import shutil
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from drivetl import console
from drivetl.coco.drives import UNKNOWN_DRIVES, Drives
from drivetl.coco.io import write_dataset
from drivetl.coco.records import ImageRecord
from drivetl.config import load_config
from drivetl.errors import CheckpointError, DataError
from drivetl.files.runs import BEST_DETECTIONS
from drivetl.files.write import write_atomically
from drivetl.label_curve.fit import class_draws, gain_documents, regime_document, seed_multipliers
from drivetl.label_curve.plan import ROWS, Cell, Plan, compared, config_hash, label_order, objects
from drivetl.metrics import coco_ap
from drivetl.metrics.match_store import match
from drivetl.metrics.measures import METRICS
from drivetl.metrics.results import load_results
from drivetl.metrics.statistics import allows_intervals, draw_weights, few_drives, no_intervals
from drivetl.metrics.truth import Floats, GroundTruth, from_dataset
from drivetl.training.finetune import begin_or_continue

Row = dict[str, Any]


class Rows:
    """rows.jsonl: one line per finished run."""

    def __init__(self, plan: Plan):
        """Read the file. Raises DataError for a line that is not a row, or one of other data or another config."""
        self.plan, self.path = plan, plan.out / ROWS
        self.rows: dict[Cell, Row] = {}
        lines = self.path.read_text("utf-8").splitlines() if self.path.is_file() else []
        for number, line in enumerate(lines, 1):
            try:
                cell, row = _parsed(line)
                self._check(row, cell)
            except DataError as error:
                raise error.at(self.path, number) from None
            self.rows[cell] = row

    def _check(self, row: Row, cell: Cell) -> None:
        """Check a row against the plan; rows that are not in the plan only need the same data."""
        name, count, seed = cell
        if row["data"] != self.plan.data_hash:
            raise DataError("this run was trained or evaluated on another dataset", remedy="name another --out")
        if cell not in self.plan.cells():
            return
        config = self.plan.config(cell)
        if row["config"] != config_hash(config):
            path, now = self.plan.out / row["run"] / "config.yaml", compared(config)
            old = compared(load_config(path)) if path.is_file() else {}
            keys = [f"{key} was {old[key]!r}, now {now[key]!r}" for key in now if key in old and old[key] != now[key]]
            raise DataError(
                f"{name} with {count} frames, seed {seed}, had another configuration: {'; '.join(keys) or 'unknown'}",
                remedy="name another --out, or restore it (--steps sets the steps of a run)",
            )
        for key, hashed in self.plan.inputs_of(cell).items():
            if row.get("inputs", {}).get(key, hashed) != hashed:
                raise DataError(
                    f"{name} with {count} frames, seed {seed}, was trained with another content of {key}",
                    remedy="restore the file, or name another --out",
                )

    def append(self, cell: Cell, row: Row) -> None:
        """Add the row of a run and write the file."""
        self.rows[cell] = row
        self.save()

    def save(self) -> None:
        """Write the file atomically."""
        write_atomically(self.path, "".join(json.dumps(row, sort_keys=True) + "\n" for row in self.rows.values()))


def _parsed(line: str) -> tuple[Cell, Row]:
    """A line of rows.jsonl. Raises DataError if it is not a row."""
    try:
        row = json.loads(line)
        cell = (str(row["regime"]), int(row["frames"]), int(row["seed"]))
        missing = {"data", "config", "run", "steps", "seconds"} - row.keys()
    except (ValueError, KeyError, TypeError, RecursionError):
        missing = {"all fields"}
    if missing:
        raise DataError(f"not a row: it lacks {', '.join(sorted(missing))}", remedy="remove the line")
    return cell, row


def run_all(plan: Plan) -> list[Row]:
    """Train every cell that has no row yet and print the time left; returns the rows of the plan's cells."""
    rows, cells = Rows(plan), plan.cells()
    rows.save()  # marks the folder as one of `drivetl budget`
    finished = sum(cell in rows.rows for cell in cells)
    if finished:
        console.say(f"{finished} of {len(cells)} runs are already finished")
    for number, cell in enumerate(cells, 1):
        if cell not in rows.rows:
            done = [rows.rows[other] for other in cells if other in rows.rows]
            left = _time_left(plan, done, [other for other in cells if other not in rows.rows])
            name, count, seed = cell
            console.say("", f"[{number}/{len(cells)}] {name}, {count} frames, seed {seed}{left}")
            rows.append(cell, _train(plan, cell))
        shutil.rmtree(plan.folder(cell) / "checkpoints" / "last", ignore_errors=True)
    return [rows.rows[cell] for cell in cells]


def _time_left(plan: Plan, done: Sequence[Row], missing: Sequence[Cell]) -> str:
    """`, about 5 min left`: the mean time of a step of the regime (of all, if it has no run) times missing steps."""
    if not done:
        return ""
    total = 0.0
    for name, count, _ in missing:
        similar = [row for row in done if row["regime"] == name] or done
        step_s = sum(row["seconds"] for row in similar) / sum(row["steps"] for row in similar)
        total += step_s * plan.steps[name][plan.counts.index(count)]
    return f", about {total / 60:.0f} min left" if total >= 90 else f", about {total:.0f} s left"


def _train(plan: Plan, cell: Cell) -> Row:
    """Run one training, or resume it; its row."""
    name, count, seed = cell
    config, run, began = plan.config(cell), plan.folder(cell), time.monotonic()
    chosen = sorted(label_order(plan.train.images, seed)[:count], key=lambda image: image.id)
    write_dataset(plan.train.subset(chosen), Path(config.data.train))
    outcome = begin_or_continue(config, run)
    metrics = coco_ap.summarize(match(plan.val, load_results(run / BEST_DETECTIONS)))
    source = outcome.rows[0] if outcome.rows[0]["epoch"] == 0 else None
    return {
        "regime": name,
        "frames": count,
        "seed": seed,
        "data": plan.data_hash,
        "config": config_hash(config),
        "inputs": plan.inputs_of(cell),
        "run": run.relative_to(plan.out).as_posix(),
        "drives": Drives.of(chosen).n_drives,
        "objects": _by_class(plan.train.categories, chosen),
        "epochs": config.optim.epochs,
        "steps": outcome.rows[-1]["step"],
        "best_step": outcome.best["step"],
        "seconds": round(time.monotonic() - began, 1),
        "AP": _known(metrics.named()["AP"]),
        "AP50": _known(metrics.named()["AP50"]),
        "source_AP": source["AP"] if source else None,
        "per_class": {
            category: {key: _known(row[key]) for key in ("AP", "AP50")} for category, row in metrics.per_class.items()
        },
    }


def _known(value: float) -> float | None:
    return None if math.isnan(value) else float(value)


def analyse(plan: Plan, rows: Sequence[Row], metric: str, target: float | None, n_draws: int = 500) -> dict[str, Any]:
    """budget.json, schema `drivetl.budget/1`: the stored detections of every run, evaluated under the same draws.

    Raises CheckpointError when the stored detections of a run are missing.
    """
    truth = from_dataset(plan.val)
    values = _measured(plan, truth, draw_weights(truth.drives.units(), n_draws))
    n_draws = n_draws if allows_intervals(truth.drives) else 0
    multipliers = seed_multipliers(n_draws, len(plan.seeds))
    over = "scratch" if "scratch" in plan.regimes else list(plan.regimes)[-1]
    few = no_intervals(truth.drives) or few_drives(truth.drives)
    one_seed = "one seed: the intervals do not cover other labels or another training - name more with --seeds"
    covers = _validation_in_words(truth.drives) + (
        f" and {len(plan.seeds)} seeds (labelled frames, training)"
        if len(plan.seeds) > 1
        else "; one seed, so not over trainings"
    )
    return {
        "schema": "drivetl.budget/1",
        "data": {
            "hash": plan.data_hash,
            "categories": list(plan.train.categories),
            "train_images": len(plan.train.images),
            "train_drives": Drives.of(plan.train.images).n_drives,
            "val_images": len(plan.val.images),
            "val_drives": truth.drives.n_drives,
            "objects": _by_class(plan.train.categories, plan.train.images),
        },
        "protocol": {
            "metric": metric,
            "budgets": list(plan.counts),
            "seeds": list(plan.seeds),
            "draws": n_draws,
            "intervals": f"95 %, {n_draws} draws over {covers}" if n_draws else f"none: {few}",
            "regimes": {
                name: {
                    "arch": config.model.arch,
                    "start": config.model.start,
                    "steps": list(plan.steps[name]),
                    "steps_wanted": plan.target_steps[name],
                }
                for name, config in plan.regimes.items()
            },
        },
        "metrics": {
            key: {
                "regimes": {
                    name: regime_document(
                        plan.counts, plan.train.categories, draws, multipliers, target if key == metric else None
                    )
                    for name, draws in of_regime.items()
                },
                "gains": gain_documents(plan.counts, of_regime, over, multipliers),
            }
            for key, of_regime in values.items()
        },
        "runs": list(rows),
        "warnings": ([one_seed] if len(plan.seeds) == 1 else []) + ([few] if few else []),
    }


def _validation_in_words(drives: Drives) -> str:
    """The unit of the validation data that the draws resample, as text."""
    if drives.n_drives is None:
        return f"{len(drives.names)} validation images ({UNKNOWN_DRIVES})"
    images = f" and {drives.n_unknown} images of unknown drive" if drives.n_unknown else ""
    return f"{drives.n_drives} validation drives{images}"


def _measured(plan: Plan, truth: GroundTruth, weights: Floats) -> dict[str, dict[str, Floats]]:
    """Metric -> regime -> (S, N, 1 + B, 1 + K)."""
    of_cell = {}
    for cell in console.track(plan.cells(), "evaluating"):
        path = plan.folder(cell) / BEST_DETECTIONS
        if not path.is_file():
            raise CheckpointError(
                "missing", remedy="remove the line of the run from rows.jsonl to train it again", file=path
            )
        of_cell[cell] = class_draws(match(truth, load_results(path)), weights)

    def stacked(metric: str, name: str) -> Floats:
        return np.array([[of_cell[name, count, seed][metric] for count in plan.counts] for seed in plan.seeds])

    return {metric: {name: stacked(metric, name) for name in plan.regimes} for metric in METRICS}


def _by_class(categories: Sequence[str], images: Sequence[ImageRecord]) -> dict[str, int]:
    return dict(zip(categories, objects(images, range(1, len(categories) + 1)), strict=True))
