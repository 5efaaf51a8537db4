"""Where the day's light comes from and how much of it reaches the image: low sun, shadows, tunnels, exposure.

Every effect has the form `effect(scene, rng, **parameters) -> (H, W, 3) uint8 RGB`.
"""

from __future__ import annotations

import math

import cv2
import numpy as np

from drivetl.conditions.optics import Planes, Rgb, luminance, normal, scale, smooth_noise, soften, to_display, uniform
from drivetl.conditions.scene import Scene


def sensor_noise(planes: Planes, rng: np.random.Generator, full_well: float, read: float) -> None:
    """Photon and read noise in place: variance P / full_well + read^2, P and read in units of saturation."""
    for plane in planes:
        spread = np.maximum(plane, 0)
        spread *= 1 / full_well
        spread += read * read
        cv2.sqrt(spread, dst=spread)
        spread *= normal(rng, *plane.shape)
        plane += spread


def low_sun(scene: Scene, rng: np.random.Generator, *, glare: float) -> Rgb:
    """Driving towards a low sun: veiling glare, a bleached sky, the street dark against it, a glint on the road.

    Veil: CIE disability glare, 10 E / theta^2 (CIE 146) bounded at the disc, plus the lens's own wide scatter
    exp(-theta / 0.35), k = `glare`, theta in rad. The sky brightens around the sun (aureole exp(-theta / 0.16)).
    The exposure follows the sky, so that the rest goes dark; surfaces are backlit and lose colour. The road
    mirrors the sun in a strip that widens towards the camera. What is smooth is computed at half the resolution.
    """
    spot = uniform(rng, 2)
    focal, horizon = float(scene.view.focal_px), scene.view.horizon_px
    column = scene.view.centre_px + (float(spot[0]) - 0.5) * 0.4 * scene.width
    row = max(0.02 * scene.height, horizon - (0.05 + 0.08 * float(spot[1])) * focal)
    below, right = scene.half_grid
    v = (below + np.float32(horizon - row)) / np.float32(focal)
    u = (right + np.float32(scene.view.centre_px - column)) / np.float32(focal)
    squared = u * u + v * v
    angle = cv2.sqrt(squared)
    k, size = np.float32(glare), (scene.width, scene.height)
    glow = np.float32(0.00045) * k / (squared + np.float32(0.0006))
    glow += cv2.exp(angle * np.float32(-1 / 0.35)) * (np.float32(0.035) * k)
    aureole = cv2.exp(angle * np.float32(-1 / 0.16)) * (np.float32(0.35) * k)
    wide = np.float32(0.03) + np.maximum(below, 0) * np.float32(0.35 / focal)
    strip = cv2.exp(-np.square(u / wide)) * cv2.resize(scene.ground, (u.shape[1], v.shape[0]))
    exposure = 1 / (1 + 0.13 * glare)
    added = scene.luminance * np.float32(0.5 * glare * exposure)
    added += np.float32(0.012 * glare)
    added *= cv2.resize(strip, size)
    added += cv2.resize(glow, size)
    added += cv2.resize(aureole, size) * scene.sky
    keep = 1 - 0.06 * min(glare, 7.0)
    planes = np.empty_like(scene.linear)
    for number, tint in enumerate((1.0, 0.94, 0.80)):
        plane = planes[number]
        cv2.addWeighted(scene.linear[number], exposure * keep, scene.luminance, exposure * (1 - keep), 0, dst=plane)
        cv2.scaleAdd(added, tint, plane, dst=plane)
    return to_display(planes, 0.7)


def hard_shadows(scene: Scene, rng: np.random.Generator, *, sun_to_sky: float) -> Rgb:
    """Shadows of trees and houses across the street, under a sun `sun_to_sky` times as strong as the sky.

    The pattern lives in the plan of the street, in metres: crowns of 5 m, torn by their leaves, and bars of trunks
    across the road; each pixel takes the shade of its own depth, so it shrinks with distance, follows the
    perspective and falls over the cars too. Shade is 1 / (1 + sun_to_sky) of the sunlit light and bluish. Its edges
    are as soft as the sun is wide, so half the resolution holds them.
    """
    below, right = scene.half_grid
    shape = (below.shape[0], right.shape[1])
    depth = cv2.resize(scene.depth, shape[::-1])
    if scene.given_depth is None:
        plane = np.float32(scene.view.focal_px * scene.view.height_m) / np.maximum(below, np.float32(1e-3))
        depth = np.minimum(depth + np.float32(60), plane)
    depth = np.clip(depth, 1, 60)
    per_m = 16  # texels
    side = right * depth
    side *= np.float32(1 / scene.view.focal_px)
    turn = (float(uniform(rng, 1)[0]) - 0.5) * 1.2
    cos, sin = per_m * math.cos(turn), per_m * math.sin(turn)
    map_x, map_y = (cv2.addWeighted(depth, sin, side, cos, 0.5), cv2.addWeighted(depth, cos, side, -sin, 0.5))
    texture = smooth_noise(rng, 512, 512, 5 * per_m, octaves=5)
    bars = smooth_noise(rng, 512, 16, 2.5 * per_m, octaves=2)
    texture += np.float32(0.8) * cv2.resize(bars, (512, 512))
    shade = np.asarray(
        cv2.remap(texture, map_x, map_y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT), np.float32
    )  # tiles without seams
    shade += np.float32(0.15)
    shade /= depth * np.float32(0.012) + np.float32(0.12)
    shade += np.float32(0.5)
    shade = np.clip(shade, 0, 1)
    shade *= np.clip((60 - depth) * np.float32(1 / 25), 0, 1)
    shade *= np.clip(below / np.float32(0.08 * scene.height) + np.float32(0.5), 0, 1)
    dark = np.asarray(cv2.resize(shade, (scene.width, scene.height)), np.float32)
    dark *= 1 - scene.sky
    left, bright = 1 / (1 + sun_to_sky), 1 + 0.03 * min(sun_to_sky, 8)
    planes = np.empty_like(scene.linear)
    for number, blue in enumerate((0.92, 1.0, 1.18)):
        plane = planes[number]
        np.multiply(dark, np.float32(-bright * (1 - left * blue)), out=plane)
        plane += np.float32(bright)
        plane *= scene.linear[number]
    return to_display(planes, 0.85)


