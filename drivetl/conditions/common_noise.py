"""The published noise and digital corruptions (Hendrycks & Dietterich 2019; for driving Michaelis et al. 2019).

Written anew from the definitions with the published severities; results are rounded, not truncated, and depend on
the generator alone. Every effect has the form `effect(scene, rng, **parameters) -> (H, W, 3) uint8 RGB`.
"""

from __future__ import annotations

from functools import lru_cache

import cv2
import numpy as np
import numpy.typing as npt

from drivetl.conditions.optics import Rgb, normal, uniform, words16
from drivetl.conditions.scene import Scene

Floats = npt.NDArray[np.float32]


def to_bytes(values: Floats) -> Rgb:
    """Display values 0..255 as float -> uint8, rounded and clipped. Uses `values` as scratch."""
    np.rint(values, out=values)
    np.clip(values, 0, 255, out=values)
    return values.astype(np.uint8)


def gaussian_noise(scene: Scene, rng: np.random.Generator, *, std: float) -> Rgb:
    """x + N(0, std), x in 0..1."""
    noise = normal(rng, *scene.image.shape)
    noise *= 255 * std
    noise += scene.image
    return to_bytes(noise)


def speckle_noise(scene: Scene, rng: np.random.Generator, *, std: float) -> Rgb:
    """x + x N(0, std)."""
    noise = normal(rng, *scene.image.shape)
    noise *= std
    noise += 1
    noise *= scene.image
    return to_bytes(noise)


def shot_noise(scene: Scene, rng: np.random.Generator, *, photons: float) -> Rgb:
    """Poisson(x photons) / photons: of display values, as published, not of light."""
    table = _poisson_table(float(photons))
    index = words16(rng, scene.image.size) >> 5
    index = index.astype(np.int32)
    index += scene.image.ravel().astype(np.int32) << 11
    return table.take(index).reshape(scene.image.shape)


@lru_cache(8)
def _poisson_table(photons: float) -> npt.NDArray[np.uint8]:
    """(256 * 2048,) display value for each input value and each of 2,048 equally likely quantiles."""
    top = int(photons * 2 + 30)
    counts = np.arange(top)
    log_factorial = np.concatenate([[0.0], np.cumsum(np.log(np.arange(1, top)))])
    quantiles = (np.arange(2048) + 0.5) / 2048
    table = np.empty((256, 2048), np.uint8)
    for value in range(256):
        mean = max(value / 255 * photons, 1e-12)
        law = np.exp(counts * np.log(mean) - mean - log_factorial)
        drawn = np.searchsorted(np.cumsum(law), quantiles)
        table[value] = np.clip(np.rint(drawn * (255 / photons)), 0, 255)
    return table.ravel()


def impulse_noise(scene: Scene, rng: np.random.Generator, *, amount: float) -> Rgb:
    """A share `amount` of all values becomes 0 or 255, each as often."""
    draw = words16(rng, scene.image.size).reshape(scene.image.shape)
    half = round(65536 * amount / 2)
    result = np.where(draw < half, np.uint8(0), scene.image)
    result[draw >= 65536 - half] = 255
    return result


def brightness(scene: Scene, rng: np.random.Generator, *, offset: float) -> Rgb:
    """HSV value + offset."""
    hsv = _to_hsv(scene.image)
    hsv[..., 2] += offset
    np.minimum(hsv[..., 2], 1, out=hsv[..., 2])
    return _from_hsv(hsv)


def saturate(scene: Scene, rng: np.random.Generator, *, gain: float, offset: float) -> Rgb:
    """HSV saturation x gain + offset."""
    hsv = _to_hsv(scene.image)
    hsv[..., 1] = np.clip(hsv[..., 1] * gain + offset, 0, 1)
    return _from_hsv(hsv)


def _to_hsv(image: Rgb) -> Floats:
    return np.asarray(cv2.cvtColor(image.astype(np.float32) * np.float32(1 / 255), cv2.COLOR_RGB2HSV))


def _from_hsv(hsv: Floats) -> Rgb:
    return to_bytes(np.asarray(cv2.cvtColor(hsv, cv2.COLOR_HSV2RGB) * np.float32(255), np.float32))


