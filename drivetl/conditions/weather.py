"""Fog, rain, snowfall, spray: light that is lost on the way, light that is added, drops and flakes in front.

Every effect has the form `effect(scene, rng, **parameters) -> (H, W, 3) uint8 RGB`.
"""

from __future__ import annotations

import math
from itertools import pairwise

import cv2
import numpy as np
import numpy.typing as npt

from drivetl.conditions.air import KOSCHMIEDER, overcast, transmission
from drivetl.conditions.drops import lens_drops
from drivetl.conditions.optics import Field, Rgb, normal, smooth_noise, to_display, uniform, veil
from drivetl.conditions.road import film_share, wet_ground
from drivetl.conditions.scene import Scene


def fog(scene: Scene, rng: np.random.Generator, *, visibility_m: float) -> Rgb:
    """Homogeneous fog: L = L0 t + A (1 - t), t = n exp(-2.996 z / V) (Koschmieder 1924), in linear light.

    A is grey as the sky (`Scene.airlight`); n = 1 +- 4 % at most, smooth noise a third of
    the image wide.
    """
    patches = smooth_noise(rng, scene.height, scene.width, scene.width / 3)
    share = transmission(scene.depth, visibility_m) * np.clip(1 + np.float32(0.02) * patches, 0.96, 1.04)
    return to_display(veil(scene.linear.copy(), np.minimum(share, 1), scene.airlight()))


def rain(scene: Scene, rng: np.random.Generator, *, rate_mm_h: float) -> Rgb:
    """Rain as a camera on a car sees it: a veil, a wet road, faint streaks, drops on the windscreen.

    - Veil: extinction 0.312 R^0.67 per km (Halder et al. 2019, Tremblay et al. 2021), light of the covered sky.
    - Road: dark as soon as it is wet; it mirrors where the water stands over its texture (`film_share`).
    - Streaks: drop sizes N(D) = 8000 exp(-4.1 R^-0.21 D) per m3 and mm (Marshall & Palmer 1948), falling with
      v = 9.65 - 10.3 exp(-0.6 D) m/s (Atlas et al. 1973) during an exposure of 8 ms; length f v T / z px, width
      f D / z px, opacity the share of the exposure a drop covers a pixel.
    - Drops on the glass: their number grows with the rate; each shows the scene upside down (`lens_drops`).
    """
    strength = min(1.0, 0.35 + 0.16 * math.log1p(rate_mm_h))
    planes = overcast(scene, strength)
    planes *= 1 - 0.25 * strength
    planes = wet_ground(scene, planes, rng, min(1.0, 0.3 + 0.18 * math.log1p(rate_mm_h)), film_share(rate_mm_h))
    extinction_m = 0.312 * rate_mm_h**0.67 / 1000
    air = scene.airlight() * np.float32(0.8)
    veil(planes, np.asarray(cv2.exp(scene.depth * np.float32(-extinction_m)), np.float32), air)
    streaks = streak_layer(scene, rng, rate_mm_h)
    for plane, light in zip(planes, air, strict=True):
        plane += streaks * (light * np.float32(1.4) - plane)
    return lens_drops(to_display(planes), rng, round(11 * math.log1p(rate_mm_h / 4)))


def streak_layer(scene: Scene, rng: np.random.Generator, rate_mm_h: float) -> Field:
    """(H, W) opacity 0..1 of falling drops between 0.5 and 12 m; farther ones are the veil's.

    Drawn on eight depth shells; a streak's opacity is the share of the exposure during which the drop covers a
    point, D / (v T), times its width where that is below a pixel. At most MOST a shell are drawn.
    """
    exposure_s, focal = 0.008, scene.view.focal_px
    layer = np.zeros((scene.height, scene.width), np.uint8)
    slope = 4.1 * rate_mm_h**-0.21
    lean = float(0.12 * normal(rng, 1)[0])
    for near, far in pairwise(np.geomspace(0.5, 12.0, 9)):
        depth = math.sqrt(near * far)
        shortest_mm = max(0.8, 250 * depth / focal)  # thinner than a quarter pixel: invisible
        per_m3 = 8000 / slope * math.exp(-slope * shortest_mm)
        count = min(MOST, round(per_m3 * _volume_m3(scene, near, far)))
        if count == 0:
            continue
        spots = uniform(rng, count, 3)
        size_mm = shortest_mm - np.log(spots[:, 2]) / slope
        speed = np.maximum(9.65 - 10.3 * np.exp(-0.6 * size_mm), 1.0)
        wide, long = focal * size_mm / 1000 / depth, focal * speed * exposure_s / depth
        opacity = size_mm / 1000 / (speed * exposure_s) * np.minimum(1, wide)
        start = spots[:, :2] * (scene.width, scene.height + long.mean()) - (0, long.mean())
        end = start + np.stack([lean * long, long], axis=1)
        _draw_lines(layer, start, end, wide, np.minimum(1.5 * opacity, 0.6))
    return _as_share(layer, 0.5)


