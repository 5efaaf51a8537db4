"""The first batch of a training as an image, so that a wrong box is seen before an epoch is spent."""

from __future__ import annotations

import numpy as np
from torch import Tensor

from drivetl.data.sampling import EpochBatches, Streams
from drivetl.draw.gallery import sheet_of
from drivetl.draw.objects import draw_objects, jpeg
from drivetl.files.images import Rgb
from drivetl.training.loop import STREAMS

MOST_TILES = 16
TILE_PX = 800
"""Width of a tile at most; narrower images keep their size."""


def first_batch(data: Streams, batches: EpochBatches, categories: tuple[str, ...]) -> bytes:
    """A JPEG of the first batch (16 images of it at most) as the loader will give it: augmented, before the network's
    resize, with boxes, masks and ignore regions.

    Reads the samples by their items, so that neither the loader nor a random state is touched. `batches` must be at the
    beginning of an epoch. Raises DataError for an image that cannot be read.
    """
    names = {part.stream: {image.id: image.file_name for image in part.images} for part in data.parts}
    samples = [data[item] for item in next(iter(batches))[:MOST_TILES]]
    width = min(TILE_PX, max(image.shape[2] for image, _ in samples))
    tiles = []
    for image, target in samples:
        stream = int(target.get("stream", 0))
        title = names[stream][int(target["image_id"])] + STREAMS[stream]
        tiles.append((title, draw_sample(image, target, categories, width)))
    return jpeg(sheet_of(tiles, categories, width))


def draw_sample(image: Tensor, target: dict[str, Tensor], categories: tuple[str, ...], width: int) -> Rgb:
    """(H, W, 3) RGB: a (3, H, W) uint8 image with its target, scaled to `width` px."""
    masks = target["masks"].numpy() if "masks" in target else None
    return draw_objects(
        np.ascontiguousarray(image.numpy().transpose(1, 2, 0)),
        target["boxes"].numpy(),
        target["labels"].tolist(),
        masks=None if masks is None else [mask if mask.any() else None for mask in masks],
        ignore_boxes=target["ignore_boxes"].numpy(),
        categories=categories,
        width=width,
    )
