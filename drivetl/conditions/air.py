"""The air between camera and street, and what a covered sky does to the light."""

from __future__ import annotations

import cv2
import numpy as np

from drivetl.conditions.optics import Field, Planes, desaturate, scale, soften
from drivetl.conditions.scene import Scene

KOSCHMIEDER = 2.996
"""-ln 0.05: meteorological optical range is where contrast has fallen to 5 % (WMO-No. 8)."""


def transmission(depth_m: Field, visibility_m: float) -> Field:
    """(H, W) share of light that arrives: exp(-beta z), beta = 2.996 / V."""
    return np.asarray(cv2.exp(depth_m * np.float32(-KOSCHMIEDER / visibility_m)), np.float32)


def overcast(scene: Scene, strength: float, colour: float = 1.0) -> Planes:
    """A copy of the linear picture under a covered sky, 0..1: grey sky, weaker shadows on the ground, weaker colours.

    On the ground luminance is divided by its own smooth shadow pattern, (L / mean L)^(-s/2); the sky turns to an
    even grey at least as bright as a covered sky is against the street (0.45 of saturation). `colour` takes more
    of the colours away.
    """
    if "shading" not in scene.memo:
        light = np.maximum(scene.luminance, np.float32(1e-3))
        ratio = soften(light, scene.width / 160) / soften(light, scene.width / 8)
        pattern = cv2.log(np.clip(ratio, 0.2, 2.5)) * scene.ground
        scene.memo["shading"] = np.asarray(pattern, np.float32)
    gain = np.asarray(cv2.exp(scene.memo["shading"] * np.float32(-0.5 * strength)), np.float32)
    planes = desaturate(scale(scene.linear, gain), colour * (1 - 0.15 * strength))
    level = np.float32(max(0.45, float(scene.sky_colour.mean())))
    share = scene.sky * np.float32(0.85 * strength)
    for plane, tint in zip(planes, (0.97, 1.0, 1.04), strict=True):
        plane += share * (level * np.float32(tint) - plane)
    return planes
