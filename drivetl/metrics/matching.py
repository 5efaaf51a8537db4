"""Match detections to objects for all images, thresholds and views at once.

COCO's greedy rule: within an (image, class), detections by falling score each take the free object of highest IoU,
regular objects before ignored ones; a crowd can be matched any number of times. The k-th candidates of different
groups are independent, so one vectorised step handles them all. Only pairs with enough overlap are considered.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from pycocotools import mask as rle_tools

from drivetl.coco import masks
from drivetl.coco.records import Segmentation
from drivetl.errors import DataError
from drivetl.metrics.truth import Bools, Floats, GroundTruth, Ints

Indices = npt.NDArray[np.int32]
_CHUNK = 1 << 19
"""Pairs whose overlap is computed at a time (a few tens of MB)."""
_REGULAR = np.int32(1 << 30)


@dataclass(slots=True)
class Pairs:
    """Detections and objects with at least some IoU, sorted by detection."""

    detection: Indices
    """(P,) ascending."""
    truth: Indices
    """(P,)"""
    iou: Floats
    """(P,) intersection over union; over the detection's own area where the object is a crowd."""


def box_overlap(detections: Floats, truths: Floats, crowd: Bools) -> Floats:
    """(P, 4) and (P, 4) xywh, row by row -> (P,) IoU, in the operations and order of pycocotools' C code."""
    w = np.minimum(detections[:, 2] + detections[:, 0], truths[:, 2] + truths[:, 0])
    w -= np.maximum(detections[:, 0], truths[:, 0])
    h = np.minimum(detections[:, 3] + detections[:, 1], truths[:, 3] + truths[:, 1])
    h -= np.maximum(detections[:, 1], truths[:, 1])
    inter = np.where((w > 0) & (h > 0), w * h, 0.0)
    own = detections[:, 2] * detections[:, 3]
    union = np.where(crowd, own, own + truths[:, 2] * truths[:, 3] - inter)
    return np.divide(inter, union, out=np.zeros_like(inter), where=inter > 0)


def expand(starts: Ints, ends: Ints) -> tuple[Ints, Ints]:
    """For each row all indices in [start, end): -> (rows (P,), indices (P,))."""
    counts = ends - starts
    rows = np.repeat(np.arange(len(counts)), counts)
    offsets = np.arange(len(rows)) - np.repeat(np.cumsum(counts) - counts, counts)
    return rows, np.repeat(starts, counts) + offsets


def box_pairs(boxes: Floats, starts: Ints, ends: Ints, truth_boxes: Floats, crowd: Bools, min_iou: float) -> Pairs:
    """Pairs of each detection with the objects [start, end) of its group that have an IoU of at least `min_iou`.

    boxes (D, 4) xywh; starts, ends (D,); truth_boxes (G, 4) xywh; crowd (G,).
    """
    parts = [(np.zeros(0, np.int32), np.zeros(0, np.int32), np.zeros(0))]
    parts += _box_chunks(boxes, starts, ends, truth_boxes, crowd, min_iou)
    detection, truth, iou = (np.concatenate(part) for part in zip(*parts, strict=True))
    return Pairs(detection, truth, iou)


def _box_chunks(
    boxes: Floats, starts: Ints, ends: Ints, truth_boxes: Floats, crowd: Bools, min_iou: float
) -> Iterator[tuple[Indices, Indices, Floats]]:
    total = np.cumsum(ends - starts)
    first = 0
    while first < len(boxes):
        done = total[first - 1] if first else 0
        last = max(first + 1, int(np.searchsorted(total, done + _CHUNK, side="right")))
        rows, objects = expand(starts[first:last], ends[first:last])
        iou = box_overlap(boxes[first + rows], truth_boxes[objects], crowd[objects])
        near = np.flatnonzero(iou >= min_iou)
        yield (first + rows[near]).astype(np.int32), objects[near].astype(np.int32), iou[near]
        first = last


