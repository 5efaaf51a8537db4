"""Detached houses and terraced buildings: walls with windows, doors, shops, balconies, cornices and roofs.

Local coordinates: x is metres right of the street's centre line, z runs along the street and is 0 at the middle of the
building.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import numpy as np

from drivetl.sample.camera import Array
from drivetl.sample.mesh import Colour, Material, Piece, facing_x, facing_z
from drivetl.sample.street import Street
from drivetl.sample.towns import Town

FLOOR_M = 3.0
DARK: Colour = (0.035, 0.045, 0.055)
SKYLIT: Colour = (0.11, 0.135, 0.16)
SIGNS = ((0.50, 0.03, 0.03), (0.03, 0.16, 0.36), (0.03, 0.25, 0.12), (0.62, 0.42, 0.03), (0.5, 0.5, 0.5))
LIT: tuple[Colour, ...] = ((0.85, 0.52, 0.19), (0.85, 0.66, 0.36), (0.46, 0.54, 0.64))


@dataclass(frozen=True, slots=True)
class SceneryItem:
    """A piece and its position along the street."""

    piece: Piece
    s: float
    """Metres along the street."""
    footprint: tuple[float, float, float, float, float] | None = None
    """x0, x1, z0, z1, height (metres) of the part that casts a shadow."""
    tag: str = ""
    """`tree`, `bench` or empty."""
    x: float = 0.0
    """Position of a tagged item, metres right of the centre line."""


def building_rows(town: Town, street: Street, rng: np.random.Generator, night: bool) -> list[SceneryItem]:
    """Buildings on both sides of the street, with a gap for the side street."""
    items = []
    low, high = street.side_street - street.gap / 2, street.side_street + street.gap / 2
    for side in (-1.0, 1.0):
        s = street.start + float(rng.uniform(0, 6))
        while s < street.end:
            width = float(rng.uniform(13, 24) if town.terraced else rng.uniform(9, 14.5))
            if s + width > low and s < high:
                s = high
                continue
            build = _terrace if town.terraced else _house
            items.append(build(town, side, s + width / 2, width, rng, night))
            s += width + (0.0 if town.terraced else float(rng.uniform(2.5, 8.0)))
    return items


def _wall(x: float, z0: float, z1: float, y0: float, y1: float) -> Array:
    return np.array(facing_x(x, y0, y1, z0, z1))


def _jitter(colour: Colour, rng: np.random.Generator, amount: float = 0.12) -> Colour:
    r, g, b = (float(np.clip(c * rng.uniform(1 - amount, 1 + amount), 0.01, 0.9)) for c in colour)
    return r, g, b


def _random_colour(colours: tuple[Colour, ...], rng: np.random.Generator) -> Colour:
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
    """A grid of windows on the wall at x: frames, sills, and panes that are dark, reflecting, lit or have blinds."""
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

    def add_panes(positions: list[tuple[float, float]], colour: Colour, emission: float = 0.0) -> None:
        if positions:
            shapes = [
                _wall(out, z + s * half * 0.53 - half * 0.44, z + s * half * 0.53 + half * 0.44, y, y - tall)
                for z, y in positions
                for s in (-1, 1)
            ]
            piece.add(shapes, normal, colour, Material.GLASS, emission=emission)

    def of_kinds(low: int, high: int) -> list[tuple[float, float]]:
        return [grid[i] for i in range(len(grid)) if low <= kinds[i] < high]

    add_panes(of_kinds(0, 4), DARK)
    add_panes(of_kinds(4, 7), (DARK[0] * 1.6, DARK[1] * 1.6, DARK[2] * 1.6) if night else SKYLIT)
    if night:
        for number, colour in enumerate(LIT):
            add_panes(of_kinds(7 + number, 8 + number), colour, 0.40)
    else:
        add_panes(of_kinds(7, 10), (0.065, 0.078, 0.088))
        blinds = [
            _wall(out - n * 0.01, z - half * 0.95, z + half * 0.95, y - tall * 0.62, y - tall)
            for z, y in of_kinds(8, 10)
        ]
        if blinds:
            piece.add(blinds, normal, (0.55, 0.53, 0.48), Material.PLASTER)


def _house(town: Town, side: float, s: float, width: float, rng: np.random.Generator, night: bool) -> SceneryItem:
    """A detached house with pitched roof and shutters."""
    piece, x = Piece(), side * (town.building_x + float(rng.uniform(-0.8, 2.5)))
    floors = int(rng.integers(town.floors[0], town.floors[1] + 1))
    eaves, depth, half = floors * FLOOR_M + 0.5, float(rng.uniform(9, 12)), width / 2
    wall, roof = _random_colour(town.walls, rng), _random_colour(town.roofs, rng)
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
        shutter = _random_colour(((0.20, 0.05, 0.04), (0.05, 0.12, 0.07), (0.10, 0.13, 0.18), (0.16, 0.10, 0.06)), rng)
        boards = [
            _wall(x - side * 0.025, z + q * size[0] * 0.86 - 0.24, z + q * size[0] * 0.86 + 0.24, y, y - size[1])
            for y in levels
            for z in columns
            for q in (-1, 1)
        ]
        piece.add(boards, normal, shutter, Material.PAINT)
    _windows(piece, x, normal, columns, levels, size, (0.62, 0.61, 0.58), rng, night)
    door = float(rng.uniform(-half + 1.2, half - 1.2))
    door_panel = _wall(x - side * 0.06, door - 0.55, door + 0.55, 0.0, -2.1)
    piece.add([door_panel], normal, _random_colour(town.roofs, rng), Material.PAINT)
    _pitched_roof(piece, side, x, back, ridge_x, ridge_y, eaves, half, roof)
    if rng.random() < 0.7:
        z = float(rng.uniform(-half * 0.6, half * 0.6))
        chimney_x = ridge_x - side * 0.8
        low, high = (chimney_x - 0.35, ridge_y - 0.7, z - 0.35), (chimney_x + 0.35, ridge_y + 1.2, z + 0.35)
        piece.box(low, high, (0.22, 0.09, 0.06), Material.BRICK, "lrbf")
    return SceneryItem(piece, s, (min(x, back), max(x, back), -half, half, eaves + 1.5))


def _pitched_roof(
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
    """Both roof slopes with an overhang, and the gutter."""
    over = 0.45
    z0, z1 = -half - over, half + over
    slope = (ridge_y + eaves) / (ridge_x - x)
    for foot, sign in ((x - side * over, -side), (back + side * over, side)):
        y = -eaves - (slope * over * side)
        quad = [(foot, y, z0), (foot, y, z1), (ridge_x, ridge_y, z1), (ridge_x, ridge_y, z0)]
        piece.face(quad, colour, Material.ROOF, (ridge_x, 0.0, 0.0))
        if sign == -side:
            gutter = facing_x(foot, y + 0.16, y, z0, z1)
            piece.add([gutter], (-side, 0.0, 0.0), (0.17, 0.15, 0.13), Material.METAL)


def _end_windows(
    piece: Piece, x: float, back: float, z: float, n: float, floors: int, rng: np.random.Generator, night: bool
) -> None:
    """A few windows in an end wall (at right angles to the street)."""
    if rng.random() < 0.35:
        return
    low, high = sorted((x, back))
    centres = np.arange(low + 1.8, high - 1.2, float(rng.uniform(2.6, 3.6)))
    out = z + n * 0.03
    panes, frames = [], []
    for floor in range(floors):
        y = -(floor * FLOOR_M + 1.25)
        for c in centres:
            frames.append(facing_z(c - 0.62, c + 0.62, y + 0.08, y - 1.45, out))
            panes.append(facing_z(c - 0.5, c + 0.5, y, y - 1.35, out))
    if frames:
        piece.add(frames, (0.0, 0.0, n), (0.50, 0.49, 0.46), Material.PLASTER)
        lit = night and rng.random() < 0.4
        piece.add(panes, (0.0, 0.0, n), LIT[0] if lit else DARK, Material.GLASS, emission=0.5 if lit else 0.0)


def _terrace(town: Town, side: float, s: float, width: float, rng: np.random.Generator, night: bool) -> SceneryItem:
    """A terraced building: ground-floor shop, window grid, cornices, balconies, flat or mansard roof."""
    piece, x = Piece(), side * (town.building_x + float(rng.choice([0.0, 0.0, 0.5])))
    floors, half, depth = int(rng.integers(town.floors[0], town.floors[1] + 1)), width / 2, 14.0
    top, back = floors * FLOOR_M + 1.6, x + side * depth
    wall = _random_colour(town.walls, rng)
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
    frame = _random_colour(((0.35, 0.34, 0.33), (0.08, 0.08, 0.085), (0.45, 0.42, 0.38)), rng)
    _windows(piece, x, normal, columns, levels, size, frame, rng, night)
    _shop(piece, town, side, x, half, rng, night)
    band = _jitter((min(wall[0] * 1.5, 0.6), min(wall[1] * 1.5, 0.6), min(wall[2] * 1.5, 0.6)), rng)
    for y, tall, out in ((-3.85, 0.28, 0.15), (-top, 0.5, 0.35)):
        ledge = x - side * out
        piece.box((min(x, ledge), y, -half), (max(x, ledge), y + tall, half), band, Material.PLASTER, "lrbftd")
    if rng.random() < 0.45:
        _balconies(piece, side, x, columns, levels, band)
    roof = _random_colour(town.roofs, rng)
    if rng.random() < 0.5:
        edge_x, edge_y = x + side * 2.2, -top - 3.2
        slope = [(x, -top, -half), (x, -top, half), (edge_x, edge_y, half), (edge_x, edge_y, -half)]
        piece.face(slope, roof, Material.ROOF, (x + side * 5, -top, 0.0))
        for z, n in ((-half, -1.0), (half, 1.0)):
            cap = [(x, -top, z), (back, -top, z), (back, edge_y, z), (edge_x, edge_y, z)]
            piece.add([cap], (0.0, 0.0, n), roof, Material.ROOF)
    return SceneryItem(piece, s, (min(x, back), max(x, back), -half, half, top))


def _shop(piece: Piece, town: Town, side: float, x: float, half: float, rng: np.random.Generator, night: bool) -> None:
    """Ground floor of a shop: windows, doors, in some bays a sign and an awning."""
    normal: Colour = (-side, 0.0, 0.0)
    out = x - side * 0.05
    wall = _random_colour(((0.06, 0.06, 0.065), (0.16, 0.15, 0.14), (0.10, 0.06, 0.04)), rng)
    piece.add([_wall(out, -half, half, 0.0, -3.7)], normal, wall, Material.PLASTER)
    bays = np.linspace(-half + 0.4, half - 0.4, max(3, round(half * 2 / 3.4)) + 1)
    for a, b in itertools.pairwise(bays):
        lit = night and rng.random() < 0.6
        colour = _jitter(LIT[int(rng.integers(2))], rng) if lit else _jitter((0.055, 0.065, 0.075), rng, 0.4)
        low = 0.0 if rng.random() < 0.25 else -0.55
        glass = _wall(out - side * 0.02, a + 0.15, b - 0.15, low, -2.75)
        piece.add([glass], normal, colour, Material.GLASS, emission=0.5 if lit else 0.0)
        _mullions(piece, normal, out - side * 0.03, a + 0.15, b - 0.15, low)
        if rng.random() < 0.55:
            sign = _random_colour(SIGNS, rng)
            board = _wall(out - side * 0.08, a + 0.1, b - 0.1, -2.9, -3.55)
            piece.add([board], normal, sign, Material.PAINT, emission=0.55 if night and rng.random() < 0.6 else 0.0)
            if rng.random() < 0.4:
                foot = out - side * 1.3
                cloth = [(out, -2.85, a), (out, -2.85, b), (foot, -2.35, b), (foot, -2.35, a)]
                piece.face(cloth, sign, Material.CLOTH, (x, 0.0, 0.0))
                flap = [(foot, -2.35, a), (foot, -2.35, b), (foot, -2.12, b), (foot, -2.12, a)]
                piece.add([flap], normal, (sign[0] * 0.8, sign[1] * 0.8, sign[2] * 0.8), Material.CLOTH)


def _mullions(piece: Piece, normal: Colour, x: float, a: float, b: float, low: float) -> None:
    """Bars that divide a shop window."""
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
