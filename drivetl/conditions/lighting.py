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
DISCHARGE = np.array([0.72, 1.08, 0.95], np.float32)
"""Tint of old street lamps and of the haze they light."""
HEADLIGHT = np.array([1.05, 1.0, 0.86], np.float32)
"""Halogen and warm white LED, relative to daylight white balance."""


def night(scene: Scene, rng: np.random.Generator, *, ambient: float) -> Rgb:
    """Night: ambient light times `ambient`, the car's own headlights, lamps with halos, the sensor's noise.

    The picture is first taken to a covered sky (no sun at night), the sky a quarter as bright as the rest.
    Headlights: a lobe exp(-(X / 4.5 m)^2) of the low beam, falling with (14 / z)^1.3, at most 1.6, cut off half
    a degree below the horizon. Lamps: what shone in the picture shines on, with the halo 1 / (1 + r^2) of
    scattering in lens and air. What
    is left of ambient light is between moonlight and the green of discharge lamps, by the seed. The camera answers
    with gain ambient^-0.33 and the noise of the photons that are left, var = g P / FWC + (g r)^2 (EMVA 1288), and
    takes both away again with the texture that is no stronger (`denoise`).
    """
    gain = 0.8 * ambient**-0.33
    planes = overcast(scene, 0.8, colour=0.85)
    light = np.asarray(gain * ambient * (1 - 0.75 * scene.sky), np.float32)
    tint = MOON + float(uniform(rng, 1)[0]) * (DISCHARGE - MOON)
    beam, glow = headlights(scene) * np.float32(0.34 * gain), lamps(scene, rng)
    glow *= np.float32(gain)
    for number in range(3):
        lit = light * tint[number]
        lit += beam * HEADLIGHT[number]
        planes[number] *= lit
    planes += glow
    full_well, read = 9000 * ambient**0.75, 0.0007 * ambient**-0.6
    sensor_noise(planes, rng, full_well, read)
    denoise(planes, 6.0, full_well, read)
    return to_display(soft_shoulder(planes, 0.75))


