"""Where the light comes from and how much of it there is: night, dusk, low sun, shadows, tunnels.

Every effect has the form `effect(scene, rng, **parameters) -> (H, W, 3) uint8 RGB`.
"""

from __future__ import annotations

import math

import cv2
import numpy as np
import numpy.typing as npt

from drivetl.conditions.air import overcast
from drivetl.conditions.optics import (
    Field,
    Planes,
    Rgb,
    desaturate,
    luminance,
    normal,
    scale,
    smooth_noise,
    soft_shoulder,
    soften,
    to_display,
    uniform,
)
from drivetl.conditions.scene import Scene

MOON = np.array([0.86, 0.95, 1.22], np.float32)
"""Tint of what light a night sky gives."""
HEADLIGHT = np.array([1.05, 1.0, 0.86], np.float32)
"""Halogen and warm white LED, relative to daylight white balance."""
SODIUM = np.array([1.35, 0.95, 0.45], np.float32)
"""Street lamps."""


def night(scene: Scene, rng: np.random.Generator, *, ambient: float) -> Rgb:
    """Night: ambient light times `ambient`, the car's own headlights, lamps with halos, the sensor's noise.

    The picture is first taken to a covered sky (no sun at night), the sky a quarter as bright as the rest.
    Headlights: a lobe exp(-(X / 4.5 m)^2) of the low beam, falling with (14 / z)^1.3, at most 1.6, cut off half
    a degree below the horizon. Lamps: what shone in the picture shines on, with the halo 1 / (1 + r^2) of
    scattering in lens and air. The camera answers with gain ambient^-0.35 and the noise of the photons that are
    left, var = g P / FWC + (g r)^2 (EMVA 1288).
    """
    exposure = ambient**-0.33
    planes = overcast(scene, 0.8)
    reflectance = desaturate(planes, 0.85)
    light = ambient * (1 - 0.75 * scene.sky)
    beam = headlights(scene)
    result = np.empty_like(reflectance)
    for number in range(3):
        lit = light * MOON[number] + 0.34 * beam * HEADLIGHT[number]
        np.multiply(reflectance[number], lit, out=result[number])
    result += lamps(scene, rng)
    result *= exposure * 0.8
    sensor_noise(result, rng, full_well=9000 * ambient**0.75, read=0.0009 * ambient**-0.65)
    return to_display(soft_shoulder(result, 0.75))


def headlights(scene: Scene) -> Field:
    """(H, W) illumination 0..1.6 by the own low beam, 1 at 14 m straight ahead."""
    depth = scene.depth
    side_m = scene.columns * depth / scene.view.focal_px
    lobe = cv2.exp(-((side_m / 4.5) ** 2))
    fall = np.minimum((14.0 / np.maximum(depth, 1)) ** 1.3, 1.6)
    above = -(scene.rows + 0.009 * scene.view.focal_px) / (0.05 * scene.view.focal_px)
    cut = 1 - 0.88 / (1 + np.exp(np.clip(-8 * above, -30, 30)))
    near = np.clip(1.25 - scene.rows / scene.height, 0.5, 1)  # the bonnet's edge is not lit
    return np.asarray(lobe * fall * cut * near * (1 - scene.sky), np.float32)


def lamps(scene: Scene, rng: np.random.Generator) -> Planes:
    """(3, H, W) light of lamps: small bright spots of the picture that are neither sky nor large.

    Spots: pixels well above their surroundings (white top hat) and saturated red or white; each with the halo
    1 / (1 + r^2), built as a sum of three Gaussians.
    """
    if "lamps" not in scene.memo:
        scene.memo["lamps"] = _spots(scene)
    spots = scene.memo["lamps"]
    total = np.zeros((3, scene.height, scene.width), np.float32)
    if float(spots.max()) == 0.0:
        return total
    unit = scene.width / 1242
    for sigma, weight in ((1.0 * unit, 0.9), (4.0 * unit, 2.4), (14.0 * unit, 5.0)):
        for number in range(3):
            total[number] += weight * soften(spots[number], sigma)
    flicker = 1 + 0.1 * float(normal(rng, 1)[0])
    return np.asarray(total * np.float32(flicker), np.float32)


def _spots(scene: Scene) -> Planes:
    """(3, H, W) sources of light among the picture's pixels."""
    size = max(3, round(scene.width / 70) | 1)
    level = scene.luminance
    hat = cv2.morphologyEx(
        level, cv2.MORPH_TOPHAT, cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (size, size))
    )
    red = np.clip(scene.linear[0] - 2.2 * np.maximum(scene.linear[1], scene.linear[2]), 0, 1)
    red_hat = cv2.morphologyEx(
        red, cv2.MORPH_TOPHAT, cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (size, size))
    )
    white = np.clip((hat - 0.35) / 0.3, 0, 1) * (level > 0.55) * (1 - scene.sky)
    on_road = scene.ground * (scene.depth < 40)
    white *= 1 - on_road  # lane markings are no lamps
    tail = np.clip((red_hat - 0.12) / 0.2, 0, 1)
    colour = np.stack(
        [white * HEADLIGHT[0] + tail, white * HEADLIGHT[1] + 0.06 * tail, white * HEADLIGHT[2] + 0.05 * tail]
    )
    return np.asarray(colour, np.float32)


