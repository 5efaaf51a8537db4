"""Slices of real images by attribute: the detector in real rain or at real night, where the data has such labels.

Slices of real images are level L4. A slice of a condition attribute (`clean_slice`) differs from the clean slice in
that attribute alone and is measured against it; a slice of another attribute (scene, drive) contains all images with
that value and is measured against the largest slice. Two slices also differ in their scenes, so AP and recall are given
standardised to the reference's mix of classes and sizes too: a night does not look easy because it has fewer
pedestrians.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from drivetl.metrics import coco_ap
from drivetl.metrics.match_store import MatchStore
from drivetl.metrics.measures import ratio_interval
from drivetl.metrics.truth import Bools, Floats, GroundTruth
from drivetl.robustness.clean_slice import UNKNOWN, missing_attribute, value_of
from drivetl.robustness.score_cells import Document, interval

FEW_IMAGES, FEW_OBJECTS = 30, 50
"""A slice with fewer is shown in grey: its numbers are unreliable."""
_SIZES = ("small", "medium", "large")
"""COCO's size classes, views 1..3 of a match store."""


@dataclass(frozen=True, slots=True)
class Slice:
    """Images with one value of an attribute, and the images they are measured against."""

    attribute: str
    value: str
    images: Bools
    """(I,)"""
    reference: Bools
    """(I,) the clean slice, or the largest slice of the attribute."""
    against_clean: bool
    """Whether the reference is the clean slice."""

    @property
    def is_reference(self) -> bool:
        return bool((self.images == self.reference).all())


def slices_of(truth: GroundTruth, attributes: Sequence[str], clean: Mapping[str, str]) -> list[Slice]:
    """The slices of each attribute, its reference first, then by falling size.

    clean: condition attribute -> clean value. Raises ConfigError for an attribute that no image has.
    """
    values = {name: image_values(truth, name) for name in [*attributes, *clean]}
    slices = []
    for name in attributes:
        if (values[name] == UNKNOWN).all():
            raise missing_attribute(name, truth.image_attributes)
        others = {other: value for other, value in clean.items() if other != name} if name in clean else {}
        pure = _all_equal(values, others, len(truth.image_ids))
        labels, counts = np.unique(values[name][pure], return_counts=True)
        order = labels[np.lexsort((labels, -counts))].tolist()
        first = clean.get(name, order[0])
        reference = pure & (values[name] == first)
        slices += [
            Slice(name, label, pure & (values[name] == label), reference, name in clean)
            for label in [first, *(label for label in order if label != first)]
        ]
    return slices


def _all_equal(values: Mapping[str, npt.NDArray[np.str_]], required: Mapping[str, str], n: int) -> Bools:
    """(n,) images with the required value in every attribute."""
    chosen = np.ones(n, bool)
    for name, value in required.items():
        chosen &= values[name] == value
    return chosen


def image_values(truth: GroundTruth, name: str) -> npt.NDArray[np.str_]:
    """(I,) the attribute of each image as text; UNKNOWN where it has none."""
    rows = zip(truth.image_attributes, truth.drives.names, strict=True)
    return np.array([value_of(attributes, drive, name) for attributes, drive in rows], dtype=str)


def slice_row(
    store: MatchStore,
    part: Slice,
    thresholds: Floats,
    weights: Floats,
    iou: float | None,
    standardised: tuple[Floats, Floats],
) -> Document:
    """The row of one slice in results.json.

    weights: (B, I) bootstrap draws; iou: see `measures.METRICS`; standardised: the part's `slice_and_reference_ap`.
    """
    truth, real = store.truth, ~store.truth.crowd
    detected = store.detected_objects(thresholds)
    mask = part.images.astype(np.float64)
    total = np.bincount(truth.image[real], minlength=store.n_images) * mask
    hits = np.bincount(truth.image[real & detected], minlength=store.n_images) * mask
    n_images, n_objects = int(mask.sum()), int(total.sum())
    recall = ratio_interval(hits, total, weights)
    row: Document = {
        "attribute": part.attribute,
        "value": part.value,
        "reference": part.is_reference,
        "against_clean": part.against_clean,
        "images": n_images,
        "objects": n_objects,
        "drives": truth.drives.take(np.flatnonzero(mask)).n_drives,
        "small": n_images < FEW_IMAGES or n_objects < FEW_OBJECTS,
        "performance": interval(*_point_and_draws(coco_ap.ap(store, iou, _with_point(mask, weights)))),
        "recall": {"point": recall.point, "low": recall.low, "high": recall.high},
        "recall_standardised": standardised_recall(truth, detected, part.images, part.reference),
    }
    in_slice, in_reference = standardised
    with np.errstate(invalid="ignore", divide="ignore"):
        row["performance_standardised"] = interval(*_point_and_draws(in_slice))
        row["drop"] = interval(*_point_and_draws(in_reference - in_slice))
        row["kept"] = interval(*_point_and_draws(in_slice / in_reference))
    return row


