"""Training changes that know where the objects are, and changes in the frequency domain. No pixel's content moves.

`object_mix` follows OA-Mix (Lee et al. 2023, "Object-Aware Domain Generalization for Object Detection"): chains of
AugMix operations, another mixture for the image, for regions and for objects, and less of it where an object is
already hard to see. Its rotations and shifts are left out, because labels must not move.

`frequency` follows PhysAug (Xu et al. 2024, "PhysAug: A Physical-guided and Frequency-based Data Augmentation for
Single-Domain Generalized Object Detection"): a random 3x3 filter, and one planar wave a channel.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from drivetl.data.sample import Sample

Rgb = npt.NDArray[np.uint8]
Table = npt.NDArray[np.uint8]
"""(256, 3) display value -> display value, a column per channel."""
Counts = npt.NDArray[np.float64]
"""(256, 3) how many pixels have a display value, a column per channel."""
Box = tuple[int, int, int, int]
"""x1, y1, x2, y2 in whole px, at least one px wide and high."""

SMALL_PX = 4
"""Objects of a shorter side count as hard to see, as in OA-Mix."""
LOW_SALIENCY = 10.0
"""Objects of a mean saliency (0..255) up to this are hard to see, as in OA-Mix."""
Seen = Callable[[], Counts]
"""The counts of the image as the chain has changed it so far; only some operations ask for them."""
_LEVELS, _CHANNELS = np.arange(256), np.arange(3)
_IDENTITY = np.repeat(_LEVELS[:, None], 3, axis=1)


def object_mix(sample: Sample, rng: np.random.Generator, share: tuple[float, float]) -> Rgb:
    """(H, W, 3) the image mixed with changed versions of itself: `share` is the range of the changed part.

    The image has one mixture, one to three regions have their own, and so has every other object. Objects that are
    hard to see take half the share. Edges between mixtures are soft, so that no box is drawn into the image.
    """
    image = sample.image
    counts = _counts(image)
    result = np.asarray(cv2.LUT(image, _mixture(counts, rng, rng.uniform(*share))[None]), np.uint8)
    for region in _regions(image.shape[1], image.shape[0], rng):
        _paint(result, image, region, _mixture(counts, rng, rng.uniform(*share)))
    objects = list(_whole(sample.boxes, image.shape[1], image.shape[0]))
    for box, hard in zip(objects, _hard_to_see(image, objects), strict=True):
        chance, part = rng.random(), rng.uniform(*share)
        if hard or chance < 0.5:
            _paint(result, image, box, _mixture(counts, rng, part / 2 if hard else part))
    return result


def frequency(image: Rgb, rng: np.random.Generator, *, sigma: float, amplitude: float) -> Rgb:
    """(H, W, 3) the image under a random 3x3 filter and with one planar wave a channel.

    sigma: standard deviation of the filter's random part. amplitude: mean of the waves' amplitudes, which are
    exponentially distributed, as a share of the display range; PhysAug's is 0.2 * sqrt(2) / 32 = 0.009.
    """
    return _waves(_filtered(image, rng, sigma) if sigma > 0 else image, rng, amplitude)


def _counts(image: Rgb) -> Counts:
    every_fourth = np.ascontiguousarray(image[::2, ::2])
    columns = [cv2.calcHist([every_fourth], [channel], None, [256], [0, 256]) for channel in range(3)]
    return np.stack([np.ravel(column) for column in columns], axis=1).astype(np.float64)


def _mixture(counts: Counts, rng: np.random.Generator, share: float) -> Table:
    """(1 - share) unchanged + share * three chains of one to three operations, weighted at random (AugMix)."""
    weights = rng.dirichlet((1.0, 1.0, 1.0))
    changed = sum(weight * _chain(counts, rng).astype(float) for weight in weights)
    return np.asarray(np.rint((1 - share) * _LEVELS[:, None] + share * changed), np.uint8)


def _chain(counts: Counts, rng: np.random.Generator) -> Table:
    """One to three operations, one after the other. Each is a table, so the chain is one too."""
    table = _IDENTITY
    for _ in range(int(rng.integers(1, 4))):
        operation = OPERATIONS[int(rng.integers(len(OPERATIONS)))]
        cells = 3 * table + _CHANNELS
        seen = partial(_recount, cells, counts)
        step = np.minimum(np.maximum(np.rint(operation(seen, rng)), 0), 255).astype(np.intp)
        table = step.ravel()[cells if step.shape[1] == 3 else table]
    return table.astype(np.uint8)


def _recount(cells: npt.NDArray[np.intp], counts: Counts) -> Counts:
    """The counts behind a table."""
    return np.bincount(cells.ravel(), counts.ravel(), minlength=768).reshape(256, 3).astype(np.float64)


def _autocontrast(seen: Seen, rng: np.random.Generator) -> npt.NDArray[np.float64]:
    """All but the darkest and the brightest percent stretched over the display range."""
    counts = seen()
    shares = np.cumsum(counts, axis=0) / np.maximum(counts.sum(axis=0), 1)
    low, high = (shares < 0.01).sum(axis=0), (shares < 0.99).sum(axis=0)
    return np.asarray(255 * (_LEVELS[:, None] - low) / np.maximum(high - low, 1))


def _equalize(seen: Seen, rng: np.random.Generator) -> npt.NDArray[np.float64]:
    """Every display value equally frequent."""
    counts = seen()
    below = np.cumsum(counts, axis=0) - counts / 2
    return np.asarray(255 * below / np.maximum(counts.sum(axis=0), 1))


def _posterize(seen: Seen, rng: np.random.Generator) -> npt.NDArray[np.float64]:
    """One to four bits a channel."""
    step = 256 >> int(rng.integers(1, 5))
    return (_LEVELS // step * step)[:, None].astype(float)


def _solarize(seen: Seen, rng: np.random.Generator) -> npt.NDArray[np.float64]:
    """Values from a random threshold on are turned over."""
    turned = np.where(rng.integers(257) > _LEVELS, _LEVELS, 255 - _LEVELS)
    return turned[:, None].astype(float)


def _tone(seen: Seen, rng: np.random.Generator) -> npt.NDArray[np.float64]:
    """A gamma curve with an exponent from 0.4 to 2.5, up to a quarter different in each channel."""
    exponents = np.exp(rng.uniform(-0.9, 0.9) + rng.uniform(-0.25, 0.25, 3))
    return np.asarray(255 * (_LEVELS[:, None] / 255) ** exponents)


OPERATIONS = (_autocontrast, _equalize, _posterize, _solarize, _tone)
"""Those of OA-Mix that leave every pixel where it is, and a tone curve."""


def _regions(width: int, height: int, rng: np.random.Generator) -> Iterator[Box]:
    """One to three boxes of 1 to 10 % of the image each, up to three times as wide as high or as high as wide."""
    for _ in range(int(rng.integers(1, 4))):
        area, ratio = rng.uniform(0.01, 0.1) * width * height, 3 ** rng.uniform(-1, 1)
        w, h = min(width, max(1, int(math.sqrt(area * ratio)))), min(height, max(1, int(math.sqrt(area / ratio))))
        x, y = int(rng.integers(width - w + 1)), int(rng.integers(height - h + 1))
        yield x, y, x + w, y + h


def _whole(boxes: npt.NDArray[np.float32], width: int, height: int) -> Iterator[Box]:
    """(N, 4) xyxy px -> boxes of whole px that hold them, inside the image."""
    for x1, y1, x2, y2 in boxes.tolist():
        left, top = min(max(int(x1), 0), width - 1), min(max(int(y1), 0), height - 1)
        yield left, top, min(max(math.ceil(x2), left + 1), width), min(max(math.ceil(y2), top + 1), height)


def _paint(result: Rgb, image: Rgb, box: Box, table: Table) -> None:
    """Replace a box of `result` by the image through a table, in place; the edges are soft."""
    height, width = image.shape[:2]
    (left, right, across), (top, bottom, along) = _edge(box[0], box[2], width), _edge(box[1], box[3], height)
    part = along[:, None] * across
    place = slice(top, bottom), slice(left, right)
    changed = np.asarray(cv2.LUT(np.ascontiguousarray(image[place]), table[None]), np.uint8)
    result[place] = cv2.blendLinear(changed, np.ascontiguousarray(result[place]), part, 1 - part)


def _edge(first: int, last: int, length: int) -> tuple[int, int, npt.NDArray[np.float32]]:
    """(start, end, share) along one axis: 1/2 at the box's sides, rising over a tenth of its length."""
    soft = 0.05 * (last - first)
    reach = math.ceil(4 * soft)
    start, end = max(0, first - reach), min(length, last + reach)
    at = np.arange(start, end, dtype=np.float32) + np.float32(0.5)
    inside = np.minimum(at - first, last - at) / np.float32(soft)
    return start, end, np.asarray(1 / (1 + np.exp(-np.clip(inside, -30, 30))), np.float32)


