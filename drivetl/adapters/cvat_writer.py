"""Write a dataset as CVAT XML 1.1, for images or for a video per drive: annotations or pre-labels to be corrected.

An object with one polygon becomes a `polygon`, with another mask a `mask`, any other a `box`. An ignore region of every
class has the label `ignore` (read it again with the taxonomy that is written next to it); one of some classes is a
shape per class with the checkbox `ignore` set. Attributes of objects are kept where their value is a single one.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import groupby
from pathlib import Path
from typing import Any, BinaryIO
from xml.sax.saxutils import XMLGenerator
from xml.sax.xmlreader import AttributesImpl

import numpy as np
import numpy.typing as npt
import yaml

from drivetl.coco import masks
from drivetl.coco.boxes import xywh_to_xyxy
from drivetl.coco.records import Annotation, Dataset, IgnoreRegion, ImageRecord
from drivetl.errors import DataError
from drivetl.files.write import new_directory

IGNORE = "ignore"
"""Label of a region that hides every class, and the checkbox of a region that hides some."""
NOT_WRITTEN = ("track_id", "ignore_region")
"""Attributes that are elements of their own, or follow from the shape."""
OF_SHAPES = ("occluded", "z_order", "group_id")
"""Attributes that CVAT itself gives every shape."""
NOT_XML = re.compile("[^\t\n\r -\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
"""Characters that XML 1.0 cannot hold."""


@dataclass(frozen=True)
class Shape:
    """One shape of one image."""

    label: str
    tag: str
    """box, polygon or mask."""
    place: dict[str, str]
    """The attributes that say where it is."""
    box: dict[str, str]
    """Those of its box."""
    attributes: dict[str, Any]

    @property
    def values(self) -> dict[str, str]:
        """The user's attributes as text."""
        names = (name for name in self.attributes if name not in (*OF_SHAPES, *NOT_WRITTEN))
        return {name: _text(self.attributes[name]) for name in names}

    @property
    def origin(self) -> str:
        """CVAT's source: auto for a detection, which has a score."""
        return "auto" if "score" in self.attributes else "manual"


def write_cvat(dataset: Dataset, folder: Path) -> Counter[str]:
    """Write folder/annotations.xml (CVAT for images 1.1) and folder/taxonomy.yaml; the folder must not exist yet.

    Images keep their names, by which CVAT finds them in a task. Returns what CVAT cannot represent, with counts. Raises
    DataError when the folder is not empty, or a mask does not fit its image.
    """
    lost: Counter[str] = Counter()
    shapes = {image.id: list(_shapes(dataset, image, lost)) for image in dataset.images}
    with new_directory(folder) as work:
        with (work / "annotations.xml").open("wb") as file:
            page = _Page(file)
            with page.element("annotations"):
                page.line("version", text="1.1")
                _meta(page, dataset, "annotation", len(dataset.images), [s for one in shapes.values() for s in one])
                for number, image in enumerate(dataset.images):
                    size = {"width": str(image.width), "height": str(image.height)}
                    with page.element("image", {"id": str(number), "name": image.file_name, **size}):
                        for shape in shapes[image.id]:
                            _shape(page, shape, {"label": shape.label, "source": shape.origin})
        _write_taxonomy(dataset, work / "taxonomy.yaml")
    return lost


def write_cvat_video(dataset: Dataset, folder: Path) -> Counter[str]:
    """Write folder/DRIVE.xml (CVAT for video 1.1) per drive and folder/taxonomy.yaml; the folder must not exist yet.

    A frame's number is its `frame_index`, or its place in the drive where those are missing. Objects with one track id
    and class are one track, which is hidden in frames where the object is missing; any other object is a track of one
    frame. Returns what CVAT cannot represent, with counts. Raises DataError as `write_cvat`, and for images without a
    drive or of several sizes in one drive.
    """
    lost: Counter[str] = Counter()
    images = sorted(dataset.images, key=lambda image: (image.drive, image.frame_index or 0, image.file_name))
    names: set[str] = set()
    with new_directory(folder) as work:
        for drive, frames in groupby(images, lambda image: image.drive):
            name = re.sub(r"[^\w.-]", "_", drive)
            if not drive or name in names:
                what = "an image has no drive" if not drive else f"two drives have the name {name!r} as a file"
                raise DataError(what, remedy="use --format cvat, which lists images by name")
            names.add(name)
            with (work / f"{name}.xml").open("wb") as file:
                _video(_Page(file), dataset, drive, list(frames), lost)
        _write_taxonomy(dataset, work / "taxonomy.yaml")
    return lost


