"""Snow that lies: on the road between the wheel tracks, on verges, along roofs and in the crowns of trees."""

from __future__ import annotations

import cv2
import numpy as np
import numpy.typing as npt

from drivetl.conditions.air import overcast
from drivetl.conditions.optics import Field, Rgb, luminance, smooth_noise, soften, to_display
from drivetl.conditions.road import paved, plan_of
from drivetl.conditions.scene import Scene


def snow_cover(scene: Scene, rng: np.random.Generator, *, coverage: float) -> Rgb:
    """A street after snowfall under a covered sky; `coverage` is the share of the ground that is white.

    Snow lies where the ground is road or verge (`paved`, or green), patchily below full cover, thinner in the wheel
    tracks of lanes 3.5 m wide (tracks 0.45 m wide, 1.5 m apart), where slush is left; on what the sky sees from above:
    the upper rim of whatever stands before the sky; and in green crowns. Things on the road keep their look: traffic
    carries little snow. Albedo 0.8 (Warren 1982) against the sky's own light, with what shade the ground had.
    """
    planes = overcast(scene, 0.9, colour=0.9)
    size = (max(1, scene.width // 2), max(1, scene.height // 2))
    light = np.asarray(cv2.resize(luminance(planes), size), np.float32)
    shade = cv2.GaussianBlur(light, (0, 0), max(size[0] / 300, 0.3)) / (soften(light, size[0] / 25) + np.float32(0.02))
    level = np.float32(0.85 * float(np.clip(scene.sky_colour.mean(), 0.5, 0.85)))
    grain = np.float32(0.04) * smooth_noise(rng, size[1], size[0], 2.0)
    white = np.clip(shade, 0.6, 1.25) * np.clip(level * (1 + grain), 0, 1)
    lying, white = (
        np.asarray(cv2.resize(part, (scene.width, scene.height)), np.float32)
        for part in (_lying(scene, rng, coverage, size), np.asarray(white, np.float32))
    )
    for plane, tint in zip(planes, (0.97, 1.0, 1.05), strict=True):
        snow = white * np.float32(tint)
        snow -= plane
        snow *= lying
        plane += snow
    return to_display(planes, 0.85)


def _lying(scene: Scene, rng: np.random.Generator, coverage: float, size: tuple[int, int]) -> Field:
    """(H / 2, W / 2) 0..1 how white each pixel is."""
    road, verge, rim, crowns, lit, tracks = _places(scene, size)
    across, along, _ = plan_of(scene, size[1], size[0])
    noise = smooth_noise(rng, 256, 256, 10, octaves=4)
    plan = cv2.remap(noise, across * 4 + 128, along * 2, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT_101)
    patches = np.clip(np.float32(3.2 * coverage - 1.1) + np.float32(0.8) * plan, 0, 1)
    on_road = road * patches * (1 - tracks * np.float32(1.05 - 0.45 * coverage))
    on_verge = verge * np.minimum(patches + np.float32(0.3 * coverage), 1)
    tufts = np.clip(np.float32(1.6 * coverage) * lit + np.float32(0.25 * coverage - 0.05), 0, 0.8) * crowns
    lying = np.maximum(np.maximum(on_road, on_verge), np.maximum(rim * np.float32(0.8 * coverage), tufts))
    return np.asarray(lying, np.float32)


def _places(scene: Scene, size: tuple[int, int]) -> npt.NDArray[np.float32]:
    """(6, H / 2, W / 2): road, verge, rims before the sky, crowns and their lit leaves, wheel tracks; once per
    image."""
    if "snow" in scene.memo:
        return scene.memo["snow"]
    columns, rows = size
    ground, road, sky = (
        cv2.resize(part, size, interpolation=cv2.INTER_AREA) for part in (scene.ground, paved(scene), scene.sky)
    )
    image = cv2.resize(scene.image, size, interpolation=cv2.INTER_AREA).astype(np.float32)
    green = np.clip((image[..., 1] - np.maximum(image[..., 0] - 4, image[..., 2])) / 12 - 0.2, 0, 1)
    green = np.asarray(cv2.GaussianBlur(green, (0, 0), max(columns / 250, 0.3)))
    across, _, z = plan_of(scene, rows, columns)
    lane = np.abs((across + 1.75) % 3.5 - 1.75)  # metres from the middle of a lane, the own one at 0
    sharp = np.clip(25 / z, 0, 1)  # farther off, tracks are narrower than pixels
    tracks = np.exp(-(((lane - 0.75) / 0.28) ** 2)) * sharp + np.float32(0.35) * (1 - sharp)
    reach = max(1, rows // 90)
    above = np.zeros_like(sky)
    above[reach:] = sky[:-reach]
    light = cv2.GaussianBlur(image[..., 1], (0, 0), 0.7)
    lit = light / (cv2.blur(light, (15, 15)) + 4) - 1  # the upper, lit leaves and twigs carry it
    crowns = (1 - ground) * (1 - sky) * green
    parts = (np.minimum(1.5 * road, 1), ground * green, np.clip(above - sky, 0, 1), crowns, lit, tracks)
    scene.memo["snow"] = np.stack(parts).astype(np.float32)
    return scene.memo["snow"]