def _hard_to_see(image: Rgb, boxes: list[Box]) -> npt.NDArray[np.bool_]:
    """(N,): whether an object is small or of low saliency by its spectral residual (Hou & Zhang 2007)."""
    hard = np.ones(len(boxes), np.bool_)
    large = [n for n, (x1, y1, x2, y2) in enumerate(boxes) if min(x2 - x1, y2 - y1) >= SMALL_PX]
    if large:
        crops = [cv2.resize(image[y1:y2, x1:x2], (64, 64)) for x1, y1, x2, y2 in (boxes[n] for n in large)]
        hard[large] = _saliency(np.stack([cv2.cvtColor(crop, cv2.COLOR_RGB2GRAY) for crop in crops])) <= LOW_SALIENCY
    return hard


def _saliency(grey: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
    """(N, 64, 64) -> (N,) mean saliency, 0..255: what the log spectrum has more than its surroundings have."""
    spectrum = np.fft.fft2(grey.astype(np.float32))
    size = np.maximum(np.abs(spectrum), np.float32(1e-6))
    usual = np.stack([cv2.blur(one, (3, 3), borderType=cv2.BORDER_REFLECT_101) for one in np.log(size)])
    maps = np.abs(np.fft.ifft2(spectrum * np.exp(-usual)))  # size * exp(-usual) is exp(log(size) - usual)
    maps = np.stack([cv2.GaussianBlur(one, (5, 5), 8) ** 2 for one in maps.astype(np.float32)])
    return np.asarray(255 * maps.mean(axis=(1, 2)) / np.maximum(maps.max(axis=(1, 2)), 1e-12))


def _filtered(image: Rgb, rng: np.random.Generator, sigma: float) -> Rgb:
    """The absolute response to identity + noise, every channel stretched to the display range.

    The kernel is point-symmetric: another one would move edges by up to a pixel.
    """
    noise = rng.standard_normal((3, 3))
    kernel = sigma * (noise + noise[::-1, ::-1]) / math.sqrt(2)
    kernel[1, 1] = 1 + sigma * noise[1, 1]
    planes = [cv2.filter2D(p, cv2.CV_32F, kernel, borderType=cv2.BORDER_REFLECT_101) for p in cv2.split(image)]
    return np.asarray(cv2.merge([_stretched(np.abs(plane)) for plane in planes]), np.uint8)


def _stretched(plane: npt.NDArray[Any]) -> npt.NDArray[Any]:
    low, high, *_ = cv2.minMaxLoc(plane)
    gain = 255 / max(high - low, 1e-3)
    return cv2.convertScaleAbs(plane, alpha=gain, beta=-gain * low)


def _waves(image: Rgb, rng: np.random.Generator, amplitude: float) -> Rgb:
    """One sine wave a channel added: any direction and phase, from one wave an image to one in two pixels."""
    height, width = image.shape[:2]
    longest = max(height, width)
    planes = []
    for strength in rng.exponential(255 * amplitude, 3):
        frequency, angle, phase = (
            0.5 * (2 / longest) ** rng.random(),
            math.pi * rng.random(),
            2 * math.pi * rng.random(),
        )
        x = 2 * math.pi * frequency * math.cos(angle) * np.arange(width) + phase
        y = 2 * math.pi * frequency * math.sin(angle) * np.arange(height)
        rows = np.stack([np.sin(y), np.cos(y)], axis=1).astype(np.float32)
        columns = np.float32(strength) * np.stack([np.cos(x), np.sin(x)]).astype(np.float32)
        planes.append(rows @ columns)
    return np.asarray(cv2.add(image, cv2.merge(planes), dtype=cv2.CV_8U), np.uint8)
