"""Operating points: the score threshold of each class, and recall, precision and confusion at it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from drivetl.errors import ConfigError
from drivetl.metrics.match_store import MatchStore
from drivetl.metrics.matching import box_pairs
from drivetl.metrics.truth import Floats


@dataclass(frozen=True, slots=True)
class ScoreCurve:
    """Counts of one class at each distinct score as threshold; ignored detections left out."""

    scores: Floats
    """(N,) falling; a detection is kept when its score is >= the threshold."""
    tp: Floats
    """(N,) true positives kept."""
    fp: Floats
    """(N,) false positives kept."""
    overlap: Floats
    """(N,) sum of the IoU of the true positives kept."""
    n_gt: int


@dataclass(frozen=True, slots=True)
class OperatingPoint:
    """One class at one score threshold; NaN where a ratio is undefined."""

    threshold: float
    recall: float
    precision: float
    miss_rate: float
    fp_per_image: float
    f1: float


def score_curve(store: MatchStore, category: int, iou_index: int = 0) -> ScoreCurve:
    """Counts of one class at each distinct score, at IOU_THRESHOLDS[iou_index]."""
    first, last = store.class_starts[category : category + 2]
    tp, ignored = (column[first:last] for column in store.tp_and_ignored(iou_index))
    kept = ~ignored
    scores, hit = store.scores[first:last][kept], tp[kept]
    overlap = np.where(hit, store.iou_of_match(iou_index)[first:last][kept], 0.0)
    ends = np.flatnonzero(np.diff(scores, append=-np.inf))
    n_tp = np.cumsum(hit)[ends].astype(np.float64)
    truth = store.truth
    n_gt = int(((truth.category == category) & ~store.views[0].truth_ignored).sum())
    return ScoreCurve(scores[ends], n_tp, ends + 1.0 - n_tp, np.cumsum(overlap)[ends], n_gt)


def choose_threshold(curve: ScoreCurve, n_images: int, rule: str = "f1", value: float = 0.0) -> float:
    """The score threshold of a rule; inf where no threshold fits. Raises ConfigError for an unknown rule.

    Rules: `recall` (the highest threshold that reaches `value`), `fp_per_image` (the lowest with at most `value`),
    `f1` (the best F1), `f_beta` (the best F-beta, beta being `value`: recall counts beta times as much as precision;
    van Rijsbergen 1979), `lrp` (the lowest LRP).
    """
    if not len(curve.scores) or not curve.n_gt:
        return float("inf")
    if rule == "recall":
        reached = np.flatnonzero(curve.tp >= value * curve.n_gt)
        return float(curve.scores[reached[0]]) if len(reached) else float("inf")
    if rule == "fp_per_image":
        return within_false_alarms(curve, n_images, value)
    if rule == "f1":
        return float(curve.scores[np.argmax(2 * curve.tp / (curve.tp + curve.fp + curve.n_gt))])
    if rule == "f_beta":
        score = (1 + value**2) * curve.tp / (value**2 * curve.n_gt + curve.tp + curve.fp)
        return float(curve.scores[np.argmax(score)])
    if rule == "lrp":
        wrong = (curve.tp - curve.overlap) / 0.5 + curve.fp + curve.n_gt - curve.tp
        return float(curve.scores[np.argmin(wrong / (curve.n_gt + curve.fp))])
    raise ConfigError(f"operating rule {rule!r} is unknown", remedy="choose recall, fp_per_image, f1, f_beta or lrp")


def within_false_alarms(curve: ScoreCurve, n_images: int, rate: float) -> float:
    """The lowest threshold with at most `rate` false positives per image, also for a class without objects."""
    within = np.flatnonzero(curve.fp <= rate * n_images)
    return float(curve.scores[within[-1]]) if len(within) else float("inf")


def choose_thresholds(store: MatchStore, rule: str = "f1", value: float = 0.0) -> Floats:
    """(K,) one score threshold per class; choose them on clean validation data and keep them for everything else."""
    curves = (score_curve(store, k) for k in range(len(store.truth.categories)))
    return np.array([choose_threshold(curve, store.n_images, rule, value) for curve in curves])


def at_threshold(curve: ScoreCurve, threshold: float, n_images: int) -> OperatingPoint:
    """Recall, precision, ... of one class at a threshold."""
    kept = int((curve.scores >= threshold).sum())
    tp, fp = (float(column[kept - 1]) if kept else 0.0 for column in (curve.tp, curve.fp))
    recall = tp / curve.n_gt if curve.n_gt else float("nan")
    return OperatingPoint(
        threshold=threshold,
        recall=recall,
        precision=tp / (tp + fp) if tp + fp else float("nan"),
        miss_rate=1 - recall,
        fp_per_image=fp / n_images if n_images else float("nan"),
        f1=2 * tp / (tp + fp + curve.n_gt) if tp + fp + curve.n_gt else float("nan"),
    )


def operating_points(store: MatchStore, thresholds: Floats) -> dict[str, OperatingPoint]:
    """Class name -> its operating point; thresholds: (K,), see `choose_thresholds`."""
    return {
        name: at_threshold(score_curve(store, k), float(thresholds[k]), store.n_images)
        for k, name in enumerate(store.truth.categories)
    }


def confusion_matrix(store: MatchStore, thresholds: Floats) -> npt.NDArray[np.int64]:
    """(K + 1, K + 1) counts: truth in rows, detected class in columns, at (K,) thresholds and box IoU 0.5.

    The last row counts detections without an object, the last column missed objects. True positives are matched first;
    what remains is matched across classes, highest IoU first. Ignored detections and objects are left out.
    """
    truth, n = store.truth, len(store.truth.categories)
    tp, ignored = store.tp_and_ignored()
    used = store.scores >= thresholds[store.category]
    detected = store.detected_objects(thresholds)
    matrix = np.zeros((n + 1, n + 1), np.int64)
    np.add.at(matrix, (store.category[used & tp], store.category[used & tp]), 1)
    unmatched = np.flatnonzero(used & ~tp & ~ignored)
    missed = np.flatnonzero(~detected & ~truth.crowd)
    missed = missed[np.argsort(truth.image[missed], kind="stable")]
    starts = np.searchsorted(truth.image[missed], store.image[unmatched])
    ends = np.searchsorted(truth.image[missed], store.image[unmatched], side="right")
    no_crowd = np.zeros(len(missed), bool)
    pairs = box_pairs(store.boxes_xywh[unmatched], starts, ends, truth.boxes_xywh[missed], no_crowd, 0.5)
    other = truth.category[missed[pairs.truth]] != store.category[unmatched[pairs.detection]]
    taken_d, taken_t = np.zeros(len(unmatched), bool), np.zeros(len(missed), bool)
    for row in np.argsort(-pairs.iou[other], kind="stable"):
        d, t = pairs.detection[other][row], pairs.truth[other][row]
        if not taken_d[d] and not taken_t[t]:
            taken_d[d] = taken_t[t] = True
            matrix[truth.category[missed[t]], store.category[unmatched[d]]] += 1
    np.add.at(matrix, (np.full((~taken_d).sum(), n), store.category[unmatched[~taken_d]]), 1)
    np.add.at(matrix, (truth.category[missed[~taken_t]], np.full((~taken_t).sum(), n)), 1)
    return matrix
