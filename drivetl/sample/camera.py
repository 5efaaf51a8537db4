"""The pinhole camera of the sample city.

World axes as in KITTI: x right, y down, z forward, the ground is y = 0. Image coordinates are continuous px with the
origin at the top-left corner of the image, so pixel (row, column) covers [column, column + 1) x [row, row + 1).
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]


@lru_cache(maxsize=64)
def _rotation(yaw_rad: float, pitch_rad: float) -> Array:
    sy, cy = math.sin(yaw_rad), math.cos(yaw_rad)
    sp, cp = math.sin(pitch_rad), math.cos(pitch_rad)
    matrix = np.array([[cy, 0, -sy], [-sy * sp, cp, -cy * sp], [sy * cp, sp, cy * cp]])
    matrix.flags.writeable = False
    return matrix


@dataclass(frozen=True, slots=True)
class Camera:
    """Intrinsics, mounting and pose of one camera."""

    width: int
    height: int
    focal_px: float
    cx: float
    cy: float
    height_m: float
    pitch_rad: float = 0.0
    """Positive: looks down."""
    x_m: float = 0.0
    z_m: float = 0.0
    yaw_rad: float = 0.0
    """Positive: turns right; forward is (sin yaw, cos yaw) in (x, z)."""

    def scaled(self, scale: float) -> Camera:
        """The same view with `round(width * scale)` columns; focal length and principal point are scaled exactly."""
        width = max(1, round(self.width * scale))
        exact = width / self.width
        return replace(
            self,
            width=width,
            height=max(1, round(self.height * exact)),
            focal_px=self.focal_px * exact,
            cx=self.cx * exact,
            cy=self.cy * exact,
        )

    def at(self, x_m: float, z_m: float, yaw_rad: float) -> Camera:
        """The same camera at another position on the ground."""
        return replace(self, x_m=x_m, z_m=z_m, yaw_rad=yaw_rad)

    @property
    def rotation(self) -> Array:
        """(3, 3) world to camera; read-only."""
        return _rotation(self.yaw_rad, self.pitch_rad)

    @property
    def centre(self) -> Array:
        """(3,) world position of the lens."""
        return np.array([self.x_m, -self.height_m, self.z_m])

    @property
    def horizon_row(self) -> float:
        """Row of the horizon: cy - f tan(pitch), continuous px."""
        return self.cy - self.focal_px * math.tan(self.pitch_rad)

    def to_camera(self, points: Array) -> Array:
        """(N, 3) world metres -> (N, 3) camera metres."""
        return np.asarray((points - self.centre) @ self.rotation.T)

    def project(self, points: Array) -> Array:
        """(N, 3) camera metres with z > 0 -> (N, 2) px: u = f x / z + cx, v = f y / z + cy."""
        return np.asarray(points[:, :2] * (self.focal_px / points[:, 2:3]) + (self.cx, self.cy))

    def projection_matrix(self) -> Array:
        """(3, 4) projection matrix, KITTI's P2."""
        return np.array([[self.focal_px, 0, self.cx, 0], [0, self.focal_px, self.cy, 0], [0, 0, 1, 0]], np.float64)
