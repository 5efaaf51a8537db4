"""Ground truth in columns, the input of every metric: from a Dataset or from any COCO document."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from drivetl.coco import rules
from drivetl.coco.columns import annotation_columns
from drivetl.coco.drives import Drives
from drivetl.coco.records import Annotation, Dataset, IgnoreRegion, Segmentation
from drivetl.errors import DataError

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]


@dataclass(slots=True)
class GroundTruth:
    """Images, classes and objects in columns.

    Images are sorted by id, as in pycocotools; objects by (class, image), in the file's order within these.
    """

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
    """(I,) weather, timeofday, ...: what the source has."""
    image: Ints
    """(G,)"""
    category: Ints
    """(G,)"""
    boxes_xywh: Floats
    """(G, 4) px."""
    area: Floats
    """(G,) px^2; of the mask where there is one."""
    crowd: Bools
    """(G,) True for ignore regions: a detection inside one is neither right nor wrong."""
    attributes: list[dict[str, Any]]
    """(G,)"""
    segmentations: list[Segmentation | None]
    """(G,)"""
    unlabelled: Bools | None = None
    """(I, K) True where that class is not labelled in that image; None: everything is labelled."""
    file_names: tuple[str, ...] = ()
    """(I,)"""
    file: Path | str | None = None
    """Where it was read from, for errors."""
    group_starts: Ints = field(default_factory=lambda: np.zeros(0, np.int64))
    """(K * I + 1,) objects of class k in image i are [starts[k * I + i], starts[k * I + i + 1])."""

    def __post_init__(self) -> None:
        keys = self.category * len(self.image_ids) + self.image
        self.group_starts = np.searchsorted(keys, np.arange(len(self.category_ids) * len(self.image_ids) + 1)).astype(
            np.int64
        )

    def counts(self, weights: Floats | None = None) -> Floats:
        """(K,) number of objects per class, ignore regions left out; weights: (I,) of the images."""
        real = ~self.crowd
        of_object = None if weights is None else weights[self.image[real]]
        return np.bincount(self.category[real], of_object, len(self.category_ids)).astype(np.float64)


def from_dataset(dataset: Dataset) -> GroundTruth:
    """Columns of a Dataset; an ignore region is repeated for each class it applies to, as in its json."""
    images = sorted(dataset.images, key=lambda image: image.id)
    all_ids = tuple(range(1, len(dataset.categories) + 1))
    rows: list[tuple[int, int, bool, Annotation | IgnoreRegion]] = []
    unlabelled = np.zeros((len(images), len(all_ids)), bool)
    for number, image in enumerate(images):
        rows.extend((number, item.category_id, False, item) for item in image.annotations)
        for region in image.ignore_regions:
            rows.extend((number, category, True, region) for category in region.category_ids or all_ids)
        if image.labelled is not None:
            unlabelled[number] = [category not in image.labelled for category in all_ids]
    truth = _columns(
        dataset.categories,
        np.asarray(all_ids, np.int64),
        images={
            "ids": [image.id for image in images],
            "hw": [(image.height, image.width) for image in images],
            "drives": [image.drive for image in images],
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
    truth.file = dataset.file
    return truth


def from_coco(document: Mapping[str, Any], file: Path | str | None = None) -> GroundTruth:
    """Columns of a COCO ground-truth document with any category ids (1..90 with gaps, for example).

    Raises DataError for a missing list, an annotation of an unknown image or class, a box that is not finite.
    """
    try:
        truth = _from_coco(document)
    except DataError as error:
        raise error.at(file) if file is not None else error from None
    truth.file = file
    return truth


def _from_coco(document: Mapping[str, Any]) -> GroundTruth:
    image_records, annotations, category_records = rules.lists(document)
    categories = rules.each("categories", category_records, rules.category)
    rules.unique("category", [number for number, _ in categories])
    categories.sort()
    category_index = {number: index for index, (number, _) in enumerate(categories)}
    images = rules.each("images", image_records, lambda record: _image(record, category_index))
    rules.unique("image", [image.id for image in images])
    images.sort(key=lambda image: image.id)
    image_index = {image.id: index for index, image in enumerate(images)}
    columns = annotation_columns(annotations, image_index, category_index)
    return _columns(
        tuple(name for _, name in categories),
        np.asarray([number for number, _ in categories], np.int64),
        images={
            "ids": [image.id for image in images],
            "hw": [image.hw for image in images],
            "drives": [image.drive for image in images],
            "attributes": [image.attributes for image in images],
            "names": [image.file_name for image in images],
        },
        image=[image_index[number] for number in columns.image_ids],
        category=[category_index[number] for number in columns.category_ids],
        boxes=np.asarray(columns.boxes, np.float64).reshape(-1, 4),
        area=columns.areas,
        crowd=columns.crowd,
        attributes=columns.attributes,
        segmentations=columns.segmentations,
        unlabelled=_unlabelled([image.labelled for image in images], category_index),
    )


class _Image(NamedTuple):
    id: int
    hw: tuple[int, int]
    drive: str
    attributes: dict[str, Any]
    file_name: str
    labelled: tuple[int, ...] | None


def _image(record: object, categories: Mapping[int, int]) -> _Image:
    fields = rules.record(record)
    width, height = rules.size_or_unknown(fields)
    return _Image(
        rules.integer_id(fields),
        (height, width),
        rules.drive(fields),
        dict(rules.attributes(fields.get("attributes"))),
        "" if fields.get("file_name") is None else rules.file_name(fields),
        rules.labelled(fields, categories) if isinstance(fields.get("labelled"), list) else None,
    )


def _unlabelled(labelled: Sequence[Sequence[int] | None], categories: Mapping[int, int]) -> Bools | None:
    if all(ids is None for ids in labelled):
        return None
    table = np.zeros((len(labelled), len(categories)), bool)
    for row, ids in zip(table, labelled, strict=True):
        if ids is not None:
            row[:] = True
            row[[categories[number] for number in ids]] = False
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
