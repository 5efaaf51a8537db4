"""Pascal VOC: one XML per image. Boxes are read as written, in continuous pixels.

`difficult` objects are ignore regions, as in VOC's own evaluation. Lists in ImageSets/Main become the attribute
`subset`. When SegmentationObject/<stem>.png exists, its n-th
colour index is the mask of the n-th object. The mask is in the same sub-folder as the XML file or, when no other XML
file has that stem, directly in SegmentationObject.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from functools import partial
from pathlib import Path, PureWindowsPath
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from drivetl.adapters.reading import (
    Footage,
    ImageIndex,
    Reading,
    Sizes,
    Subsets,
    first_folder,
    folder_drive,
    is_nonzero,
    label_files,
    marked_ignore,
)
from drivetl.adapters.shapes import enclose_rotated, encode_crop, flat, points_of
from drivetl.adapters.xml import Node, stream
from drivetl.coco.records import Box, SourceImage, SourceObject
from drivetl.errors import DataError
from drivetl.files.fields import number, scalar, whole
from drivetl.files.images import image_size

HANDLED = {"name", "bndbox", "difficult", "part", "actions", "polygon", "deleted", "attributes"}
"""Children of <object> that do not become attributes as they are."""


def read(reading: Reading) -> Footage:
    """VOC footage: one image per XML file."""
    labels_root = first_folder(reading.root, "Annotations")
    files = label_files(labels_root, ".xml")
    images_root = reading.images or first_folder(reading.root, "JPEGImages", "images")
    if not images_root.is_dir():
        images_root = reading.root.parent
    return Footage(images_root, _images(reading, files, labels_root, images_root))


def _images(reading: Reading, files: list[Path], labels_root: Path, images_root: Path) -> Iterator[SourceImage]:
    # Folders below `Annotations` are drives; elsewhere they may have any name.
    names = None if labels_root != reading.root else [path.relative_to(labels_root).as_posix() for path in files]
    index, sizes = ImageIndex(images_root, names), Sizes(images_root)
    described: set[str] = set()
    stems = Counter(path.stem for path in files)
    subsets = Subsets(sorted((reading.root / "ImageSets" / "Main").glob("*.txt")))
    for path in files:
        root = Node("annotation", {}, 1)
        with reading.file(path, partial(_labels, root)):
            root.children = list(stream(path, "annotation"))
            relative = path.relative_to(labels_root) if path != labels_root else Path(path.name)
            name = _file_name(root, relative, index)
            described.add(name)
            size = _size(root, name, sizes)
            instances = _instances(reading, relative, size, unique_stem=stems[path.stem] == 1)
            if name not in index:
                reading.note("images that are not on disk; their sizes are taken from the labels")
            image = SourceImage(name, *size, drive=folder_drive(name), label_file=path)
            image.attributes = subsets.attributes(reading, name)
            image.objects = list(_objects(reading, root, path, size, instances))
            yield image
    missing = len(set(index.names) - described)
    if missing:
        reading.note("images without an XML file, left out", missing)


def _labels(root: Node) -> list[str]:
    return [item.value("name") or "(no name)" for item in root.all("object")]


def _file_name(root: Node, relative: Path, index: ImageIndex) -> str:
    """The image of a label file: the one with its stem, else <filename>."""
    named = PureWindowsPath(root.value("filename")).name
    stem = relative.with_suffix("").as_posix()
    suffix = PureWindowsPath(named).suffix or ".jpg"
    image_folders = [
        "/".join(folder if part == "Annotations" else part for part in relative.parent.parts)
        for folder in ("JPEGImages", "images")
    ]
    candidates = [stem + suffix]
    candidates += [f"{folder}/{relative.stem}{suffix}" for folder in image_folders if folder]
    candidates += [(relative.parent / named).as_posix(), named] if named else []
    return index.find(*candidates) or candidates[0]


def _size(root: Node, name: str, sizes: Sizes) -> tuple[int, int]:
    node = root.child("size")
    if node is not None:
        width, height = node.value("width", "0"), node.value("height", "0")
        try:
            size = whole(width, "width"), whole(height, "height")
        except DataError as error:
            error.line = node.line
            raise
        if min(size) > 0:
            return size
    return sizes.of(name)


def _objects(
    reading: Reading, root: Node, path: Path, size: tuple[int, int], instances: npt.NDArray[np.uint8] | None
) -> Iterator[SourceObject]:
    for position, node in enumerate(root.all("object"), 1):
        label = node.value("name")
        with reading.object(label or "(no name)", path, node.line):
            if not label:
                raise DataError("an object has no <name>", remedy="add the name or remove the object")
            if node.value("deleted") == "1":
                reading.drop(label, "deleted in the source")
                continue
            item = SourceObject(label, _box(node), line=node.line, attributes=_attributes(node))
            item.ignore = marked_ignore(item.attributes)
            item.segmentation = _polygons(reading, node)
            _count_unread(reading, node)
            if instances is not None:
                encoded = encode_crop(instances == position, 0, 0, size)
                if encoded is not None:
                    item.segmentation = encoded[0]
            enclose_rotated(reading, item)
            yield item


def _box(node: Node) -> Box:
    bndbox = node.child("bndbox")
    if bndbox is None:
        raise DataError("an object has no <bndbox>", remedy="add the box or remove the object")
    values = [number(bndbox.value(tag), tag) for tag in ("xmin", "ymin", "xmax", "ymax")]
    return values[0], values[1], values[2], values[3]


def _polygons(reading: Reading, node: Node) -> list[list[float]] | None:
    """The <polygon> elements of an object: <x1>, <y1>, <x2>, ... (Roboflow), or <pt> with <x> and <y>."""
    rings = []
    for polygon in node.all("polygon"):
        points = [(point.value("x"), point.value("y")) for point in polygon.all("pt")]
        numbered = {child.tag: child.text.strip() for child in polygon.children}
        while not polygon.all("pt") and f"x{len(points) + 1}" in numbered:
            points.append((numbered[f"x{len(points) + 1}"], numbered.get(f"y{len(points) + 1}", "")))
        if len(points) < 3:
            reading.note("<polygon> elements without three readable points, not read")
            continue
        rings.append(flat(points_of(points, "a point of <polygon>")))
    return rings or None


def _count_unread(reading: Reading, node: Node) -> None:
    """Note elements with children that are not read, and raise DataError for a rotation inside <bndbox>."""
    for child in node.children:
        if child.children and child.tag not in HANDLED - {"part"}:
            reading.note(f"<{child.tag}> elements, not read")
    for child in (node.child("bndbox") or node).children:
        if child.tag in ("angle", "rotation", "theta") and is_nonzero(child.text):
            raise DataError(
                f"a box with <{child.tag}> {child.text.strip()}, whose unit and direction are not known",
                remedy="export upright boxes, or polygons",
            )


def _attributes(node: Node) -> dict[str, Any]:
    """pose, truncated, occluded, difficult and other attributes; numbers as numbers."""
    attributes: dict[str, Any] = {}
    for child in node.children:
        if child.tag not in HANDLED | {"truncated", "occluded", "difficult"} and not child.children:
            attributes[child.tag] = scalar(child.text.strip())
    for tag in ("truncated", "occluded", "difficult"):
        child_value = node.value(tag)
        if child_value:
            flag = {"true": 1.0, "false": 0.0}.get(child_value.lower())
            value = number(child_value, tag) if flag is None else flag
            attributes[tag] = int(value) if value == int(value) and abs(value) < 2**53 else value
    for child in node.children:
        if child.tag == "actions":
            attributes["actions"] = sorted(item.tag for item in child.children if item.text.strip() == "1")
        if child.tag == "attributes":
            attributes |= {item.value("name"): scalar(item.value("value")) for item in child.all("attribute")}
    return attributes


def _instances(
    reading: Reading, relative: Path, size: tuple[int, int], *, unique_stem: bool
) -> npt.NDArray[np.uint8] | None:
    """(H, W) instance numbers of the mask of a label file, or None without a mask.

    unique_stem: no other label file has this stem, so the mask may be outside its sub-folder.
    """
    folder = reading.root / "SegmentationObject"
    path, without_folders = folder / relative.with_suffix(".png"), folder / f"{relative.stem}.png"
    if not path.is_file():
        if not without_folders.is_file():
            return None
        if not unique_stem:
            reading.note("XML files without their mask, because other XML files have the same name")
            return None
        path = without_folders
    if image_size(path) != size:
        raise DataError(f"is not {size[0]} x {size[1]} like its image", remedy="replace or remove the mask", file=path)
    try:
        with Image.open(path) as image:
            if image.mode in ("P", "L"):
                return np.asarray(image, np.uint8)
            if image.mode not in ("RGB", "RGBA"):
                raise ValueError(f"an image of mode {image.mode}, not of VOC's colours")
            return colour_index(np.asarray(image.convert("RGB"), np.uint8))
    except (OSError, SyntaxError, ValueError) as error:
        raise DataError(f"cannot be decoded ({error})", remedy="replace or remove the mask", file=path) from None


def colour_index(rgb: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    """(H, W, 3) colours of VOC's palette -> (H, W) indices. The bits of an index are spread over R, G and B in turn."""
    index = np.zeros(rgb.shape[:2], np.uint8)
    for bit in range(8):
        channel, shift = bit % 3, 7 - bit // 3
        index |= ((rgb[..., channel] >> shift) & 1) << bit
    return index
