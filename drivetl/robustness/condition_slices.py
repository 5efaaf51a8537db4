"""Slices of the images themselves: how the detector does in real rain or at real night, where the data says so.

A slice of real images is level L4. A slice of a condition attribute (`clean_slice`) differs from the clean slice in
that attribute alone and is measured against it; a slice of another attribute (scene, drive) holds all images of
that value and is measured against the largest. Whoever compares two slices compares other streets as well: therefore
AP and recall are also given at the reference's mix of classes and sizes, so that a night is not called easy because
fewer people walk in it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from drivetl.errors import ConfigError
from drivetl.metrics import coco_ap
from drivetl.metrics.match_store import MatchStore
from drivetl.metrics.measures import ratio_interval
from drivetl.metrics.truth import Bools, Floats, GroundTruth
from drivetl.robustness.clean_slice import UNKNOWN, value_of
from drivetl.robustness.score_cells import Document, interval

FEW_IMAGES, FEW_OBJECTS = 30, 50
"""A slice with fewer is shown in grey: its numbers are anecdotes."""
_SIZES = ("small", "medium", "large")
"""COCO's; views 1..3 of a match store."""


@dataclass(frozen=True, slots=True)
class Slice:
    """Images with one value of an attribute, and what they are measured against."""

    attribute: str
    value: str
    images: Bools
    """(I,)"""
    reference: Bools
    """(I,) the clean slice, or the largest slice of the attribute."""
    against_clean: bool

    @property
    def is_reference(self) -> bool:
        return bool((self.images == self.reference).all())


def slices_of(truth: GroundTruth, attributes: Sequence[str], clean: Mapping[str, str]) -> list[Slice]:
    """The slices of each attribute, its reference first, then by falling size. Raises ConfigError for an attribute
    that no image has."""
    values = {name: image_values(truth, name) for name in [*attributes, *clean]}
    found = []
    for name in attributes:
        if (values[name] == UNKNOWN).all():
            known = sorted({key for said in truth.image_attributes for key in said} | {"sequence"})
            raise ConfigError(f"no image has the attribute {name!r}", remedy=f"the data knows {', '.join(known)}")
        others = {other: value for other, value in clean.items() if other != name} if name in clean else {}
        pure = _all_equal(values, others, len(truth.image_ids))
        labels, counts = np.unique(values[name][pure], return_counts=True)
        order = labels[np.lexsort((labels, -counts))].tolist()
        first = clean.get(name, order[0])
        reference = pure & (values[name] == first)
        found += [
            Slice(name, label, pure & (values[name] == label), reference, name in clean)
            for label in [first, *(one for one in order if one != first)]
        ]
    return found


def _all_equal(values: Mapping[str, npt.NDArray[np.str_]], wanted: Mapping[str, str], n: int) -> Bools:
    chosen = np.ones(n, bool)
    for name, value in wanted.items():
        chosen &= values[name] == value
    return chosen


def image_values(truth: GroundTruth, name: str) -> npt.NDArray[np.str_]:
    """(I,) the attribute of each image as text; UNKNOWN where it is not given."""
    rows = zip(truth.image_attributes, truth.drives.names, strict=True)
    return np.array([value_of(said, drive, name) for said, drive in rows], dtype=str)


def slice_row(
    store: MatchStore, part: Slice, thresholds: Floats, weights: Floats, iou: float | None, mixed: tuple[Floats, Floats]
) -> Document:
    """What one slice measures. weights: (B, I) bootstrap draws; iou: None for COCO's ten (`measures.METRICS`);
    mixed: `slice_and_reference` of them."""
    truth, real = store.truth, ~store.truth.crowd
    found = store.found_truth(thresholds)
    mask = part.images.astype(np.float64)
    total = np.bincount(truth.image[real], minlength=store.n_images) * mask
    hits = np.bincount(truth.image[real & found], minlength=store.n_images) * mask
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
        "recall_standardised": standardised(truth, found, part.images, part.reference),
    }
    here, there = mixed
    with np.errstate(invalid="ignore", divide="ignore"):
        row["performance_standardised"] = interval(*_point_and_draws(here))
        row["drop"] = interval(*_point_and_draws(there - here))
        row["kept"] = interval(*_point_and_draws(here / there))
    return row


def _with_point(mask: Floats, weights: Floats) -> Floats:
    """(1 + B, I) the mask itself, then every draw of it."""
    return np.vstack([mask[None], weights * mask])


def _point_and_draws(values: Floats) -> tuple[float, Floats]:
    return float(values[0]), values[1:]


def slice_and_reference(store: MatchStore, part: Slice, weights: Floats, iou: float | None) -> tuple[Floats, Floats]:
    """(1 + B,) AP of the slice and of what it is measured against, both at the slice's mix."""
    here = mixed_draws(store, part.images, part, weights, iou)
    return here, here if part.is_reference else mixed_draws(store, part.reference, part, weights, iou)


def mixed_draws(store: MatchStore, images: Bools, part: Slice, weights: Floats, iou: float | None) -> Floats:
    """(1 + B,) `mixed_ap` of some images at the slice's mix: the point estimate, then the draws."""
    return mixed_ap(store, iou, _with_point(images.astype(np.float64), weights), class_and_size_mix(store, part))


def class_and_size_mix(store: MatchStore, part: Slice) -> Floats:
    """(K, 3) share of each class and COCO size among the reference's objects; 0 where the slice has none of them."""
    there, here = _strata(store.truth, part.reference), _strata(store.truth, part.images)
    mix = np.where(here > 0, there, 0.0)
    return mix / mix.sum() if mix.sum() else mix


def mixed_ap(store: MatchStore, iou: float | None, weights: Floats, mix: Floats) -> Floats:
    """(B,) AP within each class and COCO size, averaged with the weights of `mix` (K, 3): a slice with fewer small
    objects gains nothing by that. Strata without an object in a draw are left out of its mean; NaN when all are."""
    total, norm = np.zeros(len(weights)), np.zeros(len(weights))
    for size in range(len(_SIZES)):
        each = coco_ap.class_ap(store, iou, weights, view=1 + size)  # (B, K)
        known = ~np.isnan(each)
        total += np.where(known, each, 0.0) @ mix[:, size]
        norm += known @ mix[:, size]
    found: Floats = np.full(len(weights), np.nan)
    np.divide(total, norm, out=found, where=norm > 0)
    return found


def _strata(truth: GroundTruth, images: Bools, objects: Bools | None = None) -> Floats:
    """(K, 3) objects of each class and COCO size in some images."""
    chosen = ~truth.crowd & images[truth.image] & (True if objects is None else objects)
    size = np.searchsorted([32.0**2, 96.0**2], truth.area[chosen])
    places = truth.category[chosen] * len(_SIZES) + size
    counts = np.bincount(places, minlength=len(_SIZES) * len(truth.categories))
    return counts.reshape(-1, len(_SIZES)).astype(np.float64)


def standardised(truth: GroundTruth, found: Bools, chosen: Bools, reference: Bools) -> float:
    """Recall in the chosen images, weighted to the reference's mix of classes and COCO sizes.

    Strata without an object in the chosen images are left out of the mix.
    """
    total, hits = _strata(truth, chosen), _strata(truth, chosen, found)
    mix = np.where(total > 0, _strata(truth, reference), 0.0)
    if not mix.sum():
        return float("nan")
    recall = np.divide(hits, total, out=np.zeros_like(total), where=total > 0)
    return float((recall * mix).sum() / mix.sum())
