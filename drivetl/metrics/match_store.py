"""The match store: detections matched to objects once, at all IoU thresholds; every metric reads from it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from drivetl.coco.records import Dataset
from drivetl.errors import ConfigError
from drivetl.metrics import matching
from drivetl.metrics.matching import Pairs
from drivetl.metrics.results import Results, check_results, from_records
from drivetl.metrics.truth import Bools, Floats, GroundTruth, Ints, from_coco, from_dataset

IOU_THRESHOLDS: Floats = np.linspace(0.5, 0.95, 10)
RECALL_THRESHOLDS: Floats = np.linspace(0.0, 1.0, 101)
MAX_DETECTIONS = (1, 10, 100)
AREA_RANGES_PX2 = {"all": (0.0, 1e10), "small": (0.0, 32.0**2), "medium": (32.0**2, 96.0**2), "large": (96.0**2, 1e10)}
"""Name -> (lowest, highest) area in px^2, both inclusive as in COCO."""


@dataclass(slots=True)
class View:
    """The objects and detections that a metric counts; the others are ignored, neither right nor wrong."""

    name: str
    truth_ignored: Bools
    """(G,) objects that do not count (ignore regions among them)."""
    detection_outside: Bools
    """(D,) unmatched detections that do not count as false positives."""


@dataclass(slots=True)
class MatchStore:
    """Detections in evaluation order (class, falling score, image, rank) and the object each is matched to."""

    truth: GroundTruth
    image: Ints
    """(D,) index into truth.image_ids."""
    category: Ints
    """(D,) index into truth.category_ids; ascending."""
    rank: npt.NDArray[np.int32]
    """(D,) rank by score within (image, class), 0..99."""
    scores: Floats
    """(D,)"""
    boxes_xywh: Floats
    """(D, 4) px."""
    area: Floats
    """(D,) px^2; of the mask when masks are matched."""
    source: Ints
    """(D,) index into the results that were matched."""
    pairs: Pairs
    """All (detection, object) of one class with IoU of at least 0.5."""
    views: list[View]
    """V views; from `match`, COCO's area ranges: all, small, medium, large."""
    candidates: Ints
    """(C,) detections that overlap an object, ascending; all others are unmatched in every view."""
    matched: npt.NDArray[np.int32]
    """(V, T, C) the object matched to each candidate, -1 for none."""
    class_starts: Ints
    """(K + 1,) detections of class k are [starts[k], starts[k + 1])."""
    iou_type: str = "bbox"
    """What was matched: bbox or segm."""
    dropped_unlabelled: int = 0
    """Detections left out because their class is not labelled in their image."""

    @property
    def n_images(self) -> int:
        return len(self.truth.image_ids)

    def units(self) -> tuple[int, ...]:
        """(I,) resampling unit of each image, in the store's image order: see `Drives.units`."""
        return self.truth.drives.units()

    def match_of(self, threshold: int = 0, view: int = 0) -> npt.NDArray[np.int32]:
        """(D,) the object matched to each detection at IOU_THRESHOLDS[threshold], -1 for none."""
        match = np.full(len(self.scores), -1, np.int32)
        match[self.candidates] = self.matched[view, threshold]
        return match

    def tp_and_ignored(self, threshold: int = 0, view: int = 0) -> tuple[Bools, Bools]:
        """(D,) true positives, (D,) ignored detections; the others are false positives."""
        match, part = self.match_of(threshold, view), self.views[view]
        on_ignored = part.truth_ignored[match] & (match >= 0) if len(part.truth_ignored) else match >= 0
        ignored = on_ignored | ((match < 0) & part.detection_outside)
        return (match >= 0) & ~on_ignored, ignored

    def iou_of_match(self, threshold: int = 0, view: int = 0) -> Floats:
        """(D,) IoU with the matched object; 0 without one."""
        match = self.match_of(threshold, view)
        hit = match[self.pairs.detection] == self.pairs.truth
        iou = np.zeros(len(self.scores))
        iou[self.pairs.detection[hit]] = self.pairs.iou[hit]
        return iou

    def detected_objects(self, score: Floats | float, threshold: int = 0) -> Bools:
        """(G,) objects with a true positive that scores at least `score`: one number, or (K,) one per class."""
        tp, _ = self.tp_and_ignored(threshold)
        min_score = np.broadcast_to(np.asarray(score, np.float64), len(self.truth.category_ids))
        used = tp & (self.scores >= min_score[self.category])
        detected = np.zeros(len(self.truth.image), bool)
        detected[self.match_of(threshold)[used]] = True
        return detected


