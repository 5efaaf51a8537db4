"""The published weather corruptions (Hendrycks & Dietterich 2019, Michaelis et al. 2019): blind to depth, kept
because numbers were published with them. Frost is drawn, not photographed: the original's images are not ours.

Every effect has the form `effect(scene, rng, **parameters) -> (H, W, 3) uint8 RGB`.
"""

from __future__ import annotations

import math
from functools import lru_cache

import cv2
import numpy as np
import numpy.typing as npt

from drivetl.conditions.common_blur import along_line, motion_kernel
from drivetl.conditions.common_noise import to_bytes
from drivetl.conditions.optics import Rgb, normal, smooth_noise, uniform
from drivetl.conditions.scene import Scene

Floats = npt.NDArray[np.float32]


def plasma_fog(scene: Scene, rng: np.random.Generator, *, amount: float, decay: float) -> Rgb:
    """(x + amount * plasma) * max / (max + amount): the published `fog`, blind to depth; black stays black."""
    brightest = float(scene.image.max()) / 255
    factor = brightest / (brightest + amount)
    cloud = plasma(rng, scene.height, scene.width, decay)
    layer = cv2.cvtColor(cv2.convertScaleAbs(cloud, alpha=factor * 255 * amount), cv2.COLOR_GRAY2RGB)
    return np.asarray(cv2.addWeighted(scene.image, factor, layer, 1, 0), np.uint8)


def plasma(rng: np.random.Generator, height: int, width: int, decay: float) -> Floats:
    """(H, W) of a square of 2^n px that spans 0..1, by diamond-square on a torus.

    Each level's noise is 1 / decay^2 of the level above (the published code multiplies its amplitude twice). The
    two finest levels, below 0.5 % of the range, are interpolated.
    """
    side = 2 ** math.ceil(math.log2(max(height, width, 4)))
    grid, amplitude = np.zeros((1, 1), np.float32), 1.0
    while len(grid) < side // 4:
        n = len(grid)
        noise = uniform(rng, 3, n, n)
        noise -= np.float32(0.5)
        noise *= np.float32(2 * amplitude)
        around = cv2.copyMakeBorder(grid, 0, 1, 0, 1, cv2.BORDER_WRAP)  # and one more at the right and below
        right, below = around[:-1, 1:], around[1:, :-1]
        centre = grid + right
        centre += below
        centre += around[1:, 1:]
        centre *= np.float32(0.25)
        centre += noise[0]
        around = cv2.copyMakeBorder(centre, 1, 0, 1, 0, cv2.BORDER_WRAP)
        finer = np.empty((2 * n, 2 * n), np.float32)
        finer[::2, ::2], finer[1::2, 1::2] = grid, centre
        for part, near, beyond, shift in (
            (finer[::2, 1::2], right, around[:-1, 1:], noise[1]),
            (finer[1::2, ::2], below, around[1:, :-1], noise[2]),
        ):
            mean = grid + near
            mean += centre
            mean += beyond
            mean *= np.float32(0.25)
            np.add(mean, shift, out=part)
        grid, amplitude = finer, amplitude / decay**2
    low, high = float(grid.min()), float(grid.max())
    rows, columns = math.ceil(height / 4) + 1, math.ceil(width / 4) + 1
    part = (grid[:rows, :columns] - np.float32(low)) * np.float32(1 / max(high - low, 1e-6))
    size = (4 * part.shape[1], 4 * part.shape[0])
    return np.asarray(cv2.resize(part, size, interpolation=cv2.INTER_LINEAR)[:height, :width], np.float32)


def snow(
    scene: Scene,
    rng: np.random.Generator,
    *,
    mean: float,
    std: float,
    zoom: float,
    threshold: float,
    radius_px: float,
    sigma_px: float,
    keep: float,
) -> Rgb:
    """Thresholded, zoomed, motion-blurred noise added to a bleached image, once more turned by 180 degrees."""
    size = (math.ceil(scene.height / zoom) + 1, math.ceil(scene.width / zoom) + 1)
    noise = normal(rng, *size)
    noise *= np.float32(std)
    noise += np.float32(mean)
    full = (math.ceil(size[1] * zoom), math.ceil(size[0] * zoom))
    flakes = cv2.resize(noise, full)[: scene.height, : scene.width]
    flakes = cv2.threshold(flakes, threshold, 0, cv2.THRESH_TOZERO)[1]
    layer = np.asarray(cv2.convertScaleAbs(flakes, alpha=255), np.uint8)  # none is below 0 any more
    angle = float(uniform(rng, 1)[0]) * 90 - 135
    layer = along_line(layer, motion_kernel(int(radius_px), sigma_px, angle, aligned=False))
    grey = cv2.cvtColor(scene.image, cv2.COLOR_RGB2GRAY)
    grey = cv2.convertScaleAbs(grey, alpha=1.5 * (1 - keep), beta=127.5 * (1 - keep))
    part = cv2.convertScaleAbs(scene.image, alpha=1 - keep)
    bleached = cv2.max(part, cv2.cvtColor(grey, cv2.COLOR_GRAY2RGB))
    values = cv2.addWeighted(scene.image, keep, bleached, 1, 0)
    snowing = cv2.cvtColor(cv2.add(layer, cv2.flip(layer, -1)), cv2.COLOR_GRAY2RGB)
    return np.asarray(cv2.add(values, snowing), np.uint8)


