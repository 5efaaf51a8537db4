"""nuImages tables (`v1.0-*/{object_ann,sample_data,sample,category,attribute,log}.json`), joined by their tokens.

Images are the annotated keyframes; the drive is the log, location and date become attributes. Surfaces
(`surface_ann`: drivable area, ego vehicle) are not objects; they are counted.
"""

from __future__ import annotations

import base64
import binascii
import datetime
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from drivetl.adapters.reading import FOUND_ELSEWHERE, Footage, ImageIndex, Reading
from drivetl.adapters.shapes import checked_rle
from drivetl.coco import masks
from drivetl.coco.io import load_json
from drivetl.coco.json_lines import line_in_file
from drivetl.coco.records import SourceImage, SourceObject
from drivetl.convert.split import FOLDER_SIDES
from drivetl.errors import DataError
from drivetl.files.fields import array, as_name, mapping, number, shown, text, whole

Table = dict[str, dict[str, Any]]
"""Records by token."""


def read(reading: Reading) -> Footage:
    """nuImages footage: all splits (v1.0-mini, v1.0-train, ...) below the root, or the folder of one split."""
    root = reading.root
    folders = (
        [root] if (root / "object_ann.json").is_file() else sorted(p.parent for p in root.glob("*/object_ann.json"))
    )
    if not folders:
        raise DataError(
            "contains no object_ann.json", remedy="--root must contain v1.0-train or another split", file=root
        )
    images_root = reading.images or (root.parent if folders == [root] else root)
    return Footage(images_root, _all_images(reading, folders, ImageIndex(images_root)))


def _all_images(reading: Reading, folders: list[Path], index: ImageIndex) -> Iterator[SourceImage]:
    for folder in folders:
        yield from _split_images(reading, folder, index)


def _table(folder: Path, name: str, *, required: bool = True) -> Table:
    """A table by token. Raises DataError when the file is missing or a record has no token."""
    path = folder / f"{name}.json"
    if not required and not path.is_file():
        return {}
    table: Table = {}
    position = None
    try:
        for position, record in enumerate(array(load_json(path), "the table")):
            row = mapping(record, f"[{position}]")
            token = text(row.get("token"), f"token of [{position}]")
            if token in table:
                raise DataError(f"token {token!r} is duplicated", remedy="remove one record")
            table[token] = row
    except DataError as error:
        raise error.at(path, None if position is None else line_in_file(path, (position,))) from None
    return table


def _split_images(reading: Reading, folder: Path, index: ImageIndex) -> Iterator[SourceImage]:
    categories, attributes = _table(folder, "category"), _table(folder, "attribute", required=False)
    samples, logs = _table(folder, "sample", required=False), _table(folder, "log", required=False)
    frames = _table(folder, "sample_data")
    path = folder / "object_ann.json"
    annotated: dict[str, list[tuple[int, str, dict[str, Any]]]] = defaultdict(list)
    for position, record in enumerate(_table(folder, "object_ann").values()):
        label = _name_of(categories, record.get("category_token"))
        with reading.object(label or "(unknown category)", path, (position,)):
            if label is None:
                raise DataError(f"[{position}] has an unknown category_token", remedy="check category.json")
            shot = record.get("sample_data_token")
            if not isinstance(shot, str) or shot not in frames:
                raise DataError(f"[{position}] has an unknown sample_data_token", remedy="check sample_data.json")
            annotated[shot].append((position, label, record))
    for record in _table(folder, "surface_ann", required=False).values():
        reading.drop(_name_of(categories, record.get("category_token")) or "(unknown category)", "a surface, no object")
    for shot_position, (token, shot_record) in enumerate(frames.items()):
        if shot_record.get("is_key_frame") or token in annotated:
            with reading.file(folder / "sample_data.json", line=(shot_position,)):
                image = _image(shot_record, samples, logs)
                if image.file_name not in index:
                    _find_elsewhere(reading, image, index)
                image.label_file = path
                if folder.name.rpartition("-")[2] in FOLDER_SIDES:  # v1.0-train, v1.0-val
                    image.attributes["subset"] = folder.name.rpartition("-")[2]
                for position, label, annotation in annotated.pop(token, []):
                    with reading.object(label, path, (position,)):
                        item = _object(label, annotation, attributes, (image.width, image.height))
                        item.line = (position,)
                        image.objects.append(item)
                yield image
    for remaining in annotated.values():  # annotations of images that could not be read
        for _, label, _ in remaining:
            reading.account.reject(DataError("the image of the annotation cannot be read", file=path), [label])


