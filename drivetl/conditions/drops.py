"""Water on the glass: drops that show the scene upside down."""

from __future__ import annotations

import cv2
import numpy as np
import numpy.typing as npt

from drivetl.conditions.optics import Rgb, to_display, to_linear, uniform

Row = npt.NDArray[np.float32]


def lens_drops(image: Rgb, rng: np.random.Generator, count: int, largest: float = 0.02) -> Rgb:
    """Put up to `count` drops of 0.3 to 100 `largest` percent of the width in radius onto an image, in place.

    A drop is a short lens: inside it the scene stands on its head, minified 6 times and blurred, darker towards
    the rim and brighter at the bottom, where it gathers the sky. Outlines are uneven and soft, because the glass is
    far nearer than the focus. Of drops that touch, only the largest is left: they flow together. All drops' pixels
    are computed as one long row, in linear light.
    """
    height, width = image.shape[:2]
    if count <= 0 or min(height, width) < 16:
        return image
    draws = uniform(rng, count, 6)
    draws = draws[np.argsort(-draws[:, 0], kind="stable")]  # the largest first
    draws = draws[_alone(draws, width, height, largest)]
    radius, x, y = _placed(draws, width, height, largest)
    owner, px, py = _boxes(x, y, np.floor(1.6 * radius).astype(np.int32) + 3, width, height)
    dx = (px.astype(np.float32) - x[owner]) / radius[owner]
    dy = (py.astype(np.float32) - y[owner]) / (np.float32(1.15) * radius)[owner]
    squared = dx * dx + dy * dy
    near = np.flatnonzero(squared < 2.6)
    owner, px, py = owner[near], px[near], py[near]
    dx, dy, squared = dx[near], dy[near], squared[near]
    distance = np.sqrt(squared) * (1 + _unevenness(draws, owner, dx, dy, squared))
    edge = np.maximum(np.float32(0.25), np.float32(2.5) / radius)[owner]
    alpha = np.clip((1 + edge / 2 - distance) / edge, 0, 1)
    seen = np.flatnonzero(alpha)
    if len(seen) == 0:
        return image
    owner, px, py = owner[seen], px[seen], py[seen]
    dx, dy, distance = dx[seen], dy[seen], np.minimum(distance[seen], 1)
    bend = (6 * radius)[owner] * distance**2  # inverted and minified: a fish-eye of the whole scene
    inside = _looked_up(image, x[owner] - bend * dx, y[owner] - bend * dy)
    inside *= (1 - np.float32(0.35) * distance**3) * (1 + np.float32(0.35) * np.clip(dy, -0.6, 1) * distance)
    light = to_linear(image[py, px][None])
    inside -= light
    inside *= np.float32(0.92) * alpha[seen]
    light += inside
    image[py, px] = to_display(light)[0]
    return image


def _unevenness(draws: Row, owner: npt.NDArray[np.int32], dx: Row, dy: Row, squared: Row) -> Row:
    """How the outline differs from a circle towards each pixel: up to an eighth two-fold, as much three-fold."""
    bent = (np.float32(0.25) * (draws[:, 3:] - np.float32(0.5)))[owner]
    twofold, crossed = (dx * dx - dy * dy) / (squared + 0.05), 2 * dx * dy / (squared + 0.05)
    uneven = bent[:, 0] * twofold + bent[:, 1] * crossed + bent[:, 2] * (dx * twofold - dy * crossed)
    return np.asarray(uneven, np.float32)


def _placed(
    draws: npt.NDArray[np.float32], width: int, height: int, largest: float
) -> tuple[npt.NDArray[np.float32], ...]:
    """Radius, x, y px of drops."""
    radius = width * (np.float32(0.003) + np.float32(largest - 0.003) * draws[:, 0] ** 2.2)
    return np.asarray(radius, np.float32), draws[:, 1] * width, draws[:, 2] * height


def _alone(draws: npt.NDArray[np.float32], width: int, height: int, largest: float) -> npt.NDArray[np.bool_]:
    """(N,) False where a larger drop, one before it, touches."""
    radius, x, y = _placed(draws, width, height, largest)
    apart = np.hypot(x[:, None] - x, y[:, None] - y) > 1.5 * (radius[:, None] + radius)
    return np.asarray(~np.tril(~apart, -1).any(axis=1), np.bool_)


def _boxes(
    x: npt.NDArray[np.float32], y: npt.NDArray[np.float32], reach: npt.NDArray[np.int32], width: int, height: int
) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.int32], npt.NDArray[np.int32]]:
    """Whose and where each pixel is, of the squares of `reach` around (x, y) as far as they lie in the image."""
    side = 2 * reach + 1
    owner = np.repeat(np.arange(len(x), dtype=np.int32), side * side)
    number = np.arange(len(owner), dtype=np.int32) - np.repeat(
        np.cumsum(side * side, dtype=np.int32) - side * side, side * side
    )
    row = number // side[owner]
    px = number - row * side[owner] + (x.astype(np.int32) - reach)[owner]
    py = row + (y.astype(np.int32) - reach)[owner]
    inside = (px >= 0) & (px < width) & (py >= 0) & (py < height)
    return owner[inside], px[inside], py[inside]


def _looked_up(image: Rgb, x: npt.NDArray[np.float32], y: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """(3, 1, N) linear light of the blurred image at N places, the nearest edge's where they lie outside."""
    height, width = image.shape[:2]
    down = 4 if width >= 320 else 1
    size = (max(1, width // down), max(1, height // down))
    small = cv2.blur(cv2.resize(image, size, interpolation=cv2.INTER_LINEAR), (3, 3))
    long = 1024  # OpenCV's maps have at most 32,767 columns
    map_x, map_y = (
        np.pad(part * np.float32(to / of), (0, -len(part) % long)).reshape(-1, long).astype(np.float32)
        for part, to, of in ((x, size[0], width), (y, size[1], height))
    )
    source = cv2.merge(list(to_linear(np.asarray(small, np.uint8))))
    sampled = cv2.remap(source, map_x, map_y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    return np.ascontiguousarray(sampled.reshape(-1, 3)[: len(x)].T, np.float32)[:, None]
