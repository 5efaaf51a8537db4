"""Weather to train on: cheap pictures of the same phenomena by other models than those we measure with.

They work on display values, know no depth and guess the horizon, so that "trained on haze, measured in fog" compares
two models of fog, not one with itself. What a recipe is, `Recipe.model` says; evaluation compares it with the
catalogue's. Every effect has the form `effect(scene, rng, **parameters) -> (H, W, 3) uint8 RGB`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

import cv2
import numpy as np
import numpy.typing as npt

from drivetl.conditions.catalog import Effect
from drivetl.conditions.common_noise import to_bytes
from drivetl.conditions.optics import Rgb, normal, smooth_noise, soften, uniform
from drivetl.conditions.scene import Scene

Floats = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Recipe:
    """One training effect and the range its parameters are drawn from unless a preset says otherwise."""

    name: str
    phenomenon: str
    model: str
    family: str
    range: Mapping[str, tuple[float, float]]
    effect: Effect = field(repr=False, compare=False)


def _draws(rng: np.random.Generator, count: int) -> list[float]:
    return [float(value) for value in uniform(rng, count)]


def _pixels(scene: Scene) -> Floats:
    return scene.image.astype(np.float32)


def _rows(scene: Scene, horizon: float) -> Floats:
    """(H, 1) height below a horizon at a share of the picture's height, in picture heights."""
    rows = (np.arange(scene.height) + 0.5) / scene.height - horizon
    return np.asarray(rows[:, None], np.float32)


def _blend(pixels: Floats, share: Floats, colour: Floats) -> Floats:
    """pixels + share * (colour - pixels) in place; share (H, W), colour (3,) or (H, W, 3)."""
    pixels += cv2.merge([share, share, share]) * (colour - pixels)
    return pixels


def haze(scene: Scene, rng: np.random.Generator, *, density: float) -> Rgb:
    """A grey layer that thins towards the bottom edge: share 1 - exp(-density p(row)), uneven, of any grey."""
    horizon, level, warmth, spread = _draws(rng, 4)
    below = _rows(scene, 0.38 + 0.14 * horizon)
    profile = np.where(below > 0, np.exp(-below * (2 + 4 * spread)), 1 + 0.4 * below)
    uneven = 1 + 0.12 * smooth_noise(rng, scene.height, scene.width, scene.width / 4)
    share = 1 - cv2.exp(np.asarray(-density * profile * uneven, np.float32))
    grey = 130 + 95 * level
    colour = np.array([grey + 10 * (warmth - 0.5), grey, grey - 10 * (warmth - 0.5)], np.float32)
    return to_bytes(_blend(_pixels(scene), np.asarray(np.clip(share, 0, 1), np.float32), colour))


def darkness(scene: Scene, rng: np.random.Generator, *, gain: float) -> Rgb:
    """A tone curve that darkens to `gain`, a colour cast, a pool of light, a few glowing spots, Gaussian noise."""
    gamma, cast, pool_x, pool_y, pool, grain, lights = _draws(rng, 7)
    tint = np.array([0.85 + 0.4 * cast, 0.95, 1.2 - 0.5 * cast], np.float32)
    curve = 255 * gain * (np.arange(256, dtype=np.float32) / 255)[:, None] ** (1 + 0.5 * gamma) * tint
    pixels = np.asarray(cv2.LUT(scene.image, curve.astype(np.float32)[:, None, :]), np.float32)
    y, x = _rows(scene, 0.55 + 0.3 * pool_y), np.linspace(-0.5, 0.5, scene.width, dtype=np.float32)[None]
    light = cv2.exp(np.asarray(-(((x - 0.4 * (pool_x - 0.5)) / 0.3) ** 2) - (y / 0.22) ** 2, np.float32))
    pixels *= (1 + pool * (0.7 / gain - 1) * np.asarray(light, np.float32))[..., None]
    pixels += _glow(scene, rng, round(14 * lights))
    pixels += normal(rng, *pixels.shape) * np.float32(1 + 9 * grain)
    return to_bytes(pixels)


