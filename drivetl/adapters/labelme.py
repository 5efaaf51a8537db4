"""LabelMe: one JSON per image. Rectangles, polygons, circles and masks; shapes of one label and group are one object.

Images are next to their JSON, or inside it (`imageData`); `gather_embedded` writes images that exist only there.
"""

from __future__ import annotations

import base64
import binascii
import math
import posixpath
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from drivetl.adapters.reading import (
    Footage,
    ImageIndex,
    Reading,
    Sizes,
    folder_drive,
    label_files,
    labels_of,
    marked_ignore,
)
from drivetl.adapters.shapes import Points, box_of, encode_crop, flat, is_turned_rectangle, points_of
from drivetl.coco.io import load_json
from drivetl.coco.records import SourceImage, SourceObject
from drivetl.errors import DataError
from drivetl.files.fields import array, as_name, mapping, scalar, text, whole
from drivetl.files.images import decode_rgb, encoded_size
from drivetl.files.paths import safe_relative
from drivetl.files.write import write_atomically

NO_REGIONS = {
    "point": "points enclose nothing",
    "points": "points enclose nothing",
    "line": "lines enclose nothing",
    "linestrip": "lines enclose nothing",
}
INSIDE = "images that exist only inside their json"
"""The note from which the command knows that images have to be written."""

MAX_EMBEDDED_CHARACTERS = 400_000_000
"""base64 text of a 300 MB image file."""


def read(reading: Reading) -> Footage:
    """LabelMe footage: one image per JSON file below the root."""
    files = label_files(reading.root, ".json")
    folder = reading.root if reading.root.is_dir() else reading.root.parent
    images_root = reading.images or folder
    return Footage(images_root, _images(reading, files, folder, images_root))


def _images(reading: Reading, files: list[Path], folder: Path, images_root: Path) -> Iterator[SourceImage]:
    index = ImageIndex(images_root, (path.relative_to(folder).as_posix() for path in files))
    sizes = Sizes(images_root)
    for path in files:
        document: dict[str, Any] = {}
        with reading.file(path, partial(_labels, document)):
            document |= mapping(load_json(path), "the file")
            if "shapes" not in document:
                reading.note("JSON files without shapes, not LabelMe's")
                continue
            shapes = array(document["shapes"], "shapes")
            name = file_name(document, path.relative_to(folder).as_posix(), index)
            inside = name not in index and bool(document.get("imageData"))
            size = _embedded_size(document, path) if inside else _size(document, name, sizes)
            image = SourceImage(name, *size, drive=folder_drive(name), label_file=path)
            flags = mapping(document.get("flags") or {}, "flags")
            image.attributes = {str(key): scalar(value) for key, value in flags.items()}
            if inside:
                reading.note(INSIDE)
            elif name not in index:
                reading.note("images that are not on disk; their sizes are taken from the labels")
            image.objects = _objects(reading, shapes, path, size)
            yield image


def _labels(document: dict[str, Any]) -> list[str]:
    return labels_of(document.get("shapes"), "label")


def file_name(document: dict[str, Any], label_name: str, index: ImageIndex) -> str:
    """The image of a JSON: imagePath, relative to the JSON's folder, else the image with the JSON's stem, else the only
    image of that base name.

    Raises DataError for an imagePath that leaves the images root when no image has the stem.
    """
    written = text(document.get("imagePath") or "", "imagePath").replace("\\", "/")
    parent, stem = posixpath.dirname(label_name), posixpath.splitext(label_name)[0]
    suffix = posixpath.splitext(written)[1] or ".jpg"
    named = posixpath.normpath(posixpath.join(parent, written)) if written else stem + suffix
    existing = index.exact(named) or index.find(stem + suffix) or index.elsewhere(posixpath.join(parent, written))
    return existing or safe_relative(named)


def _size(document: dict[str, Any], name: str, sizes: Sizes) -> tuple[int, int]:
    if document.get("imageWidth") and document.get("imageHeight"):
        return whole(document["imageWidth"], "imageWidth"), whole(document["imageHeight"], "imageHeight")
    return sizes.of(name)


def _embedded_size(document: dict[str, Any], path: Path) -> tuple[int, int]:
    """(width, height) of an embedded image, which is decoded to check it."""
    data = _decoded(document["imageData"], "imageData")
    size = encoded_size(data, path)
    decode_rgb(data, path)
    return size


def _objects(reading: Reading, shapes: list[Any], path: Path, size: tuple[int, int]) -> list[SourceObject]:
    """Objects of an image; polygons of one label and group_id become one object of several rings."""
    objects: list[SourceObject] = []
    groups: dict[tuple[str, str], SourceObject] = {}
    for position, shape in enumerate(shapes):
        place = f"shapes[{position}]"
        label = shape.get("label") if isinstance(shape, dict) else None
        at = ("shapes", position)
        with reading.object(label if isinstance(label, str) and label else "(no label)", path, at):
            record = mapping(shape, place)
            label = as_name(label, f"label of {place}") if not isinstance(label, bool) else label
            kind = text(record.get("shape_type") or "polygon", f"shape_type of {place}")
            if not isinstance(label, str) or not label:
                reading.drop("(no label)", "without a label", path)
                continue
            if kind in NO_REGIONS:
                reading.drop(label, NO_REGIONS[kind])
                continue
            kind = "rotation" if kind == "rectangle" and _is_turned(record) else kind
            if kind == "rotation" and reading.rotated == "refuse":
                raise DataError("a rotated box", remedy="use --rotated enclose, or redraw the box")
            item = _shape(record, kind, label, place, size)
            if item is None:
                reading.drop(label, "an empty mask")
                continue
            item.line = at
            key = label, str(record.get("group_id"))
            if record.get("group_id") is not None and key in groups and _join(groups[key], item):
                reading.drop(label, "a part of an object that several shapes make (group_id)")
                continue
            groups[key] = item
            objects.append(item)
    return objects


