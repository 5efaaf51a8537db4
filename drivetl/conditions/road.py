"""A road that is wet: darker, mirroring, without colour where the sky is mirrored."""

from __future__ import annotations

from statistics import NormalDist

import cv2
import numpy as np
import numpy.typing as npt

from drivetl.conditions.air import overcast, sunlight
from drivetl.conditions.optics import Field, Planes, Rgb, smooth_noise, to_display
from drivetl.conditions.scene import Scene


def water_depth_mm(rate_mm_h: float) -> float:
    """Depth of the water on a road above the tips of its texture, mm; below 0: the tips stand out of it.

    Gallaway et al. 1979 (FHWA-RD-79-31): d = 0.01485 T^0.11 L^0.43 I^0.59 / S^0.42 - T, here for a texture T of 0.8 mm,
    rain of I mm/h running over L = 5 m (one lane and a half) down a crossfall S of 2 %: -0.6 mm at 2 mm/h, -0.2 at 10,
    0.2 at 25.
    """
    texture_mm, length_m, slope = 0.8, 5.0, 0.02
    return float(0.01485 * texture_mm**0.11 * length_m**0.43 * rate_mm_h**0.59 / slope**0.42 - texture_mm)


def film_share(rate_mm_h: float) -> float:
    """Share 0..1 of the road under a closed film of water: that of its texture below the water's surface.

    The heights of the texture are taken as normal, with half its mean depth as their deviation: 0.08, 0.29, 0.69, 0.96
    and 1 at 2, 10, 25, 50 and 100 mm/h.
    """
    return NormalDist(0, 0.4).cdf(water_depth_mm(rate_mm_h))


