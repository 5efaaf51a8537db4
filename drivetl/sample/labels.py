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
"""Smaller objects (at scale 1) are not labelled one by one; a scaled picture keeps at least MIN_HEIGHT_SCALED_PX."""
MIN_HEIGHT_SCALED_PX = 9.0
MAX_DISTANCE_M = 90.0
SLIVER = (0.9, 0.05)
"""Truncated by more than this and narrower than this share of the image: a DontCare box instead of a label."""
MIN_VISIBLE = 0.06
"""Objects of which less can be seen are not labelled at all."""
OCCLUSION_LEVELS = (0.85, 0.50, 0.15)
"""Visible shares of KITTI's levels 0 (fully visible), 1 (partly occluded), 2 (largely occluded); below: 3."""
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
    """The whole projection, hidden parts included, clipped to the image."""
    visible_box_xyxy: Box
    """Tight around the visible pixels."""
    truncation: float
    """Share of the projection's box outside the image, 0..1."""
    occlusion: int
    """KITTI level 0..3, from `visible`."""
    visible: float
    """Share of its pixels inside the image that nothing hides."""
    dimensions_hwl: tuple[float, float, float]
    """metres"""
    location_xyz: tuple[float, float, float]
    """Middle of its foot in camera metres."""
    rotation_y: float
    alpha: float
    mask_crop: Array
    """bool, visible pixels within the visible box"""
    amodal_crop: Array
    """bool, all its pixels inside the image, from `amodal_corner` on"""
    amodal_corner: tuple[int, int]
    """(row, column)"""
    image_hw: tuple[int, int]

    @property
    def mask(self) -> Array:
        """(H, W) bool: the visible pixels."""
        full = np.zeros(self.image_hw, bool)
        x, y = int(self.visible_box_xyxy[0]), int(self.visible_box_xyxy[1])
        rows, columns = self.mask_crop.shape
        full[y : y + rows, x : x + columns] = self.mask_crop
        return full


@dataclass(frozen=True, slots=True)
class SampleIgnore:
    """A group of far objects in one DontCare box."""

    box_xyxy: Box
    kind: str
    """car, truck, tram, person or bicycle: what most of it is"""
    members: int


def min_height_px(scale: float) -> float:
    """The label threshold for a picture of this scale."""
    return max(MIN_HEIGHT_PX * scale, MIN_HEIGHT_SCALED_PX)


def occlusion_level(visible: float) -> int:
    """KITTI's level of a visible share."""
    return sum(visible < bound for bound in OCCLUSION_LEVELS)


def truncation(box: Sequence[float], width: int, height: int) -> float:
    """Share of an unclipped box that lies outside the image."""
    x1, y1, x2, y2 = box
    inside = max(min(x2, width) - max(x1, 0.0), 0.0) * max(min(y2, height) - max(y1, 0.0), 0.0)
    whole = (x2 - x1) * (y2 - y1)
    return float(min(max(1 - inside / whole, 0.0), 1.0)) if whole > 0 else 1.0


def label_frame(
    camera: Camera, staged: Sequence[Staged], painted: Mapping[int, Painted], canvas: Canvas, ids: Array, scale: float
) -> tuple[list[SampleObject], list[SampleIgnore]]:
    """Labels from what the painter left: `ids` (H, W) at image size, the canvas's own buffer at twice that."""
    objects: list[SampleObject] = []
    small: list[tuple[Box, str]] = []
    for index in sorted(painted, key=lambda i: (-staged[i].z, i)):
        item, mark = staged[index], painted[index]
        seen = _seen(mark, canvas, ids)
        if seen is None or mark.box is None or mark.amodal is None:
            continue
        crop, corner, share = seen
        x, y = corner[1], corner[0]
        box = (float(x), float(y), float(x + crop.shape[1]), float(y + crop.shape[0]))
        tall = float(mark.box[3] - mark.box[1])
        sliver = _is_sliver(_within_reach(mark.box, camera), camera)
        if tall < min_height_px(scale) or item.z > MAX_DISTANCE_M or sliver:
            small.append((box, GROUPS[item.actor.kind]))
        elif share >= MIN_VISIBLE and int(crop.sum()) >= max(4.0, 24 * scale * scale):
            objects.append(_object(item, mark, camera, crop, box, share))
    labelled = [item.box_xyxy for item in objects]
    return objects, cluster(small, labelled, camera.width, camera.height)


