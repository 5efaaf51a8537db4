"""Calibration of detection scores: calibration errors and the bins of a reliability diagram.

A detection is correct when COCO's greedy one-to-one matching assigns it an object at IoU 0.5. Independent matching
gives other numbers, so `RULE` is reported with them. Kuzucu et al. 2024 ("On calibration of object detectors") warn
that the value depends on which detections are counted: fix the score floor before comparing.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from drivetl.metrics.match_store import MatchStore
from drivetl.metrics.truth import Bools, Floats

RULE = "greedy one-to-one matching at IoU 0.5"


@dataclass(frozen=True, slots=True)
class Calibration:
    """Expected calibration errors (0..1) and the bins they come from; NaN in empty bins."""

    d_ece: float
    """sum over bins of share * |mean score - precision| (Kueppers et al. 2020)."""
    la_ece: float
    """The same with IoU as the target (0 for false positives), per class, then averaged (Kuzucu et al. 2024)."""
    edges: Floats
    """(B + 1,) bin edges in score, equally spaced over 0..1."""
    counts: Floats
    """(B,) number of detections per bin."""
    confidence: Floats
    """(B,) mean score."""
    precision: Floats
    """(B,) share of true positives."""
    score_floor: float
    """Detections below this score are not counted."""
    n_detections: int


def calibration(store: MatchStore, score_floor: float = 0.05, n_bins: int = 20) -> Calibration:
    """Calibration of the detections that are not ignored and score at least `score_floor`."""
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
    """(B,) counts, mean score and mean target of each bin; NaN means in empty bins."""
    n_bins = len(edges) - 1
    bin_of = np.clip(np.searchsorted(edges, scores, side="right") - 1, 0, n_bins - 1)
    counts = np.bincount(bin_of, minlength=n_bins).astype(np.float64)
    filled: Bools = counts > 0
    means = []
    for values in (scores, target):
        mean: Floats = np.full(n_bins, np.nan)
        np.divide(np.bincount(bin_of, values, n_bins), counts, out=mean, where=filled)
        means.append(mean)
    return counts, means[0], means[1]


def _gap(counts: Floats, confidence: Floats, target: Floats) -> float:
    """Mean |confidence - target| over the bins, weighted by their counts; NaN without detections."""
    if not counts.sum():
        return float("nan")
    filled = counts > 0
    return float((counts[filled] / counts.sum() * np.abs(confidence - target)[filled]).sum())
