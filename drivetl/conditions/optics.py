"""Light as a camera sees it: linear intensities, noise, smooth random fields, blurs that stay centred.

Linear images are planes: (3, H, W) float32 with 1.0 where the sensor saturates, so that an (H, W) field multiplies
them without copies. Randomness comes from the generator's raw 64-bit words, which are the same on every machine.
"""

from __future__ import annotations

import math
from functools import lru_cache
from statistics import NormalDist
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

Rgb = npt.NDArray[np.uint8]
"""(H, W, 3) RGB."""
Planes = npt.NDArray[np.float32]
"""(3, H, W) linear RGB, 1.0 = saturation."""
Field = npt.NDArray[np.float32]
"""(H, W)."""

Boxes = npt.NDArray[np.float32]
"""(N, 4) xyxy px."""

REC709 = np.array([0.2126, 0.7152, 0.0722], np.float32)
"""Luminance weights of linear sRGB (ITU-R BT.709)."""


def _eotf(value: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """sRGB 0..1 -> linear light 0..1 (IEC 61966-2-1)."""
    return np.where(value <= 0.04045, value / 12.92, ((value + 0.055) / 1.055) ** 2.4)


@lru_cache(1)
def _tables() -> tuple[npt.NDArray[np.float32], npt.NDArray[np.uint8]]:
    """256 display values -> linear, and 65,536 linear steps -> display values, rounded."""
    steps = np.arange(65536) / 65535
    shown = np.where(steps <= 0.0031308, 12.92 * steps, 1.055 * steps ** (1 / 2.4) - 0.055)
    return _eotf(np.arange(256) / 255).astype(np.float32), np.round(255 * shown).astype(np.uint8)


def to_linear(image: Rgb) -> Planes:
    """(H, W, 3) uint8 -> (3, H, W) linear light."""
    planes = np.empty((3, *image.shape[:2]), np.float32)
    for number, plane in enumerate(cv2.split(image)):
        planes[number] = cv2.LUT(plane, _tables()[0])
    return planes


def to_display(planes: Planes, knee: float = 1.0) -> Rgb:
    """(3, H, W) linear light -> (H, W, 3) uint8, rounded; what is above `knee` rolls off as `soft_shoulder` says.

    Without a knee light is clipped to 0..1 and taken in 65,536 steps, with one it is clipped to 0..4.
    """
    table = _tables()[1] if knee >= 1 else _shoulder_table(knee)
    steps_a_unit = 65535.0 if knee >= 1 else 65535.0 / 4
    shown = []
    for plane in planes:
        steps = cv2.addWeighted(plane, steps_a_unit, plane, 0.0, 0.0, dtype=cv2.CV_16U)  # rounds and clips
        shown.append(_look_up(table, steps.reshape(plane.shape)))
    return np.asarray(cv2.merge(shown), np.uint8)


@lru_cache(8)
def _shoulder_table(knee: float) -> npt.NDArray[np.uint8]:
    """65,536 linear steps from 0 to 4 -> display values."""
    light = soft_shoulder(np.linspace(0, 4, 65536, dtype=np.float32).reshape(1, 1, -1), knee).ravel()
    return np.asarray(_tables()[1][np.rint(65535 * light).astype(np.intp)])


def _look_up(table: npt.NDArray[Any], index: npt.NDArray[np.uint16]) -> npt.NDArray[Any]:
    """table[index] for 65,536 entries; OpenCV knows such tables from version 5 on, and is twice as fast."""
    return np.asarray(cv2.LUT(index, table)) if index.size and _wide_tables() else table.take(index)


@lru_cache(1)
def _wide_tables() -> bool:
    try:
        cv2.LUT(np.zeros((1, 1), np.uint16), np.zeros(65536, np.float32))
    except cv2.error:
        return False
    return True


def luminance(planes: Planes) -> Field:
    """(3, H, W) -> (H, W) linear luminance."""
    red, green, blue = (float(weight) for weight in REC709)
    result = cv2.addWeighted(planes[0], red, planes[1], green, 0)
    return np.asarray(cv2.scaleAdd(planes[2], blue, result), np.float32)


def scale(planes: Planes, gain: Field | float) -> Planes:
    """A new array: planes times an (H, W) field or a number."""
    return np.asarray(np.multiply(planes, gain, dtype=np.float32), np.float32)


def veil(planes: Planes, transmission: Field, light: npt.NDArray[np.float32]) -> Planes:
    """Koschmieder's law in place: L t + A (1 - t), `light` is A, (3,) or (3, H, W)."""
    for plane, source in zip(planes, light, strict=True):
        plane -= source
        plane *= transmission
        plane += source
    return planes


def desaturate(planes: Planes, keep: float) -> Planes:
    """Move each pixel towards its luminance in place; `keep` = 1 changes nothing, 0 makes it grey."""
    grey = luminance(planes)
    for plane in planes:
        cv2.addWeighted(plane, keep, grey, 1 - keep, 0, dst=plane)
    return planes


def soft_shoulder(planes: Planes, knee: float = 0.8) -> Planes:
    """Film-like roll-off in place: identity below `knee`, asymptotic to 1 above, slope 1 at the knee."""
    for plane in planes:
        over = np.maximum(plane, np.float32(knee))
        over -= np.float32(knee)
        over /= over + np.float32(1.0 - knee)
        over *= np.float32(1.0 - knee)
        np.minimum(plane, np.float32(knee), out=plane)
        plane += over
    return planes


# ---- randomness


def words16(rng: np.random.Generator, count: int) -> npt.NDArray[np.uint16]:
    """(count,) uniform 16-bit words, little-endian on every machine."""
    raw = rng.bit_generator.random_raw(-(-count // 4))
    return np.asarray(raw, "<u8").view("<u2")[:count]


@lru_cache(1)
def _normal_table() -> npt.NDArray[np.float32]:
    """The 65,536 equally likely quantiles of N(0, 1): exact to +-4.3 sigma."""
    law = NormalDist()
    upper = np.array([law.inv_cdf((k + 0.5) / 65536) for k in range(32768, 65536)])
    return np.concatenate([-upper[::-1], upper]).astype(np.float32)


def normal(rng: np.random.Generator, *shape: int) -> npt.NDArray[np.float32]:
    """Standard normal noise of the given shape, by table lookup."""
    words = words16(rng, math.prod(shape))
    return np.asarray(_look_up(_normal_table(), words.reshape(1, -1)).reshape(shape), np.float32)


def uniform(rng: np.random.Generator, *shape: int) -> npt.NDArray[np.float32]:
    """Uniform noise in (0, 1) of the given shape, in steps of 2^-16."""
    values = words16(rng, math.prod(shape)).astype(np.float32)
    values += 0.5
    values *= 1 / 65536
    return values.reshape(shape)


def smooth_noise(rng: np.random.Generator, height: int, width: int, grain_px: float, octaves: int = 1) -> Field:
    """(H, W) smooth noise of zero mean and unit deviation whose blobs are about `grain_px` wide.

    Normal values on a coarse lattice, interpolated by cubic splines to eight steps a cell and linearly from there;
    each further octave has half the grain and half the amplitude (value noise, Perlin 1985).
    """
    total = np.zeros((height, width), np.float32)
    power = 0.0
    for octave in range(octaves):
        grain = max(grain_px / 2**octave, 1.0)
        fine = min(grain, 8.0)  # px of the intermediate image per cell
        rows, columns = math.ceil(height * fine / grain), math.ceil(width * fine / grain)
        lattice = normal(rng, math.ceil(rows / fine) + 3, math.ceil(columns / fine) + 3)
        size = (math.ceil(lattice.shape[1] * fine), math.ceil(lattice.shape[0] * fine))
        part = cv2.resize(lattice, size, interpolation=cv2.INTER_CUBIC)
        part = part[round(fine) : round(fine) + rows, round(fine) : round(fine) + columns]
        weight = 0.5**octave
        total += np.float32(weight) * cv2.resize(part, (width, height), interpolation=cv2.INTER_LINEAR)
        power += 0.75 * weight * weight  # a cubic spline of white noise keeps about 0.75 of its variance
    total *= np.float32(1 / math.sqrt(power))
    return total


# ---- blurs whose centre of mass does not move


def soften(plane: npt.NDArray[np.float32], sigma_px: float) -> npt.NDArray[np.float32]:
    """Gaussian blur; wide ones are computed at reduced size, where they cost little and look the same."""
    height, width = plane.shape[:2]
    step = 1
    while sigma_px / step > 3 and min(height, width) // (2 * step) >= 8:
        step *= 2
    if step == 1:
        return np.asarray(cv2.GaussianBlur(plane, (0, 0), max(sigma_px, 0.01)))
    small = cv2.resize(plane, (max(1, width // step), max(1, height // step)), interpolation=cv2.INTER_AREA)
    small = cv2.GaussianBlur(small, (0, 0), sigma_px / step)
    return np.asarray(cv2.resize(small, (width, height), interpolation=cv2.INTER_LINEAR))


def disc_kernel(radius_px: float, sides: int = 0) -> npt.NDArray[np.float32]:
    """An anti-aliased disc (or, with `sides`, the iris's regular polygon) of sum 1 and odd size."""
    reach = math.ceil(radius_px) + 1
    fine = np.arange(-reach * 5 - 2, reach * 5 + 3) / 5.0
    x, y = np.meshgrid(fine, fine)
    limit = np.full_like(x, radius_px)
    if sides:
        wedge = 2 * math.pi / sides
        angle = np.mod(np.arctan2(y, x), wedge) - wedge / 2
        limit = radius_px * math.cos(wedge / 2) / np.cos(angle)
    inside = (np.hypot(x, y) <= limit).astype(np.float64)
    kernel = inside.reshape(2 * reach + 1, 5, 2 * reach + 1, 5).mean(axis=(1, 3))
    return np.asarray(kernel / kernel.sum(), np.float32)
