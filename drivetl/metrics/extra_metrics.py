"""What `evaluate --details` reports beyond COCO's twelve numbers, as JSON-ready values (NaN and inf become null)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict
from functools import partial
from typing import Any

import numpy as np

from drivetl.console import track
from drivetl.metrics import coco_ap
from drivetl.metrics.calibration import RULE, calibration
from drivetl.metrics.lrp import mean_olrp, optimal_lrp
from drivetl.metrics.match_store import MatchStore
from drivetl.metrics.measures import METRICS
from drivetl.metrics.object_slices import slice_rows
from drivetl.metrics.operating import choose_thresholds, confusion_matrix, operating_points
from drivetl.metrics.statistics import drive_bootstrap, few_drives, no_intervals
from drivetl.metrics.tide import tide


def extra_metrics(
    store: MatchStore,
    rule: str = "f1",
    value: float = 0.0,
    attributes: Sequence[str] = (),
    n_draws: int = 1000,
    seed: int = 0,
) -> dict[str, Any]:
    """Section name -> its values: intervals, operating points, oLRP, calibration, confusion, object slices, TIDE.

    rule, value: how the threshold of each class is chosen, see `operating.choose_threshold`. attributes: further
    attributes to slice objects by. TIDE is left out for a mask store.
    """
    thresholds = choose_thresholds(store, rule, value)
    sections: dict[str, Callable[[], Any]] = {
        "intervals": lambda: _intervals(store, n_draws, seed),
        "operating": lambda: {
            "rule": rule,
            "value": value,
            "iou": 0.5,
            "classes": {name: asdict(point) for name, point in operating_points(store, thresholds).items()},
        },
        "lrp": lambda: _lrp(store),
        "calibration": lambda: {"matching": RULE} | asdict(calibration(store)),
        "confusion": lambda: {
            "labels": [*store.truth.categories, "background"],
            "rows": "truth; columns: detected",
            "counts": confusion_matrix(store, thresholds),
        },
        "slices": lambda: [asdict(row) for row in slice_rows(store, thresholds, attributes, n_draws, seed)],
    }
    if store.iou_type == "bbox":
        sections["tide"] = lambda: _tide(store)
    return {name: plain_values(sections[name]()) for name in track(list(sections), "details")}


def _intervals(store: MatchStore, n_draws: int, seed: int) -> dict[str, Any]:
    units = store.units()
    rows = {
        name: asdict(drive_bootstrap(partial(coco_ap.ap, store, iou), units, n_draws, seed))
        for name, iou in METRICS.items()
    }
    return {
        "level": 0.95,
        "draws": n_draws,
        "units": len(set(units)),
        "drives": store.truth.drives.n_drives,
        "warning": no_intervals(store.truth.drives) or few_drives(store.truth.drives),
    } | rows


def _lrp(store: MatchStore) -> dict[str, Any]:
    rows = optimal_lrp(store)
    return {"moLRP": mean_olrp(rows), "classes": {name: asdict(row) for name, row in rows.items()}}


def _tide(store: MatchStore) -> dict[str, Any]:
    errors = tide(store)
    return {"AP50": errors.ap50, "delta_ap": errors.delta_ap, "counts": errors.counts}


def plain_values(value: Any) -> Any:
    """The value with numpy types replaced by Python's; a non-finite number becomes None, because JSON has no NaN."""
    if isinstance(value, dict):
        return {str(key): plain_values(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain_values(item) for item in value]
    if isinstance(value, np.ndarray):
        return plain_values(value.tolist())
    if isinstance(value, float | np.floating):
        return float(value) if np.isfinite(value) else None
    return int(value) if isinstance(value, np.integer) else value