MOST = 1000
"""Lines of one depth shell: more of them are finer than what they add to the veil."""


def _as_share(layer: npt.NDArray[np.uint8], most: float) -> Field:
    """Opacity 0..`most` of drawn lines, a little out of focus."""
    soft = cv2.GaussianBlur(layer, (5, 5), 0.7).astype(np.float32)
    soft *= np.float32(1 / 255)
    return np.asarray(np.minimum(soft, np.float32(most), out=soft), np.float32)


def _volume_m3(scene: Scene, near_m: float, far_m: float) -> float:
    """What the camera sees between two depths."""
    solid = scene.height * scene.width / scene.view.focal_px**2
    return float(solid * (far_m**3 - near_m**3) / 3)


def _draw_lines(
    layer: npt.NDArray[np.uint8],
    start: npt.NDArray[np.float64],
    end: npt.NDArray[np.float64],
    width_px: npt.NDArray[np.float32],
    opacity: npt.NDArray[np.float32],
) -> None:
    """Lines of (N, 2) ends in 255ths of opacity, in four classes of it, each in one call."""
    if len(start) == 0:
        return
    points = np.rint(np.stack([start, end], axis=1) * 16).astype(np.int32)  # (N, 2, 2)
    order = np.argsort(opacity, kind="stable")
    for part in np.array_split(order, min(4, len(order))):
        thickness = max(1, round(float(width_px[part].mean())))
        value = round(255 * float(opacity[part].mean()))
        kind = cv2.LINE_AA if thickness == 1 else cv2.LINE_8  # thick ones are slow to smooth, and blurred anyway
        cv2.polylines(layer, list(points[part]), False, value, thickness, kind, 4)


def snowfall(scene: Scene, rng: np.random.Generator, *, visibility_m: float) -> Rgb:
    """Falling snow: Koschmieder's veil plus flakes in front of it.

    Flakes of 1-4 mm radius fall with 1-1.5 m/s (Locatelli & Hobbs 1974) before a moving car; their number per m3
    follows from the visibility, n = beta / (2 pi r^2) for mean r = 1.2 mm. Near ones are large, soft (outside the
    focus) and streaked away from the vanishing point; below half a pixel they are the veil's.
    """
    strength = min(1.0, 0.5 + 100 / visibility_m)
    planes = overcast(scene, strength)
    air = scene.airlight(brightest=0.6)
    veil(planes, transmission(scene.depth, visibility_m), air)
    flakes = flake_layer(scene, rng, visibility_m)
    bright = np.minimum(air * np.float32(1.25), 0.9)
    for plane, light in zip(planes, bright, strict=True):
        plane += flakes * (light - plane)
    return to_display(planes)


def flake_layer(scene: Scene, rng: np.random.Generator, visibility_m: float) -> Field:
    """(H, W) opacity 0..1 of flakes from 1 to 15 m away, seen from a car at 10 m/s for 1/300 s.

    A flake covers each point of its streak for 2 r / (2 r + path) of the exposure; nearer ones are out of focus.
    """
    focal, exposure_s, speed = scene.view.focal_px, 1 / 300, 10.0
    per_m3 = KOSCHMIEDER / visibility_m / (2 * math.pi * 0.0018**2)
    layer = np.zeros((scene.height, scene.width), np.uint8)
    centre = np.array([scene.view.centre_px, scene.view.horizon_px])
    for near, far in pairwise(np.geomspace(1.0, 15.0, 8)):
        depth = math.sqrt(near * far)
        count = min(MOST, round(per_m3 * _volume_m3(scene, near, far)))
        spots = uniform(rng, count, 3)
        radius = focal * (0.001 + 0.003 * spots[:, 2] ** 3) / depth
        blur = 0.3 + 0.0006 * focal / depth
        places = spots[:, :2] * (scene.width, scene.height)
        shift = (places - centre) * (speed * exposure_s / depth)
        shift += np.array([0.3, 1.2]) * focal * exposure_s / depth
        path = np.hypot(shift[:, 0], shift[:, 1])
        share = 2 * (radius + blur) / (2 * (radius + blur) + path)
        opacity = np.minimum(1, (radius / (radius + blur)) ** 2) * share
        ends = (places - shift / 2, places + shift / 2)
        _draw_lines(layer, *ends, 2 * radius + blur, opacity.astype(np.float32))
    return _as_share(layer, 0.9)


