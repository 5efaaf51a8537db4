"""Do scores mean what they say? Detection calibration error and the table behind a reliability diagram.

A detection is right when it took an object at IoU 0.5 in the greedy one-to-one matching of COCO; independent matching
gives other numbers, so `RULE` is printed with them. Kuzucu et al. 2024 ("On calibration of object detectors") warn
that the number depends on the detections counted: fix the score floor before comparing.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from drivetl.metrics.match_store import MatchStore
from drivetl.metrics.truth import Bools, Floats

RULE = "greedy one-to-one matching at IoU 0.5"


@dataclass(frozen=True, slots=True)
class Calibration:
    """Expected calibration errors and the bins they come from; NaN in empty bins."""

    d_ece: float
    """sum over bins of share * |mean score - precision| (Kueppers et al. 2020)."""
    la_ece: float
    """The same with the IoU of true positives (0 for false ones) as target, per class, then averaged."""
    edges: Floats
    """(B + 1,) score bins, equal steps over 0..1."""
    counts: Floats
    """(B,) detections."""
    confidence: Floats
    """(B,) mean score."""
    precision: Floats
    """(B,) share of true positives."""
    score_floor: float
    n_detections: int


def calibration(store: MatchStore, score_floor: float = 0.05, n_bins: int = 20) -> Calibration:
    """Calibration of all detections that count and score at least `score_floor`."""
    tp, ignored = store.tp_and_ignored()
    kept = ~ignored & (store.scores >= score_floor)
    edges = np.linspace(0.0, 1.0, n_bins + 1)
    counts, confidence, precision = _bins(store.scores[kept], tp[kept].astype(np.float64), edges)
    overlap = np.where(tp, store.iou_of_match(), 0.0)
    by_class = []
    for k in range(len(store.truth.categories)):
        part = kept & (store.category == k)
        if part.any():
            by_class.append(_gap(*_bins(store.scores[part], overlap[part], edges)))
    return Calibration(
        d_ece=_gap(counts, confidence, precision),
        la_ece=float(np.mean(by_class)) if by_class else float("nan"),
        edges=edges,
        counts=counts,
        confidence=confidence,
        precision=precision,
        score_floor=score_floor,
        n_detections=int(kept.sum()),
    )


def _bins(scores: Floats, target: Floats, edges: Floats) -> tuple[Floats, Floats, Floats]:
    n_bins = len(edges) - 1
    place = np.clip(np.searchsorted(edges, scores, side="right") - 1, 0, n_bins - 1)
    counts = np.bincount(place, minlength=n_bins).astype(np.float64)
    filled: Bools = counts > 0
    means = []
    for values in (scores, target):
        mean: Floats = np.full(n_bins, np.nan)
        np.divide(np.bincount(place, values, n_bins), counts, out=mean, where=filled)
        means.append(mean)
    return counts, means[0], means[1]


def _gap(counts: Floats, confidence: Floats, target: Floats) -> float:
    if not counts.sum():
        return float("nan")
    filled = counts > 0
    return float((counts[filled] / counts.sum() * np.abs(confidence - target)[filled]).sum())
