"""The published blurs (Hendrycks & Dietterich 2019, Michaelis et al. 2019), and the two of them that move content
once more with their centre of mass where it belongs.

Every effect has the form `effect(scene, rng, **parameters) -> (H, W, 3) uint8 RGB`.
"""

from __future__ import annotations

import math
from functools import lru_cache

import cv2
import numpy as np
import numpy.typing as npt

from drivetl.conditions.optics import Rgb, uniform, words16
from drivetl.conditions.scene import Scene


def gaussian_blur(scene: Scene, rng: np.random.Generator, *, sigma_px: float) -> Rgb:
    """A Gaussian, cut off at 4 sigma."""
    return _blurred(scene.image, sigma_px)


def _blurred(image: Rgb, sigma_px: float) -> Rgb:
    size = 2 * int(4 * sigma_px + 0.5) + 1
    return np.asarray(
        cv2.GaussianBlur(image, (size, size), sigma_px, borderType=cv2.BORDER_REPLICATE), np.uint8
    )


def defocus_blur(scene: Scene, rng: np.random.Generator, *, radius_px: float, soften_px: float) -> Rgb:
    """A disc of whole pixels, its edge softened by a small Gaussian."""
    reach = max(8, int(radius_px))
    y, x = np.mgrid[-reach : reach + 1, -reach : reach + 1]
    disc = (x**2 + y**2 <= radius_px**2).astype(np.float32)
    disc /= disc.sum()
    size = 3 if radius_px <= 8 else 5
    kernel = cv2.GaussianBlur(disc, (size, size), soften_px)
    return np.asarray(cv2.filter2D(scene.image, -1, _trimmed(kernel)), np.uint8)


def _trimmed(kernel: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """Without the rings of zeros around it."""
    rows = np.nonzero(kernel.any(axis=1))[0]
    rim = int(min(rows[0], len(kernel) - 1 - rows[-1]))
    return np.ascontiguousarray(kernel[rim : len(kernel) - rim, rim : len(kernel) - rim])


def glass_blur(
    scene: Scene, rng: np.random.Generator, *, sigma_px: float, reach_px: float, rounds: float
) -> Rgb:
    """Blur, swap pixels with neighbours up to `reach_px` away, `rounds` times, blur again.

    The original swaps one pixel after the other, so that most take part in more than one swap of a round; here
    each round moves every pixel twice by independent uniform steps, which gives the same spread at once.
    """
    image = _blurred(scene.image, sigma_px)
    table = _swap_table(int(reach_px))
    rows = np.arange(scene.height, dtype=np.int16)[:, None]
    columns = np.arange(scene.width, dtype=np.int16)[None]
    for _ in range(int(rounds)):
        steps = table.take(words16(rng, 2 * scene.height * scene.width)).reshape(2, scene.height, scene.width)
        places = cv2.merge([columns + steps[0], rows + steps[1]])
        image = cv2.remap(image, places, None, cv2.INTER_NEAREST, borderMode=cv2.BORDER_REFLECT)
    return _blurred(np.asarray(image, np.uint8), sigma_px)


@lru_cache(8)
def _swap_table(reach: int) -> npt.NDArray[np.int16]:
    """(65536,) equally likely values of the sum of two uniform whole steps within +-reach."""
    width = 2 * reach + 1
    sums = np.add.outer(np.arange(width), np.arange(width)).ravel() - 2 * reach
    return np.sort(sums)[np.arange(65536) * len(sums) // 65536].astype(np.int16)


def motion_kernel(
    radius_px: int, sigma_px: float, angle_deg: float, *, aligned: bool
) -> npt.NDArray[np.float32]:
    """One half of a Gaussian along a line, 2 radius + 1 taps; `aligned` puts its centroid into the middle.

    As published the taps lie on whole pixels on one side of the centre: content moves by the centroid, 2 to 11 px.
    """
    taps = np.arange(2 * radius_px + 1)
    weights = np.exp(-(taps**2) / (2 * sigma_px**2))
    weights /= weights.sum()
    angle = math.radians(angle_deg)
    if not aligned:
        dx, dy = (np.ceil(taps * part - 0.5) for part in (math.cos(angle), math.sin(angle)))
    else:
        centred = taps - float(weights @ taps)
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
    return np.asarray(cv2.filter2D(scene.image, -1, kernel, borderType=cv2.BORDER_REPLICATE), np.uint8)


def motion_blur(scene: Scene, rng: np.random.Generator, *, radius_px: float, sigma_px: float) -> Rgb:
    """Motion blur as published: one-sided, it moves content along its direction; labels do not follow."""
    return _motion(scene, rng, radius_px, sigma_px, aligned=False)


def motion_blur_aligned(scene: Scene, rng: np.random.Generator, *, radius_px: float, sigma_px: float) -> Rgb:
    """`motion_blur` with the same kernel, its centroid in the middle: content stays."""
    return _motion(scene, rng, radius_px, sigma_px, aligned=True)


def _zooms(image: Rgb, factors: npt.NDArray[np.float64]) -> Rgb:
    """The mean of the picture and its zooms about the centre."""
    height, width = image.shape[:2]
    total = image.astype(np.float32)
    for factor in factors:
        scales, offsets = [], []
        for side in (width, height):
            if factor >= 1:  # as published: a whole crop, spread over the picture end to end
                crop = math.ceil(side / factor)
                scales.append((crop - 1) / max(1, round(crop * factor) - 1))
                offsets.append((side - crop) // 2)
            else:
                scales.append(1 / factor)
                offsets.append((side - 1) / 2 * (1 - 1 / factor))
        matrix = np.array([[scales[0], 0, offsets[0]], [0, scales[1], offsets[1]]])
        flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
        layer = cv2.warpAffine(image, matrix, (width, height), flags=flags, borderMode=cv2.BORDER_REFLECT_101)
        cv2.accumulate(layer, total)
    total *= 1 / (len(factors) + 1)
    np.rint(total, out=total)
    return total.astype(np.uint8)


def zoom_blur(scene: Scene, rng: np.random.Generator, *, largest: float, step: float) -> Rgb:
    """The mean of zooms 1, 1 + step, ... below `largest`: content moves outwards by half the range; labels do not."""
    return _zooms(scene.image, np.arange(1, largest, step))


def zoom_blur_aligned(scene: Scene, rng: np.random.Generator, *, largest: float, step: float) -> Rgb:
    """`zoom_blur` with its range of zooms centred on 1: the same smear, content stays."""
    factors = np.arange(1, largest, step)
    centred = factors - factors.mean() + 1
    return _zooms(scene.image, centred / centred.mean())
