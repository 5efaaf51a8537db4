"""A rendered frame in Cityscapes format: polygons from back to front, each with its hidden parts."""

from __future__ import annotations

import json
from typing import Any

import cv2
import numpy as np

from drivetl.sample.camera import Array
from drivetl.sample.labels import SampleObject
from drivetl.sample.mesh import Material
from drivetl.sample.render import SampleFrame

LABELS = {
    "Car": "car",
    "Van": "car",
    "Truck": "truck",
    "Tram": "train",
    "Pedestrian": "person",
    "Person_sitting": "person",
    "Cyclist": "rider",
}
"""Cityscapes has no class for vans; here a rider's polygon includes the bicycle."""
GROUPS = {name: f"{name}group" for name in ("car", "truck", "person")} | {"tram": "traingroup", "bicycle": "ridergroup"}
ROAD = (Material.ROAD, Material.MARKING, Material.COBBLE)


def polygons(frame: SampleFrame) -> str:
    """The content of a `*_gtFine_polygons.json`."""
    height, width = frame.image.shape[:2]
    objects: list[dict[str, Any]] = []
    objects += _scenery("sky", frame.material == Material.SKY)
    objects += _scenery("road", np.isin(frame.material, ROAD))
    for group in frame.ignore:
        x1, y1, x2, y2 = (round(value) for value in group.box_xyxy)
        corners = [[x1, y1], [x2, y1], [x2, y2], [x1, y2]]
        objects.append({"label": GROUPS[group.kind], "polygon": corners})
    for item in frame.objects:
        outline = _outline(item)
        if outline is not None:
            objects.append({"label": LABELS[item.label], "polygon": outline})
    return json.dumps({"imgHeight": height, "imgWidth": width, "objects": objects}, indent=1) + "\n"


def _outline(item: SampleObject) -> list[list[int]] | None:
    """The largest outline of the object including hidden parts, in image px; None if it has none."""
    row, column = item.amodal_corner
    mask = np.pad(item.amodal_crop.astype(np.uint8), 2)
    outlines = _contours(np.asarray(cv2.morphologyEx(mask, cv2.MORPH_CLOSE, np.ones((3, 3), np.uint8))))
    if not outlines:
        return None
    return [[int(x) + column - 2, int(y) + row - 2] for x, y in outlines[0]]


def _contours(mask: Array) -> list[Array]:
    """(n, 2) outlines of at least three points, largest first."""
    contours, _ = cv2.findContours(mask, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE)
    contours = sorted(contours, key=cv2.contourArea, reverse=True)
    shapes = [cv2.approxPolyDP(contour, 0.6, True)[:, 0] for contour in contours]
    return [shape for shape in shapes if len(shape) >= 3]


def _scenery(label: str, mask: Array) -> list[dict[str, Any]]:
    """The largest connected part of a background label."""
    return [{"label": label, "polygon": shape.tolist()} for shape in _contours(mask.astype(np.uint8))[:1]]
