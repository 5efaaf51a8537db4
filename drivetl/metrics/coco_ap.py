"""COCO average precision from a match store: equal to pycocotools to 1e-12, without a loop over images.

Precision rises only at true positives, so curves are computed at true positives alone.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from drivetl.files.arrays import numbers
from drivetl.metrics.match_store import IOU_THRESHOLDS, MAX_DETECTIONS, RECALL_THRESHOLDS, MatchStore, View
from drivetl.metrics.truth import Floats, Ints

STAT_NAMES = ("AP", "AP50", "AP75", "APs", "APm", "APl", "AR1", "AR10", "AR100", "ARs", "ARm", "ARl")
_EPS = np.spacing(1)


@dataclass(slots=True)
class CocoMetrics:
    """COCO's numbers, 0..1. Without objects the arrays hold -1, as in pycocotools, and `named` and `per_class` NaN."""

    precision: Floats
    """(T, R, K, A, M) as in pycocotools: IoU thresholds, recall points, classes, area ranges, detection limits."""
    recall: Floats
    """(T, K, A, M)"""
    stats: Floats
    """(12,) in the order of STAT_NAMES, as in pycocotools; -1 where undefined."""
    per_class: dict[str, dict[str, float]]
    """Class name -> AP, AP50, AP75, APs, APm, APl, AR100, n_gt; NaN where the class does not occur."""

    def named(self) -> dict[str, float]:
        """Name -> value of the twelve numbers, NaN where undefined."""
        return {name: _nan_if_undefined(value) for name, value in zip(STAT_NAMES, self.stats, strict=True)}

    def as_dict(self) -> dict[str, Any]:
        """JSON-ready: `stats` keeps pycocotools' -1, `per_class` has null where undefined."""
        return {
            "stats": [float(value) for value in self.stats],
            "names": list(STAT_NAMES),
            "per_class": {
                name: {key: None if np.isnan(value) else value for key, value in row.items()}
                for name, row in self.per_class.items()
            },
        }


def summarize(store: MatchStore) -> CocoMetrics:
    """The twelve COCO numbers, the full precision and recall arrays, and a row per class."""
    precision, recall = curves(store)
    stats = np.array(
        [
            _mean(precision[..., 0, 2]),
            _mean(precision[0, ..., 0, 2]),
            _mean(precision[5, ..., 0, 2]),
            *(_mean(precision[..., area, 2]) for area in (1, 2, 3)),
            *(_mean(recall[..., 0, limit]) for limit in (0, 1, 2)),
            *(_mean(recall[..., area, 2]) for area in (1, 2, 3)),
        ]
    )
    counts = store.truth.counts()
    per_class = {}
    for k, name in enumerate(store.truth.categories):
        row = {
            "AP": precision[:, :, k, 0, 2],
            "AP50": precision[0, :, k, 0, 2],
            "AP75": precision[5, :, k, 0, 2],
            "APs": precision[:, :, k, 1, 2],
            "APm": precision[:, :, k, 2, 2],
            "APl": precision[:, :, k, 3, 2],
            "AR100": recall[:, k, 0, 2],
        }
        per_class[name] = {key: _nan_if_undefined(_mean(value)) for key, value in row.items()} | {"n_gt": counts[k]}
    return CocoMetrics(precision, recall, stats, per_class)


def _mean(values: Floats) -> float:
    known = values[values > -1]
    return float(np.mean(known)) if len(known) else -1.0


def _nan_if_undefined(value: float) -> float:
    return float("nan") if value == -1 else float(value)


