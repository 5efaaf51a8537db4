"""A small street with known depth, and measures on it."""

from __future__ import annotations

import cv2
import numpy as np

HEIGHT, WIDTH, HORIZON, FOCAL, CAMERA_M = 192, 480, 88, 345.0, 1.65
CAR = (slice(105, 135), slice(250, 310))
"""Rows and columns of a red car."""


def street(seed: int = 0) -> np.ndarray:
    """(192, 480, 3) uint8: bright sky, textured houses, textured road with markings, a red car."""
    rng = np.random.default_rng(seed)
    image = np.empty((HEIGHT, WIDTH, 3), np.float32)
    image[:HORIZON] = np.linspace(225, 205, HORIZON)[:, None, None]
    coarse = cv2.GaussianBlur(rng.normal(0, 1, (HEIGHT, WIDTH)).astype(np.float32), (0, 0), 1.6)
    texture = coarse / coarse.std()
    for left, right, top in ((0, 170, 25), (320, WIDTH, 35)):
        image[top:HORIZON, left:right] = 90
        image[top:HORIZON, left:right] += 22 * texture[top:HORIZON, left:right, None]
    image[HORIZON:] = 105 + 22 * texture[HORIZON:, :, None]
    for row in range(HORIZON + 4, HEIGHT):
        half = 1 + (row - HORIZON) // 14
        for lane in (-1, 1):
            column = WIDTH // 2 + lane * int(1.1 * (row - HORIZON))
            image[row, column - half : column + half] = 215
    image[CAR] = np.array([190, 30, 28]) + 8 * texture[CAR][..., None]
    return np.clip(image, 0, 255).astype(np.uint8)


def depth() -> np.ndarray:
    """(192, 480) float32 m: ground plane, houses at 25 m, sky far."""
    rows = np.arange(HEIGHT, dtype=np.float32)[:, None] + 0.5 - HORIZON
    ground = FOCAL * CAMERA_M / np.maximum(rows, 0.5)
    result = np.where(rows > 0, np.minimum(ground, 150), 400.0) * np.ones((1, WIDTH), np.float32)
    result[25:HORIZON, :170] = np.minimum(result[25:HORIZON, :170], 25)
    result[35:HORIZON, 320:] = np.minimum(result[35:HORIZON, 320:], 25)
    return result.astype(np.float32)


def textured(height: int = 256, width: int = 512, seed: int = 1) -> np.ndarray:
    """Texture of all scales everywhere, the same kind at any place: where did it move to?"""
    rng = np.random.default_rng(seed)
    total = np.zeros((height, width, 3), np.float32)
    for sigma in (1.5, 4, 10):
        part = cv2.GaussianBlur(rng.normal(0, 1, (height, width, 3)).astype(np.float32), (0, 0), sigma)
        total += part / part.std()
    return np.clip(128 + 26 * total, 0, 255).astype(np.uint8)


def edge_energy(image: np.ndarray) -> np.ndarray:
    """(H, W) gradient magnitude of luma."""
    luma = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY).astype(np.float32)
    return cv2.magnitude(cv2.Sobel(luma, cv2.CV_32F, 1, 0), cv2.Sobel(luma, cv2.CV_32F, 0, 1))


def local_shifts(before: np.ndarray, after: np.ndarray, size: int = 96) -> np.ndarray:
    """(N, 2) dx, dy px of patches of `size`, by correlation of the patches with a sub-pixel parabola fit."""
    a, b = (cv2.cvtColor(image, cv2.COLOR_RGB2GRAY).astype(np.float32) for image in (before, after))
    a, b = (part - cv2.GaussianBlur(part, (0, 0), 24) for part in (a, b))
    reach, shifts = 16, []
    for top in range(reach, a.shape[0] - size - reach + 1, size):
        for left in range(reach, a.shape[1] - size - reach + 1, size):
            patch = b[top : top + size, left : left + size]
            window = a[top - reach : top + size + reach, left - reach : left + size + reach]
            score = cv2.matchTemplate(window, patch, cv2.TM_CCOEFF_NORMED)
            _, best, _, (x, y) = cv2.minMaxLoc(score)
            if best > 0.15 and 0 < x < 2 * reach and 0 < y < 2 * reach:
                shifts.append((reach - x - _peak(score[y, x - 1 : x + 2]), reach - y - _peak(score[y - 1 : y + 2, x])))
    return np.array(shifts).reshape(-1, 2)


def _peak(three: np.ndarray) -> float:
    left, middle, right = (float(value) for value in three)
    bend = left - 2 * middle + right
    return 0.0 if bend == 0 else 0.5 * (left - right) / bend
