"""Writing the COCO dataset json: byte-identical when written twice, one record per line. `io` reads it."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import orjson

from drivetl import __version__
from drivetl.coco.records import Annotation, Dataset, IgnoreRegion, ImageRecord
from drivetl.errors import DataError
from drivetl.files.write import write_atomically

SCHEMA_VERSION = 1
_OPTIONS = orjson.OPT_SORT_KEYS | orjson.OPT_SERIALIZE_NUMPY


def write_dataset(dataset: Dataset, path: Path) -> None:
    """Write a dataset atomically. The images root is stored relative to the json if possible."""
    write_atomically(path, b"".join(encode_datasets({"": dataset}, path.parent)[""]))


class Lines:
    """The lines of images and their annotations, encoded image by image; annotations are numbered from 1."""

    def __init__(self, n_classes: int):
        self.everything = tuple(range(1, n_classes + 1))
        self.number = 1
        self.of: dict[int, tuple[bytes, bytes]] = {}
        """image id -> (its line, its annotations' lines)"""
        nowhere = (0.0, 0.0, 0.0, 0.0)
        self._placeholders = [Annotation(category_id, nowhere, 0.0) for category_id in (0, *self.everything)]
        self._region = IgnoreRegion(nowhere, 0.0)

    def add(self, image: ImageRecord) -> None:
        """Encode one image. Raises DataError with its name for values that JSON cannot represent."""
        try:
            lines = [_encode_annotations(image, self.number)] if image.annotations else []
            self.number += len(image.annotations)
            indices = _region_indices(image)
            for index, region in zip(indices, image.ignore_regions, strict=True):
                ids = region.category_ids or self.everything
                lines += _encode_region(region, index, image.id, ids, self.number)
                self.number += len(ids)
            line = _dump(_image_json(image), image.frame_index is None)
        except DataError as error:
            raise DataError(f"image {image.file_name!r}: {error.reason}", remedy=error.remedy) from None
        self.of[image.id] = line, b",\n".join(lines)

    def take(self, image: ImageRecord) -> None:
        """`add`, then replace the image's objects by placeholders that share their memory and keep only the class."""
        self.add(image)
        image.annotations = [self._placeholders[item.category_id] for item in image.annotations]
        image.ignore_regions = [self._region] * len(image.ignore_regions)


def encode_datasets(
    datasets: Mapping[str, Dataset], folder: Path, lines: Lines | None = None
) -> dict[str, list[bytes]]:
    """The json of each dataset for a file in `folder`, in pieces that share their memory.

    The first dataset has all images, the others some of its records: an image and its annotations have the same
    ids in each, and are encoded once. `lines` are those of the first dataset, when they are encoded already.
    """
    documents: dict[str, list[bytes]] = {}
    for name, dataset in datasets.items():
        if lines is None:
            lines = Lines(len(dataset.categories))
            for image in dataset.images:
                lines.add(image)
        encoded = [lines.of[image.id] for image in dataset.images]
        documents[name] = [
            b'{"info":' + _dump(_info_json(dataset, folder)),
            b',\n"licenses":[]',
            b',\n"categories":[',
            *_lines([_dump(item) for item in _category_jsons(dataset)]),
            b'],\n"images":[',
            *_lines([image for image, _ in encoded]),
            b'],\n"annotations":[',
            *_lines([annotations for _, annotations in encoded if annotations]),
            b"]}\n",
        ]
    return documents


def _info_json(dataset: Dataset, folder: Path) -> dict[str, Any]:
    root = dataset.images_root.resolve()
    try:
        relative = os.path.relpath(root, folder.resolve())
    except ValueError:  # another drive on Windows
        relative = str(root)
    return {
        "description": f"drivetl dataset from {dataset.info.get('source', 'unknown source')}",
        "drivetl": (
            dataset.info | {"schema": SCHEMA_VERSION, "images_root": Path(relative).as_posix(), "version": __version__}
        ),
    }


def _category_jsons(dataset: Dataset) -> list[dict[str, Any]]:
    return [
        {"id": number, "name": name, "supercategory": "driving"} for number, name in enumerate(dataset.categories, 1)
    ]


def _dump(value: object, nulls: int = 0) -> bytes:
    """A record as JSON; `nulls`: the number of values that are known to be None.

    Raises DataError for values that JSON cannot represent: NaN (orjson writes null), lone surrogates, huge integers.
    """
    try:
        line = orjson.dumps(value, option=_OPTIONS)
    except TypeError as error:  # JSONEncodeError is one
        raise DataError(f"cannot be written as JSON: {error}", remedy="fix the value in the source") from None
    if line.count(b"null") > nulls and not _finite(value):
        raise DataError("contains NaN or infinity, which JSON cannot represent", remedy="fix the value in the source")
    return line


def _finite(value: object) -> bool:
    if isinstance(value, float):
        return math.isfinite(value)
    if isinstance(value, dict):
        return all(map(_finite, value.values()))
    return all(map(_finite, value)) if isinstance(value, list | tuple) else True


def _lines(records: list[bytes]) -> list[bytes]:
    """The records with their separators: one record per line."""
    separators = [b",\n"] * len(records)
    separators[:1] = [b"\n"] * bool(records)
    return [piece for pair in zip(separators, records, strict=True) for piece in pair]


def _encode_annotations(image: ImageRecord, number: int) -> bytes:
    """The lines of an image's annotations, numbered from `number`."""
    return b",\n".join(
        [
            _dump(_annotation_json(item, count, image.id, item.category_id, 0, item.attributes))
            for count, item in enumerate(image.annotations, number)
        ]
    )


def _region_indices(image: ImageRecord) -> list[int]:
    """The number that each ignore region is written under: regions that were read from one share its number."""
    numbers: dict[object, int] = {}
    indices = []
    for index, region in enumerate(image.ignore_regions):
        part = region.attributes.get("ignore_region")
        key = (part, region.bbox_xywh) if isinstance(part, int) else f"alone {index}"
        indices.append(numbers.setdefault(key, len(numbers)))
    return indices


def _encode_region(
    region: IgnoreRegion, index: int, image_id: int, category_ids: tuple[int, ...], number: int
) -> list[bytes]:
    """One line per category. They differ in two numbers, so the rest is encoded once."""
    attributes = {**region.attributes, "ignore_region": index}
    first = _dump(_annotation_json(region, number, image_id, category_ids[0], 1, attributes))
    before, ids, after = first.partition(b'"category_id":%d,"id":%d,' % (category_ids[0], number))
    if ids and not region.extra and ids not in after:
        return [
            b'%b"category_id":%d,"id":%d,%b' % (before, category_id, count, after)
            for count, category_id in enumerate(category_ids, number)
        ]
    return [
        _dump(_annotation_json(region, count, image_id, category_id, 1, attributes))
        for count, category_id in enumerate(category_ids, number)
    ]


def _image_json(image: ImageRecord) -> dict[str, Any]:
    record = image.extra | {"id": image.id, "file_name": image.file_name, "width": image.width, "height": image.height}
    record |= {"sequence": image.drive, "frame_index": image.frame_index, "attributes": image.attributes}
    return record if image.labelled is None else record | {"labelled": list(image.labelled)}


def _annotation_json(
    item: Annotation | IgnoreRegion,
    number: int,
    image_id: int,
    category_id: int,
    crowd: int,
    attributes: dict[str, Any],
) -> dict[str, Any]:
    record = {
        "id": number,
        "image_id": image_id,
        "category_id": category_id,
        "iscrowd": crowd,
        "bbox": item.bbox_xywh,
        "area": item.area,
        "attributes": attributes,
    }
    if item.segmentation is not None:
        record["segmentation"] = item.segmentation
    return item.extra | record if item.extra else record