def _find_elsewhere(reading: Reading, image: SourceImage, index: ImageIndex) -> None:
    """Take the only image of that base name, when the images are not in nuImages' folders."""
    existing = index.elsewhere(image.file_name)
    if existing is None:
        reading.note("images that are not on disk; their sizes are taken from the labels")
        return
    reading.list_place(FOUND_ELSEWHERE, index.root / existing)
    image.file_name = existing


def _name_of(table: Table, token: object) -> str | None:
    record = table.get(token) if isinstance(token, str) else None
    name = record.get("name") if record is not None else None
    return name if isinstance(name, str) and name else None


def _image(shot: dict[str, Any], samples: Table, logs: Table) -> SourceImage:
    name = text(shot.get("filename"), "filename")
    image = SourceImage(name, whole(shot.get("width"), "width"), whole(shot.get("height"), "height"))
    sample = samples.get(str(shot.get("sample_token")), {})
    log = logs.get(str(sample.get("log_token")), {})
    image.drive = as_name(log.get("logfile"), "logfile") or as_name(sample.get("log_token"), "log_token")
    for key in ("location", "date_captured", "vehicle"):
        if isinstance(log.get(key), str) and log[key]:
            image.attributes[key] = log[key]
    camera = next((part for part in Path(name).parts if part.startswith("CAM_")), "")
    if camera:
        image.attributes["camera"] = camera
    if shot.get("timestamp") is not None:
        moment_us = whole(shot["timestamp"], "timestamp")
        image.attributes |= {"timestamp_us": moment_us} | _clock(moment_us)
    return image


def _clock(moment_us: int) -> dict[str, str]:
    """The time in UTC of a timestamp in microseconds; empty for a number that is not a time."""
    try:
        moment = datetime.datetime.fromtimestamp(moment_us / 1e6, datetime.UTC)
    except (OverflowError, OSError, ValueError):
        return {}
    return {"time_utc": moment.strftime("%Y-%m-%dT%H:%M:%SZ")}


def _object(label: str, annotation: dict[str, Any], attributes: Table, size: tuple[int, int]) -> SourceObject:
    values = array(annotation.get("bbox"), "bbox")
    if len(values) != 4:
        raise DataError(f"bbox is {shown(values)}, not four numbers", remedy="write xmin, ymin, xmax, ymax")
    x1, y1, x2, y2 = (number(value, "bbox") for value in values)
    item = SourceObject(label, (x1, y1, x2, y2))
    for token in array(annotation.get("attribute_tokens"), "attribute_tokens"):
        name = _name_of(attributes, token) or ""
        group, _, value = name.rpartition(".")
        if value:
            item.attributes[group or value] = value if group else True
    if annotation.get("mask") is not None:
        rle = mapping(annotation["mask"], "mask")
        item.segmentation = checked_rle({"size": rle.get("size"), "counts": _counts(rle.get("counts"))}, *size)
        item.area = masks.area(item.segmentation, size[1], size[0])
    return item


def _counts(value: object) -> str:
    """COCO counts from nuImages' base64."""
    try:
        return base64.b64decode(text(value, "counts of mask"), validate=True).decode("ascii")
    except (binascii.Error, ValueError):
        raise DataError("counts of mask are not base64", remedy="fix or remove the record") from None