def _video(page: _Page, dataset: Dataset, drive: str, frames: list[ImageRecord], lost: Counter[str]) -> None:
    sizes = {(image.width, image.height) for image in frames}
    if len(sizes) > 1:
        raise DataError(
            f"drive {drive!r} has images of {len(sizes)} sizes", remedy="use --format cvat, a video has one size"
        )
    known = [image.frame_index for image in frames if image.frame_index is not None]
    numbers = known if len(set(known)) == len(frames) else list(range(len(frames)))
    shapes = [
        (number, shape)
        for number, image in zip(numbers, frames, strict=True)
        for shape in _shapes(dataset, image, lost)
    ]
    size = max(numbers, default=-1) + 1
    with page.element("annotations"):
        page.line("version", text="1.1")
        _meta(page, dataset, "interpolation", size, [shape for _, shape in shapes], drive, sizes.pop())
        for number, members in enumerate(_tracks(shapes, lost)):
            head = {"id": str(number), "label": members[0][1].label, "source": members[0][1].origin}
            with page.element("track", head):
                _track(page, _of_one_kind(members, lost), size)


def _tracks(shapes: list[tuple[int, Shape]], lost: Counter[str]) -> list[list[tuple[int, Shape]]]:
    """(frame, shape) by label and track id; a shape without a track id is alone."""
    tracks: dict[tuple[object, ...], dict[int, Shape]] = {}
    for place, (number, shape) in enumerate(shapes):
        alone, track = (place,), shape.attributes.get("track_id")
        key = alone if track is None else (shape.label, _text(track))
        if number in tracks.get(key, ()):
            lost["objects whose track id is duplicated in a frame, written as tracks of their own"] += 1
            key = alone
        tracks.setdefault(key, {})[number] = shape
    return [sorted(members.items()) for members in tracks.values()]


def _of_one_kind(members: list[tuple[int, Shape]], lost: Counter[str]) -> list[tuple[int, Shape]]:
    """A track of CVAT has one kind of shape; one of several kinds becomes boxes."""
    if len({shape.tag for _, shape in members}) == 1:
        return members
    lost["masks in tracks that also have boxes, written as boxes"] += sum(shape.tag != "box" for _, shape in members)
    return [(number, replace(shape, tag="box", place=shape.box)) for number, shape in members]


def _track(page: _Page, members: list[tuple[int, Shape]], size: int) -> None:
    """The shapes of a track: each a key frame, hidden from the frame after it on until the next one."""
    following = [number for number, _ in members[1:]] + [size]
    for (number, shape), then in zip(members, following, strict=True):
        _shape(page, shape, {"frame": str(number), "keyframe": "1", "outside": "0"})
        if then > number + 1:
            _shape(page, shape, {"frame": str(number + 1), "keyframe": "1", "outside": "1"})


def _shapes(dataset: Dataset, image: ImageRecord, lost: Counter[str]) -> Iterator[Shape]:
    """The objects of an image, then its ignore regions."""
    for item in image.annotations:
        attributes = {name: value for name, value in item.attributes.items() if _is_single(value)}
        if len(attributes) < len(item.attributes):
            lost["attributes of objects that are lists"] += len(item.attributes) - len(attributes)
        yield _shape_of(item, dataset.categories[item.category_id - 1], attributes, image)
    for region in image.ignore_regions:
        labels = [dataset.categories[number - 1] for number in region.category_ids]
        for label in labels:
            yield _shape_of(region, label, {IGNORE: True}, image)
        if not labels:
            yield _shape_of(region, ignore_label(dataset), {}, image)


def ignore_label(dataset: Dataset) -> str:
    """The label of regions that hide every class."""
    return f"{IGNORE} region" if IGNORE in dataset.categories else IGNORE


def _is_single(value: object) -> bool:
    return isinstance(value, str | int | float | bool)


def _shape_of(item: Annotation | IgnoreRegion, label: str, attributes: dict[str, Any], image: ImageRecord) -> Shape:
    corners = zip(("xtl", "ytl", "xbr", "ybr"), xywh_to_xyxy(item.bbox_xywh), strict=True)
    box = {name: _text(value) for name, value in corners}
    if not item.segmentation:
        return Shape(label, "box", box, box, attributes)
    if isinstance(item.segmentation, list) and len(item.segmentation) == 1:
        ring = item.segmentation[0]
        points = ";".join(f"{_text(x)},{_text(y)}" for x, y in zip(ring[::2], ring[1::2], strict=True))
        return Shape(label, "polygon", {"points": points}, box, attributes)
    mask = masks.of_object(item, image, None)
    place = None if mask is None else _mask_place(mask)
    return Shape(label, "mask", place, box, attributes) if place else Shape(label, "box", box, box, attributes)


