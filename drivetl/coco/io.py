"""Reading and writing the COCO dataset json. Invalid records are errors with their line."""

from __future__ import annotations

import json
import os
import re
from collections import defaultdict
from pathlib import Path
from typing import Any

import orjson

from drivetl.coco import rules
from drivetl.coco.columns import WHOLE, annotation_columns, optional
from drivetl.coco.json_lines import JsonText
from drivetl.coco.records import Annotation, Dataset, IgnoreRegion, ImageRecord
from drivetl.coco.writing import SCHEMA_VERSION, encode_datasets, write_dataset
from drivetl.errors import DataError
from drivetl.files.gc_pause import no_garbage_collection
from drivetl.files.paths import safe_relative

__all__ = ["SCHEMA_VERSION", "encode_datasets", "load_json", "load_json_with_nan", "read_dataset", "write_dataset"]

_PLACE = re.compile(r"(images|annotations|categories)\[(\d+)\]: ")
_FOREIGN = "convert it with convert-footage --format coco"

Regions = dict[tuple[int, object], list[tuple[int, IgnoreRegion]]]
"""(image id, region) -> the categories and copies it was written as."""


def read_dataset(path: Path, images_root: Path | None = None) -> Dataset:
    """Read a COCO dataset json written by drivetl or in the same form (category ids 1..K).

    The annotations of an ignore region become one region. Raises DataError with the record, its line and its value.
    """
    with no_garbage_collection():
        return _read(path, images_root)


def _read(path: Path, images_root: Path | None) -> Dataset:
    data = read_bytes(path)
    document = parse_json(data, path)
    try:
        image_records, annotations, category_records = rules.lists(document)
        info = _read_info(document)
        categories = _read_categories(category_records)
        count = len(categories)
        images = _read_images(image_records, count)
        regions = _read_annotations(annotations, images, count)
    except DataError as error:
        raise error.at(path, _line(data, error)) from None
    _fold_regions(regions, images, count)
    # The root is relative to the real folder: `..` after a link leads elsewhere.
    root = images_root or (path.parent.resolve() / info.get("images_root", "."))
    info = {key: value for key, value in info.items() if key not in ("schema", "images_root", "version")}
    return Dataset(categories, list(images.values()), Path(os.path.normpath(root)), info, path)


def _line(data: bytes, error: DataError) -> int | None:
    """The line of the record that an error names as `images[3]: ...`."""
    place = _PLACE.match(error.reason)
    return JsonText(data).line((place[1], int(place[2]))) if place else None


def _read_info(document: dict[str, Any]) -> dict[str, Any]:
    info = document.get("info")
    own = info.get("drivetl") if isinstance(info, dict) else None
    if own is None:
        return {}
    root = own.get("images_root", ".") if isinstance(own, dict) else None
    if not isinstance(own, dict) or not isinstance(root, str) or "\0" in root:
        raise DataError("info.drivetl is not what drivetl writes", remedy="convert the dataset again")
    return own


def _read_categories(records: list[Any]) -> tuple[str, ...]:
    pairs = rules.each("categories", records, rules.category)
    rules.unique("category", [number for number, _ in pairs])
    pairs.sort()
    ids, names = [number for number, _ in pairs], [name for _, name in pairs]
    if ids != list(range(1, len(ids) + 1)):
        raise DataError(f"category ids are {ids[:12]}, not 1..{len(ids)}", remedy=_FOREIGN)
    if len(set(names)) != len(names):
        repeated = next(name for name in names if names.count(name) > 1)
        raise DataError(f"two categories are called {repeated!r}", remedy="rename one")
    return tuple(names)


def _read_images(records: list[Any], n_classes: int) -> dict[int, ImageRecord]:
    """Image id -> image, in the file's order."""
    ids = range(1, n_classes + 1)
    images = rules.each("images", records, lambda record: _read_image(record, ids))
    rules.unique("image", [image.id for image in images])
    return {image.id: image for image in images}


