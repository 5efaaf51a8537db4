"""Polygon models: a Piece is a list of layers; a Layer is a set of coplanar polygons of one colour.

Local axes: x right, y down (so up is negative), z forward; the ground is y = 0. Colours are linear RGB albedos 0..1.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from enum import IntEnum

import numpy as np

from drivetl.sample.camera import Array

Colour = tuple[float, float, float]
"""Linear RGB; also used for directions (x, y, z)."""
Point = tuple[float, float, float]
"""(x, y, z) metres."""


class Material(IntEnum):
    """Surface type of a pixel; selects texture and shading."""

    SKY = 0
    ROAD = 1
    PAVING = 2
    GRASS = 3
    MARKING = 4
    PLASTER = 5
    BRICK = 6
    ROOF = 7
    GLASS = 8
    LEAVES = 9
    METAL = 10
    PAINT = 11
    CLOTH = 12
    COBBLE = 13
    FAR = 14


GROUND = (Material.ROAD, Material.PAVING, Material.GRASS, Material.MARKING, Material.COBBLE)


@dataclass(slots=True)
class Layer:
    """Polygons of one colour in one plane, painted together."""

    points: Array
    """(N, 3) local coordinates in metres: the corners of all polygons, concatenated"""
    counts: tuple[int, ...]
    """Number of corners of each polygon."""
    normal: Colour
    colour: Colour
    material: Material
    emission: float = 0.0
    """0: lit by the scene. 1: emits its own colour at night."""
    cull: bool = True
    """Back-face culling: visible only from the side that the normal points to."""
    convex: bool = True
    shading: Colour | None = None
    """Shading normal if it differs from the plane's: for round objects drawn flat."""

    @property
    def polygons(self) -> list[Array]:
        """Each (n, 3)."""
        return np.split(self.points, np.cumsum(self.counts)[:-1])


def facing_x(x: float, y0: float, y1: float, z0: float, z1: float) -> list[Point]:
    """Corners of a rectangle in the plane of constant x, from (y0, z0) to (y1, z1)."""
    return [(x, y0, z0), (x, y0, z1), (x, y1, z1), (x, y1, z0)]


def facing_z(x0: float, x1: float, y0: float, y1: float, z: float) -> list[Point]:
    """Corners of a rectangle in the plane of constant z, from (x0, y0) to (x1, y1)."""
    return [(x0, y0, z), (x1, y0, z), (x1, y1, z), (x0, y1, z)]


def _normal(a: Sequence[float], b: Sequence[float], c: Sequence[float]) -> Colour | None:
    """Unit normal of a triangle; None if its area is zero."""
    ux, uy, uz = b[0] - a[0], b[1] - a[1], b[2] - a[2]
    vx, vy, vz = c[0] - a[0], c[1] - a[1], c[2] - a[2]
    x, y, z = uy * vz - uz * vy, uz * vx - ux * vz, ux * vy - uy * vx
    length = math.sqrt(x * x + y * y + z * z)
    return (x / length, y / length, z / length) if length > 1e-9 else None


@dataclass(slots=True)
class Piece:
    """A rigid part: layers in painting order."""

    layers: list[Layer] = field(default_factory=list)

    def add(
        self,
        polygons: Sequence[Sequence[Sequence[float]] | Array],
        normal: Colour,
        colour: Colour,
        material: Material,
        *,
        emission: float = 0.0,
        cull: bool = True,
        convex: bool = True,
        shading: Colour | None = None,
    ) -> None:
        """Append a layer of coplanar polygons, each (n, 3) corners."""
        counts = tuple(len(polygon) for polygon in polygons)
        if len(set(counts)) == 1:
            points = np.asarray(polygons, np.float64).reshape(-1, 3)
        else:
            points = np.concatenate([np.asarray(polygon, np.float64) for polygon in polygons])
        self.layers.append(Layer(points, counts, normal, colour, material, emission, cull, convex, shading))

    def face(
        self,
        polygon: Sequence[Sequence[float]] | Array,
        colour: Colour,
        material: Material,
        outward_from: Sequence[float] = (0.0, -0.5, 0.0),
    ) -> None:
        """Append one (n, 3) flat polygon with its normal pointing away from `outward_from`, a point inside the body."""
        points = np.asarray(polygon, np.float64)
        corners: list[list[float]] = points.tolist()
        normal = _normal(corners[0], corners[1], corners[2]) or _normal(corners[0], corners[2], corners[-1])
        if normal is None:
            return  # zero area: invisible
        middle = [sum(corner[k] for corner in corners) / len(corners) - outward_from[k] for k in range(3)]
        sign = -1.0 if sum(n * m for n, m in zip(normal, middle, strict=True)) < 0 else 1.0
        outward = (sign * normal[0], sign * normal[1], sign * normal[2])
        self.layers.append(Layer(points, (len(corners),), outward, colour, material))

    def box(
        self, low: Sequence[float], high: Sequence[float], colour: Colour, material: Material, faces: str = "lrbftd"
    ) -> None:
        """Append faces of an axis-aligned box from `low` to `high`: l(eft) r(ight) b(ack) f(ront) t(op) d(own)."""
        (x0, y0, z0), (x1, y1, z1) = low, high
        quads = {
            "l": (facing_x(x0, y0, y1, z0, z1), (-1.0, 0.0, 0.0)),
            "r": (facing_x(x1, y0, y1, z0, z1), (1.0, 0.0, 0.0)),
            "b": (facing_z(x0, x1, y0, y1, z0), (0.0, 0.0, -1.0)),
            "f": (facing_z(x0, x1, y0, y1, z1), (0.0, 0.0, 1.0)),
            "t": ([(x0, y0, z0), (x1, y0, z0), (x1, y0, z1), (x0, y0, z1)], (0.0, -1.0, 0.0)),
            "d": ([(x0, y1, z0), (x1, y1, z0), (x1, y1, z1), (x0, y1, z1)], (0.0, 1.0, 0.0)),
        }
        for face in faces:
            corners, normal = quads[face]
            self.add([corners], normal, colour, material)


