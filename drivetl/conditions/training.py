"""Weather to train on: cheap versions of the same phenomena, by other models than those we measure with.

They work on display values, know no depth and guess the horizon, so that "trained on haze, measured in fog" compares
two models of fog, not one with itself. Evaluation compares `Recipe.model` with the models of the catalogue. Every
effect has the form `effect(scene, rng, **parameters) -> (H, W, 3) uint8 RGB`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from drivetl.conditions.catalog import Effect
from drivetl.conditions.common_noise import to_bytes
from drivetl.conditions.lamps import compact
from drivetl.conditions.optics import Rgb, normal, smooth_noise, soften, uniform
from drivetl.conditions.scene import Scene
from drivetl.conditions.vocabulary import Family, Phenomenon

Floats = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Recipe:
    """One training effect and the range its parameters are drawn from unless a preset says otherwise."""

    name: str
    phenomenon: Phenomenon
    model: str
    family: Family
    range: Mapping[str, tuple[float, float]]
    effect: Effect = field(repr=False, compare=False)


def _draws(rng: np.random.Generator, count: int) -> list[float]:
    return [float(value) for value in uniform(rng, count)]


def _rows(scene: Scene, horizon: float) -> Floats:
    """(H, 1) height below a horizon at a share of the image's height, in image heights."""
    rows = (np.arange(scene.height) + 0.5) / scene.height - horizon
    return np.asarray(rows[:, None], np.float32)


def _over(image: Rgb, share: npt.NDArray[Any], layer: npt.NDArray[Any]) -> Rgb:
    """(1 - share) image + share layer; share (H, W), layer a colour (3,), one per row (H, 1, 3) or an image."""
    height, width = image.shape[:2]
    rounded = layer if layer.dtype == np.uint8 else np.clip(np.rint(layer), 0, 255).astype(np.uint8)
    paint = rounded.reshape(-1, 1 if layer.ndim == 1 else layer.shape[1], 3)
    if paint.shape != image.shape:
        paint = np.asarray(cv2.resize(paint, (width, height), interpolation=cv2.INTER_NEAREST), np.uint8)
    part = np.asarray(share, np.float32)
    return np.asarray(cv2.blendLinear(image, paint, 1 - part, part), np.uint8)


def haze(scene: Scene, rng: np.random.Generator, *, density: float) -> Rgb:
    """A layer that thins towards the bottom edge: share 1 - exp(-density p(row)), uneven, of any grey or pale tint.

    Above the horizon p stays near 1, so that thick haze leaves nothing of what is far. The layer is up to 40 levels
    brighter at the top than at the bottom.
    """
    horizon, level, warmth, green, spread, slope = _draws(rng, 6)
    below = _rows(scene, 0.38 + 0.14 * horizon)
    profile = np.where(below > 0, np.exp(-below * (2 + 5 * spread)), 1 + 0.1 * below)
    uneven = 1 + 0.12 * smooth_noise(rng, scene.height, scene.width, scene.width / 4)
    share = 1 - cv2.exp(np.asarray(-density * profile * uneven, np.float32))
    warm, pale = 24 * (warmth - 0.5), 10 * (green - 0.5)
    colour = np.array([warm - pale, pale, -warm - pale], np.float32) + np.float32(85 + 130 * level)
    layer = colour - 40 * np.float32(slope) * below[:, :, None]
    return _over(scene.image, np.clip(share, 0, 1), layer)


def darkness(scene: Scene, rng: np.random.Generator, *, gain: float) -> Rgb:
    """A tone curve that darkens to `gain`, the top most, a cast, a pool of light, lit spots and the mist they make.

    The camera either leaves Gaussian noise or smooths it away and faint texture with it (`_cored`): one or the other.
    """
    gamma, red, blue, pool_x, pool_y, pool, smooth, grain, mist, mist_x, sky = _draws(rng, 11)
    tint = np.array([0.75 + 0.45 * red, 1, 0.75 + 0.5 * blue], np.float32)
    curve = 255 * gain * (np.arange(256, dtype=np.float32) / 255)[:, None] ** (1 + 0.5 * gamma) * tint
    seen = _cored(scene.image, 6 + 44 * (smooth - 0.4)) if smooth > 0.4 else scene.image
    pixels = np.asarray(cv2.LUT(seen, curve.astype(np.float32)[:, None, :]), np.float32)
    y, x = _rows(scene, 0.55 + 0.3 * pool_y), np.linspace(-0.5, 0.5, scene.width, dtype=np.float32)[None]
    light = cv2.exp(np.asarray(-(((x - 0.4 * (pool_x - 0.5)) / 0.3) ** 2) - (y / 0.22) ** 2, np.float32))
    top = 0.75 * sky / (1 + np.exp(_rows(scene, 0.36) / 0.04))
    factor = np.asarray(1 + pool * max(0.7 / gain - 1, 0) * light - top, np.float32)
    across, above = (x - 0.6 * (mist_x - 0.5)) / 0.6, _rows(scene, 0.4) / 0.6
    air = 0.75 * mist**1.5 * np.asarray(cv2.exp(-across * across - above * above), np.float32)
    pixels *= cv2.merge([factor * (1 - air)] * 3)
    pixels += cv2.merge([air * (np.float32(90) * part) for part in tint])
    pixels += _glow(scene, rng)
    if smooth <= 0.4:
        noise = normal(rng, *pixels.shape)
        noise *= 1 + 9 * grain
        pixels += noise
    return to_bytes(pixels)


