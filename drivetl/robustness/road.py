"""What a drop in AP means on the road: where recall halves, which objects are lost, and which are in the car's path."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from drivetl.conditions import CATALOG, Cell, cell_name
from drivetl.metrics.measures import Measure, ratio_draws, ratio_interval
from drivetl.metrics.object_slices import HEIGHT_EDGES_PX, bin_labels, distances_m
from drivetl.metrics.truth import Bools, Floats, GroundTruth

REACTION_S, BRAKING_M_S2 = 1.0, 6.0
IN_PATH_M = 2.0
"""Objects whose centre is nearer than this to the camera's optical axis count as in the path."""
SPEEDS_KMH = (50, 100)


def stopping_distance_m(speed_kmh: float) -> float:
    """v t + v^2 / 2a with a reaction time of 1 s and 6 m/s^2 of braking: 30 m at 50 km/h, 92 m at 100 km/h."""
    speed = speed_kmh / 3.6
    return speed * REACTION_S + speed**2 / (2 * BRAKING_M_S2)


def half_recall(condition: str, clean: Floats, by_severity: Mapping[int, Floats]) -> dict[str, Any]:
    """Where on the condition's axis recall falls to half of the clean recall; see `crossing`."""
    return crossing(condition, clean / 2, by_severity)


def crossing(condition: str, target: Floats, by_severity: Mapping[int, Floats]) -> dict[str, Any]:
    """Where on the condition's axis a measure falls to a target.

    target and each severity: (1 + B,), the point estimate, then the bootstrap draws. Interpolation between severities
    is linear in the measure and logarithmic in the axis where it is positive. `state`: reached, before (already at the
    mildest severity run), beyond (not even at the strongest) or unknown. `mild`, `strong`: the ends of the interval,
    the milder condition first; None where an end lies outside the severities run.
    """
    severities = sorted(by_severity)
    curve = np.stack([by_severity[severity] for severity in severities])  # (S, 1 + B)
    with np.errstate(invalid="ignore", divide="ignore"):
        below = curve <= target
        first = np.where(below.any(axis=0), below.argmax(axis=0), len(severities))
        position = first.astype(np.float64)
        inner = (first > 0) & (first < len(severities))
        column = np.flatnonzero(inner)
        upper, lower = curve[first[inner] - 1, column], curve[first[inner], column]
        position[inner] -= 1 - (upper - target[inner]) / (upper - lower)
    position[first == 0] = -1.0
    usable = ~np.isnan(target) & ~np.isnan(curve).any(axis=0)
    known = position[1:][usable[1:]]
    unit = {"parameter": CATALOG[condition].unit[0], "unit": CATALOG[condition].unit[1]}
    if not len(known) or not usable[0] or not target[0]:
        return unit | {"state": "unknown", "value": None, "mild": None, "strong": None}
    axis = np.array([CATALOG[condition].axis[severity - 1] for severity in severities])
    mild, strong = (_on_axis(float(end), axis) for end in np.percentile(known, [2.5, 97.5], method="nearest"))
    state = "before" if first[0] == 0 else "beyond" if first[0] == len(severities) else "reached"
    return unit | {"state": state, "value": _on_axis(float(position[0]), axis), "mild": mild, "strong": strong}


def _on_axis(position: float, axis: Floats) -> float | None:
    """The axis value at a fractional position among the severities; None outside."""
    if not 0 <= position <= len(axis) - 1:
        return None
    positions = np.arange(len(axis), dtype=np.float64)
    if (axis > 0).all():
        return float(np.exp(np.interp(position, positions, np.log(axis))))
    return float(np.interp(position, positions, axis))


def survival(truth: GroundTruth, clean: Bools, detected: Bools, weights: Floats) -> dict[str, Any]:
    """Of the objects detected on clean images, the share that is still detected; clean, detected: (G,)."""
    before = clean & ~truth.crowd
    n = len(truth.image_ids)
    kept = np.bincount(truth.image[before & detected], minlength=n).astype(np.float64)
    total = np.bincount(truth.image[before], minlength=n).astype(np.float64)
    interval = ratio_interval(kept, total, weights)
    return {"point": interval.point, "low": interval.low, "high": interval.high}