def mask_pairs(
    rles: list[object], starts: Ints, ends: Ints, truth_rles: list[object], crowd: Bools, min_iou: float
) -> Pairs:
    """The same as `box_pairs` on compressed RLEs, through pycocotools' own mask overlap."""
    order = np.flatnonzero(ends > starts)
    order = order[np.argsort(starts[order], kind="stable")]  # groups with objects have a start of their own
    edges = np.flatnonzero(np.diff(starts[order], prepend=-1, append=-1)) if len(order) else np.zeros(0, int)
    parts = [(np.zeros(0, np.int32), np.zeros(0, np.int32), np.zeros(0))]
    for a, b in itertools.pairwise(edges):
        rows, first, last = order[a:b], int(starts[order[a]]), int(ends[order[a]])
        overlap = np.asarray(
            rle_tools.iou([rles[row] for row in rows], truth_rles[first:last], crowd[first:last].tolist())
        )
        row, column = np.nonzero(overlap >= min_iou)
        parts.append((rows[row].astype(np.int32), (first + column).astype(np.int32), overlap[row, column]))
    detection, truth, iou = (np.concatenate(part) for part in zip(*parts, strict=True))
    sort = np.lexsort((truth, detection))
    return Pairs(detection[sort], truth[sort], iou[sort])


def truth_rles(truth: GroundTruth) -> list[object]:
    """One compressed RLE per object; an ignore region without a mask is its box.

    Raises DataError, with the file of the truth, for an object without a mask or with an invalid one.
    """
    rles: list[object] = []
    for index, segmentation in enumerate(truth.segmentations):
        height, width = (int(side) for side in truth.image_hw[truth.image[index]])
        if segmentation is None and truth.crowd[index]:
            x, y, w, h = truth.boxes_xywh[index]
            segmentation = [[x, y, x + w, y, x + w, y + h, x, y + h]]
        what = f"an object of image {truth.image_ids[truth.image[index]]}"
        if segmentation is None:
            raise DataError(f"{what} has no mask", remedy="use --iou-type bbox", file=truth.file)
        rles.append(_checked_rle(segmentation, height, width, what, truth.file))
    return rles


def detection_rles(
    segmentations: list[Segmentation | None] | None, truth: GroundTruth, image: Ints, source: Ints
) -> list[object]:
    """One compressed RLE per detection; source (D,) are their indices in the results.

    Raises DataError for one without a mask, or whose mask cannot be decoded or is of another size than the image.
    """
    if not len(source):
        return []
    if segmentations is None or any(mask is None for mask in segmentations):
        position = 0 if segmentations is None else int(source[segmentations.index(None)])
        raise DataError(f"[{position}] has no segmentation", remedy="use --iou-type bbox")
    rles: list[object] = []
    for position, mask, index in zip(source, segmentations, image, strict=True):
        assert mask is not None
        height, width = (int(side) for side in truth.image_hw[index])
        rles.append(_checked_rle(mask, height, width, f"[{position}]"))
    return rles


def mask_areas(rles: Sequence[object]) -> Floats:
    """(D,) px^2. One mask at a time: for a list, pycocotools 2.0 keeps its length in 8 bits and fails beyond 255."""
    return np.array([float(rle_tools.area(rle)) for rle in rles], np.float64)


def _checked_rle(
    segmentation: Segmentation, height: int, width: int, what: str, file: Path | str | None = None
) -> object:
    """The compressed RLE of a mask of an image of this size. Raises DataError when it is not one."""
    problem = masks.problem(segmentation, height, width)
    if problem is not None:
        raise DataError(
            f"{what}: {problem}",
            remedy="a mask has the size of its image: fix the mask, or use --iou-type bbox",
            file=file,
        )
    if isinstance(segmentation, dict) or any(len(polygon) >= 6 for polygon in segmentation):
        return masks.to_rle(segmentation, height, width)
    return masks.to_rle({"size": [height, width], "counts": [height * width]}, height, width)


def assign(
    pairs: Pairs, group: Ints, rank: Ints, crowd: Bools, ignored: Bools, thresholds: Floats
) -> tuple[Ints, Indices]:
    """COCO's greedy matching for V views and T IoU thresholds at once.

    group, rank (D,): the (image, class) of each detection and its rank there by falling score;
    crowd (G,); ignored (V, G): objects that do not count in a view (crowds among them); thresholds (T,).
    Returns the detections that occur in pairs, (C,) ascending, and the object matched to each: (V, T, C), -1 for none.
    """
    candidates, candidate_of_pair, n_pairs = np.unique(pairs.detection, return_inverse=True, return_counts=True)
    matched = np.full((len(ignored), len(thresholds), len(candidates)), -1, np.int32)
    if not len(candidates):
        return candidates.astype(np.int64), matched
    min_iou = np.minimum(thresholds, 1 - 1e-10)  # as in pycocotools
    groups = group[candidates]
    with_choice = np.zeros(groups.max() + 1, bool)
    with_choice[groups[n_pairs > 1]] = True  # groups in which a detection overlaps several objects
    contested = with_choice[groups][candidate_of_pair]
    _first_come(pairs, ~contested, candidate_of_pair, rank, crowd, min_iou, matched)
    _greedy(pairs, contested, candidate_of_pair, groups, rank[candidates], crowd, ignored, min_iou, matched)
    return candidates.astype(np.int64), matched