def _cored(image: Rgb, threshold: float) -> Rgb:
    """Detail of less than `threshold` levels lost, stronger detail kept: what noise reduction does at high gain."""
    base = cv2.GaussianBlur(image, (0, 0), 2.0)
    levels = np.arange(256, dtype=np.float32) - 128
    kept = np.copysign(np.maximum(np.abs(levels) - np.float32(threshold), 0), levels) + 128
    detail = cv2.LUT(cv2.addWeighted(image, 1, base, -1, 128), kept.astype(np.uint8))
    return np.asarray(cv2.addWeighted(base, 1, detail, 1, -128), np.uint8)


def _glow(scene: Scene, rng: np.random.Generator) -> Floats:
    """(H, W, 3) some of the image's small bright or red spots, lit, with soft rims, and a few strewn at random."""
    size = (max(2, scene.width // 2), max(2, scene.height // 2))
    base = cv2.resize(scene.image, size, interpolation=cv2.INTER_AREA)
    reach = max(3, size[0] // 60 | 1)
    disc = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (reach, reach))
    bright = cv2.morphologyEx(base[..., 1], cv2.MORPH_TOPHAT, disc)
    reddish = cv2.subtract(base[..., 0], cv2.max(base[..., 1], base[..., 2]))
    limit, chance, strength, strewn = _draws(rng, 4)
    lit = smooth_noise(rng, size[1], size[0], size[0] / 16) < np.float32(2 * (chance - 0.4))
    layer = np.zeros((size[1], size[0], 3), np.uint8)
    for spots, colour in ((bright > 40 + 50 * limit, (255, 245, 220)), (reddish > 50 + 40 * limit, (255, 60, 45))):
        layer[compact((spots & lit).astype(np.float32), reach) > 0] = colour
    colours = ((255, 250, 235), (255, 205, 120), (255, 70, 50))
    for x, y, radius, kind in uniform(rng, round(5 * strewn), 4):
        centre = (int(x * size[0]), int((0.15 + 0.45 * y) * size[1]))
        cv2.circle(layer, centre, max(1, round(float(radius) ** 3 * size[0] / 90)), colours[int(kind * 3)], -1)
    light = np.asarray(layer, np.float32)
    near, far = soften(light, size[0] / 120), soften(light, size[0] / 35)
    light = (cv2.GaussianBlur(light, (0, 0), 0.7) + 3 * near + 4 * far) * np.float32(0.4 + strength)
    return np.asarray(cv2.resize(light, (scene.width, scene.height)), np.float32)


def rain_lines(scene: Scene, rng: np.random.Generator, *, amount: float) -> Rgb:
    """Slanted bright lines over an image that is a little greyer, flatter and softer."""
    slant, length, count = _draws(rng, 3)
    small = (max(2, scene.width // 2), max(2, scene.height // 2))
    layer = np.zeros((small[1], small[0]), np.uint8)
    starts = uniform(rng, max(1, round(amount * (200 + 500 * count))), 3) * (small[0], small[1], 1)
    reach = (0.03 + 0.09 * length) * small[1] * (0.5 + starts[:, 2])
    ends = starts[:, :2] + np.stack([(slant - 0.5) * 0.6 * reach, reach], axis=1)
    lines = np.rint(np.stack([starts[:, :2], ends], axis=1)).astype(np.int32)
    cv2.polylines(layer, list(lines), False, 110, 1, cv2.LINE_AA)
    share = cv2.resize(cv2.GaussianBlur(layer, (3, 3), 0.7), (scene.width, scene.height)).astype(np.float32) / 255
    grey = cv2.cvtColor(cv2.cvtColor(scene.image, cv2.COLOR_RGB2GRAY), cv2.COLOR_GRAY2RGB)
    pale = 0.45 * amount
    flat = np.asarray(cv2.addWeighted(scene.image, 1 - pale, grey, 0.6 * pale, 55 * pale), np.uint8)
    return _over(flat, share, np.array([215, 218, 222]))


def snow_discs(scene: Scene, rng: np.random.Generator, *, amount: float) -> Rgb:
    """Round white spots of three sizes, softer when larger, over a paler image."""
    pale = 0.35 * amount * _draws(rng, 1)[0]
    base = cv2.convertScaleAbs(scene.image, alpha=1 - pale, beta=215 * pale)
    clear = np.ones((scene.height, scene.width), np.float32)
    passed = 1 - np.float32(0.85 / 255) * np.arange(256, dtype=np.uint8)
    for size, count in ((0.0012, 500), (0.0025, 160), (0.006, 25)):
        layer = np.zeros((scene.height, scene.width), np.uint8)
        radius = max(1.0, size * scene.width)
        spots = uniform(rng, max(1, round(count * amount)), 2) * (scene.width, scene.height)
        for x, y in spots:
            cv2.circle(layer, (int(x), int(y)), round(radius), 255, -1, cv2.LINE_AA)
        clear *= cv2.LUT(cv2.GaussianBlur(layer, (0, 0), 0.5 * radius), passed)
    return _over(np.asarray(base, np.uint8), 1 - clear, np.array([238, 240, 244]))


def flare(scene: Scene, rng: np.random.Generator, *, strength: float) -> Rgb:
    """A radial gradient of warm white, screened over the upper half."""
    x, y, size, warmth = _draws(rng, 4)
    v = _rows(scene, 0.1 + 0.4 * y) * scene.height / scene.width
    u = (np.arange(scene.width, dtype=np.float32)[None] + 0.5) / scene.width - x
    radius = cv2.sqrt(np.asarray(u * u + v * v, np.float32))
    share = strength * cv2.exp(np.asarray(radius * np.float32(-1 / (0.08 + 0.25 * size)), np.float32))
    return _over(scene.image, share, np.array([255, 250, 245 - 60 * warmth]))


def blotches(scene: Scene, rng: np.random.Generator, *, coverage: float) -> Rgb:
    """Flat soft-edged spots of one dull colour over a share of the image."""
    tone, hue, soft, grain = _draws(rng, 4)
    noise = smooth_noise(rng, scene.height, scene.width, scene.width / (8 + 30 * grain))
    threshold = float(np.quantile(noise[::4, ::4], 1 - coverage))
    share = np.asarray(np.clip((noise - threshold) / (0.15 + 0.8 * soft), 0, 0.92), np.float32)
    colour = np.array([20 + 130 * tone + 12 * hue, 20 + 125 * tone, 20 + 118 * tone], np.float32)
    return _over(scene.image, share, colour)


def sheen(scene: Scene, rng: np.random.Generator, *, strength: float) -> Rgb:
    """The upper half turned over, smeared vertically and mixed in patches into a darkened lower half."""
    horizon, dark = _draws(rng, 2)
    below = _rows(scene, 0.42 + 0.1 * horizon)
    small = cv2.resize(scene.image[::-1], (max(2, scene.width // 4), max(2, scene.height // 4)))
    smeared = cv2.blur(small, (3, max(3, scene.height // 20)))
    mirror = np.asarray(cv2.resize(smeared, (scene.width, scene.height)))
    patches = smooth_noise(rng, scene.height, scene.width, scene.width / 8, octaves=2)
    share = np.asarray(np.clip(below * 8, 0, 1) * strength * np.clip(0.8 + 0.3 * patches, 0, 1), np.float32)
    darker = _over(scene.image, 0.45 * dark * share, np.zeros(3))
    return _over(darker, 0.5 * share, mirror)


def shade(scene: Scene, rng: np.random.Generator, *, strength: float) -> Rgb:
    """One to three polygons on the lower half, darkened with soft edges."""
    count, soft = _draws(rng, 2)
    layer = np.zeros((scene.height, scene.width), np.float32)
    for corners in uniform(rng, 1 + int(3 * count), 5, 2):
        corners[:, 1] = 0.4 + 0.6 * corners[:, 1]
        centre = corners.mean(axis=0)
        order = np.argsort(np.arctan2(corners[:, 1] - centre[1], corners[:, 0] - centre[0]))
        points = np.rint(corners[order] * (scene.width, scene.height)).astype(np.int32)
        cv2.fillPoly(layer, [points], 1.0)
    share = soften(layer, (0.002 + 0.01 * soft) * scene.width)
    return _over(scene.image, strength * share, np.zeros(3))


def _recipe(
    effect: Effect, phenomenon: Phenomenon, model: str, family: Family, **ranges: tuple[float, float]
) -> Recipe:
    """A recipe that is called as its effect."""
    return Recipe(str(effect.__name__), phenomenon, model, family, MappingProxyType(ranges), effect)


P, F = Phenomenon, Family

_RECIPES = [
    _recipe(haze, P.FOG, "row_exponential_haze", F.WEATHER, density=(0.2, 3.0)),
    _recipe(rain_lines, P.RAIN, "overlaid_lines", F.WEATHER, amount=(0.2, 1.0)),
    _recipe(snow_discs, P.SNOW, "overlaid_discs", F.WEATHER, amount=(0.2, 1.0)),
    _recipe(sheen, P.WET_ROAD, "flipped_overlay", F.WEATHER, strength=(0.2, 0.9)),
    _recipe(darkness, P.DARKNESS, "tone_curve_glow", F.LIGHTING, gain=(0.25, 0.8)),
    _recipe(flare, P.GLARE, "radial_gradient", F.LIGHTING, strength=(0.2, 0.9)),
    _recipe(shade, P.SHADOWS, "soft_polygons", F.LIGHTING, strength=(0.2, 0.7)),
    _recipe(blotches, P.DIRT, "flat_patches", F.SENSOR, coverage=(0.02, 0.2)),
]

RECIPES: Mapping[str, Recipe] = MappingProxyType({recipe.name: recipe for recipe in _RECIPES})
"""name -> Recipe."""
