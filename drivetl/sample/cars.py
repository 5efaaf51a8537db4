"""Polygon models of cars and vans, and parts shared by all vehicles.

Local axes as in `mesh`: the vehicle faces +z and is centred on the origin; y = 0 is the ground.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from drivetl.sample.camera import Array
from drivetl.sample.mesh import Colour, Material, Piece, Point, facing_x, facing_z

GLASS: Colour = (0.030, 0.038, 0.045)
RUBBER: Colour = (0.012, 0.012, 0.013)
TRIM: Colour = (0.022, 0.022, 0.024)
RIM: Colour = (0.30, 0.31, 0.33)
PLATE: Colour = (0.75, 0.75, 0.70)
HEADLIGHT: Colour = (1.0, 0.96, 0.86)
TAILLIGHT: Colour = (0.62, 0.02, 0.02)
UNLIT: Colour = (0.20, 0.012, 0.012)
"""Tail lamp, off."""


@dataclass(frozen=True, slots=True)
class Shell:
    """Side view of a car body, in fractions of its length (from the rear) and height."""

    deck: tuple[tuple[float, float], ...]
    """(length fraction, height fraction) of the upper edge of the lower body, rear to front."""
    roof: tuple[float, float, float, float]
    """Cabin: rear base, rear roof edge, front roof edge, windscreen base (length fractions)."""
    taper: float
    """Roof width / body width."""
    sill: float = 0.13
    """Lower edge of the body (height fraction)."""


SHELLS = {
    "hatchback": Shell(
        ((0.0, 0.50), (0.03, 0.60), (0.30, 0.62), (0.62, 0.62), (0.70, 0.61), (0.93, 0.53), (1.0, 0.40)),
        (0.015, 0.13, 0.50, 0.72),
        0.76,
    ),
    "saloon": Shell(
        ((0.0, 0.52), (0.03, 0.63), (0.20, 0.65), (0.60, 0.63), (0.70, 0.61), (0.94, 0.52), (1.0, 0.40)),
        (0.11, 0.29, 0.53, 0.74),
        0.74,
    ),
    "estate": Shell(
        ((0.0, 0.50), (0.02, 0.60), (0.30, 0.62), (0.62, 0.62), (0.70, 0.60), (0.94, 0.52), (1.0, 0.40)),
        (0.01, 0.07, 0.53, 0.73),
        0.77,
    ),
    "suv": Shell(
        ((0.0, 0.50), (0.02, 0.59), (0.30, 0.60), (0.62, 0.60), (0.72, 0.60), (0.95, 0.54), (1.0, 0.42)),
        (0.01, 0.08, 0.54, 0.74),
        0.80,
        0.16,
    ),
    "van": Shell(
        ((0.0, 0.46), (0.01, 0.50), (0.40, 0.50), (0.78, 0.50), (0.84, 0.49), (0.96, 0.42), (1.0, 0.32)),
        (0.0, 0.015, 0.70, 0.86),
        0.88,
        0.11,
    ),
}


def car(style: str, length: float, width: float, height: float, paint: Colour, *, lights: bool) -> Piece:
    """A car or van; length, width, height in metres; `lights`: lamps are on."""
    shell, piece = SHELLS[style], Piece()
    half, hub = width / 2, 0.205 * min(height, 1.75)
    axles = (-0.30 * length, 0.31 * length)
    tyre_blocks(piece, half, hub, axles)
    for x in (-half, half):  # painted before the body, so that only the protruding part is visible
        piece.box(*_mirror(x, length, height, style), TRIM, Material.METAL, "bftlr")
    _lower_body(piece, shell, length, half, height, paint)
    _cabin(piece, shell, length, half, height, paint, closed=style == "van")
    for side in (-1.0, 1.0):
        _side_details(piece, length, half * side, height, hub, axles, style, paint)
    _face_details(piece, shell, length, half, height, lights)
    return piece


def tyre_blocks(piece: Piece, half: float, hub: float, axles: Sequence[float]) -> None:
    """Tyres as blocks below the body, as seen from the front or the rear; `half` width and `hub` height in metres."""
    for side in (-1.0, 1.0):
        inner, outer = sorted((side * half * 0.64, side * half * 0.94))
        for axle in axles:
            low, high = (inner, -1.6 * hub, axle - hub * 0.92), (outer, 0.0, axle + hub * 0.92)
            piece.box(low, high, RUBBER, Material.METAL, "bflr")


def _lower_body(piece: Piece, shell: Shell, length: float, half: float, height: float, paint: Colour) -> None:
    """Cross-sections of four levels along the length, narrower towards both ends."""
    rings = []
    for share, top in shell.deck:
        z = (share - 0.5) * length
        plan = 1.0 - 0.16 * max(0.0, abs(2 * share - 1) - 0.80) / 0.20
        levels = ((0.90, shell.sill), (0.985, 0.24), (1.0, 0.40), (0.955, top))
        rings.append([(half * plan * w, -height * min(y, top), z) for w, y in levels])
    inside = (0.0, -0.35 * height, 0.0)
    for rear, front in itertools.pairwise(rings):
        for level in range(3):
            colour = TRIM if level == 0 else paint
            for side in (-1.0, 1.0):
                quad = [rear[level], front[level], front[level + 1], rear[level + 1]]
                piece.face([(side * x, y, z) for x, y, z in quad], colour, Material.PAINT, inside)
        (xr, yr, zr), (xf, yf, zf) = rear[3], front[3]
        piece.face([(-xr, yr, zr), (xr, yr, zr), (xf, yf, zf), (-xf, yf, zf)], paint, Material.PAINT, inside)
    for ring in (rings[0], rings[-1]):
        for level in range(3):
            (x0, y0, z0), (x1, y1, z1) = ring[level], ring[level + 1]
            colour = TRIM if level == 0 else paint
            piece.face([(-x0, y0, z0), (x0, y0, z0), (x1, y1, z1), (-x1, y1, z1)], colour, Material.PAINT, inside)


def _inset(quad: Array, left: float, right: float, bottom: float, top: float) -> Array:
    """(4, 3) part of a quad (bottom left, bottom right, top right, top left) between fractions of its sides."""
    bl, br, tr, tl = quad

    def at(u: float, v: float) -> Array:
        low, high = bl + (br - bl) * u, tl + (tr - tl) * u
        return np.asarray(low + (high - low) * v)

    return np.array([at(left, bottom), at(right, bottom), at(right, top), at(left, top)])


def _cabin(
    piece: Piece, shell: Shell, length: float, half: float, height: float, paint: Colour, *, closed: bool
) -> None:
    belt = -height * 0.60 if shell.deck[2][1] > 0.55 else -height * shell.deck[2][1]
    foot_rear, roof_rear, roof_front, foot_front = ((share - 0.5) * length for share in shell.roof)
    low, high, roof = half * 0.93, half * shell.taper, -height * 0.975
    inside = (0.0, -0.7 * height, 0.0)

    def end(foot: float, top: float) -> Array:
        return np.array([(-low, belt, foot), (low, belt, foot), (high, roof, top), (-high, roof, top)])

    for side in (-1.0, 1.0):
        x0, x1 = side * low, side * high
        quad = np.array([(x0, belt, foot_rear), (x0, belt, foot_front), (x1, roof, roof_front), (x1, roof, roof_rear)])
        piece.face(quad, paint, Material.PAINT, inside)
        windows = [(0.74, 0.955)] if closed else [(0.06, 0.30), (0.325, 0.60), (0.625, 0.93)]
        for left, right in windows:
            piece.face(_inset(quad, left, right, 0.08, 0.86), GLASS, Material.GLASS, inside)
    for name, quad in (("back", end(foot_rear, roof_rear)), ("front", end(foot_front, roof_front))):
        piece.face(quad, paint, Material.PAINT, inside)
        if name == "front" or not closed:
            piece.face(_inset(quad, 0.07, 0.93, 0.07, 0.90), GLASS, Material.GLASS, inside)
            upper = _inset(quad, 0.09, 0.91, 0.55, 0.88)
            piece.face(upper, (0.06, 0.075, 0.09), Material.GLASS, inside)
        else:
            for left, right in ((0.10, 0.47), (0.53, 0.90)):
                piece.face(_inset(quad, left, right, 0.35, 0.86), GLASS, Material.GLASS, inside)
    crown, middle = -height, 0.78 * high
    for x0, y0, x1, y1 in ((-high, roof, -middle, crown), (-middle, crown, middle, crown), (middle, crown, high, roof)):
        strip = [(x0, y0, roof_rear), (x1, y1, roof_rear), (x1, y1, roof_front), (x0, y0, roof_front)]
        piece.face(strip, paint, Material.PAINT, inside)


def disc(x: float, y: float, z: float, radius: float, n: int = 14, start: float = 0.0, end: float = 1.0) -> Array:
    """(n, 3) points of a circle in the plane of constant x; `start` and `end` in turns."""
    turn = 2 * math.pi * np.linspace(start, end, n, endpoint=end < 1.0)
    return np.stack([np.full(n, x), y + radius * np.sin(turn), z + radius * np.cos(turn)], axis=1)


def _side_details(
    piece: Piece, length: float, x: float, height: float, hub: float, axles: Sequence[float], style: str, paint: Colour
) -> None:
    outward: Colour = (math.copysign(1.0, x), 0.0, 0.0)
    face = x * 1.004
    for axle in axles:
        piece.add([disc(face, -hub, axle, hub * 1.16)], outward, (0.008, 0.008, 0.009), Material.METAL)
        piece.add([disc(face * 1.003, -hub, axle, hub)], outward, RUBBER, Material.METAL)
        piece.add([disc(face * 1.005, -hub, axle, hub * 0.64)], outward, RIM, Material.METAL)
        piece.add([disc(face * 1.006, -hub, axle, hub * 0.20, 8)], outward, TRIM, Material.METAL)
    seam = (paint[0] * 0.4, paint[1] * 0.4, paint[2] * 0.4)
    door_top, door_low = -height * 0.56, -height * 0.20
    for share in (0.34, 0.52, 0.69) if style != "van" else (0.45, 0.66, 0.83):
        z = (share - 0.5) * length
        line = [(face, door_low, z), (face, door_top, z), (face, door_top, z + 0.025), (face, door_low, z + 0.025)]
        piece.add([line], outward, seam, Material.PAINT)
    low, high = _mirror(x, length, height, style)
    side = face * 1.09
    piece.add([facing_x(side, high[1], low[1], low[2], high[2])], outward, TRIM, Material.METAL)


def _mirror(x: float, length: float, height: float, style: str) -> tuple[list[float], list[float]]:
    """Low and high corner of the door mirror on the side at x."""
    z, y = (0.665 - 0.5) * length, -height * (0.62 if style != "van" else 0.52)
    tall = 0.15 if style != "van" else 0.22
    return _ordered((x * 0.90, y - tall, z), (x * 1.10, y, z + 0.10))


def _ordered(a: Sequence[float], b: Sequence[float]) -> tuple[list[float], list[float]]:
    return [min(p, q) for p, q in zip(a, b, strict=True)], [max(p, q) for p, q in zip(a, b, strict=True)]


def _face_details(piece: Piece, shell: Shell, length: float, half: float, height: float, lights: bool) -> None:
    """Lamps, grille, bumper and licence plate at both ends."""

    def quad(x0: float, x1: float, y0: float, y1: float, z: float) -> list[Point]:
        return facing_z(x0, x1, -height * y0, -height * y1, z)

    front, rear = length / 2 * 1.003, -length / 2 * 1.003
    top = shell.deck[0][1]
    plan, shine = half * 0.84, 1.0 if lights else 0.0
    ahead, back = (0.0, 0.0, 1.0), (0.0, 0.0, -1.0)
    nose = shell.deck[-1][1]
    piece.add([quad(-plan * 0.5, plan * 0.5, nose - 0.12, nose - 0.02, front)], ahead, TRIM, Material.METAL)
    piece.add([quad(-plan * 0.7, plan * 0.7, 0.15, 0.21, front)], ahead, TRIM, Material.METAL)
    piece.add([quad(-0.26, 0.26, 0.225, 0.29, front)], ahead, PLATE, Material.METAL)
    lamps = [quad(s * plan * 0.98, s * plan * 0.58, nose - 0.11, nose, front) for s in (-1.0, 1.0)]
    piece.add(lamps, ahead, HEADLIGHT, Material.METAL, emission=shine)
    piece.add([quad(-plan, plan, 0.20, 0.25, rear)], back, TRIM, Material.METAL)
    piece.add([quad(-0.26, 0.26, 0.33, 0.40, rear)], back, PLATE, Material.METAL)
    upright = shell.roof[0] < 0.05
    low, high, inner = (top - 0.10, top + 0.09, 0.83) if upright else (top - 0.07, top + 0.06, 0.66)
    lamps = [quad(s * plan * 1.01, s * plan * inner, low, high, rear) for s in (-1.0, 1.0)]
    red = TAILLIGHT if lights else UNLIT
    piece.add(lamps, back, red, Material.METAL, emission=shine)
    shade = [quad(s * plan * 1.01, s * plan * inner, low, low + 0.035, rear * 1.001) for s in (-1.0, 1.0)]
    piece.add(shade, back, (0.45, 0.30, 0.26), Material.METAL)
    piece.add([quad(-plan * 0.99, plan * 0.99, 0.245, 0.255, rear * 1.001)], back, TRIM, Material.METAL)
