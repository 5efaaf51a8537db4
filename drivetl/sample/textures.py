"""Surface textures: one 8 m tile per material; 128 means unchanged. Computed once per process."""

from __future__ import annotations

from functools import lru_cache

import cv2
import numpy as np

from drivetl.sample.camera import Array
from drivetl.sample.mesh import Material

TILE = 512
PX_PER_M = 64.0


def fractal(rng: np.random.Generator, size: int, slope: float, low: float = 1.0) -> Array:
    """(size, size) tileable noise with a 1/f^slope spectrum above `low` cycles, zero mean, unit standard deviation."""
    f = np.hypot(*np.meshgrid(np.fft.fftfreq(size) * size, np.fft.rfftfreq(size) * size, indexing="ij"))
    spectrum = np.fft.rfft2(rng.standard_normal((size, size))) * np.where(f >= low, np.maximum(f, 1) ** -slope, 0)
    noise = np.fft.irfft2(spectrum, (size, size))
    return np.asarray((noise - noise.mean()) / noise.std())


def _grid(rng: np.random.Generator, wide: int, tall: int, joint: int, dark: float, spread: float) -> Array:
    """(TILE, TILE) slabs of wide x tall px in running bond, with joints `dark` levels darker."""
    tile = np.zeros((TILE, TILE))
    for row in range(0, TILE, tall):
        shift = (row // tall % 2) * wide // 2
        for column in range(-wide, TILE, wide):
            x0, x1 = max(column + shift, 0), min(column + shift + wide, TILE)
            if x1 > x0:
                tile[row : row + tall, x0:x1] = rng.normal(0, spread)
                tile[row : row + tall, x0 : min(x0 + joint, TILE)] = -dark
        tile[row : row + joint] = -dark
    return tile


def _asphalt(rng: np.random.Generator) -> Array:
    tile = 8 * rng.standard_normal((TILE, TILE)) + 6 * fractal(rng, TILE, 1.2, 2)
    cracks = np.zeros((TILE, TILE), np.uint8)
    for _ in range(3):
        start, steps = rng.integers(60, TILE - 60, (1, 2)), rng.integers(-16, 17, (14, 2))
        points = np.cumsum(np.concatenate([start, steps]), axis=0)
        cv2.polylines(cracks, [points.astype(np.int32)], False, 1, 1)
    patch = rng.integers(0, TILE - 150, 2)
    tile[patch[0] : patch[0] + 120, patch[1] : patch[1] + 90] -= 9
    return np.asarray(tile - 26.0 * cracks)


def _cobble(rng: np.random.Generator) -> Array:
    stones = _grid(rng, 10, 8, 2, 20, 9)
    return np.asarray(cv2.GaussianBlur(stones, (3, 3), 0.7) + 4 * fractal(rng, TILE, 1.2, 2))


@lru_cache(maxsize=1)
def atlas() -> Array:
    """(15 * TILE, TILE) uint8: the tiles of all materials, stacked in the order of `Material`."""
    rng = np.random.default_rng(20)

    def noise(slope: float, level: float, grain: float) -> Array:
        return np.asarray(level * fractal(rng, TILE, slope, 2) + grain * rng.standard_normal((TILE, TILE)))

    tiles = {
        Material.ROAD: _asphalt(rng),
        Material.PAVING: _grid(rng, 26, 26, 1, 22, 6) + noise(1.2, 4, 4),
        Material.GRASS: noise(0.6, 20, 14),
        Material.MARKING: np.minimum(noise(1.0, 9, 4), 8),
        Material.PLASTER: noise(1.5, 7, 2.5),
        Material.BRICK: _grid(rng, 16, 6, 1, -15, 11) + noise(1.3, 5, 2),
        Material.ROOF: _grid(rng, 18, 20, 3, 24, 8) + noise(1.2, 5, 3),
        Material.LEAVES: noise(0.75, 24, 12),
        Material.COBBLE: _cobble(rng),
        Material.FAR: noise(1.0, 6, 0),
        Material.CLOTH: noise(1.0, 5, 3),
        Material.GLASS: noise(1.4, 5, 0),
    }
    flat = np.zeros((TILE, TILE))
    stack = np.concatenate([tiles.get(material, flat) for material in Material])
    return np.asarray(np.clip(np.rint(stack + 128), 1, 255), np.uint8)


@lru_cache(maxsize=1)
def puddles() -> Array:
    """(TILE, TILE) uint8 wetness of the ground, 0 (damp) to 255 (standing water); one tile is 24 m."""
    noise = fractal(np.random.default_rng(21), TILE, 1.7, 2)
    return np.asarray(np.clip(np.rint(128 + 90 * noise), 0, 255), np.uint8)


@lru_cache(maxsize=1)
def grain() -> Array:
    """(1024, 2048) int16 sensor noise, standard deviation 64; each frame uses a random crop."""
    return np.asarray(np.rint(64 * np.random.default_rng(22).standard_normal((1024, 2048))), np.int16)


@lru_cache(maxsize=1)
def cloud_tile() -> Array:
    """(1024, 1024) float32 cloud density, tileable, unit standard deviation."""
    return np.asarray(fractal(np.random.default_rng(23), 1024, 1.55, 1), np.float32)
