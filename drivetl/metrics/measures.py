"""The metrics of one cell: AP with bootstrap draws, and detected objects and false positives at fixed thresholds."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from drivetl.metrics import coco_ap
from drivetl.metrics.match_store import MatchStore
from drivetl.metrics.statistics import Interval, percentile_interval
from drivetl.metrics.truth import Bools, Floats

METRICS = {"AP": None, "AP50": 0.5}
"""Main metric of a report -> the IoU threshold for `coco_ap.ap` (None: the mean over COCO's ten)."""


@dataclass(slots=True)
class Measure:
    """One detector in one cell. All cells and detectors share the image weights of their draws."""

    numbers: dict[str, float]
    """AP, AP50, AP75, APs, APm, APl; NaN where no such object occurs."""
    per_class: dict[str, dict[str, float]]
    """Class -> AP, AP50, recall at the operating point, n_gt."""
    draws: Floats
    """(B,) bootstrap draws of the report's main metric."""
    detected: Bools
    """(G,) objects detected at the thresholds frozen on clean data."""
    hits: Floats
    """(I,) their number per image, ignore regions left out."""
    false_alarms: Floats
    """(I,) false positives per image at these thresholds."""


def measure(store: MatchStore, metric: str, thresholds: Floats, weights: Floats) -> Measure:
    """Measure a matched cell. thresholds: (K,) scores frozen on clean data; weights: (B, I) bootstrap draws."""
    summary = coco_ap.summarize(store)
    named = summary.named()
    detected = store.detected_objects(thresholds)
    truth, n_images = store.truth, store.n_images
    real = ~truth.crowd
    tp, ignored = store.tp_and_ignored()
    false_alarm = (store.scores >= thresholds[store.category]) & ~tp & ~ignored
    per_class = {}
    for k, (name, row) in enumerate(summary.per_class.items()):
        objects = real & (truth.category == k)
        recall = float(detected[objects].mean()) if objects.any() else float("nan")
        per_class[name] = {"AP": row["AP"], "AP50": row["AP50"], "recall": recall, "n_gt": row["n_gt"]}
    return Measure(
        numbers={name: named[name] for name in ("AP", "AP50", "AP75", "APs", "APm", "APl")},
        per_class=per_class,
        draws=coco_ap.ap(store, METRICS[metric], weights),
        detected=detected,
        hits=np.bincount(truth.image[detected & real], minlength=n_images).astype(np.float64),
        false_alarms=np.bincount(store.image[false_alarm], minlength=n_images).astype(np.float64),
    )


def unmeasured(clean: Measure) -> Measure:
    """The measure of a cell without detections of any image: all numbers NaN. clean: of the same objects and draws.

    `detected` has no value for unknown and is False; leave such a cell out where objects are counted.
    """
    nan = float("nan")
    return Measure(
        numbers=dict.fromkeys(clean.numbers, nan),
        per_class={name: row | dict.fromkeys(("AP", "AP50", "recall"), nan) for name, row in clean.per_class.items()},
        draws=np.full_like(clean.draws, nan),
        detected=np.zeros_like(clean.detected),
        hits=np.full_like(clean.hits, nan),
        false_alarms=np.full_like(clean.false_alarms, nan),
    )


def ratio_interval(numerator: Floats, denominator: Floats, weights: Floats) -> Interval:
    """Interval of sum(numerator) / sum(denominator) over images, (I,) each, under (B, I) bootstrap weights."""
    total = denominator.sum()
    point = float(numerator.sum() / total) if total else float("nan")
    return percentile_interval(ratio_draws(numerator, denominator, weights), point)


def ratio_draws(numerator: Floats, denominator: Floats, weights: Floats) -> Floats:
    """(B,) sum(numerator) / sum(denominator) of each draw; NaN where a draw's denominator is 0."""
    total = weights @ denominator
    draws: Floats = np.full(len(weights), np.nan)
    np.divide(weights @ numerator, total, out=draws, where=total > 0)
    return draws


def permutation_p(differences: Floats) -> float:
    """Two-sided p of (1 + B,) differences: the observed one, then the permuted ones; NaN if it is NaN or B is 0."""
    observed, permuted = float(differences[0]), differences[1:]
    if np.isnan(observed) or not len(permuted):
        return float("nan")
    return float((1 + (np.abs(permuted) >= abs(observed) - 1e-12).sum()) / (len(permuted) + 1))


def mean_of(arrays: Iterable[Floats]) -> Floats:
    """Elementwise mean of arrays of equal shape."""
    mean: Floats = np.mean(list(arrays), axis=0)
    return mean
