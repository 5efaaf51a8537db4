"""Painter's algorithm into a buffer of layer numbers: colour, depth and instance of a pixel all follow from it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np

from drivetl.sample.camera import Array, Camera
from drivetl.sample.mesh import Soup

NEAR_M = 0.35
"""Nothing nearer than this is drawn; polygons that reach behind it are cut there."""

_SHIFT = 4
_FAR_PX = 60_000.0


@dataclass(slots=True)
class View:
    """A soup as one camera sees it."""

    points: Array
    """(V, 3) camera metres"""
    pixels: Array
    """(V, 2) continuous px; meaningless for points nearer than NEAR_M"""
    fixed: Array
    """(V, 2) int32 px of the buffer times 16"""
    front: Array
    """(P,) all points of the polygon are in front"""
    behind: Array
    """(P,) no point is"""
    bounds: Array
    """(P, 4) x1 y1 x2 y2 px of polygons in front"""
    visible: Array
    """(L,) faces the camera"""
    inverse_depth: Array
    """(L + 1, 3): 1/z = a u + b v + c on the layer's plane; row 0 is the sky"""
    far_z: Array
    """(N,) the farthest z of each piece"""
    near_z: Array
    """(N,) the nearest z of each piece"""


def look(soup: Soup, camera: Camera, factor: float) -> View:
    """Project a soup; `factor` is buffer px per image px."""
    points = camera.to_camera(soup.vertices)
    z = points[:, 2]
    pixels = points[:, :2] * (camera.focal_px / np.where(z > 1e-3, z, np.inf))[:, None] + (
        camera.cx,
        camera.cy,
    )
    np.clip(pixels, -_FAR_PX, _FAR_PX, out=pixels)
    fixed = np.rint((pixels * factor - 0.5) * (1 << _SHIFT)).astype(np.int32)
    polygons, layers = soup.polygon_start[:-1], soup.layer_start[:-1]
    low, high = np.minimum.reduceat(points[:, 2], polygons), np.maximum.reduceat(points[:, 2], polygons)
    bounds = np.concatenate(
        [np.minimum.reduceat(pixels, polygons), np.maximum.reduceat(pixels, polygons)], axis=1
    )
    normals = soup.normals @ camera.rotation.T
    distance = np.einsum("ij,ij->i", normals, points[polygons[layers]])
    safe = np.where(np.abs(distance) > 1e-6, distance, 1e-6)
    a, b = normals[:, 0] / camera.focal_px / safe, normals[:, 1] / camera.focal_px / safe
    c = normals[:, 2] / safe - a * camera.cx - b * camera.cy
    planes = np.concatenate([np.zeros((1, 3)), np.stack([a, b, c], axis=1)]).astype(np.float32)
    pieces = soup.layer_start[soup.piece_start[:-1]]
    return View(
        points, pixels, fixed, low >= NEAR_M, high < NEAR_M, bounds,
        ~soup.cull | (distance < 0), planes,
        np.maximum.reduceat(high, pieces), np.minimum.reduceat(low, pieces),
    )  # fmt: skip


@dataclass(slots=True)
class Painted:
    """What one group of pieces left on the canvas at the moment it was painted."""

    box: Array | None
    """(4,) px of the whole projection, not clipped to the image; None when nothing faces the camera"""
    first_id: int
    last_id: int
    """Layer numbers [first, last) of the group in the buffer."""
    amodal: Array | None
    """bool crop of the buffer: everything of it inside the image, before anything nearer covered it"""
    corner: tuple[int, int]
    """(row, column) of the crop in the buffer"""


