"""Label quality of one image from a detector's boxes, after ObjectLab (Tkachenko, Thyagarajan and Mueller 2023,
arXiv:2309.00832): overlooked, swapped and badly located, each from 0 (certainly wrong) to 1 (nothing speaks against
it).

The three kinds, the similarity of boxes (overlap and distance), the softmin over an image's boxes and the geometric
mean over the kinds follow ObjectLab. Different here, because streets are crowded and a detector is rarely sure: the
distance of two boxes is relative to their size; confidence weighs every score instead of two thresholds alone; a
detection that one label has to itself speaks about no other label's place; a class is doubted by the margin over the
label's own class; a detection near a label of any class is less of an overlooked object. docs/results.md has both.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import prod

import numpy as np
import numpy.typing as npt

from drivetl.coco.boxes import area, intersection

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

IOU_SHARE = 0.9
"""Weight of the IoU in the similarity; the rest is the distance of the centres."""
TEMPERATURE = 0.1
"""Of the softmin over the boxes of an image: the smaller, the closer to the minimum."""
NO_EVIDENCE = -1


@dataclass(frozen=True, slots=True)
class Boxes:
    """The labels or the detections of one image; N may be 0."""

    xyxy: Floats
    """(N, 4) px."""
    classes: Ints
    """(N,) category ids."""
    confidence: Floats
    """(N,) 0..1; 1 for labels."""


@dataclass(frozen=True, slots=True)
class Scores:
    """Quality of N boxes, and for each the box that speaks against it."""

    quality: Floats
    """(N,) 0..1; 1 where nothing speaks against it, NaN where the box is not scored."""
    evidence: Ints
    """(N,) index of the detection (of the nearest label, for an overlooked object); NO_EVIDENCE for none."""


def iou(a: Floats, b: Floats) -> Floats:
    """(N, 4) and (M, 4) xyxy -> (N, M) intersection over union; 0 where both boxes are empty."""
    shared = intersection(a, b)
    union = area(a)[:, None] + area(b)[None] - shared
    return np.asarray(np.divide(shared, union, out=np.zeros_like(shared), where=union > 0))


def similarity(a: Floats, b: Floats) -> Floats:
    """(N, 4) and (M, 4) xyxy -> (N, M) in 0..1: IOU_SHARE * IoU + (1 - IOU_SHARE) * exp(-d).

    d: distance of the centres over the mean of the two diagonals.
    """
    centres = [(boxes[:, :2] + boxes[:, 2:]) / 2 for boxes in (a, b)]
    diagonals = [np.hypot(*(boxes[:, 2:] - boxes[:, :2]).T) for boxes in (a, b)]
    apart = np.linalg.norm(centres[0][:, None] - centres[1][None], axis=-1)
    size = (diagonals[0][:, None] + diagonals[1][None]) / 2
    distance = np.divide(apart, size, out=np.full_like(apart, np.inf), where=size > 0)
    return np.asarray(IOU_SHARE * iou(a, b) + (1 - IOU_SHARE) * np.exp(-distance))


def assign(labels: Boxes, detections: Boxes, min_iou: float) -> Ints:
    """(L,) index of the detection of its class that each label has to itself; NO_EVIDENCE for none.

    Pairs are taken by falling similarity, from an IoU of `min_iou` on; of equal ones that of the higher confidence.
    """
    own = np.full(len(labels.classes), NO_EVIDENCE, np.int64)
    taken = np.zeros(len(detections.classes), bool)
    fit = similarity(labels.xyxy, detections.xyxy)
    allowed = (labels.classes[:, None] == detections.classes[None]) & (iou(labels.xyxy, detections.xyxy) >= min_iou)
    rows, columns = np.nonzero(allowed)
    for pair in np.lexsort((columns, rows, -detections.confidence[columns], -fit[rows, columns])):
        label, detection = rows[pair], columns[pair]
        if own[label] == NO_EVIDENCE and not taken[detection]:
            own[label], taken[detection] = detection, True
    return own


def badly_located(labels: Boxes, detections: Boxes, own: Ints, least: float, min_iou: float) -> Scores:
    """1 - confidence * (1 - similarity) of each label and the detection that it has to itself, where that has a
    confidence of `least` and an IoU of `min_iou` or more: with less it may be another object."""
    quality, evidence = np.ones(len(own)), np.full(len(own), NO_EVIDENCE, np.int64)
    if not len(own) or not len(detections.classes):
        return Scores(quality, evidence)
    rows = np.arange(len(own))
    overlap, fit = (measure(labels.xyxy, detections.xyxy)[rows, own] for measure in (iou, similarity))
    sure = (own != NO_EVIDENCE) & (detections.confidence[own] >= least) & (overlap >= min_iou)
    quality[sure] = 1 - detections.confidence[own[sure]] * (1 - fit[sure])
    evidence[sure] = own[sure]
    return Scores(quality, evidence)


def swapped(labels: Boxes, detections: Boxes) -> Scores:
    """1 - the highest confidence * similarity of a detection of another class, plus the highest of one of the label's
    own class; at most 1. Only detections that overlap the label count."""
    n_labels = len(labels.classes)
    if not n_labels or not len(detections.classes):
        return Scores(np.ones(n_labels), np.full(n_labels, NO_EVIDENCE, np.int64))
    overlap = iou(labels.xyxy, detections.xyxy) > 0
    weighted = np.where(overlap, similarity(labels.xyxy, detections.xyxy) * detections.confidence, 0.0)
    same = labels.classes[:, None] == detections.classes[None]
    against = np.where(same, 0.0, weighted)
    best = np.argmax(against, axis=1)
    worst = against[np.arange(n_labels), best]
    support = np.where(same, weighted, 0.0).max(axis=1)
    return Scores(np.clip(1 - worst + support, 0.0, 1.0), np.where(worst > 0, best, NO_EVIDENCE))


def overlooked(labels: Boxes, detections: Boxes, own: Ints, least: float) -> Scores:
    """1 - confidence * (1 - similarity to the nearest label of any class), of each detection of a confidence of `least`
    or more that no label has to itself; NaN for the others."""
    n_detections = len(detections.classes)
    quality, nearest = np.full(n_detections, np.nan), np.full(n_detections, NO_EVIDENCE, np.int64)
    free = detections.confidence >= least
    free[own[own != NO_EVIDENCE]] = False
    fit = np.zeros(n_detections)
    if len(labels.classes) and n_detections:
        similar = similarity(labels.xyxy, detections.xyxy)
        overlap = iou(labels.xyxy, detections.xyxy) > 0
        nearest = np.where(overlap.any(axis=0), np.argmax(similar, axis=0), NO_EVIDENCE)
        fit = np.where(overlap, similar, 0.0).max(axis=0)
    quality[free] = 1 - detections.confidence[free] * (1 - fit[free])
    return Scores(quality, np.where(free, nearest, NO_EVIDENCE))


def softmin(quality: Floats, temperature: float = TEMPERATURE) -> float:
    """(N,) scores of an image's boxes -> one, close to the lowest: the mean weighted by exp((1 - score) / temperature).

    NaN are left out; 1 where nothing is left.
    """
    known = quality[~np.isnan(quality)]
    if not len(known):
        return 1.0
    weights = np.exp((known.min() - known) / temperature)  # the largest weight is 1: no overflow
    return float((known * weights).sum() / weights.sum())


def image_quality(of_kinds: list[Floats]) -> float:
    """The geometric mean over the kinds of the softmin of each one's scores."""
    return prod(softmin(quality) for quality in of_kinds) ** (1 / len(of_kinds))
