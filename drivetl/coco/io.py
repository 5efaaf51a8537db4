"""Reading and writing the COCO dataset json. Byte-identical when written twice; one record a line."""

from __future__ import annotations

import math
import os
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import orjson

from drivetl import __version__
from drivetl.coco.files import safe_relative, write_atomically
from drivetl.coco.records import Annotation, Dataset, IgnoreRegion, ImageRecord
from drivetl.errors import DataError

SCHEMA_VERSION = 1
_IMAGE_KEYS = {"id", "file_name", "width", "height", "sequence", "frame_index", "attributes", "labelled"}
_ANNOTATION_KEYS = {"id", "image_id", "category_id", "bbox", "area", "iscrowd", "segmentation", "attributes"}


def write_dataset(dataset: Dataset, path: Path) -> None:
    """Write a dataset atomically. The images root is stored relative to the json where it can be."""
    write_atomically(path, encode_datasets({"": dataset}, path.parent)[""])


def encode_datasets(datasets: Mapping[str, Dataset], folder: Path) -> dict[str, bytes]:
    """The json of each dataset as it will stand in `folder`. The first holds all images, the others share some of
    its records: an image and its annotations have the same ids in each, and are encoded once."""
    chunks: dict[int, tuple[bytes, list[bytes]]] = {}
    documents: dict[str, bytes] = {}
    for name, dataset in datasets.items():
        if not documents:
            chunks = _encode_images(dataset)
        mine = [chunks[image.id] for image in dataset.images]
        documents[name] = b"".join(
            [
                b'{"info":' + _dump(_info_json(dataset, folder)),
                b',\n"licenses":[]',
                b',\n"categories":' + _lines([_dump(item) for item in _category_jsons(dataset)]),
                b',\n"images":' + _lines([image for image, _ in mine]),
                b',\n"annotations":' + _lines([line for _, lines in mine for line in lines]),
                b"}\n",
            ]
        )
    return documents


def _info_json(dataset: Dataset, folder: Path) -> dict[str, Any]:
    root = dataset.images_root.resolve()
    try:
        relative = os.path.relpath(root, folder.resolve())
    except ValueError:  # another drive on Windows
        relative = str(root)
    return {
        "description": f"drivetl dataset from {dataset.info.get('source', 'unknown source')}",
        "drivetl": dataset.info
        | {"schema": SCHEMA_VERSION, "images_root": Path(relative).as_posix(), "version": __version__},
    }


def _category_jsons(dataset: Dataset) -> list[dict[str, Any]]:
    return [
        {"id": number, "name": name, "supercategory": "driving"}
        for number, name in enumerate(dataset.categories, 1)
    ]


def _dump(value: object) -> bytes:
    return orjson.dumps(value, option=orjson.OPT_SORT_KEYS | orjson.OPT_SERIALIZE_NUMPY)


def _lines(records: list[bytes]) -> bytes:
    return b"[" + (b"\n" + b",\n".join(records) if records else b"") + b"]"


def _encode_images(dataset: Dataset) -> dict[int, tuple[bytes, list[bytes]]]:
    """image id -> (its line, its annotations' lines), annotations numbered 1.. over the whole dataset."""
    number = 0
    everything = tuple(range(1, len(dataset.categories) + 1))
    chunks: dict[int, tuple[bytes, list[bytes]]] = {}
    for image in dataset.images:
        lines = []
        for item in image.annotations:
            number += 1
            lines.append(
                _dump(_annotation_json(item, number, image.id, item.category_id, 0, item.attributes))
            )
        for index, region in enumerate(image.ignore_regions):
            attributes = region.attributes | {"ignore_region": index}
            for category_id in region.category_ids or everything:
                number += 1
                lines.append(_dump(_annotation_json(region, number, image.id, category_id, 1, attributes)))
        chunks[image.id] = (_dump(_image_json(image)), lines)
    return chunks


def _image_json(image: ImageRecord) -> dict[str, Any]:
    record = image.extra | {
        "id": image.id,
        "file_name": image.file_name,
        "width": image.width,
        "height": image.height,
    }
    record |= {"sequence": image.sequence, "frame_index": image.frame_index, "attributes": image.attributes}
    return record if image.labelled is None else record | {"labelled": list(image.labelled)}


def _annotation_json(
    item: Annotation | IgnoreRegion,
    number: int,
    image_id: int,
    category_id: int,
    crowd: int,
    attributes: dict[str, Any],
) -> dict[str, Any]:
    record = item.extra | {"id": number, "image_id": image_id, "category_id": category_id, "iscrowd": crowd}
    record |= {"bbox": list(item.bbox_xywh), "area": item.area, "attributes": attributes}
    return record if item.segmentation is None else record | {"segmentation": item.segmentation}


