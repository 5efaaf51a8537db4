"""Street furniture: lamps, signs, traffic lights, benches, waste bins and overhead wires."""

from __future__ import annotations

import itertools

import numpy as np

from drivetl.sample.buildings import SceneryItem
from drivetl.sample.camera import Array
from drivetl.sample.mesh import Colour, Material, Piece, facing_z
from drivetl.sample.street import Street
from drivetl.sample.towns import Town

STEEL: Colour = (0.20, 0.205, 0.21)
GLOW: Colour = (1.0, 0.78, 0.48)
BINS: tuple[Colour, ...] = ((0.03, 0.12, 0.06), (0.05, 0.05, 0.06), (0.30, 0.13, 0.02))
LAMP_M = 7.2


def lamp_positions(town: Town, street: Street) -> list[tuple[float, float]]:
    """(x, s) of the street lamps in metres, alternating between both sides."""
    positions = []
    for number, s in enumerate(np.arange(street.start + 5.0, street.end, town.lamp_gap / 2)):
        positions.append(((1.0 if number % 2 else -1.0) * (town.kerb_x + 0.45), float(s)))
    return positions


def _pole(piece: Piece, x: float, z: float, height: float, half: float, colour: Colour) -> None:
    piece.box((x - half, -height, z - half), (x + half, 0.0, z + half), colour, Material.METAL, "lrbf")


def _plate(x: float, y: float, z: float, radius: float, corners: int, turn: float = 0.0) -> Array:
    angle = 2 * np.pi * np.arange(corners) / corners + turn
    return np.stack([x + radius * np.sin(angle), y - radius * np.cos(angle), np.full(corners, z)], axis=1)


def lamp(town: Town, x: float, s: float, night: bool) -> SceneryItem:
    """A street lamp with an arm above the road."""
    piece, side = Piece(), 1.0 if x > 0 else -1.0
    colour: Colour = STEEL if not town.terraced else (0.035, 0.05, 0.045)
    _pole(piece, x, 0.0, LAMP_M, 0.065, colour)
    reach = x - side * 1.5
    piece.box((min(x, reach), -LAMP_M - 0.09, -0.04), (max(x, reach), -LAMP_M, 0.04), colour, Material.METAL)
    head = (min(reach, reach + side * 0.7), max(reach, reach + side * 0.7))
    piece.box((head[0], -LAMP_M - 0.14, -0.14), (head[1], -LAMP_M - 0.04, 0.14), colour, Material.METAL)
    glass = GLOW if night else (0.6, 0.6, 0.56)
    piece.box((head[0], -LAMP_M - 0.04, -0.12), (head[1], -LAMP_M + 0.03, 0.12), glass, Material.METAL, "lrbfd")
    if night:
        for layer in piece.layers[-5:]:
            layer.emission = 1.0
    return SceneryItem(piece, s)


def sign(x: float, s: float, kind: int, toward: bool) -> SceneryItem:
    """A road sign of one of six kinds; `toward`: it faces the camera car."""
    piece = Piece()
    _pole(piece, x, 0.0, 2.9, 0.032, STEEL)
    z, y, face = -0.05, -2.55, (0.0, 0.0, -1.0)
    shapes: tuple[tuple[int, float, Colour, Colour, float], ...] = (
        (16, 0.0, (0.55, 0.02, 0.02), (0.80, 0.80, 0.78), 0.72),
        (3, 0.0, (0.55, 0.02, 0.02), (0.80, 0.80, 0.78), 0.62),
        (16, 0.0, (0.02, 0.09, 0.42), (0.02, 0.09, 0.42), 0.9),
        (4, np.pi / 4, (0.02, 0.09, 0.42), (0.75, 0.75, 0.75), 0.45),
        (8, np.pi / 8, (0.50, 0.02, 0.02), (0.80, 0.80, 0.80), 0.25),
        (4, 0.0, (0.75, 0.75, 0.72), (0.75, 0.50, 0.02), 0.72),
    )
    corners, turn, rim, inner, share = shapes[kind % len(shapes)]
    if not toward:
        piece.add([_plate(x, y, z, 0.36, corners, turn)], face, (0.28, 0.28, 0.28), Material.METAL, cull=False)
        return SceneryItem(piece, s)
    piece.add([_plate(x, y, z, 0.36, corners, turn)], face, rim, Material.METAL)
    piece.add([_plate(x, y, z - 0.005, 0.36 * share, corners, turn)], face, inner, Material.METAL)
    if kind % len(shapes) == 0:
        digit = facing_z(x - 0.12, x + 0.12, y - 0.13, y + 0.13, z - 0.01)
        hole = facing_z(x - 0.07, x + 0.07, y - 0.08, y + 0.08, z - 0.01)
        piece.add([digit, hole], face, (0.03, 0.03, 0.03), Material.METAL, convex=False)
    return SceneryItem(piece, s)


def traffic_light(x: float, s: float, red: bool, toward: bool) -> SceneryItem:
    """A traffic light; `toward`: it faces the camera car."""
    piece = Piece()
    _pole(piece, x, 0.0, 3.4, 0.06, (0.28, 0.28, 0.27))
    piece.box((x - 0.17, -3.35, -0.16), (x + 0.17, -2.35, 0.10), (0.018, 0.02, 0.018), Material.METAL)
    if toward:
        lamps: tuple[Colour, ...] = ((0.95, 0.06, 0.03), (0.9, 0.5, 0.02), (0.05, 0.85, 0.35))
        for number, colour in enumerate(lamps):
            on = number == (0 if red else 2)
            shade = colour if on else (colour[0] * 0.06, colour[1] * 0.06, colour[2] * 0.06)
            plate = _plate(x, -3.18 + 0.31 * number, -0.17, 0.115, 12)
            piece.add([plate], (0.0, 0.0, -1.0), shade, Material.METAL, emission=1.0 if on else 0.0)
    return SceneryItem(piece, s)


