"""Fog, rain, snowfall, spray: light that is lost on the way, light that is added, drops and flakes in front.

Every effect has the form `effect(scene, rng, **parameters) -> (H, W, 3) uint8 RGB`.
"""

from __future__ import annotations

import math

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
    """Homogeneous fog: L = L0 t + A (1 - t), t = exp(-2.996 z n / V) (Koschmieder 1924), in linear light.

    A is grey as the sky (`Scene.airlight`); n = 1 +- 12 % of smooth noise a third of the picture wide. The sun's
    direct light goes with it: local contrast and colour fade as the share of scattered light grows.
    """
    patches = smooth_noise(rng, scene.height, scene.width, scene.width / 3)
    uneven = np.clip(1 + 0.06 * patches, 0.76, 1.24)
    share = transmission(scene.depth, visibility_m, uneven)
    planes = overcast(scene, min(1.0, 60 / visibility_m))
    return to_display(veil(planes, share, scene.airlight()))


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
        plane += streaks * (light * np.float32(1.6) - plane)
    count = round(11 * math.log1p(rate_mm_h / 4))
    planes = lens_drops(planes, rng, count)
    return to_display(planes)


def streak_layer(scene: Scene, rng: np.random.Generator, rate_mm_h: float) -> Field:
    """(H, W) opacity 0..1 of falling drops between 0.5 and 12 m; farther ones are the veil's.

    Drawn on the eight nearest depth shells; each streak is an anti-aliased line whose opacity is the share of the
    exposure during which the drop covers a point, D / (v T), times its width where that is below a pixel.
    """
    exposure_s, focal = 0.008, scene.view.focal_px
    layer = np.zeros((scene.height, scene.width), np.float32)
    slope = 4.1 * rate_mm_h**-0.21
    lean = float(0.12 * normal(rng, 1)[0])
    edges = np.geomspace(0.5, 12.0, 9)
    for near, far in zip(edges[:-1], edges[1:], strict=True):
        depth = math.sqrt(near * far)
        volume = (scene.height / focal) * (scene.width / focal) * (far**3 - near**3) / 3
        shortest_mm = max(0.8, 0.25 * depth * 1000 / focal)  # thinner than a quarter pixel: invisible
        per_m3 = 8000 / slope * math.exp(-slope * shortest_mm)
        count = min(1500, round(per_m3 * volume))
        if count == 0:
            continue
        spots = uniform(rng, count, 4)
        sizes = shortest_mm - np.log(spots[:, 2]) / slope
        _draw_streaks(layer, spots, sizes, depth, focal, exposure_s, lean)
    return np.minimum(cv2.GaussianBlur(layer, (0, 0), 0.7), 0.5)


def _draw_streaks(
    layer: Field,
    spots: npt.NDArray[np.float32],
    sizes_mm: npt.NDArray[np.float32],
    depth_m: float,
    focal_px: float,
    exposure_s: float,
    lean: float,
) -> None:
    height, width = layer.shape
    speeds = np.maximum(9.65 - 10.3 * np.exp(-0.6 * sizes_mm), 1.0)
    for spot, size, speed in zip(spots, sizes_mm, speeds, strict=True):
        wide, long = focal_px * size / 1000 / depth_m, focal_px * speed * exposure_s / depth_m
        opacity = min(1.0, size / 1000 / (speed * exposure_s)) * min(1.0, wide)
        x, y = float(spot[0]) * width, float(spot[1]) * (height + long) - long
        tilt = (lean + 0.05 * (float(spot[3]) - 0.5)) * long
        start, end = (round(16 * x), round(16 * y)), (round(16 * (x + tilt)), round(16 * (y + long)))
        cv2.line(layer, start, end, float(2.0 * opacity), max(1, round(wide)), cv2.LINE_AA, 4)


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
    bright = np.minimum(air * np.float32(1.5), 0.95)
    for plane, light in zip(planes, bright, strict=True):
        plane += flakes * (light - plane)
    return to_display(planes)


def flake_layer(scene: Scene, rng: np.random.Generator, visibility_m: float) -> Field:
    """(H, W) opacity 0..1 of flakes from 0.6 to 15 m away, streaked by the car's own speed of 8 m/s in 1/125 s."""
    focal, exposure_s, speed = scene.view.focal_px, 1 / 125, 8.0
    per_m3 = KOSCHMIEDER / visibility_m / (2 * math.pi * 0.0012**2)
    layer = np.zeros((scene.height, scene.width), np.float32)
    centre = np.array([scene.view.centre_px, scene.view.horizon_px])
    edges = np.geomspace(0.6, 15.0, 9)
    for near, far in zip(edges[:-1], edges[1:], strict=True):
        depth = math.sqrt(near * far)
        volume = (scene.height / focal) * (scene.width / focal) * (far**3 - near**3) / 3
        count = min(1800, round(per_m3 * volume))
        spots = uniform(rng, count, 4)
        radius_px = focal * (0.001 + 0.003 * spots[:, 2] ** 3) / depth
        blur_px = 0.35 + 0.0006 * focal / depth  # depth of field of a camera focused far away
        opacity = np.minimum(1.0, (radius_px / (radius_px + blur_px)) ** 2 * 1.6)
        places = spots[:, :2] * (scene.width, scene.height)
        fall = np.array([0.3, 1.2]) * focal * exposure_s / depth
        shift = (places - centre) * (speed * exposure_s / depth) + fall
        for place, radius, move, alpha in zip(places, radius_px + 0.5 * blur_px, shift, opacity, strict=True):
            start, end = place - move / 2, place + move / 2
            a, b = (tuple(int(round(16 * float(c))) for c in point) for point in (start, end))
            cv2.line(layer, a, b, float(alpha), max(1, round(2 * float(radius))), cv2.LINE_AA, 4)
    return np.clip(cv2.GaussianBlur(layer, (0, 0), 0.8), 0, 1)


def spray(scene: Scene, rng: np.random.Generator, *, optical_depth: float) -> Rgb:
    """Spray thrown up by the traffic ahead: a turbulent plume low over the road, dense near the ground.

    Transmission exp(-tau p), p the plume: exp(-h / 0.9 m) with height h over the road seen at 12 m and beyond,
    narrower than the lane pair, torn by noise of three octaves. The road is wet, the light is the airlight's.
    """
    planes = overcast(scene, 0.6)
    planes *= 0.85
    planes = wet_ground(scene, planes, rng, 0.7)
    focal, near = scene.view.focal_px, 12.0
    above_m = (
        -scene.rows
    ) * near / focal + scene.view.height_m  # height over the road in the plane 12 m ahead
    upright = np.exp(-np.abs(np.maximum(above_m, 0)) / 0.9) * (above_m > 0) + (above_m <= 0)
    across = np.exp(-(((scene.columns * near / focal) / 4.5) ** 2))
    torn = smooth_noise(rng, scene.height, scene.width, scene.width / 9, octaves=3)
    behind = np.clip((scene.depth - 6.0) / 8.0, 0, 1)  # only what is beyond the plume is hidden
    plume = upright * across * np.clip(1 + 0.55 * torn, 0.05, 2.5) * behind
    share = np.asarray(cv2.exp(plume.astype(np.float32) * np.float32(-optical_depth)), np.float32)
    veil(planes, share, scene.airlight() * np.float32(0.95))
    planes = lens_drops(planes, rng, round(8 * optical_depth), largest=0.006)
    return to_display(soft_shoulder(planes))