def sensor_noise(planes: Planes, rng: np.random.Generator, full_well: float, read: float) -> None:
    """Photon and read noise in place: variance P / full_well + read^2, P and read in units of saturation."""
    for plane in planes:
        spread = np.maximum(plane, 0)
        spread *= 1 / full_well
        spread += read * read
        cv2.sqrt(spread, dst=spread)
        spread *= normal(rng, *plane.shape)
        plane += spread


def dusk(scene: Scene, rng: np.random.Generator, *, sun_deg: float) -> Rgb:
    """Twilight: the sun `sun_deg` above (or, negative, below) the horizon, no direct light on the street.

    Ambient light falls by about a decade per 5 degrees below the horizon (Rozenberg 1966); cameras make up for
    two thirds of it in log scale. The sky keeps a gradient from orange at the horizon to blue above; streets are
    lit by the blue part. Noise as the exposure's photons allow.
    """
    stops = np.clip((8 - sun_deg) / 5, 0, 4)
    gain, depth_of_dusk = 10 ** (-0.34 * stops), min(1.0, float(stops) / 2.6)
    planes = overcast(scene, 0.7)
    cool = np.array(
        [1 - 0.20 * depth_of_dusk, 1 - 0.07 * depth_of_dusk, 1 + 0.18 * depth_of_dusk], np.float32
    )
    warm = np.array(
        [1 + 0.85 * depth_of_dusk, 1 + 0.05 * depth_of_dusk, 1 - 0.55 * depth_of_dusk], np.float32
    )
    up = np.clip(-scene.rows / max(scene.view.horizon_px, 1.0), 0, 1)
    low = np.exp(-((up / 0.45) ** 2)).astype(np.float32)
    sky = scene.sky
    for number in range(3):
        tint = cool[number] + sky * (low * (warm[number] - cool[number]) + 0.5 * depth_of_dusk * (1 - low))
        planes[number] *= np.asarray(gain * tint, np.float32)
    planes += lamps(scene, rng) * np.float32(0.25 * depth_of_dusk)
    sensor_noise(planes, rng, full_well=9000 * float(gain), read=0.0006 / math.sqrt(float(gain)))
    return to_display(soft_shoulder(planes))


def low_sun(scene: Scene, rng: np.random.Generator, *, glare: float) -> Rgb:
    """Driving towards a low sun: veiling glare, a bleached sky, the street dark against it.

    The veil falls with the angle to the sun, k (0.004 / (theta^2 + 0.004) + 0.03 exp(-theta / 0.5)), the form of
    CIE disability glare (10 E / theta^2, CIE 146) with the lens's own wide scatter, k = `glare`, theta in rad.
    The exposure follows the sky, so that the rest goes dark; surfaces are backlit and lose colour.
    """
    spot = uniform(rng, 2)
    column = scene.view.centre_px + (float(spot[0]) - 0.5) * 0.5 * scene.width
    row = max(
        0.02 * scene.height, scene.view.horizon_px - (0.08 + 0.10 * float(spot[1])) * scene.view.focal_px
    )
    v = np.arange(scene.height, dtype=np.float32)[:, None] + 0.5 - row
    u = np.arange(scene.width, dtype=np.float32)[None] + 0.5 - column
    squared = np.asarray((u * u + v * v) / scene.view.focal_px**2, np.float32)
    core = np.float32(0.004) / (squared + np.float32(0.004))
    wide = np.float32(0.03) * cv2.exp(cv2.sqrt(squared) * np.float32(-2.0))
    veil_light = (core + wide) * np.float32(0.22 * glare)
    exposure = 1 / (1 + 0.22 * glare)
    planes = desaturate(scale(scene.linear, exposure), 1 - 0.06 * min(glare, 7.0))
    seen = 0.35 + 0.65 * np.maximum(scene.sky, np.float32(0.25))  # buildings shade the lens only in part
    colour = np.array([1.0, 0.93, 0.80], np.float32)
    glow = np.asarray(veil_light * np.maximum(seen, wide), np.float32)
    for number in range(3):
        planes[number] += glow * colour[number]
    return to_display(soft_shoulder(planes, 0.7))


