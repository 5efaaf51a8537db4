"""Lamps of other vehicles, where boxes say that vehicles are: what shines, and the road that it lights."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

from drivetl.conditions.lamps import HEADLIGHT, red_places
from drivetl.conditions.optics import Boxes, Field, Planes, uniform
from drivetl.conditions.scene import Scene

Row = npt.NDArray[np.float32]
Which = npt.NDArray[np.bool_]
TAIL = np.array([0.45, 0.025, 0.02], np.float32)
"""Tail lamps."""


@dataclass(frozen=True)
class Lamps:
    """The lamps of N vehicles; each has two, or one in two places."""

    x: npt.NDArray[np.float32]
    """(N, 2) px."""
    y: npt.NDArray[np.float32]
    """(N, 2) px."""
    radius: Row
    """(N,) px."""
    red: Which
    """(N, 2) tail lamp or head lamp."""
    power: npt.NDArray[np.float32]
    """(N, 2) 0..1; 0: not lit, hidden or not there."""
    face: Boxes
    """(N, 4) xyxy px: the end of the vehicle that is seen."""


def vehicle_lamps(scene: Scene, rng: np.random.Generator) -> tuple[npt.NDArray[np.float32], Planes]:
    """The lamps of the known vehicles, (H / 2, W / 2, 3), and their light on the road, (3, H / 2, W / 2), 1 at most.

    Both zero where no vehicle is known. `placed` says where a vehicle's lamps are.
    """
    lamps = placed(scene, rng)
    rows, columns = max(1, scene.height // 2), max(1, scene.width // 2)
    if not lamps.power.any():
        return np.zeros((rows, columns, 3), np.float32), np.zeros((3, rows, columns), np.float32)
    layers = np.zeros((2, rows, columns), np.uint8)  # head lamps, tail lamps
    scale = (columns / scene.width, rows / scene.height)
    for index, end in np.argwhere(lamps.power > 0):
        x, y = (scale[0] * lamps.x[index, end] - 0.5, scale[1] * lamps.y[index, end] - 0.5)
        radius = max(0.5, scale[0] * float(lamps.radius[index]))
        layer, power = layers[int(lamps.red[index, end])], round(255 * float(lamps.power[index, end]))
        cv2.circle(layer, (round(16 * x), round(16 * y)), round(16 * radius), power, -1, cv2.LINE_AA, 4)
    pools = np.zeros((2, max(1, rows // 2), max(1, columns // 2)), np.float32)
    for index in np.flatnonzero(lamps.power.max(axis=1) > 0):
        red = int(lamps.red[index, 0])
        _light_road(pools[red], lamps.face[index] / 4, (1.0, 0.5)[red], float(lamps.power[index].max()))
    heads, tails = layers.astype(np.float32) * np.float32(1 / 255)
    spots = heads[..., None] * HEADLIGHT + tails[..., None] * TAIL
    white, red_light = (np.asarray(cv2.resize(pool, (columns, rows)), np.float32) for pool in pools)
    return spots, np.stack([white * HEADLIGHT[n] + red_light * (TAIL[n] / 4) for n in range(3)])


def placed(scene: Scene, rng: np.random.Generator) -> Lamps:
    """Where the lamps of the vehicles are, from nothing but their boxes, the image and the seed.

    - The end that is seen is as wide as the box, at most 1.3 times its height; in a longer box it is at the side
      away from the vanishing point, where the nearer end of a vehicle is. It is 1.8 m wide, 2.5 m if it is higher than
      wide, 0.8 m if it is half as wide as high (a motorcycle, with one lamp).
    - It is the rear where the image shows red lamps in it, otherwise by the rule of the road: vehicles right of the
      vanishing point drive away, those left of it come.
    - Two lamps stand 0.36 of its width from its middle, head lamps 0.7 m and tail lamps 0.85 m above the ground, always
      in the lower half of the box.
    - A box more than 2.2 times as long as high is a vehicle from the side: one lamp of each kind at its ends, dim.
    - What lies in the box of a nearer vehicle (one that stands lower in the image) is hidden.
    - Three in ten vehicles are dark, as parked ones are: a lamp says that a vehicle is there, its absence nothing.
    """
    boxes = _seen(scene)
    wide, high = boxes[:, 2] - boxes[:, 0], boxes[:, 3] - boxes[:, 1]
    draws = uniform(rng, max(len(boxes), 1), 2)[: len(boxes)]
    right = (boxes[:, 0] + boxes[:, 2]) / 2 > scene.view.centre_px
    end = np.minimum(wide, 1.3 * high)
    left = np.where(right, boxes[:, 2] - end, boxes[:, 0])
    lorry, single, aside = high > 1.05 * end, end < 0.55 * high, wide > 2.2 * high
    per_m = end / np.where(single, 0.8, np.where(lorry, 2.5, 1.8))
    per_m = np.where(aside, high / 1.5, per_m)
    rear = _shows_red(scene, boxes) | right
    red = np.stack([rear, rear], axis=1)
    offset = np.stack([0.5 - 0.36 * ~single, 0.5 + 0.36 * ~single], axis=1)
    x = left[:, None] + offset * end[:, None]
    x = np.where(aside[:, None], boxes[:, [0, 2]] + np.array([0.04, -0.04]) * wide[:, None], x)
    first = draws[:, 1] < 0.5
    red = np.where(aside[:, None], np.stack([first, ~first], axis=1), red)
    y = boxes[:, 3:] - np.minimum(np.where(red, 0.85, 0.7) * per_m[:, None], 0.48 * high[:, None])
    power = np.where(draws[:, :1] < 0.7, np.where(aside[:, None], 0.35, 1.0), 0) * ~_hidden(x, y, boxes)
    power[:, 1] *= ~single
    face = np.stack([left, boxes[:, 1], left + end, boxes[:, 3]], axis=1)
    as32 = (np.asarray(part, np.float32) for part in (x, y, 0.075 * per_m, power, face))
    x, y, radius, power, face = as32
    return Lamps(x, y, radius, np.asarray(red, np.bool_), power, face)


def _seen(scene: Scene) -> Boxes:
    """(N, 4) the vehicles' boxes as far as they lie in the image; without those below 4 px, which show no lamps."""
    known = np.zeros((0, 4), np.float32) if scene.vehicles is None else scene.vehicles
    boxes = np.clip(known, 0, np.array([scene.width, scene.height] * 2, np.float32))
    return np.asarray(boxes[np.all(boxes[:, 2:] - boxes[:, :2] >= 4, axis=1)], np.float32)