def bench(side: float, x: float, s: float) -> SceneryItem:
    """A bench that faces the street."""
    piece, wood = Piece(), (0.20, 0.11, 0.05)
    low, high = sorted((x, x + side * 0.45))
    piece.box((low, -0.47, -0.8), (high, -0.41, 0.8), wood, Material.PAINT)
    back = x + side * 0.48
    back_low, back_high = sorted((back, back + side * 0.05))
    piece.box((back_low, -0.92, -0.8), (back_high, -0.55, 0.8), wood, Material.PAINT)
    for z in (-0.7, 0.64):
        piece.box((low, -0.41, z), (high, 0.0, z + 0.06), STEEL, Material.METAL)
    return SceneryItem(piece, s, tag="bench", x=x)


def waste_bin(x: float, s: float, colour: Colour) -> SceneryItem:
    """A waste bin."""
    piece = Piece()
    piece.box((x - 0.26, -1.0, -0.26), (x + 0.26, -0.12, 0.26), colour, Material.PAINT)
    dark = (colour[0] * 0.6, colour[1] * 0.6, colour[2] * 0.6)
    piece.box((x - 0.29, -1.08, -0.29), (x + 0.29, -1.0, 0.29), dark, Material.PAINT)
    return SceneryItem(piece, s)


def kiosk(x: float, s: float, poster: Colour) -> SceneryItem:
    """A round advertising column."""
    piece = Piece()
    angle = np.linspace(0, 2 * np.pi, 11)
    for a, b in itertools.pairwise(angle):
        quad = [(x + 0.6 * np.sin(t), y, 0.6 * np.cos(t)) for t, y in ((a, -0.3), (b, -0.3), (b, -2.7), (a, -2.7))]
        tint = (poster[0] * (0.7 + 0.3 * np.sin(3 * a)), poster[1] * (0.8 + 0.2 * np.cos(2 * a)), poster[2])
        piece.face(quad, tint, Material.PAINT, (x, -1.5, 0.0))
    piece.box((x - 0.68, -3.0, -0.68), (x + 0.68, -2.7, 0.68), (0.05, 0.07, 0.06), Material.METAL)
    return SceneryItem(piece, s)


def wires(street: Street) -> Piece:
    """Contact wires above both tram tracks, with cross spans."""
    piece, down, black = Piece(), (0.0, 1.0, 0.0), (0.02, 0.02, 0.02)
    spans: list[Array] = []
    for s in np.arange(street.start, street.end, 26.0):
        ground = street.to_world(np.array([-11.0, 11.0, 11.0, -11.0]), np.array([s, s, s + 0.05, s + 0.05]))
        spans.append(np.stack([ground[:, 0], np.full(4, -7.2), ground[:, 1]], axis=1))
    piece.add(spans, down, black, Material.METAL, cull=False)
    for x in (-1.6, 1.6):
        n = max(2, round((street.end - street.start) / 8))
        s = np.linspace(street.start, street.end, n + 1)
        left, right = street.to_world(np.full(n + 1, x - 0.02), s), street.to_world(np.full(n + 1, x + 0.02), s)
        quads = np.stack([left[:-1], right[:-1], right[1:], left[1:]], axis=1)
        level = np.full((*quads.shape[:2], 1), -6.0)
        wire = list(np.concatenate([quads[..., :1], level, quads[..., 1:]], axis=2))
        piece.add(wire, down, black, Material.METAL, cull=False)
    return piece


def along_the_street(town: Town, street: Street, rng: np.random.Generator, night: bool, red: bool) -> list[SceneryItem]:
    """All furniture on the pavements; `red`: the traffic lights at the crossing are red."""
    items = [lamp(town, x, s, night) for x, s in lamp_positions(town, street)]
    edge = town.kerb_x + 0.5
    for s in np.arange(street.start + rng.uniform(4, 20), street.end, 17.0):
        right = rng.random() < 0.6
        items.append(sign(edge if right else -edge, float(s), int(rng.integers(6)), right))
    items.append(traffic_light(edge, street.crossing - 1.6, red, True))
    items.append(traffic_light(-edge, street.crossing + 5.2, red, False))
    for s in np.arange(street.start + rng.uniform(0, 25), street.end, 31.0):
        side = 1.0 if rng.random() < 0.5 else -1.0
        x = side * (town.walk_outer - 0.9)
        kind = rng.random()
        if kind < 0.45:
            colour = BINS[int(rng.integers(3))]
            items.append(waste_bin(side * (town.kerb_x + 0.7), float(s), colour))
        elif kind < 0.75:
            items.append(bench(side, x, float(s)))
        elif town.terraced:
            poster = (float(rng.uniform(0.2, 0.7)), float(rng.uniform(0.1, 0.5)), float(rng.uniform(0.1, 0.6)))
            items.append(kiosk(side * (town.kerb_x + 1.2), float(s), poster))
    return items
