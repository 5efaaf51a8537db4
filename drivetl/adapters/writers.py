"""Write a dataset as YOLO or Pascal VOC. What a format cannot represent is counted.

KITTI is written by `drivetl.adapters.kitti`, COCO by `drivetl.coco.writing`.
"""

from __future__ import annotations

from collections import Counter
from pathlib import Path, PurePosixPath
from xml.sax.saxutils import escape

import yaml

from drivetl.coco.boxes import xywh_to_xyxy
from drivetl.coco.records import Annotation, Box, Dataset, ImageRecord
from drivetl.errors import DataError
from drivetl.files.write import new_directory

VOC_FLAGS = ("pose", "truncated", "occluded")
"""Attributes that VOC has elements for."""


def _new_file(path: Path, image: ImageRecord) -> Path:
    """The path, with its folder created. Raises DataError when another image has the same label file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.exists():
        raise DataError(
            f"image {image.file_name!r} and another image differ only in their suffix, so they share a label file",
            remedy="rename one of the two",
        )
    return path


def write_yolo(dataset: Dataset, folder: Path) -> Counter[str]:
    """Write folder/data.yaml and folder/labels/<image>.txt; the folder must not exist yet.

    An object whose segmentation is one polygon becomes a polygon row, any other a box row. Returns what YOLO cannot
    represent, with counts. Raises DataError when the folder is not empty, or two images share a label file.
    """
    lost: Counter[str] = Counter()
    with new_directory(folder) as work:
        head = {"path": ".", "train": "images", "val": "images", "names": list(dataset.categories)}
        (work / "data.yaml").write_text(yaml.safe_dump(head, sort_keys=False, allow_unicode=True), "utf-8")
        for image in dataset.images:
            if image.ignore_regions:
                lost["ignore regions"] += len(image.ignore_regions)
            rows = [_yolo_row(item, image, lost) for item in image.annotations]
            path = _new_file(work / "labels" / PurePosixPath(image.file_name).with_suffix(".txt"), image)
            path.write_text("".join(row + "\n" for row in rows), "utf-8")
    return lost


def _yolo_row(item: Annotation, image: ImageRecord, lost: Counter[str]) -> str:
    x, y, w, h = item.bbox_xywh
    values = [(x + w / 2) / image.width, (y + h / 2) / image.height, w / image.width, h / image.height]
    if item.segmentation is not None:
        from drivetl.coco import masks  # imports numpy

        problem = masks.problem(item.segmentation, image.height, image.width)
        if problem is not None:
            raise DataError(f"image {image.file_name!r}: {problem}", remedy="fix or remove the segmentation")
        rings = item.segmentation if isinstance(item.segmentation, list) else []
        if len(rings) == 1 and len(rings[0]) >= 6:  # a row of two points would be a box
            sides = image.width, image.height
            values = [value / sides[index % 2] for index, value in enumerate(rings[0])]
        else:
            lost["masks that are not a single polygon, written as boxes"] += 1
    return " ".join([str(item.category_id - 1), *(f"{value:.10g}" for value in values)])


def write_voc(dataset: Dataset, folder: Path) -> Counter[str]:
    """Write folder/Annotations/<image>.xml; the folder must not exist yet.

    An ignore region becomes one `difficult` object per class that it hides. Returns what VOC cannot represent, with
    counts. Raises DataError when the folder is not empty, or two images share a label file.
    """
    lost: Counter[str] = Counter()
    with new_directory(folder) as work:
        for image in dataset.images:
            path = _new_file(work / "Annotations" / PurePosixPath(image.file_name).with_suffix(".xml"), image)
            path.write_text(_voc_xml(image, dataset.categories, lost), "utf-8")
    return lost


def _voc_xml(image: ImageRecord, categories: tuple[str, ...], lost: Counter[str]) -> str:
    objects = []
    for item in image.annotations:
        if item.segmentation is not None:
            lost["masks"] += 1
        flags = {name: item.attributes[name] for name in VOC_FLAGS if name in item.attributes}
        objects.append(_voc_object(categories[item.category_id - 1], item.bbox_xywh, flags | {"difficult": 0}))
    for region in image.ignore_regions:
        hidden = region.category_ids or range(1, len(categories) + 1)
        objects += [_voc_object(categories[number - 1], region.bbox_xywh, {"difficult": 1}) for number in hidden]
    return (
        f"<annotation>\n  <filename>{escape(PurePosixPath(image.file_name).name)}</filename>\n"
        f"  <size><width>{image.width}</width><height>{image.height}</height><depth>3</depth></size>\n"
        + "".join(objects)
        + "</annotation>\n"
    )


def _voc_object(name: str, bbox_xywh: Box, flags: dict[str, object]) -> str:
    corners = zip(("xmin", "ymin", "xmax", "ymax"), xywh_to_xyxy(bbox_xywh), strict=True)
    box = "".join(f"<{tag}>{value:.10g}</{tag}>" for tag, value in corners)
    lines = "".join(f"    <{tag}>{escape(_flag(value))}</{tag}>\n" for tag, value in flags.items())
    return f"  <object>\n    <name>{escape(name)}</name>\n{lines}    <bndbox>{box}</bndbox>\n  </object>\n"


def _flag(value: object) -> str:
    return str(int(value)) if isinstance(value, bool) else str(value)
