"""What lights a street at night: lamps on both sides, lit windows, the sky's glow."""

from __future__ import annotations

import math

import cv2
import numpy as np
import numpy.typing as npt

from drivetl.conditions.optics import Field, uniform
from drivetl.conditions.scene import Scene

LAMP_M = 8.0
"""Height of a street lamp; above a camera on a mast LAMP_M - 1.65 m higher than it."""
TINTS = np.array([[1.30, 0.96, 0.44], [1.10, 0.99, 0.78], [0.90, 1.00, 1.14], [0.64, 1.07, 0.86]], np.float32)
"""Sodium, warm white, cool white and mercury lamps, after half of a camera's white balance; a town has one or two."""


def lamp_tint(rng: np.random.Generator) -> npt.NDArray[np.float32]:
    """(3,) the colour of a town's lamps: one of TINTS, up to a third of the way to another."""
    first, second, part = (float(value) for value in uniform(rng, 3))
    one, other = TINTS[int(4 * first)], TINTS[int(4 * second)]
    return np.asarray(one + np.float32(part / 3) * (other - one), np.float32)


def lamp_row(scene: Scene) -> tuple[float, float]:
    """(metres from the camera's axis, metres above the camera) of the lamps on both sides."""
    return 0.65 * scene.view.canyon_m, max(LAMP_M, scene.view.height_m + 4) - scene.view.height_m