def _shape(record: dict[str, Any], kind: str, label: str, place: str, size: tuple[int, int]) -> SourceObject | None:
    item = SourceObject(label, (0, 0, 0, 0), attributes=_attributes(record))
    item.ignore = marked_ignore(item.attributes)
    points = points_of(array(record.get("points"), f"points of {place}"), f"points of {place}")
    if (kind == "polygon" and len(points) >= 3) or (kind == "rotation" and len(points) == 4):  # X-AnyLabeling
        item.box_xyxy, item.segmentation = box_of(points), [flat(points)]
    elif kind == "rectangle" and len(points) in (2, 4):
        item.box_xyxy = box_of(points)
    elif kind == "circle" and len(points) == 2:
        outline = _circle(points)
        item.box_xyxy, item.segmentation = box_of(outline), [flat(outline)]
    elif kind == "mask" and len(points) == 2:
        mask = _mask(record, points, place, size)
        if mask is None:
            return None
        item.segmentation, item.box_xyxy = mask
    else:
        raise DataError(f"{place} is a {kind} with {len(points)} points", remedy="fix or remove the shape")
    return item


def _is_turned(record: dict[str, Any]) -> bool:
    """Whether a rectangle has four corners that are not upright."""
    points = array(record.get("points"), "points")
    return len(points) == 4 and is_turned_rectangle(points_of(points, "points"))


def _attributes(record: dict[str, Any]) -> dict[str, Any]:
    attributes = {str(key): scalar(value) for key, value in mapping(record.get("flags") or {}, "flags").items()}
    if isinstance(record.get("attributes"), dict):
        attributes |= {str(key): scalar(value) for key, value in record["attributes"].items()}
    for key in ("group_id", "difficult", "description"):
        unset = (None, "") if key == "group_id" else (None, "", False)  # group 0 is a group
        if record.get(key) not in unset:
            attributes[key] = scalar(record[key])
    return attributes


def _circle(points: Points, corners: int = 48) -> Points:
    (cx, cy), (x, y) = points
    radius = math.hypot(x - cx, y - cy)
    angles = [2 * math.pi * corner / corners for corner in range(corners)]
    return [(cx + radius * math.cos(angle), cy + radius * math.sin(angle)) for angle in angles]


def _mask(
    record: dict[str, Any], points: Points, place: str, size: tuple[int, int]
) -> tuple[dict[str, Any], tuple[float, float, float, float]] | None:
    """A mask shape: a base64 PNG whose top left corner is the first point."""
    left, top = round(points[0][0]), round(points[0][1])
    data = _decoded(record.get("mask"), f"mask of {place}")
    try:
        width, height = encoded_size(data, place)
    except DataError as error:
        raise DataError(
            f"mask of {place} is not a usable image ({error.reason})", remedy="fix or remove the shape"
        ) from None
    if left < 0 or top < 0 or left + width > size[0] or top + height > size[1]:
        raise DataError(f"mask of {place} is not inside the image", remedy="check imageWidth and imageHeight")
    try:
        pixels = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_GRAYSCALE)
    except cv2.error:
        pixels = None
    if pixels is None or pixels.shape != (height, width):
        raise DataError(f"mask of {place} is not a usable image", remedy="fix or remove the shape")
    return encode_crop(pixels > 0, left, top, size)


def _join(whole_object: SourceObject, part: SourceObject) -> bool:
    """Add the polygons of a part to an object; False unless both have polygons."""
    if not isinstance(whole_object.segmentation, list) or not isinstance(part.segmentation, list):
        return False
    whole_object.segmentation = whole_object.segmentation + part.segmentation
    a, b = whole_object.box_xyxy, part.box_xyxy
    whole_object.box_xyxy = min(a[0], b[0]), min(a[1], b[1]), max(a[2], b[2]), max(a[3], b[3])
    return True


def _decoded(value: object, name: str) -> bytes:
    content = text(value, name)
    if len(content) > MAX_EMBEDDED_CHARACTERS:
        raise DataError(f"{name} has {len(content)} characters", remedy="store the image next to its json")
    try:
        return base64.b64decode(content, validate=False)
    except (binascii.Error, ValueError):
        raise DataError(f"{name} is not base64", remedy="save the file again") from None


def gather_embedded(root: Path, images_root: Path, names: list[str], into: Path) -> int:
    """Write the named images that exist only inside their JSON to a folder, and copies of the others next to them.

    Returns the number of embedded images; 0 writes nothing. Existing files are left unchanged.
    """
    missing = {name for name in names if not (images_root / name).is_file()}
    inside = _embedded(root, images_root, missing) if missing else {}
    for name in names if inside else []:
        if (into / name).is_file():
            continue
        if name in inside:
            data = _decoded(mapping(load_json(inside[name]), "the file").get("imageData"), "imageData")
            write_atomically(into / name, data)
        elif name not in missing:
            write_atomically(into / name, (images_root / name).read_bytes())
    return len(inside)


def _embedded(root: Path, images_root: Path, missing: set[str]) -> dict[str, Path]:
    """Image name -> the JSON that contains it."""
    files, folder = label_files(root, ".json"), root if root.is_dir() else root.parent
    index = ImageIndex(images_root, (path.relative_to(folder).as_posix() for path in files))
    inside: dict[str, Path] = {}
    for path in files:
        try:
            document = mapping(load_json(path), "the file")
            name = file_name(document, path.relative_to(folder).as_posix(), index)
        except DataError:
            continue  # reported by the reader
        if name in missing and document.get("imageData"):
            inside[name] = path
    return inside
