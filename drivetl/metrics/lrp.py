"""Optimal localisation-recall-precision error (oLRP; Oksuz et al. 2018), 0..1. Lower is better."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from drivetl.metrics.match_store import IOU_THRESHOLDS, MatchStore
from drivetl.metrics.operating import choose_threshold, score_curve


@dataclass(frozen=True, slots=True)
class OptimalLrp:
    """One class at the threshold with the lowest LRP; NaN where the class does not occur."""

    olrp: float
    localisation: float
    """Mean 1 - IoU of true positives; NaN without any."""
    false_positive: float
    """1 - precision; NaN when nothing is detected."""
    false_negative: float
    """1 - recall."""
    threshold: float
    """s*, the score threshold with the lowest LRP; its change between conditions shows threshold drift."""


def optimal_lrp(store: MatchStore) -> dict[str, OptimalLrp]:
    """Class name -> oLRP and its components at tau = IoU 0.5."""
    return {name: _class_lrp(store, k) for k, name in enumerate(store.truth.categories)}


def mean_olrp(rows: dict[str, OptimalLrp]) -> float:
    """moLRP: the mean over classes that occur; NaN for none."""
    known = [row.olrp for row in rows.values() if not np.isnan(row.olrp)]
    return float(np.mean(known)) if known else float("nan")


def _class_lrp(store: MatchStore, category: int) -> OptimalLrp:
    curve, nan = score_curve(store, category), float("nan")
    if not curve.n_gt:
        return OptimalLrp(nan, nan, nan, nan, nan)
    threshold = choose_threshold(curve, store.n_images, "lrp")
    kept = int((curve.scores >= threshold).sum())
    if not kept:
        return OptimalLrp(1.0, nan, nan, 1.0, threshold)
    tp, fp, overlap = (float(column[kept - 1]) for column in (curve.tp, curve.fp, curve.overlap))
    missed = curve.n_gt - tp
    tau = float(IOU_THRESHOLDS[0])
    return OptimalLrp(
        olrp=((tp - overlap) / (1 - tau) + fp + missed) / (tp + fp + missed),
        localisation=1 - overlap / tp if tp else nan,
        false_positive=fp / (tp + fp),
        false_negative=missed / curve.n_gt,
        threshold=threshold,
    )
