"""Reading and writing the COCO dataset json. Whatever is wrong is an error with the record's line, never a guess."""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Callable
from math import isfinite
from pathlib import Path
from typing import Any

import orjson

from drivetl.coco.json_lines import JsonText
from drivetl.coco.records import Annotation, Dataset, IgnoreRegion, ImageRecord
from drivetl.coco.writing import SCHEMA_VERSION, encode_datasets, write_dataset
from drivetl.errors import DataError
from drivetl.files.gc_pause import no_garbage_collection
from drivetl.files.images import MAX_PIXELS
from drivetl.files.paths import safe_relative

__all__ = ["SCHEMA_VERSION", "encode_datasets", "load_json", "read_dataset", "write_dataset"]

_IMAGE_KEYS = frozenset({"id", "file_name", "width", "height", "sequence", "frame_index", "attributes", "labelled"})
_ANNOTATION_KEYS = frozenset({"id", "image_id", "category_id", "bbox", "area", "iscrowd", "segmentation", "attributes"})
_FOREIGN = "convert it with convert-footage --format coco"

Regions = dict[tuple[int, object], list[tuple[int, IgnoreRegion]]]
"""(image id, region) -> the categories and copies it was written as."""


def read_dataset(path: Path, images_root: Path | None = None) -> Dataset:
    """Read a COCO dataset json written by drivetl or by anything that keeps the contract (ids 1..K contiguous).

    Ignore regions are folded back into one each. Raises DataError naming the record, its line and its value.
    """
    with no_garbage_collection():
        return _read(path, images_root)


def _read(path: Path, images_root: Path | None) -> Dataset:
    data = read_bytes(path)
    document = parse_json(data, path)
    if not isinstance(document, dict) or not all(
        isinstance(document.get(key), list) for key in ("images", "annotations", "categories")
    ):
        raise DataError(
            "no COCO dataset: it needs lists `images`, `annotations`, `categories`",
            remedy="convert it first",
            file=path,
        )
    try:
        info = _read_info(document)
        categories = _read_categories(document["categories"])
        count = len(categories)
        images: dict[int, ImageRecord] = {}
        _each(data, "images", document["images"], lambda record: _read_image(record, images, count))
        regions: Regions = defaultdict(list)
        ids: set[object] = set()
        _each(
            data,
            "annotations",
            document["annotations"],
            lambda record: _read_annotation(record, images, count, regions, ids),
        )
    except DataError as error:
        raise error.at(path) from None
    _fold_regions(regions, images, count)
    # the writer counts from where the folder truly is: `..` behind a link leads elsewhere
    root = images_root or (path.parent.resolve() / info.get("images_root", "."))
    info = {key: value for key, value in info.items() if key not in ("schema", "images_root", "version")}
    return Dataset(categories, list(images.values()), Path(os.path.normpath(root)), info)


def _each(data: bytes, key: str, records: list[Any], read: Callable[[Any], None]) -> None:
    """Read every record; an error gets its position and the line it stands on."""
    position = 0
    try:
        for position, record in enumerate(records):  # noqa: B007 - the except clause needs it
            read(record)
    except DataError as error:
        place, line = f"{key}[{position}]: {error.reason}", JsonText(data).line((key, position))
        raise DataError(place, remedy=error.remedy, line=line) from None


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
    try:
        pairs = sorted((int(record["id"]), str(record["name"])) for record in records)
    except (TypeError, KeyError, ValueError):
        raise DataError("a category needs `id` and `name`", remedy=_FOREIGN) from None
    ids, names = [number for number, _ in pairs], [name for _, name in pairs]
    if ids != list(range(1, len(ids) + 1)):
        raise DataError(f"category ids are {ids[:12]}, not 1..{len(ids)}", remedy=_FOREIGN)
    if len(set(names)) != len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise DataError(f"two categories are called {twice!r}", remedy="rename one")
    return tuple(names)


def _read_image(record: Any, images: dict[int, ImageRecord], n_classes: int) -> None:
    try:
        labelled, frame_index = record.get("labelled"), record.get("frame_index")
        image = ImageRecord(
            int(record["id"]),
            safe_relative(record["file_name"]),
            int(record["width"]),
            int(record["height"]),
            str(record.get("sequence") or ""),
            None if frame_index is None else int(frame_index),
            _dict(record.get("attributes")),
            None if labelled is None else tuple(int(number) for number in labelled),
            extra={} if record.keys() <= _IMAGE_KEYS else _others(record, _IMAGE_KEYS),
        )
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise DataError(f"no image record ({_reason(error)})", remedy="it needs id, file_name, width, height") from None
    if image.id in images:
        raise DataError(f"image id {image.id} comes twice", remedy="give every image its own id")
    if image.width < 1 or image.height < 1 or image.width * image.height > MAX_PIXELS:
        raise DataError(f"size {image.width} x {image.height} is not usable", remedy="write the true size")
    if image.labelled and not all(1 <= number <= n_classes for number in image.labelled):
        raise DataError(f"labelled {list(image.labelled)} is outside 1..{n_classes}", remedy="use category ids")
    images[image.id] = image