def in_path(truth: GroundTruth, clean: Bools, detected: Mapping[Cell, Bools]) -> list[dict[str, Any]]:
    """Share of missed objects within stopping distance and 2 m of the optical axis, by speed; empty without 3-D labels.

    clean, detected: (G,) objects detected on clean images and in each cell.
    """
    z = distances_m(truth)
    x = np.array(
        [
            float(attributes["location_xyz_m"][0]) if known else np.nan
            for attributes, known in zip(truth.attributes, ~np.isnan(z), strict=True)
        ]
    )
    rows = []
    for speed in SPEEDS_KMH:
        reach = stopping_distance_m(speed)
        with np.errstate(invalid="ignore"):
            inside = ~truth.crowd & (z < reach) & (np.abs(x) < IN_PATH_M)
        if inside.any():
            missed = {cell_name(cell): float(1 - hit[inside].mean()) for cell, hit in detected.items()}
            rows.append(
                {
                    "speed_kmh": speed,
                    "distance_m": reach,
                    "n": int(inside.sum()),
                    "missed_clean": float(1 - clean[inside].mean()),
                    "missed": missed,
                }
            )
    return rows


def fragile_groups(truth: GroundTruth, clean: Bools, detected: Mapping[Cell, Bools]) -> list[dict[str, Any]]:
    """Mean survival over the cells by class and by height, the most fragile class first."""
    before = clean & ~truth.crowd
    kept = np.mean(list(detected.values()), axis=0) if detected else np.zeros(len(before))
    classes = np.array([truth.categories[k] for k in truth.category], dtype=str)
    heights = bin_labels(truth.boxes_xywh[:, 3], HEIGHT_EDGES_PX, "px")
    rows = []
    for kind, labels in (("class", classes), ("height", heights)):
        for label in dict.fromkeys(labels[np.argsort(truth.boxes_xywh[:, 3], kind="stable")].tolist()):
            group = before & (labels == label)
            if label and group.any():
                rows.append({"by": kind, "group": label, "n": int(group.sum()), "survival": float(kept[group].mean())})
    return sorted(rows, key=lambda row: (row["by"], row["survival"] if row["by"] == "class" else 0))


def fragile_objects(
    truth: GroundTruth, clean: Bools, detected: Mapping[Cell, Bools], limit: int = 12
) -> list[dict[str, Any]]:
    """The objects detected on clean images that are lost in most cells; ties by height, tallest first."""
    if not detected:
        return []
    lost = np.mean([~hit for hit in detected.values()], axis=0)
    chosen = np.flatnonzero(clean & ~truth.crowd & (lost > 0))
    height = truth.boxes_xywh[chosen, 3]
    order = chosen[np.lexsort((chosen, -height, -lost[chosen]))][:limit]
    distance = distances_m(truth)
    return [
        {
            "image_id": int(truth.image_ids[truth.image[row]]),
            "file_name": truth.file_names[truth.image[row]],
            "class": truth.categories[truth.category[row]],
            "bbox": truth.boxes_xywh[row].tolist(),
            "distance_m": float(distance[row]),
            "lost_share": float(lost[row]),
            "n_cells": len(detected),
        }
        for row in order
    ]


def worst_frames(
    truth: GroundTruth, clean: Bools, detected: Mapping[Cell, Bools], limit: int = 12
) -> list[dict[str, Any]]:
    """The images that lose the most objects, each in the cell where it loses the most."""
    before = clean & ~truth.crowd
    n = len(truth.image_ids)
    cells = list(detected)
    if not cells or not n:
        return []
    lost = np.stack([np.bincount(truth.image[before & ~detected[cell]], minlength=n) for cell in cells])  # (C, I)
    worst_cell = lost.argmax(axis=0)
    n_clean = np.bincount(truth.image[before], minlength=n)
    order = np.lexsort((np.arange(n), n_clean, -lost.max(axis=0)))[:limit]
    return [
        {
            "image_id": int(truth.image_ids[i]),
            "file_name": truth.file_names[i],
            "condition": cells[worst_cell[i]][0],
            "severity": cells[worst_cell[i]][1],
            "lost": int(lost[worst_cell[i], i]),
            "found_clean": int(n_clean[i]),
        }
        for i in order.tolist()
        if lost[worst_cell[i], i]
    ]


def recall_draws(measure: Measure, truth: GroundTruth, weights: Floats) -> Floats:
    """(1 + B,) recall at the operating point: the point estimate, then the draws."""
    n = len(truth.image_ids)
    total = np.bincount(truth.image[~truth.crowd], minlength=n).astype(np.float64)
    return ratio_draws(measure.hits, total, np.vstack([np.ones((1, n)), weights]))


def severity_shown(severities: Sequence[int]) -> int:
    """The severity that example images are shown at: 3, or the one nearest to it."""
    return min(severities, key=lambda severity: (abs(severity - 3), severity))
