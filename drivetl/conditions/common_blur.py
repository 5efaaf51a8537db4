"""The published blurs (Hendrycks & Dietterich 2019, Michaelis et al. 2019), and the two of them that move content
once more with their centre of mass where it belongs.

Every effect has the form `effect(scene, rng, **parameters) -> (H, W, 3) uint8 RGB`.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from functools import lru_cache

import cv2
import numpy as np
import numpy.typing as npt

from drivetl.conditions.optics import Rgb, disc_kernel, uniform, words16
from drivetl.conditions.scene import Scene

Wide = npt.NDArray[np.uint16]


def gaussian_blur(scene: Scene, rng: np.random.Generator, *, sigma_px: float) -> Rgb:
    """A Gaussian, cut off at 4 sigma."""
    return _blurred(scene.image, sigma_px)


def _blurred(image: Rgb, sigma_px: float) -> Rgb:
    size = 2 * int(4 * sigma_px + 0.5) + 1
    return np.asarray(cv2.GaussianBlur(image, (size, size), sigma_px, borderType=cv2.BORDER_REPLICATE), np.uint8)


def defocus_blur(scene: Scene, rng: np.random.Generator, *, radius_px: float, soften_px: float) -> Rgb:
    """A disc of whole pixels, its edge softened by a small Gaussian.

    From a radius of 6 on at half the resolution, which differs by half a level on average.
    """
    reach = max(8, int(radius_px))
    y, x = np.mgrid[-reach : reach + 1, -reach : reach + 1]
    disc = (x**2 + y**2 <= radius_px**2).astype(np.float32)
    disc /= disc.sum()
    size = 3 if radius_px <= 8 else 5
    kernel = cv2.GaussianBlur(disc, (size, size), soften_px)
    if radius_px >= 6:
        return _half_size_disc(scene.image, radius_px, float(kernel.sum()))
    blurred = cv2.filter2D(scene.image.astype(np.float32), -1, _trimmed(kernel))  # faster on floats than on bytes
    return np.asarray(cv2.convertScaleAbs(blurred), np.uint8)


def _half_size_disc(image: Rgb, radius_px: float, gain: float) -> Rgb:
    """As wide a blur at half the resolution: what that blurs by itself, about 3 px^2 more than the disc's soft edge
    does, is taken off r^2 (four times a disc's variance). `gain`: the published kernel of radius 10 has a sum of 1.01.
    """
    height, width = image.shape[:2]
    even = cv2.copyMakeBorder(image, 0, height % 2, 0, width % 2, cv2.BORDER_REFLECT_101)
    half = (even.shape[1] // 2, even.shape[0] // 2)
    small = cv2.resize(even, half, interpolation=cv2.INTER_AREA).astype(np.float32)
    blurred = cv2.filter2D(small, -1, disc_kernel(math.sqrt(radius_px**2 - 3) / 2))
    full = cv2.resize(
        cv2.convertScaleAbs(blurred, alpha=gain), (even.shape[1], even.shape[0]), interpolation=cv2.INTER_LINEAR
    )
    return np.ascontiguousarray(full[:height, :width], np.uint8)


def _trimmed(kernel: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """Without the rings of nothing around it."""
    rows = np.nonzero((kernel > 1e-7).any(axis=1))[0]
    rim = int(min(rows[0], len(kernel) - 1 - rows[-1]))
    return np.ascontiguousarray(kernel[rim : len(kernel) - rim, rim : len(kernel) - rim])


def glass_blur(scene: Scene, rng: np.random.Generator, *, sigma_px: float, reach_px: float, rounds: float) -> Rgb:
    """Blur, overwrite every pixel by one up to `reach_px` away, one after the other, `rounds` times, blur again.

    (The published code means to swap, but overwrites: both sides of its assignment are views of one array.) Steps
    are -r .. r - 1 as published and taken from the bottom right on, so content moves down and right by 1 to 3 px.
    """
    return _shuffled(scene, rng, sigma_px, overwritten_from(int(reach_px), int(rounds)))


def glass_blur_aligned(
    scene: Scene, rng: np.random.Generator, *, sigma_px: float, reach_px: float, rounds: float
) -> Rgb:
    """`glass_blur` with every other pixel's displacement turned round, as on a chessboard: content stays."""
    moves = overwritten_from(int(reach_px), int(rounds))
    signs = 1 - 2 * (np.indices(moves.shape[:2]).sum(axis=0) % 2)
    return _shuffled(scene, rng, sigma_px, (moves * signs[..., None]).astype(np.int16))


def _shuffled(scene: Scene, rng: np.random.Generator, sigma_px: float, tile: npt.NDArray[np.int16]) -> Rgb:
    """The image tiled with displacements, from a random corner on, blurred before and after."""
    reach = int(np.abs(tile).max())
    image = cv2.copyMakeBorder(_blurred(scene.image, sigma_px), reach, reach, reach, reach, cv2.BORDER_REFLECT)
    pixels = cv2.cvtColor(image, cv2.COLOR_RGB2RGBA).view(np.uint32)[..., 0]  # one number each: moved at once
    stride = pixels.shape[1]
    steps = tile[..., 1].astype(np.int32) * stride + tile[..., 0]
    first = (uniform(rng, 2) * len(tile)).astype(int)
    rows, columns = ((np.arange(n) + start) % len(tile) for n, start in zip(scene.image.shape[:2], first, strict=True))
    places = steps[:, columns][rows]
    places += np.arange(reach, reach + scene.width, dtype=np.int32)
    places += stride * np.arange(reach, reach + scene.height, dtype=np.int32)[:, None]
    moved = pixels.take(places).view(np.uint8).reshape(scene.height, scene.width, 4)
    return _blurred(np.asarray(cv2.cvtColor(moved, cv2.COLOR_RGBA2RGB), np.uint8), sigma_px)


@lru_cache(8)
def overwritten_from(reach: int, rounds: int) -> npt.NDArray[np.int16]:
    """(128, 128, 2) dx, dy px to where each pixel's content came from, on a torus, from the bottom right up.

    One pixel after the other is slow: this small grid goes through it once, and images are tiled with it.
    """
    side = 128
    draws = words16(np.random.default_rng([2019, reach, rounds]), 2 * rounds * side * side).astype(np.int64)
    pairs = iter(((draws * (2 * reach) >> 16) - reach).reshape(-1, 2).tolist())
    content = [(0, 0)] * (side * side)
    for _ in range(rounds):
        for row in range(side - 1, -1, -1):
            for column in range(side - 1, -1, -1):
                dx, dy = next(pairs)
                x, y = content[(row + dy) % side * side + (column + dx) % side]
                content[row * side + column] = (x + dx, y + dy)
    return np.array(content, np.int16).reshape(side, side, 2)


def motion_kernel(radius_px: int, sigma_px: float, angle_deg: float, *, aligned: bool) -> npt.NDArray[np.float32]:
    """Weights of a Gaussian along a line, 2 radius + 1 taps.

    As published it is one half of a Gaussian, its taps on whole pixels on one side of the centre: content moves by
    its centroid, 2 to 11 px. `aligned`: a whole Gaussian of the same spread, centred between the taps' ends.
    """
    taps = np.arange(2 * radius_px + 1)
    weights = np.exp(-(taps**2) / (2 * sigma_px**2))
    weights /= weights.sum()
    angle = math.radians(angle_deg)
    if not aligned:
        dx, dy = (np.ceil(taps * part - 0.5) for part in (math.cos(angle), math.sin(angle)))
    else:
        variance = float(weights @ taps**2) - float(weights @ taps) ** 2
        centred = taps - radius_px
        weights = np.exp(-(centred**2) / (2 * variance))
        weights /= weights.sum()
        dx, dy = centred * math.cos(angle), centred * math.sin(angle)
    reach = int(np.ceil(max(np.abs(dx).max(), np.abs(dy).max()))) + 1
    kernel = np.zeros((2 * reach + 1, 2 * reach + 1), np.float64)
    x0, y0 = np.floor(dx), np.floor(dy)
    for i in (0, 1):
        for j in (0, 1):
            share = np.abs(1 - i - (dx - x0)) * np.abs(1 - j - (dy - y0)) * weights
            np.add.at(kernel, ((y0 + j + reach).astype(int), (x0 + i + reach).astype(int)), share)
    return kernel.astype(np.float32)


def _motion(scene: Scene, rng: np.random.Generator, radius_px: float, sigma_px: float, aligned: bool) -> Rgb:
    angle = float(uniform(rng, 1)[0]) * 90 - 45
    kernel = motion_kernel(int(radius_px), sigma_px, angle, aligned=aligned)
    return along_line(scene.image, kernel)


def along_line(image: npt.NDArray[np.uint8], kernel: npt.NDArray[np.float32]) -> npt.NDArray[np.uint8]:
    """The image (H, W) or (H, W, 3) under a `motion_kernel`; only the part of the kernel that weighs is applied."""
    middle = len(kernel) // 2
    rows, columns = np.nonzero(kernel > 1e-5)
    rows, columns = (np.append(part, middle) for part in (rows, columns))  # OpenCV wants the anchor inside
    part = np.ascontiguousarray(kernel[rows.min() : rows.max() + 1, columns.min() : columns.max() + 1])
    anchor = (int(middle - columns.min()), int(middle - rows.min()))
    blurred = cv2.filter2D(image, -1, part, anchor=anchor, borderType=cv2.BORDER_REPLICATE)
    return np.asarray(blurred, np.uint8)


def motion_blur(scene: Scene, rng: np.random.Generator, *, radius_px: float, sigma_px: float) -> Rgb:
    """Motion blur as published: one-sided, it moves content along its direction; labels do not follow."""
    return _motion(scene, rng, radius_px, sigma_px, aligned=False)


def motion_blur_aligned(scene: Scene, rng: np.random.Generator, *, radius_px: float, sigma_px: float) -> Rgb:
    """`motion_blur` with a whole Gaussian of the same spread: content stays."""
    return _motion(scene, rng, radius_px, sigma_px, aligned=True)


def _mean(image: Rgb, zooms: Iterable[Wide]) -> Rgb:
    """Of the image and its zooms; 16 bit hold the sum of 257 bytes."""
    total, count = image.astype(np.uint16), 1
    for zoom in zooms:
        total += zoom
        count += 1
    return np.asarray(cv2.convertScaleAbs(total, alpha=1 / count), np.uint8)


def _cropped_zooms(image: Rgb, factors: npt.NDArray[np.float64]) -> Iterator[Wide]:
    """As published: the middle 1 / factor in whole pixels, enlarged by `factor`, cut at the right and bottom edge."""
    height, width = image.shape[:2]
    wide = image.astype(np.uint16)  # OpenCV zooms it faster than bytes
    room = np.empty((height + 4, width + 4, 3), np.uint16)  # the same memory for all: new memory costs as much
    for factor in factors:
        rows, columns = math.ceil(height / factor), math.ceil(width / factor)
        top, left = (height - rows) // 2, (width - columns) // 2
        size = (max(width, round(columns * factor)), max(height, round(rows * factor)))
        large = room[: size[1], : size[0]]
        cv2.resize(wide[top : top + rows, left : left + columns], size, large, interpolation=cv2.INTER_LINEAR)
        yield large[:height, :width]


def _centred_zooms(image: Rgb, factors: npt.NDArray[np.float64]) -> Iterator[Wide]:
    """Zooms by crops (below 1 with a mirrored border) that are the same on opposite sides: the centre stays exactly."""
    height, width = image.shape[:2]
    cuts = [[round(side / 2 * (1 - 1 / factor)) for side in (height, width)] for factor in factors]
    rim = max(0, -min(min(cut) for cut in cuts))
    wide = cv2.copyMakeBorder(image, rim, rim, rim, rim, cv2.BORDER_REFLECT_101).astype(np.uint16)
    room = np.empty((height, width, 3), np.uint16)
    for rows, columns in cuts:
        part = wide[rim + rows : rim + height - rows, rim + columns : rim + width - columns]
        cv2.resize(part, (width, height), room, interpolation=cv2.INTER_LINEAR)
        yield room


def zoom_blur(scene: Scene, rng: np.random.Generator, *, largest: float, step: float) -> Rgb:
    """The mean of zooms 1, 1 + step, ... below `largest`: content moves outwards by half the range; labels do not."""
    return _mean(scene.image, _cropped_zooms(scene.image, np.arange(1, largest, step)))


def zoom_blur_aligned(scene: Scene, rng: np.random.Generator, *, largest: float, step: float) -> Rgb:
    """`zoom_blur` with its range of zooms centred on 1: the same smear, content stays."""
    factors = np.arange(1, largest, step)
    return _mean(scene.image, _centred_zooms(scene.image, factors - factors.mean() + 1))
