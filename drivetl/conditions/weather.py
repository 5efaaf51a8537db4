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
from drivetl.conditions.optics import (
    Field,
    Rgb,
    normal,
    smooth_noise,
    soft_shoulder,
    to_display,
    uniform,
    veil,
)
from drivetl.conditions.road import wet_ground
from drivetl.conditions.scene import Scene


def fog(scene: Scene, rng: np.random.Generator, *, visibility_m: float) -> Rgb:
    """Homogeneous fog: L = L0 t + A (1 - t), t = n exp(-2.996 z / V) (Koschmieder 1924), in linear light.

    A is grey as the sky (`Scene.airlight`); n = 1 +- 4 % at most, smooth noise a third of
    the picture wide.
    """
    patches = smooth_noise(rng, scene.height, scene.width, scene.width / 3)
    share = transmission(scene.depth, visibility_m) * np.clip(1 + np.float32(0.02) * patches, 0.96, 1.04)
    return to_display(veil(scene.linear.copy(), np.minimum(share, 1), scene.airlight()))


def rain(scene: Scene, rng: np.random.Generator, *, rate_mm_h: float) -> Rgb:
    """Rain as a camera on a car sees it: a veil, a wet road, faint streaks, drops on the windscreen.

    - Veil: extinction 0.312 R^0.67 per km (Halder et al. 2019, Tremblay et al. 2021), light of the covered sky.
    - Streaks: drop sizes N(D) = 8000 exp(-4.1 R^-0.21 D) per m3 and mm (Marshall & Palmer 1948), falling with
      v = 9.65 - 10.3 exp(-0.6 D) m/s (Atlas et al. 1973) during an exposure of 8 ms; length f v T / z px, width
      f D / z px, opacity the share of the exposure a drop covers a pixel.
    - Drops on the glass: their number grows with the rate; each shows the scene upside down (`lens_drops`).
    """
    strength = min(1.0, 0.35 + 0.16 * math.log1p(rate_mm_h))
    planes = overcast(scene, strength)
    planes *= 1 - 0.25 * strength
    planes = wet_ground(scene, planes, rng, min(1.0, 0.3 + 0.18 * math.log1p(rate_mm_h)))
    extinction_m = 0.312 * rate_mm_h**0.67 / 1000
    air = scene.airlight() * np.float32(0.8)
    veil(planes, np.asarray(cv2.exp(scene.depth * np.float32(-extinction_m)), np.float32), air)
    streaks = streak_layer(scene, rng, rate_mm_h)
    for plane, light in zip(planes, air, strict=True):
        plane += streaks * (light * np.float32(1.4) - plane)
    count = round(11 * math.log1p(rate_mm_h / 4))
    planes = lens_drops(planes, rng, count)
    return to_display(planes)


def streak_layer(scene: Scene, rng: np.random.Generator, rate_mm_h: float) -> Field:
    """(H, W) opacity 0..1 of falling drops between 0.5 and 12 m; farther ones are the veil's.

    Drawn on eight depth shells; a streak's opacity is the share of the exposure during which the drop covers a
    point, D / (v T), times its width where that is below a pixel.
    """
    exposure_s, focal = 0.008, scene.view.focal_px
    layer = np.zeros((scene.height, scene.width), np.float32)
    slope = 4.1 * rate_mm_h**-0.21
    lean = float(0.12 * normal(rng, 1)[0])
    for near, far in pairwise(np.geomspace(0.5, 12.0, 9)):
        depth = math.sqrt(near * far)
        shortest_mm = max(0.8, 250 * depth / focal)  # thinner than a quarter pixel: invisible
        per_m3 = 8000 / slope * math.exp(-slope * shortest_mm)
        count = min(1500, round(per_m3 * _volume_m3(scene, near, far)))
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
    return np.minimum(np.asarray(cv2.GaussianBlur(layer, (0, 0), 0.7), np.float32), np.float32(0.5))


def _volume_m3(scene: Scene, near_m: float, far_m: float) -> float:
    """What the camera sees between two depths."""
    solid = scene.height * scene.width / scene.view.focal_px**2
    return float(solid * (far_m**3 - near_m**3) / 3)


