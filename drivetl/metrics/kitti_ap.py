"""KITTI's official 2-D average precision, with all asymmetries of the devkit's evaluate_object.

Objects of a class that are too hard, and objects of its neighbour class, are ignored. Too-small detections of *any*
class are ignored too, and can remove an object from the count. Detections in DontCare are not false positives. Two
passes: the first finds at most 41 score thresholds at equal steps of recall, the second matches by overlap at each.
As in `matching`, the k-th objects of all frames are matched in one vectorised step.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import numpy.typing as npt

from drivetl.metrics.kitti_objects import KittiObjects
from drivetl.metrics.matching import expand
from drivetl.metrics.truth import Bools, Floats, Ints

DIFFICULTIES = ("easy", "moderate", "hard")
MIN_HEIGHT_PX = (40, 25, 25)
MAX_OCCLUSION = (0, 1, 2)
MAX_TRUNCATION = (0.15, 0.30, 0.50)
MIN_OVERLAP = {"car": 0.7, "pedestrian": 0.5, "cyclist": 0.5}
NEIGHBOUR = {"car": "van", "pedestrian": "person_sitting"}
_N_POINTS = 41


@dataclass(frozen=True, slots=True)
class KittiResult:
    """One class at one difficulty."""

    precision_41: Floats
    """(41,) precision envelope at recall 0, 1/40, ..., 1; 0 beyond the recall reached."""
    ap40: float
    """Mean over recall 1/40..1, the official number since October 2019; NaN without objects."""
    ap11: float
    """Mean over recall 0, 0.1, ..., 1, the number of older papers."""
    n_gt: int
    """Number of objects that count, ignored ones left out."""


@dataclass(slots=True)
class _Overlaps:
    """Overlapping pairs (detection, object) of the same frame, and the share of each detection inside DontCare."""

    detection: Ints
    """(P,)"""
    truth: Ints
    """(P,)"""
    iou: Floats
    """(P,)"""
    in_dontcare: Floats
    """(D,) the largest share of a detection's area inside one DontCare box."""


def evaluate(
    truth: KittiObjects, detections: KittiObjects, strict_kitti: bool = True
) -> dict[str, dict[str, KittiResult]]:
    """Class -> difficulty -> result, for those of car, pedestrian and cyclist that truth or detections have.

    strict_kitti: as in the devkit, a too-small detection of any class takes an object; False: of the same class only.
    """
    overlaps = _overlaps(truth, detections)
    names = np.array(truth.names, dtype=str), np.array(detections.names, dtype=str)
    return {
        name: {
            difficulty: _evaluate(truth, detections, overlaps, names, name, level, strict_kitti)
            for level, difficulty in enumerate(DIFFICULTIES)
        }
        for name in MIN_OVERLAP
        if name in truth.names or name in detections.names
    }


def _overlaps(truth: KittiObjects, detections: KittiObjects) -> _Overlaps:
    starts = np.searchsorted(truth.frame, detections.frame)
    ends = np.searchsorted(truth.frame, detections.frame, side="right")
    detection, objects = expand(starts, ends)
    inter = _intersection(detections.boxes_xyxy[detection], truth.boxes_xyxy[objects])
    own, other = _area(detections.boxes_xyxy)[detection], _area(truth.boxes_xyxy)[objects]
    touching = inter > 0
    iou = np.divide(inter, own + other - inter, out=np.zeros_like(inter), where=touching)
    share = np.divide(inter, own, out=np.zeros_like(inter), where=touching)
    dontcare = np.array([name == "dontcare" for name in truth.names], bool)[objects]
    covered = np.zeros(len(detections.frame))
    np.maximum.at(covered, detection[dontcare], share[dontcare])
    near = (iou > min(MIN_OVERLAP.values())) & ~dontcare
    return _Overlaps(detection[near], objects[near], iou[near], covered)


def _intersection(a: Floats, b: Floats) -> Floats:
    w = np.minimum(a[:, 2], b[:, 2]) - np.maximum(a[:, 0], b[:, 0])
    h = np.minimum(a[:, 3], b[:, 3]) - np.maximum(a[:, 1], b[:, 1])
    return np.where((w > 0) & (h > 0), w * h, 0.0)


def _area(boxes: Floats) -> Floats:
    return (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])


def _truth_status(truth: KittiObjects, names: npt.NDArray[np.str_], name: str, level: int) -> Ints:
    """(G,) 0 counts, 1 ignored, -1 not considered."""
    height = truth.boxes_xyxy[:, 3] - truth.boxes_xyxy[:, 1]
    hard = truth.occluded > MAX_OCCLUSION[level]
    hard |= truth.truncated > MAX_TRUNCATION[level]
    hard |= height <= MIN_HEIGHT_PX[level]
    same, neighbour = names == name, names == NEIGHBOUR.get(name, "")
    return np.where(same & ~hard, 0, np.where(same | neighbour, 1, -1))


