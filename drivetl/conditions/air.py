"""The air between camera and street, and what a covered sky does to the light."""

from __future__ import annotations

import cv2
import numpy as np

from drivetl.conditions.optics import Field, Planes, desaturate, scale
from drivetl.conditions.scene import Scene

KOSCHMIEDER = 2.996
"""-ln 0.05: meteorological optical range is where contrast has fallen to 5 % (WMO-No. 8)."""


def transmission(depth_m: Field, visibility_m: float) -> Field:
    """(H, W) share of light that arrives: exp(-beta z), beta = 2.996 / V."""
    return np.asarray(cv2.exp(depth_m * np.float32(-KOSCHMIEDER / visibility_m)), np.float32)


def overcast(scene: Scene, strength: float, colour: float = 1.0) -> Planes:
    """A copy of the linear image under a covered sky, 0..1: grey sky, no sunlit patches, weaker colours.

    Luminance is divided by exp(0.7 strength S), S the sun's pattern (`sunlight`); the sky turns to an even grey as
    bright as a covered sky is against the street, 0.45 to 0.75 of saturation. `colour` takes more of the colours away.
    """
    gain = np.asarray(cv2.exp(sunlight(scene) * np.float32(-0.7 * strength)), np.float32)
    planes = desaturate(scale(scene.linear, gain), colour * (1 - 0.15 * strength))
    end = int(np.clip(np.ceil(scene.view.horizon_px), 0, scene.height))
    share = scene.sky[:end] * np.float32(0.85 * strength)
    if share.any():
        for plane, tint in zip(planes, (0.97, 1.0, 1.04), strict=True):
            above = plane[:end]
            above += share * (covered_sky(scene) * np.float32(tint) - above)
    return planes


def covered_sky(scene: Scene) -> np.float32:
    """Linear light of a covered sky at the exposure of the street below it."""
    return np.float32(np.clip(scene.sky_colour.mean(), 0.45, 0.75))


def sunlight(scene: Scene) -> Field:
    """(H, W) natural log of how much more light falls here than on the street's mean: patches of sun above 0, shade
    below.

    Retinex's idea with an edge-keeping estimate: log luminance through a guided filter by itself (He & Sun 2015,
    windows of 4 % of the width, deviation 0.4), so that a shadow's edge goes with the shadow and no halo is left, while
    texture below that deviation stays the surface's. How much of it is the sun's, the ground says: its own spread is
    0.3 to 0.6 under a covered sky and 1.1 to 2 in the sun (KITTI), so it counts from 0.6 on and whole at 1.1. 0 in
    the sky.
    """
    if "sunlight" not in scene.memo:
        rows, columns = max(1, scene.height // 4), max(1, scene.width // 4)
        light = cv2.log(np.maximum(scene.luminance, np.float32(0.004)))
        small, ground, sky = (
            np.asarray(cv2.resize(part, (columns, rows), interpolation=cv2.INTER_AREA), np.float32)
            for part in (light, scene.ground, scene.sky)
        )
        window = (2 * max(1, columns // 50) + 1,) * 2
        mean = cv2.blur(small, window)
        variance = np.maximum(cv2.blur(small * small, window) - mean * mean, 0)
        share = variance / (variance + np.float32(0.4**2))
        slope, offset = cv2.blur(share, window), cv2.blur((1 - share) * mean, window)
        base = slope * small + offset
        street = ground + np.float32(0.02) * (1 - sky)  # where no ground is found, all below the sky
        level, spread = _moments(base, street)
        sun = np.float32(np.clip((spread - 0.6) / 0.5, 0, 1))
        full = (scene.width, scene.height)
        pattern = cv2.resize(slope, full) * light
        pattern += cv2.resize(offset, full)
        pattern -= np.float32(level)
        pattern *= sun * (1 - scene.sky)
        scene.memo["sunlight"] = np.asarray(np.clip(pattern, -2.0, 1.5), np.float32)
    return scene.memo["sunlight"]


def _moments(values: Field, weight: Field) -> tuple[float, float]:
    """Weighted mean and deviation."""
    total = max(float(weight.sum(dtype=np.float64)), 1e-6)
    mean = float((values * weight).sum(dtype=np.float64)) / total
    square = float((np.square(values - np.float32(mean)) * weight).sum(dtype=np.float64)) / total
    return mean, square**0.5
