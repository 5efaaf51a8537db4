"""Shadows on the ground: of buildings, trees and road users in the sun, and where a wheel or shoe meets the road."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np

from drivetl.sample.camera import Array, Camera
from drivetl.sample.canvas import NEAR_M, cut_near
from drivetl.sample.mesh import Soup
from drivetl.sample.stage import Staged
from drivetl.sample.world import World, sun_shift

_SHIFT = 4


def _fixed(camera: Camera, points: Array) -> Array | None:
    """(n, 3) camera polygon -> fixed-point image polygon, cut at the near plane; None when nothing is left."""
    if points[:, 2].max() < NEAR_M:
        return None
    if points[:, 2].min() < NEAR_M:
        points = cut_near(points)
        if len(points) < 3:
            return None
    pixels = np.clip(camera.project(points), -30_000, 30_000)
    return np.asarray(np.rint((pixels - 0.5) * (1 << _SHIFT)), np.int32)


def _fill(mask: Array, camera: Camera, ground: Array, level: int) -> None:
    shape = _fixed(camera, camera.to_camera(ground))
    if shape is not None:
        cv2.fillPoly(mask, [shape], level, cv2.LINE_8, _SHIFT)


def _cast(points: Array, shift: tuple[float, float]) -> Array:
    """Where the shadow of each point falls on the ground."""
    up = -points[:, 1]
    return np.stack(
        [points[:, 0] + shift[0] * up, np.zeros(len(points)), points[:, 2] + shift[1] * up], axis=1
    )


def of_scenery(world: World, camera: Camera, soup: Soup) -> Array:
    """(H, W) uint8: how much darker buildings and trees make the ground, 255 black; zeros without sun."""
    mask = np.zeros((camera.height, camera.width), np.uint8)
    if world.light.night or not world.light.shadow:
        return mask
    level, shift = round(255 * world.light.shadow), sun_shift(world.light)
    for ground in world.shadows:
        _fill(mask, camera, ground, level)
    for piece in world.trees:
        _tree(mask, camera, soup, piece, shift, level)
    return mask


def of_actors(world: World, camera: Camera, soup: Soup, staged: Sequence[Staged], mask: Array) -> Array:
    """The same with the shadows of road users, and dark contact patches beneath them."""
    light, mask = world.light, mask.copy()
    level, shift = round(255 * light.shadow), sun_shift(light)
    contact = np.zeros_like(mask)
    for item in staged:
        if item.z > 70:
            continue
        if light.shadow and not light.night:
            _body(mask, camera, soup, item, shift, level)
        _fill(contact, camera, _foot(item), 120 if light.night else 175)
    size = max(3, round(camera.width / 1242 * 7)) | 1
    return np.asarray(
        cv2.max(cv2.GaussianBlur(mask, (3, 3), 0), cv2.blur(contact, (size, max(3, size // 2) | 1)))
    )


def _tree(
    mask: Array, camera: Camera, soup: Soup, piece: int, shift: tuple[float, float], level: int
) -> None:
    first = soup.piece_start[piece]
    at = soup.vertices[soup.polygon_start[soup.layer_start[first]]]
    distance = camera.to_camera(at[None])[0, 2]
    if not -25 < distance < 70:
        return
    shapes = []
    for layer in (first, first + 2):
        for polygon in range(soup.layer_start[layer], soup.layer_start[layer + 1]):
            start, end = soup.polygon_start[polygon], soup.polygon_start[polygon + 1]
            if layer != first and end - start < 6:
                continue
            shape = _fixed(camera, camera.to_camera(_cast(soup.vertices[start:end], shift)))
            if shape is not None:
                shapes.append(shape)
    if shapes:
        cv2.fillPoly(mask, shapes, level, cv2.LINE_8, _SHIFT)


def _body(
    mask: Array, camera: Camera, soup: Soup, item: Staged, shift: tuple[float, float], level: int
) -> None:
    """A vehicle throws the hull of its points, a person each limb."""
    for piece in item.pieces:
        first, last = soup.piece_start[piece], soup.piece_start[piece + 1]
        low, high = soup.layer_start[first], soup.layer_start[last]
        start, end = soup.polygon_start[low], soup.polygon_start[high]
        points = camera.to_camera(_cast(soup.vertices[start:end], shift))
        if points[:, 2].min() < NEAR_M:
            continue
        pixels = np.rint((np.clip(camera.project(points), -30_000, 30_000) - 0.5) * (1 << _SHIFT)).astype(
            np.int32
        )
        if item.actor.look is None:
            cv2.fillConvexPoly(mask, cv2.convexHull(pixels), level, cv2.LINE_8, _SHIFT)
            continue
        for polygon in range(low, high):
            a, b = soup.polygon_start[polygon] - start, soup.polygon_start[polygon + 1] - start
            cv2.fillConvexPoly(mask, pixels[a:b], level, cv2.LINE_8, _SHIFT)


def _foot(item: Staged) -> Array:
    """The patch of ground an actor stands on."""
    _height, width, length = item.actor.size_hwl
    if item.actor.look is not None and item.actor.kind != "Cyclist":
        width, length = 0.5, 0.5
    w, half = width / 2 * 0.98, length / 2 * 0.99
    corners = np.array([(-w, 0.0, -half), (w, 0.0, -half), (w, 0.0, half), (-w, 0.0, half)])
    return np.asarray(item.pose.apply(corners))


def dim_shaded(soup: Soup, staged: Sequence[Staged], shadow: Array, camera: Camera) -> None:
    """Actors that stand in the shadow of the scenery get little sun."""
    rows, columns = shadow.shape
    for item in staged:
        if item.z < 1.0:
            continue
        here = camera.project(camera.to_camera(np.array([[item.pose.x, 0.0, item.pose.z]])))[0]
        column, row = int(here[0]), int(here[1])
        if 0 <= column < columns and 0 <= row < rows and shadow[row, column]:
            for piece in item.pieces:
                soup.sunlit[soup.piece_start[piece] : soup.piece_start[piece + 1]] = 0.12
