"""Where it works and where it does not: found objects by height, distance, occlusion, or any attribute.

Recall is counted for every slice. AP only where a detection that matches nothing has a slice of its own (its height):
nobody knows how far away or how occluded an object is that is not there.
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
from drivetl.metrics.statistics import Interval, draw_weights, percentile_interval
from drivetl.metrics.truth import Floats, GroundTruth

HEIGHT_EDGES_PX = (0.0, 25.0, 50.0, 100.0, np.inf)
DISTANCE_EDGES_M = (0.0, 15.0, 30.0, 50.0, np.inf)
TRUNCATION_EDGES = (0.0, 0.15, 0.30, 0.50, np.inf)


@dataclass(frozen=True, slots=True)
class SliceRow:
    """One slice of the objects."""

    slice: str
    """What is sliced by: height, distance, occlusion, ..."""
    bin: str
    n_gt: int
    n_drives: int | None
    """Known drives that show such objects; None where there are some and their drives are unknown."""
    recall: Interval
    """At the operating threshold, with an interval over drives."""
    ap: float
    """COCO AP, mean over classes; NaN where detections cannot be placed in a slice."""


def slice_tables(
    store: MatchStore, score: Floats, attributes: Sequence[str] = (), n_draws: int = 500, seed: int = 0
) -> list[SliceRow]:
    """Rows for height, distance, occlusion and truncation where the labels tell them, and for named attributes.

    score: (K,) operating threshold per class; found means detected at IoU 0.5 and that score.
    """
    truth = store.truth
    found = store.found_truth(score)
    weights = draw_weights(store.units(), n_draws, seed)
    rows = _height_rows(store, found, weights)
    told = {
        "distance": binned(distances_m(truth), DISTANCE_EDGES_M, "m"),
        "occlusion": named(truth, "occluded"),
        "truncation": binned(_numbers(truth, "truncated"), TRUNCATION_EDGES, ""),
    } | {name: named(truth, name) for name in attributes}
    for name, labels in told.items():
        rows += _recall_rows(store, name, labels, found, weights)
    return rows


def distances_m(truth: GroundTruth) -> Floats:
    """(G,) distance along the camera's axis from 3-D labels; NaN where none is given."""
    z = np.full(len(truth.image), np.nan)
    for row, said in enumerate(truth.attributes):
        location = said.get("location_xyz_m")
        if not isinstance(location, list | tuple) or len(location) != 3:
            continue
        if isinstance(location[2], int | float) and 0 < location[2] < 1e4:
            z[row] = location[2]
    return z


def binned(values: Floats, edges: Sequence[float], unit: str) -> npt.NDArray[np.str_]:
    """(G,) names of half-open bins, '' where the value is unknown or outside."""
    names = np.array([*(_bin_name(a, b, unit) for a, b in pairwise(edges)), ""])
    place = np.searchsorted(edges, values, side="right") - 1
    unknown = np.isnan(values) | (place < 0) | (place >= len(edges) - 1)
    return np.asarray(names[np.where(unknown, len(edges) - 1, place)])


def _bin_name(low: float, high: float, unit: str) -> str:
    text = f"{low:g}+" if np.isinf(high) else f"{low:g}-{high:g}"
    return f"{text} {unit}".strip()


def named(truth: GroundTruth, attribute: str) -> npt.NDArray[np.str_]:
    """(G,) an attribute of the object, else of its image, as text; '' where neither tells it."""
    found = []
    for said, image in zip(truth.attributes, truth.image, strict=True):
        value = said.get(attribute, truth.image_attributes[image].get(attribute))
        found.append("" if value is None or isinstance(value, list | dict) else _text(value))
    return np.array(found, dtype=str)


def _text(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)


def _numbers(truth: GroundTruth, attribute: str) -> Floats:
    values = (said.get(attribute) for said in truth.attributes)
    return np.array([float(value) if isinstance(value, int | float) else np.nan for value in values], np.float64)


def _recall_rows(
    store: MatchStore, name: str, labels: npt.NDArray[np.str_], found: npt.NDArray[np.bool_], weights: Floats
) -> list[SliceRow]:
    real = ~store.truth.crowd
    names = [label for label in np.unique(labels[real]) if label]
    if len(names) < 2 and name in ("distance", "occlusion", "truncation"):
        return []
    names.sort(key=lambda label: (not label[0].isdigit(), _leading_number(label), label))
    return [_recall_row(store, name, label, real & (labels == label), found, weights) for label in names]


def _leading_number(label: str) -> float:
    digits = label.split("-")[0].split("+")[0]
    return float(digits) if digits.replace(".", "", 1).isdigit() else 0.0


def _recall_row(
    store: MatchStore,
    name: str,
    label: str,
    chosen: npt.NDArray[np.bool_],
    found: npt.NDArray[np.bool_],
    weights: Floats,
    ap: float = float("nan"),
) -> SliceRow:
    image, n = store.truth.image, store.n_images
    total = np.bincount(image[chosen], minlength=n).astype(np.float64)
    hits = np.bincount(image[chosen & found], minlength=n).astype(np.float64)
    n_gt = int(total.sum())
    draws: Floats = np.full(len(weights), np.nan)
    np.divide(weights @ hits, weights @ total, out=draws, where=weights @ total > 0)
    recall = percentile_interval(draws, float(hits.sum()) / n_gt if n_gt else float("nan"))
    return SliceRow(name, label, n_gt, store.truth.drives.take(np.flatnonzero(total)).n_drives, recall, ap)


def _height_rows(store: MatchStore, found: npt.NDArray[np.bool_], weights: Floats) -> list[SliceRow]:
    """By the height of the box in px, which detections have too: AP ignores what is of another height."""
    truth = store.truth
    labels = binned(truth.boxes_xywh[:, 3], HEIGHT_EDGES_PX, "px")
    of_detections = binned(store.boxes_xywh[:, 3], HEIGHT_EDGES_PX, "px")
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
        rows.append(_recall_row(store, "height", name, ~truth.crowd & (labels == name), found, weights, ap))
    return rows
