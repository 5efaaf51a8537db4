"""AP of two detectors after exchanging their detections drive by drive: the permutations of the paired test."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from drivetl.coco.drives import Drives
from drivetl.errors import ConfigError
from drivetl.metrics import coco_ap
from drivetl.metrics.match_store import MatchStore, View
from drivetl.metrics.matching import Pairs
from drivetl.metrics.truth import Floats, GroundTruth, Ints

Flips = npt.NDArray[np.bool_]
"""(B, I) True where A and B are exchanged."""


def pooled(a: MatchStore, b: MatchStore) -> MatchStore:
    """One store with A's images 0..I-1 and B's I..2I-1, so that image weights select whose detections count.

    With weights (1 - s, s) its AP is that of a detector with B's detections where s is 1 and A's elsewhere.
    Raises ConfigError when the two were not matched to the same images and classes.
    """
    if (
        a.truth.categories != b.truth.categories
        or not np.array_equal(a.truth.image_ids, b.truth.image_ids)
        or len(a.truth.image) != len(b.truth.image)
        or len(a.views) != len(b.views)
    ):
        raise ConfigError("the two detectors were not measured on the same images and classes", remedy="use one --data")
    n = a.n_images
    object_order = np.lexsort((np.concatenate([a.truth.image, b.truth.image + n]), np.tile(a.truth.category, 2)))
    objects = _inverse(object_order)  # index in A + B -> new index
    image = np.concatenate([a.image, b.image])
    order = np.lexsort(
        (
            np.concatenate([a.rank, b.rank]),
            image,
            -np.concatenate([a.scores, b.scores]),
            np.concatenate([a.category, b.category]),
        )
    )
    new_index = _inverse(order)
    shifted = np.concatenate([a.image, b.image + n])
    both = [(a, 0, 0), (b, len(a.scores), len(a.truth.image))]
    candidates = np.concatenate([new_index[store.candidates + d] for store, d, _ in both])
    matched = np.concatenate(
        [np.where(store.matched >= 0, objects[store.matched + g], -1) for store, _, g in both], axis=2
    )
    ascending = np.argsort(candidates)
    category = np.concatenate([a.category, b.category])[order]
    return MatchStore(
        truth=_doubled(a.truth, object_order),
        image=shifted[order],
        category=category,
        rank=np.concatenate([a.rank, b.rank])[order],
        scores=np.concatenate([a.scores, b.scores])[order],
        boxes_xywh=np.concatenate([a.boxes_xywh, b.boxes_xywh])[order],
        area=np.concatenate([a.area, b.area])[order],
        source=np.concatenate([a.source, b.source])[order],
        pairs=_joined_pairs(a.pairs, b.pairs, new_index, objects, len(a.scores), len(a.truth.image)),
        views=[
            View(
                of_a.name,
                np.concatenate([of_a.truth_ignored, of_b.truth_ignored])[object_order],
                np.concatenate([of_a.detection_outside, of_b.detection_outside])[order],
            )
            for of_a, of_b in zip(a.views, b.views, strict=True)
        ],
        candidates=candidates[ascending],
        matched=matched[:, :, ascending].astype(np.int32),
        class_starts=np.searchsorted(category, np.arange(len(a.truth.categories) + 1)),
        iou_type=a.iou_type,
    )


def _inverse(order: Ints) -> Ints:
    inverse = np.empty(len(order), np.int64)
    inverse[order] = np.arange(len(order))
    return inverse


def _doubled(truth: GroundTruth, order: Ints) -> GroundTruth:
    image = np.concatenate([truth.image, truth.image + len(truth.image_ids)])
    return GroundTruth(
        categories=truth.categories,
        category_ids=truth.category_ids,
        image_ids=np.arange(2 * len(truth.image_ids)),
        image_hw=np.tile(truth.image_hw, (2, 1)),
        drives=Drives(truth.drives.names * 2),
        image_attributes=truth.image_attributes * 2,
        image=image[order],
        category=np.tile(truth.category, 2)[order],
        boxes_xywh=np.tile(truth.boxes_xywh, (2, 1))[order],
        area=np.tile(truth.area, 2)[order],
        crowd=np.tile(truth.crowd, 2)[order],
        attributes=[(truth.attributes * 2)[row] for row in order],
        segmentations=[None] * len(order),
    )


def _joined_pairs(a: Pairs, b: Pairs, new_index: Ints, objects: Ints, n_detections: int, n_objects: int) -> Pairs:
    detection = np.concatenate([new_index[a.detection], new_index[b.detection + n_detections]])
    truth = np.concatenate([objects[a.truth], objects[b.truth + n_objects]])
    order = np.lexsort((truth, detection))
    iou = np.concatenate([a.iou, b.iou])[order]
    return Pairs(detection[order].astype(np.int32), truth[order].astype(np.int32), iou)


def exchanged_ap(a: MatchStore, b: MatchStore, iou: float | None = None) -> Callable[[Flips], tuple[Floats, Floats]]:
    """A function: (B, I) flips -> (B,) AP of A and (B,) AP of B after the exchanges."""
    pool = pooled(a, b)

    def measure(flips: Flips) -> tuple[Floats, Floats]:
        flipped = flips.astype(np.float64)
        kept = 1.0 - flipped
        return (coco_ap.ap(pool, iou, np.hstack([kept, flipped])), coco_ap.ap(pool, iou, np.hstack([flipped, kept])))

    return measure