def curves(store: MatchStore, limits: tuple[int, ...] = MAX_DETECTIONS) -> tuple[Floats, Floats]:
    """Precision (T, R, K, V, M) and recall (T, K, V, M) of every view of the store; -1 without objects."""
    n_classes, n_views = len(store.truth.categories), len(store.views)
    shape = (len(IOU_THRESHOLDS), len(RECALL_THRESHOLDS), n_classes, n_views, len(limits))
    precision, recall = np.full(shape, -1.0), np.full(shape[:1] + shape[2:], -1.0)
    for v, view in enumerate(store.views):
        positives = np.bincount(store.truth.category[~view.truth_ignored], minlength=n_classes)
        for k in np.flatnonzero(positives).tolist():
            for m, limit in enumerate(limits):
                _class_curves(store, v, k, limit, int(positives[k]), precision[:, :, k, v, m], recall[:, k, v, m])
    return precision, recall


def _class_curves(
    store: MatchStore, view: int, category: int, limit: int, positives: int, precision: Floats, recall: Floats
) -> None:
    """Fill precision (T, R) and recall (T,) of one class, view and detection limit."""
    first, last = store.class_starts[category : category + 2]
    part, allowed = store.views[view], store.rank[first:last] < limit
    counted = np.cumsum(allowed & ~part.detection_outside[first:last])  # detections so far, matched or not
    a, b = np.searchsorted(store.candidates, (first, last))
    near = store.candidates[a:b]
    match = np.where(allowed[near - first], store.matched[view, :, a:b], -1)  # (T, C)
    hit = match >= 0
    tp = hit & ~part.truth_ignored[match] if len(part.truth_ignored) else hit
    n_matched = np.cumsum(hit & ~part.detection_outside[near], axis=1)  # of `counted`, those matched to an object
    for t in range(len(match)):
        columns = np.flatnonzero(tp[t])
        n_tp = np.arange(1, len(columns) + 1, dtype=np.float64)
        n_fp = (counted[near[columns] - first] - n_matched[t, columns]).astype(np.float64)
        envelope = np.maximum.accumulate((n_tp / (n_fp + n_tp + _EPS))[::-1])[::-1]
        points = np.searchsorted(n_tp / positives, RECALL_THRESHOLDS, side="left")
        precision[t] = np.append(envelope, 0.0)[points]
        recall[t] = len(columns) / positives


def ap(store: MatchStore, iou: float | None = None, weights: Floats | None = None, view: int = 0) -> Floats:
    """Mean AP over classes under image weights, many bootstrap draws at once.

    iou: one of 0.5, 0.55, ..., 0.95, or None for their mean; weights: (B, I) in the store's image order, None for ones.
    Returns (B,), NaN where a draw contains no object. Weights of one give the point estimate.
    """
    return mean_over_classes(class_ap(store, iou, weights, view))


def mean_over_classes(by_class: Floats) -> Floats:
    """(B, K) -> (B,) mean over the classes that occur in a draw (are not NaN); NaN where none does."""
    known = ~np.isnan(by_class)
    total = np.where(known, by_class, 0.0).sum(axis=1)
    mean: Floats = np.full(len(by_class), np.nan)
    np.divide(total, known.sum(axis=1), out=mean, where=known.any(axis=1))
    return mean


def class_ap(store: MatchStore, iou: float | None = None, weights: Floats | None = None, view: int = 0) -> Floats:
    """(B, K) AP of each class under each draw of image weights (see `ap`); NaN where the class does not occur."""
    thresholds = range(len(IOU_THRESHOLDS)) if iou is None else [threshold_index(iou)]
    draws = np.ones((1, store.n_images))
    if weights is not None:
        draws = numbers(np.atleast_2d(weights), "weights", ("B", store.n_images))
    by_class = np.full((len(draws), len(store.truth.categories)), np.nan)
    for first in range(0, len(draws), _DRAWS_AT_ONCE):
        chunk = draws[first : first + _DRAWS_AT_ONCE].astype(np.float64)
        for k in range(by_class.shape[1]):
            by_class[first : first + _DRAWS_AT_ONCE, k] = _weighted_class_ap(store, k, thresholds, chunk, view)
    return by_class


_DRAWS_AT_ONCE = 64


