"""Darkness: night and dusk. The day's own light is taken away, lamps, headlights and sky are put in its place.

Every effect has the form `effect(scene, rng, **parameters) -> (H, W, 3) uint8 RGB`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

from drivetl.conditions.air import covered_sky, sunlight
from drivetl.conditions.lamps import HEADLIGHT, headlights, image_lamps, shine
from drivetl.conditions.lighting import sensor_noise
from drivetl.conditions.optics import REC709, Field, Planes, Rgb, to_display, uniform
from drivetl.conditions.scene import Scene
from drivetl.conditions.street import lamp_tint, lit_windows, street_lamps, street_light
from drivetl.conditions.traffic import vehicle_lamps

MAIN_STREET_LUX = 30.0
"""Class C1 of EN 13201-2, for streets with mixed traffic; its lowest, C5, is 7.5 lx. 0.15 lx: half a moon or a town's
glow."""
WINDOW = np.array([0.29, 0.22, 0.13], np.float32)
"""Light of a lit window, 1 = saturation."""
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


def night(scene: Scene, rng: np.random.Generator, *, illuminance_lx: float, lamps_per_km: float) -> Rgb:
    """Night on a road of `illuminance_lx`: from a lit main street over side streets to an unlit road.

    There is no sun: most of its pattern (`sunlight`) is taken out. What lights the scene is added up: street lamps, of
    one colour (`lamp_tint`), `lamps_per_km` on each side, whose light falls in pools (`street_light`) and comes back
    from the walls; the sky's glow, which is the town's; the own headlights, and those of others. What shines
    are the lamps themselves and lit windows, the fewer the darker the street.

    Lamps of vehicles are where boxes say that vehicles are (`vehicle_lamps`), labelled or ignored alike; without boxes,
    where the image has spots that may be lamps (`image_lamps`). Lamps on boxes are a cue for a detector, as at a real
    night, but on labelled vehicles alone: unlabelled ones stay dark.

    The camera makes up for three tenths of what is missing to 30 lx, in log scale, and no more, as things move. It
    answers with the noise of the photons that are left, var = g P / FWC + (g r)^2 (EMVA 1288), and takes it away again
    with the texture that is no stronger (`denoise`).
    """
    dark = math.log(MAIN_STREET_LUX / illuminance_lx) / math.log(200)  # 0 on the main street, 1 on the unlit road
    gain = (illuminance_lx / MAIN_STREET_LUX) ** -0.3
    level = 0.7 * illuminance_lx / MAIN_STREET_LUX * gain
    tint = lamp_tint(rng)
    town = tint + np.float32(dark) * (MOON - tint)
    first_m = float(uniform(rng, 1)[0]) * 1000 / max(lamps_per_km, 1)
    spots, road = vehicle_lamps(scene, rng)
    lamps, windows = street_lamps(scene, lamps_per_km, first_m), lit_windows(scene, rng, 0.03 + 0.45 * (1 - dark))
    sky = _half_sky(scene)
    ground = 1 - sky
    street, beam = street_light(scene, lamps_per_km, first_m) * ground, headlights(scene) * ground
    up = np.clip(-scene.half_grid[0] / np.float32(scene.view.focal_px), 0, 1)
    above = sky * (np.float32(0.04) + np.float32(0.07) * np.exp(-up / np.float32(0.15)))
    if scene.vehicles is None:
        spots = spots + image_lamps(scene)
    shining = np.nonzero(lamps)
    spots[shining] += lamps[shining][:, None] * np.float32(0.6) * tint
    glow = shine(scene, spots)
    glow *= np.float32(0.5 * gain**0.5)
    light, lit = np.empty_like(glow), bool(road.any())
    for number, plane in enumerate(light):
        np.multiply(street, np.float32(0.75 * level * tint[number]), out=plane)
        cv2.scaleAdd(beam, 0.09 * gain * float(HEADLIGHT[number]), plane, dst=plane)
        cv2.scaleAdd(ground, 0.25 * level * float(town[number]), plane, dst=plane)
        cv2.scaleAdd(above, level**0.75 * float(town[number]), plane, dst=plane)
        if lit:
            plane += road[number] * ground * np.float32(0.16 * gain)
        cv2.scaleAdd(windows, float(WINDOW[number]), glow[number], dst=glow[number])
        glow[number] += np.float32((0.006 - 0.003 * dark) * town[number])  # stray light of dirty glass and damp air
    exposure = Exposure(light, glow, 9000 * level**0.75, 0.0005 * level**-0.5, 1 + 7 * dark)
    return relit(scene, rng, exposure, sun_left=0.3, colour=0.85, sky=1.0, knee=0.75)


def dusk(scene: Scene, rng: np.random.Generator, *, sun_deg: float) -> Rgb:
    """Twilight: the sun `sun_deg` above (or, negative, below) the horizon, no direct light on the street.

    Ambient light falls by about a decade per 5 degrees below the horizon (Rozenberg 1966); cameras make up for
    two thirds of it in log scale. The sky keeps a gradient from orange at the horizon to blue above; streets are
    lit by the blue part. Noise as the exposure's photons allow.
    """
    stops = float(np.clip((8 - sun_deg) / 5, 0, 4))
    gain, deep = 10 ** (-0.34 * stops), min(1.0, stops / 2.6)
    rows, columns = max(1, scene.height // 2), max(1, scene.width // 2)
    sky = _half_sky(scene)
    up = np.clip(-scene.half_grid[0] / max(scene.view.horizon_px, 1.0), 0, 1)
    low = np.exp(-((up / np.float32(0.45)) ** 2))
    light = np.empty((3, rows, columns), np.float32)
    cool, warm = (1 - 0.20 * deep, 1 - 0.07 * deep, 1 + 0.18 * deep), (0.85, 0.05, -0.55)
    for number in range(3):
        above = np.float32(1 + deep * warm[number] - cool[number] - 0.5 * deep) * low + np.float32(0.5 * deep)
        np.multiply(sky, gain * above, out=light[number])
        light[number] += np.float32(gain * cool[number])
    if scene.vehicles is not None:
        glow = shine(scene, vehicle_lamps(scene, rng)[0])
    elif "halos" in scene.memo:
        glow = scene.memo["halos"]
    else:
        glow = scene.memo["halos"] = shine(scene, image_lamps(scene))
    glow = glow * np.float32(0.25 * deep)
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
    luma[:end] -= _sky_rim(scene, end) * (luma[:end] - cv2.erode(luma[:end], _rim_window(scene)))
    luma[:end] += scene.sky[:end] * (level - luma[:end])
    half, even = (np.asarray(cv2.resize(part, (columns, rows)), np.float32) for part in (luma, even))
    above = _half_sky(scene)
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


def _half_sky(scene: Scene) -> Field:
    """(H / 2, W / 2) `Scene.sky`."""
    if "half_sky" not in scene.memo:
        scene.memo["half_sky"] = np.asarray(
            cv2.resize(scene.sky, scene.half_grid[1].shape[1:] + scene.half_grid[0].shape[:1]), np.float32
        )
    return scene.memo["half_sky"]


def _sky_rim(scene: Scene, end: int) -> Field:
    """(end, W) 0..1 what lies at the rim of the sky: part of its light is the day sky's, which is gone."""
    if "rim" not in scene.memo:
        scene.memo["rim"] = np.asarray(cv2.dilate(scene.sky[:end], _rim_window(scene)), np.float32)
    return scene.memo["rim"]


def _rim_window(scene: Scene) -> npt.NDArray[np.uint8]:
    """As far as the sky's rim reaches: 4 px in an image 1242 px wide."""
    return np.ones((2 * round(scene.width / 300) + 1,) * 2, np.uint8)


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
