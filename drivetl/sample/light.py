"""Light of a clear day, a rainy day and a night in either town, and the shaded colour of every layer.

Layers are shaded in linear RGB (Lambertian sun, sky and ground light, gloss for paint and glass) and stored as sRGB.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from drivetl.sample.camera import Array
from drivetl.sample.mesh import GROUND, Colour, Material, Soup


@dataclass(frozen=True, slots=True)
class Light:
    """The light of one drive. Colours are linear RGB unless stated otherwise."""

    night: bool
    rain: bool
    sun: Colour
    """Direction towards the sun, unit length, y negative (up)."""
    sun_rgb: Colour
    sky_rgb: Colour
    ground_rgb: Colour
    haze_srgb: Colour
    """0..1"""
    haze_per_m: float
    zenith_srgb: Colour
    horizon_srgb: Colour
    clouds: float
    """Fraction of the sky that clouds cover."""
    shadow: float
    """How much darker the ground is in shadow, 0..1."""
    exposure: float = 1.0

    @property
    def lights_on(self) -> bool:
        """Whether vehicles drive with lamps on."""
        return self.night or self.rain


def light_of(town: str, night: bool, rain: bool, rng: np.random.Generator) -> Light:
    """The light of a drive in town `a` or `b`; the position of the sun is drawn from `rng`."""
    azimuth = float(rng.uniform(0.5, 1.25)) * (1 if rng.random() < 0.5 else -1) + (
        math.pi if rng.random() < 0.55 else 0.0
    )
    elevation = math.radians(float(rng.uniform(28, 42) if town == "a" else rng.uniform(42, 58)))
    sun = (math.cos(elevation) * math.sin(azimuth), -math.sin(elevation), math.cos(elevation) * math.cos(azimuth))
    if night:
        return _night(town, rain, sun)
    return _rainy_day(town, sun) if rain else _clear_day(town, sun, rng)


def _night(town: str, rain: bool, sun: Colour) -> Light:
    glow = (0.135, 0.115, 0.105) if town == "a" else (0.125, 0.125, 0.15)
    dim = 0.55 if rain else 1.0
    return Light(
        night=True,
        rain=rain,
        sun=sun,
        sun_rgb=(0.0, 0.0, 0.0),
        sky_rgb=(1.0, 0.97, 0.92),
        ground_rgb=(0.75, 0.72, 0.68),
        haze_srgb=(glow[0] * 0.6, glow[1] * 0.6, glow[2] * 0.6),
        haze_per_m=0.012 if rain else 0.005,
        zenith_srgb=(0.018 * dim, 0.024 * dim, 0.050 * dim),
        horizon_srgb=glow,
        clouds=0.75 if rain else 0.25,
        shadow=0.25,
    )


def _rainy_day(town: str, sun: Colour) -> Light:
    level = 1.18 if town == "a" else 1.05
    return Light(
        night=False,
        rain=True,
        sun=sun,
        sun_rgb=(0.03, 0.03, 0.03),
        sky_rgb=(level, level * 1.02, level * 1.05),
        ground_rgb=(0.30, 0.30, 0.30),
        haze_srgb=(0.70, 0.71, 0.72) if town == "a" else (0.63, 0.655, 0.67),
        haze_per_m=0.0085,
        zenith_srgb=(0.60, 0.62, 0.65),
        horizon_srgb=(0.80, 0.81, 0.82),
        clouds=1.0,
        shadow=0.0,
    )


def _clear_day(town: str, sun: Colour, rng: np.random.Generator) -> Light:
    if town == "a":
        return Light(
            night=False,
            rain=False,
            sun=sun,
            sun_rgb=(2.25, 2.0, 1.58),
            sky_rgb=(0.42, 0.53, 0.72),
            ground_rgb=(0.30, 0.26, 0.20),
            haze_srgb=(0.72, 0.78, 0.84),
            haze_per_m=0.0022,
            zenith_srgb=(0.20, 0.43, 0.80),
            horizon_srgb=(0.76, 0.85, 0.93),
            clouds=float(rng.uniform(0.15, 0.5)),
            shadow=0.54,
            exposure=0.82,
        )
    return Light(
        night=False,
        rain=False,
        sun=sun,
        sun_rgb=(1.95, 1.90, 1.80),
        sky_rgb=(0.66, 0.72, 0.82),
        ground_rgb=(0.26, 0.26, 0.27),
        haze_srgb=(0.70, 0.745, 0.76),
        haze_per_m=0.0042,
        zenith_srgb=(0.44, 0.57, 0.72),
        horizon_srgb=(0.84, 0.875, 0.885),
        clouds=float(rng.uniform(0.45, 0.8)),
        shadow=0.42,
        exposure=0.98,
    )


def to_srgb(linear: Array) -> Array:
    """Linear RGB -> sRGB 0..1, with a soft shoulder instead of hard clipping."""
    x = np.maximum(linear, 0.0)
    x = np.where(x > 0.7, 0.7 + 0.3 * (1 - np.exp(-(x - 0.7) / 0.3)), x)
    return np.asarray(np.where(x <= 0.0031308, 12.92 * x, 1.055 * np.power(x, 1 / 2.4) - 0.055))


def layer_colours(soup: Soup, light: Light, towards: Array) -> Array:
    """(L, 3) uint8 sRGB of every layer; `towards`: (3,) unit vector from the scene to the camera.

    At night these are colours under white light; `shade` dims them by the light that reaches each pixel.
    """
    n, albedo, material = soup.shading, soup.colours, soup.materials
    sun, sky, ground = np.array(light.sun), np.array(light.sky_rgb), np.array(light.ground_rgb)
    direct = np.clip(n @ sun, 0, None) * soup.sunlit
    up = (1 - n[:, 1:2]) / 2
    ambient = sky * (0.30 + 0.70 * up) + ground * (0.55 * (1 - up))
    colour = albedo * (ambient + direct[:, None] * np.array(light.sun_rgb))
    half = sun + towards
    half = half / np.linalg.norm(half)
    gloss = np.clip(n @ half, 0, None) ** 36 * soup.sunlit
    paint, glass = material == Material.PAINT, material == Material.GLASS
    shine = np.array(light.sun_rgb)[None] * gloss[:, None] * 0.22
    colour[paint] += 0.045 * sky * (0.4 + up[paint]) + shine[paint]
    colour[glass] += sky * (0.05 + 0.30 * np.clip(-n[glass, 1:2], 0, 1)) + 1.5 * shine[glass]
    if light.rain:
        grounds = np.isin(material, GROUND)
        colour[grounds & (material != Material.MARKING)] *= 0.62
    emission = soup.emission[:, None]
    glow = albedo * (1.15 if light.night else 1.0)
    colour = colour * light.exposure * (1 - emission) + glow * emission
    return np.asarray(np.rint(np.clip(to_srgb(colour), 0, 1) * 255), np.uint8)