def _first_come(
    pairs: Pairs, part: Bools, candidate_of_pair: Ints, rank: Ints, crowd: Bools, min_iou: Floats, matched: Indices
) -> None:
    """Where no detection has a choice, views do not matter: the highest score with enough IoU takes the object."""
    rows = np.flatnonzero(part)
    rows = rows[np.lexsort((rank[pairs.detection[rows]], pairs.truth[rows]))]
    objects, candidates = pairs.truth[rows], candidate_of_pair[rows]
    enough = pairs.iou[rows] >= min_iou[:, None]  # (T, P)
    starts = np.flatnonzero(np.diff(objects, prepend=-1))
    if not len(starts):
        return
    position = np.where(enough, np.arange(len(rows), dtype=np.int32), np.int32(len(rows)))
    first = np.minimum.reduceat(position, starts, axis=1)  # (T, objects)
    t, which = np.nonzero(first < len(rows))
    first_row = first[t, which]
    matched[:, t, candidates[first_row]] = objects[first_row]
    t, row = np.nonzero(enough & crowd[objects])
    matched[:, t, candidates[row]] = objects[row]


def _greedy(
    pairs: Pairs,
    part: Bools,
    candidate_of_pair: Ints,
    groups: Ints,
    ranks: Ints,
    crowd: Bools,
    ignored: Bools,
    min_iou: Floats,
    matched: Indices,
) -> None:
    """The full rule, turn by turn: the k-th candidates of all groups choose at once, in all views."""
    rows = np.flatnonzero(part)
    if not len(rows):
        return
    columns = len(ignored) * len(min_iou)
    turn = _rank_in_group(groups, ranks)[candidate_of_pair[rows]]
    # within a detection the preferred object comes last: highest IoU, on a tie the later one, as in pycocotools
    order = np.lexsort((pairs.truth[rows], pairs.iou[rows], candidate_of_pair[rows], turn))
    rows, turns = rows[order], turn[order]
    candidates, objects, iou = candidate_of_pair[rows], pairs.truth[rows], pairs.iou[rows]
    distinct, object_index = np.unique(objects, return_inverse=True)
    bonus = np.where(ignored[:, distinct], np.int32(0), _REGULAR).T.repeat(len(min_iou), axis=1)  # (objects, V * T)
    free = np.ones((len(distinct), columns), bool)
    enough = np.tile(min_iou, len(ignored))
    result = np.full((len(ranks), columns), -1, np.int32)
    edges = np.searchsorted(turns, np.arange(turns[-1] + 2))
    for first, last in itertools.pairwise(edges.tolist()):
        if first == last:
            continue
        here = object_index[first:last]
        key = bonus[here] + np.arange(last - first, dtype=np.int32)[:, None]
        key[~(free[here] & (iou[first:last, None] >= enough))] = -1
        starts = np.flatnonzero(np.diff(candidates[first:last], prepend=-1))
        best = np.maximum.reduceat(key, starts, axis=0)  # (detections of this turn, V * T)
        row, column = np.nonzero(best >= 0)
        taken = here[best[row, column] & (_REGULAR - 1)]
        result[candidates[first:last][starts[row]], column] = distinct[taken]
        single = ~crowd[distinct[taken]]
        free[taken[single], column[single]] = False
    chosen = np.unique(candidates)
    matched[:, :, chosen] = result[chosen].T.reshape(len(ignored), len(min_iou), -1)


def _rank_in_group(group: Ints, rank: Ints) -> Ints:
    """(N,) position of each row within its group, by rank."""
    order = np.lexsort((rank, group))
    sorted_groups = group[order]
    first = np.searchsorted(sorted_groups, sorted_groups)
    positions = np.empty(len(group), np.int64)
    positions[order] = np.arange(len(group)) - first
    return positions