def _read_annotation(
    record: Any, images: dict[int, ImageRecord], n_classes: int, regions: Regions, ids: set[object]
) -> None:
    try:
        image_id, category_id = record["image_id"], int(record["category_id"])
        image, number = images.get(image_id), record.get("id")
        twice = number is not None and number in ids
        ids.add(number)
        x, y, w, h = map(float, record["bbox"])
        area = record.get("area")
        area = w * h if area is None else float(area)
        attributes = _dict(record.get("attributes"))
        segmentation = record.get("segmentation") or None
        crowd = record.get("iscrowd", 0)
        extra = {} if record.keys() <= _ANNOTATION_KEYS else _others(record, _ANNOTATION_KEYS)
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise DataError(
            f"no annotation record ({_reason(error)})", remedy="it needs image_id, category_id, bbox"
        ) from None
    if image is None:
        raise DataError(f"image_id {image_id!r} is no image of this file", remedy="list the image")
    if twice:
        raise DataError(f"annotation id {number!r} comes twice", remedy="give every annotation its own id")
    if not 1 <= category_id <= n_classes:
        raise DataError(f"category_id {category_id} is outside 1..{n_classes}", remedy="list the category")
    if not isfinite(x + y + w + h + area) or w < 0 or h < 0:
        raise DataError(
            f"bbox {[x, y, w, h]} is not finite or has a negative size", remedy="boxes are x, y, width, height"
        )
    if segmentation is not None and not _is_segmentation(segmentation):
        raise DataError(
            "segmentation is neither a list of polygons nor an RLE with size and counts", remedy="mend or remove it"
        )
    if crowd not in (0, 1):
        raise DataError(f"iscrowd is {crowd!r}, neither 0 nor 1", remedy="mend it")
    if crowd:
        key = attributes.pop("ignore_region", None)
        region = IgnoreRegion((x, y, w, h), area, (), segmentation, attributes, extra)
        regions[image_id, key if isinstance(key, int) else f"alone {id(record)}"].append((category_id, region))
    else:
        image.annotations.append(Annotation(category_id, (x, y, w, h), area, segmentation, attributes, extra))


def _fold_regions(regions: Regions, images: dict[int, ImageRecord], n_classes: int) -> None:
    for (image_id, _), parts in regions.items():
        region, ids = parts[0][1], tuple(sorted({number for number, _ in parts}))
        region.category_ids = () if len(ids) == n_classes else ids
        images[image_id].ignore_regions.append(region)


def _is_segmentation(value: object) -> bool:
    """The cheap part of `masks.problem`, which `masks.decode` completes when a mask is wanted."""
    if isinstance(value, dict):
        return isinstance(value.get("size"), list) and isinstance(value.get("counts"), str | list)
    return isinstance(value, list) and all(isinstance(polygon, list) for polygon in value)


def _others(record: dict[str, Any], known: frozenset[str]) -> dict[str, Any]:
    return {key: value for key, value in record.items() if key not in known}


def _dict(value: Any) -> dict[str, Any]:
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise ValueError("attributes is no object")
    return value


def _reason(error: Exception) -> str:
    return f"{error.args[0]!r} is missing" if isinstance(error, KeyError) else str(error)


def load_json(path: Path) -> Any:
    """Parsed JSON; DataError with the line where it breaks."""
    return parse_json(read_bytes(path), path)


def read_bytes(path: Path) -> bytes:
    """A whole file; DataError when it cannot be read."""
    try:
        return path.read_bytes()
    except OSError as error:
        raise DataError(f"cannot be read ({error.strerror or error})", remedy="check the path", file=path) from None


def parse_json(data: bytes, path: Path) -> Any:
    """Parsed JSON, a byte order mark dropped; DataError with the line where it breaks."""
    try:
        return orjson.loads(data.removeprefix(b"\xef\xbb\xbf"))
    except orjson.JSONDecodeError as error:
        remedy = "the file may be cut off" if error.pos >= len(error.doc) - 1 else "mend the file"
        raise DataError(f"not valid JSON: {error.msg}", remedy=remedy, file=path, line=error.lineno) from None
