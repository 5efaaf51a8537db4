"""The truth in columns: what every metric reads, made once from a Dataset or from any COCO json."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from drivetl.coco.drives import Drives
from drivetl.coco.records import Annotation, Dataset, IgnoreRegion, Segmentation
from drivetl.errors import DataError

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]
FAR_PX = 1e100
"""No coordinate reaches it: from the square root of the largest float on, a box's area overflows."""


@dataclass(slots=True)
class GroundTruth:
    """Images, classes and objects in columns. Images stand in the order of their ids, as in pycocotools;
    objects are sorted by (class, image) and keep the file's order within that."""

    categories: tuple[str, ...]
    category_ids: Ints
    """(K,) ascending; `category` below indexes it."""
    image_ids: Ints
    """(I,) ascending; `image` below indexes it."""
    image_hw: Ints
    """(I, 2) height and width in px; 0 where unknown."""
    drives: Drives
    """Of the I images."""
    image_attributes: list[dict[str, Any]]
    """(I,) weather, timeofday, ...: whatever the source says."""
    image: Ints
    """(G,)"""
    category: Ints
    """(G,)"""
    boxes_xywh: Floats
    """(G, 4) px."""
    area: Floats
    """(G,) px^2; of the mask where there is one."""
    crowd: Bools
    """(G,) True for ignore regions: a detection inside one counts neither for nor against."""
    attributes: list[dict[str, Any]]
    """(G,)"""
    segmentations: list[Segmentation | None]
    """(G,)"""
    unlabelled: Bools | None = None
    """(I, K) True where nobody labelled that class in that image; None: everything was labelled."""
    file_names: tuple[str, ...] = ()
    """(I,)"""
    group_starts: Ints = field(default_factory=lambda: np.zeros(0, np.int64))
    """(K * I + 1,) objects of class k in image i are [starts[k * I + i], starts[k * I + i + 1])."""

    def __post_init__(self) -> None:
        keys = self.category * len(self.image_ids) + self.image
        self.group_starts = np.searchsorted(keys, np.arange(len(self.category_ids) * len(self.image_ids) + 1)).astype(
            np.int64
        )

    def counts(self, weights: Floats | None = None) -> Floats:
        """(K,) objects per class, ignore regions left out."""
        real = ~self.crowd
        each = None if weights is None else weights[self.image[real]]
        return np.bincount(self.category[real], each, len(self.category_ids)).astype(np.float64)


def from_dataset(dataset: Dataset) -> GroundTruth:
    """Columns of a Dataset; an ignore region stands once per class it holds for, as in its json."""
    images = sorted(dataset.images, key=lambda image: image.id)
    everything = tuple(range(1, len(dataset.categories) + 1))
    rows: list[tuple[int, int, bool, Annotation | IgnoreRegion]] = []
    unlabelled = np.zeros((len(images), len(everything)), bool)
    for number, image in enumerate(images):
        rows.extend((number, item.category_id, False, item) for item in image.annotations)
        for region in image.ignore_regions:
            rows.extend((number, one, True, region) for one in region.category_ids or everything)
        if image.labelled is not None:
            unlabelled[number] = [one not in image.labelled for one in everything]
    return _columns(
        dataset.categories,
        np.asarray(everything, np.int64),
        images={
            "ids": [image.id for image in images],
            "hw": [(image.height, image.width) for image in images],
            "drives": [image.sequence for image in images],
            "attributes": [image.attributes for image in images],
            "names": [image.file_name for image in images],
        },
        image=[row[0] for row in rows],
        category=[row[1] - 1 for row in rows],
        boxes=[row[3].bbox_xywh for row in rows],
        area=[row[3].area for row in rows],
        crowd=[row[2] for row in rows],
        attributes=[row[3].attributes for row in rows],
        segmentations=[row[3].segmentation for row in rows],
        unlabelled=unlabelled if unlabelled.any() else None,
    )


def whole_number(value: object) -> int:
    """An id as an int. Raises ValueError for anything else, 1.7 and text among it, and what needs over 64 bits."""
    if isinstance(value, int | float | np.integer) and int(value) == value and abs(int(value)) < 1 << 63:
        return int(value)
    raise ValueError(f"{value!r} is no whole number of 64 bits")


def from_coco(document: Mapping[str, Any], file: Path | str | None = None) -> GroundTruth:
    """Columns of a COCO ground-truth document, whatever its category ids are (1..90 with gaps included).

    Raises DataError for a missing list, an annotation of an unknown image or class, a box that is not finite.
    """
    try:
        return _from_coco(document)
    except DataError as error:
        raise error.at(file) if file is not None else error from None


_ATTRIBUTES = "write an object of names and values, or leave it out"


