"""Trees, hedges, fences and the distant skyline."""

from __future__ import annotations

import math
from functools import lru_cache

import cv2
import numpy as np

from drivetl.sample.buildings import SceneryItem
from drivetl.sample.camera import Array
from drivetl.sample.mesh import Colour, Layer, Material, Piece
from drivetl.sample.street import Street
from drivetl.sample.towns import Town

_SIZE = 200
_TEMPLATES = 9
_CLUMPS = 110
_TONES = ((1.0, 0.0, 1.0), (0.80, 0.018, 0.85), (0.58, 0.040, 0.6), (0.34, 0.055, 0.4))
"""(size factor, upward shift, density) of the leaf clumps, dark to light."""
TRUNK: Colour = (0.075, 0.055, 0.040)


@lru_cache(maxsize=32)
def crown(number: int) -> tuple[tuple[Array, tuple[int, ...]], ...]:
    """Tones of a tree crown, dark to light: (N, 2) corners in [-0.5, 0.5] x [0, 1] (1 is up), corner count per outline.

    Outlines come from overlapping leaf clumps and are filled even-odd, so the sky is visible between clumps.
    """
    rng = np.random.default_rng(7000 + number)
    slim = (1.0, 0.62, 0.85)[number % 3]
    angle, radius = rng.uniform(0, 2 * np.pi, _CLUMPS), np.sqrt(rng.uniform(0, 1, _CLUMPS))
    x, y = 0.5 + 0.40 * slim * radius * np.cos(angle), 0.5 + 0.40 * radius * np.sin(angle)
    size = rng.uniform(0.025, 0.095, _CLUMPS) * (1.15 - 0.5 * radius)
    tones = []
    for tone, (shrink, lift, density) in enumerate(_TONES):
        mask = np.zeros((_SIZE, _SIZE), np.uint8)
        for i in range(_CLUMPS):
            if tone and rng.random() > density * (0.55 + 0.75 * y[i]):
                continue
            centre = (round((x[i] - lift * 0.4) * _SIZE), round((1 - y[i] - lift) * _SIZE))
            cv2.circle(mask, centre, max(1, round(size[i] * shrink * _SIZE)), 255, -1)
        _leaves(mask, rng, tone)
        contours, _ = cv2.findContours(mask, cv2.RETR_CCOMP, cv2.CHAIN_APPROX_TC89_KCOS)
        outlines = [_normalised(contour) for contour in contours if len(contour) >= 3]
        tones.append((np.concatenate(outlines), tuple(len(outline) for outline in outlines)))
    return tuple(tones)


def _leaves(mask: Array, rng: np.random.Generator, tone: int) -> None:
    """Roughen the outline and add small holes, so that a crown does not look like balloons."""
    edge = cv2.morphologyEx(mask, cv2.MORPH_GRADIENT, np.ones((3, 3), np.uint8))
    rows, columns = np.nonzero(edge)
    if not len(rows):
        return
    for i in rng.integers(0, len(rows), 300):
        at = (int(columns[i]), int(rows[i]))
        cv2.circle(mask, at, int(rng.integers(1, 4)), int(rng.choice([0, 255])), -1)
    if tone == 0:
        for at in rng.integers(30, _SIZE - 30, (14, 2)):
            cv2.circle(mask, (int(at[0]), int(at[1])), int(rng.integers(1, 3)), 0, -1)


def _normalised(contour: Array) -> Array:
    """OpenCV contour in px -> (n, 2) in [-0.5, 0.5] x [0, 1], 1 is up."""
    points = contour[:, 0].astype(np.float64) / _SIZE
    return np.stack([points[:, 0] - 0.5, 1.0 - points[:, 1]], axis=1)


def tree(rng: np.random.Generator, leaf: Colour, height: float, x: float, s: float) -> SceneryItem:
    """A tree, drawn flat and facing along the street; height in metres."""
    piece, low = Piece(), height * float(rng.uniform(0.16, 0.30))
    ahead: Colour = (0.0, 0.0, -1.0)
    wide, foot = height * 0.022, 0.9 * (height - low)
    z, top = 0.02, -low - foot * 0.35
    trunk = [(x - wide, 0.0, z), (x + wide, 0.0, z), (x + wide * 0.6, top, z), (x - wide * 0.6, top, z)]
    piece.add([trunk], ahead, TRUNK, Material.PLASTER, cull=False, shading=(-0.7, 0.0, -0.7))
    z, top = 0.01, -low - foot * 0.3
    bright = [(x, 0.0, z), (x + wide, 0.0, z), (x + wide * 0.6, top, z), (x, top, z)]
    piece.add([bright], ahead, TRUNK, Material.PLASTER, cull=False, shading=(0.7, 0.0, -0.7))
    number = int(rng.integers(_TEMPLATES))
    span = (height - low) * (0.95 if number % 3 != 1 else 0.75)
    mirror = 1.0 if rng.random() < 0.5 else -1.0
    for tone, (flat, counts) in enumerate(crown(number)):
        gain, lean = (0.42, 0.72, 1.0, 1.35)[tone], 0.2 + 0.25 * tone
        points = np.empty((len(flat), 3))
        points[:, 0] = x + mirror * flat[:, 0] * span
        points[:, 1] = -low - flat[:, 1] * (height - low)
        points[:, 2] = -0.01 * tone
        colour, towards = (leaf[0] * gain, leaf[1] * gain, leaf[2] * gain), (0.0, -lean, -1.0 + 0.2 * tone)
        piece.layers.append(Layer(points, counts, ahead, colour, Material.LEAVES, 0.0, False, False, towards))
    return SceneryItem(piece, s, tag="tree", x=x)


