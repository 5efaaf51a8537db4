"""Lamps of a dark street: the car's own headlights, and what shines in the image."""

from __future__ import annotations

import cv2
import numpy as np
import numpy.typing as npt

from drivetl.conditions.optics import Field, Planes
from drivetl.conditions.scene import Scene

DISCHARGE = np.array([0.72, 1.08, 0.95], np.float32)
"""Tint of old street lamps and of the haze they light."""
HEADLIGHT = np.array([1.05, 1.0, 0.86], np.float32)
"""Halogen and warm white LED, relative to daylight white balance."""


def headlights(scene: Scene) -> Field:
    """(H / 2, W / 2) illumination 0..1.6 by the own low beam, 1 at 14 m straight ahead; none from a mast (above 4 m).

    A lobe exp(-(X / 4.5 m)^2), falling with (14 / z)^1.3, cut off half a degree below the horizon.
    """
    rows, columns = max(1, scene.height // 2), max(1, scene.width // 2)
    if scene.view.height_m > 4:
        return np.zeros((rows, columns), np.float32)
    if "beam" not in scene.memo:
        depth, sky = (cv2.resize(part, (columns, rows)) for part in (scene.depth, scene.sky))
        below, right = scene.half_grid
        focal = np.float32(scene.view.focal_px)
        side_m = right * depth / focal
        lobe = cv2.exp(side_m * side_m * np.float32(-1 / 4.5**2))
        fall = np.minimum(cv2.pow(np.float32(14.0) / np.maximum(depth, 1), 1.3), np.float32(1.6))
        above = -(below + np.float32(0.009) * focal) / (np.float32(0.05) * focal)
        cut = 1 - 0.88 / (1 + np.exp(np.clip(-8 * above, -30, 30)))
        near = np.clip(1.25 - below / scene.height, 0.5, 1)  # the bonnet's edge is not lit
        scene.memo["beam"] = np.asarray(lobe * fall * (cut * near) * (1 - sky), np.float32)
    return scene.memo["beam"]


def shine(scene: Scene, spots: npt.NDArray[np.float32]) -> Planes:
    """(3, H / 2, W / 2) light of (H / 2, W / 2, 3) lamps, a new array: they shine on, with halos.

    The halo 1 / (1 + r^2) of scattering in lens and air is a sum of Gaussians, each at the resolution it needs; the
    widest is the stray light of dirty glass and damp air that veils the whole image.
    """
    rows, columns = spots.shape[:2]
    if not spots.any():
        return np.zeros((3, rows, columns), np.float32)
    total = np.zeros((1, 1, 3), np.float32)
    for sigma, weight in ((110.0, 2.5), (14.0, 2.2), (4.0, 1.6), (1.2, 0.9)):  # each adds what the wider ones lack
        width_px = sigma * scene.width / 1242
        step = max(1, min(int(width_px / 2), rows // 4, columns // 4))
        size = (max(1, columns // step), max(1, rows // step))
        small = cv2.resize(spots, size, interpolation=cv2.INTER_AREA) if step > 1 else spots
        halo = cv2.GaussianBlur(small, (0, 0), max(width_px / (2 * step), 0.7))
        if sigma > 100:
            halo = np.asarray(halo.mean(axis=2, keepdims=True) * DISCHARGE, np.float32)
        total = np.asarray(cv2.scaleAdd(halo, weight, cv2.resize(total, size)), np.float32)
    return np.stack(cv2.split(cv2.resize(total, (columns, rows))))


def image_lamps(scene: Scene) -> npt.NDArray[np.float32]:
    """(H / 2, W / 2, 3) light of what may be a lamp: compact, well above its surroundings, not at the sky's rim.

    White ones stand no higher than 3 degrees above the horizon: what is bright there by day is sky between leaves. Red
    ones no higher than 9, where traffic lights are.
    """
    if "lamps" not in scene.memo:
        white, tail = _white_spots(scene), red_spots(scene)
        tail *= compact(tail, _reach(scene))
        colours = [white * HEADLIGHT[0] + tail, white * HEADLIGHT[1] + 0.06 * tail, white * HEADLIGHT[2] + 0.05 * tail]
        scene.memo["lamps"] = np.asarray(np.stack(colours, axis=2), np.float32)
    return scene.memo["lamps"]


def _half(scene: Scene) -> tuple[int, int]:
    """(columns, rows) of half the resolution."""
    return max(1, scene.width // 2), max(1, scene.height // 2)


def _reach(scene: Scene) -> int:
    """How large a lamp of the image may look at half the resolution, px."""
    return max(3, round(_half(scene)[0] / 70) | 1)


def _hat(plane: Field, reach: int) -> Field:
    """What stands out of its surroundings and is smaller than `reach`."""
    disc = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (reach, reach))
    return np.asarray(cv2.morphologyEx(plane, cv2.MORPH_TOPHAT, disc), np.float32)


def _below(scene: Scene, degrees: float) -> int:
    """The first row, at half the resolution, that looks no higher above the horizon than that."""
    return int(np.clip(scene.view.horizon_px - np.tan(np.radians(degrees)) * scene.view.focal_px, 0, scene.height) / 2)


def _white_spots(scene: Scene) -> Field:
    """(H / 2, W / 2) 0..1."""
    level, sky, depth, ground = (
        cv2.resize(part, _half(scene), interpolation=cv2.INTER_AREA)
        for part in (scene.luminance, scene.sky, scene.depth, scene.ground)
    )
    reach = _reach(scene)
    far_from_sky = 1 - cv2.dilate(sky, np.ones((reach, reach), np.uint8))
    white = np.clip((_hat(np.asarray(level, np.float32), reach) - 0.30) / 0.3, 0, 1) * (level > 0.5) * far_from_sky
    white *= 1 - ground * (depth < 24 * scene.view.height_m)  # lane markings are not lamps
    white[: _below(scene, 3)] = 0
    return np.asarray(white * compact(np.asarray(white, np.float32), reach), np.float32)


def red_places(scene: Scene) -> Field:
    """(H / 2, W / 2) 1 where the image is red, however faintly lit: 1.7 times as much red as anything else; else 0."""
    if "red places" not in scene.memo:
        red, green, blue = (cv2.resize(plane, _half(scene), interpolation=cv2.INTER_AREA) for plane in scene.linear)
        scene.memo["red places"] = np.asarray(red - 1.7 * np.maximum(green, blue) > 0.02, np.float32)
    return scene.memo["red places"]


def red_spots(scene: Scene) -> Field:
    """(H / 2, W / 2) 0..0.5: small and redder than what surrounds them, as lamps are by day; no part of a red ring or
    of a red van."""
    if "red" not in scene.memo:
        planes = (cv2.resize(plane, _half(scene), interpolation=cv2.INTER_AREA) for plane in scene.linear)
        red, green, blue = planes
        reddish = np.asarray(np.clip(red - 2.2 * np.maximum(green, blue), 0, 1), np.float32)
        tail = np.clip((_hat(reddish, _reach(scene)) - 0.10) / 0.2, 0, 0.5)
        tail[: _below(scene, 9)] = 0
        tail *= compact(reddish, 2 * _reach(scene))
        scene.memo["red"] = np.asarray(tail, np.float32)
    return scene.memo["red"].copy()


def compact(spots: Field, reach: int) -> Field:
    """1 on spots that may be lamps: no larger than `reach` either way, about as high as wide, in no crowd.

    Spots nearly in touch are one, such as letters or a painted ring. More than four in a neighbourhood are the sky
    between leaves or the ribs of a fence.
    """
    lit = (spots > 0.05).astype(np.uint8)
    joined = cv2.morphologyEx(lit, cv2.MORPH_CLOSE, np.ones((5, 5), np.uint8))
    _, label, stats, centres = cv2.connectedComponentsWithStats(joined, connectivity=8)
    wide, high = stats[:, cv2.CC_STAT_WIDTH], stats[:, cv2.CC_STAT_HEIGHT]
    good = (np.maximum(wide, high) <= reach) & (np.maximum(wide, high) <= 2.5 * np.minimum(wide, high) + 1)
    # where no background is left, its centre is nowhere
    rows, columns = (np.nan_to_num(centres[:, axis]).astype(int) for axis in (1, 0))
    marks = np.zeros(spots.shape, np.float32)
    np.add.at(marks, (rows[1:], columns[1:]), 1)
    window = max(3, spots.shape[1] // 14)
    crowd = cv2.boxFilter(marks, -1, (window, window), normalize=False, borderType=cv2.BORDER_CONSTANT)
    good &= crowd[rows, columns] <= 4.5
    good[0] = False
    return np.asarray(good.astype(np.float32)[label] * lit, np.float32)