def tunnel_exit(scene: Scene, rng: np.random.Generator, *, stops: float) -> Rgb:
    """Leaving a tunnel: outside `stops` f-stops brighter than inside, the exposure still halfway between the two.

    The portal is an arch that frames the image, 11 m wide, so far ahead that its sides stand at nine tenths of the
    way to the image's edges; its crown is at the image's upper edge. Beyond it is the lining of the tunnel: grey
    concrete, dim and yellowish, lit by daylight near the portal, through which a quarter of the scene still shows, so
    that no label is left without its object. On the road the daylight fades over 4 m. What lies outside burns out by
    half of the difference and blooms; the glare veils the lining.
    """
    below, right = scene.half_grid
    rows, columns = below.shape[0], right.shape[1]
    focal, camera = scene.view.focal_px, scene.view.height_m
    reach = np.float32(0.9 * max(float(-right.min()), float(right.max()), 1.0))
    crown = np.float32(max(scene.view.horizon_px * 1.02, 1.0))
    distance = focal * 5.5 / float(reach)
    foot = np.float32(focal * camera / distance)  # px below the horizon where the portal stands on the road
    spread = np.maximum(below / foot, 1)  # nearer than the portal, walls follow the road's edge
    x, y = np.abs(right) / (reach * spread), np.maximum(-below, 0) / crown
    arch = np.square(np.square(x)) + np.power(y, np.float32(2.5))
    inside = np.clip((1 - arch) * np.float32(12) + np.float32(0.5), 0, 1)
    lit = np.clip((np.float32(1.9) - below / foot) / np.float32(0.9), 0, 1) ** 2  # daylight on the road's last metres
    outside = np.asarray(inside * np.where(below > 0, lit, np.float32(1)), np.float32)
    wall = np.asarray((1 - inside) * np.clip(1 - (below - foot) / (2 * foot), 0.35, 1), np.float32)
    spill = soften(outside, columns / 12)
    bright, dark = 2 ** (0.5 * stops), 2 ** (-0.5 * stops)
    gain = np.float32(bright - dark) * outside + np.float32(dark) + np.float32(0.3) * spill * spill * (1 - outside)
    level = cv2.resize(scene.luminance, (columns, rows)) * gain
    added = soften(np.clip(level - np.float32(0.9), 0, 0.6), columns / 45) * np.float32(0.35)
    added += wall * (np.float32(0.07 * dark) + np.float32(0.10) * spill)
    gain *= 1 - np.float32(0.75) * wall
    size = (scene.width, scene.height)
    level = scene.luminance * cv2.resize(gain, size)
    grain = level.copy()
    sensor_noise(grain[None], rng, full_well=18000, read=0.0006)
    grain -= level
    planes = np.empty_like(scene.linear)
    for number, tint in enumerate((1.10, 1.0, 0.74)):
        plane, hue = planes[number], np.float32(tint) + outside * np.float32(1 - tint)
        cv2.addWeighted(scene.linear[number], 0.8, scene.luminance, 0.2, 0, dst=plane)
        plane *= cv2.resize(gain * hue, size)
        plane += cv2.resize(added * hue, size)
        plane += grain
    return to_display(planes, 0.75)


def gain_curve(scene: Scene, stops: float) -> Planes:
    """A new array: the linear image `stops` f-stops brighter."""
    return scale(scene.linear, float(2.0**stops))


def overexposure(scene: Scene, rng: np.random.Generator, *, stops: float) -> Rgb:
    """Exposed too long: 2^stops times the light, clipped as a sensor clips, with blooming around what burns out."""
    planes = gain_curve(scene, stops)
    over = np.minimum(np.maximum(luminance(planes) - 1.0, 0), 2.0)
    planes += soften(over, scene.width / 200) * np.float32(0.05)
    return to_display(planes, 0.92)


def underexposure(scene: Scene, rng: np.random.Generator, *, stops: float) -> Rgb:
    """Exposed too short: 2^-stops times the light, the read noise of a 12-bit sensor and 8 bits to show it in."""
    planes = gain_curve(scene, -stops)
    sensor_noise(planes, rng, full_well=12000, read=0.0006)
    return to_display(planes)