def hedge(
    side: float, x: float, s0: float, s1: float, height: float, leaf: Colour, rng: np.random.Generator
) -> SceneryItem:
    """A hedge along the front garden, with an uneven top."""
    piece, half, thick = Piece(), (s1 - s0) / 2, 0.8
    low, high = sorted((x, x + side * thick))
    count = max(2, round(half * 2 / 0.6))
    z = np.linspace(-half, half, count)
    top = -(height + rng.uniform(-0.08, 0.10, count))
    outline = np.concatenate(
        [np.stack([np.full(count, x), top, z], axis=1), np.array([[x, 0.0, half], [x, 0.0, -half]])]
    )
    dark = (leaf[0] * 0.7, leaf[1] * 0.7, leaf[2] * 0.7)
    piece.box((low, -height, -half), (high, 0.0, half), dark, Material.LEAVES, "bft")
    piece.add([outline], (-side, 0.0, 0.0), leaf, Material.LEAVES, convex=False)
    return SceneryItem(piece, (s0 + s1) / 2, (low, high, -half, half, height))


def fence(side: float, x: float, s0: float, s1: float, colour: Colour) -> SceneryItem:
    """A picket fence on a low wall."""
    piece, half = Piece(), (s1 - s0) / 2
    low, high = sorted((x, x + side * 0.2))
    piece.box((low, -0.42, -half), (high, 0.0, half), (0.33, 0.30, 0.27), Material.BRICK, "lrbft")
    at, normal = x - side * 0.01, (-side, 0.0, 0.0)
    pickets = [
        [(at, -0.42, z), (at, -0.42, z + 0.07), (at, -1.12, z + 0.07), (at, -1.12, z)]
        for z in np.arange(-half, half - 0.1, 0.17)
    ]
    piece.add(pickets, normal, colour, Material.PAINT, cull=False)
    return SceneryItem(piece, (s0 + s1) / 2)


def skyline(town: Town, street: Street, rng: np.random.Generator) -> Piece:
    """The horizon ahead and to both sides: a wooded ridge, or a row of roofs."""
    piece = Piece()
    colour: Colour = (0.13, 0.14, 0.16) if town.terraced else (0.06, 0.085, 0.045)
    side = 0.45 * street.breadth
    middle = (street.start + street.end) / 2
    for pose in (
        street.pose(0.0, street.end + 20.0),
        street.pose(side, middle, math.pi / 2),
        street.pose(-side, middle, -math.pi / 2),
    ):
        x = np.linspace(-260, 260, 140)
        if town.terraced:
            steps = np.repeat(rng.uniform(9, 34, 35), 4)
            height = steps * (0.55 + 0.45 * np.clip(np.abs(x) / 60, 0, 1))
        else:
            waves = [np.sin(x / w + rng.uniform(0, 6)) * a for w, a in ((60, 3.0), (17, 1.5), (5.0, 0.9), (1.9, 0.55))]
            height = np.maximum(10.5 + np.sum(waves, axis=0) + rng.uniform(-0.4, 0.4, len(x)), 3.0)
        top = np.stack([x, -height, np.zeros(len(x))], axis=1)
        outline = np.concatenate([top, [[260.0, 0.0, 0.0], [-260.0, 0.0, 0.0]]])
        normal = pose.rotation() @ np.array([0.0, 0.0, -1.0])
        piece.add([pose.apply(outline)], tuple(normal.tolist()), colour, Material.FAR, cull=False, convex=False)
    return piece


def gardens(town: Town, street: Street, rng: np.random.Generator) -> list[SceneryItem]:
    """Hedges, fences and trees in front of and between the houses."""
    items: list[SceneryItem] = []
    low, high = street.side_street - street.gap / 2, street.side_street + street.gap / 2
    greens: tuple[Colour, ...] = ((0.075, 0.125, 0.028), (0.055, 0.10, 0.026), (0.11, 0.13, 0.03), (0.16, 0.12, 0.028))
    for side in (-1.0, 1.0):
        s = street.start
        while s < street.end:
            run = float(rng.uniform(5, 14))
            inside = s + run > low and s < high
            kind = rng.random()
            leaf = greens[int(rng.integers(len(greens)))]
            if not inside and kind < 0.45:
                height = float(rng.uniform(0.9, 1.7))
                items.append(hedge(side, side * (town.walk_outer + 0.25), s, s + run, height, leaf, rng))
            elif not inside and kind < 0.75:
                colour = (0.5, 0.48, 0.44) if kind < 0.6 else (0.12, 0.08, 0.05)
                items.append(fence(side, side * (town.walk_outer + 0.2), s, s + run, colour))
            s += run + float(rng.uniform(0.8, 3.0))
        s = street.start + float(rng.uniform(0, 8))
        while s < street.end:
            if not low < s < high:
                x = side * float(rng.uniform(town.walk_outer + 1.4, town.building_x + 3.5))
                items.append(tree(rng, greens[int(rng.integers(len(greens)))], float(rng.uniform(5, 11)), x, s))
            s += float(rng.uniform(5, 16))
    return items


def avenue(town: Town, street: Street, rng: np.random.Generator) -> list[SceneryItem]:
    """Rows of street trees on both pavements."""
    items: list[SceneryItem] = []
    low, high = street.side_street - street.gap / 2, street.side_street + street.gap / 2
    gap = float(rng.uniform(11, 26))
    for side in (-1.0, 1.0):
        for s in np.arange(street.start + rng.uniform(0, gap), street.end, gap):
            if not low < s < high and rng.random() < 0.8:
                leaf: Colour = (0.045, 0.088, 0.035) if rng.random() < 0.7 else (0.06, 0.105, 0.03)
                items.append(tree(rng, leaf, float(rng.uniform(6, 10.5)), side * (town.kerb_x + 0.95), float(s)))
    return items
