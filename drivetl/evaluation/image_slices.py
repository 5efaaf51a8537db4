"""Slices of the images themselves: how the detector does in real rain or at real night, where the data says so.

A slice of real images is level L4. AP of a slice is the AP on its images; recall is also given standardised: the
slice's recall per class and size, weighted by the mix of the largest slice, so that a night is not called easy
because fewer people walk in it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from drivetl.errors import ConfigError
from drivetl.evaluation import coco_ap
from drivetl.evaluation.ground_truth import Bools, Floats, GroundTruth
from drivetl.evaluation.measures import ratio_interval
from drivetl.evaluation.statistics import percentile_interval
from drivetl.evaluation.store import MatchStore

FEW_IMAGES, FEW_OBJECTS = 30, 50
"""A slice with fewer is shown in grey: its numbers are anecdotes."""
UNKNOWN = "(not given)"


def attribute_slices(
    store: MatchStore, thresholds: Floats, weights: Floats, attributes: Sequence[str]
) -> list[dict[str, Any]]:
    """One row per value of each image attribute (`sequence` too), the largest slice first.

    weights: (B, I) bootstrap draws. Raises ConfigError for an attribute that no image has.
    """
    rows: list[dict[str, Any]] = []
    for name in attributes:
        values = image_values(store.truth, name)
        if (values == UNKNOWN).all():
            known = sorted({key for said in store.truth.image_attributes for key in said} | {"sequence"})
            raise ConfigError(f"no image has the attribute {name!r} - the data knows {', '.join(known)}")
        labels, counts = np.unique(values, return_counts=True)
        order = np.lexsort((labels, -counts))
        reference = values == labels[order[0]]
        rows += [
            _row(store, thresholds, weights, name, str(labels[place]), values == labels[place], reference)
            for place in order
        ]
    return rows


def image_values(truth: GroundTruth, name: str) -> npt.NDArray[np.str_]:
    """(I,) the attribute of each image as text; UNKNOWN where it is not given."""
    if name == "sequence":
        return np.array([value or UNKNOWN for value in truth.sequences], dtype=str)
    said = (attributes.get(name) for attributes in truth.image_attributes)
    return np.array([UNKNOWN if value is None or value == "" else str(value) for value in said], dtype=str)


def _row(
    store: MatchStore,
    thresholds: Floats,
    weights: Floats,
    name: str,
    label: str,
    chosen: Bools,
    reference: Bools,
) -> dict[str, Any]:
    truth, real = store.truth, ~store.truth.crowd
    found = store.found_truth(thresholds)
    mask = chosen.astype(np.float64)
    total = np.bincount(truth.image[real], minlength=store.n_images) * mask
    hits = np.bincount(truth.image[real & found], minlength=store.n_images) * mask
    units = truth.units()
    n_images, n_objects = int(chosen.sum()), int(total.sum())
    ap = percentile_interval(
        coco_ap.ap(store, None, weights * mask), float(coco_ap.ap(store, None, mask[None])[0])
    )
    recall = ratio_interval(hits, total, weights)
    return {
        "attribute": name,
        "value": label,
        "images": n_images,
        "objects": n_objects,
        "drives": len({units[place] for place in np.flatnonzero(chosen)}),
        "small": n_images < FEW_IMAGES or n_objects < FEW_OBJECTS,
        "AP": {"point": ap.point, "low": ap.low, "high": ap.high},
        "recall": {"point": recall.point, "low": recall.low, "high": recall.high},
        "recall_standardised": standardised(truth, found, chosen, reference),
    }


def standardised(truth: GroundTruth, found: Bools, chosen: Bools, reference: Bools) -> float:
    """Recall in the chosen images, weighted to the reference's mix of classes and COCO sizes.

    Strata without an object in the chosen images are left out of the mix.
    """
    size = np.searchsorted([32.0**2, 96.0**2], truth.area)
    stratum = truth.category * 3 + size
    n = 3 * len(truth.categories)
    real = ~truth.crowd
    here, there = real & chosen[truth.image], real & reference[truth.image]
    total = np.bincount(stratum[here], minlength=n)
    hits = np.bincount(stratum[here & found], minlength=n)
    mix = np.bincount(stratum[there], minlength=n) * (total > 0)
    if not mix.sum():
        return float("nan")
    recall = np.divide(hits, total, out=np.zeros(n), where=total > 0)
    return float((recall * mix).sum() / mix.sum())
