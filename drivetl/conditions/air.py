"""The air between camera and street, and what a covered sky does to the light."""

from __future__ import annotations

import cv2
import numpy as np

from drivetl.conditions.optics import Field, Planes, desaturate, scale, soften
from drivetl.conditions.scene import Scene

KOSCHMIEDER = 2.996
"""-ln 0.05: meteorological optical range is where contrast has fallen to 5 % (WMO-No. 8)."""


def transmission(depth_m: Field, visibility_m: float, unevenness: Field | None = None) -> Field:
    """(H, W) share of light that arrives: exp(-beta z n), beta = 2.996 / V; n is 1 without `unevenness`."""
    exponent = depth_m * np.float32(-KOSCHMIEDER / visibility_m)
    if unevenness is not None:
        exponent *= unevenness
    return np.asarray(cv2.exp(exponent), np.float32)


def overcast(scene: Scene, strength: float) -> Planes:
    """A copy of the linear picture under a covered sky: no sun, hence weaker shadows and colours.

    Luminance is divided by its own smooth shadow pattern on the ground, (L / mean L)^(-s/2), s = strength.
    """
    if "shading" not in scene.memo:
        light = np.maximum(scene.luminance, 1e-3)
        local, wide = soften(light, scene.width / 160), soften(light, scene.width / 8)
        ratio = np.clip(np.asarray(local / wide), 0.2, 2.5)
        scene.memo["shading"] = np.asarray(cv2.log(ratio) * scene.ground, np.float32)
    gain = cv2.exp(scene.memo["shading"] * np.float32(-0.5 * strength))
    return desaturate(scale(scene.linear, np.asarray(gain, np.float32)), 1 - 0.25 * strength)