def read_dataset(path: Path, images_root: Path | None = None) -> Dataset:
    """Read a COCO dataset json written by drivetl or by anything that keeps the contract (ids 1..K contiguous).

    Ignore regions are folded back into one each. Raises DataError naming the record and its value.
    """
    document = load_json(path)
    if not isinstance(document, dict) or not all(
        isinstance(document.get(key), list) for key in ("images", "annotations", "categories")
    ):
        raise DataError(
            "no COCO dataset: it needs lists `images`, `annotations`, `categories`",
            remedy="convert it first",
            file=path,
        )
    try:
        categories = _read_categories(document["categories"])
        info = (document.get("info") or {}).get("drivetl") or {}
        images = _read_images(document["images"], len(categories))
        _read_annotations(document["annotations"], images, len(categories))
    except DataError as error:
        raise error.at(path) from None
    root = images_root or (path.parent / info.get("images_root", "."))
    info = {key: value for key, value in info.items() if key not in ("schema", "images_root", "version")}
    return Dataset(categories, list(images.values()), Path(os.path.normpath(root)), info)


def load_json(path: Path) -> Any:
    """Parsed JSON; DataError with the line where it breaks."""
    try:
        data = path.read_bytes()
    except OSError as error:
        raise DataError(
            f"cannot be read ({error.strerror or error})", remedy="check the path", file=path
        ) from None
    try:
        return orjson.loads(data.removeprefix(b"\xef\xbb\xbf"))
    except orjson.JSONDecodeError as error:
        raise DataError(
            f"not valid JSON: {error.msg}", remedy="the file may be cut off", file=path, line=error.lineno
        ) from None


def _read_categories(records: list[Any]) -> tuple[str, ...]:
    try:
        pairs = sorted((int(record["id"]), str(record["name"])) for record in records)
    except (TypeError, KeyError, ValueError):
        raise DataError(
            "a category needs `id` and `name`",
            remedy="convert the dataset with convert-footage --format coco",
        ) from None
    ids, names = [number for number, _ in pairs], [name for _, name in pairs]
    if ids != list(range(1, len(ids) + 1)):
        raise DataError(
            f"category ids are {ids[:12]}, not 1..{len(ids)}",
            remedy="convert it with convert-footage --format coco",
        )
    if len(set(names)) != len(names):
        raise DataError("two categories share a name", remedy="rename one")
    return tuple(names)


def _read_images(records: list[Any], n_classes: int) -> dict[int, ImageRecord]:
    images: dict[int, ImageRecord] = {}
    for position, record in enumerate(records):
        place = f"images[{position}]"
        try:
            labelled = record.get("labelled")
            image = ImageRecord(
                int(record["id"]),
                safe_relative(record["file_name"]),
                int(record["width"]),
                int(record["height"]),
                str(record.get("sequence") or ""),
                record.get("frame_index"),
                dict(record.get("attributes") or {}),
                None if labelled is None else tuple(int(number) for number in labelled),
                extra={key: value for key, value in record.items() if key not in _IMAGE_KEYS},
            )
        except DataError as error:
            raise DataError(f"{place}: {error.reason}", remedy=error.remedy) from None
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise DataError(
                f"{place} is no image record ({error!r})", remedy="it needs id, file_name, width, height"
            ) from None
        if image.id in images:
            raise DataError(f"{place}: image id {image.id} comes twice", remedy="give every image its own id")
        if image.width < 1 or image.height < 1:
            raise DataError(f"{place}: size {image.width} x {image.height}", remedy="write the true size")
        if image.labelled and not all(1 <= number <= n_classes for number in image.labelled):
            raise DataError(
                f"{place}: labelled {list(image.labelled)} is outside 1..{n_classes}",
                remedy="use category ids",
            )
        images[image.id] = image
    return images


def _read_annotations(records: list[Any], images: dict[int, ImageRecord], n_classes: int) -> None:
    regions: dict[tuple[int, object], list[tuple[int, IgnoreRegion]]] = defaultdict(list)
    for position, record in enumerate(records):
        place = f"annotations[{position}]"
        try:
            image = images[record["image_id"]]
            category_id = int(record["category_id"])
            x, y, w, h = (float(value) for value in record["bbox"])
            area = float(record["area"]) if record.get("area") is not None else w * h
            attributes = dict(record.get("attributes") or {})
            extra = {key: value for key, value in record.items() if key not in _ANNOTATION_KEYS}
            segmentation = record.get("segmentation") or None
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise DataError(
                f"{place} is no annotation of a known image ({error!r})",
                remedy="it needs image_id, category_id, bbox",
            ) from None
        if not 1 <= category_id <= n_classes:
            raise DataError(
                f"{place}: category_id {category_id} is outside 1..{n_classes}", remedy="list the category"
            )
        if not all(map(math.isfinite, (x, y, w, h, area))) or w < 0 or h < 0:
            raise DataError(
                f"{place}: bbox {[x, y, w, h]} is not finite or has a negative size",
                remedy="boxes are x, y, width, height",
            )
        if record.get("iscrowd"):
            key = attributes.pop("ignore_region", f"alone {position}")
            region = IgnoreRegion((x, y, w, h), area, (), segmentation, attributes, extra)
            regions[image.id, key].append((category_id, region))
        else:
            image.annotations.append(
                Annotation(category_id, (x, y, w, h), area, segmentation, attributes, extra)
            )
    for (image_id, _), parts in regions.items():
        region, ids = parts[0][1], tuple(sorted({number for number, _ in parts}))
        region.category_ids = () if len(ids) == n_classes else ids
        images[image_id].ignore_regions.append(region)
