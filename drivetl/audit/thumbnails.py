"""Images for the audit page: the boxes of findings with their surroundings, and a gallery.

The JSON may be invalid, so anything that cannot be drawn is left out.
"""

from __future__ import annotations

from collections import defaultdict
from functools import lru_cache
from pathlib import Path

import numpy as np

from drivetl.audit.findings import Example, spread
from drivetl.audit.masks import decoded
from drivetl.audit.tables import Ints, Tables
from drivetl.coco.masks import Mask
from drivetl.draw.objects import draw_objects
from drivetl.draw.palette import Colour
from drivetl.errors import DataError
from drivetl.files.images import Rgb, read_rgb
from drivetl.files.paths import safe_relative

_MARKED: Colour = (255, 45, 85)
_OTHERS: Colour = (235, 235, 235)
_ASPECT = 16 / 9


class Drawer:
    """Draws the images of one dataset with their annotations."""

    def __init__(self, tables: Tables):
        self.tables = tables
        order = np.argsort(tables.image_rows, kind="stable")
        self._order, self._sorted = order, tables.image_rows[order]

    def annotations_of(self, image_row: int) -> Ints:
        """(n,) rows of the image's annotations."""
        first, last = np.searchsorted(self._sorted, [image_row, image_row + 1])
        return self._order[first:last]

    def whole(self, image_row: int, width: int) -> Rgb | None:
        """(H, W, 3) image with all annotations, `width` px wide; None if it cannot be read."""
        image = self._read(image_row)
        if image is None:
            return None
        tables = self.tables
        rows = self.annotations_of(image_row)
        objects, regions = rows[~tables.crowd[rows]], _one_per_region(tables, rows[tables.crowd[rows]])
        return draw_objects(
            image,
            tables.boxes_xyxy[objects],
            [tables.name(number) for number in tables.category_ids[objects]],
            masks=[self._mask(row, image) for row in objects],
            ignore_boxes=tables.boxes_xyxy[regions],
            ignore_masks=[self._mask(row, image) for row in regions],
            categories=tables.class_names(),
            width=width,
        )

    def example(self, example: Example, width: int) -> Rgb | None:
        """An example of a finding: the whole image, or a crop around its box with the box marked."""
        if example.annotation_row < 0:
            return self.whole(example.image_row, width) if example.image_row >= 0 else None
        box = self.tables.boxes_xyxy[example.annotation_row]
        image = self._read(example.image_row) if example.image_row >= 0 else None
        if image is None or not np.isfinite(box).all():
            return None
        x, y, w, h = crop_window(box, image.shape[1], image.shape[0])
        crop = np.ascontiguousarray(image[y : y + h, x : x + w])
        rows = self.annotations_of(example.image_row)
        others = rows[(rows != example.annotation_row) & ~self.tables.crowd[rows]]
        regions = _one_per_region(self.tables, rows[self.tables.crowd[rows]])
        shift = np.array([x, y, x, y])
        crop = draw_objects(
            crop,
            self.tables.boxes_xyxy[others] - shift,
            [""] * len(others),
            colours=[_OTHERS] * len(others),
            ignore_boxes=self.tables.boxes_xyxy[regions] - shift,
            width=width,
            show_labels=False,
        )
        name = self.tables.name(self.tables.category_ids[example.annotation_row])
        return draw_objects(crop, [(box - shift) * width / w], [name], colours=[_MARKED])

    def gallery_rows(self, limit: int, seed: int) -> list[int]:
        """Rows of random images in dataset order; every class is shown at least once where possible."""
        tables = self.tables
        generator = np.random.default_rng(seed)
        chosen: list[int] = []
        objects = np.flatnonzero(tables.objects())
        for number in sorted(tables.names):
            images = np.unique(tables.image_rows[objects[tables.category_ids[objects] == number]])
            if len(images) and not np.isin(images, chosen).any() and len(chosen) < limit:
                chosen.append(int(generator.choice(images)))
        rest = np.setdiff1d(np.arange(len(tables.image_records)), chosen)
        more = generator.permutation(rest)[: max(0, limit - len(chosen))]
        return sorted([*chosen, *(int(row) for row in more)])

    def _read(self, image_row: int) -> Rgb | None:
        try:
            return _read(self.tables.images_root / safe_relative(self.tables.file_names[image_row]))
        except DataError:
            return None

    def _mask(self, row: int, image: Rgb) -> Mask | None:
        record = self.tables.annotation_records[row]
        return decoded(record.get("segmentation"), image.shape[1], image.shape[0]) if record else None


@lru_cache(maxsize=8)
def _read(path: Path) -> Rgb:
    return read_rgb(path)


def _one_per_region(tables: Tables, rows: Ints) -> Ints:
    """An ignore region has one annotation per category in the JSON but is drawn only once."""
    boxes: dict[tuple[float, ...], list[int]] = defaultdict(list)
    for row in rows:
        boxes[tuple(tables.boxes_xywh[row])].append(int(row))
    return np.array([group[0] for group in boxes.values()], np.int64)


def crop_window(box: Ints, width: int, height: int) -> tuple[int, int, int, int]:
    """(x, y, w, h) px of the crop around a box: three times its width or more, at least a sixth of the image width."""
    centre = np.clip([(box[0] + box[2]) / 2, (box[1] + box[3]) / 2], 0, [width, height])
    sides = np.clip(np.abs([box[2] - box[0], box[3] - box[1]]), 1, [width, height])
    w = max(sides[0] * 3, sides[1] * 2.2 * _ASPECT, width / 6, 96)
    w = round(min(w, width, height * _ASPECT))
    h = max(1, round(w / _ASPECT))
    x = int(np.clip(centre[0] - w / 2, 0, width - w))
    y = int(np.clip(centre[1] - h / 2, 0, max(0, height - h)))
    return x, y, w, min(h, height)


def example_images(drawer: Drawer, examples: list[Example], limit: int, width: int) -> list[tuple[Example, Rgb]]:
    """At most `limit` examples that can be drawn, each with its (H, W, 3) image."""
    drawable = [example for example in examples if example.image_row >= 0]
    drawn = []
    for index in spread(range(len(drawable)), limit):
        image = drawer.example(drawable[index], width)
        if image is not None:
            drawn.append((drawable[index], image))
    return drawn