def _from_coco(document: Mapping[str, Any]) -> GroundTruth:
    for key in ("images", "annotations", "categories"):
        if not isinstance(document, Mapping) or not isinstance(document.get(key), list):
            raise DataError(
                f"no COCO ground truth: the list `{key}` is missing",
                remedy="--gt wants images, annotations and categories",
            )
    try:
        categories = sorted((whole_number(item["id"]), str(item["name"])) for item in document["categories"])
        images = sorted(document["images"], key=lambda item: whole_number(item["id"]))
        ids = [whole_number(item["id"]) for item in images]
        hw = [(int(item.get("height") or 0), int(item.get("width") or 0)) for item in images]
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
        raise DataError(
            f"an image or category without a usable id or name ({error!r})",
            remedy="every image needs id, width, height; every category id and name",
        ) from None
    for what, given in (("image", ids), ("category", [number for number, _ in categories])):
        if len(set(given)) < len(given):
            twice = next(one for one, other in itertools.pairwise(given) if one == other)
            raise DataError(f"{what} id {twice} comes twice", remedy=f"give every {what} its own id")
    for number, item in zip(ids, images, strict=True):
        if not isinstance(item.get("attributes") or {}, dict):
            raise DataError(
                f"image {number}: attributes {item['attributes']!r} are no names with values", remedy=_ATTRIBUTES
            )
    image_index = {number: index for index, number in enumerate(ids)}
    category_index = {number: index for index, (number, _) in enumerate(categories)}
    annotations = document["annotations"]
    return _columns(
        tuple(name for _, name in categories),
        np.asarray([number for number, _ in categories], np.int64),
        images={
            "ids": ids,
            "hw": hw,
            "drives": [str(item.get("sequence") or "") for item in images],
            "attributes": [dict(item.get("attributes") or {}) for item in images],
            "names": [str(item.get("file_name") or "") for item in images],
        },
        **_annotation_columns(annotations, image_index, category_index),
        segmentations=[item.get("segmentation") or None for item in annotations],
        unlabelled=_unlabelled(images, category_index),
    )


def _annotation_columns(
    annotations: Sequence[Any], images: Mapping[int, int], categories: Mapping[int, int]
) -> dict[str, Any]:
    """What `_columns` wants of the objects: image and category indices, boxes, areas, crowds and attributes.

    Raises DataError naming the first record that is broken.
    """
    try:
        image = [images[item["image_id"]] for item in annotations]
        category = [categories[item["category_id"]] for item in annotations]
        boxes = np.asarray([item["bbox"] for item in annotations], np.float64).reshape(-1, 4)
        crowd = [item.get("iscrowd") for item in annotations]
        area = [
            float(item["area"]) if item.get("area") is not None else float(item["bbox"][2] * item["bbox"][3])
            for item in annotations
        ]
        finite = (np.abs(boxes) < FAR_PX).all() and np.isfinite(area).all()
        attributes = [item.get("attributes") or {} for item in annotations]
        sound = len(boxes) == len(annotations) and bool(finite)
        sound = sound and set(crowd) <= {None, 0, 1} and set(map(type, attributes)) <= {dict}
    except (KeyError, TypeError, ValueError, AttributeError, IndexError, OverflowError):
        sound = False
    if not sound or (boxes[:, 2:] < 0).any():
        raise _first_broken(annotations, images, categories)
    return {
        "image": image,
        "category": category,
        "boxes": boxes,
        "area": area,
        "crowd": list(map(bool, crowd)),
        "attributes": attributes,
    }


def _first_broken(annotations: Sequence[Any], images: Mapping[int, int], categories: Mapping[int, int]) -> DataError:
    for position, item in enumerate(annotations):
        try:
            x, y, w, h = (float(side) for side in item["bbox"])
            area = float(item["area"]) if item.get("area") is not None else w * h
            image_id, category_id = whole_number(item["image_id"]), whole_number(item["category_id"])
        except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
            return DataError(
                f"annotations[{position}] is incomplete ({error!r})", remedy="it needs image_id, category_id, bbox"
            )
        if image_id not in images or category_id not in categories:
            what = f"image_id {image_id}" if image_id not in images else f"category_id {category_id}"
            return DataError(f"annotations[{position}]: {what} is not listed", remedy="list it or drop the box")
        if item.get("iscrowd") not in (None, 0, 1):
            return DataError(
                f"annotations[{position}]: iscrowd {item['iscrowd']!r} is not 0 or 1",
                remedy="write 0 for an object, 1 for a crowd",
            )
        if not isinstance(item.get("attributes") or {}, dict):
            return DataError(
                f"annotations[{position}]: attributes {item['attributes']!r} are no names with values",
                remedy=_ATTRIBUTES,
            )
        if not np.isfinite(area) or not max(map(abs, (x, y, w, h))) < FAR_PX or w < 0 or h < 0:
            return DataError(
                f"annotations[{position}]: bbox {[x, y, w, h]} or area {area} is endless or has a negative size",
                remedy="boxes are x, y, width, height",
            )
    return DataError("annotations of mixed types", remedy="numbers must be numbers, not text")


def _unlabelled(images: Sequence[Mapping[str, Any]], categories: Mapping[int, int]) -> Bools | None:
    if all(item.get("labelled") is None for item in images):
        return None
    table = np.zeros((len(images), len(categories)), bool)
    for row, item in zip(table, images, strict=True):
        if item.get("labelled") is not None:
            row[:] = True
            row[[categories[one] for one in item["labelled"] if one in categories]] = False
    return table


def _columns(
    categories: tuple[str, ...],
    category_ids: Ints,
    *,
    images: Mapping[str, list[Any]],
    image: list[int],
    category: list[int],
    boxes: list[Any] | Floats,
    area: list[float],
    crowd: list[bool],
    attributes: list[dict[str, Any]],
    segmentations: list[Segmentation | None],
    unlabelled: Bools | None,
) -> GroundTruth:
    image_column, category_column = np.asarray(image, np.int64), np.asarray(category, np.int64)
    order = np.lexsort((np.arange(len(image)), image_column, category_column))
    return GroundTruth(
        categories,
        category_ids,
        np.asarray(images["ids"], np.int64),
        np.asarray(images["hw"], np.int64).reshape(-1, 2),
        Drives(tuple(images["drives"])),
        images["attributes"],
        image_column[order],
        category_column[order],
        np.asarray(boxes, np.float64).reshape(-1, 4)[order],
        np.asarray(area, np.float64)[order],
        np.asarray(crowd, bool)[order],
        [attributes[index] for index in order],
        [segmentations[index] for index in order],
        unlabelled,
        tuple(images["names"]),
    )
