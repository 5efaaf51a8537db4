"""Light of a day, a rainy day and a night in either town, and the colour of every flat layer under it.

Layers are shaded in linear RGB (Lambert sun, sky above, bounce below, a gloss for paint and glass) and stored as sRGB.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from drivetl.sample.camera import Array
from drivetl.sample.mesh import GROUND, Colour, Material, Soup


@dataclass(frozen=True, slots=True)
class Light:
    """The light of one drive. Colours linear RGB unless said."""

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
    """Share of the sky they cover."""
    shadow: float
    """How much darker the ground is in shadow, 0..1."""
    exposure: float = 1.0

    @property
    def lights_on(self) -> bool:
        """Vehicles drive with lamps on."""
        return self.night or self.rain


def light_of(town: str, night: bool, rain: bool, rng: np.random.Generator) -> Light:
    """The light of a drive; the sun's place is drawn from `rng`."""
    azimuth = float(rng.uniform(0.5, 1.25)) * (1 if rng.random() < 0.5 else -1) + (
        math.pi if rng.random() < 0.55 else 0.0
    )
    height = math.radians(float(rng.uniform(28, 42) if town == "a" else rng.uniform(42, 58)))
    sun = (math.cos(height) * math.sin(azimuth), -math.sin(height), math.cos(height) * math.cos(azimuth))
    warm = town == "a"
    if night:
        glow = (0.135, 0.115, 0.105) if warm else (0.125, 0.125, 0.15)
        dim = 0.55 if rain else 1.0
        haze = (glow[0] * 0.6, glow[1] * 0.6, glow[2] * 0.6)
        return Light(
            True,
            rain,
            sun,
            (0.0, 0.0, 0.0),
            (1.0, 0.97, 0.92),
            (0.75, 0.72, 0.68),
            haze,
            0.012 if rain else 0.005,
            (0.018 * dim, 0.024 * dim, 0.050 * dim),
            glow,
            0.75 if rain else 0.25,
            0.25,
        )
    if rain:
        grey = (0.70, 0.71, 0.72) if warm else (0.63, 0.655, 0.67)
        level = 1.18 if warm else 1.05
        return Light(
            False,
            True,
            sun,
            (0.03, 0.03, 0.03),
            (level, level * 1.02, level * 1.05),
            (0.30, 0.30, 0.30),
            grey,
            0.0085,
            (0.60, 0.62, 0.65),
            (0.80, 0.81, 0.82),
            1.0,
            0.0,
            1.0,
        )
    if warm:
        return Light(
            False,
            False,
            sun,
            (2.25, 2.0, 1.58),
            (0.42, 0.53, 0.72),
            (0.30, 0.26, 0.20),
            (0.72, 0.78, 0.84),
            0.0022,
            (0.20, 0.43, 0.80),
            (0.76, 0.85, 0.93),
            float(rng.uniform(0.15, 0.5)),
            0.54,
            0.82,
        )
    return Light(
        False,
        False,
        sun,
        (1.95, 1.90, 1.80),
        (0.66, 0.72, 0.82),
        (0.26, 0.26, 0.27),
        (0.70, 0.745, 0.76),
        0.0042,
        (0.44, 0.57, 0.72),
        (0.84, 0.875, 0.885),
        float(rng.uniform(0.45, 0.8)),
        0.42,
        0.98,
    )


def to_srgb(linear: Array) -> Array:
    """Linear light -> sRGB 0..1, with a soft shoulder instead of hard clipping."""
    x = np.maximum(linear, 0.0)
    x = np.where(x > 0.7, 0.7 + 0.3 * (1 - np.exp(-(x - 0.7) / 0.3)), x)
    return np.asarray(np.where(x <= 0.0031308, 12.92 * x, 1.055 * np.power(x, 1 / 2.4) - 0.055))


def layer_colours(soup: Soup, light: Light, towards: Array) -> Array:
    """(L, 3) uint8 sRGB of every layer; `towards` is the unit vector from the scene to the camera.

    At night the colours are those under white light; `shade` dims them by what reaches the pixel.
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
