"""A sweep in numbers: the document behind every table, plot and sentence of a robustness report.

The schema stands in `drivetl/report/schema.md`. A number that could not be measured is None, never zero.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from drivetl.conditions import CATALOG, CLEAN, PROTOCOL_VERSION, Cell, cell_name
from drivetl.data.depth import depth_path
from drivetl.metrics.extra_metrics import plain_values
from drivetl.metrics.measures import ratio_interval
from drivetl.metrics.statistics import few_drives
from drivetl.robustness import headline, road
from drivetl.robustness.clean_slice import in_words
from drivetl.robustness.diagnosis import diagnose, kitti_cells
from drivetl.robustness.held_out import MEANING, levels
from drivetl.robustness.real_vs_synthetic import Pairs, real_conditions
from drivetl.robustness.run import Swept
from drivetl.robustness.score_cells import OPERATING_RULE, Document, Scored, interval, score

SCHEMA = "drivetl.robustness/1"


def analyse(
    swept: Swept,
    *,
    metric: str = "AP",
    n_draws: int = 400,
    seed: int = 0,
    slices: Sequence[str] = (),
    pairs: Pairs | None = None,
) -> Document:
    """The whole document, JSON-ready: NaN is None. slices: attributes of the images; pairs: see `real_conditions`."""
    scored = score(swept, metric, n_draws, seed)
    slice_rows, real = real_conditions(scored, slices, n_draws, seed, pairs)
    held_out = scored.headline_conditions()
    document = {
        "schema": SCHEMA,
        "metric": metric,
        "run": _who(scored, "run"),
        "baseline": _who(scored, "baseline") if "baseline" in swept.detectors else None,
        "data": _data(swept),
        "protocol": {
            "version": PROTOCOL_VERSION,
            "conditions": swept.conditions,
            "severities": swept.severities,
            "budget_s": swept.budget_s,
            "iou_type": swept.iou_type,
            "draws": n_draws,
            "seed": seed,
            "levels": MEANING,
            "verified": scored.levels.verified,
        },
        "clean": _cell(scored, CLEAN),
        "headline": headline.headline(scored, held_out),
        "sets": headline.sets(scored),
        "conditions": headline.conditions(scored),
        "cells": [_cell(scored, cell) for cell in swept.cells],
        "kitti": _kitti(scored, held_out),
        "diagnosis": diagnose(swept, scored.thresholds["run"], _worst_cell(scored, held_out)),
        "classes": _classes(scored, held_out),
        "operating": _operating(scored),
        "road": _road(scored, held_out),
        "slices": slice_rows,
        "real": real,
        "timing": swept.timing.as_dict(),
    }
    plain: Document = plain_values(document)
    return plain


def _worst_cell(scored: Scored, held_out: Sequence[str]) -> Cell | None:
    """The condition with the lowest mean over severities, at the severity that pictures are shown at."""
    severities = scored.swept.severities
    means = {
        name: _mean([scored.point("run", (name, one)) for one in severities])
        for name in held_out or scored.swept.conditions
    }
    known = {name: value for name, value in means.items() if not np.isnan(value)}
    return (min(known, key=lambda name: known[name]), road.middle(severities)) if known else None


def _kitti(scored: Scored, held_out: Sequence[str]) -> list[Document] | None:
    """Per class and difficulty: clean, the mean over the held-out cells, and every cell; None without KITTI labels."""
    cells = kitti_cells(scored.swept)
    if cells is None:
        return None
    under = [(name, severity) for name in held_out for severity in scored.swept.severities]
    return [
        {
            "class": name,
            "difficulty": level,
            "clean": cells[CLEAN][name][level],
            "held_out": _mean([cells[cell][name][level] for cell in under]),
            "cells": {cell_name(cell): cells[cell][name][level] for cell in scored.swept.cells},
        }
        for name in cells[CLEAN]
        for level in cells[CLEAN][name]
    ]


def _who(scored: Scored, who: str) -> Document:
    detector = scored.swept.detectors[who]
    manifest = detector.augmentation
    return {
        "name": detector.run.name if detector.run is not None else who,
        "weights": detector.weights_hash,
        "precision": str(detector.precision).removeprefix("torch."),
        "device": str(detector.device),
        "verified": levels(manifest, [], []).verified,
        "augmentation": None if manifest is None else str(manifest.get("preset", "unnamed")),
    }


def _data(swept: Swept) -> Document:
    truth = swept.truth
    return {
        "hash": swept.data_hash,
        "source": str(swept.dataset.info.get("source", "")),
        "categories": list(truth.categories),
        "images": len(truth.image_ids),
        "images_requested": swept.n_images_requested,
        "objects": int((~truth.crowd).sum()),
        "drives": truth.drives.n_drives,
        "depth_images": sum(depth_path(image, swept.dataset.images_root) is not None for image in swept.dataset.images),
        "clean_slice": in_words(swept.clean) or None,
        "warning": few_drives(truth.drives),
    }


def _cell(scored: Scored, cell: Cell) -> Document:
    name, severity = cell
    mine, clean = scored.of["run"][cell], scored.of["run"][CLEAN]
    truth, weights = scored.swept.truth, scored.weights
    total = np.bincount(truth.image[~truth.crowd], minlength=len(truth.image_ids)).astype(np.float64)
    row: Document = {
        "condition": name,
        "severity": severity,
        "value": interval(scored.point("run", cell), mine.draws),
        "numbers": mine.numbers,
        "per_class": mine.per_class,
        "recall": _as_dict(ratio_interval(mine.hits, total, weights)),
        "false_alarms_per_image": float(mine.false_alarms.mean()),
    }
    if cell != CLEAN:
        condition = CATALOG[name]
        row |= {
            "level": scored.levels.of_cell[cell],
            "parameters": condition.ladder[severity - 1],
            "axis": condition.axis[severity - 1],
            "survival": road.survival(truth, clean.found, mine.found, weights),
        }
    if "baseline" in scored.of:
        other = scored.of["baseline"][cell]
        row["baseline"] = interval(scored.point("baseline", cell), other.draws)
        row["delta"] = interval(row["value"]["point"] - row["baseline"]["point"], mine.draws - other.draws)
    return row


def _as_dict(found: Any) -> Document:
    return {"point": found.point, "low": found.low, "high": found.high}


def _classes(scored: Scored, names: Sequence[str]) -> list[Document]:
    """Per class and per size: clean, and the mean over the headline's cells."""
    cells = [(name, severity) for name in names for severity in scored.swept.severities]
    clean, mine = scored.of["run"][CLEAN], scored.of["run"]
    rows: list[Document] = []
    for name, row in clean.per_class.items():
        under = {key: _mean([mine[cell].per_class[name][key] for cell in cells]) for key in ("AP", "AP50", "recall")}
        rows.append({"by": "class", "group": name, "n_gt": row["n_gt"], "clean": row, "held_out": under})
    for key, label in (("APs", "small"), ("APm", "medium"), ("APl", "large")):
        held = {"AP": _mean([mine[cell].numbers[key] for cell in cells])}
        rows.append({"by": "size", "group": label, "clean": {"AP": clean.numbers[key]}, "held_out": held})
    return rows


def _mean(values: Sequence[float]) -> float:
    known = [value for value in values if not np.isnan(value)]
    return float(np.mean(known)) if known else float("nan")


def _operating(scored: Scored) -> Document:
    truth = scored.swept.truth
    return {
        "rule": OPERATING_RULE,
        "iou": 0.5,
        "thresholds": dict(zip(truth.categories, scored.thresholds["run"].tolist(), strict=True)),
    }


def _road(scored: Scored, names: Sequence[str]) -> Document:
    truth, clean = scored.swept.truth, scored.of["run"][CLEAN].found
    cells: Mapping[Cell, Any] = {
        (name, severity): scored.of["run"][name, severity].found
        for name in names
        for severity in scored.swept.severities
    }
    shown = road.middle(scored.swept.severities)
    at_middle = {cell: found for cell, found in cells.items() if cell[1] == shown}
    return {
        "severity_shown": shown,
        "in_path": road.in_path(truth, clean, {cell: scored.of["run"][cell].found for cell in scored.swept.cells}),
        "fragile_groups": road.fragile_groups(truth, clean, cells),
        "fragile_objects": road.fragile_objects(truth, clean, cells),
        "worst_frames": road.worst_frames(truth, clean, at_middle),
    }