def threshold_index(iou: float) -> int:
    """Index of an IoU in IOU_THRESHOLDS. Raises ValueError for an IoU that is not one of them."""
    nearest = int(np.abs(IOU_THRESHOLDS - iou).argmin())
    if abs(IOU_THRESHOLDS[nearest] - iou) > 1e-9:
        raise ValueError(f"IoU {iou} is not one of 0.5, 0.55, ..., 0.95")
    return nearest


def _weighted_class_ap(
    store: MatchStore, category: int, thresholds: range | list[int], weights: Floats, view: int
) -> Floats:
    """(B,) AP of one class, mean over thresholds; weights (B, I)."""
    part, truth = store.views[view], store.truth
    objects = (truth.category == category) & ~part.truth_ignored
    positives = weights @ np.bincount(truth.image[objects], minlength=store.n_images)  # (B,)
    first, last = store.class_starts[category : category + 2]
    a, b = np.searchsorted(store.candidates, (first, last))
    match = store.matched[view, list(thresholds), a:b]  # (T, C)
    useful = np.flatnonzero((match >= 0).any(axis=0))
    near, match = store.candidates[a:b][useful], match[:, useful]
    total: Floats = np.zeros(len(weights))
    if len(near):
        seen = slice(first, near[-1] + 1)
        counts = np.take(weights, store.image[seen], axis=1)
        counts[:, part.detection_outside[seen]] = 0
        counted = np.cumsum(counts, axis=1)[:, near - first]  # (B, C) detections so far, matched or not
        each = np.take(weights, store.image[near], axis=1)
        n_seen = np.cumsum(~part.detection_outside[seen])[near - first]
        for row in match:
            ends = _counts_at_runs(row, part, near, n_seen, each, counted)
            total += _area_under(*ends, positives)
    with np.errstate(invalid="ignore"):
        return np.where(positives > 0, total / len(thresholds), np.nan)


def _counts_at_runs(
    match: npt.NDArray[np.int32], part: View, near: Ints, n_seen: Ints, each: Floats, counted: Floats
) -> tuple[Floats, Floats]:
    """Weighted true and false positives so far at the end of each run of true positives: (B, N) each.

    Within a run (no false positive in between) precision only rises, whatever the weights, so its end is enough.
    """
    hits = np.flatnonzero(match >= 0)
    tp = ~part.truth_ignored[match[hits]]
    inside = ~part.detection_outside[near[hits]]
    n_fp = (n_seen[hits] - np.cumsum(inside))[tp]
    ends = np.flatnonzero(np.diff(n_fp, append=-1))
    n_tp = np.cumsum(np.take(each, hits[tp], axis=1), axis=1)[:, ends]
    if tp.all() and inside.all():
        return n_tp, np.take(counted, hits[ends], axis=1) - n_tp
    spent = np.cumsum(np.take(each, hits, axis=1) * inside, axis=1)[:, np.flatnonzero(tp)[ends]]
    return n_tp, np.take(counted, hits[tp][ends], axis=1) - spent


def _area_under(n_tp: Floats, n_fp: Floats, positives: Floats) -> Floats:
    """(B,) mean over COCO's 101 recall points of the precision envelope; n_tp, n_fp (B, N) at the runs' ends."""
    if not n_tp.shape[1]:
        return np.zeros(len(positives))
    precision = n_tp / (n_fp + n_tp + _EPS)
    envelope = np.maximum.accumulate(precision[:, ::-1], axis=1)[:, ::-1]
    reached = _points_reached(n_tp / np.maximum(positives, _EPS)[:, None])
    points = np.diff(reached, axis=1, prepend=np.int32(0))
    area: Floats = np.einsum("bn,bn->b", envelope, points) / len(RECALL_THRESHOLDS)
    return area


def _points_reached(recall: Floats) -> npt.NDArray[np.int32]:
    """Number of the 101 recall points that are <= each recall: a searchsorted that is faster on a regular grid."""
    nearest = (recall * 100 + 0.5).astype(np.int32)
    return nearest + (RECALL_THRESHOLDS[nearest] <= recall)
