"""Exact labels of a frame: boxes, masks, truncation, occlusion, 3-D fields, and groups too small to label."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from drivetl.sample.camera import Array, Camera
from drivetl.sample.canvas import Canvas, Painted
from drivetl.sample.stage import Staged

Box = tuple[float, float, float, float]

MIN_HEIGHT_PX = 20.0
"""Smaller objects (at scale 1) are not labelled individually; scaled images use at least MIN_HEIGHT_SCALED_PX."""
MIN_HEIGHT_SCALED_PX = 9.0
MAX_DISTANCE_M = 90.0
SLIVER = (0.9, 0.05)
"""Truncation above the first and width below the second (fraction of the image width): DontCare instead of a label."""
MIN_VISIBLE = 0.06
"""Objects with a smaller visible fraction are not labelled at all."""
OCCLUSION_LEVELS = (0.85, 0.50, 0.15)
"""Minimum visible fractions of KITTI's levels 0 (fully visible), 1 (partly occluded), 2 (largely occluded); else 3."""
GROUPS = {
    "Car": "car",
    "Van": "car",
    "Truck": "truck",
    "Tram": "tram",
    "Pedestrian": "person",
    "Person_sitting": "person",
    "Cyclist": "bicycle",
}


@dataclass(slots=True)
class SampleObject:
    """One labelled object. Boxes are (x1, y1, x2, y2) continuous px."""

    label: str
    """One of `towns.CLASSES`."""
    track_id: int
    box_xyxy: Box
    """The whole projection including hidden parts, clipped to the image."""
    visible_box_xyxy: Box
    """Tight box around the visible pixels."""
    truncation: float
    """Fraction of the projection's box outside the image, 0..1."""
    occlusion: int
    """KITTI level 0..3, from `visible`."""
    visible: float
    """Visible fraction of its pixels inside the image, 0..1."""
    dimensions_hwl: tuple[float, float, float]
    """metres"""
    location_xyz: tuple[float, float, float]
    """Bottom centre in camera coordinates, metres."""
    rotation_y: float
    alpha: float
    mask_crop: Array
    """bool, visible pixels within the visible box"""
    amodal_crop: Array
    """bool, all its pixels inside the image including hidden ones; starts at `amodal_corner`"""
    amodal_corner: tuple[int, int]
    """(row, column)"""
    image_hw: tuple[int, int]

    @property
    def mask(self) -> Array:
        """(H, W) bool: visible pixels."""
        full = np.zeros(self.image_hw, bool)
        x, y = int(self.visible_box_xyxy[0]), int(self.visible_box_xyxy[1])
        rows, columns = self.mask_crop.shape
        full[y : y + rows, x : x + columns] = self.mask_crop
        return full


@dataclass(frozen=True, slots=True)
class SampleIgnore:
    """A DontCare box around a group of objects too small to label."""

    box_xyxy: Box
    kind: str
    """Most frequent type: car, truck, tram, person or bicycle."""
    members: int


def min_height_px(scale: float) -> float:
    """Minimum object height in px for a label, for images of this scale."""
    return max(MIN_HEIGHT_PX * scale, MIN_HEIGHT_SCALED_PX)


def occlusion_level(visible: float) -> int:
    """KITTI's occlusion level (0..3) for a visible fraction."""
    return sum(visible < bound for bound in OCCLUSION_LEVELS)


def truncation(box: Sequence[float], width: int, height: int) -> float:
    """Fraction of an unclipped xyxy px box outside the image."""
    x1, y1, x2, y2 = box
    inside = max(min(x2, width) - max(x1, 0.0), 0.0) * max(min(y2, height) - max(y1, 0.0), 0.0)
    whole = (x2 - x1) * (y2 - y1)
    return float(min(max(1 - inside / whole, 0.0), 1.0)) if whole > 0 else 1.0


def label_frame(
    camera: Camera, staged: Sequence[Staged], painted: Mapping[int, Painted], canvas: Canvas, ids: Array, scale: float
) -> tuple[list[SampleObject], list[SampleIgnore]]:
    """Labelled objects (far to near) and DontCare groups of a frame.

    `ids`: (H, W) layer indices at image size; the canvas's own buffer has twice that size."""
    objects: list[SampleObject] = []
    small: list[tuple[Box, str]] = []
    for index in sorted(painted, key=lambda i: (-staged[i].z, i)):
        item, projection = staged[index], painted[index]
        pixels = _visible_pixels(projection, canvas, ids)
        if pixels is None or projection.box is None or projection.amodal is None:
            continue
        crop, corner, visible = pixels
        x, y = corner[1], corner[0]
        box = (float(x), float(y), float(x + crop.shape[1]), float(y + crop.shape[0]))
        height_px = float(projection.box[3] - projection.box[1])
        sliver = _is_sliver(_limit_overhang(projection.box, camera), camera)
        if height_px < min_height_px(scale) or item.z > MAX_DISTANCE_M or sliver:
            small.append((box, GROUPS[item.actor.kind]))
        elif visible >= MIN_VISIBLE and int(crop.sum()) >= max(4.0, 24 * scale * scale):
            objects.append(_object(item, projection, camera, crop, box, visible))
    labelled = [item.box_xyxy for item in objects]
    return objects, cluster(small, labelled, camera.width, camera.height)