def street_light(scene: Scene, per_km: float, first_m: float) -> Field:
    """(H / 2, W / 2) illumination by street lamps, 1 on average on the road; 1 everywhere without lamps.

    Two rows of lamps with `per_km` a side, staggered, the left one's first at `first_m`. A lamp at height h gives a
    point at distance d on the ground 1 / (1 + (d / h)^2), as luminaires that spread their light along the road do; the
    sum over an endless row has a closed form, sinh(a) / (cosh(a) - cos(2 pi z / s)) with a = 2 pi sqrt(h^2 + x^2) / s.
    Above the lamps it falls off: upper floors and crowns stay dark.
    """
    half = (max(1, scene.width // 2), max(1, scene.height // 2))
    if per_km <= 0:
        return np.ones(half[::-1], np.float32)
    rows, columns = max(1, scene.height // 4), max(1, scene.width // 4)
    depth = np.minimum(cv2.resize(scene.depth, (columns, rows)), np.float32(200))
    below, right = scene.half_grid
    v = cv2.resize(below, (1, rows)).reshape(rows, 1)
    u = cv2.resize(right, (columns, 1)).reshape(1, columns)
    focal = np.float32(scene.view.focal_px)
    x, y = u * depth / focal, np.float32(scene.view.height_m) - v * depth / focal
    side, above = lamp_row(scene)
    height, spacing = above + scene.view.height_m, 1000 / per_km
    total = np.zeros((rows, columns), np.float32)
    for sign in (-1, 1):
        distance = cv2.sqrt(np.square(x - np.float32(sign * side)) + np.float32(height**2))
        q = cv2.exp(distance * np.float32(-2 * math.pi / spacing))
        phase = (depth - np.float32(first_m + (sign + 1) / 4 * spacing)) * np.float32(2 * math.pi / spacing)
        total += (1 - q * q) / (1 + q * q - 2 * q * np.cos(phase)) / distance
    total *= np.float32(0.5 * math.hypot(height, side))
    total /= 1 + np.square(np.maximum(y - np.float32(0.75 * height), 0) * np.float32(1 / 3))
    return np.asarray(cv2.resize(total, half), np.float32)


def street_lamps(scene: Scene, per_km: float, first_m: float) -> Field:
    """(H / 2, W / 2) 0..1 the lamps themselves, as far as 250 m and where nothing nearer is in front of them."""
    rows, columns = max(1, scene.height // 2), max(1, scene.width // 2)
    layer = np.zeros((rows, columns), np.uint8)
    if per_km <= 0:
        return layer.astype(np.float32)
    side, above = lamp_row(scene)
    spacing, focal = 1000 / per_km, scene.view.focal_px
    for sign in (-1, 1):
        for z in np.arange(first_m + (sign + 1) / 4 * spacing, 250, spacing):
            if z < 4:
                continue
            u = scene.view.centre_px + focal * sign * side / z
            v = scene.view.horizon_px - focal * above / z
            if not (0 <= u < scene.width and 0 <= v < scene.height) or scene.depth[int(v), int(u)] < 0.7 * z:
                continue
            centre = [round((value * 0.5 - 0.5) * 16) for value in (u, v)]
            radius = max(0.5, 0.5 * 0.22 * focal / z)
            power = round(255 * min(1.0, 0.35 + 20 / z))
            cv2.circle(layer, centre, round(16 * radius), power, -1, cv2.LINE_AA, 4)
    return layer.astype(np.float32) * np.float32(1 / 255)


def lit_windows(scene: Scene, rng: np.random.Generator, share: float) -> Field:
    """(H / 2, W / 2) 0..1 windows that are lit, a `share` of what `_windows` finds, by the seed."""
    label = _windows(scene)
    count = int(label.max(initial=0)) + 1
    draws = uniform(rng, 512, 2)[np.arange(count) % 512]
    lit = (draws[:, 0] < share) * (np.float32(0.35) + np.float32(0.65) * draws[:, 1])
    lit[0] = 0
    return np.asarray(cv2.blur(lit.astype(np.float32)[label.astype(np.intp)], (3, 3)), np.float32)


def _windows(scene: Scene) -> Field:
    """(H / 2, W / 2) numbers 1..N of what looks like windows, 0 elsewhere.

    By day a window is darker than its wall: dark upright spots that fill their bounding box, 0.4 to 3.5 m wide and high
    at their depth, more than 2 m above the road, neither green nor near the sky, in surroundings that are rather wall
    than anything between wall and window (leaves are that).
    """
    if "windows" not in scene.memo:
        half = (max(1, scene.width // 2), max(1, scene.height // 2))
        level, sky, depth = (
            np.asarray(cv2.resize(part, half, interpolation=cv2.INTER_AREA), np.float32)
            for part in (scene.luminance, scene.sky, scene.depth)
        )
        red, green, blue = (cv2.resize(plane, half, interpolation=cv2.INTER_AREA) for plane in scene.linear)
        light = cv2.log(np.maximum(level, np.float32(0.004)))
        reach = max(3, round(half[0] / 25) | 1)
        hat = cv2.morphologyEx(light, cv2.MORPH_BLACKHAT, np.ones((reach, reach), np.uint8))
        wall, between = (
            cv2.blur(part.astype(np.float32), (2 * reach + 1,) * 2) for part in (hat < 0.12, (hat > 0.12) & (hat < 0.5))
        )
        below, _ = scene.half_grid
        above_m = scene.view.height_m - below * depth / np.float32(scene.view.focal_px)
        dark = (hat > 0.5) & (wall > 0.3) & (wall > 1.2 * between) & (above_m > 2)
        dark &= (green < 1.1 * np.maximum(red, blue)) & (cv2.dilate(sky, np.ones((reach, reach), np.uint8)) < 0.1)
        dark = cv2.morphologyEx(dark.astype(np.uint8), cv2.MORPH_OPEN, np.ones((3, 3), np.uint8)) > 0
        scene.memo["windows"] = _rectangles(dark, depth * np.float32(2 / scene.view.focal_px))
    return scene.memo["windows"]


def _rectangles(mask: npt.NDArray[np.bool_], m_per_px: Field) -> Field:
    """Numbers 1..N of those parts of a mask that are upright rectangles as large as windows."""
    _, label, stats, centres = cv2.connectedComponentsWithStats(mask.astype(np.uint8), connectivity=4)
    wide, high, area = (stats[:, k] for k in (cv2.CC_STAT_WIDTH, cv2.CC_STAT_HEIGHT, cv2.CC_STAT_AREA))
    rows, columns = (np.nan_to_num(centres[:, axis]).astype(int) for axis in (1, 0))
    scale = m_per_px[rows, columns]
    good = (area > 0.68 * wide * high) & (np.minimum(wide, high) >= 3)
    for side in (wide, high):
        good &= (side * scale > 0.4) & (side * scale < 3.5)
    good[0] = False
    number = np.where(good, np.cumsum(good), 0).astype(np.float32)
    return np.asarray(number[label], np.float32)
