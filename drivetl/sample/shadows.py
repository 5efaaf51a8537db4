"""Shadows on the ground: of buildings, trees and road users in the sun, and contact shadows below road users."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np

from drivetl.sample.camera import Array, Camera
from drivetl.sample.canvas import NEAR_M, Canvas
from drivetl.sample.light import Light
from drivetl.sample.mesh import Soup
from drivetl.sample.stage import Staged
from drivetl.sample.world import World, cast_shadow

_SHIFT = 4


def scenery_shadows(world: World, camera: Camera) -> Array:
    """(H, W) uint8 darkening of the ground by scenery shadows, 255 is black; zeros without sun."""
    if world.shadows is None:
        return np.zeros((camera.height, camera.width), np.uint8)
    canvas = Canvas(world.shadows, camera, 1.0)
    canvas.paint(range(world.shadows.pieces))
    return np.asarray((canvas.ids > 0).astype(np.uint8) * np.uint8(round(255 * world.light.shadow)))


def add_actor_shadows(world: World, camera: Camera, soup: Soup, staged: Sequence[Staged], mask: Array) -> Array:
    """`mask` (H, W) uint8 with the shadows of road users and dark contact patches below them."""
    light, mask = world.light, mask.copy()
    level = round(255 * light.shadow)
    contact = np.zeros_like(mask)
    for item in staged:
        if item.z > 70:
            continue
        if light.shadow and not light.night:
            _draw_shadow(mask, camera, soup, item, light, level)
        footprint = camera.to_camera(_footprint(item))
        if footprint[:, 2].min() >= NEAR_M:
            cv2.fillConvexPoly(
                contact, _fixed_point(camera, footprint), 120 if light.night else 175, cv2.LINE_8, _SHIFT
            )
    size = max(3, round(camera.width / 1242 * 7)) | 1
    return np.asarray(cv2.max(cv2.GaussianBlur(mask, (3, 3), 0), cv2.blur(contact, (size, max(3, size // 2) | 1))))


def _draw_shadow(mask: Array, camera: Camera, soup: Soup, item: Staged, light: Light, level: int) -> None:
    """Draw the shadow of an actor: a vehicle's convex hull, or each limb of a person."""
    for piece in item.pieces:
        first, last = soup.piece_start[piece], soup.piece_start[piece + 1]
        low, high = soup.layer_start[first], soup.layer_start[last]
        start, end = soup.polygon_start[low], soup.polygon_start[high]
        points = camera.to_camera(cast_shadow(soup.vertices[start:end], light))
        if points[:, 2].min() < NEAR_M:
            continue
        pixels = _fixed_point(camera, points)
        if item.actor.look is None:
            cv2.fillConvexPoly(mask, cv2.convexHull(pixels), level, cv2.LINE_8, _SHIFT)
            continue
        for polygon in range(low, high):
            a, b = soup.polygon_start[polygon] - start, soup.polygon_start[polygon + 1] - start
            cv2.fillConvexPoly(mask, pixels[a:b], level, cv2.LINE_8, _SHIFT)


def _fixed_point(camera: Camera, points: Array) -> Array:
    """(n, 3) camera polygon in front of the near plane -> (n, 2) int32 px times 16."""
    pixels = np.clip(camera.project(points), -30_000, 30_000)
    return np.asarray(np.rint((pixels - 0.5) * (1 << _SHIFT)).astype(np.int32))


def _footprint(item: Staged) -> Array:
    """(4, 3) world corners of the ground below an actor."""
    _height, width, length = item.actor.size_hwl
    if item.actor.look is not None and item.actor.kind != "Cyclist":
        width, length = 0.5, 0.5
    w, half = width / 2 * 0.98, length / 2 * 0.99
    corners = np.array([(-w, 0.0, -half), (w, 0.0, -half), (w, 0.0, half), (-w, 0.0, half)])
    return np.asarray(item.pose.apply(corners))


def dim_shaded(soup: Soup, staged: Sequence[Staged], shadow: Array, camera: Camera) -> None:
    """Reduce the sunlight on actors in the shadow of the scenery; changes `soup.sunlit`."""
    rows, columns = shadow.shape
    for item in staged:
        if item.z < 1.0:
            continue
        pixel = camera.project(camera.to_camera(np.array([[item.pose.x, 0.0, item.pose.z]])))[0]
        column, row = int(pixel[0]), int(pixel[1])
        if 0 <= column < columns and 0 <= row < rows and shadow[row, column]:
            for piece in item.pieces:
                soup.sunlit[soup.piece_start[piece] : soup.piece_start[piece + 1]] = 0.12
