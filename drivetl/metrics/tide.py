"""TIDE error analysis (Bolya et al. 2020, "TIDE: a general toolbox for identifying object detection errors").

Every false positive has one kind of error; a missed object that none of these errors explains is a miss. The cost of a
kind is the AP50 gained when an oracle fixes that kind alone.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from drivetl.errors import ConfigError
from drivetl.metrics.match_store import RECALL_THRESHOLDS, MatchStore
from drivetl.metrics.matching import box_pairs
from drivetl.metrics.truth import Bools, Floats, Ints

FOREGROUND_IOU = 0.5
BACKGROUND_IOU = 0.1
KINDS = ("Cls", "Loc", "Both", "Dupe", "Bkg", "Miss")
_CLS, _LOC, _BOTH, _DUPE, _BKG = range(5)


@dataclass(frozen=True, slots=True)
class TideErrors:
    """AP50 and the AP50 that each kind of error costs, 0..1."""

    ap50: float
    delta_ap: dict[str, float]
    """Gain for Cls, Loc, Both, Dupe, Bkg, Miss, and for FP (all false positives removed), FN (no object missed)."""
    counts: dict[str, int]
    """Number of errors of each kind."""
    kind: npt.NDArray[np.int8]
    """(D,) index in KINDS of each false positive, -1 for other detections."""


@dataclass(slots=True)
class _Best:
    """(D,) highest IoU of each detection with an object of its own class and of another, and which; -1 for none."""

    own_iou: Floats
    own: Ints
    other_iou: Floats
    other: Ints


def tide(store: MatchStore) -> TideErrors:
    """Classify the errors at IoU 0.5 / 0.1 and compute the cost of each kind. Raises ConfigError for a mask store."""
    if store.iou_type != "bbox":
        raise ConfigError("TIDE errors are counted on boxes", remedy="evaluate with --iou-type bbox")
    tp, ignored = store.tp_and_ignored()
    match = store.match_of()
    best = _best_overlaps(store)
    used = np.zeros(len(store.truth.image), bool)
    used[match[tp]] = True
    kind = _kinds(best, tp | ignored)
    covered = used.copy()
    covered[best.own[kind == _LOC]] = True
    covered[best.other[kind == _CLS]] = True
    missed = ~covered & ~store.truth.crowd
    counts = {name: int((kind == number).sum()) for number, name in enumerate(KINDS[:5])}
    counts["Miss"] = int(missed.sum())
    base = _mean_ap(store, tp, ignored)
    deltas = {
        name: _oracle_ap(store, tp, ignored, kind, number, best, used) - base for number, name in enumerate(KINDS[:5])
    }
    deltas["Miss"] = _mean_ap(store, tp, ignored, without=missed) - base
    deltas["FP"] = _mean_ap(store, tp, ignored | ~tp) - base
    deltas["FN"] = _mean_ap(store, tp, ignored, without=~used & ~store.truth.crowd) - base
    return TideErrors(base, deltas, counts, kind)


def _best_overlaps(store: MatchStore) -> _Best:
    truth = store.truth
    real = np.flatnonzero(~truth.crowd)
    objects = real[np.argsort(truth.image[real], kind="stable")]
    starts = np.searchsorted(truth.image[objects], store.image)
    ends = np.searchsorted(truth.image[objects], store.image, side="right")
    no_crowd = np.zeros(len(objects), bool)
    pairs = box_pairs(store.boxes_xywh, starts, ends, truth.boxes_xywh[objects], no_crowd, BACKGROUND_IOU)
    truth_index = objects[pairs.truth]
    same = truth.category[truth_index] == store.category[pairs.detection]
    own = _argmax(pairs.detection[same], truth_index[same], pairs.iou[same], len(store.scores))
    other = _argmax(pairs.detection[~same], truth_index[~same], pairs.iou[~same], len(store.scores))
    return _Best(*own, *other)


def _argmax(detection: npt.NDArray[np.int32], objects: Ints, iou: Floats, size: int) -> tuple[Floats, Ints]:
    """(size,) highest IoU of each detection, and its object; -1 for none."""
    best, best_object = np.full(size, -1.0), np.full(size, -1)
    order = np.argsort(iou, kind="stable")  # the highest is written last
    best[detection[order]], best_object[detection[order]] = iou[order], objects[order]
    return best, best_object


def _kinds(best: _Best, no_error: Bools) -> npt.NDArray[np.int8]:
    """(D,) kind of each false positive, in TIDE's order of precedence; -1 for true and ignored ones."""
    loc = (best.own_iou >= BACKGROUND_IOU) & (best.own_iou < FOREGROUND_IOU)
    cls = best.other_iou >= FOREGROUND_IOU
    dupe = best.own_iou >= FOREGROUND_IOU
    background = np.maximum(best.own_iou, best.other_iou) < BACKGROUND_IOU
    kind = np.select([loc, cls, dupe, background], [_LOC, _CLS, _DUPE, _BKG], _BOTH).astype(np.int8)
    kind[no_error] = -1
    return kind


def _oracle_ap(
    store: MatchStore, tp: Bools, ignored: Bools, kind: npt.NDArray[np.int8], number: int, best: _Best, used: Bools
) -> float:
    """Mean AP50 with one kind of error fixed.

    A wrong class or box becomes a true positive where it scores highest among those of an undetected object; all
    others of that kind are removed.
    """
    wrong = kind == number
    if number not in (_CLS, _LOC):
        return _mean_ap(store, tp, ignored | wrong)
    target = best.other if number == _CLS else best.own
    rows = np.flatnonzero(wrong)
    rows = rows[~used[target[rows]]]
    rows = rows[np.argsort(-store.scores[rows], kind="stable")]
    _, first = np.unique(target[rows], return_index=True)
    fixed = rows[first]
    category = store.category.copy()
    category[fixed] = store.truth.category[target[fixed]]
    removed = wrong.copy()
    removed[fixed] = False
    corrected_tp = tp.copy()
    corrected_tp[fixed] = True
    return _mean_ap(store, corrected_tp, ignored | removed, category=category)


def _mean_ap(
    store: MatchStore, tp: Bools, left_out: Bools, category: Ints | None = None, without: Bools | None = None
) -> float:
    """Mean over classes of the 101-point AP; `without` (G,): objects not to count."""
    truth = store.truth
    real = ~truth.crowd if without is None else ~truth.crowd & ~without
    positives = np.bincount(truth.category[real], minlength=len(truth.categories))
    category = store.category if category is None else category
    order = np.lexsort((-store.scores, category))
    order = order[~left_out[order]]
    edges = np.searchsorted(category[order], np.arange(len(positives) + 1))
    present = np.flatnonzero(truth.counts())
    values = [_ap(tp[order[edges[k] : edges[k + 1]]], int(positives[k])) for k in present]
    return float(np.mean(values)) if values else float("nan")


def _ap(tp: Bools, positives: int) -> float:
    hits = np.flatnonzero(tp)
    if not len(hits) or not positives:
        return 0.0
    n_tp = np.arange(1, len(hits) + 1)
    envelope = np.maximum.accumulate((n_tp / (hits + 1))[::-1])[::-1]
    points = np.searchsorted(n_tp / positives, RECALL_THRESHOLDS)
    return float(np.append(envelope, 0.0)[points].mean())