def _with_point(mask: Floats, weights: Floats) -> Floats:
    """(1 + B, I) weights of the images of a mask: the mask itself for the point estimate, then the draws."""
    return np.vstack([mask[None], weights * mask])


def _point_and_draws(values: Floats) -> tuple[float, Floats]:
    return float(values[0]), values[1:]


def slice_and_reference_ap(store: MatchStore, part: Slice, weights: Floats, iou: float | None) -> tuple[Floats, Floats]:
    """(1 + B,) standardised AP of the slice and of its reference, at the same mix of classes and sizes."""
    in_slice = standardised_draws(store, part.images, part, weights, iou)
    if part.is_reference:
        return in_slice, in_slice
    return in_slice, standardised_draws(store, part.reference, part, weights, iou)


def standardised_draws(store: MatchStore, images: Bools, part: Slice, weights: Floats, iou: float | None) -> Floats:
    """(1 + B,) `standardised_ap` of some images at the mix of a slice: the point estimate, then the draws."""
    return standardised_ap(store, iou, _with_point(images.astype(np.float64), weights), class_and_size_mix(store, part))


def class_and_size_mix(store: MatchStore, part: Slice) -> Floats:
    """(K, 3) share of each class and COCO size among the reference's objects; 0 where the slice has no such object."""
    reference, own = _strata(store.truth, part.reference), _strata(store.truth, part.images)
    mix = np.where(own > 0, reference, 0.0)
    return mix / mix.sum() if mix.sum() else mix


def standardised_ap(store: MatchStore, iou: float | None, weights: Floats, mix: Floats) -> Floats:
    """(B,) AP within each class and COCO size, averaged with the weights of `mix` (K, 3).

    A slice with fewer small objects thus has no advantage. Strata without an object in a draw are left out of its
    mean; NaN when all are.
    """
    total, norm = np.zeros(len(weights)), np.zeros(len(weights))
    for size in range(len(_SIZES)):
        by_class = coco_ap.class_ap(store, iou, weights, view=1 + size)  # (B, K)
        known = ~np.isnan(by_class)
        total += np.where(known, by_class, 0.0) @ mix[:, size]
        norm += known @ mix[:, size]
    mean: Floats = np.full(len(weights), np.nan)
    np.divide(total, norm, out=mean, where=norm > 0)
    return mean


def _strata(truth: GroundTruth, images: Bools, objects: Bools | None = None) -> Floats:
    """(K, 3) number of objects of each class and COCO size in some images; objects: (G,) count these alone."""
    chosen = ~truth.crowd & images[truth.image] & (True if objects is None else objects)
    size = np.searchsorted([32.0**2, 96.0**2], truth.area[chosen])
    strata = truth.category[chosen] * len(_SIZES) + size
    counts = np.bincount(strata, minlength=len(_SIZES) * len(truth.categories))
    return counts.reshape(-1, len(_SIZES)).astype(np.float64)


def standardised_recall(truth: GroundTruth, detected: Bools, chosen: Bools, reference: Bools) -> float:
    """Recall in the chosen images, weighted to the mix of classes and COCO sizes of the reference images.

    detected: (G,); chosen, reference: (I,). Strata without an object in the chosen images are left out of the mix.
    """
    total, hits = _strata(truth, chosen), _strata(truth, chosen, detected)
    mix = np.where(total > 0, _strata(truth, reference), 0.0)
    if not mix.sum():
        return float("nan")
    recall = np.divide(hits, total, out=np.zeros_like(total), where=total > 0)
    return float((recall * mix).sum() / mix.sum())
