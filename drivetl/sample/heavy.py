"""Polygon models of trucks and trams: pieces sorted by distance, with wheels, glass and lamps."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import numpy as np

from drivetl.sample.cars import GLASS, HEADLIGHT, RIM, RUBBER, TAILLIGHT, TRIM, UNLIT, disc, tyre_blocks
from drivetl.sample.mesh import Colour, Material, Piece, Point, facing_x, facing_z


def truck(length: float, width: float, height: float, cab: Colour, load: Colour, *, lights: bool) -> list[Piece]:
    """A truck as two pieces, cargo box and cab; length, width, height in metres."""
    half, hub = width / 2, 0.48
    nose, wall = length / 2, length / 2 - min(2.3, 0.34 * length)
    cab_height = min(height * 0.86, 2.9)
    box, front = Piece(), Piece()
    axles = [-length / 2 + 1.1, -length / 2 + 2.2] if length > 8 else [-length / 2 + 1.3]
    tyre_blocks(box, half, hub, axles)
    box.box((-half * 0.92, -1.05, -nose), (half * 0.92, -0.55, wall), TRIM, Material.METAL)
    box.box((-half, -height, -nose), (half, -1.0, wall - 0.25), load, Material.PAINT)
    _stripes(box, half, height, -nose, wall - 0.25, load)
    lamps = [facing_z(s * half * 0.95, s * half * 0.72, -0.98, -0.80, -nose - 0.01) for s in (-1, 1)]
    box.add(lamps, (0.0, 0.0, -1.0), TAILLIGHT if lights else UNLIT, Material.METAL, emission=float(lights))
    _wheels(box, half, hub, axles)
    tyre_blocks(front, half, hub, [nose - 1.2])
    front.box((-half * 0.97, -cab_height, wall), (half * 0.97, -0.45, nose), cab, Material.PAINT)
    _cab_details(front, half * 0.97, cab_height, nose, wall, lights)
    _wheels(front, half, hub, [nose - 1.2])
    return [box, front]


def _wheels(piece: Piece, half: float, hub: float, axles: Sequence[float]) -> None:
    for side in (-1.0, 1.0):
        outward = (side, 0.0, 0.0)
        for axle in axles:
            piece.add([disc(side * half * 1.003, -hub, axle, hub)], outward, RUBBER, Material.METAL)
            piece.add([disc(side * half * 1.006, -hub, axle, hub * 0.55)], outward, RIM, Material.METAL)
            piece.add([disc(side * half * 1.007, -hub, axle, hub * 0.22, 8)], outward, TRIM, Material.METAL)


def _stripes(piece: Piece, half: float, height: float, rear: float, front: float, load: Colour) -> None:
    """A band of another colour along the cargo box, and the seam of the rear doors."""
    accent = (load[2] * 0.6 + 0.03, load[0] * 0.5 + 0.02, load[1] * 0.5 + 0.02)
    for side in (-1.0, 1.0):
        x, low, high = side * half * 1.002, -1.0 - (height - 1.0) * 0.22, -1.0 - (height - 1.0) * 0.42
        piece.add([facing_x(x, low, high, rear + 0.2, front - 0.2)], (side, 0.0, 0.0), accent, Material.PAINT)
    piece.add([facing_z(-0.02, 0.02, -height + 0.08, -1.05, rear - 0.008)], (0.0, 0.0, -1.0), TRIM, Material.PAINT)


def _cab_details(piece: Piece, half: float, height: float, nose: float, wall: float, lights: bool) -> None:
    z = nose * 1.002

    def quad(x0: float, x1: float, y0: float, y1: float) -> list[Point]:
        return facing_z(x0, x1, -y0, -y1, z)

    ahead = (0.0, 0.0, 1.0)
    piece.add([quad(-half * 0.92, half * 0.92, height * 0.56, height * 0.90)], ahead, GLASS, Material.GLASS)
    piece.add([quad(-half * 0.6, half * 0.6, height * 0.30, height * 0.48)], ahead, TRIM, Material.METAL)
    piece.add([quad(-half, half, 0.45, 0.72)], ahead, TRIM, Material.METAL)
    lamps = [quad(s * half * 0.95, s * half * 0.66, 0.74, 0.94) for s in (-1.0, 1.0)]
    piece.add(lamps, ahead, HEADLIGHT, Material.METAL, emission=float(lights))
    for side in (-1.0, 1.0):
        x, low, high = side * half * 1.003, -height * 0.58, -height * 0.88
        window = [(x, low, wall + 0.7), (x, low, nose - 0.12), (x, high, nose - 0.22), (x, high, wall + 0.7)]
        piece.add([window], (side, 0.0, 0.0), GLASS, Material.GLASS)


def tram(length: float, width: float, height: float, body: Colour, band: Colour, *, lights: bool) -> list[Piece]:
    """A tram of two or three pieces with doors, window band and slanted ends; length, width, height in metres."""
    sections = 3 if length > 18 else 2
    part = length / sections
    pieces = []
    for number in range(sections):
        rear, front = -length / 2 + number * part, -length / 2 + (number + 1) * part - 0.35
        ends = ("rear" if number == 0 else "") + ("front" if number == sections - 1 else "")
        pieces.append(_tram_section(rear, front, width / 2, height, body, band, ends, lights))
    return pieces


def _tram_section(
    rear: float, front: float, half: float, height: float, body: Colour, band: Colour, ends: str, lights: bool
) -> Piece:
    piece = Piece()
    roof, lean = -height, 0.55
    rear_top = rear + (lean if "rear" in ends else 0.0)
    front_top = front - (lean if "front" in ends else 0.0)
    inside = (0.0, -height / 2, (rear + front) / 2)
    # roof equipment is painted first, so that the body covers its part below the roof edge
    low, high = (-half * 0.5, roof - 0.24, rear_top + 0.8), (half * 0.5, roof + 0.06, front_top - 0.8)
    piece.box(low, high, (0.10, 0.10, 0.105), Material.METAL, "lrbft")
    levels = [(-0.25, 0.0, TRIM), (-0.45, 0.0, band), (-1.15, 0.0, body), (roof + 0.32, 1.0, body)]
    for (y0, s0, _), (y1, s1, colour) in pairwise(levels):
        z0r, z0f = rear + (rear_top - rear) * s0, front + (front_top - front) * s0
        z1r, z1f = rear + (rear_top - rear) * s1, front + (front_top - front) * s1
        for side in (-1.0, 1.0):
            x = side * half
            piece.face([(x, y0, z0r), (x, y0, z0f), (x, y1, z1f), (x, y1, z1r)], colour, Material.PAINT, inside)
        for z_low, z_high in ((z0r, z1r), (z0f, z1f)):
            end = [(-half, y0, z_low), (half, y0, z_low), (half, y1, z_high), (-half, y1, z_high)]
            piece.face(end, colour, Material.PAINT, inside)
    _tram_windows(piece, rear_top, front_top, half, height, body, lights)
    top = [(-half, roof + 0.32), (-half * 0.8, roof + 0.06), (half * 0.8, roof + 0.06), (half, roof + 0.32)]
    for (x0, y0), (x1, y1) in pairwise(top):
        strip = [(x0, y0, rear_top), (x1, y1, rear_top), (x1, y1, front_top), (x0, y0, front_top)]
        piece.face(strip, band, Material.PAINT, inside)
    for z in (rear_top, front_top):
        piece.face([(x, y, z) for x, y in top], body, Material.PAINT, inside)
    if "front" in ends:
        _tram_face(piece, front, front_top, half, height, HEADLIGHT, 1.0, lights)
    if "rear" in ends:
        red = TAILLIGHT if lights else UNLIT
        _tram_face(piece, rear, rear_top, half, height, red, -1.0, lights)
    return piece


def _tram_windows(
    piece: Piece, rear: float, front: float, half: float, height: float, body: Colour, lights: bool
) -> None:
    low, high = -1.25, -height + 0.62
    count = max(2, round((front - rear) / 1.5))
    edges = np.linspace(rear + 0.25, front - 0.25, count + 1)
    glow, shine = ((0.72, 0.60, 0.38), 0.42) if lights else (GLASS, 0.0)
    for side in (-1.0, 1.0):
        x = side * half * 1.002
        windows = [facing_x(x, low, high, a + 0.07, b - 0.07) for a, b in pairwise(edges)]
        piece.add(windows, (side, 0.0, 0.0), glow, Material.GLASS, emission=shine)
        middle = edges[count // 2]
        doors = [facing_x(x * 1.001, -0.5, high, middle + d, middle + d + 0.72) for d in (-0.75, 0.03)]
        piece.add(doors, (side, 0.0, 0.0), (body[0] * 0.35, body[1] * 0.35, body[2] * 0.35), Material.GLASS)


def _tram_face(
    piece: Piece, foot: float, top: float, half: float, height: float, lamp: Colour, side: float, lights: bool
) -> None:
    """Windscreen, lamps and destination sign of one end."""
    span = height - 0.32 - 1.15

    def at(y: float, x: float) -> Point:
        """The point of the slanted end at (x, y)."""
        rise = min(max((-y - 1.15) / span, 0.0), 1.0)
        return x, y, foot + (top - foot) * rise + side * 0.01

    def panel(y0: float, y1: float, x0: float, x1: float) -> list[Point]:
        return [at(y0, x0), at(y0, x1), at(y1, x1), at(y1, x0)]

    low, high = -1.35, -height + 0.75
    normal = np.array([0.0, -abs(top - foot) / span, side])
    normal /= np.linalg.norm(normal)
    slope: Colour = (0.0, float(normal[1]), float(normal[2]))
    glass = [at(low, -half * 0.86), at(low, half * 0.86), at(high, half * 0.82), at(high, -half * 0.82)]
    piece.add([glass], slope, GLASS, Material.GLASS)
    board = panel(high - 0.06, high - 0.3, -half * 0.6, half * 0.6)
    piece.add([board], slope, (0.9, 0.55, 0.08), Material.METAL, emission=0.9 if lights else 0.25)
    lamps = [panel(-0.62, -0.88, s * half * 0.88, s * half * 0.60) for s in (-1.0, 1.0)]
    piece.add(lamps, (0.0, 0.0, side), lamp, Material.METAL, emission=float(lights))