def _detection_status(
    detections: KittiObjects, names: npt.NDArray[np.str_], name: str, level: int, strict: bool
) -> Ints:
    """(D,) 0 counts, 1 ignored, -1 not considered. The size test comes first and uses <, as in the devkit."""
    small = np.abs(detections.boxes_xyxy[:, 3] - detections.boxes_xyxy[:, 1]) < MIN_HEIGHT_PX[level]
    same = names == name
    return np.where(small & (same | strict), 1, np.where(same, 0, -1))


def _evaluate(
    truth: KittiObjects,
    detections: KittiObjects,
    overlaps: _Overlaps,
    names: tuple[npt.NDArray[np.str_], npt.NDArray[np.str_]],
    name: str,
    level: int,
    strict: bool,
) -> KittiResult:
    status = _truth_status(truth, names[0], name, level)
    det_status = _detection_status(detections, names[1], name, level, strict)
    n_gt = int((status == 0).sum())
    min_iou = MIN_OVERLAP[name]
    part = (overlaps.iou > min_iou) & (status[overlaps.truth] >= 0) & (det_status[overlaps.detection] >= 0)
    detection, object_of_pair, iou = overlaps.detection[part], overlaps.truth[part], overlaps.iou[part]
    turn = _turns(truth, status)
    # pass 1: every object takes the free detection with the highest score, on a tie the first
    order = np.lexsort((detection, -detections.scores[detection], object_of_pair, turn[object_of_pair]))
    all_usable = np.ones((len(detections.frame), 1), bool)
    taken, objects, _ = _match(detection[order], object_of_pair[order], turn, all_usable)
    scored = (status[objects] == 0) & (det_status[taken] == 0)
    thresholds = _thresholds(detections.scores[taken[scored]], n_gt)
    # pass 2: the non-ignored detection with the highest overlap, else the first ignored one
    ignored = det_status[detection] == 1
    order = np.lexsort((detection, np.where(ignored, 0.0, -iou), ignored, object_of_pair, turn[object_of_pair]))
    above = detections.scores[:, None] >= thresholds
    taken, objects, column = _match(detection[order], object_of_pair[order], turn, above)
    counts = (status[objects] == 0) & (det_status[taken] == 0)
    tp = np.bincount(column[counts], minlength=len(thresholds))
    false_positive = above & ((det_status == 0) & ~(overlaps.in_dontcare > min_iou))[:, None]
    false_positive[taken, column] = False
    return _curve(tp, false_positive.sum(axis=0), n_gt)


def _turns(truth: KittiObjects, status: Ints) -> Ints:
    """(G,) index of each object among the considered ones of its frame: objects are matched in file order."""
    seen = np.cumsum(status >= 0)
    before_frame = np.append(0, seen)[np.searchsorted(truth.frame, truth.frame)]
    return np.asarray(seen - before_frame - 1)


def _match(detection: Ints, objects: Ints, turn: Ints, usable: Bools) -> tuple[Ints, Ints, Ints]:
    """Match objects turn by turn; pairs are sorted by (turn, object, preference).

    usable: (D, T) detections available at each threshold. Returns the matched detections, their objects, and the index
    of the threshold of each match.
    """
    free = usable.copy()
    turns = turn[objects]
    edges = np.searchsorted(turns, np.arange(turns[-1] + 2)) if len(turns) else np.zeros(1, np.int64)
    done: list[tuple[Ints, Ints, Ints]] = [(np.zeros(0, np.int64),) * 3]
    for first, last in pairwise(edges.tolist()):
        if first == last:
            continue
        candidates, targets = detection[first:last], objects[first:last]
        preference = np.where(free[candidates], np.arange(last - first)[:, None], last)
        starts = np.flatnonzero(np.diff(targets, prepend=-1))
        best = np.minimum.reduceat(preference, starts, axis=0)
        row, column = np.nonzero(best < last - first)
        taken = candidates[best[row, column]]
        free[taken, column] = False
        done.append((taken, targets[starts[row]], column))
    taken, matched_objects, columns = (np.concatenate(part) for part in zip(*done, strict=True))
    return taken, matched_objects, columns


def _thresholds(scores: Floats, n_gt: int) -> Floats:
    """The scores nearest to 41 equal steps of recall (the devkit's getThresholds)."""
    kept, current = [], 0.0
    ordered = np.sort(scores)[::-1]
    for i, score in enumerate(ordered):
        left = (i + 1) / n_gt
        is_last = i == len(ordered) - 1
        right = left if is_last else (i + 2) / n_gt
        if right - current < current - left and not is_last:
            continue
        kept.append(score)
        current += 1 / (_N_POINTS - 1.0)
    return np.array(kept[:_N_POINTS], np.float64)


def _curve(tp: Ints, fp: Ints, n_gt: int) -> KittiResult:
    precision = np.zeros(_N_POINTS)
    np.divide(tp, tp + fp, out=precision[: len(tp)], where=(tp + fp) > 0)
    precision = np.maximum.accumulate(precision[::-1])[::-1]
    if not n_gt:
        return KittiResult(precision, float("nan"), float("nan"), 0)
    return KittiResult(precision, float(precision[1:].mean()), float(precision[::4].mean()), n_gt)