def contrast(scene: Scene, rng: np.random.Generator, *, gain: float) -> Rgb:
    """(x - mean) x gain + mean, mean per channel over the image."""
    means = np.array(cv2.mean(scene.image)[:3])
    table = (np.arange(256)[:, None] - means) * gain + means
    return np.asarray(cv2.LUT(scene.image, np.rint(table).clip(0, 255).astype(np.uint8)[:, None, :]), np.uint8)


def pixelate(scene: Scene, rng: np.random.Generator, *, scale: float) -> Rgb:
    """Box filter down to `scale` of the size, nearest neighbour up again."""
    size = (max(1, int(scene.width * scale)), max(1, int(scene.height * scale)))
    small = cv2.resize(scene.image, size, interpolation=cv2.INTER_AREA)
    full = (scene.width, scene.height)
    return np.asarray(cv2.resize(small, full, interpolation=cv2.INTER_NEAREST_EXACT), np.uint8)


def jpeg_compression(scene: Scene, rng: np.random.Generator, *, quality: float) -> Rgb:
    """Baseline JPEG, 4:2:0, at the quality of libjpeg's scale."""
    bgr = cv2.cvtColor(scene.image, cv2.COLOR_RGB2BGR)
    done, data = cv2.imencode(".jpg", bgr, [cv2.IMWRITE_JPEG_QUALITY, int(quality)])
    assert done
    decoded = cv2.imdecode(data, cv2.IMREAD_COLOR)
    assert decoded is not None
    return np.asarray(cv2.cvtColor(decoded, cv2.COLOR_BGR2RGB), np.uint8)


def elastic_transform(scene: Scene, rng: np.random.Generator, *, alpha: float) -> Rgb:
    """Each pixel from (x + dx, y + dy): uniform noise of +-0.5 % of the height, blurred with 1 % of each side, x alpha.

    Moves content by up to 9 px at severity 5; labels do not follow.
    """
    dx, dy = _elastic_field(scene, rng, alpha), _elastic_field(scene, rng, alpha)
    return _moved(scene, dx, dy)


def elastic_aligned(scene: Scene, rng: np.random.Generator, *, alpha: float) -> Rgb:
    """`elastic_transform` without its long waves: what the neighbourhood moves by on average is taken out."""
    return _moved(scene, *(_elastic_field(scene, rng, alpha, local=True) for _ in range(2)))


def _elastic_field(scene: Scene, rng: np.random.Generator, alpha: float, *, local: bool = False) -> Floats:
    """(H, W) displacement px; `local`: its mean over 1.2 % of each side taken out.

    Computed at half resolution: blurred noise keeps its spread if its amplitude halves too.
    """
    height, width = max(2, scene.height // 2), max(2, scene.width // 2)
    noise = (uniform(rng, height, width) - np.float32(0.5)) * np.float32(0.01 * scene.height * alpha / 2)
    sigma_x, sigma_y = max(0.005 * scene.width, 0.3), max(0.005 * scene.height, 0.3)
    smooth = cv2.GaussianBlur(noise, (0, 0), sigma_x, sigmaY=sigma_y, borderType=cv2.BORDER_REFLECT)
    if local:
        smooth = smooth - cv2.GaussianBlur(smooth, (0, 0), 1.2 * sigma_x, sigmaY=1.2 * sigma_y)
    full = cv2.resize(smooth, (scene.width, scene.height), interpolation=cv2.INTER_LINEAR)
    return np.asarray(full, np.float32)


def _moved(scene: Scene, dx: Floats, dy: Floats) -> Rgb:
    dx += np.arange(scene.width, dtype=np.float32)[None]
    dy += np.arange(scene.height, dtype=np.float32)[:, None]
    four = cv2.cvtColor(scene.image, cv2.COLOR_RGB2RGBA)  # OpenCV moves four channels faster than three
    moved = cv2.remap(four, dx, dy, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT)
    return np.asarray(cv2.cvtColor(moved, cv2.COLOR_RGBA2RGB), np.uint8)