def frost(scene: Scene, rng: np.random.Generator, *, keep: float, amount: float) -> Rgb:
    """keep * x + amount * ice, ice a random crop of one of five drawn textures."""
    draw = uniform(rng, 5)
    texture = ice_texture(int(draw[0] * 5))
    if draw[1] < 0.5:
        texture = texture[:, ::-1]
    zoom = max(scene.height, scene.width) * 1.1 / max(texture.shape[:2])
    if zoom > 1:
        size = (math.ceil(texture.shape[1] * zoom), math.ceil(texture.shape[0] * zoom))
        texture = np.asarray(cv2.resize(np.ascontiguousarray(texture), size), np.uint8)
    top = int(draw[2] * (texture.shape[0] - scene.height))
    left = int(draw[3] * (texture.shape[1] - scene.width))
    crop = np.ascontiguousarray(texture[top : top + scene.height, left : left + scene.width])
    return np.asarray(cv2.addWeighted(scene.image, keep, crop, amount, 0), np.uint8)


@lru_cache(5)
def ice_texture(kind: int) -> Rgb:
    """(1400, 1400, 3) frost ferns on glass; five kinds whose tone and spread span the published photographs'.

    Ferns grow along stems with barbs at 60 degrees, as ice does, over a mottled ground; drawn once per process.
    """
    side = 1400
    level, spread, tint, ferns = (
        (131, 22, (0.62, 1.13, 1.25), 500),
        (206, 24, (0.97, 0.99, 1.04), 2600),
        (152, 30, (0.91, 1.01, 1.08), 2000),
        (123, 42, (0.91, 1.00, 1.09), 1700),
        (90, 42, (0.80, 1.05, 1.15), 900),
    )[kind]
    rng = np.random.default_rng([20190717, kind])
    ground = smooth_noise(rng, side, side, 300, octaves=6)
    crystals = np.zeros((side, side), np.float32)
    draws = uniform(rng, ferns, 5)
    for x, y, turn, size, shine in draws:
        _draw_fern(crystals, x * side, y * side, turn * 2 * math.pi, 25 + 150 * size**2, 0.4 + float(shine))
    soft = cv2.GaussianBlur(crystals, (0, 0), 0.8)
    mixed = 0.55 * ground + 0.85 * (soft - soft.mean()) / (soft.std() + 1e-6)
    grey = level + spread * (mixed - mixed.mean()) / mixed.std()
    return to_bytes(np.asarray(grey[..., None] * np.array(tint), np.float32))


def _draw_fern(canvas: Floats, x: float, y: float, turn: float, length: float, shine: float) -> None:
    """One stem with barbs on both sides that shorten towards its tip."""
    stem = np.array([math.cos(turn), math.sin(turn)])
    lines = [np.array([[x, y], [x + length * stem[0], y + length * stem[1]]])]
    for along in np.arange(0.1, 1.0, 6 / length + 0.03):
        foot = np.array([x, y]) + along * length * stem
        reach = 0.32 * length * (1 - along) + 2
        for side in (-math.pi / 3, math.pi / 3):
            tip = foot + reach * np.array([math.cos(turn + side), math.sin(turn + side)])
            lines.append(np.array([foot, tip]))
    points = [np.rint(line * 16).astype(np.int32) for line in lines]
    cv2.polylines(canvas, points, False, shine, 1, cv2.LINE_AA, 4)


def spatter(
    scene: Scene,
    rng: np.random.Generator,
    *,
    mean: float,
    std: float,
    sigma_px: float,
    threshold: float,
    strength: float,
    mud: float,
) -> Rgb:
    """Drops of water (turquoise highlights along their rims) or, with `mud` = 1, brown splashes."""
    liquid = normal(rng, scene.height, scene.width)
    size = 2 * int(4 * sigma_px + 0.5) + 1
    cv2.GaussianBlur(liquid, (size, size), sigma_px, dst=liquid, borderType=cv2.BORDER_REPLICATE)
    liquid *= np.float32(std)
    liquid += np.float32(mean)
    if mud:
        cover = (liquid > threshold).astype(np.float32)
        size = 2 * int(4 * strength + 0.5) + 1
        soft = cv2.GaussianBlur(cover, (size, size), strength, borderType=cv2.BORDER_REPLICATE)
        cover = np.asarray(cv2.threshold(soft, 0.8, 0, cv2.THRESH_TOZERO)[1], np.float32)
        brown = np.empty_like(scene.image)
        brown[:] = 63, 42, 20
        return np.asarray(cv2.blendLinear(scene.image, brown, 1 - cover, cover), np.uint8)
    drops = np.minimum(cv2.threshold(liquid, threshold, 0, cv2.THRESH_TOZERO)[1] * 255, 255).astype(np.uint8)
    distance = cv2.distanceTransform(255 - cv2.Canny(drops, 50, 150), cv2.DIST_L2, 5)
    near = cv2.equalizeHist(cv2.blur(np.minimum(distance, 20), (3, 3)).astype(np.uint8))
    relief = np.array([[-2, -1, 0], [-1, 1, 1], [0, 1, 2]], np.float32)
    near = cv2.blur(cv2.filter2D(near, cv2.CV_8U, relief), (3, 3))
    gloss = np.asarray(cv2.multiply(drops, near, dtype=cv2.CV_32F), np.float32)
    gloss *= np.float32(strength / max(float(gloss.max()), 1e-6))
    shine = cv2.merge([cv2.convertScaleAbs(gloss, alpha=part) for part in (175, 238, 238)])
    return np.asarray(cv2.add(scene.image, shine), np.uint8)
