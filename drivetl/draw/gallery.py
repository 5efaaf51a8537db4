"""Draw images of a dataset with their annotations and detections."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from drivetl.coco import masks
from drivetl.coco.boxes import xywh_to_xyxy
from drivetl.coco.records import Box, Dataset, ImageRecord, Segmentation
from drivetl.draw.objects import contact_sheet, draw_objects, legend
from drivetl.files.images import Rgb

SHEET_SHAPE = 1.3
"""Width / height of a contact sheet: what a screen shows best."""


@dataclass
class Detections:
    """The detections of one image; all lists have the same length."""

    boxes_xywh: list[Box] = field(default_factory=list)
    category_ids: list[int] = field(default_factory=list)
    scores: list[float] = field(default_factory=list)
    segmentations: list[Segmentation | None] = field(default_factory=list)


def draw_record(
    record: ImageRecord,
    image: Rgb,
    categories: Sequence[str],
    width: int | None = None,
    detections: Detections | None = None,
    file: Path | None = None,
) -> Rgb:
    """(H, W, 3) RGB: one image with its objects, masks and ignore regions, scaled to `width` px when given.

    With detections, labelled objects are dashed without names, and detections are solid with name and score.
    Raises DataError with `file`, the dataset's json, for a mask that does not fit the image.
    """
    objects, regions = record.annotations, record.ignore_regions
    canvas = draw_objects(
        image,
        [xywh_to_xyxy(item.bbox_xywh) for item in objects],
        [item.category_id for item in objects],
        masks=[masks.of_object(item, record, file) for item in objects] if detections is None else None,
        ignore_boxes=[xywh_to_xyxy(item.bbox_xywh) for item in regions],
        ignore_masks=[masks.of_object(item, record, file) for item in regions],
        categories=categories,
        width=width,
        dashed=detections is not None,
        show_labels=detections is None,
    )
    if detections is None:
        return canvas
    scale = canvas.shape[1] / image.shape[1]
    image_height, image_width = image.shape[:2]
    return draw_objects(
        canvas,
        np.array([xywh_to_xyxy(box) for box in detections.boxes_xywh]).reshape(-1, 4) * scale,
        detections.category_ids,
        scores=detections.scores,
        masks=[
            None if item is None else masks.decode(item, image_height, image_width) for item in detections.segmentations
        ],
        categories=categories,
    )


def choose(dataset: Dataset, count: int, seed: int) -> list[ImageRecord]:
    """A random sample of `count` images with each class and an image without objects at least once, if `count` allows.

    In the order of the dataset; reproducible by its seed.
    """
    generator = np.random.default_rng(seed)
    order = [dataset.images[index] for index in generator.permutation(len(dataset.images))]
    kinds: dict[int, int] = {}  # class id, 0 for no objects -> first position in `order`
    for position, image in enumerate(order):
        for number in {item.category_id for item in image.annotations} or {0}:
            kinds.setdefault(number, position)
    rarest_first = [order[position] for position in sorted(kinds.values(), reverse=True)]
    chosen: dict[int, ImageRecord] = {}
    for image in [*rarest_first, *order]:
        if len(chosen) < count:
            chosen.setdefault(image.id, image)
    return [image for image in dataset.images if image.id in chosen]


def columns_of(count: int, ratio: float) -> int:
    """The columns of a sheet of that many tiles of a height / width whose own shape is nearest to SHEET_SHAPE."""

    def distance(columns: int) -> float:
        return abs(math.log(columns / (math.ceil(count / columns) * ratio) / SHEET_SHAPE))

    return min(range(1, count + 1), key=distance, default=1)


def sheet_of(tiles: Sequence[tuple[str, Rgb]], categories: Sequence[str], tile_width: int) -> Rgb:
    """A contact sheet under a legend of the classes. Raises ValueError without tiles."""
    ratio = float(np.mean([image.shape[0] / image.shape[1] for _, image in tiles])) if tiles else 1.0
    sheet = contact_sheet(tiles, columns_of(len(tiles), ratio), tile_width)
    return np.concatenate([legend(categories, sheet.shape[1]), sheet])