def match(
    truth: GroundTruth | Dataset | Mapping[str, Any],
    results: Results | Sequence[Mapping[str, Any]],
    iou_type: str = "bbox",
    max_detections: int = MAX_DETECTIONS[-1],
) -> MatchStore:
    """Match detections to objects by COCO's rule at all ten IoU thresholds and four area ranges.

    truth: columns, a Dataset, or a COCO document (a dict); results: columns or a COCO results list.
    Raises DataError for invalid detections (see `check_results`), ConfigError for an unknown `iou_type`.
    """
    if iou_type not in ("bbox", "segm"):
        raise ConfigError(f"iou_type {iou_type!r} is unknown", remedy="choose bbox or segm")
    truth = _columns_of(truth)
    detections = results if isinstance(results, Results) else from_records(results)
    check_results(detections, truth)
    image = np.searchsorted(truth.image_ids, detections.image_id)
    category = np.searchsorted(truth.category_ids, detections.category_id)
    kept, rank = _evaluation_order(image, category, detections.scores, truth, max_detections)
    image, category, boxes = image[kept], category[kept], detections.boxes_xywh[kept]
    area, pairs = _overlaps(truth, detections, kept, image, category, boxes, iou_type)
    views = _area_views(truth, area)
    group = category * len(truth.image_ids) + image
    candidates, matched = matching.assign(
        pairs, group, rank, truth.crowd, np.stack([view.truth_ignored for view in views]), IOU_THRESHOLDS
    )
    return MatchStore(
        truth,
        image,
        category,
        rank.astype(np.int32),
        detections.scores[kept],
        boxes,
        area,
        kept,
        pairs,
        views,
        candidates,
        matched,
        np.searchsorted(category, np.arange(len(truth.category_ids) + 1)),
        iou_type,
        _count_unlabelled(truth, detections),
    )


def rematch(store: MatchStore, views: list[View]) -> MatchStore:
    """The same detections matched under other views (by height, distance, occlusion), without recomputing overlaps."""
    group = store.category * store.n_images + store.image
    ignored = np.stack([view.truth_ignored for view in views])
    candidates, matched = matching.assign(
        store.pairs, group, store.rank.astype(np.int64), store.truth.crowd, ignored, IOU_THRESHOLDS
    )
    return replace(store, views=views, candidates=candidates, matched=matched)


def _columns_of(truth: GroundTruth | Dataset | Mapping[str, Any]) -> GroundTruth:
    if isinstance(truth, GroundTruth):
        return truth
    return from_dataset(truth) if isinstance(truth, Dataset) else from_coco(truth)


def _evaluation_order(image: Ints, category: Ints, scores: Floats, truth: GroundTruth, limit: int) -> tuple[Ints, Ints]:
    """Indices sorted by class, falling score and image, as in pycocotools, and the rank of each in its (image, class).

    Only the best `limit` of an (image, class) are kept. Equal scores keep their order.
    """
    images, classes = _narrow(image, len(truth.image_ids)), _narrow(category, len(truth.category_ids))
    order = np.argsort(images, kind="stable")
    order = order[np.argsort(-scores[order], kind="stable")]
    order = order[np.argsort(classes[order], kind="stable")]
    if truth.unlabelled is not None:
        order = order[~truth.unlabelled[image[order], category[order]]]
    by_group = np.argsort(images[order], kind="stable")
    by_group = by_group[np.argsort(classes[order][by_group], kind="stable")]
    keys = (category * len(truth.image_ids) + image)[order][by_group]
    rank = np.empty(len(order), np.int64)
    rank[by_group] = np.arange(len(order)) - np.searchsorted(keys, keys)
    kept = rank < limit
    return order[kept], rank[kept]


def _narrow(values: Ints, size: int) -> npt.NDArray[Any]:
    """The same as uint16 where that suffices: numpy sorts uint16 by radix, ten times faster."""
    return values.astype(np.uint16) if size <= 1 << 16 else values


def _count_unlabelled(truth: GroundTruth, detections: Results) -> int:
    if truth.unlabelled is None:
        return 0
    image = np.searchsorted(truth.image_ids, detections.image_id)
    category = np.searchsorted(truth.category_ids, detections.category_id)
    return int(truth.unlabelled[image, category].sum())


def _overlaps(
    truth: GroundTruth, detections: Results, kept: Ints, image: Ints, category: Ints, boxes: Floats, iou_type: str
) -> tuple[Floats, Pairs]:
    """(D,) areas of the detections in px^2, and the pairs with an IoU of at least 0.5."""
    group = category * len(truth.image_ids) + image
    starts, ends = truth.group_starts[group], truth.group_starts[group + 1]
    min_iou = float(IOU_THRESHOLDS[0])
    if iou_type == "bbox":
        pairs = matching.box_pairs(boxes, starts, ends, truth.boxes_xywh, truth.crowd, min_iou)
        return boxes[:, 2] * boxes[:, 3], pairs
    rles = matching.detection_rles(detections.where(kept).segmentations, truth, image, kept)
    pairs = matching.mask_pairs(rles, starts, ends, matching.truth_rles(truth), truth.crowd, min_iou)
    return matching.mask_areas(rles), pairs


def _area_views(truth: GroundTruth, area: Floats) -> list[View]:
    return [
        View(name, truth.crowd | (truth.area < low) | (truth.area > high), (area < low) | (area > high))
        for name, (low, high) in AREA_RANGES_PX2.items()
    ]