def _glow(scene: Scene, rng: np.random.Generator, count: int) -> Floats:
    """(H, W, 3) spots of light with soft rims in the middle third of the rows, white, yellow or red."""
    small_h, small_w = max(2, scene.height // 4), max(2, scene.width // 4)
    layer = np.zeros((small_h, small_w, 3), np.float32)
    colours = ((255, 250, 235), (255, 205, 120), (255, 70, 50))
    for x, y, size, kind in uniform(rng, count, 4):
        centre = (int(x * small_w), int((0.25 + 0.45 * y) * small_h))
        cv2.circle(layer, centre, max(1, round(float(size) ** 2 * small_w / 60)), colours[int(kind * 3)], -1)
    halo = cv2.GaussianBlur(layer, (0, 0), max(small_w / 90, 0.5))
    wide = cv2.GaussianBlur(layer, (0, 0), max(small_w / 25, 0.5))
    return np.asarray(cv2.resize(halo + wide, (scene.width, scene.height)), np.float32)


def rain_lines(scene: Scene, rng: np.random.Generator, *, amount: float) -> Rgb:
    """Slanted bright lines over a picture that is a little greyer, flatter and softer."""
    slant, length, count = _draws(rng, 3)
    small = (max(2, scene.width // 2), max(2, scene.height // 2))
    layer = np.zeros((small[1], small[0]), np.uint8)
    starts = uniform(rng, max(1, round(amount * (200 + 500 * count))), 3) * (small[0], small[1], 1)
    reach = (0.03 + 0.09 * length) * small[1] * (0.5 + starts[:, 2])
    ends = starts[:, :2] + np.stack([(slant - 0.5) * 0.6 * reach, reach], axis=1)
    lines = np.rint(np.stack([starts[:, :2], ends], axis=1)).astype(np.int32)
    cv2.polylines(layer, list(lines), False, 110, 1, cv2.LINE_AA)
    share = (
        cv2.resize(cv2.GaussianBlur(layer, (3, 3), 0.7), (scene.width, scene.height)).astype(np.float32) / 255
    )
    pixels = _pixels(scene)
    grey = pixels.mean(axis=2, keepdims=True)
    pixels += (0.45 * amount) * (0.6 * grey + 55 - pixels)
    return to_bytes(_blend(pixels, np.asarray(share, np.float32), np.array([215, 218, 222], np.float32)))


def snow_discs(scene: Scene, rng: np.random.Generator, *, amount: float) -> Rgb:
    """Round white spots of three sizes, softer when larger, over a paler picture."""
    pale = _draws(rng, 1)[0]
    pixels = _pixels(scene)
    pixels += (0.35 * amount * pale) * (215 - pixels)
    for size, count in ((0.0012, 500), (0.0025, 160), (0.006, 25)):
        layer = np.zeros((scene.height, scene.width), np.float32)
        radius = max(1.0, size * scene.width)
        spots = uniform(rng, max(1, round(count * amount)), 2) * (scene.width, scene.height)
        for x, y in spots:
            cv2.circle(layer, (int(x), int(y)), round(radius), 1.0, -1, cv2.LINE_AA)
        share = 0.85 * cv2.GaussianBlur(layer, (0, 0), 0.5 * radius)
        _blend(pixels, np.asarray(share, np.float32), np.array([238, 240, 244], np.float32))
    return to_bytes(pixels)


def flare(scene: Scene, rng: np.random.Generator, *, strength: float) -> Rgb:
    """A radial gradient of warm white, screened over the upper half."""
    x, y, size, warmth = _draws(rng, 4)
    v = _rows(scene, 0.1 + 0.4 * y) * scene.height / scene.width
    u = (np.arange(scene.width, dtype=np.float32)[None] + 0.5) / scene.width - x
    radius = cv2.sqrt(np.asarray(u * u + v * v, np.float32))
    share = strength * cv2.exp(np.asarray(radius * np.float32(-1 / (0.08 + 0.25 * size)), np.float32))
    return to_bytes(
        _blend(
            _pixels(scene), np.asarray(share, np.float32), np.array([255, 250, 245 - 60 * warmth], np.float32)
        )
    )


def blotches(scene: Scene, rng: np.random.Generator, *, coverage: float) -> Rgb:
    """Flat soft-edged spots of one dull colour over a share of the picture."""
    tone, hue, soft, grain = _draws(rng, 4)
    noise = smooth_noise(rng, scene.height, scene.width, scene.width / (8 + 30 * grain))
    threshold = float(np.quantile(noise[::4, ::4], 1 - coverage))
    share = np.asarray(np.clip((noise - threshold) / (0.15 + 0.8 * soft), 0, 0.92), np.float32)
    colour = np.array([20 + 130 * tone + 12 * hue, 20 + 125 * tone, 20 + 118 * tone], np.float32)
    return to_bytes(_blend(_pixels(scene), share, colour))


def sheen(scene: Scene, rng: np.random.Generator, *, strength: float) -> Rgb:
    """The upper half turned over, smeared vertically and mixed into a darkened lower half."""
    horizon, dark = _draws(rng, 2)
    below = _rows(scene, 0.42 + 0.1 * horizon)
    small = cv2.resize(scene.image[::-1], (max(2, scene.width // 4), max(2, scene.height // 4)))
    smeared = cv2.blur(small, (3, max(3, scene.height // 20))).astype(np.float32)
    mirror = np.asarray(cv2.resize(smeared, (scene.width, scene.height)), np.float32)
    share = np.broadcast_to(np.clip(below * 8, 0, 1) * strength, (scene.height, scene.width)).astype(
        np.float32
    )
    pixels = _pixels(scene)
    pixels *= (1 - 0.45 * dark * share)[..., None]
    return to_bytes(_blend(pixels, np.asarray(share * 0.5, np.float32), mirror))


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
    pixels = _pixels(scene)
    pixels *= (1 - strength * share)[..., None]
    return to_bytes(pixels)


def _recipe(
    name: str, phenomenon: str, model: str, family: str, effect: Effect, **ranges: tuple[float, float]
) -> Recipe:
    return Recipe(name, phenomenon, model, family, MappingProxyType(ranges), effect)


RECIPES: Mapping[str, Recipe] = MappingProxyType(
    {
        item.name: item
        for item in (
            _recipe("haze", "fog", "row_exponential_haze", "weather", haze, density=(0.2, 1.6)),
            _recipe("rain_lines", "rain", "overlaid_lines", "weather", rain_lines, amount=(0.2, 1.0)),
            _recipe("snow_discs", "snow", "overlaid_discs", "weather", snow_discs, amount=(0.2, 1.0)),
            _recipe("sheen", "wet road", "flipped_overlay", "weather", sheen, strength=(0.2, 0.9)),
            _recipe("darkness", "darkness", "tone_curve_glow", "lighting", darkness, gain=(0.25, 0.8)),
            _recipe("flare", "glare", "radial_gradient", "lighting", flare, strength=(0.2, 0.9)),
            _recipe("shade", "shadows", "soft_polygons", "lighting", shade, strength=(0.2, 0.7)),
            _recipe("blotches", "dirt", "flat_patches", "sensor", blotches, coverage=(0.02, 0.2)),
        )
    }
)
"""name -> Recipe."""
