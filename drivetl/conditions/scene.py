"""What a condition has to know about an image: camera, sky, depth. Estimated once per image, then shared.

Depth comes from the dataset where it has it; otherwise from a prior of the street: a ground plane seen from the
camera's height, walls of a canyon on both sides, sky behind everything that is sky.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

from drivetl.conditions.optics import REC709, Boxes, Field, Planes, Rgb, luminance, to_linear
from drivetl.conditions.prior import FAR_M, NEAR_M, SKY_M, View, depth_prior, sky_mask, vanishing_point
from drivetl.errors import ConfigError, DataError
from drivetl.files.arrays import numbers


@dataclass(frozen=True)
class Camera:
    """Where the image was taken from. None: estimated from the image."""

    focal_px: float | None = None
    horizon_px: float | None = None
    """Row of the horizon, 0 = top edge."""
    centre_px: float | None = None
    """Column of the vanishing point of the road."""
    height_m: float | None = None
    """Above the road."""
    canyon_m: float | None = None
    """Distance from the camera's axis to the walls on both sides."""


class Scene:
    """One image and what is derived from it, computed when first asked for. Treat every array as read-only."""

    def __init__(
        self,
        image: Rgb,
        depth: npt.NDArray[np.float32] | None = None,
        camera: Camera | None = None,
        vehicles: Boxes | None = None,
    ):
        self.image, self.given_depth, self.given_vehicles = image, depth, vehicles
        self.vehicles = None if vehicles is None else checked_boxes(vehicles)
        """(N, 4) xyxy px of the vehicles that are known; None: it is unknown where vehicles are."""
        self.height, self.width = image.shape[:2]
        self.camera = camera or Camera()
        _check(self.camera, depth, self.height, self.width)
        self.memo: dict[str, npt.NDArray[np.float32]] = {}
        """What effects keep per image for their next severity."""

    @cached_property
    def linear(self) -> Planes:
        """(3, H, W) linear light."""
        planes = to_linear(self.image)
        planes.flags.writeable = False
        return planes

    @cached_property
    def luminance(self) -> Field:
        """(H, W) linear luminance."""
        return luminance(self.linear)

    @cached_property
    def view(self) -> View:
        """The camera; what is not given follows from the image's shape and its vanishing point.

        Focal length 1.8 H within 0.5..1.2 W: KITTI has 1.92 H, Cityscapes 2.2 H, nuScenes 1.4 H. Height 1.65 m,
        KITTI's, in a canyon of 10 m; where the horizon lies in the upper third, a mast's 8 m above a road 25 m wide
        to both sides.
        """
        known = self.camera
        focal = known.focal_px or min(max(1.8 * self.height, 0.5 * self.width), 1.2 * self.width)
        column, row = vanishing_point(self.image)
        horizon = known.horizon_px if known.horizon_px is not None else row
        centre = known.centre_px if known.centre_px is not None else column
        height_m, canyon_m = (8.0, 25.0) if horizon < 0.33 * self.height else (1.65, 10.0)
        return View(focal, horizon, centre, known.height_m or height_m, known.canyon_m or canyon_m)

    @cached_property
    def rows(self) -> Field:
        """(H, 1) row below the horizon in px, negative above."""
        below = np.arange(self.height, dtype=np.float32)[:, None] + 0.5
        return below - np.float32(self.view.horizon_px)

    @cached_property
    def columns(self) -> Field:
        """(1, W) column right of the vanishing point in px."""
        right = np.arange(self.width, dtype=np.float32)[None, :] + 0.5
        return right - np.float32(self.view.centre_px)

    @cached_property
    def half_grid(self) -> tuple[Field, Field]:
        """`rows` and `columns` at half the resolution, in px of the whole image: (H / 2, 1) and (1, W / 2)."""
        rows, columns = max(1, self.height // 2), max(1, self.width // 2)
        v = (np.arange(rows, dtype=np.float32)[:, None] + np.float32(0.5)) * np.float32(self.height / rows)
        u = (np.arange(columns, dtype=np.float32)[None] + np.float32(0.5)) * np.float32(self.width / columns)
        return v - np.float32(self.view.horizon_px), u - np.float32(self.view.centre_px)

    @cached_property
    def sky(self) -> Field:
        """(H, W) 0..1: how surely a pixel is sky: by its depth where known, else with the image's own edges."""
        if self.given_depth is None:
            return sky_mask(self.image, self.view.horizon_px)
        known, far = self._known, np.asarray(self.given_depth >= 0.9 * SKY_M, np.float32)
        if known.all():
            return far
        return np.where(known, far, sky_mask(self.image, self.view.horizon_px)).astype(np.float32)

    @cached_property
    def _known(self) -> npt.NDArray[np.bool_]:
        """(H, W): where the given depth is one."""
        assert self.given_depth is not None
        return np.asarray(np.isfinite(self.given_depth) & (self.given_depth > 0), np.bool_)

    @cached_property
    def depth(self) -> Field:
        """(H, W) metres along the optical axis; holes of a given depth (0 or not finite) are estimated."""
        if self.given_depth is None:
            return depth_prior(self.image, self.view, self.sky)
        depth = np.asarray(self.given_depth, np.float32)
        if not self._known.all():
            depth = np.where(self._known, depth, depth_prior(self.image, self.view, self.sky))
        return np.clip(depth, 0.5, SKY_M)

    @cached_property
    def ground(self) -> Field:
        """(H, W) 0..1: how surely a pixel is ground: its depth agrees with the ground plane's."""
        plane = self.ground_m
        near = np.clip(1.6 - 2.0 * np.abs(np.log(self.depth / plane)), 0.0, 1.0)
        near *= np.clip(self.rows / (0.02 * self.height), 0.0, 1.0)
        return np.asarray(near, np.float32)

    @cached_property
    def ground_m(self) -> Field:
        """(H, 1) depth of the ground plane at each row, 2 FAR_M above the horizon."""
        below = np.maximum(self.rows, 1e-3)
        depth = self.view.focal_px * self.view.height_m / below
        return np.clip(depth, NEAR_M, 2 * FAR_M).astype(np.float32)

    @cached_property
    def sky_colour(self) -> npt.NDArray[np.float32]:
        """(3,) linear: the sky's mean, or, without sky, the brightest tenth of the image."""
        weight = self.sky if float(self.sky.mean()) > 0.003 else None
        step = max(1, min(self.height, self.width) // 100)
        planes = self.linear[:, ::step, ::step]
        if weight is None:
            light = self.luminance[::step, ::step]
            weight = (light >= np.quantile(light, 0.9)).astype(np.float32)
        else:
            weight = weight[::step, ::step]
        total = max(float(weight.sum()), 1e-6)
        return np.asarray((planes * weight).sum(axis=(1, 2)) / total, np.float32)

    def airlight(self, brightest: float = 0.55, sky_share: float = 0.25) -> npt.NDArray[np.float32]:
        """(3,) linear light scattered into the line of sight: grey as bright as the sky, a little of its colour.

        Bounded by 0.12 (an image without light still has some air) and `brightest`: real fog does not blind.
        """
        level = float(np.clip(self.sky_colour @ REC709, 0.12, brightest))
        tint = self.sky_colour / max(float(self.sky_colour @ REC709), 1e-6)
        mixed = level * ((1 - sky_share) + sky_share * np.clip(tint, 0.5, 1.5))
        return np.asarray(mixed * min(1.0, brightest / float(mixed.mean())), np.float32)


def checked_boxes(boxes: npt.ArrayLike) -> Boxes:
    """(N, 4) float32. Raises DataError for another shape and for corners that are not finite."""
    array = numbers(boxes, "vehicles", ("N", 4)).astype(np.float32)
    if not np.isfinite(array).all():
        raise DataError("vehicles has corners that are not finite", remedy="pass (N, 4) xyxy px, (0, 4) for none")
    return array


def _check(camera: Camera, depth: npt.NDArray[np.float32] | None, height: int, width: int) -> None:
    """Raises ConfigError for a camera that cannot be, DataError for depth of another shape."""
    if camera.horizon_px is not None and not 0 < camera.horizon_px < height:
        raise ConfigError(
            f"the horizon at row {camera.horizon_px:g} lies outside the image of {height} rows",
            remedy="check pitch, focal length and the calibration's image size, or leave the camera out",
        )
    if camera.centre_px is not None and not -width < camera.centre_px < 2 * width:
        raise ConfigError(
            f"the vanishing point at column {camera.centre_px:g} is far outside the image of {width} columns",
            remedy="check the calibration, or leave the camera out",
        )
    for name in ("focal_px", "height_m", "canyon_m"):
        value = getattr(camera, name)
        if value is not None and not 0 < value < 1e6:
            raise ConfigError(f"the camera's {name} is {value!r}", remedy="it must be above 0")
    if depth is not None:
        numbers(depth, "depth in metres", (height, width))