def _seen(mark: Painted, canvas: Canvas, ids: Array) -> tuple[Array, tuple[int, int], float] | None:
    """Visible pixels as a tight crop, its (row, column), and the visible share; None when nothing is left."""
    if mark.amodal is None or not mark.amodal.size:
        return None
    row, column = mark.corner
    rows, columns = mark.amodal.shape
    whole = int(np.count_nonzero(mark.amodal))
    if not whole:
        return None
    buffer = canvas.ids[row : row + rows, column : column + columns]
    left = int(np.count_nonzero((buffer >= mark.first_id) & (buffer < mark.last_id)))
    y0, x0 = row // 2, column // 2
    crop = ids[y0 : y0 + (rows + 1) // 2, x0 : x0 + (columns + 1) // 2]
    inside = (crop >= mark.first_id) & (crop < mark.last_id)
    r, c = np.flatnonzero(inside.any(axis=1)), np.flatnonzero(inside.any(axis=0))
    if not len(r):
        return None
    tight = inside[r[0] : r[-1] + 1, c[0] : c[-1] + 1]
    return tight, (y0 + int(r[0]), x0 + int(c[0])), left / whole


def _object(item: Staged, mark: Painted, camera: Camera, crop: Array, visible_box: Box, share: float) -> SampleObject:
    assert mark.box is not None and mark.amodal is not None
    whole = _within_reach(mark.box, camera)
    x1, y1, x2, y2 = whole
    clipped = (max(x1, 0.0), max(y1, 0.0), min(x2, float(camera.width)), min(y2, float(camera.height)))
    location = camera.to_camera(np.array([[item.pose.x, item.pose.y, item.pose.z]]))[0]
    turn = _wrapped(item.pose.heading - camera.yaw_rad - math.pi / 2)
    alpha = _wrapped(turn - math.atan2(float(location[0]), float(location[2])))
    amodal = mark.amodal[::2, ::2] | mark.amodal[1::2, 1::2] if min(mark.amodal.shape) > 1 else mark.amodal
    return SampleObject(
        item.actor.kind,
        item.actor.track_id,
        clipped,
        visible_box,
        truncation(whole, camera.width, camera.height),
        occlusion_level(share),
        min(share, 1.0),
        item.actor.size_hwl,
        (float(location[0]), float(location[1]), float(location[2])),
        turn,
        alpha,
        crop,
        amodal,
        (mark.corner[0] // 2, mark.corner[1] // 2),
        (camera.height, camera.width),
    )


def _is_sliver(box: Box, camera: Camera) -> bool:
    width = min(box[2], float(camera.width)) - max(box[0], 0.0)
    return truncation(box, camera.width, camera.height) > SLIVER[0] and width < SLIVER[1] * camera.width


def _within_reach(box: Array, camera: Camera) -> Box:
    """A projection that runs on for thousands of px beside the lens is cut at one image size beyond the edge."""
    w, h = float(camera.width), float(camera.height)
    return (max(float(box[0]), -w), max(float(box[1]), -h), min(float(box[2]), 2 * w), min(float(box[3]), 2 * h))


def _joined(a: Box, b: Box) -> Box:
    """The box around two."""
    return min(a[0], b[0]), min(a[1], b[1]), max(a[2], b[2]), max(a[3], b[3])


def _wrapped(angle: float) -> float:
    """To [-pi, pi)."""
    return (angle + math.pi) % (2 * math.pi) - math.pi


def cluster(boxes: Sequence[tuple[Box, str]], labelled: Sequence[Box], width: int, height: int) -> list[SampleIgnore]:
    """Join small boxes that lie next to each other to DontCare groups, but never so that a group hides a labelled
    box."""
    groups: list[tuple[Box, list[str]]] = []
    for box, kind in sorted(boxes):
        merged, kinds = box, [kind]
        again = True
        while again:
            again = False
            for other in groups:
                both = _joined(merged, other[0])
                if _near(merged, other[0]) and not any(_hides(both, item) for item in labelled):
                    groups.remove(other)
                    merged, kinds, again = both, kinds + other[1], True
                    break
        groups.append((merged, kinds))
    found = []
    for (x1, y1, x2, y2), kinds in sorted(groups):
        if len(kinds) == 1 and (y2 - y1) * (x2 - x1) < 9:
            continue
        box = (max(x1 - 1, 0.0), max(y1 - 1, 0.0), min(x2 + 1, float(width)), min(y2 + 1, float(height)))
        found.append(SampleIgnore(box, max(sorted(set(kinds)), key=kinds.count), len(kinds)))
    return found


def _hides(group: Box, box: Box) -> bool:
    """Half of the box or more lies in the group."""
    across = min(group[2], box[2]) - max(group[0], box[0])
    down = min(group[3], box[3]) - max(group[1], box[1])
    return across > 0 and down > 0 and 2 * across * down >= (box[2] - box[0]) * (box[3] - box[1])


def _near(a: Box, b: Box) -> bool:
    """The gap is under the height of the lower one."""
    gap = min(a[3] - a[1], b[3] - b[1]) + 2
    return a[0] - gap < b[2] and b[0] - gap < a[2] and a[1] - 3 < b[3] and b[1] - 3 < a[3]