@dataclass(frozen=True, slots=True)
class Pose:
    """Position of a piece in metres, and heading in radians (0 faces +z, positive turns right)."""

    x: float = 0.0
    z: float = 0.0
    heading: float = 0.0
    y: float = 0.0

    def rotation(self) -> Array:
        """(3, 3) local to world."""
        s, c = math.sin(self.heading), math.cos(self.heading)
        return np.array([[c, 0.0, s], [0.0, 1.0, 0.0], [-s, 0.0, c]])

    def apply(self, points: Array) -> Array:
        """(N, 3) local -> (N, 3) world."""
        return np.asarray(points @ self.rotation().T + (self.x, self.y, self.z))


@dataclass(slots=True)
class Soup:
    """Polygon soup: pieces flattened to arrays in world coordinates, so that one matrix product projects them all."""

    vertices: Array
    """(V, 3)"""
    polygon_start: Array
    """(P + 1,) into vertices"""
    layer_start: Array
    """(L + 1,) into polygons"""
    piece_start: Array
    """(N + 1,) into layers"""
    normals: Array
    """(L, 3) of the planes"""
    shading: Array
    """(L, 3) shading normals"""
    colours: Array
    """(L, 3) linear albedo"""
    materials: Array
    """(L,)"""
    emission: Array
    """(L,)"""
    cull: Array
    """(L,) bool"""
    convex: Array
    """(L,) bool"""
    sunlit: Array
    """(L,) fraction of sunlight that reaches the layer"""

    @property
    def pieces(self) -> int:
        """Number of pieces."""
        return len(self.piece_start) - 1


def starts_of(counts: Sequence[int]) -> Array:
    """(n,) counts -> (n + 1,) start offsets, and the end."""
    return np.concatenate([[0], np.cumsum(np.asarray(counts, np.int64))]).astype(np.int64)


def flatten(pieces: Sequence[Piece], poses: Sequence[Pose]) -> Soup:
    """Pieces at their poses -> one Soup."""
    vertices, normals, shading = [], [], []
    polygon_counts: list[int] = []
    layers = [layer for piece in pieces for layer in piece.layers]
    for piece, pose in zip(pieces, poses, strict=True):
        if not piece.layers:
            continue
        for layer in piece.layers:
            polygon_counts += layer.counts
        vertices.append(pose.apply(np.concatenate([layer.points for layer in piece.layers])))
        turn = pose.rotation().T
        normals.append(np.array([layer.normal for layer in piece.layers]) @ turn)
        shading.append(np.array([layer.shading or layer.normal for layer in piece.layers]) @ turn)
    return Soup(
        np.concatenate(vertices) if vertices else np.zeros((0, 3)),
        starts_of(polygon_counts),
        starts_of([len(layer.counts) for layer in layers]),
        starts_of([len(piece.layers) for piece in pieces]),
        np.concatenate(normals) if normals else np.zeros((0, 3)),
        np.concatenate(shading) if shading else np.zeros((0, 3)),
        np.array([layer.colour for layer in layers]).reshape(-1, 3),
        np.array([int(layer.material) for layer in layers], np.uint8),
        np.array([layer.emission for layer in layers], np.float64),
        np.array([layer.cull for layer in layers], bool),
        np.array([layer.convex for layer in layers], bool),
        np.ones(len(layers)),
    )


def join(soups: Sequence[Soup]) -> Soup:
    """Concatenate soups in order."""
    vertices = np.cumsum([0] + [len(soup.vertices) for soup in soups])
    polygons = np.cumsum([0] + [len(soup.polygon_start) - 1 for soup in soups])
    layers = np.cumsum([0] + [len(soup.layer_start) - 1 for soup in soups])

    def starts(name: str, offsets: Array) -> Array:
        parts = [getattr(soup, name)[:-1] + offset for soup, offset in zip(soups, offsets[:-1], strict=True)]
        return np.concatenate([*parts, [offsets[-1]]]).astype(np.int64)

    names = ("normals", "shading", "colours", "materials", "emission", "cull", "convex", "sunlit")
    rest = {name: np.concatenate([getattr(soup, name) for soup in soups]) for name in names}
    return Soup(
        np.concatenate([soup.vertices for soup in soups]),
        starts("polygon_start", vertices),
        starts("layer_start", polygons),
        starts("piece_start", layers),
        **rest,
    )


def placed(soup: Soup, pose: Pose) -> Soup:
    """A soup in local coordinates -> the same soup at `pose` in world coordinates."""
    turn = pose.rotation().T
    return replace(soup, vertices=pose.apply(soup.vertices), normals=soup.normals @ turn, shading=soup.shading @ turn)


def mirrored(soup: Soup) -> Soup:
    """The soup mirrored in the ground plane (y -> -y), for reflections on wet ground."""
    flip = np.array([1.0, -1.0, 1.0])
    return replace(soup, vertices=soup.vertices * flip, normals=soup.normals * flip)
