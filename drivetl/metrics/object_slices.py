"""Slices of the objects: recall (and AP where defined) by height, distance, occlusion, truncation or any attribute.

Recall is given for every slice. AP needs a slice for false positives too, so it is given for height alone: a detection
has a height in px, but no known distance or occlusion.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt

from drivetl.metrics.coco_ap import curves
from drivetl.metrics.match_store import MatchStore, View, rematch
from drivetl.metrics.measures import ratio_interval
from drivetl.metrics.statistics import Interval, draw_weights, draws_within
from drivetl.metrics.truth import Bools, Floats, GroundTruth

HEIGHT_EDGES_PX = (0.0, 25.0, 50.0, 100.0, np.inf)
DISTANCE_EDGES_M = (0.0, 15.0, 30.0, 50.0, np.inf)
TRUNCATION_EDGES = (0.0, 0.15, 0.30, 0.50, np.inf)


@dataclass(frozen=True, slots=True)
class SliceRow:
    """Recall and AP (0..1) of one slice of the objects."""

    slice: str
    """The attribute: height, distance, occlusion, ..."""
    bin: str
    """Its value or range, like `25-50 px`."""
    n_gt: int
    n_drives: int | None
    """Number of known drives with such objects; None where there are such objects and their drives are unknown."""
    recall: Interval
    """At the operating thresholds, with an interval over drives where enough of them have such objects."""
    ap: float
    """COCO AP, mean over classes; NaN for slices that false positives cannot be assigned to."""


def slice_rows(
    store: MatchStore, thresholds: Floats, attributes: Sequence[str] = (), n_draws: int = 500, seed: int = 0
) -> list[SliceRow]:
    """Rows by height, by distance, occlusion and truncation where the labels have them, and by further attributes.

    thresholds: (K,) operating thresholds; an object counts as detected at IoU 0.5 and at least that score.
    """
    truth = store.truth
    detected = store.detected_objects(thresholds)
    weights = draw_weights(store.units(), n_draws, seed)
    rows = _height_rows(store, detected, weights)
    labels_by_slice = {
        "distance": bin_labels(distances_m(truth), DISTANCE_EDGES_M, "m"),
        "occlusion": attribute_labels(truth, "occluded"),
        "truncation": bin_labels(_numbers(truth, "truncated"), TRUNCATION_EDGES, ""),
    } | {name: attribute_labels(truth, name) for name in attributes}
    for name, labels in labels_by_slice.items():
        rows += _recall_rows(store, name, labels, detected, weights)
    return rows


def distances_m(truth: GroundTruth) -> Floats:
    """(G,) distance along the camera's optical axis in m, from 3-D labels; NaN without such labels."""
    z = np.full(len(truth.image), np.nan)
    for row, attributes in enumerate(truth.attributes):
        location = attributes.get("location_xyz_m")
        if not isinstance(location, list | tuple) or len(location) != 3:
            continue
        if isinstance(location[2], int | float) and 0 < location[2] < 1e4:
            z[row] = location[2]
    return z


def bin_labels(values: Floats, edges: Sequence[float], unit: str) -> npt.NDArray[np.str_]:
    """(G,) name of the half-open bin of each value; '' where the value is NaN or outside."""
    names = np.array([*(_bin_name(a, b, unit) for a, b in pairwise(edges)), ""])
    index = np.searchsorted(edges, values, side="right") - 1
    unknown = np.isnan(values) | (index < 0) | (index >= len(edges) - 1)
    return np.asarray(names[np.where(unknown, len(edges) - 1, index)])


def _bin_name(low: float, high: float, unit: str) -> str:
    text = f"{low:g}+" if np.isinf(high) else f"{low:g}-{high:g}"
    return f"{text} {unit}".strip()


def attribute_labels(truth: GroundTruth, attribute: str) -> npt.NDArray[np.str_]:
    """(G,) an attribute of the object, else of its image, as text; '' where neither has it."""
    labels = []
    for own, image in zip(truth.attributes, truth.image, strict=True):
        value = own.get(attribute, truth.image_attributes[image].get(attribute))
        labels.append("" if value is None or isinstance(value, list | dict) else _text(value))
    return np.array(labels, dtype=str)


def _text(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)


def _numbers(truth: GroundTruth, attribute: str) -> Floats:
    values = (attributes.get(attribute) for attributes in truth.attributes)
    return np.array([float(value) if isinstance(value, int | float) else np.nan for value in values], np.float64)


def _recall_rows(
    store: MatchStore, name: str, labels: npt.NDArray[np.str_], detected: Bools, weights: Floats
) -> list[SliceRow]:
    real = ~store.truth.crowd
    names = [label for label in np.unique(labels[real]) if label]
    if len(names) < 2 and name in ("distance", "occlusion", "truncation"):
        return []
    names.sort(key=lambda label: (not label[0].isdigit(), _leading_number(label), label))
    return [_recall_row(store, name, label, real & (labels == label), detected, weights) for label in names]


def _leading_number(label: str) -> float:
    digits = label.split("-")[0].split("+")[0]
    return float(digits) if digits.replace(".", "", 1).isdigit() else 0.0


def _recall_row(
    store: MatchStore, name: str, label: str, objects: Bools, detected: Bools, weights: Floats, ap: float = float("nan")
) -> SliceRow:
    image, n = store.truth.image, store.n_images
    total = np.bincount(image[objects], minlength=n).astype(np.float64)
    hits = np.bincount(image[objects & detected], minlength=n).astype(np.float64)
    n_drives = store.truth.drives.take(np.flatnonzero(total)).n_drives
    recall = ratio_interval(hits, total, draws_within(weights, store.units(), total > 0))
    return SliceRow(name, label, int(total.sum()), n_drives, recall, ap)


def _height_rows(store: MatchStore, detected: Bools, weights: Floats) -> list[SliceRow]:
    """By box height in px, with AP: objects and false positives of another height are ignored."""
    truth = store.truth
    labels = bin_labels(truth.boxes_xywh[:, 3], HEIGHT_EDGES_PX, "px")
    of_detections = bin_labels(store.boxes_xywh[:, 3], HEIGHT_EDGES_PX, "px")
    names = [_bin_name(a, b, "px") for a, b in pairwise(HEIGHT_EDGES_PX)]
    names = [name for name in names if (~truth.crowd & (labels == name)).any()]
    if not names:
        return []
    views = [View(name, truth.crowd | (labels != name), of_detections != name) for name in names]
    precision, _ = curves(rematch(store, views), limits=(100,))
    rows = []
    for v, name in enumerate(names):
        known = precision[:, :, :, v, 0]
        known = known[known > -1]
        ap = float(known.mean()) if len(known) else float("nan")
        rows.append(_recall_row(store, "height", name, ~truth.crowd & (labels == name), detected, weights, ap))
    return rows
