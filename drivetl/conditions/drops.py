"""Water on the glass: drops that show the scene upside down."""

from __future__ import annotations

import cv2
import numpy as np

from drivetl.conditions.optics import Planes, smooth_noise, uniform


def lens_drops(planes: Planes, rng: np.random.Generator, count: int, largest: float = 0.02) -> Planes:
    """Put `count` drops of 0.3 to `largest` of the width in radius onto linear planes; a new array if any.

    A drop is a short lens: inside it the scene stands on its head, minified 6 times and blurred, darker towards
    the rim and with a bright crescent at the bottom, where it gathers the sky. Outlines are irregular and soft,
    because the glass is far nearer than the focus.
    """
    height, width = planes.shape[1:]
    if count <= 0 or min(height, width) < 16:
        return planes
    sizes = uniform(rng, count)
    radii = width * (0.003 + (largest - 0.003) * sizes**2.2)
    places = uniform(rng, count, 2) * (width, height)
    wobble = smooth_noise(rng, height, width, max(width / 70, 4.0))
    down = 4 if width >= 320 else 1
    size = (max(1, width // down), max(1, height // down))
    small = cv2.merge([cv2.resize(plane, size, interpolation=cv2.INTER_AREA) for plane in planes])
    result = planes.copy()
    for (x, y), radius in zip(places, radii, strict=True):
        _one_drop(result, small, wobble, float(x), float(y), float(radius))
    return result


def _one_drop(
    result: Planes, small: np.ndarray, wobble: np.ndarray, x: float, y: float, radius: float
) -> None:
    height, width = result.shape[1:]
    reach = int(radius * 1.6) + 3
    left, right = max(0, int(x) - reach), min(width, int(x) + reach + 1)
    top, bottom = max(0, int(y) - reach), min(height, int(y) + reach + 1)
    if left >= right or top >= bottom:
        return
    dx = (np.arange(left, right, dtype=np.float32)[None] - x) / radius
    dy = (np.arange(top, bottom, dtype=np.float32)[:, None] - y) / (1.15 * radius)
    distance = np.sqrt(dx * dx + dy * dy) * (1 + 0.10 * wobble[top:bottom, left:right])
    edge = max(0.18, 2.0 / radius)
    alpha = np.clip((1 + edge / 2 - distance) / edge, 0, 1)
    bend = 6.0 * radius * np.minimum(distance, 1) ** 2  # inverted and minified: a fish-eye of the whole scene
    rows, columns = small.shape[:2]
    map_x = np.clip((x - bend * dx) * columns / width, 0, columns - 1).astype(np.float32)
    map_y = np.clip((y - bend * dy) * rows / height, 0, rows - 1).astype(np.float32)
    shade = (1 - 0.45 * np.clip(distance, 0, 1) ** 3) * (1 + 0.35 * np.clip(dy, -0.6, 1) * distance)
    seen = cv2.remap(small, map_x, map_y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    patch = result[:, top:bottom, left:right]
    patch += 0.92 * alpha * (seen.transpose(2, 0, 1) * shade - patch)
