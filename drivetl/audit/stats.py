"""Dataset statistics: sizes, aspect ratios, positions, objects per image, attributes."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Hashable, Iterable
from typing import Any

import numpy as np

from drivetl.audit.boxes import resize_scale
from drivetl.audit.findings import spread
from drivetl.audit.frames import objects_per_class, objects_per_image
from drivetl.audit.tables import Floats, Ints, Tables

SIZE_EDGES = np.array([2.0 ** (step / 2) for step in range(1, 22)])
"""px; half octaves from 1.4 to 1448."""
ASPECT_EDGES = np.array([2.0 ** (step / 4) for step in range(-16, 17)])
"""width / height from 1/16 to 16."""
GRID = (18, 36)
"""Rows and columns of the position map."""
_MAX_VALUES = 24
"""Attributes with more distinct values are measurements, not categories."""
_TOP = 12


def statistics(tables: Tables, min_size: float, max_size: float) -> dict[str, Any]:
    """All statistics as JSON-compatible values, from valid objects only; ignore regions are counted separately.

    min_size, max_size: short and long side of the model's resize, px."""
    objects = tables.objects()
    boxes, sizes = tables.boxes_xywh[objects], tables.image_wh[objects]
    classes = tables.category_ids[objects]
    side = np.sqrt(boxes[:, 2:].prod(axis=1)) * resize_scale(sizes, min_size, max_size)
    return {
        "overview": _overview(tables),
        "classes": _classes(tables),
        "size_px_after_resize": _histogram(tables, side, classes, SIZE_EDGES),
        "aspect_width_over_height": _histogram(tables, boxes[:, 2] / boxes[:, 3], classes, ASPECT_EDGES),
        "positions": _positions(boxes, sizes),
        "objects_per_image": _per_image(tables),
        "image_attributes": _image_attributes(tables),
        "object_attributes": _object_attributes(tables),
        "image_sizes": _top(f"{w:.0f} x {h:.0f}" for w, h in tables.sizes_wh if np.isfinite(w + h)),
        "drives": _top(name for name in tables.drives if name),
    }


def _overview(tables: Tables) -> dict[str, int]:
    regions = set()
    for row in np.flatnonzero(tables.crowd):
        attributes = tables.annotation_records[row].get("attributes")
        key = attributes.get("ignore_region") if isinstance(attributes, dict) else None
        unnamed = key is None or not isinstance(key, Hashable)
        regions.add((int(tables.image_rows[row]), f"unnamed {row}" if unnamed else key))
    return {
        "images": len(tables.image_records),
        "images_without_objects": int((objects_per_image(tables) == 0).sum()),
        "annotations": len(tables.annotation_records),
        "objects": int(tables.objects().sum()),
        "ignore_regions": len(regions),
        "classes": len(tables.names),
        "drives": len({name for name in tables.drives if name}),
    }


def _classes(tables: Tables) -> list[dict[str, Any]]:
    objects = tables.objects()
    rows = []
    for number, (name, count) in zip(sorted(tables.names), objects_per_class(tables).items(), strict=True):
        members = objects & (tables.category_ids == number)
        w, h = (np.median(tables.boxes_xywh[members, side]) if count else 0.0 for side in (2, 3))
        frames = len(np.unique(tables.image_rows[members]))
        rows.append(
            {
                "name": name,
                "objects": count,
                "images": frames,
                "median_width_px": round(float(w), 1),
                "median_height_px": round(float(h), 1),
            }
        )
    return rows


def _histogram(tables: Tables, values: Floats, classes: Ints, edges: Floats) -> dict[str, Any]:
    """Counts per class and bin, most frequent class first; values beyond the edges go to the outermost bins."""
    bins = np.clip(np.searchsorted(edges, values, "right") - 1, 0, len(edges) - 2)
    numbers, totals = np.unique(classes, return_counts=True)
    counts = {
        tables.name(number): np.bincount(bins[classes == number], minlength=len(edges) - 1).tolist()
        for number in numbers[np.argsort(-totals, kind="stable")]
    }
    return {"edges": [round(float(edge), 4) for edge in edges], "counts": counts}


def _positions(boxes: Floats, sizes: Floats) -> list[list[int]]:
    """(rows, columns) counts of box centres, in coordinates relative to the image size."""
    centres = (boxes[:, :2] + boxes[:, 2:] / 2) / sizes
    grid, _, _ = np.histogram2d(
        np.clip(centres[:, 1], 0, 1), np.clip(centres[:, 0], 0, 1), bins=GRID, range=[[0, 1], [0, 1]]
    )
    return [[int(count) for count in row] for row in grid]


def _per_image(tables: Tables) -> dict[str, Any]:
    counts = objects_per_image(tables)
    if not len(counts):
        return {"edges": [], "counts": [], "mean": 0.0, "max": 0}
    step = max(1, -(-(int(counts.max()) + 1) // 24))
    edges = np.arange(0, int(counts.max()) + 1 + step, step)
    return {
        "edges": edges.tolist(),
        "counts": np.histogram(counts, edges)[0].tolist(),
        "mean": round(float(counts.mean()), 3),
        "max": int(counts.max()),
    }


def _image_attributes(tables: Tables) -> dict[str, dict[str, dict[str, int]]]:
    """Attribute -> value -> {images, objects}."""
    objects = objects_per_image(tables)
    counts: dict[str, dict[str, list[int]]] = defaultdict(lambda: defaultdict(lambda: [0, 0]))
    for row, attributes in enumerate(tables.image_attributes):
        for key, value in attributes.items():
            if len(counts[key]) <= _MAX_VALUES and isinstance(value, str | int | bool):
                pair = counts[key][_short(value)]
                pair[0] += 1
                pair[1] += int(objects[row])
    return {
        key: {value: {"images": pair[0], "objects": pair[1]} for value, pair in sorted(values.items())}
        for key, values in sorted(counts.items())
        if 0 < len(values) <= _MAX_VALUES
    }


def _object_attributes(tables: Tables) -> dict[str, dict[str, int]]:
    """Attribute -> value -> number of objects, for attributes with few values."""
    records = [tables.annotation_records[row].get("attributes") for row in np.flatnonzero(tables.objects())]
    attributes = [record for record in records if isinstance(record, dict)]
    counts_of_attribute = {}
    for key in sorted(set().union(*attributes)):
        sample = [attributes[row].get(key) for row in spread(range(len(attributes)), 2000)]
        if len({_short(value) for value in sample}) > _MAX_VALUES + 1:  # a measurement: not counted
            continue
        values = (record.get(key) for record in attributes)
        counts: Counter[str] = Counter()
        for value, count in Counter(value for value in values if isinstance(value, str | int | float)).items():
            counts[_short(value)] += count
        if 0 < len(counts) <= _MAX_VALUES:
            counts_of_attribute[key] = dict(sorted(counts.items()))
    return counts_of_attribute


def _short(value: object) -> str:
    return str(value)[:60]


def _top(values: Iterable[str]) -> dict[str, Any]:
    """Number of distinct values, and the most frequent ones with their counts."""
    counts = Counter(values)
    ordered = sorted(counts.items(), key=lambda pair: (-pair[1], pair[0]))
    return {"different": len(counts), "most_frequent": dict(ordered[:_TOP])}