def spray(scene: Scene, rng: np.random.Generator, *, optical_depth: float) -> Rgb:
    """Spray thrown up by the traffic ahead: wakes of mist behind its wheels over a wet road, droplets on the glass.

    `mist` gives the optical depth of the wakes, `optical_depth` at the wheels all along one. Lit by the sky from above,
    mist is a little darker than the air of a fog.
    """
    planes = overcast(scene, 0.6)
    planes *= np.float32(0.85)
    planes = wet_ground(scene, planes, rng, 0.7)
    clear = cv2.exp(mist(scene, rng) * np.float32(-optical_depth))
    share = np.asarray(cv2.resize(clear, (scene.width, scene.height)), np.float32)
    veil(planes, share, np.asarray(scene.airlight() * np.float32(0.8), np.float32))
    return lens_drops(to_display(planes, 0.8), rng, round(18 * optical_depth), largest=0.005)


def mist(scene: Scene, rng: np.random.Generator) -> Field:
    """(H / 4, W / 4) optical depth of the wakes of one vehicle in each of four lanes, 1 at the wheels all along one.

    A vehicle at z0, drawn by the seed, leaves two plumes, 1.5 m apart, that thin out over 14 m behind it, spread from
    0.35 m by 6 cm a metre and rise from 0.4 m by 8 cm a metre to 1.6 m, torn by turbulence. Added up over seven slabs
    across the view, each as far as nothing stands before it.
    """
    rows, columns = max(1, scene.height // 4), max(1, scene.width // 4)
    depth = cv2.resize(scene.depth, (columns, rows), interpolation=cv2.INTER_NEAREST)
    focal, per_m, length_m = scene.view.focal_px, 12.0, 14.0  # texels
    v = (np.arange(rows, dtype=np.float32)[:, None] + np.float32(0.5)) * scene.height / rows - scene.view.horizon_px
    u = (np.arange(columns, dtype=np.float32)[None] + np.float32(0.5)) * scene.width / columns - scene.view.centre_px
    lanes = [(0.0, 11.0, 22.0), (-3.5, 9.0, 30.0), (3.5, 9.0, 30.0), (-7.0, 12.0, 30.0)]
    ahead = [first + reach * float(part) for (_, first, reach), part in zip(lanes, uniform(rng, 4), strict=True)]
    torn = np.asarray(cv2.exp(np.float32(0.5) * smooth_noise(rng, 128, 256, 1.2 * per_m, octaves=4)), np.float32)
    total = np.zeros((rows, columns), np.float32)
    edges = np.geomspace(4.0, max(ahead) + 0.1, 8)
    for (near, far), offset in zip(pairwise(edges), uniform(rng, 7), strict=True):
        z = math.sqrt(near * far)
        x, height = u * np.float32(z / focal), np.maximum(scene.view.height_m - v * np.float32(z / focal), 0)
        layer = np.zeros((rows, columns), np.float32)
        for (middle, _, _), vehicle in zip(lanes, ahead, strict=True):
            behind = vehicle - z
            if behind <= 0:
                continue
            spread, scale = 0.35 + 0.06 * behind, min(0.4 + 0.08 * behind, 1.6)
            plumes = sum(np.exp(-(((x - middle - side) / spread) ** 2)) for side in (-0.75, 0.75))
            part = (min(far, vehicle) - near) / length_m * math.exp(-behind / length_m)
            layer += np.exp(-height / np.float32(scale)) * plumes * np.float32(part)
        step = scene.width / columns * z / focal * per_m  # texels a pixel
        where = np.array([[step, 0, 128 + float(offset) * 128], [0, step, 64 + float(offset) * 64]], np.float64)
        flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
        layer *= cv2.warpAffine(torn, where, (columns, rows), flags=flags, borderMode=cv2.BORDER_REFLECT)
        layer *= np.clip((depth - np.float32(z)) * np.float32(4 / z) + np.float32(0.5), 0, 1)
        total += layer
    return np.asarray(cv2.blur(total, (3, 3)), np.float32)