def wet_ground(
    scene: Scene, planes: Planes, rng: np.random.Generator, wetness: float, closed: float | None = None
) -> Planes:
    """Wet the ground of linear planes; a new array. `wetness` 0..1: how full its pores are. `closed` 0..1: the share of
    the road under a closed film, `wetness` where it is not given.

    Pores filled with water scatter less light back: albedo falls to 1 - 0.5 wetness (Lekner & Dorf 1988). Where the
    film closes over the grain of the asphalt it mirrors with Fresnel's reflectance, Schlick's form with n = 1.33 at
    the ray's grazing angle; grain that stands out of the water, in the wheel tracks most, takes part of that away.
    """
    rows, columns = max(1, scene.height // 2), max(1, scene.width // 2)
    below, _ = scene.half_grid
    streaks = _tracks(scene, rng, rows, columns)
    ground = cv2.resize(paved(scene), (columns, rows))
    damp, film = (
        ground * np.clip(share * (1 + 0.4 * streaks), 0, 1)
        for share in (wetness, wetness if closed is None else closed)
    )
    grazing = np.clip(below / np.sqrt(below * below + np.float32(scene.view.focal_px**2)), 1e-3, 1)  # sin(dip)
    fresnel = np.clip(0.02 + 0.98 * (1 - grazing) ** 5, 0, 0.7)
    weight = np.asarray(film * fresnel * np.clip(1 + 0.3 * streaks, 0.4, 1.6), np.float32)
    factor = np.asarray((1 - weight) * (1 - 0.5 * damp), np.float32)
    size = (scene.width, scene.height)
    factor = np.asarray(cv2.resize(factor, size), np.float32)
    result = np.empty_like(planes)
    for number, mirror in enumerate(mirrored(scene, planes)):
        added = cv2.resize(mirror, (columns, rows)) * weight
        np.multiply(planes[number], factor, out=result[number])
        result[number] += cv2.resize(added, size)
    return result


def _tracks(scene: Scene, rng: np.random.Generator, rows: int, columns: int) -> Field:
    """(rows, columns) about -2..2: where water stands, in the road's own plan: bands along it and puddles.

    Bands are half a metre wide across the road, puddles ten times as long as wide, so both run to the vanishing point.
    """
    per_m, length = 4, 256  # texels
    plan = smooth_noise(rng, length, length, 3 * per_m, octaves=3)
    plan += cv2.resize(smooth_noise(rng, 1, length, 0.6 * per_m, octaves=2), (length, length))
    across, along, z = plan_of(scene, rows, columns)
    map_x, map_y = across * per_m + length // 2, along * (0.1 * per_m)
    seen = cv2.remap(plan, map_x, map_y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT_101)
    return np.asarray(seen * np.clip(40 / z, 0, 1) * np.float32(0.7), np.float32)  # finer than a pixel far away


def plan_of(scene: Scene, rows: int, columns: int) -> tuple[Field, Field, Field]:
    """Where each pixel of a smaller image lies on the road: metres right of the axis, metres ahead, (rows, 1)
    ahead."""
    z = _ahead(scene, rows)
    u = (np.arange(columns, dtype=np.float32)[None] + 0.5) * scene.width / columns - scene.view.centre_px
    across = np.asarray(u * z * np.float32(1 / scene.view.focal_px), np.float32)
    return across, np.asarray(np.broadcast_to(z, across.shape), np.float32), z


def _ahead(scene: Scene, rows: int) -> Field:
    """(rows, 1): how far ahead the road lies at each row of a smaller image, m."""
    z = cv2.resize(np.repeat(scene.ground_m, 2, axis=1), (1, rows))
    return np.asarray(z.reshape(rows, 1), np.float32)


def paved(scene: Scene) -> Field:
    """(H, W) 0..1: ground that is grey and even enough to be road; grass, cars and what lies far on it do not mirror.

    Shadows and their blue count half: road in the shade of trees is road.
    """
    if "paved" not in scene.memo:
        size = (max(1, scene.width // 4), max(1, scene.height // 4))
        small = cv2.resize(scene.image, size, interpolation=cv2.INTER_AREA).astype(np.float32)
        light = cv2.log(small.mean(axis=2) + 8)
        light -= np.float32(0.2) * cv2.resize(sunlight(scene), size, interpolation=cv2.INTER_AREA)
        mean = cv2.blur(light, (3, 3))
        uneven = cv2.blur(light * light, (3, 3)) - mean * mean
        even = np.exp(-np.maximum(uneven, 0) / 0.15**2)
        colours = np.asarray(cv2.GaussianBlur(small, (0, 0), 2.0), np.float32)
        ground = np.asarray(cv2.resize(scene.ground, size, interpolation=cv2.INTER_AREA), np.float32)
        colourless = _as_grey_as_the_road(colours, ground)
        usual = cv2.GaussianBlur(light, (0, 0), max(small.shape[1] / 12, 0.5))
        like_its_surroundings = np.exp(-(((mean - usual) / 0.55) ** 2))  # cars and kerbs stand out from the road
        share = np.asarray(colourless * like_its_surroundings * even, np.float32)
        full = cv2.resize(cv2.blur(share, (3, 3)), (scene.width, scene.height))
        scene.memo["paved"] = np.asarray(scene.ground * full, np.float32)
    return scene.memo["paved"]


def _as_grey_as_the_road(colours: Field, ground: Field) -> Field:
    """(H, W, 3) -> (H, W) 0..1: how close the opponent colours are to the road's, which are the median of the ground's.

    Red - green and their mean - blue, over brightness, within about 0.14; more blue counts half, as the shade's light
    is blue. Trees in haze are grey, but greener.
    """
    red, green, blue = colours[..., 0], colours[..., 1], colours[..., 2]
    bright = (red + green + blue) / 3 + 16
    first, second = (red - green) / bright, ((red + green) / 2 - blue) / bright
    road = ground > 0.8
    if road.any():
        first, second = first - np.median(first[road]), second - np.median(second[road])
    second = np.where(second < 0, 0.5 * second, second)
    return np.asarray(np.exp(-(first * first + second * second) / 0.14**2), np.float32)


def mirrored(scene: Scene, planes: Planes) -> Planes:
    """(3, H / 4, W / 4): what each ground pixel mirrors, smeared along the columns by the road's roughness.

    An upright thing that stands on row c shows at row v what it has at row 2 c - v. So each ground pixel looks up its
    column for the nearest thing that is not road; where that row is road again, it mirrors what is far, 2 v0 - v.
    What would lie above the image is taken from just below the top, where some cameras print the time. The sky counts
    1.4 times: an image clips it.
    """
    rows, columns = max(1, scene.height // 4), max(1, scene.width // 4)
    if "mirror" not in scene.memo:
        scene.memo["mirror"] = _mirror_rows(scene, rows, columns)
    source = scene.memo["mirror"].astype(np.intp)
    length = max(3, round(rows / 24) | 1)
    half = (max(1, scene.width // 2), max(1, scene.height // 2))  # by halves: every pixel counts, and it is fast
    brighter = 1 + np.float32(0.4) * cv2.resize(cv2.resize(scene.sky, half), (columns, rows))
    result = np.empty((3, rows, columns), np.float32)
    for number, plane in enumerate(planes):
        small = cv2.resize(cv2.resize(plane, half), (columns, rows))
        part = np.take(small * brighter, source)
        result[number] = cv2.blur(cv2.blur(part, (5, length)), (3, length))
    return result


def _mirror_rows(scene: Scene, rows: int, columns: int) -> Field:
    """(rows, columns): the flat index of the pixel that each one mirrors, exact in float32 up to 16 million pixels."""
    upright = cv2.resize(paved(scene), (columns, rows), interpolation=cv2.INTER_AREA) < 0.3
    upright &= _widths(upright) > _marking_px(scene, rows, columns)
    row = np.arange(rows)[:, None]
    contact = np.maximum.accumulate(np.where(upright, row, 0), axis=0)
    first, last = int(0.08 * rows), rows - 1
    source = np.clip(2 * contact - row, first, last)
    far = np.clip(np.rint(2 * scene.view.horizon_px * rows / scene.height - row - 1), first, last).astype(np.intp)
    source = np.where(np.take_along_axis(upright, source, axis=0), source, far)
    return np.asarray(source * columns + np.arange(columns), np.float32)


def _marking_px(scene: Scene, rows: int, columns: int) -> Field:
    """(rows, 1): how wide a thing must look that is not a marking: 0.8 m, and the 3 px by which `paved` widens; 0
    above."""
    width = 3 + 0.8 * scene.view.focal_px * columns / scene.width / _ahead(scene, rows)
    below = (np.arange(rows)[:, None] + 0.5) * scene.height / rows > scene.view.horizon_px
    return np.asarray(np.where(below, width, 0), np.float32)


def _widths(mask: npt.NDArray[np.bool_]) -> npt.NDArray[np.intp]:
    """(H, W): the length of the run of set pixels in its row that a pixel belongs to, 0 where it is not set."""
    column = np.arange(mask.shape[1])
    before = np.maximum.accumulate(np.where(mask, -1, column), axis=1)
    after = np.minimum.accumulate(np.where(mask, mask.shape[1], column)[:, ::-1], axis=1)[:, ::-1]
    return np.where(mask, after - before - 1, 0)


def wet_road(scene: Scene, rng: np.random.Generator, *, wetness: float) -> Rgb:
    """After the rain: a covered, uneven sky over a wet road. The air is clear, as on a motorway camera's wet days,
    whose trees keep their colours; `wet_ground` says how the road looks, and `spray` what the traffic throws up from
    it.
    """
    planes = overcast(scene, 0.5 + 0.5 * wetness)
    end = int(np.clip(np.ceil(scene.view.horizon_px), 1, scene.height))
    clouds = smooth_noise(rng, max(1, end // 4), max(1, scene.width // 4), scene.width / 12, octaves=3)
    clouds = np.clip(np.float32(0.12) + np.float32(0.10) * clouds, 0, 0.5) * np.float32(wetness)
    planes[:, :end] *= 1 - scene.sky[:end] * cv2.resize(clouds, (scene.width, end))
    return to_display(wet_ground(scene, planes, rng, wetness))
