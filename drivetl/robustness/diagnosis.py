"""Why a condition costs what it costs: the clean cell and the worst held-out one, error by error and score by score."""

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
"""Where the trade of misses against false alarms is read off."""


def diagnose(swept: FinishedSweep, thresholds: Floats, worst: Cell | None) -> list[Document]:
    """Errors (TIDE), calibration, operating points at the frozen (K,) thresholds, and recall at given rates of false
    alarms; of the clean cell, then of the worst one."""
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
                "olrp": {"mean": mean_olrp(optimal), "classes": {name: asdict(one) for name, one in optimal.items()}},
            }
        )
    return rows


def _tide(store: MatchStore) -> Document | None:
    if store.iou_type != "bbox":
        return None
    found = tide(store)
    return {"AP50": found.ap50, "delta_ap": found.delta_ap, "counts": found.counts}


def _recall_at(store: MatchStore, rate: float) -> Document:
    """Recall of each class at the lowest threshold that keeps its false alarms within a rate per image."""
    classes = {}
    for k, name in enumerate(store.truth.categories):
        curve = score_curve(store, k)
        threshold = within_false_alarms(curve, store.n_images, rate)
        classes[name] = {"threshold": threshold, "recall": at_threshold(curve, threshold, store.n_images).recall}
    return {"false_per_image": rate, "classes": classes}


def kitti_cells(swept: FinishedSweep) -> Mapping[Cell, Document] | None:
    """KITTI's official AP (R40, fractions) per cell: class -> {easy, moderate, hard}, of the classes that both KITTI
    and the detector know. None for data that does not come from KITTI's label files, and for masks."""
    names = set(swept.truth.categories) & set(kitti_ap.MIN_OVERLAP)
    if swept.dataset.info.get("source") != "kitti" or not names or swept.iou_type != "bbox":
        return None
    labels = kitti_objects.labels_of(swept.dataset)
    rows = {}
    for cell in [CLEAN, *swept.cells]:
        found = kitti_ap.evaluate(labels, kitti_objects.detections_of(swept.results("run", cell), swept.dataset))
        rows[cell] = {
            name: {level: one.ap40 for level, one in levels.items()} for name, levels in found.items() if name in names
        }
    return rows
