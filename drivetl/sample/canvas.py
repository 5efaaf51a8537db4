"""Painter's algorithm into a buffer of layer indices, which give colour, depth and instance of each pixel."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np

from drivetl.sample.camera import Array, Camera
from drivetl.sample.mesh import Soup

NEAR_M = 0.35
"""Near plane in metres: polygons that cross it are clipped."""

SPECK = 1.2
"""Buffer px: a polygon smaller than this in both directions is not drawn."""

_SHIFT = 4
_FAR_PX = 60_000.0


_SKIP, _DRAW, _CLIP = 0, 1, 2


@dataclass(slots=True)
class View:
    """A soup projected by one camera."""

    points: Array
    """(V, 3) camera metres"""
    fixed: Array
    """(V, 2) int32 buffer px times 16 (fixed point)"""
    bounds: Array
    """(P, 4) x1 y1 x2 y2 px; undefined for polygons that reach behind the camera"""
    counts: Array
    """(P,) bool: the polygon counts for its object's box (faces the camera, in front of it, not too small)"""
    task: list[int]
    """(P,) skip, draw, or clip at the near plane and draw"""
    visible_layers: Array
    """(K,) sorted indices of the layers with something to draw"""
    inverse_depth: Array
    """(L + 1, 3): 1/z = a u + b v + c on the layer's plane; row 0 is the sky"""
    far_z: Array
    """(N,) farthest z of each piece, metres"""
    near_z: Array
    """(N,) nearest z of each piece, metres"""


def project_soup(soup: Soup, camera: Camera, factor: float) -> View:
    """Project a soup; `factor` is buffer px per image px."""
    points = camera.to_camera(soup.vertices)
    z = points[:, 2]
    pixels = points[:, :2] * (camera.focal_px / np.where(z > 1e-3, z, np.inf))[:, None] + (camera.cx, camera.cy)
    np.clip(pixels, -_FAR_PX, _FAR_PX, out=pixels)
    fixed = np.rint((pixels * factor - 0.5) * (1 << _SHIFT)).astype(np.int32)
    polygons, layers = soup.polygon_start[:-1], soup.layer_start[:-1]
    low, high = np.minimum.reduceat(z, polygons), np.maximum.reduceat(z, polygons)
    bounds = np.concatenate([np.minimum.reduceat(pixels, polygons), np.maximum.reduceat(pixels, polygons)], axis=1)
    normals = soup.normals @ camera.rotation.T
    distance = np.einsum("ij,ij->i", normals, points[polygons[layers]])
    visible = np.repeat(~soup.cull | (distance < 0), np.diff(soup.layer_start))
    front = low >= NEAR_M
    speck = np.maximum(bounds[:, 2] - bounds[:, 0], bounds[:, 3] - bounds[:, 1]) * factor < SPECK
    outside = (bounds[:, 2:] < 0).any(axis=1) | (bounds[:, :2] > (camera.width, camera.height)).any(axis=1)
    task = np.where(front, np.where(speck | outside, _SKIP, _DRAW), np.where(high < NEAR_M, _SKIP, _CLIP))
    task[~visible] = _SKIP
    pieces = soup.layer_start[soup.piece_start[:-1]]
    return View(
        points=points,
        fixed=fixed,
        bounds=bounds,
        counts=visible & front & ~speck,
        task=task.tolist(),
        visible_layers=np.flatnonzero(np.maximum.reduceat(task, layers)),
        inverse_depth=_planes(normals, distance, camera),
        far_z=np.maximum.reduceat(high, pieces),
        near_z=np.minimum.reduceat(low, pieces),
    )


def _planes(normals: Array, distance: Array, camera: Camera) -> Array:
    """(L + 1, 3) float32: n . P = d with P = z ((u - cx) / f, (v - cy) / f, 1), solved for 1/z."""
    safe = np.where(np.abs(distance) > 1e-6, distance, 1e-6)
    a, b = normals[:, 0] / camera.focal_px / safe, normals[:, 1] / camera.focal_px / safe
    c = normals[:, 2] / safe - a * camera.cx - b * camera.cy
    return np.concatenate([np.zeros((1, 3)), np.stack([a, b, c], axis=1)]).astype(np.float32)


@dataclass(slots=True)
class Painted:
    """Projection of one group of pieces, recorded when it was painted."""

    box: Array | None
    """(4,) xyxy px of the whole projection, not clipped to the image; None if nothing faces the camera"""
    first_id: int
    last_id: int
    """Values [first, last) of the group in the buffer."""
    amodal: Array | None
    """bool crop of the buffer: all its pixels inside the image, before nearer pieces covered them"""
    corner: tuple[int, int]
    """(row, column) of the crop in the buffer"""


