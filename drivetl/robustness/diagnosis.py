"""Error analysis of the clean cell and of the worst held-out one: TIDE, calibration, operating points, KITTI AP."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict

from drivetl.conditions import CLEAN, Cell
from drivetl.metrics import kitti_ap, kitti_objects
from drivetl.metrics.calibration import RULE, calibration
from drivetl.metrics.lrp import mean_olrp, optimal_lrp
from drivetl.metrics.match_store import MatchStore
from drivetl.metrics.operating import at_threshold, operating_points, score_curve, within_false_alarms
from drivetl.metrics.tide import tide
from drivetl.metrics.truth import Floats
from drivetl.robustness.run import FinishedSweep
from drivetl.robustness.score_cells import Document

CALIBRATION_BINS = 10
FALSE_PER_IMAGE = (0.1, 0.3, 1.0)
"""False alarms per image at which recall is reported."""


def diagnose(swept: FinishedSweep, thresholds: Floats, worst: Cell | None) -> list[Document]:
    """TIDE, calibration, operating points at the frozen (K,) thresholds, and recall at fixed rates of false alarms.

    One row for the clean cell, one for the worst cell where there is one.
    """
    rows = []
    for cell in [CLEAN, *([worst] if worst else [])]:
        store = swept.matched("run", cell)
        optimal = optimal_lrp(store)
        measured = calibration(store, n_bins=CALIBRATION_BINS)
        rows.append(
            {
                "condition": cell[0],
                "severity": cell[1],
                "tide": _tide(store),
                "calibration": {"matching": RULE} | asdict(measured),
                "operating": {name: asdict(point) for name, point in operating_points(store, thresholds).items()},
                "recall_at": [_recall_at(store, rate) for rate in FALSE_PER_IMAGE],
                "olrp": {"mean": mean_olrp(optimal), "classes": {name: asdict(row) for name, row in optimal.items()}},
            }
        )
    return rows


def _tide(store: MatchStore) -> Document | None:
    if store.iou_type != "bbox":
        return None
    errors = tide(store)
    return {"AP50": errors.ap50, "delta_ap": errors.delta_ap, "counts": errors.counts}


def _recall_at(store: MatchStore, rate: float) -> Document:
    """Recall of each class at the lowest threshold that keeps its false alarms within a rate per image."""
    classes = {}
    for k, name in enumerate(store.truth.categories):
        curve = score_curve(store, k)
        threshold = within_false_alarms(curve, store.n_images, rate)
        classes[name] = {"threshold": threshold, "recall": at_threshold(curve, threshold, store.n_images).recall}
    return {"false_per_image": rate, "classes": classes}


def kitti_cells(swept: FinishedSweep) -> Mapping[Cell, Document] | None:
    """KITTI's official AP (R40, 0..1) per cell: class -> {easy, moderate, hard}, of the classes every detector knows.

    None for data that was not converted from KITTI's label files, and for masks.
    """
    unknown = {number for of_one in swept.classes.values() for number in of_one.unknown}
    known = [name for number, name in enumerate(swept.truth.categories, 1) if number not in unknown]
    names = set(known) & set(kitti_ap.MIN_OVERLAP)
    if swept.dataset.info.get("source") != "kitti" or not names or swept.iou_type != "bbox":
        return None
    labels = kitti_objects.labels_of(swept.dataset)
    rows: dict[Cell, Document] = {}
    for cell in [CLEAN, *swept.cells]:
        if cell in swept.missing:
            rows[cell] = {name: dict.fromkeys(levels, float("nan")) for name, levels in rows[CLEAN].items()}
            continue
        results = kitti_ap.evaluate(labels, kitti_objects.detections_of(swept.results("run", cell), swept.dataset))
        rows[cell] = {
            name: {level: result.ap40 for level, result in levels.items()}
            for name, levels in results.items()
            if name in names
        }
    return rows
