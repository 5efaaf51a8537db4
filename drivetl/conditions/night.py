"""Darkness: night and dusk. The day's own light is taken away, lamps, headlights and sky are put in its place.

Every effect has the form `effect(scene, rng, **parameters) -> (H, W, 3) uint8 RGB`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import cv2
import numpy as np

from drivetl.conditions.air import covered_sky, sunlight
from drivetl.conditions.lamps import DISCHARGE, HEADLIGHT, headlights, lamps
from drivetl.conditions.lighting import sensor_noise
from drivetl.conditions.optics import REC709, Field, Planes, Rgb, to_display, uniform
from drivetl.conditions.scene import Scene

MOON = np.array([0.86, 0.95, 1.22], np.float32)
"""Tint of what light a night sky gives."""


@dataclass(frozen=True)
class Exposure:
    """What falls on the sensor and what its electronics make of it."""

    light: Planes
    """(3, H / 2, W / 2) illumination of the scene, relative to the day's."""
    glow: Planes
    """(3, H / 2, W / 2) light added in lens and air."""
    full_well: float
    """Photons that saturate, at this gain."""
    read: float
    """Read noise, in units of saturation."""
    strength: float
    """Of the noise reduction (`denoise`); 0: none."""


def night(scene: Scene, rng: np.random.Generator, *, ambient: float) -> Rgb:
    """Night: `ambient` of the day's light is left, the car's own headlights, lamps with halos, the sensor's noise.

    There is no sun: its pattern (`sunlight`) is taken out, the sky is a quarter as bright as the rest. What ambient
    light is left is between moonlight and the green of discharge lamps, by the seed. Headlights: `headlights`, a
    quarter of the day's exposure at 14 m, times the gain. Lamps: `lamps`. Stray light of dirty glass and damp air
    lifts the black by 0.5 % of saturation, times the gain. The camera answers with gain 1.1 ambient^-0.15 (its
    exposure is bounded, things move) and the noise of the photons that are left, var = g P / FWC + (g r)^2 (EMVA
    1288), and takes both away again with the texture that is no stronger (`denoise`).
    """
    gain = 1.1 * ambient**-0.15
    tint = MOON + float(uniform(rng, 1)[0]) * (DISCHARGE - MOON)
    beam = headlights(scene)
    light = np.empty((3, *beam.shape), np.float32)
    glow = lamps(scene, rng)
    for number in range(3):
        np.multiply(beam, np.float32(0.25 * gain * HEADLIGHT[number]), out=light[number])
        light[number] += np.float32(gain * ambient * tint[number])
        glow[number] *= np.float32(gain)
        glow[number] += np.float32(0.005 * gain * DISCHARGE[number])
    exposure = Exposure(light, glow, 9000 * ambient**0.75, 0.0007 * ambient**-0.6, 8.0)
    return relit(scene, rng, exposure, sun_left=0.1, colour=0.75, sky=0.25, knee=0.75)


def dusk(scene: Scene, rng: np.random.Generator, *, sun_deg: float) -> Rgb:
    """Twilight: the sun `sun_deg` above (or, negative, below) the horizon, no direct light on the street.

    Ambient light falls by about a decade per 5 degrees below the horizon (Rozenberg 1966); cameras make up for
    two thirds of it in log scale. The sky keeps a gradient from orange at the horizon to blue above; streets are
    lit by the blue part. Noise as the exposure's photons allow.
    """
    stops = float(np.clip((8 - sun_deg) / 5, 0, 4))
    gain, deep = 10 ** (-0.34 * stops), min(1.0, stops / 2.6)
    rows, columns = max(1, scene.height // 2), max(1, scene.width // 2)
    sky = cv2.resize(scene.sky, (columns, rows))
    up = np.clip(-scene.half_grid[0] / max(scene.view.horizon_px, 1.0), 0, 1)
    low = np.exp(-((up / np.float32(0.45)) ** 2))
    light = np.empty((3, rows, columns), np.float32)
    cool, warm = (1 - 0.20 * deep, 1 - 0.07 * deep, 1 + 0.18 * deep), (0.85, 0.05, -0.55)
    for number in range(3):
        above = np.float32(1 + deep * warm[number] - cool[number] - 0.5 * deep) * low + np.float32(0.5 * deep)
        np.multiply(sky, gain * above, out=light[number])
        light[number] += np.float32(gain * cool[number])
    glow = lamps(scene, rng)
    glow *= np.float32(0.25 * deep)
    exposure = Exposure(light, glow, 9000 * gain, 0.0006 / math.sqrt(gain), 0.0)
    return relit(scene, rng, exposure, sun_left=0.4, colour=0.9, sky=1.0, knee=0.8)


def relit(
    scene: Scene,
    rng: np.random.Generator,
    exposure: Exposure,
    *,
    sun_left: float,
    colour: float,
    sky: float,
    knee: float,
) -> Rgb:
    """The scene in another light: luminance at full, colour at half resolution, as a camera's own chain keeps them.

    sun_left: what share of the sun's pattern stays; colour: what share of the colours; sky: the sky's brightness, times
    a covered sky's.
    """
    rows, columns = exposure.light.shape[1:]
    even = np.asarray(cv2.exp(sunlight(scene) * np.float32(sun_left - 1)), np.float32)
    level = np.float32(sky) * covered_sky(scene)
    luma = scene.luminance * even
    end = int(np.clip(np.ceil(scene.view.horizon_px), 0, scene.height))
    luma[:end] += scene.sky[:end] * (level - luma[:end])
    half, even, above = (np.asarray(cv2.resize(part, (columns, rows)), np.float32) for part in (luma, even, scene.sky))
    mean = (exposure.light * REC709[:, None, None]).sum(axis=0)
    full = (scene.width, scene.height)
    luma *= cv2.resize(mean, full)
    luma += cv2.resize((exposure.glow * REC709[:, None, None]).sum(axis=0), full)
    sensor_noise(luma[None], rng, 3 * exposure.full_well, exposure.read / math.sqrt(3))  # the mean of three colours
    if exposure.strength:
        luma = denoise(luma, exposure.strength, exposure.full_well, exposure.read)
    base = half * mean + (exposure.glow * REC709[:, None, None]).sum(axis=0)
    planes = np.empty_like(scene.linear)
    for number, tint in enumerate((0.97, 1.0, 1.04)):
        part = cv2.resize(scene.linear[number], (columns, rows)) * even
        part += above * (level * np.float32(tint) - part)
        part = (half + np.float32(colour) * (part - half)) * exposure.light[number] + exposure.glow[number]
        difference = cv2.blur(part - base, (3, 3))
        np.add(cv2.resize(difference, full), luma, out=planes[number])
    return to_display(planes, knee)


def denoise(luma: Field, strength: float, full_well: float, read: float) -> Field:
    """What a camera does about its noise: Wiener's filter of luminance's fine detail; a new array.

    Of detail d finer than 3 px under noise of variance n = (P / full_well + read^2) / 3, the share e / (e + strength n)
    is kept, e the mean of d^2 over 5 x 5 pixels beyond n: edges stay, faint texture goes with the noise.
    """
    soft = np.asarray(cv2.GaussianBlur(luma, (0, 0), 2.0), np.float32)
    detail = luma - soft
    power = np.asarray(cv2.blur(detail * detail, (5, 5)), np.float32)
    variance = np.maximum(soft, 0)
    variance *= np.float32(1 / (3 * full_well))
    variance += np.float32(read * read / 3)
    power -= variance
    np.maximum(power, 0, out=power)
    variance *= np.float32(strength)
    variance += power
    power /= variance
    detail *= power
    soft += detail
    return soft
