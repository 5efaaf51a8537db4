"""A road that is wet: darker, mirroring, without colour where the sky is mirrored."""

from __future__ import annotations

import cv2
import numpy as np

from drivetl.conditions.air import overcast
from drivetl.conditions.optics import Field, Planes, Rgb, smooth_noise, to_display
from drivetl.conditions.scene import Scene


def wet_ground(scene: Scene, planes: Planes, rng: np.random.Generator, wetness: float) -> Planes:
    """Wet the ground of linear planes; a new array. `wetness` 0..1: from damp to a closed film.

    Pores filled with water scatter less light back: albedo falls to 1 - 0.3 wetness (Lekner & Dorf 1988). The
    film mirrors with Fresnel's reflectance, Schlick's form with n = 1.33 at the ray's grazing angle; its roughness
    smears the mirror image along the columns.
    """
    rows, columns = max(1, scene.height // 2), max(1, scene.width // 2)
    ground, below = (
        cv2.resize(part, (columns, rows)) for part in (paved(scene), scene.rows + np.zeros_like(scene.sky))
    )
    puddles = smooth_noise(rng, rows, columns, columns / 12, octaves=2)
    film = ground * np.clip(wetness * (1 + 0.3 * puddles), 0, 1)
    grazing = np.clip(
        below / np.sqrt(below * below + np.float32(scene.view.focal_px**2)), 1e-3, 1
    )  # sine of the dip
    fresnel = 0.02 + 0.98 * (1 - grazing) ** 5
    weight = film * np.clip(fresnel * 0.75, 0, 0.6)
    weight *= np.clip(below / (0.2 * scene.height), 0, 1)  # far away the ground is hidden by traffic
    kept = (1 - weight) * (1 - 0.3 * film)
    size = (scene.width, scene.height)
    factor = cv2.resize(np.asarray(kept, np.float32), size)
    result = np.empty_like(planes)
    for number, mirror in enumerate(mirrored(scene, planes)):
        np.multiply(planes[number], factor, out=result[number])
        result[number] += cv2.resize(np.asarray(mirror * weight, np.float32), size)
    return result


def paved(scene: Scene) -> Field:
    """(H, W) 0..1: ground that is grey enough to be road; grass and painted cars do not mirror."""
    if "paved" not in scene.memo:
        small = cv2.resize(
            scene.image, (max(1, scene.width // 4), max(1, scene.height // 4)), interpolation=cv2.INTER_AREA
        )
        values = cv2.GaussianBlur(small, (0, 0), 2.0).astype(np.float32)
        low, high = values.min(axis=2), values.max(axis=2) + 8
        colourless = np.clip(2.2 - 6.5 * (1 - low / high), 0, 1)
        light = np.log(values.mean(axis=2) + 8)
        usual = cv2.GaussianBlur(light, (0, 0), max(small.shape[1] / 12, 0.5))
        like_its_surroundings = np.exp(
            -(((light - usual) / 0.55) ** 2)
        )  # cars and kerbs stand out from the road
        full = cv2.resize(
            np.asarray(colourless * like_its_surroundings, np.float32), (scene.width, scene.height)
        )
        scene.memo["paved"] = np.asarray(scene.ground * full, np.float32)
    return scene.memo["paved"]


def mirrored(scene: Scene, planes: Planes) -> Planes:
    """(3, H / 2, W / 2): what each ground pixel mirrors, the column above it turned over and smeared vertically.

    A ground point at row v sees, for distant upright things, the row 2 v0 - v; what would lie above the picture is
    taken from just below the top, where some cameras print the time.
    """
    rows, columns = max(1, scene.height // 2), max(1, scene.width // 2)
    source = 2 * scene.view.horizon_px * rows / scene.height - np.arange(rows) - 1
    order = np.clip(np.rint(source), int(0.08 * rows), rows - 1).astype(np.intp)
    length = max(3, round(rows / 9) | 1)
    result = np.empty((3, rows, columns), np.float32)
    for number, plane in enumerate(planes):
        part = cv2.resize(plane, (columns, rows), interpolation=cv2.INTER_AREA)[order]
        result[number] = cv2.blur(cv2.blur(part, (9, length)), (5, length))
    return result


def wet_road(scene: Scene, rng: np.random.Generator, *, wetness: float) -> Rgb:
    """After the rain: a covered sky and a wet road, dry air. `wet_ground` says how."""
    planes = overcast(scene, 0.4 + 0.5 * wetness)
    return to_display(wet_ground(scene, planes, rng, wetness))
