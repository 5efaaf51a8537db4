"""Cityscapes: `*_polygons.json` per image, or `*_instanceIds.png` where there are no polygons.

Polygons are ordered back to front and include hidden parts, so they are painted in that order as in Cityscapes' own
tools, and mask, box and area are those of the visible part. `<label>group` is a crowd: an ignore region.
The drive is `<city>_<recording>`; names are `<city>_<recording>_<frame>_...`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import partial
from pathlib import Path, PurePosixPath

import cv2
import numpy as np
import numpy.typing as npt

from drivetl.adapters.reading import Footage, ImageIndex, Reading, first_folder, folder_drive, is_nonzero, labels_of
from drivetl.adapters.shapes import Points, encode_crop, points_of, visible
from drivetl.coco.io import load_json
from drivetl.coco.records import JsonPlace, SourceImage, SourceObject
from drivetl.coco.rules import check_size
from drivetl.errors import DataError
from drivetl.files.fields import array, mapping, text, whole
from drivetl.files.images import image_size

LABELS = (
    *("unlabeled", "ego vehicle", "rectification border", "out of roi", "static", "dynamic", "ground"),
    *("road", "sidewalk", "parking", "rail track"),
    *("building", "wall", "fence", "guard rail", "bridge", "tunnel"),
    *("pole", "polegroup", "traffic light", "traffic sign", "vegetation", "terrain", "sky"),
    *("person", "rider", "car", "truck", "bus", "caravan", "trailer", "train", "motorcycle", "bicycle"),
)
"""Label ids 0..33. Source: cityscapesScripts, helpers/labels.py."""

FIRST_THING = 24
"""Id of `person`: labels from here on have instances, and such an id without an instance number is a crowd."""

NAME = re.compile(r"^(?P<city>[^_/]+)_(?P<recording>\d{1,9})_(?P<frame>\d{1,9})$")
ENDINGS = re.compile(r"(_gtFine|_gtCoarse)?(_polygons|_instanceIds)?$")


def read(reading: Reading) -> Footage:
    """Cityscapes footage: every label file below the root."""
    root = reading.root
    if not root.is_dir():
        raise DataError("no such folder", remedy="--root must contain gtFine and leftImg8bit", file=root)
    labels_root = first_folder(root, "gtFine", "gtCoarse", "labels")
    files = _label_files(labels_root)
    if not files:
        raise DataError("contains no *_polygons.json or *_instanceIds.png", remedy="check --root", file=labels_root)
    images_root = reading.images or first_folder(root, "leftImg8bit", "images")
    return Footage(images_root, _images(reading, files, labels_root, images_root))


def _label_files(labels_root: Path) -> list[Path]:
    """Polygon files if there are any, else instance images; sorted."""
    for pattern in ("*_polygons.json", "*_instanceIds.png", "*.json"):
        files = sorted(path for path in labels_root.rglob(pattern) if path.is_file())
        if files:
            return files
    return []


def _images(reading: Reading, files: list[Path], labels_root: Path, images_root: Path) -> Iterator[SourceImage]:
    index = ImageIndex(images_root)
    for path in files:
        with reading.file(path, partial(_labels_in, path)):
            stem = ENDINGS.sub("", path.relative_to(labels_root).with_suffix("").as_posix())
            name = index.find(f"{stem}_leftImg8bit.png", f"{stem}.png", f"{stem}.jpg")
            if name is None:
                reading.note("images that are not on disk; their sizes are taken from the labels")
                name = f"{stem}_leftImg8bit.png"
            image = _polygons_image(reading, path) if path.suffix == ".json" else _instances_image(reading, path)
            image.file_name = name
            _name_parts(image, stem)
            yield image


def _labels_in(path: Path) -> list[str]:
    """The labels of a file's polygons, to count a file that cannot be read."""
    document = load_json(path) if path.suffix == ".json" else {}
    return labels_of(document.get("objects"), "label") if isinstance(document, dict) else []