def hard_shadows(scene: Scene, rng: np.random.Generator, *, sun_to_sky: float) -> Rgb:
    """Shadows of trees and houses across the road, under a sun `sun_to_sky` times as strong as the sky.

    The pattern lives on the road in metres (bars as wide as trunks and fronts, torn by crowns) and is projected
    to the picture, so it shrinks with distance and follows the perspective; shade is 1 / (1 + sun_to_sky) of the
    sunlit light and bluish, its edge as soft as the sun's disc makes it (half a degree over 6 m: 5 cm).
    """
    depth = np.minimum(scene.ground_m, np.float32(60))
    ahead = np.broadcast_to(depth, (scene.height, scene.width))
    side = scene.columns * depth / scene.view.focal_px
    turn = (float(uniform(rng, 1)[0]) - 0.5) * 1.6
    along, across = (
        ahead * math.cos(turn) - side * math.sin(turn),
        ahead * math.sin(turn) + side * math.cos(turn),
    )
    texture = smooth_noise(rng, 512, 512, 90, octaves=4) + 0.6 * smooth_noise(rng, 512, 512, 160)
    map_x = np.mod(across * 14 + 4096, 1022).astype(np.float32)
    map_y = np.mod(along * 9 + 4096, 1022).astype(np.float32)
    map_x, map_y = 511 - np.abs(map_x - 511), 511 - np.abs(map_y - 511)  # mirrored tiles have no seams
    pattern = cv2.remap(texture, map_x, map_y, cv2.INTER_LINEAR)
    soft = np.float32(0.10) + np.minimum(depth, 40) * np.float32(0.012)
    shade = np.clip((pattern - 0.05) / soft + 0.5, 0, 1) * np.clip(scene.ground, 0, 1)
    shade *= np.clip((60 - depth) / 30, 0, 1)
    left = 1 / (1 + sun_to_sky)
    planes = scene.linear.copy()
    planes *= 1 + 0.06 * min(sun_to_sky, 8)
    blue = np.array([0.92, 1.0, 1.18], np.float32)
    for number in range(3):
        planes[number] *= np.asarray(1 - shade * (1 - left * blue[number]), np.float32)
    return to_display(soft_shoulder(planes, 0.85))


def tunnel_exit(scene: Scene, rng: np.random.Generator, *, stops: float) -> Rgb:
    """The last metres of a tunnel: outside `stops` f-stops brighter than inside, the exposure between the two.

    The portal is an arch of 9 m by 6.5 m, 22 m ahead; walls, ceiling and road before it get the tunnel's dim,
    yellowish light, what is seen through it burns out by three quarters of the difference and blooms.
    """
    distance, half_wide, top = 22.0, 5.5, 5.5
    focal = scene.view.focal_px
    x = np.abs(scene.columns) * distance / focal / half_wide
    y = (-scene.rows * distance / focal + scene.view.height_m) / top
    arch = np.sqrt(x**4 + np.maximum(y, 0) ** 4)
    edge = 1.2 * distance / focal / half_wide
    inside_portal = np.clip((1 - arch) / edge + 0.5, 0, 1)
    near_ground = np.clip((scene.ground_m - distance) / 4, 0, 1) * (scene.rows > 0) + (scene.rows <= 0)
    far = np.clip((scene.depth - 0.8 * distance) / (0.3 * distance), 0, 1)
    outside = np.asarray(inside_portal * np.minimum(near_ground, far), np.float32)
    spill = soften(outside, scene.width / 18)
    bright, dark = 2 ** (0.45 * stops), 2 ** (-0.55 * stops)
    gain = dark + (bright - dark) * outside + 0.25 * spill * (1 - outside)
    planes = scale(scene.linear, np.asarray(gain, np.float32))
    yellow = np.array([1.12, 1.0, 0.72], np.float32)
    for number in range(3):
        planes[number] *= yellow[number] + outside * (1 - yellow[number])
    bloom = soften(np.maximum(luminance(planes) - 0.9, 0), scene.width / 45)
    planes += np.minimum(bloom, 0.6) * np.float32(0.35)
    sensor_noise(planes, rng, full_well=6000, read=0.001)
    return to_display(soft_shoulder(planes, 0.75))


def gain_curve(scene: Scene, stops: float) -> Planes:
    """A new array: the linear picture `stops` f-stops brighter."""
    return scale(scene.linear, float(2.0**stops))


def overexposure(scene: Scene, rng: np.random.Generator, *, stops: float) -> Rgb:
    """Exposed too long: 2^stops times the light, clipped as a sensor clips, with blooming around what burns out."""
    planes = gain_curve(scene, stops)
    over = np.minimum(np.maximum(luminance(planes) - 1.0, 0), 2.0)
    planes += soften(over, scene.width / 200) * np.float32(0.05)
    return to_display(soft_shoulder(planes, 0.92))


def underexposure(scene: Scene, rng: np.random.Generator, *, stops: float) -> Rgb:
    """Exposed too short: 2^-stops times the light, the read noise of a 12-bit sensor and 8 bits to show it in."""
    planes = gain_curve(scene, -stops)
    sensor_noise(planes, rng, full_well=12000, read=0.0006)
    return to_display(planes)


def street_lamp_tint(level: npt.NDArray[np.float32]) -> Planes:
    """(H, W) sodium light -> (3, H, W)."""
    return np.asarray(level[None] * SODIUM[:, None, None], np.float32)