class Canvas:
    """A buffer of layer numbers + 1; 0 is the sky."""

    def __init__(self, soup: Soup, camera: Camera, factor: float):
        self.soup, self.camera, self.factor = soup, camera, factor
        self.view = look(soup, camera, factor)
        self.ids = np.zeros((round(camera.height * factor), round(camera.width * factor)), np.uint16)

    def paint(self, pieces: Sequence[int], keep: bool = False) -> Painted:
        """Paint pieces in the order given; with `keep` remember their silhouette."""
        soup = self.soup
        box = np.array([np.inf, np.inf, -np.inf, -np.inf])
        for piece in pieces:
            for layer in range(soup.piece_start[piece], soup.piece_start[piece + 1]):
                if self.view.visible[layer]:
                    self._paint_layer(layer, box)
        first = int(soup.piece_start[min(pieces)]) + 1
        last = int(soup.piece_start[max(pieces) + 1]) + 1
        if not np.isfinite(box[0]):
            return Painted(None, first, last, None, (0, 0))
        if not keep:
            return Painted(box, first, last, None, (0, 0))
        x0, y0, x1, y1 = self._crop(box)
        crop = self.ids[y0:y1, x0:x1]
        return Painted(box, first, last, (crop >= first) & (crop < last), (y0, x0))

    def _crop(self, box: Array) -> tuple[int, int, int, int]:
        """A buffer window around a box, aligned to whole image pixels, with a margin."""
        rows, columns = self.ids.shape
        step = max(1, round(self.factor))
        x0, y0 = (int(np.clip(np.floor(value) - 1, 0, None)) * step for value in box[:2])
        x1, y1 = (int(np.clip(np.ceil(value) + 1, 0, None)) * step for value in box[2:])
        return min(x0, columns), min(y0, rows), min(x1, columns), min(y1, rows)

    def _paint_layer(self, layer: int, box: Array) -> None:
        soup, view = self.soup, self.view
        first, last = soup.layer_start[layer], soup.layer_start[layer + 1]
        shapes = []
        for polygon in range(first, last):
            if view.behind[polygon]:
                continue
            if view.front[polygon]:
                x0, y0, x1, y1 = view.bounds[polygon]
                start, end = soup.polygon_start[polygon], soup.polygon_start[polygon + 1]
                shape = view.fixed[start:end]
            else:
                pixels = self._cut(polygon)
                if len(pixels) < 3:
                    continue
                (x0, y0), (x1, y1) = pixels.min(axis=0), pixels.max(axis=0)
                shape = np.rint((pixels * self.factor - 0.5) * (1 << _SHIFT)).astype(np.int32)
            if max(x1 - x0, y1 - y0) * self.factor < 0.7:
                continue
            if x0 < box[0]:
                box[0] = x0
            if y0 < box[1]:
                box[1] = y0
            if x1 > box[2]:
                box[2] = x1
            if y1 > box[3]:
                box[3] = y1
            if x1 >= 0 and y1 >= 0 and x0 <= self.camera.width and y0 <= self.camera.height:
                shapes.append(shape)
        if len(shapes) == 1 and soup.convex[layer]:
            cv2.fillConvexPoly(self.ids, shapes[0], layer + 1, cv2.LINE_8, _SHIFT)
        elif shapes:
            cv2.fillPoly(self.ids, shapes, layer + 1, cv2.LINE_8, _SHIFT)

    def _cut(self, polygon: int) -> Array:
        """Sutherland-Hodgman against z = NEAR_M -> (n, 2) px."""
        start, end = self.soup.polygon_start[polygon], self.soup.polygon_start[polygon + 1]
        kept = cut_near(self.view.points[start:end])
        return np.clip(self.camera.project(kept), -_FAR_PX, _FAR_PX) if len(kept) else np.zeros((0, 2))


def cut_near(points: Array) -> Array:
    """(n, 3) camera polygon -> the part with z >= NEAR_M."""
    kept: list[Array] = []
    for index, here in enumerate(points):
        before = points[index - 1]
        if (here[2] >= NEAR_M) != (before[2] >= NEAR_M):
            share = (NEAR_M - before[2]) / (here[2] - before[2])
            kept.append(before + share * (here - before))
        if here[2] >= NEAR_M:
            kept.append(here)
    return np.asarray(kept).reshape(-1, 3)