def _draw_lines(
    layer: Field,
    start: npt.NDArray[np.float64],
    end: npt.NDArray[np.float64],
    width_px: npt.NDArray[np.float32],
    opacity: npt.NDArray[np.float32],
) -> None:
    """Anti-aliased lines of (N, 2) ends, in four classes of opacity, each in one call."""
    if len(start) == 0:
        return
    points = np.rint(np.stack([start, end], axis=1) * 16).astype(np.int32)  # (N, 2, 2)
    order = np.argsort(opacity, kind="stable")
    for part in np.array_split(order, min(4, len(order))):
        thickness = max(1, round(float(width_px[part].mean())))
        cv2.polylines(
            layer, list(points[part]), False, float(opacity[part].mean()), thickness, cv2.LINE_AA, 4
        )


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
    layer = np.zeros((scene.height, scene.width), np.float32)
    centre = np.array([scene.view.centre_px, scene.view.horizon_px])
    for near, far in pairwise(np.geomspace(1.0, 15.0, 8)):
        depth = math.sqrt(near * far)
        count = min(2500, round(per_m3 * _volume_m3(scene, near, far)))
        spots = uniform(rng, count, 3)
        radius = focal * (0.001 + 0.003 * spots[:, 2] ** 3) / depth
        blur = 0.3 + 0.0006 * focal / depth
        places = spots[:, :2] * (scene.width, scene.height)
        shift = (places - centre) * (speed * exposure_s / depth) + np.array(
            [0.3, 1.2]
        ) * focal * exposure_s / depth
        path = np.hypot(shift[:, 0], shift[:, 1])
        share = 2 * (radius + blur) / (2 * (radius + blur) + path)
        opacity = np.minimum(1, (radius / (radius + blur)) ** 2) * share
        _draw_lines(
            layer, places - shift / 2, places + shift / 2, 2 * radius + blur, opacity.astype(np.float32)
        )
    return np.clip(np.asarray(cv2.GaussianBlur(layer, (0, 0), 0.7), np.float32), 0, 0.9)


def spray(scene: Scene, rng: np.random.Generator, *, optical_depth: float) -> Rgb:
    """Spray thrown up by the traffic ahead: a mist above the lanes from 10 m on, torn by its own turbulence.

    Density falls with height over the road as exp(-h / 1.5 m). Along a ray that dips by s (m per m), h = hc - s z,
    so its optical depth from z0 to z is tau / 40 m * (1.5 / s) [exp(-(hc - s z) / 1.5) - exp(-(hc - s z0) / 1.5)],
    tau = `optical_depth` of 40 m at the road. Lateral extent: two lanes, in plumes that rise behind the wheels. Lit
    by the sky from above it is darker than the sky. The road is wet, and some of the mist settles on the glass.
    """
    planes = overcast(scene, 0.6)
    planes *= np.float32(0.85)
    planes = wet_ground(scene, planes, rng, 0.7)
    scale_m, from_m, focal = 1.5, 10.0, scene.view.focal_px
    rows, columns = max(1, scene.height // 2), max(1, scene.width // 2)  # mist has no fine detail
    to_m = np.clip(cv2.resize(scene.depth, (columns, rows), interpolation=cv2.INTER_AREA), from_m, 90)
    dip = cv2.resize(np.repeat(scene.rows, 2, axis=1), (1, rows)).reshape(rows, 1) / np.float32(focal)
    dip = np.where(np.abs(dip) < 1e-3, np.float32(1e-3), dip)
    height = np.maximum(scene.view.height_m - dip * to_m, 0)
    start = np.maximum(scene.view.height_m - dip * from_m, 0)
    column = (scale_m / dip) * (cv2.exp(height * np.float32(-1 / scale_m)) - np.exp(-start / scale_m))
    side = (np.arange(columns, dtype=np.float32)[None] + 0.5) * scene.width / columns - scene.view.centre_px
    lane = np.exp(-((side * 20 / focal / 6.0) ** 2))
    torn = cv2.resize(smooth_noise(rng, max(2, rows // 2), columns, columns / 16, octaves=4), (columns, rows))
    thickness = column * (lane * optical_depth / 40) * np.clip(1 + 0.25 * torn, 0.3, 2)
    half = cv2.exp(np.asarray(-thickness, np.float32))
    share = np.asarray(cv2.resize(half, (scene.width, scene.height)), np.float32)
    veil(planes, share, scene.airlight() * np.float32(0.75))
    planes = lens_drops(planes, rng, round(18 * optical_depth), largest=0.005)
    return to_display(soft_shoulder(planes))