def _read_image(record: Any, category_ids: range) -> ImageRecord:
    fields = rules.record(record)
    return ImageRecord(
        rules.integer_id(fields),
        safe_relative(rules.file_name(fields)),
        *rules.image_size(fields),
        rules.drive(fields),
        rules.frame_index(fields),
        rules.attributes(fields.get("attributes")),
        rules.labelled(fields, category_ids),
        extra={} if fields.keys() <= rules.IMAGE_KEYS else _others(fields, rules.IMAGE_KEYS),
    )


def _read_annotations(records: list[Any], images: dict[int, ImageRecord], n_classes: int) -> Regions:
    """Add the objects to their images; returns the ignore regions, still as one annotation per category."""
    columns = annotation_columns(records, images, range(1, n_classes + 1))
    segmentations = columns.segmentations
    if any(segmentations):
        rules.each("annotations", segmentations, rules.segmentation)
    rules.unique("annotation", _annotation_ids(records))
    regions: Regions = defaultdict(list)
    sides = map(float, columns.boxes)
    rows = zip(
        records,
        columns.image_ids,
        columns.category_ids,
        zip(sides, sides, sides, sides, strict=True),
        map(float, columns.areas),
        columns.crowd,
        columns.attributes,
        segmentations,
        strict=True,
    )
    known = rules.ANNOTATION_KEYS
    for record, image_id, category_id, box, area, crowd, attributes, segmentation in rows:
        extra = {} if record.keys() <= known else _others(record, known)
        if crowd:
            key = attributes.pop("ignore_region", None)
            region = IgnoreRegion(box, area, (), segmentation, attributes, extra)
            regions[image_id, key if isinstance(key, int) else f"alone {id(record)}"].append((category_id, region))
        else:
            images[image_id].annotations.append(Annotation(category_id, box, area, segmentation, attributes, extra))
    return regions


def _annotation_ids(records: list[dict[str, Any]]) -> list[int | str]:
    """The ids of annotations that have one; pycocotools needs them, drivetl does not."""
    ids = optional(records, "id", WHOLE)
    if ids is None:
        ids = rules.each(
            "annotations", records, lambda fields: None if fields.get("id") is None else rules.any_id(fields)
        )
    return ids if None not in ids else [number for number in ids if number is not None]


def _fold_regions(regions: Regions, images: dict[int, ImageRecord], n_classes: int) -> None:
    for (image_id, _), parts in regions.items():
        region, ids = parts[0][1], tuple(sorted({number for number, _ in parts}))
        region.category_ids = () if len(ids) == n_classes else ids
        images[image_id].ignore_regions.append(region)


def _others(record: dict[str, Any], known: frozenset[str]) -> dict[str, Any]:
    return {key: value for key, value in record.items() if key not in known}


def load_json(path: Path) -> Any:
    """Parsed JSON. Raises DataError with the line of a syntax error."""
    return parse_json(read_bytes(path), path)


def load_json_with_nan(path: Path) -> tuple[Any, bool]:
    """(parsed JSON, whether it is strict JSON). NaN and Infinity, as Python's json writes them, are accepted.

    Raises DataError with the line of a syntax error.
    """
    data = read_bytes(path)
    try:
        return parse_json(data, path), True
    except DataError:
        if b"NaN" not in data and b"Infinity" not in data:
            raise
        try:
            return json.loads(data), False
        except (ValueError, RecursionError):
            pass
        raise


def read_bytes(path: Path) -> bytes:
    """The bytes of a file. Raises DataError when it cannot be read."""
    try:
        return path.read_bytes()
    except OSError as error:
        raise DataError(f"cannot be read ({error.strerror or error})", remedy="check the path", file=path) from None


def parse_json(data: bytes, path: Path) -> Any:
    """Parsed JSON without its byte order mark. Raises DataError with the line of a syntax error."""
    try:
        return orjson.loads(data.removeprefix(b"\xef\xbb\xbf"))
    except orjson.JSONDecodeError as error:
        remedy = "the file may be truncated" if error.pos >= len(error.doc) - 1 else "fix the file"
        raise DataError(f"not valid JSON: {error.msg}", remedy=remedy, file=path, line=error.lineno) from None
