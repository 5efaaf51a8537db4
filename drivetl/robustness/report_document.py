"""The document (results.json) behind every table, plot and sentence of a robustness report.

Its schema is `drivetl/report/schema.md`. A number that could not be measured is None, never zero.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from drivetl.conditions import CATALOG, CLEAN, PROTOCOL_VERSION, Cell, cell_name
from drivetl.data.depth import depth_path
from drivetl.metrics.extra_metrics import plain_values
from drivetl.metrics.measures import ratio_interval
from drivetl.metrics.statistics import Interval, few_drives, no_intervals
from drivetl.robustness import road
from drivetl.robustness.class_match import class_document
from drivetl.robustness.clean_slice import values_as_text
from drivetl.robustness.diagnosis import diagnose, kitti_cells
from drivetl.robustness.headline import condition_rows, headline_row, set_rows
from drivetl.robustness.held_out import MEANING, levels, missing_manifest
from drivetl.robustness.real_vs_synthetic import Pairs, real_conditions
from drivetl.robustness.run import FinishedSweep
from drivetl.robustness.score_cells import OPERATING_RULE, Document, ScoredSweep, interval, score_sweep

SCHEMA = "drivetl.robustness/1"


def report_document(
    swept: FinishedSweep,
    *,
    metric: str = "AP",
    n_draws: int = 400,
    seed: int = 0,
    slices: Sequence[str] = (),
    pairs: Pairs | None = None,
) -> Document:
    """The document, JSON-ready (NaN is None).

    metric: a key of `measures.METRICS`; n_draws: bootstrap draws; slices: attributes of the images to slice by;
    pairs: see `real_conditions`, which also says what ConfigError is raised for.
    """
    scored = score_sweep(swept, metric, n_draws, seed)
    slice_rows, real = real_conditions(scored, slices, n_draws, seed, pairs)
    held_out = scored.headline_conditions()
    document = {
        "schema": SCHEMA,
        "metric": metric,
        "run": _detector_row(scored, "run"),
        "baseline": _detector_row(scored, "baseline") if "baseline" in swept.detectors else None,
        "data": _data_row(swept),
        "class_match": (classes := _class_match(swept)),
        "protocol": {
            "version": PROTOCOL_VERSION,
            "conditions": swept.conditions,
            "severities": swept.severities,
            "budget_s": swept.budget_s,
            "iou_type": swept.iou_type,
            "draws": n_draws,
            "seed": seed,
            "levels": MEANING,
            "missing_cells": [cell_name(cell) for cell in swept.missing],
            "verified": scored.levels.verified,
            "unverified_because": missing_manifest(swept.detectors["run"].run, swept.detectors["run"].augmentation),
        },
        "clean": _cell_row(scored, CLEAN),
        "headline": headline_row(scored, held_out),
        "sets": set_rows(scored),
        "conditions": condition_rows(scored),
        "cells": [_cell_row(scored, cell) for cell in swept.cells],
        "kitti": _kitti_rows(scored, held_out),
        "diagnosis": diagnose(swept, scored.thresholds["run"], _worst_cell(scored, held_out)),
        "classes": _class_rows(scored, held_out, classes),
        "operating": _operating(scored),
        "road": _road(scored, held_out),
        "slices": slice_rows,
        "real": real,
        "timing": swept.timing.as_dict(),
    }
    plain: Document = plain_values(document)
    return plain


def _class_match(swept: FinishedSweep) -> Document | None:
    """How the classes of the detectors met those of the data; None where they are the same."""
    return class_document(
        swept.classes,
        {name: detector.name or name for name, detector in swept.detectors.items()},
        {name: detector.categories for name, detector in swept.detectors.items()},
        swept.dataset,
    )


def _worst_cell(scored: ScoredSweep, held_out: Sequence[str]) -> Cell | None:
    """The condition with the lowest mean over severities, at the severity that images are shown at."""
    severities, missing = scored.swept.severities, scored.swept.missing
    shown = road.severity_shown(severities)
    means = {
        name: _mean([scored.point("run", (name, severity)) for severity in severities])
        for name in held_out or scored.swept.conditions
        if (name, shown) not in missing
    }
    known = {name: value for name, value in means.items() if not np.isnan(value)}
    return (min(known, key=lambda name: known[name]), shown) if known else None


def _kitti_rows(scored: ScoredSweep, held_out: Sequence[str]) -> list[Document] | None:
    """Per class and difficulty: clean, the mean over the held-out cells, and every cell; None without KITTI labels."""
    cells = kitti_cells(scored.swept)
    if cells is None:
        return None
    held_out_cells = [(name, severity) for name in held_out for severity in scored.swept.severities]
    return [
        {
            "class": name,
            "difficulty": level,
            "clean": cells[CLEAN][name][level],
            "held_out": _mean([cells[cell][name][level] for cell in held_out_cells]),
            "cells": {cell_name(cell): cells[cell][name][level] for cell in scored.swept.cells},
        }
        for name in cells[CLEAN]
        for level in cells[CLEAN][name]
    ]


def _detector_row(scored: ScoredSweep, name: str) -> Document:
    detector = scored.swept.detectors[name]
    manifest = detector.augmentation
    return {
        "name": detector.name or name,
        "weights": detector.weights_hash or None,
        "precision": None if detector.precision is None else str(detector.precision).removeprefix("torch."),
        "device": None if detector.device is None else str(detector.device),
        "verified": levels(manifest, [], []).verified,
        "augmentation": None if manifest is None else str(manifest.get("preset", "unnamed")),
    }


def _data_row(swept: FinishedSweep) -> Document:
    truth = swept.truth
    return {
        "hash": swept.data_hash,
        "source": str(swept.dataset.info.get("source", "")),
        "categories": list(truth.categories),
        "images": len(truth.image_ids),
        "images_requested": swept.n_images_requested,
        "objects": int((~truth.crowd).sum()),
        "drives": truth.drives.n_drives,
        "units": len(set(truth.drives.units())),
        "budget_needed_s": swept.budget_needed_s,
        "depth_images": sum(depth_path(image, swept.dataset.images_root) is not None for image in swept.dataset.images),
        "clean_slice": values_as_text(swept.clean) or None,
        "warning": no_intervals(truth.drives) or few_drives(truth.drives),
        "sufficient": no_intervals(truth.drives) is None,
    }


def _cell_row(scored: ScoredSweep, cell: Cell) -> Document:
    name, severity = cell
    own, clean = scored.measures["run"][cell], scored.measures["run"][CLEAN]
    truth, weights = scored.swept.truth, scored.weights
    total = np.bincount(truth.image[~truth.crowd], minlength=len(truth.image_ids)).astype(np.float64)
    row: Document = {
        "condition": name,
        "severity": severity,
        "value": interval(scored.point("run", cell), own.draws),
        "numbers": own.numbers,
        "per_class": own.per_class,
        "recall": _interval_row(ratio_interval(own.hits, total, weights)),
        "false_alarms_per_image": float(own.false_alarms.mean()),
        "images": len(truth.image_ids),
    }
    if cell != CLEAN:
        condition = CATALOG[name]
        row |= {
            "level": scored.levels.of_cell[cell],
            "parameters": condition.ladder[severity - 1],
            "axis": condition.axis[severity - 1],
            "survival": dict.fromkeys(("point", "low", "high"), float("nan"))
            if cell in scored.swept.missing
            else road.survival(truth, clean.detected, own.detected, weights),
        }
    if "baseline" in scored.measures:
        other = scored.measures["baseline"][cell]
        row["baseline"] = interval(scored.point("baseline", cell), other.draws)
        row["delta"] = interval(row["value"]["point"] - row["baseline"]["point"], own.draws - other.draws)
    return row


def _interval_row(estimate: Interval) -> Document:
    return {"point": estimate.point, "low": estimate.low, "high": estimate.high}


def _class_rows(scored: ScoredSweep, names: Sequence[str], classes: Document | None) -> list[Document]:
    """Per class and per COCO size: clean, and the mean over the headline's cells.

    A class that a detector does not know has no numbers; `n_gt` is then the number of objects that were left out.
    """
    unknown = {row["class"]: row for row in (classes or {"unknown": []})["unknown"]}
    cells = [(name, severity) for name in names for severity in scored.swept.severities]
    clean, measures = scored.measures["run"][CLEAN], scored.measures["run"]
    rows: list[Document] = []
    for name, row in clean.per_class.items():
        held = {key: _mean([measures[cell].per_class[name][key] for cell in cells]) for key in ("AP", "AP50", "recall")}
        n_gt = unknown[name]["objects"] if name in unknown else row["n_gt"]
        known = {"unknown_to": unknown[name]["unknown_to"]} if name in unknown else {}
        rows.append({"by": "class", "group": name, "n_gt": n_gt, "clean": row, "held_out": held} | known)
    for key, label in (("APs", "small"), ("APm", "medium"), ("APl", "large")):
        held = {"AP": _mean([measures[cell].numbers[key] for cell in cells])}
        rows.append({"by": "size", "group": label, "clean": {"AP": clean.numbers[key]}, "held_out": held})
    return rows


def _mean(values: Sequence[float]) -> float:
    known = [value for value in values if not np.isnan(value)]
    return float(np.mean(known)) if known else float("nan")


def _operating(scored: ScoredSweep) -> Document:
    truth = scored.swept.truth
    return {
        "rule": OPERATING_RULE,
        "iou": 0.5,
        "thresholds": dict(zip(truth.categories, scored.thresholds["run"].tolist(), strict=True)),
    }


def _road(scored: ScoredSweep, names: Sequence[str]) -> Document:
    truth, clean = scored.swept.truth, scored.measures["run"][CLEAN].detected
    missing = scored.swept.missing
    measured = {cell: scored.measures["run"][cell].detected for cell in scored.swept.cells if cell not in missing}
    cells: Mapping[Cell, Any] = {cell: detected for cell, detected in measured.items() if cell[0] in names}
    shown = road.severity_shown(scored.swept.severities)
    at_shown_severity = {cell: detected for cell, detected in cells.items() if cell[1] == shown}
    return {
        "severity_shown": shown,
        "in_path": road.in_path(truth, clean, measured),
        "fragile_groups": road.fragile_groups(truth, clean, cells),
        "fragile_objects": road.fragile_objects(truth, clean, cells),
        "worst_frames": road.worst_frames(truth, clean, at_shown_severity),
    }
