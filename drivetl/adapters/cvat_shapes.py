"""The shapes, tags and attributes of CVAT XML, common to its image and video exports."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from drivetl.adapters.reading import Reading, marked_ignore
from drivetl.adapters.shapes import Points, box_of, ellipse_outline, flat, points_of, rotated_box, row_major_rle
from drivetl.adapters.xml import Node
from drivetl.coco.records import Box, SourceObject
from drivetl.errors import DataError
from drivetl.files.fields import number, scalar, whole

NO_REGIONS = {
    "polyline": "a polyline encloses nothing",
    "points": "points enclose nothing",
    "skeleton": "skeletons are not converted",
}
REGIONS = ("box", "polygon", "mask", "ellipse", "cuboid")

CUBOID_CORNERS = tuple(f"{corner}{face}" for face in (1, 2) for corner in ("tl", "bl", "tr", "br"))
"""A cuboid has its front face (1) and back face (2): xtl1, ytl1, xbl1, ..."""


@dataclass(slots=True)
class Task:
    """One task or job of `<meta>`: its drive and its labelled frames."""

    name: str = ""
    size: int | None = None
    """Number of frames."""
    start: int = 0
    """Number of its first frame in the video."""
    stop: int | None = None
    step: int = 1
    """Every `step`-th frame of the video is a frame of the task (`frame_filter` step=n)."""
    width_height: tuple[int, int] | None = None
    segments: list[tuple[int, int]] = field(default_factory=list)
    """(first, last) frame of each job, as frame numbers of the task."""
    subset: str = ""
    offset: int = 0
    """Number by which a project export increases the task's frame numbers."""
    mode: str = ""
    """interpolation for a video, annotation for images; "" when it is not known."""


@dataclass(slots=True)
class Meta:
    """The content of `<meta>` that the readers use."""

    tasks: dict[str, Task] = field(default_factory=dict)
    """By task id."""
    kinds: dict[tuple[str, str], str] = field(default_factory=dict)
    """(label, attribute name) -> input_type."""
    subsets: int = 1
    is_project: bool = False
    is_video: bool = False
    source: str = ""
    """Name of the video file."""


def parse_meta(node: Node) -> Meta:
    """`<meta>` of a project, a task or a job. Raises DataError with the line for a value that is not a number."""
    meta = Meta(source=node.value("source"))
    outer_size = _size(node)
    for kind in ("project", "task", "job"):
        for owner in node.all(kind):
            inner = owner.child("tasks")
            for task in inner.all("task") if inner is not None else [owner] if kind != "project" else []:
                meta.tasks[task.value("id")] = _task(task, outer_size)
                meta.source = meta.source or task.value("source")
                meta.is_video |= task.value("mode") == "interpolation"
            for label in (owner.child("labels") or Node("labels", {}, 0)).all("label"):
                for attribute in (label.child("attributes") or Node("attributes", {}, 0)).all("attribute"):
                    meta.kinds[label.value("name"), attribute.value("name")] = attribute.value("input_type")
            meta.subsets = max(meta.subsets, len(set(owner.value("subsets").split())))
            meta.is_project |= kind == "project"
    if meta.is_project:
        _set_offsets(meta.tasks)
    return meta


def _set_offsets(tasks: dict[str, Task]) -> None:
    """Set the frame offset of each task of a project export.

    CVAT numbers the frames of a subset consecutively: each task, in the order of the task ids, starts where the one
    before it ends (ProjectData._init_task_frame_offsets of CVAT's dataset_manager/bindings.py).
    """
    ends: dict[str, int] = {}
    for _, task in sorted(tasks.items(), key=lambda pair: (len(pair[0]), pair[0])):
        task.offset = ends.get(task.subset, 0)
        size = task.size if task.size is not None else len(range(task.start, (task.stop or -1) + 1, task.step))
        ends[task.subset] = task.offset + task.start + task.step * size


def _task(node: Node, outer_size: tuple[int, int] | None) -> Task:
    task = Task(node.value("name"), width_height=_size(node) or outer_size, subset=node.value("subset"))
    task.mode = node.value("mode")
    with on_line_of(node):
        task.size = whole(node.value("size"), "size") if node.value("size") else None
        task.start = whole(node.value("start_frame", "0") or "0", "start_frame")
        task.stop = whole(node.value("stop_frame"), "stop_frame") if node.value("stop_frame") else None
        for part in node.value("frame_filter").replace(";", "&").split("&"):
            key, _, value = part.partition("=")
            if key.strip() == "step":
                task.step = whole(value.strip(), "step of frame_filter")
        if task.step < 1 or task.start < 0:
            raise DataError(
                f"start_frame {task.start} or step {task.step} is not usable", remedy="fix the frame numbers in <meta>"
            )
        segments = node.child("segments")
        for segment in segments.all("segment") if segments is not None else []:
            task.segments.append(
                (whole(segment.value("start"), "segment start"), whole(segment.value("stop"), "segment stop"))
            )
    return task


def _size(node: Node) -> tuple[int, int] | None:
    size = node.child("original_size")
    if size is None:
        return None
    with on_line_of(size):
        return whole(size.value("width"), "width"), whole(size.value("height"), "height")


@contextmanager
def on_line_of(node: Node) -> Iterator[None]:
    """Adds the line of an element to a DataError raised in the block."""
    try:
        yield
    except DataError as error:
        error.line = node.line if error.line is None else error.line
        raise