def _shows_red(scene: Scene, boxes: Boxes) -> Which:
    """(N,) whether 0.3 to 15 % of a box is red: lamps are, a red vehicle is more of it."""
    if not len(boxes):
        return np.zeros(0, np.bool_)
    total = cv2.integral(red_places(scene))
    scale = np.array([(total.shape[1] - 1) / scene.width, (total.shape[0] - 1) / scene.height] * 2)
    x1, y1, x2, y2 = np.rint(boxes * scale).astype(int).T
    inside = total[y2, x2] - total[y1, x2] - total[y2, x1] + total[y1, x1]
    share = inside / np.maximum((x2 - x1) * (y2 - y1), 1)
    return np.asarray((share > 0.003) & (share < 0.15), np.bool_)


def _hidden(x: npt.NDArray[np.floating], y: npt.NDArray[np.floating], boxes: Boxes) -> Which:
    """(N, 2) whether each lamp lies in the box of a vehicle whose lower edge is lower by a twentieth of its height."""
    nearer = boxes[None, :, 3] > boxes[:, None, 3] + 0.05 * (boxes[None, :, 3] - boxes[None, :, 1])
    inside = (
        (x[:, None, :] > boxes[None, :, 0, None])
        & (x[:, None, :] < boxes[None, :, 2, None])
        & (y[:, None, :] > boxes[None, :, 1, None])
        & (y[:, None, :] < boxes[None, :, 3, None])
    )
    return np.asarray((inside & nearer[:, :, None]).any(axis=1), np.bool_)


def _light_road(pool: Field, face: Row, reach: float, power: float) -> None:
    """Add the light that a vehicle throws on the road before it, in place: a patch below its box, `reach` box heights
    long."""
    x1, y1, x2, y2 = (float(value) for value in face)
    wide, long = max(0.7 * (x2 - x1), 1.0), max(0.5 * reach * (y2 - y1), 1.0)
    middle, row = (x1 + x2) / 2, y2 + 0.6 * long
    first, last = max(0, int(row - 2 * long)), min(len(pool), int(row + 2 * long) + 1)
    begin, end = max(0, int(middle - 2 * wide)), min(pool.shape[1], int(middle + 2 * wide) + 1)
    if first >= last or begin >= end:
        return
    down = (np.arange(first, last, dtype=np.float32) + np.float32(0.5 - row)) / np.float32(long)
    across = (np.arange(begin, end, dtype=np.float32) + np.float32(0.5 - middle)) / np.float32(wide)
    patch = np.float32(power) * np.exp(-down * down)[:, None] * np.exp(-across * across)
    np.maximum(pool[first:last, begin:end], patch, out=pool[first:last, begin:end])