def _mask_place(mask: npt.NDArray[np.uint8]) -> dict[str, str] | None:
    """`left`, `top`, `width`, `height` of the crop around a (H, W) mask, and its row-major runs, background first; None
    for an empty mask."""
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    if not len(rows):
        return None
    top, left = int(rows[0]), int(columns[0])
    crop = mask[top : rows[-1] + 1, left : columns[-1] + 1]
    changes = np.flatnonzero(np.diff(np.concatenate([[0], crop.reshape(-1)])))
    runs = np.diff(np.concatenate([[0], changes, [crop.size]]))
    place = {"left": left, "top": top, "width": crop.shape[1], "height": crop.shape[0]}
    return {"rle": ", ".join(map(str, runs))} | {name: str(value) for name, value in place.items()}


def _shape(page: _Page, shape: Shape, head: dict[str, str]) -> None:
    own = {name: str(int(shape.attributes.get(name) or 0)) for name in ("occluded", "z_order")}
    if shape.attributes.get("group_id") is not None:
        own["group_id"] = _text(shape.attributes["group_id"])
    with page.element(shape.tag, head | own | shape.place):
        for name, value in shape.values.items():
            page.line("attribute", {"name": name}, value)


def _meta(
    page: _Page,
    dataset: Dataset,
    mode: str,
    size: int,
    shapes: list[Shape],
    name: str = "drivetl",
    width_height: tuple[int, int] | None = None,
) -> None:
    """The task with its labels and their attributes: what a CVAT project needs to take the shapes."""
    kinds: dict[str, dict[str, str]] = {label: {} for label in (*dataset.categories, ignore_label(dataset))}
    for shape in shapes:
        for attribute in shape.values:
            is_flag = isinstance(shape.attributes[attribute], bool)
            kinds[shape.label].setdefault(attribute, "checkbox" if is_flag else "text")
    with page.element("meta"), page.element("task"):
        page.line("name", text=name)
        page.line("size", text=str(size))
        page.line("mode", text=mode)
        with page.element("labels"):
            for label, attributes in kinds.items():
                with page.element("label"):
                    page.line("name", text=label)
                    with page.element("attributes"):
                        for attribute, kind in attributes.items():
                            with page.element("attribute"):
                                page.line("name", text=attribute)
                                page.line("mutable", text="True")
                                page.line("input_type", text=kind)
                                page.line("default_value", text="false" if kind == "checkbox" else "")
                                page.line("values", text="false" if kind == "checkbox" else "")
        if width_height is not None:
            with page.element("original_size"):
                page.line("width", text=str(width_height[0]))
                page.line("height", text=str(width_height[1]))


def _write_taxonomy(dataset: Dataset, path: Path) -> None:
    """The taxonomy with which the files are read again: the same classes, and the label of ignore regions."""
    classes = {name: {"labels": [name]} for name in dataset.categories}
    taxonomy = {"name": "cvat", "classes": classes, "ignore": {ignore_label(dataset): "all"}}
    path.write_text(yaml.safe_dump(taxonomy, sort_keys=False, allow_unicode=True), "utf-8")


def _text(value: object) -> str:
    """A value as CVAT writes it: true and false, numbers as short as they are exact."""
    if isinstance(value, bool):
        return str(value).lower()
    return f"{value:.10g}" if isinstance(value, float) else str(value)


class _Page:
    """Elements of an XML file, one per line. Raises DataError for a text that XML cannot hold."""

    def __init__(self, file: BinaryIO):
        self._xml, self._depth = XMLGenerator(file, "utf-8", short_empty_elements=True), 0
        self._xml.startDocument()

    @contextmanager
    def element(self, tag: str, attributes: dict[str, str] | None = None) -> Iterator[None]:
        """An element around those that are written in the block."""
        self._start(tag, attributes)
        self._depth += 1
        yield
        self._depth -= 1
        self._indent()
        self._xml.endElement(tag)

    def line(self, tag: str, attributes: dict[str, str] | None = None, text: str = "") -> None:
        """An element with a text."""
        self._start(tag, attributes)
        self._xml.characters(_checked(text))
        self._xml.endElement(tag)

    def _start(self, tag: str, attributes: dict[str, str] | None) -> None:
        if self._depth:
            self._indent()
        checked = {name: _checked(value) for name, value in (attributes or {}).items()}
        self._xml.startElement(tag, AttributesImpl(checked))

    def _indent(self) -> None:
        self._xml.ignorableWhitespace("\n" + "  " * self._depth)


def _checked(text: str) -> str:
    if found := NOT_XML.search(text):
        raise DataError(f"{text[:80]!r} has the character {found[0]!r}, which XML cannot hold", remedy="rename it")
    return text
