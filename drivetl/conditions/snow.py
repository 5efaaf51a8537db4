"""Snow that lies: on the road between the wheel tracks, on verges, along roofs and in the crowns of trees."""

from __future__ import annotations

import cv2
import numpy as np

from drivetl.conditions.air import overcast
from drivetl.conditions.optics import Field, Rgb, luminance, smooth_noise, soft_shoulder, soften, to_display
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
    lying = _lying(scene, rng, coverage)
    light = luminance(planes)
    shade = np.clip(
        soften(light, scene.width / 300) / (soften(light, scene.width / 25) + np.float32(0.02)), 0.6, 1.25
    )
    level = np.float32(0.8 * float(np.clip(scene.sky_colour.mean(), 0.45, 0.85)))
    white = shade * level * np.clip(1 + 0.04 * smooth_noise(rng, scene.height, scene.width, 4.0), 0.8, 1.2)
    for plane, tint in zip(planes, (0.97, 1.0, 1.05), strict=True):
        plane += lying * (white * np.float32(tint) - plane)
    return to_display(soft_shoulder(planes, 0.85))


def _lying(scene: Scene, rng: np.random.Generator, coverage: float) -> Field:
    """(H, W) 0..1 how white each pixel is."""
    rows, columns = max(1, scene.height // 2), max(1, scene.width // 2)
    ground, road, sky = (
        cv2.resize(part, (columns, rows), interpolation=cv2.INTER_AREA)
        for part in (scene.ground, paved(scene), scene.sky)
    )
    picture = cv2.resize(scene.image, (columns, rows), interpolation=cv2.INTER_AREA).astype(np.float32)
    green = np.clip((picture[..., 1] - np.maximum(picture[..., 0] - 4, picture[..., 2])) / 12 - 0.2, 0, 1)
    green = np.asarray(cv2.GaussianBlur(green, (0, 0), max(columns / 250, 0.3)))
    across, along, z = plan_of(scene, rows, columns)
    lane = np.abs((across + 1.75) % 3.5 - 1.75)  # metres from the middle of a lane, the own one at 0
    sharp = np.clip(25 / z, 0, 1)  # farther off, tracks are narrower than pixels
    tracks = np.exp(-(((lane - 0.75) / 0.28) ** 2)) * sharp + np.float32(0.35) * (1 - sharp)
    noise = smooth_noise(rng, 256, 256, 10, octaves=4)
    plan = cv2.remap(noise, across * 4 + 128, along * 2, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT_101)
    patches = np.clip(0.5 + 1.6 * (2 * coverage - 1) + 0.8 * plan, 0, 1)
    on_road = road * patches * (1 - tracks * np.float32(1.05 - 0.45 * coverage))
    on_verge = ground * green * np.clip(patches + 0.3 * coverage, 0, 1)
    reach = max(1, rows // 90)
    above = np.zeros_like(sky)
    above[reach:] = sky[:-reach]
    rim = np.clip(above - sky, 0, 1) * np.float32(0.8 * coverage)
    light = cv2.GaussianBlur(picture[..., 1], (0, 0), 0.7)
    lit = light / (cv2.blur(light, (15, 15)) + 4) - 1  # the upper, lit leaves and twigs carry it
    tufts = np.clip(coverage * (0.25 + 1.6 * lit) - 0.05, 0, 0.8)
    crowns = (1 - ground) * (1 - sky) * green * tufts
    lying = np.maximum(np.maximum(on_road, on_verge), np.maximum(rim, crowns))
    return np.asarray(cv2.resize(np.asarray(lying, np.float32), (scene.width, scene.height)), np.float32)