def tag_attributes(node: Node, meta: Meta) -> dict[str, Any]:
    """The image attributes of a `<tag>`.

    `<tag label="night"/>` is {night: true}; attributes of a tag become attributes of the image; a tag whose only
    attribute is called value, type or kind (or has the tag's name) is named by its label: {weather: fog}.
    """
    label = node.attributes.get("label", "")
    attributes = attributes_of(node, label, meta)
    if not attributes:
        return {label: True} if label else {}
    if len(attributes) == 1 and next(iter(attributes)) in ("value", "type", "kind", label):
        return {label: next(iter(attributes.values()))}
    return attributes


def attributes_of(node: Node, label: str, meta: Meta) -> dict[str, Any]:
    """The user's attributes of a shape or tag: checkboxes as booleans, numbers as numbers, the rest as written."""
    attributes: dict[str, Any] = {}
    for child in node.all("attribute"):
        name, value = child.attributes.get("name", ""), child.text.strip()
        kind = meta.kinds.get((label, name), "")
        if kind == "number":
            with on_line_of(child):
                attributes[name] = number(value, f"attribute {name}")
        else:
            attributes[name] = scalar(value) if kind in ("", "checkbox") else value
    return attributes


def set_attribute(attributes: dict[str, Any], name: str, value: object) -> None:
    """Set a property that CVAT itself gives a shape; a user's attribute of that name moves to `cvat.<name>`."""
    if name in attributes:
        attributes[f"cvat.{name}"] = attributes[name]
    attributes[name] = value


def parse_shape(
    reading: Reading, node: Node, label: str, path: Path, size: tuple[int, int], meta: Meta
) -> SourceObject | None:
    """The object of a shape element; None when it is dropped, rejected, or not a shape."""
    if node.tag not in REGIONS and node.tag not in NO_REGIONS:
        return None
    with reading.object(label or "(no label)", path, node.line):
        if node.tag in NO_REGIONS:
            reading.drop(label or "(no label)", NO_REGIONS[node.tag])
            return None
        if not label:
            reading.drop("(no label)", "without a label", path, node.line)
            return None
        return _region(reading, node, label, size, meta)
    return None


def shape_labels(node: Node) -> list[str]:
    """The labels of all shapes of an image."""
    shapes = [child for child in node.children if child.tag in REGIONS or child.tag in NO_REGIONS]
    return [shape.attributes.get("label") or "(no label)" for shape in shapes]


def _region(reading: Reading, node: Node, label: str, size: tuple[int, int], meta: Meta) -> SourceObject | None:
    attributes = attributes_of(node, label, meta)
    for name in ("occluded", "z_order", "group_id"):
        if node.attributes.get(name):
            set_attribute(attributes, name, whole(node.attributes[name], name))
    if "source_label" in attributes:
        set_attribute(attributes, "source_label", label)
    item = SourceObject(label, (0, 0, 0, 0), line=node.line, attributes=attributes)
    item.ignore = marked_ignore(attributes)
    if node.tag == "box":
        _fill_box(reading, item, node)
    elif node.tag == "polygon":
        points = polygon_points(node)
        item.box_xyxy, item.segmentation = box_of(points), [flat(points)]
    elif node.tag == "ellipse":
        cx, cy, rx, ry = (number(node.need(name), name) for name in ("cx", "cy", "rx", "ry"))
        outline = ellipse_outline(cx, cy, rx, ry, number(node.attributes.get("rotation", "0"), "rotation"))
        item.box_xyxy, item.segmentation = box_of(outline), [flat(outline)]
    elif node.tag == "cuboid":
        corners = [[node.need(f"x{name}"), node.need(f"y{name}")] for name in CUBOID_CORNERS]
        item.box_xyxy = box_of(points_of(corners, "corners"))
        reading.note("cuboids, each enclosed by its upright box")
    else:
        mask = _mask(node, size)
        if mask is None:
            reading.drop(label, "an empty mask")
            return None
        item.segmentation, item.box_xyxy = mask
    return item


def _fill_box(reading: Reading, item: SourceObject, node: Node) -> None:
    x1, y1, x2, y2 = (number(node.need(name), name) for name in ("xtl", "ytl", "xbr", "ybr"))
    item.box_xyxy = x1, y1, x2, y2
    degrees = number(node.attributes.get("rotation", "0"), "rotation")
    if degrees % 360:
        if reading.rotated == "refuse":
            raise DataError(f"a box rotated by {degrees:g} degrees", remedy="use --rotated enclose, or redraw the box")
        reading.note("rotated boxes, each enclosed by its upright box")
        set_attribute(item.attributes, "rotation", degrees)
        set_attribute(item.attributes, "unrotated_box_xyxy", [x1, y1, x2, y2])
        item.box_xyxy = rotated_box(item.box_xyxy, degrees)


def polygon_points(node: Node) -> Points:
    """Vertices of `points="x,y;x,y;..."`. Raises DataError for fewer than three."""
    points = points_of([pair.split(",") for pair in node.need("points").split(";")], "points")
    if len(points) < 3:
        raise DataError(f"a polygon has {len(points)} points, not three or more", remedy="fix or remove the element")
    return points


def _mask(node: Node, size: tuple[int, int]) -> tuple[dict[str, Any], Box] | None:
    runs = [whole(run, "a run of rle") for run in node.need("rle").split(",") if run.strip()]
    left, top, width, height = (whole(node.need(name), name) for name in ("left", "top", "width", "height"))
    return row_major_rle(runs, left, top, width, height, size)
