"""Houses and street fronts: walls with windows, doors, shops, balconies, cornices and roofs.

A building is built in its own frame: x is metres right of the street's middle, z runs along the street, 0 at its
middle.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import numpy as np

from drivetl.sample.camera import Array
from drivetl.sample.mesh import Colour, Material, Piece
from drivetl.sample.street import Street
from drivetl.sample.towns import Town

FLOOR_M = 3.0
DARK: Colour = (0.035, 0.045, 0.055)
SKYLIT: Colour = (0.11, 0.135, 0.16)
LIT: tuple[Colour, ...] = ((0.85, 0.52, 0.19), (0.85, 0.66, 0.36), (0.46, 0.54, 0.64))


@dataclass(frozen=True, slots=True)
class Placed:
    """A piece and where along the street it stands."""

    piece: Piece
    s: float
    footprint: tuple[float, float, float, float, float] | None = None
    """x0, x1, z0, z1, height of the part that throws a shadow."""
    tag: str = ""
    """`tree` or `bench` where somebody needs to know."""
    x: float = 0.0
    """Where a tagged thing stands, metres right of the middle."""


def rows(town: Town, street: Street, rng: np.random.Generator, night: bool) -> list[Placed]:
    """Both rows of buildings, with the side street left free."""
    placed = []
    low, high = street.side_street - street.gap / 2, street.side_street + street.gap / 2
    for side in (-1.0, 1.0):
        s = street.start + float(rng.uniform(0, 6))
        while s < street.end:
            width = float(rng.uniform(13, 24) if town.terraced else rng.uniform(9, 14.5))
            if s + width > low and s < high:
                s = high
                continue
            build = _terrace if town.terraced else _house
            placed.append(build(town, side, s + width / 2, width, rng, night))
            s += width + (0.0 if town.terraced else float(rng.uniform(2.5, 8.0)))
    return placed


def _wall(x: float, z0: float, z1: float, y0: float, y1: float) -> Array:
    return np.array([(x, y0, z0), (x, y0, z1), (x, y1, z1), (x, y1, z0)])


def _jitter(colour: Colour, rng: np.random.Generator, amount: float = 0.12) -> Colour:
    r, g, b = (float(np.clip(c * rng.uniform(1 - amount, 1 + amount), 0.01, 0.9)) for c in colour)
    return r, g, b


def _pick(colours: tuple[Colour, ...], rng: np.random.Generator) -> Colour:
    return _jitter(colours[int(rng.integers(len(colours)))], rng)


def _windows(
    piece: Piece,
    x: float,
    normal: Colour,
    columns: Array,
    floors: Array,
    size: tuple[float, float],
    frame: Colour,
    rng: np.random.Generator,
    night: bool,
) -> None:
    """A grid of windows on the wall at x: frames, panes of two brightnesses (or lit), sills."""
    half, tall = size[0] / 2, size[1]
    n = -normal[0]
    grid = [(z, y) for y in floors for z in columns]
    out = x - n * 0.03
    frames = [_wall(out, z - half - 0.09, z + half + 0.09, y + 0.09, y - tall - 0.09) for z, y in grid]
    piece.add(frames, normal, frame, Material.PLASTER)
    sills = [_wall(out - n * 0.03, z - half - 0.16, z + half + 0.16, y + 0.18, y + 0.07) for z, y in grid]
    piece.add(sills, normal, (0.42, 0.40, 0.37), Material.PLASTER)
    kinds = rng.integers(0, 10, len(grid))
    out -= n * 0.02

    def panes(chosen: list[tuple[float, float]], colour: Colour, emission: float = 0.0) -> None:
        if chosen:
            shapes = [
                _wall(out, z + s * half * 0.53 - half * 0.44, z + s * half * 0.53 + half * 0.44, y, y - tall)
                for z, y in chosen
                for s in (-1, 1)
            ]
            piece.add(shapes, normal, colour, Material.GLASS, emission=emission)

    def of(low: int, high: int) -> list[tuple[float, float]]:
        return [grid[i] for i in range(len(grid)) if low <= kinds[i] < high]

    panes(of(0, 4), DARK)
    panes(of(4, 7), (DARK[0] * 1.6, DARK[1] * 1.6, DARK[2] * 1.6) if night else SKYLIT)
    if night:
        for number, colour in enumerate(LIT):
            panes(of(7 + number, 8 + number), colour, 0.40)
    else:
        panes(of(7, 10), (0.065, 0.078, 0.088))
        blinds = [
            _wall(out - n * 0.01, z - half * 0.95, z + half * 0.95, y - tall * 0.62, y - tall) for z, y in of(8, 10)
        ]
        if blinds:
            piece.add(blinds, normal, (0.55, 0.53, 0.48), Material.PLASTER)


def _house(town: Town, side: float, s: float, width: float, rng: np.random.Generator, night: bool) -> Placed:
    """A house with a garden, pitched roof, shutters."""
    piece, x = Piece(), side * (town.building_x + float(rng.uniform(-0.8, 2.5)))
    floors = int(rng.integers(town.floors[0], town.floors[1] + 1))
    eaves, depth, half = floors * FLOOR_M + 0.5, float(rng.uniform(9, 12)), width / 2
    wall, roof = _pick(town.walls, rng), _pick(town.roofs, rng)
    normal: Colour = (-side, 0.0, 0.0)
    back = x + side * depth
    ridge_y, ridge_x = -(eaves + float(rng.uniform(2.6, 4.2))), x + side * depth / 2
    for z, n in ((-half, -1.0), (half, 1.0)):
        gable = [(x, 0.0, z), (back, 0.0, z), (back, -eaves, z), (ridge_x, ridge_y, z), (x, -eaves, z)]
        piece.add([gable], (0.0, 0.0, n), wall, Material.PLASTER)
        _end_windows(piece, x, back, z, n, floors, rng, night)
    piece.add([_wall(x, -half, half, 0.0, -eaves)], normal, wall, Material.PLASTER)
    piece.add([_wall(x, -half, half, 0.0, -0.7)], normal, (0.24, 0.22, 0.20), Material.BRICK)
    columns = np.arange(-half + 1.6, half - 1.0, float(rng.uniform(2.3, 3.2)))
    levels = -(np.arange(floors) * FLOOR_M + 1.25)
    size = (float(rng.uniform(1.0, 1.4)), float(rng.uniform(1.2, 1.5)))
    if rng.random() < 0.5:
        shutter = _pick(((0.20, 0.05, 0.04), (0.05, 0.12, 0.07), (0.10, 0.13, 0.18), (0.16, 0.10, 0.06)), rng)
        boards = [
            _wall(x - side * 0.025, z + q * size[0] * 0.86 - 0.24, z + q * size[0] * 0.86 + 0.24, y, y - size[1])
            for y in levels
            for z in columns
            for q in (-1, 1)
        ]
        piece.add(boards, normal, shutter, Material.PAINT)
    _windows(piece, x, normal, columns, levels, size, (0.62, 0.61, 0.58), rng, night)
    door = float(rng.uniform(-half + 1.2, half - 1.2))
    piece.add(
        [_wall(x - side * 0.06, door - 0.55, door + 0.55, 0.0, -2.1)], normal, _pick(town.roofs, rng), Material.PAINT
    )
    _pitched(piece, side, x, back, ridge_x, ridge_y, eaves, half, roof)
    if rng.random() < 0.7:
        z = float(rng.uniform(-half * 0.6, half * 0.6))
        at = ridge_x - side * 0.8
        piece.box(
            (at - 0.35, ridge_y - 0.7, z - 0.35),
            (at + 0.35, ridge_y + 1.2, z + 0.35),
            (0.22, 0.09, 0.06),
            Material.BRICK,
            "lrbf",
        )
    return Placed(piece, s, (min(x, back), max(x, back), -half, half, eaves + 1.5))


def _pitched(
    piece: Piece,
    side: float,
    x: float,
    back: float,
    ridge_x: float,
    ridge_y: float,
    eaves: float,
    half: float,
    colour: Colour,
) -> None:
    """Both slopes with an overhang, and the gutter."""
    over = 0.45
    slope = (ridge_y + eaves) / (ridge_x - x)
    for foot, sign in ((x - side * over, -side), (back + side * over, side)):
        y = -eaves - (slope * over * side)
        quad = [
            (foot, y, -half - over),
            (foot, y, half + over),
            (ridge_x, ridge_y, half + over),
            (ridge_x, ridge_y, -half - over),
        ]
        piece.face(quad, colour, Material.ROOF, (ridge_x, 0.0, 0.0))
        if sign == -side:
            edge = [
                (foot, y + 0.16, -half - over),
                (foot, y + 0.16, half + over),
                (foot, y, half + over),
                (foot, y, -half - over),
            ]
            piece.add([edge], (-side, 0.0, 0.0), (0.17, 0.15, 0.13), Material.METAL)


def _end_windows(
    piece: Piece, x: float, back: float, z: float, n: float, floors: int, rng: np.random.Generator, night: bool
) -> None:
    """A few windows in the wall across the street."""
    if rng.random() < 0.35:
        return
    low, high = sorted((x, back))
    at = np.arange(low + 1.8, high - 1.2, float(rng.uniform(2.6, 3.6)))
    out = z + n * 0.03
    panes, frames = [], []
    for floor in range(floors):
        y = -(floor * FLOOR_M + 1.25)
        for c in at:
            frames.append(
                [
                    (c - 0.62, y + 0.08, out),
                    (c + 0.62, y + 0.08, out),
                    (c + 0.62, y - 1.45, out),
                    (c - 0.62, y - 1.45, out),
                ]
            )
            panes.append([(c - 0.5, y, out), (c + 0.5, y, out), (c + 0.5, y - 1.35, out), (c - 0.5, y - 1.35, out)])
    if frames:
        piece.add(frames, (0.0, 0.0, n), (0.50, 0.49, 0.46), Material.PLASTER)
        lit = night and rng.random() < 0.4
        piece.add(panes, (0.0, 0.0, n), LIT[0] if lit else DARK, Material.GLASS, emission=0.5 if lit else 0.0)


def _terrace(town: Town, side: float, s: float, width: float, rng: np.random.Generator, night: bool) -> Placed:
    """A tall front in a closed row: shop floor, window grid, cornices, balconies, flat or mansard roof."""
    piece, x = Piece(), side * (town.building_x + float(rng.choice([0.0, 0.0, 0.5])))
    floors, half, depth = int(rng.integers(town.floors[0], town.floors[1] + 1)), width / 2, 14.0
    top, back = floors * FLOOR_M + 1.6, x + side * depth
    wall = _pick(town.walls, rng)
    material = Material.BRICK if wall[0] > 1.5 * wall[2] else Material.PLASTER
    normal: Colour = (-side, 0.0, 0.0)
    for z, n in ((-half, -1.0), (half, 1.0)):
        end = [(x, 0.0, z), (back, 0.0, z), (back, -top, z), (x, -top, z)]
        piece.add([end], (0.0, 0.0, n), _jitter((wall[0] * 0.85, wall[1] * 0.85, wall[2] * 0.85), rng), material)
        _end_windows(piece, x, back, z, n, floors, rng, night)
    piece.add([_wall(x, -half, half, 0.0, -top)], normal, wall, material)
    gap = float(rng.uniform(2.2, 3.3))
    columns = np.arange(-half + 1.3, half - 0.9, gap)
    columns = columns + (-columns.mean() if len(columns) else 0.0)
    levels = -(np.arange(1, floors) * FLOOR_M + 2.0)
    size = (float(rng.uniform(1.0, gap - 0.8)), float(rng.uniform(1.5, 1.95)))
    _windows(
        piece,
        x,
        normal,
        columns,
        levels,
        size,
        _pick(((0.35, 0.34, 0.33), (0.08, 0.08, 0.085), (0.45, 0.42, 0.38)), rng),
        rng,
        night,
    )
    _shop(piece, town, side, x, half, rng, night)
    band = _jitter((min(wall[0] * 1.5, 0.6), min(wall[1] * 1.5, 0.6), min(wall[2] * 1.5, 0.6)), rng)
    for y, tall, out in ((-3.85, 0.28, 0.15), (-top, 0.5, 0.35)):
        ledge = x - side * out
        piece.box((min(x, ledge), y, -half), (max(x, ledge), y + tall, half), band, Material.PLASTER, "lrbft" + "d")
    if rng.random() < 0.45:
        _balconies(piece, side, x, columns, levels, band)
    roof = _pick(town.roofs, rng)
    if rng.random() < 0.5:
        slope = [
            (x, -top, -half),
            (x, -top, half),
            (x + side * 2.2, -top - 3.2, half),
            (x + side * 2.2, -top - 3.2, -half),
        ]
        piece.face(slope, roof, Material.ROOF, (x + side * 5, -top, 0.0))
        for z, n in ((-half, -1.0), (half, 1.0)):
            cap = [(x, -top, z), (back, -top, z), (back, -top - 3.2, z), (x + side * 2.2, -top - 3.2, z)]
            piece.add([cap], (0.0, 0.0, n), roof, Material.ROOF)
    return Placed(piece, s, (min(x, back), max(x, back), -half, half, top))


def _shop(piece: Piece, town: Town, side: float, x: float, half: float, rng: np.random.Generator, night: bool) -> None:
    """Shop windows, doors, a sign and perhaps an awning on the ground floor."""
    normal: Colour = (-side, 0.0, 0.0)
    out = x - side * 0.05
    piece.add(
        [_wall(out, -half, half, 0.0, -3.7)],
        normal,
        _pick(((0.06, 0.06, 0.065), (0.16, 0.15, 0.14), (0.10, 0.06, 0.04)), rng),
        Material.PLASTER,
    )
    bays = np.linspace(-half + 0.4, half - 0.4, max(3, round(half * 2 / 3.4)) + 1)
    for a, b in itertools.pairwise(bays):
        lit = night and rng.random() < 0.6
        colour = _jitter(LIT[int(rng.integers(2))], rng) if lit else _jitter((0.055, 0.065, 0.075), rng, 0.4)
        low = 0.0 if rng.random() < 0.25 else -0.55
        glass = _wall(out - side * 0.02, a + 0.15, b - 0.15, low, -2.75)
        piece.add([glass], normal, colour, Material.GLASS, emission=0.5 if lit else 0.0)
        _mullions(piece, normal, out - side * 0.03, a + 0.15, b - 0.15, low)
        if rng.random() < 0.55:
            sign = _pick(
                ((0.50, 0.03, 0.03), (0.03, 0.16, 0.36), (0.03, 0.25, 0.12), (0.62, 0.42, 0.03), (0.5, 0.5, 0.5)), rng
            )
            board = _wall(out - side * 0.08, a + 0.1, b - 0.1, -2.9, -3.55)
            piece.add([board], normal, sign, Material.PAINT, emission=0.55 if night and rng.random() < 0.6 else 0.0)
            if rng.random() < 0.4:
                foot = out - side * 1.3
                cloth = [(out, -2.85, a), (out, -2.85, b), (foot, -2.35, b), (foot, -2.35, a)]
                piece.face(cloth, sign, Material.CLOTH, (x, 0.0, 0.0))
                flap = [(foot, -2.35, a), (foot, -2.35, b), (foot, -2.12, b), (foot, -2.12, a)]
                piece.add([flap], normal, (sign[0] * 0.8, sign[1] * 0.8, sign[2] * 0.8), Material.CLOTH)


def _mullions(piece: Piece, normal: Colour, x: float, a: float, b: float, low: float) -> None:
    """Bars that divide a shop window, and the goods behind its lower edge."""
    count = max(2, round((b - a) / 1.2))
    bars = [_wall(x, z - 0.035, z + 0.035, low, -2.75) for z in np.linspace(a, b, count + 1)]
    piece.add([*bars, _wall(x, a, b, -2.18, -2.10)], normal, (0.045, 0.045, 0.048), Material.METAL)


def _balconies(piece: Piece, side: float, x: float, columns: Array, levels: Array, colour: Colour) -> None:
    for y in levels[1::2]:
        for z in columns[::2]:
            out = x - side * 0.9
            low, high = min(x, out), max(x, out)
            piece.box((low, y + 0.25, z - 1.05), (high, y + 0.42, z + 1.05), colour, Material.PLASTER, "lrbd")
            piece.box((low, y - 0.55, z - 1.05), (high, y + 0.25, z + 1.05), (0.05, 0.05, 0.055), Material.METAL, "lrb")