def _visible_pixels(projection: Painted, canvas: Canvas, ids: Array) -> tuple[Array, tuple[int, int], float] | None:
    """Tight bool crop of the visible pixels, its (row, column), and the visible fraction; None if it is hidden."""
    if projection.amodal is None or not projection.amodal.size:
        return None
    row, column = projection.corner
    rows, columns = projection.amodal.shape
    whole = int(np.count_nonzero(projection.amodal))
    if not whole:
        return None
    buffer = canvas.ids[row : row + rows, column : column + columns]
    visible = int(np.count_nonzero((buffer >= projection.first_id) & (buffer < projection.last_id)))
    y0, x0 = row // 2, column // 2
    crop = ids[y0 : y0 + (rows + 1) // 2, x0 : x0 + (columns + 1) // 2]
    inside = (crop >= projection.first_id) & (crop < projection.last_id)
    r, c = np.flatnonzero(inside.any(axis=1)), np.flatnonzero(inside.any(axis=0))
    if not len(r):
        return None
    tight = inside[r[0] : r[-1] + 1, c[0] : c[-1] + 1]
    return tight, (y0 + int(r[0]), x0 + int(c[0])), visible / whole


def _object(
    item: Staged, projection: Painted, camera: Camera, crop: Array, visible_box: Box, visible: float
) -> SampleObject:
    assert projection.box is not None and projection.amodal is not None
    whole = _limit_overhang(projection.box, camera)
    x1, y1, x2, y2 = whole
    clipped = (max(x1, 0.0), max(y1, 0.0), min(x2, float(camera.width)), min(y2, float(camera.height)))
    location = camera.to_camera(np.array([[item.pose.x, item.pose.y, item.pose.z]]))[0]
    rotation_y = _wrapped(item.pose.heading - camera.yaw_rad - math.pi / 2)
    alpha = _wrapped(rotation_y - math.atan2(float(location[0]), float(location[2])))
    amodal = projection.amodal
    if min(amodal.shape) > 1:  # the buffer has twice the image size
        amodal = amodal[::2, ::2] | amodal[1::2, 1::2]
    return SampleObject(
        label=item.actor.kind,
        track_id=item.actor.track_id,
        box_xyxy=clipped,
        visible_box_xyxy=visible_box,
        truncation=truncation(whole, camera.width, camera.height),
        occlusion=occlusion_level(visible),
        visible=min(visible, 1.0),
        dimensions_hwl=item.actor.size_hwl,
        location_xyz=(float(location[0]), float(location[1]), float(location[2])),
        rotation_y=rotation_y,
        alpha=alpha,
        mask_crop=crop,
        amodal_crop=amodal,
        amodal_corner=(projection.corner[0] // 2, projection.corner[1] // 2),
        image_hw=(camera.height, camera.width),
    )


def _is_sliver(box: Box, camera: Camera) -> bool:
    """Whether only a narrow strip of the object is inside the image."""
    width = min(box[2], float(camera.width)) - max(box[0], 0.0)
    return truncation(box, camera.width, camera.height) > SLIVER[0] and width < SLIVER[1] * camera.width


def _limit_overhang(box: Array, camera: Camera) -> Box:
    """Clip a box at one image size beyond each edge: close to the camera, projections reach thousands of px outside."""
    w, h = float(camera.width), float(camera.height)
    return (max(float(box[0]), -w), max(float(box[1]), -h), min(float(box[2]), 2 * w), min(float(box[3]), 2 * h))


def _union(a: Box, b: Box) -> Box:
    """The bounding box of two boxes."""
    return min(a[0], b[0]), min(a[1], b[1]), max(a[2], b[2]), max(a[3], b[3])


def _wrapped(angle: float) -> float:
    """Angle in radians -> [-pi, pi)."""
    return (angle + math.pi) % (2 * math.pi) - math.pi


def cluster(boxes: Sequence[tuple[Box, str]], labelled: Sequence[Box], width: int, height: int) -> list[SampleIgnore]:
    """Merge neighbouring small boxes to DontCare groups, but never so that a group covers half of a labelled box.

    boxes: (xyxy px, type) of objects too small to label; labelled: boxes of labelled objects; width, height: of the
    image, px.
    """
    groups: list[tuple[Box, list[str]]] = []
    for box, kind in sorted(boxes):
        merged, kinds = box, [kind]
        again = True
        while again:
            again = False
            for other in groups:
                both = _union(merged, other[0])
                if _near(merged, other[0]) and not any(_covers_half(both, item) for item in labelled):
                    groups.remove(other)
                    merged, kinds, again = both, kinds + other[1], True
                    break
        groups.append((merged, kinds))
    ignored = []
    for (x1, y1, x2, y2), kinds in sorted(groups):
        if len(kinds) == 1 and (y2 - y1) * (x2 - x1) < 9:
            continue
        box = (max(x1 - 1, 0.0), max(y1 - 1, 0.0), min(x2 + 1, float(width)), min(y2 + 1, float(height)))
        ignored.append(SampleIgnore(box, max(sorted(set(kinds)), key=kinds.count), len(kinds)))
    return ignored


def _covers_half(group: Box, box: Box) -> bool:
    """Whether at least half of the box is inside the group."""
    across = min(group[2], box[2]) - max(group[0], box[0])
    down = min(group[3], box[3]) - max(group[1], box[1])
    return across > 0 and down > 0 and 2 * across * down >= (box[2] - box[0]) * (box[3] - box[1])


def _near(a: Box, b: Box) -> bool:
    """Whether the gap between two boxes is less than the height of the smaller one (plus 2 px)."""
    gap = min(a[3] - a[1], b[3] - b[1]) + 2
    return a[0] - gap < b[2] and b[0] - gap < a[2] and a[1] - 3 < b[3] and b[1] - 3 < a[3]