class Canvas:
    """`ids`: uint16 buffer of layer index + 1; 0 is the sky."""

    def __init__(self, soup: Soup, camera: Camera, factor: float):
        self.soup, self.camera, self.factor = soup, camera, factor
        self.view = project_soup(soup, camera, factor)
        self.ids = np.zeros((round(camera.height * factor), round(camera.width * factor)), np.uint16)
        self._layers: list[int] = self.view.visible_layers.tolist()
        self._first_layer: list[int] = np.searchsorted(self.view.visible_layers, soup.piece_start).tolist()
        self._layer_start: list[int] = soup.layer_start.tolist()
        self._polygon_start: list[int] = soup.polygon_start.tolist()
        self._convex: list[bool] = soup.convex.tolist()

    def paint(self, pieces: Sequence[int], keep: bool = False) -> Painted | None:
        """Paint pieces in the given order; with `keep` return their projection."""
        clipped: list[Array] = []
        for piece in pieces:
            for layer in self._layers[self._first_layer[piece] : self._first_layer[piece + 1]]:
                self._paint_layer(layer, clipped)
        return self._record(pieces, clipped) if keep else None

    def _paint_layer(self, layer: int, clipped: list[Array]) -> None:
        first, last = self._layer_start[layer], self._layer_start[layer + 1]
        start, fixed, task = self._polygon_start, self.view.fixed, self.view.task
        if last - first == 1 and task[first] == _DRAW and self._convex[layer]:
            shape = fixed[start[first] : start[last]]
            cv2.fillConvexPoly(self.ids, shape, layer + 1, cv2.LINE_8, _SHIFT)
            return
        shapes = []
        for polygon in range(first, last):
            if task[polygon] == _SKIP:
                continue
            if task[polygon] == _DRAW:
                shapes.append(fixed[start[polygon] : start[polygon + 1]])
            else:
                pixels = self._clip_near(polygon)
                if len(pixels) >= 3:
                    clipped.append(pixels)
                    shapes.append(np.rint((pixels * self.factor - 0.5) * (1 << _SHIFT)).astype(np.int32))
        if shapes:
            cv2.fillPoly(self.ids, shapes, layer + 1, cv2.LINE_8, _SHIFT)

    def _record(self, pieces: Sequence[int], clipped: Sequence[Array]) -> Painted:
        first, last = int(self.soup.piece_start[min(pieces)]), int(self.soup.piece_start[max(pieces) + 1])
        polygons = slice(self._layer_start[first], self._layer_start[last])
        bounds = self.view.bounds[polygons][self.view.counts[polygons]]
        bounds = np.concatenate([bounds, *(np.array([[*p.min(axis=0), *p.max(axis=0)]]) for p in clipped)])
        if not len(bounds):
            return Painted(None, first + 1, last + 1, None, (0, 0))
        box = np.concatenate([bounds[:, :2].min(axis=0), bounds[:, 2:].max(axis=0)])
        x0, y0, x1, y1 = self._crop(box)
        crop = self.ids[y0:y1, x0:x1]
        return Painted(box, first + 1, last + 1, (crop > first) & (crop <= last), (y0, x0))

    def _crop(self, box: Array) -> tuple[int, int, int, int]:
        """(x0, y0, x1, y1) buffer window around a box, aligned to whole image pixels, with a margin."""
        rows, columns = self.ids.shape
        step = max(1, round(self.factor))
        x0, y0 = (int(np.clip(np.floor(value) - 1, 0, None)) * step for value in box[:2])
        x1, y1 = (int(np.clip(np.ceil(value) + 1, 0, None)) * step for value in box[2:])
        return min(x0, columns), min(y0, rows), min(x1, columns), min(y1, rows)

    def _clip_near(self, polygon: int) -> Array:
        """A polygon clipped at z = NEAR_M (Sutherland-Hodgman) -> (n, 2) px."""
        kept = clip_near(self.view.points[self._polygon_start[polygon] : self._polygon_start[polygon + 1]])
        return np.clip(self.camera.project(kept), -_FAR_PX, _FAR_PX) if len(kept) else np.zeros((0, 2))


def clip_near(points: Array) -> Array:
    """(n, 3) camera polygon -> (m, 3) part with z >= NEAR_M."""
    kept: list[Array] = []
    for index, corner in enumerate(points):
        previous = points[index - 1]
        if (corner[2] >= NEAR_M) != (previous[2] >= NEAR_M):
            fraction = (NEAR_M - previous[2]) / (corner[2] - previous[2])
            kept.append(previous + fraction * (corner - previous))
        if corner[2] >= NEAR_M:
            kept.append(corner)
    return np.asarray(kept).reshape(-1, 3)
