"""The street: a slightly curved centre line, and the ground with its markings.

Street coordinates are (x, s): metres right of the centre line and metres along it. The centre line is an arc that
starts at the world's origin and looks along +z.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from drivetl.sample.camera import Array
from drivetl.sample.mesh import Colour, Material, Piece, Pose
from drivetl.sample.towns import Town

WALK_M = 0.12
"""Height of the kerb."""
PAINT: Colour = (0.62, 0.62, 0.60)


@dataclass(frozen=True, slots=True)
class Street:
    """An arc of constant curvature with one crossing and at most one side street."""

    curvature: float
    """1/m; positive bends right."""
    start: float
    end: float
    """The modelled part of the street, metres along."""
    crossing: float
    """Near edge of the zebra crossing, metres along."""
    side_street: float
    """Middle of the gap between the buildings, metres along."""
    gap: float = 13.0

    def to_world(self, x: Array, s: Array) -> Array:
        """Street coordinates (N,), (N,) -> world (N, 2) x and z, metres."""
        x, s = np.asarray(x, np.float64), np.asarray(s, np.float64)
        k = self.curvature
        if abs(k) < 1e-9:
            return np.stack([x, s], axis=-1)
        turn = k * s
        return np.stack([(1 - np.cos(turn)) / k + x * np.cos(turn), np.sin(turn) / k - x * np.sin(turn)], axis=-1)

    def pose(self, x: float, s: float, heading: float = 0.0, y: float = 0.0) -> Pose:
        """Street coordinates -> pose in the world; heading in radians relative to the street."""
        world_x, world_z = self.to_world(np.array(x), np.array(s))
        return Pose(float(world_x), float(world_z), heading + self.curvature * s, y)

    def to_street(self, world_x: Array, world_z: Array) -> tuple[Array, Array]:
        """World x, z -> street x, s: the inverse of `to_world`."""
        k = self.curvature
        if abs(k) < 1e-9:
            return world_x, world_z
        radius, sign = 1 / k, math.copysign(1.0, k)
        across, along = (radius - world_x) * sign, world_z * sign
        return radius - sign * np.hypot(across, along), np.arctan2(along, across) / k

    @property
    def breadth(self) -> float:
        """Half width of the ground in metres, always less than the radius of the bend."""
        return min(400.0, 0.8 / max(abs(self.curvature), 1e-9))

    @property
    def step(self) -> float:
        """Length of a ground quad in metres: short enough to look like an arc."""
        return 30.0 if abs(self.curvature) < 1e-9 else 5.0


def strip(street: Street, x0: float, x1: float, s0: float, s1: float, y: float = 0.0) -> list[Array]:
    """(4, 3) quads in world coordinates that cover [x0, x1] x [s0, s1] of the street at height y."""
    count = max(1, math.ceil((s1 - s0) / street.step))
    s = np.linspace(s0, s1, count + 1)
    left, right = street.to_world(np.full(count + 1, x0), s), street.to_world(np.full(count + 1, x1), s)
    corners = np.stack([left[:-1], right[:-1], right[1:], left[1:]], axis=1)  # (K, 4, 2)
    level = np.full((*corners.shape[:2], 1), y)
    return list(np.concatenate([corners[..., :1], level, corners[..., 1:]], axis=2))


def ground(town: Town, street: Street) -> list[Piece]:
    """The ground in painting order: base, road, pavements, markings."""
    base, road, walks, marks = Piece(), Piece(), Piece(), Piece()
    s0, s1 = street.start, street.end
    up: Colour = (0.0, -1.0, 0.0)
    earth = (0.10, 0.13, 0.05) if not town.terraced else town.paving
    far = street.breadth
    base.add(strip(street, -far, far, s0, s1), up, earth, Material.GRASS if not town.terraced else Material.PAVING)
    g0, g1 = street.side_street - street.gap / 2 + 2.0, street.side_street + street.gap / 2 - 2.0
    road.add(strip(street, -far, far, g0, g1), up, town.road, Material.ROAD)
    road.add(strip(street, -town.road_half, town.road_half, s0, s1), up, town.road, Material.ROAD)
    _lanes(road, town, street, up)
    for side in (-1.0, 1.0):
        for a, b in ((s0, g0 - 1.5), (g1 + 1.5, s1)):
            if b > a:
                _walk(walks, town, street, side, a, b)
    _markings(marks, town, street, up)
    return [base, road, walks, marks]


def _lanes(road: Piece, town: Town, street: Street, up: Colour) -> None:
    """Surfaces within the road: parking bays, cycle lane, tram track."""
    s0, s1, edge = street.start, street.end, town.parking_x - 1.05
    bay = tuple(c * 1.28 for c in town.road)
    for side in (-1.0, 1.0):
        low, high = sorted((side * edge, side * town.road_half))
        road.add(strip(street, low, high, s0, s1), up, (bay[0], bay[1], bay[2]), Material.COBBLE)
        if town.cycle_lane:
            low, high = sorted(side * x for x in town.cycle_lane)
            road.add(strip(street, low, high, s0, s1), up, (0.17, 0.062, 0.052), Material.ROAD)
        if town.rails:
            low, high = sorted((side * 0.35, side * 2.85))
            light = tuple(c * 1.45 for c in town.road)
            road.add(strip(street, low, high, s0, s1), up, (light[0], light[1], light[2]), Material.COBBLE)
            for rail in (0.88, 2.32):
                x = side * rail
                rails = strip(street, x - 0.045, x + 0.045, s0, s1)
                road.add(rails, up, (0.028, 0.028, 0.030), Material.METAL)
                road.add(strip(street, x - 0.015, x + 0.02, s0, s1), up, (0.30, 0.31, 0.33), Material.METAL)


def _walk(walks: Piece, town: Town, street: Street, side: float, a: float, b: float) -> None:
    """Pavement, kerb stone and kerb face of one side."""
    up: Colour = (0.0, -1.0, 0.0)
    low, high = sorted((side * town.kerb_x, side * town.walk_outer))
    walks.add(strip(street, low, high, a, b, -WALK_M), up, town.paving, Material.PAVING)
    low, high = sorted((side * town.kerb_x, side * (town.kerb_x + 0.24)))
    stone: Colour = (0.36, 0.355, 0.34)
    walks.add(strip(street, low, high, a, b, -WALK_M), up, stone, Material.PAVING)
    top = strip(street, side * town.kerb_x, side * town.kerb_x, a, b, -WALK_M)
    faces = [np.concatenate([quad[[0, 3]], quad[[3, 0]] * (1.0, 0.0, 1.0)]) for quad in top]
    walks.add(faces, (-side, 0.0, 0.0), (0.22, 0.218, 0.21), Material.PAVING, cull=False)
    if town.terraced:
        return
    low, high = sorted((side * (town.walk_outer - 0.1), side * (town.walk_outer + 0.08)))
    walks.add(strip(street, low, high, a, b, -WALK_M), up, (0.26, 0.25, 0.24), Material.PAVING)


def _dashes(
    street: Street, x: float, width: float, on: float, off: float, gaps: Sequence[tuple[float, float]]
) -> list[Array]:
    """Dashes along the street, outside the gaps."""
    quads: list[Array] = []
    s = math.floor(street.start / (on + off)) * (on + off)
    while s < street.end:
        if all(s + on < a or s > b for a, b in gaps):
            quads += strip(street, x - width / 2, x + width / 2, s, s + on)
        s += on + off
    return quads


def _markings(marks: Piece, town: Town, street: Street, up: Colour) -> None:
    zebra = street.crossing
    free = ((zebra - 1.8, zebra + 5.4), (street.side_street - 5.5, street.side_street + 5.5))

    def paint(quads: list[Array], colour: Colour = PAINT) -> None:
        if quads:
            marks.add(quads, up, colour, Material.MARKING)

    if town.rails:
        for side in (-1.0, 1.0):
            paint(_dashes(street, side * 3.15, 0.12, 11.9, 0.1, free))
            for edge in town.cycle_lane or ():
                paint(_dashes(street, side * edge, 0.11, 1.0, 1.0 if side < 0 else 0.6, free))
    else:
        paint(_dashes(street, 0.0, 0.13, 3.0, 4.5, free))
    for side in (-1.0, 1.0):
        edge = town.parking_x - 1.07
        paint(_dashes(street, side * edge, 0.10, 5.6, 0.4, free))
        bays = []
        s = math.floor(street.start / 6) * 6.0
        while s < street.end:
            if all(s < a or s > b for a, b in free):
                low, high = sorted((side * edge, side * town.road_half))
                bays += strip(street, low, high, s, s + 0.10)
            s += 6.0
        paint(bays)
    stripes, x = [], -town.road_half + 0.4
    while x + 0.5 < town.road_half:
        stripes += strip(street, x, x + 0.5, zebra, zebra + 3.6)
        x += 1.0
    paint(stripes, (0.70, 0.70, 0.68))
    lane = (0.15, town.parking_x - 1.3)
    paint(strip(street, lane[0], lane[1], zebra - 1.5, zebra - 1.1))
    paint(strip(street, -lane[1], -lane[0], zebra + 4.7, zebra + 5.1))
    _arrow(marks, town, street, zebra - 14.0, up)


def _arrow(marks: Piece, town: Town, street: Street, s: float, up: Colour) -> None:
    """A straight-ahead arrow in the lane of the camera car."""
    x = town.lane_x
    shaft = [(x - 0.08, s), (x + 0.08, s), (x + 0.08, s + 2.6), (x - 0.08, s + 2.6)]
    head = [(x - 0.38, s + 2.5), (x + 0.38, s + 2.5), (x, s + 4.2)]
    for shape in (shaft, head):
        world = street.to_world(np.array([p[0] for p in shape]), np.array([p[1] for p in shape]))
        points = np.stack([world[:, 0], np.zeros(len(world)), world[:, 1]], axis=1)
        marks.add([points], up, PAINT, Material.MARKING)
