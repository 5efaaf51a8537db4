"""What a flip, a crop, a border or another scale does to labels: all of them move with the image."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from drivetl.data.sample import Sample

Compose = Callable[..., dict[str, Any]]
"""An albumentations.Compose of transforms that keep the scale, with boxes in pascal_voc format and `ids` as labels."""

MIN_SIDE_PX = 2.0
"""A cut object is kept only if what is left of it is at least this wide and high."""


def move(sample: Sample, transform: Compose, min_visibility: float) -> Sample:
    """The sample under a transform that keeps the scale.

    Boxes are clipped to the image; where a mask was cut, the box is shrunk to what is left of the mask. An object of
    which less than `min_visibility` is left becomes an ignore region without a mask row: a sliver is neither an object
    to train on nor background. Objects entirely outside the image are removed.
    """
    n_objects, n_labels = len(sample.boxes), len(sample.boxes) + len(sample.ignore_boxes)
    vehicles = np.zeros((0, 4), np.float32) if sample.vehicles is None else sample.vehicles
    before = np.concatenate([sample.boxes, sample.ignore_boxes, vehicles]).reshape(-1, 4)
    targets: dict[str, Any] = {"image": sample.image, "bboxes": before, "ids": np.arange(len(before))}
    if sample.masks is not None and n_objects:
        targets["masks"] = sample.masks
    if sample.depth is not None:
        targets["depth"] = sample.depth
    moved = transform(**targets)
    ids = np.asarray(moved["ids"], np.int64).reshape(-1)
    boxes = np.asarray(moved["bboxes"], np.float32).reshape(-1, 4)
    ids, boxes = ids[np.argsort(ids)], boxes[np.argsort(ids)]
    vehicles, ids, boxes = boxes[ids >= n_labels], ids[ids < n_labels], boxes[ids < n_labels]
    left = _area(boxes) / np.maximum(_area(before[ids]), 1e-6)
    is_object = ids < n_objects
    kept = is_object & (left >= min_visibility) & np.all(boxes[:, 2:] - boxes[:, :2] >= MIN_SIDE_PX, axis=1)
    result = Sample(
        np.ascontiguousarray(moved["image"]),
        boxes[kept],
        sample.labels[ids[kept]],
        boxes[~kept],
        sample.image_id,
        labelled=sample.labelled,
        depth=moved.get("depth"),
        vehicles=None if sample.vehicles is None else vehicles,
    )
    if sample.masks is not None and sample.has_mask is not None:
        height, width = result.image.shape[:2]
        masks = np.asarray(moved["masks"], np.uint8) if n_objects else np.zeros((0, height, width), np.uint8)
        result.masks, result.has_mask = masks[ids[kept]], sample.has_mask[ids[kept]]
        _follow_masks(result, np.flatnonzero(left[kept] < 1 - 1e-4))
    return result


def rescale(sample: Sample, factor: float, place: tuple[float, float], *, border: int, min_visibility: float) -> Sample:
    """The sample at `factor` times the scale for a network that resizes every image to one size.

    Below 1 it is shrunk (`shrink`), above 1 it is the part of the image that has 1 / `factor` of its width and height,
    at its own resolution, which the resize enlarges. place: 0..1, how much of the free width is on the left and how
    much of the free height above.
    """
    if factor <= 1:
        return shrink(sample, factor, place, border) if factor < 1 else replace(sample)
    height, width = sample.image.shape[:2]
    size = (max(1, round(width / factor)), max(1, round(height / factor)))
    corner = (round(place[0] * (width - size[0])), round(place[1] * (height - size[1])))
    return move(sample, _window(corner, size), min_visibility)


def _window(corner: tuple[int, int], size: tuple[int, int]) -> Compose:
    """What cuts the window (x, y), (width, height) out; boxes outside it are left out."""
    (x, y), (width, height) = corner, size

    def cut(bboxes: npt.NDArray[np.float32], ids: npt.NDArray[np.int64], **arrays: npt.NDArray[Any]) -> dict[str, Any]:
        boxes = np.clip(bboxes - np.array([x, y, x, y], np.float32), 0, [width, height, width, height])
        inside = np.all(boxes[:, 2:] > boxes[:, :2], axis=1)
        cropped: dict[str, Any] = {"bboxes": boxes[inside], "ids": ids[inside]}
        for name, array in arrays.items():
            rows = (slice(y, y + height), slice(x, x + width))
            cropped[name] = np.ascontiguousarray(array[:, *rows] if name == "masks" else array[rows])
        return cropped

    return cut


def shrink(sample: Sample, factor: float, place: tuple[float, float], border: int) -> Sample:
    """The sample at `factor` <= 1 of its size inside an image of the same size; the rest has the grey value `border`.

    place: 0..1, how much of the free width is left of it and how much of the free height above it. An object that
    becomes too small to train on becomes an ignore region. Depth stays in metres, as with a wider lens; the border's is
    unknown (0).
    """
    height, width = sample.image.shape[:2]
    size = (max(1, round(factor * width)), max(1, round(factor * height)))
    corner = (round(place[0] * (width - size[0])), round(place[1] * (height - size[1])))
    scale, offset = np.tile(np.divide(size, (width, height)), 2), np.tile(corner, 2)
    boxes = (sample.boxes * scale + offset).astype(np.float32)
    kept = np.all(boxes[:, 2:] - boxes[:, :2] >= MIN_SIDE_PX, axis=1)
    regions = (sample.ignore_boxes * scale + offset).astype(np.float32)
    image = np.full_like(sample.image, border)
    inside = (slice(corner[1], corner[1] + size[1]), slice(corner[0], corner[0] + size[0]))
    image[inside] = cv2.resize(sample.image, size, interpolation=cv2.INTER_AREA)
    result = replace(sample, image=image, boxes=boxes[kept], labels=sample.labels[kept])
    result.ignore_boxes = np.concatenate([regions, boxes[~kept]])
    if sample.vehicles is not None:
        result.vehicles = (sample.vehicles * scale + offset).astype(np.float32)
    if sample.depth is not None:
        result.depth = _placed(sample.depth, size, inside)
    if sample.masks is not None and sample.has_mask is not None:
        masks = [_placed(mask, size, inside) for mask, keep in zip(sample.masks, kept, strict=True) if keep]
        result.masks = np.stack(masks) if masks else np.zeros((0, height, width), np.uint8)
        # a thin mask may fall between the pixels: the object is then known by its box alone
        result.has_mask = sample.has_mask[kept] & result.masks.any(axis=(1, 2))
    return result


def _placed(values: npt.NDArray[Any], size: tuple[int, int], inside: tuple[slice, slice]) -> npt.NDArray[Any]:
    """(H, W) values or flags at another size in a place of an empty array: the nearest, never a mean."""
    result = np.zeros_like(values)
    result[inside] = cv2.resize(values, size, interpolation=cv2.INTER_NEAREST_EXACT)
    return result


def _area(boxes: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    return np.asarray((boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1]), np.float32)


def _follow_masks(sample: Sample, cut: npt.NDArray[np.int64]) -> None:
    """Shrink the boxes of cut objects to their masks' bounds, in place; objects whose mask is gone become ignore
    regions."""
    assert sample.masks is not None and sample.has_mask is not None
    lost = np.zeros(len(sample.boxes), np.bool_)
    for index in cut[sample.has_mask[cut]]:
        rows, columns = (sample.masks[index].any(axis=1).nonzero()[0], sample.masks[index].any(axis=0).nonzero()[0])
        if len(rows) < MIN_SIDE_PX or len(columns) < MIN_SIDE_PX:
            lost[index] = True
            continue
        bounds = np.array([columns[0], rows[0], columns[-1] + 1, rows[-1] + 1], np.float32)
        low, high = (np.maximum(sample.boxes[index][:2], bounds[:2]), np.minimum(sample.boxes[index][2:], bounds[2:]))
        if np.all(high - low >= MIN_SIDE_PX):
            sample.boxes[index] = np.concatenate([low, high])
    if lost.any():
        sample.ignore_boxes = np.concatenate([sample.ignore_boxes, sample.boxes[lost]])
        sample.boxes, sample.labels = sample.boxes[~lost], sample.labels[~lost]
        sample.masks, sample.has_mask = sample.masks[~lost], sample.has_mask[~lost]
