"""One cell in numbers: AP with its bootstrap draws, and what is found and invented at the frozen operating point."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from drivetl.metrics import coco_ap
from drivetl.metrics.match_store import MatchStore
from drivetl.metrics.paired import exchanged_ap
from drivetl.metrics.statistics import Interval, percentile_interval
from drivetl.metrics.truth import Bools, Floats

METRICS = {"AP": None, "AP50": 0.5}
"""What a report can be about -> the IoU of `coco_ap.ap`."""


@dataclass(slots=True)
class Measure:
    """One detector in one cell. Draws of all cells and detectors share their weights."""

    numbers: dict[str, float]
    """AP, AP50, AP75, APs, APm, APl; NaN where no such object occurs."""
    per_class: dict[str, dict[str, float]]
    """Class -> AP, AP50, recall at the operating point, n_gt."""
    draws: Floats
    """(B,) of the metric the report is about."""
    found: Bools
    """(G,) objects found at the frozen thresholds."""
    hits: Floats
    """(I,) of them, per image."""
    false_alarms: Floats
    """(I,) false positives at the frozen thresholds, per image."""


def measure(store: MatchStore, metric: str, thresholds: Floats, weights: Floats) -> Measure:
    """Measure a matched cell. thresholds: (K,) frozen on clean data; weights: (B, I) bootstrap draws."""
    summary = coco_ap.summarize(store)
    named = summary.named()
    found = store.found_truth(thresholds)
    truth, n_images = store.truth, store.n_images
    real = ~truth.crowd
    tp, ignored = store.tp_and_ignored()
    alarm = (store.scores >= thresholds[store.category]) & ~tp & ~ignored
    per_class = {}
    for k, (name, row) in enumerate(summary.per_class.items()):
        mine = real & (truth.category == k)
        recall = float(found[mine].mean()) if mine.any() else float("nan")
        per_class[name] = {"AP": row["AP"], "AP50": row["AP50"], "recall": recall, "n_gt": row["n_gt"]}
    return Measure(
        numbers={name: named[name] for name in ("AP", "AP50", "AP75", "APs", "APm", "APl")},
        per_class=per_class,
        draws=coco_ap.ap(store, METRICS[metric], weights),
        found=found,
        hits=np.bincount(truth.image[found & real], minlength=n_images).astype(np.float64),
        false_alarms=np.bincount(store.image[alarm], minlength=n_images).astype(np.float64),
    )


def ratio_interval(above: Floats, below: Floats, weights: Floats) -> Interval:
    """Interval of sum(above) / sum(below) over images, (I,) each, under (B, I) bootstrap weights."""
    point = float(above.sum() / below.sum()) if below.sum() else float("nan")
    return percentile_interval(ratio_draws(above, below, weights), point)


def ratio_draws(above: Floats, below: Floats, weights: Floats) -> Floats:
    """(B,) sum(above) / sum(below) of each draw; NaN where a draw has nothing below."""
    total = weights @ below
    draws: Floats = np.full(len(weights), np.nan)
    np.divide(weights @ above, total, out=draws, where=total > 0)
    return draws


def swapped(a: MatchStore, b: MatchStore, metric: str, flips: Bools) -> tuple[Floats, Floats]:
    """(B,) metric of A and of B after exchanging their detections drive by drive; row 0 of flips exchanges nothing."""
    return exchanged_ap(a, b, METRICS[metric])(flips)


def permutation_p(differences: Floats) -> float:
    """Two-sided p of (1 + B,) differences: the observed one, then the permuted ones; NaN when it was not observed."""
    observed, permuted = float(differences[0]), differences[1:]
    if np.isnan(observed):
        return float("nan")
    return float((1 + (np.abs(permuted) >= abs(observed) - 1e-12).sum()) / (len(permuted) + 1))


def mean_of(parts: Iterable[Floats]) -> Floats:
    """The mean of columns of equal length, position by position."""
    mean: Floats = np.mean(list(parts), axis=0)
    return mean