def denoise(planes: Planes, strength: float, full_well: float, read: float) -> None:
    """What a camera does about its noise, in place: Wiener's filter of luma's fine detail, smooth colour.

    Of detail d finer than 3 px under noise of variance n = P / full_well + read^2, the share e / (e + strength n) is
    kept, e the mean of d^2 over 5 x 5 pixels beyond n: edges stay, faint texture goes with the noise. Colour has half
    the resolution and is averaged over 10 x 10 pixels.
    """
    light = planes[0] + planes[1]
    light += planes[2]
    light *= np.float32(1 / 3)
    soft = np.asarray(cv2.GaussianBlur(light, (0, 0), 2.0), np.float32)
    detail = light - soft
    power = np.asarray(cv2.blur(detail * detail, (5, 5)), np.float32)
    noise = np.maximum(soft, 0)
    noise *= 1 / (3 * full_well)  # the mean of three colours
    noise += read * read / 3
    power -= noise
    np.maximum(power, 0, out=power)
    detail *= power / (power + strength * noise)
    soft += detail
    size = (light.shape[1], light.shape[0])
    half = (max(1, size[0] // 2), max(1, size[1] // 2))
    for plane in planes:
        plane -= light
        colour = cv2.blur(cv2.resize(plane, half, interpolation=cv2.INTER_AREA), (5, 5))
        np.add(cv2.resize(colour, size), soft, out=plane)


def headlights(scene: Scene) -> Field:
    """(H, W) illumination 0..1.6 by the own low beam, 1 at 14 m straight ahead; none from a mast (above 4 m)."""
    if scene.view.height_m > 4:
        return np.zeros((scene.height, scene.width), np.float32)
    if "beam" not in scene.memo:
        depth = scene.depth
        side_m = scene.columns * depth / np.float32(scene.view.focal_px)
        lobe = cv2.exp(side_m * side_m * np.float32(-1 / 4.5**2))
        fall = np.minimum(cv2.pow(np.float32(14.0) / np.maximum(depth, 1), 1.3), np.float32(1.6))
        above = -(scene.rows + np.float32(0.009 * scene.view.focal_px)) / np.float32(
            0.05 * scene.view.focal_px
        )
        cut = 1 - 0.88 / (1 + np.exp(np.clip(-8 * above, -30, 30)))
        near = np.clip(1.25 - scene.rows / scene.height, 0.5, 1)  # the bonnet's edge is not lit
        scene.memo["beam"] = np.asarray(lobe * fall * (cut * near) * (1 - scene.sky), np.float32)
    return scene.memo["beam"]


def lamps(scene: Scene, rng: np.random.Generator) -> Planes:
    """(3, H, W) light of lamps, a new array: small bright or red spots of the picture shine on, with halos.

    The halo 1 / (1 + r^2) is a sum of Gaussians, each at the resolution it needs; the widest is the stray light of
    dirty glass and damp air that veils the whole picture.
    """
    if "lamps" not in scene.memo:
        spots = _spots(scene)
        total = np.zeros((scene.height, scene.width, 3), np.float32)
        for sigma, weight in ((1.2, 0.9), (4.0, 1.6), (14.0, 3.0), (110.0, 12.0)) if spots.any() else ():
            width_px = sigma * scene.width / 1242
            step = max(1, min(int(width_px), spots.shape[0] // 4, spots.shape[1] // 4))
            size = (max(1, spots.shape[1] // step), max(1, spots.shape[0] // step))
            small = cv2.resize(spots, size, interpolation=cv2.INTER_AREA)
            halo = cv2.GaussianBlur(small, (0, 0), max(width_px / (2 * step), 0.3))
            if sigma > 100:
                halo = halo.mean(axis=2, keepdims=True) * DISCHARGE
            total += np.float32(weight) * cv2.resize(halo, (scene.width, scene.height))
        scene.memo["lamps"] = np.ascontiguousarray(total.transpose(2, 0, 1))
    return scene.memo["lamps"] * np.float32(1 + 0.1 * float(normal(rng, 1)[0]))


def _spots(scene: Scene) -> npt.NDArray[np.float32]:
    """(H / 2, W / 2, 3) light of what may be a lamp: compact, well above its surroundings, not at the sky's rim."""
    size = (max(1, scene.width // 2), max(1, scene.height // 2))
    level, sky, depth, ground = (
        cv2.resize(part, size, interpolation=cv2.INTER_AREA)
        for part in (scene.luminance, scene.sky, scene.depth, scene.ground)
    )
    red, green, blue = (cv2.resize(plane, size, interpolation=cv2.INTER_AREA) for plane in scene.linear)
    reach = max(3, round(size[0] / 70) | 1)
    disc = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (reach, reach))
    far_from_sky = 1 - cv2.dilate(sky, np.ones((reach, reach), np.uint8))
    hat = cv2.morphologyEx(level, cv2.MORPH_TOPHAT, disc)
    white = np.clip((hat - 0.30) / 0.3, 0, 1) * (level > 0.5) * far_from_sky
    white *= 1 - ground * (depth < 40)  # lane markings are no lamps
    reddish = cv2.morphologyEx(np.clip(red - 2.2 * np.maximum(green, blue), 0, 1), cv2.MORPH_TOPHAT, disc)
    tail = np.clip((reddish - 0.10) / 0.2, 0, 0.5)
    keep = compact(np.asarray(white, np.float32), reach)
    white, tail = white * keep, tail * compact(np.asarray(tail, np.float32), 2 * reach)
    colours = [
        white * HEADLIGHT[0] + tail,
        white * HEADLIGHT[1] + 0.06 * tail,
        white * HEADLIGHT[2] + 0.05 * tail,
    ]
    return np.asarray(np.stack(colours, axis=2), np.float32)


def compact(spots: Field, reach: int) -> Field:
    """1 on spots that may be lamps: no larger than `reach` either way, about as high as wide, in no crowd.

    Spots nearly in touch are one, such as letters or a painted ring. More than four in a neighbourhood are the sky
    between leaves or the ribs of a fence.
    """
    found = (spots > 0.05).astype(np.uint8)
    joined = cv2.morphologyEx(found, cv2.MORPH_CLOSE, np.ones((5, 5), np.uint8))
    _, label, stats, centres = cv2.connectedComponentsWithStats(joined, connectivity=8)
    wide, high = stats[:, cv2.CC_STAT_WIDTH], stats[:, cv2.CC_STAT_HEIGHT]
    good = (np.maximum(wide, high) <= reach) & (np.maximum(wide, high) <= 2.5 * np.minimum(wide, high) + 1)
    rows, columns = (centres[:, axis].astype(int) for axis in (1, 0))
    marks = np.zeros(spots.shape, np.float32)
    np.add.at(marks, (rows[1:], columns[1:]), 1)
    window = max(3, spots.shape[1] // 14)
    crowd = cv2.boxFilter(marks, -1, (window, window), normalize=False, borderType=cv2.BORDER_CONSTANT)
    good &= crowd[rows, columns] <= 4.5
    good[0] = False
    return np.asarray(good.astype(np.float32)[label] * found, np.float32)


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
    """Driving towards a low sun: veiling glare, a bleached sky, the street dark against it, a glint on the road.

    Veil: CIE disability glare, 10 E / theta^2 (CIE 146) bounded at the disc, plus the lens's own wide scatter
    exp(-theta / 0.35), k = `glare`, theta in rad. The sky brightens around the sun (aureole exp(-theta / 0.16)).
    The exposure follows the sky, so that the rest goes dark; surfaces are backlit and lose colour. The road
    mirrors the sun in a strip that widens towards the camera.
    """
    spot = uniform(rng, 2)
    focal, horizon = np.float32(scene.view.focal_px), scene.view.horizon_px
    column = scene.view.centre_px + (float(spot[0]) - 0.5) * 0.4 * scene.width
    row = max(0.02 * scene.height, horizon - (0.05 + 0.08 * float(spot[1])) * float(focal))
    v = (np.arange(scene.height, dtype=np.float32)[:, None] + np.float32(0.5 - row)) / focal
    u = (np.arange(scene.width, dtype=np.float32)[None] + np.float32(0.5 - column)) / focal
    squared = u * u + v * v
    angle = cv2.sqrt(squared)
    k = np.float32(glare)
    wide = cv2.exp(angle * np.float32(-1 / 0.35))
    glow = np.float32(0.00045) * k / (squared + np.float32(0.0006)) + np.float32(0.035) * k * wide
    aureole = scene.sky * cv2.exp(angle * np.float32(-1 / 0.16))
    glow += aureole * np.float32(0.35) * k
    below = np.maximum(scene.rows, 0) / focal
    strip = np.exp(-((u / (np.float32(0.03) + np.float32(0.35) * below)) ** 2)) * scene.ground
    exposure = 1 / (1 + 0.13 * glare)
    planes = desaturate(scale(scene.linear, exposure), 1 - 0.06 * min(glare, 7.0))
    glint = strip * scene.luminance * np.float32(0.5 * glare * exposure) + strip * np.float32(0.012 * glare)
    for number, tint in enumerate((1.0, 0.94, 0.80)):
        planes[number] += (glow + glint) * np.float32(tint)
    return to_display(soft_shoulder(planes, 0.7))


def hard_shadows(scene: Scene, rng: np.random.Generator, *, sun_to_sky: float) -> Rgb:
    """Shadows of trees and houses across the street, under a sun `sun_to_sky` times as strong as the sky.

    The pattern lives in the plan of the street, in metres: crowns of 5 m, torn by their leaves, and bars of trunks
    across the road; each pixel takes the shade of its own depth, so it shrinks with distance, follows the
    perspective and falls over the cars too. Shade is 1 / (1 + sun_to_sky) of the sunlit light and bluish.
    """
    depth = scene.depth if scene.given_depth is not None else np.minimum(scene.depth + 60, scene.ground_m)
    depth = np.clip(depth, 1, 60)
    side = scene.columns * depth * np.float32(1 / scene.view.focal_px)
    turn = (float(uniform(rng, 1)[0]) - 0.5) * 1.2
    along, across = (
        depth * np.float32(math.cos(turn)) - side * np.float32(math.sin(turn)),
        depth * np.float32(math.sin(turn)) + side * np.float32(math.cos(turn)),
    )
    per_m = 16  # texels
    texture = smooth_noise(rng, 512, 512, 5 * per_m, octaves=5)
    bars = smooth_noise(rng, 512, 16, 2.5 * per_m, octaves=2)
    texture += np.float32(0.8) * cv2.resize(bars, (512, 512))
    map_x, map_y = (
        np.asarray(part * np.float32(per_m) + np.float32(0.5), np.float32) for part in (across, along)
    )
    pattern = cv2.remap(
        texture, map_x, map_y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT
    )  # tiles without seams
    soft = np.float32(0.12) + depth * np.float32(0.012)
    shade = np.clip((pattern + np.float32(0.15)) / soft + np.float32(0.5), 0, 1)
    shade *= np.clip(scene.rows / np.float32(0.08 * scene.height) + np.float32(0.5), 0, 1) * (1 - scene.sky)
    shade *= np.clip((60 - depth) / 25, 0, 1)
    left = 1 / (1 + sun_to_sky)
    bright = 1 + 0.03 * min(sun_to_sky, 8)
    planes = np.empty_like(scene.linear)
    for number, blue in enumerate((0.92, 1.0, 1.18)):
        lit = shade * np.float32(-bright * (1 - left * blue))
        lit += np.float32(bright)
        np.multiply(scene.linear[number], lit, out=planes[number])
    return to_display(soft_shoulder(planes, 0.85))


def tunnel_exit(scene: Scene, rng: np.random.Generator, *, stops: float) -> Rgb:
    """The last metres of a tunnel: outside `stops` f-stops brighter than inside, the exposure between the two.

    The portal is an arch of 11 m by 6 m, 11 m ahead, so that walls and ceiling are seen at the picture's sides only. They
    get the tunnel's dim, yellowish light and lose their colours; daylight reaches in over the road and along the walls;
    what lies outside burns out by half of the difference and blooms.
    """
    distance, half_wide, top = 11.0, 5.5, 6.0
    focal = scene.view.focal_px
    near = np.minimum(
        scene.ground_m, np.float32(distance)
    )  # on the road the light falls as wide as the portal
    x = np.abs(scene.columns) * near * np.float32(1 / focal / half_wide)
    y = (-scene.rows * np.float32(distance / focal) + np.float32(scene.view.height_m)) / np.float32(top)
    arch = x * x * x * x + np.maximum(y, 0) ** 4
    inside = np.clip(
        (1 - arch) / np.float32(max(0.06, 6 * distance / focal / half_wide)) + np.float32(0.5), 0, 1
    )
    reach = (
        np.clip((scene.ground_m - 3) / (distance - 3), 0, 1) ** 2
    )  # daylight on the road before the portal
    outside = np.asarray(inside * np.where(scene.rows > 0, reach, np.float32(1)), np.float32)
    spill = soften(outside, scene.width / 12)
    bright, dark = 2 ** (0.5 * stops), 2 ** (-0.5 * stops)
    gain = (
        np.float32(dark)
        + np.float32(bright - dark) * outside
        + np.float32(0.3) * spill * spill * (1 - outside)
    )
    gain *= 1 - np.float32(0.9) * scene.sky * (1 - outside)  # walls hide the sky
    planes = desaturate(scale(scene.linear, gain), 0.75)
    for number, tint in enumerate((1.10, 1.0, 0.74)):
        planes[number] *= np.float32(tint) + outside * np.float32(1 - tint)
    bloom = soften(np.clip(luminance(planes) - np.float32(0.9), 0, 0.6), scene.width / 45)
    planes += bloom * np.float32(0.35)
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