def _name_parts(image: SourceImage, stem: str) -> None:
    """Set drive, frame and city from `<city>_<recording>_<frame>`; with other names the folder is the drive."""
    match = NAME.match(PurePosixPath(stem).name)
    if match is None:
        image.drive = folder_drive(stem)
        return
    image.drive = f"{match['city']}_{match['recording']}"
    image.frame_index = int(match["frame"])
    image.attributes["city"] = match["city"]


def _polygons_image(reading: Reading, path: Path) -> SourceImage:
    document = mapping(load_json(path), "the file")
    size = whole(document.get("imgWidth"), "imgWidth"), whole(document.get("imgHeight"), "imgHeight")
    check_size(*size)
    records = array(document.get("objects"), "objects")
    polygons: list[tuple[str, list[Points]]] = []
    places: list[JsonPlace] = []
    for position, record in enumerate(records):
        place = f"objects[{position}]"
        label = record.get("label") if isinstance(record, dict) else None
        at: JsonPlace = ("objects", position)
        with reading.object(label if isinstance(label, str) and label else "(no label)", path, at):
            polygon = _polygon(mapping(record, place), place)
            if is_nonzero(record.get("deleted")):
                reading.drop(text(label, "label"), "deleted in the source")
                continue
            polygons.append((text(label, f"label of {place}"), [polygon]))
            places.append(at)
    image = SourceImage("", *size, label_file=path)
    needs_mask = [reading.needs_mask(label) for label, _ in polygons]
    parts = visible(polygons, size, needs_mask, pixel_index=True)
    for (label, rings), part, masked, at in zip(polygons, parts, needs_mask, places, strict=True):
        if part is not None:
            segmentation, box, area = part
            crowd = label.endswith("group")
            image.objects.append(SourceObject(label, box, segmentation, area, ignore=crowd, line=at))
        elif masked:
            reading.drop(label, "hidden completely behind later polygons")
        else:
            xs, ys = [x for x, _ in rings[0]], [y for _, y in rings[0]]
            image.objects.append(SourceObject(label, (min(xs), min(ys), max(xs), max(ys)), line=at))
    return image


def _polygon(record: dict[str, object], place: str) -> Points:
    points = points_of(array(record.get("polygon"), f"polygon of {place}"), f"polygon of {place}")
    if len(points) < 3:
        raise DataError(f"{place} has {len(points)} vertices, not three or more", remedy="fix or remove the polygon")
    return points


def _instances_image(reading: Reading, path: Path) -> SourceImage:
    size = image_size(path)
    ids = _decode_ids(path)
    image = SourceImage("", *size, label_file=path)
    for value in (int(value) for value in np.unique(ids)):
        label_id, instance = divmod(value, 1000) if value >= 1000 else (value, -1)
        if label_id >= len(LABELS):
            with reading.object(f"id {value}", path):
                raise DataError(
                    f"pixel value {value} is not an instance of a Cityscapes label", remedy="check the file"
                )
            continue
        crowd = instance < 0 and label_id >= FIRST_THING
        label = LABELS[label_id] + ("group" if crowd else "")
        rows, columns = np.nonzero(ids == value)
        top, left = int(rows.min()), int(columns.min())
        crop = ids[top : int(rows.max()) + 1, left : int(columns.max()) + 1] == value
        encoded = encode_crop(crop, left, top, size)
        assert encoded is not None
        image.objects.append(SourceObject(label, encoded[1], encoded[0], float(crop.sum()), ignore=crowd))
    return image


def _decode_ids(path: Path) -> npt.NDArray[np.int64]:
    """(H, W) instance ids of an 8 or 16 bit PNG."""
    try:
        ids = cv2.imdecode(np.frombuffer(path.read_bytes(), np.uint8), cv2.IMREAD_UNCHANGED)
    except cv2.error:
        ids = None
    if ids is None or ids.ndim != 2:
        raise DataError("cannot be decoded as an image of instance ids", remedy="replace or remove the file", file=path)
    return np.asarray(ids, np.int64)
