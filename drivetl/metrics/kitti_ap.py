"""KITTI's official 2-D average precision, with all asymmetries of the devkit's evaluate_object.

Objects of a class that are too hard, and of its neighbour class, are ignored; too-small detections of *any* class are
ignored too and may take an object out of the count; detections in DontCare are not false. Two passes: the first finds
at most 41 score thresholds at equal steps of recall, the second matches by overlap at each.
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


@dataclass(slots=True)
class _Overlaps:
    """Pairs (detection, object) of one frame by IoU, and how much of each detection lies in DontCare."""

    detection: Ints
    truth: Ints
    iou: Floats
    in_dontcare: Floats
    """(D,) the largest share of a detection's area inside one DontCare box."""


def evaluate(truth: KittiObjects, found: KittiObjects, strict_kitti: bool = True) -> dict[str, dict[str, KittiResult]]:
    """{class: {difficulty: KittiResult}} for car, pedestrian and cyclist, where truth or detections name them.

    strict_kitti: as the devkit, a too-small detection of any class may take an object; False: of the same class only.
    """
    overlaps = _overlaps(truth, found)
    names = np.array(truth.names, dtype=str), np.array(found.names, dtype=str)
    return {
        name: {
            difficulty: _evaluate(truth, found, overlaps, names, name, level, strict_kitti)
            for level, difficulty in enumerate(DIFFICULTIES)
        }
        for name in MIN_OVERLAP
        if name in truth.names or name in found.names
    }


def _overlaps(truth: KittiObjects, found: KittiObjects) -> _Overlaps:
    starts = np.searchsorted(truth.frame, found.frame)
    ends = np.searchsorted(truth.frame, found.frame, side="right")
    detection, objects = expand(starts, ends)
    inter = _intersection(found.boxes_xyxy[detection], truth.boxes_xyxy[objects])
    own, other = _area(found.boxes_xyxy)[detection], _area(truth.boxes_xyxy)[objects]
    touching = inter > 0
    iou = np.divide(inter, own + other - inter, out=np.zeros_like(inter), where=touching)
    share = np.divide(inter, own, out=np.zeros_like(inter), where=touching)
    dontcare = np.array([name == "dontcare" for name in truth.names], bool)[objects]
    covered = np.zeros(len(found.frame))
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
    """(G,) 0 counts, 1 ignored, -1 does not take part."""
    height = truth.boxes_xyxy[:, 3] - truth.boxes_xyxy[:, 1]
    hard = truth.occluded > MAX_OCCLUSION[level]
    hard |= truth.truncated > MAX_TRUNCATION[level]
    hard |= height <= MIN_HEIGHT_PX[level]
    same, neighbour = names == name, names == NEIGHBOUR.get(name, "")
    return np.where(same & ~hard, 0, np.where(same | neighbour, 1, -1))


def _detection_status(found: KittiObjects, names: npt.NDArray[np.str_], name: str, level: int, strict: bool) -> Ints:
    """(D,) 0 counts, 1 ignored, -1 does not take part. Smallness is tested first, and with <, as in the devkit."""
    small = np.abs(found.boxes_xyxy[:, 3] - found.boxes_xyxy[:, 1]) < MIN_HEIGHT_PX[level]
    same = names == name
    return np.where(small & (same | strict), 1, np.where(same, 0, -1))


def _evaluate(
    truth: KittiObjects,
    found: KittiObjects,
    overlaps: _Overlaps,
    names: tuple[npt.NDArray[np.str_], npt.NDArray[np.str_]],
    name: str,
    level: int,
    strict: bool,
) -> KittiResult:
    status = _truth_status(truth, names[0], name, level)
    det_status = _detection_status(found, names[1], name, level, strict)
    n_gt = int((status == 0).sum())
    least = MIN_OVERLAP[name]
    part = (overlaps.iou > least) & (status[overlaps.truth] >= 0) & (det_status[overlaps.detection] >= 0)
    detection, whom, iou = overlaps.detection[part], overlaps.truth[part], overlaps.iou[part]
    turn = _turns(truth, status)
    # pass 1: every object takes the free detection with the highest score, of equals the first
    order = np.lexsort((detection, -found.scores[detection], whom, turn[whom]))
    everything = np.ones((len(found.frame), 1), bool)
    taken, objects, _ = _match(detection[order], whom[order], turn, everything)
    scored = (status[objects] == 0) & (det_status[taken] == 0)
    thresholds = _thresholds(found.scores[taken[scored]], n_gt)
    # pass 2: the counting detection that overlaps most, else the first ignored one
    ignored = det_status[detection] == 1
    order = np.lexsort((detection, np.where(ignored, 0.0, -iou), ignored, whom, turn[whom]))
    above = found.scores[:, None] >= thresholds
    taken, objects, column = _match(detection[order], whom[order], turn, above)
    counts = (status[objects] == 0) & (det_status[taken] == 0)
    tp = np.bincount(column[counts], minlength=len(thresholds))
    loose = above & ((det_status == 0) & ~(overlaps.in_dontcare > least))[:, None]
    loose[taken, column] = False
    return _curve(tp, loose.sum(axis=0), n_gt)


def _turns(truth: KittiObjects, status: Ints) -> Ints:
    """(G,) place of each object among those of its frame that take part: objects are served in file order."""
    seen = np.cumsum(status >= 0)
    before_frame = np.append(0, seen)[np.searchsorted(truth.frame, truth.frame)]
    return np.asarray(seen - before_frame - 1)


def _match(detection: Ints, objects: Ints, turn: Ints, usable: Bools) -> tuple[Ints, Ints, Ints]:
    """Serve objects in their turn; pairs are sorted by (turn, object, preference).

    usable: (D, T) detections at hand at each threshold. Returns detections taken, their objects and the threshold.
    """
    free = usable.copy()
    turns = turn[objects]
    edges = np.searchsorted(turns, np.arange(turns[-1] + 2)) if len(turns) else np.zeros(1, np.int64)
    done: list[tuple[Ints, Ints, Ints]] = [(np.zeros(0, np.int64),) * 3]
    for first, last in pairwise(edges.tolist()):
        if first == last:
            continue
        who, whom = detection[first:last], objects[first:last]
        place = np.where(free[who], np.arange(last - first)[:, None], last)
        starts = np.flatnonzero(np.diff(whom, prepend=-1))
        best = np.minimum.reduceat(place, starts, axis=0)
        row, column = np.nonzero(best < last - first)
        taken = who[best[row, column]]
        free[taken, column] = False
        done.append((taken, whom[starts[row]], column))
    taken, served, columns = (np.concatenate(part) for part in zip(*done, strict=True))
    return taken, served, columns


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
