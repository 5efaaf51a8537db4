"""BDD100K and Scalabel JSON: a list of frames (or {"frames": [...]}), or one legacy BDD file per image.

Attributes weather, timeofday and scene are kept; `poly2d` may contain Bezier vertices, `rle` is COCO's.
Labels marked `crowd`, `ignore` or `ignored` are ignore regions.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Any

from drivetl.adapters.reading import (
    FOUND_ELSEWHERE,
    Footage,
    ImageIndex,
    Reading,
    Sizes,
    first_folder,
    folder_drive,
    is_nonzero,
    label_files,
    labels_of,
)
from drivetl.adapters.shapes import bezier_outline, box_of, checked_rle, flat, points_of
from drivetl.coco import masks
from drivetl.coco.io import load_json
from drivetl.coco.records import Box, JsonPlace, SourceImage, SourceObject
from drivetl.errors import DataError
from drivetl.files.fields import array, as_name, mapping, number, scalar, text, whole

BDD_SIZE = 1280, 720
"""(width, height) of BDD100K frames; used when neither the labels nor an image on disk give a size."""

IGNORE_ATTRIBUTES = ("crowd", "ignore", "ignored")


def read(reading: Reading) -> Footage:
    """BDD100K or Scalabel footage: all JSON files of a folder, or one file."""
    files = label_files(first_folder(reading.root, "labels"), ".json")
    folder = reading.root if reading.root.is_dir() else reading.root.parent
    images_root = reading.images or first_folder(folder, "images")
    return Footage(images_root, _all_images(reading, files, images_root))


def _all_images(reading: Reading, files: list[Path], images_root: Path) -> Iterator[SourceImage]:
    index, sizes = ImageIndex(images_root), Sizes(images_root)
    for path in files:
        with reading.file(path):
            frames, config, (place, key) = _frames(load_json(path))
            size = _config_size(config)
            guess = partial(_unwritten_size, [] if size else list(_corners(frames)), legacy=key == "objects")
            for position, frame in enumerate(frames):
                at = (*place, position)
                with reading.file(path, partial(_frame_labels, frame), at):
                    image, labels = _image(
                        reading, mapping(frame, f"[{position}]"), position, path, size, index, sizes, guess
                    )
                    _add_objects(reading, image, labels, (*at, key))
                    yield image


def _frame_labels(frame: object) -> list[str]:
    return labels_of(frame.get("labels"), "category") if isinstance(frame, dict) else []


def _frames(document: Any) -> tuple[list[Any], dict[str, Any], tuple[JsonPlace, str]]:
    """(frames in Scalabel's form, config of the file, (path to the frames, key of their labels))."""
    if isinstance(document, list):
        return document, {}, ((), "labels")
    record = mapping(document, "the file")
    frames = array(record.get("frames"), "frames")
    if frames and all(isinstance(frame, dict) and "objects" in frame for frame in frames):
        return [_from_legacy(record, frame) for frame in frames], {}, (("frames",), "objects")
    config = record.get("config")
    return frames, config if isinstance(config, dict) else {}, (("frames",), "labels")


def _from_legacy(record: dict[str, Any], frame: dict[str, Any]) -> dict[str, Any]:
    """Convert a frame of BDD's first release, with poly2d as [[x, y, "L"], ...] and names without suffix."""
    labels = []
    for item in array(frame["objects"], "objects"):
        label = dict(mapping(item, "an object"))
        points = label.get("poly2d")
        if isinstance(points, list) and points and all(isinstance(p, list) and len(p) == 3 for p in points):
            kinds = "".join(str(point[2]) for point in points)
            closed = not str(label.get("category", "")).startswith("lane")
            label["poly2d"] = [{"vertices": [point[:2] for point in points], "types": kinds, "closed": closed}]
        labels.append(label)
    name = text(record.get("name"), "name")
    name = name if PurePosixPath(name).suffix else f"{name}.jpg"
    return {"name": name, "attributes": record.get("attributes"), "timestamp": frame.get("timestamp"), "labels": labels}


def _config_size(config: dict[str, Any]) -> tuple[int, int] | None:
    size = config.get("imageSize") or config.get("image_size")
    return _size(size) if size else None


def _size(record: object) -> tuple[int, int]:
    size = mapping(record, "size")
    return whole(size.get("width"), "width"), whole(size.get("height"), "height")


def _corners(frames: list[Any]) -> Iterator[tuple[float, float]]:
    """(x, y) of all boxes and vertices in frames without a size, as far as they can be read."""
    for frame in frames:
        labels = frame.get("labels") if isinstance(frame, dict) and not frame.get("size") else None
        for label in labels if isinstance(labels, list) else ():
            box = label.get("box2d") if isinstance(label, dict) else None
            polygons = label.get("poly2d") if isinstance(label, dict) else None
            points = [[box.get("x2"), box.get("y2")]] if isinstance(box, dict) else []
            for polygon in polygons if isinstance(polygons, list) else ():
                vertices = polygon.get("vertices") if isinstance(polygon, dict) else None
                points += vertices if isinstance(vertices, list) else []
            for point in points:
                if isinstance(point, list) and len(point) >= 2 and all(isinstance(v, int | float) for v in point[:2]):
                    yield point[0], point[1]


def _unwritten_size(corners: list[tuple[float, float]], size: tuple[int, int], *, legacy: bool) -> tuple[int, int]:
    """(width, height) for which labels without a size were made, over an image of `size`.

    BDD100K's own labels have no size and are for 1280 x 720; other Scalabel labels may be for the image. Labels that
    reach beyond the image but not beyond 1280 x 720 are BDD100K's.
    Raises DataError when a scaled copy of 1280 x 720 has labels that fit both.
    """
    if size == BDD_SIZE:
        return size
    right, bottom = max((x for x, _ in corners), default=0.0), max((y for _, y in corners), default=0.0)
    in_image = right <= size[0] + 1 and bottom <= size[1] + 1
    in_bdd = right <= BDD_SIZE[0] + 1 and bottom <= BDD_SIZE[1] + 1
    scaled_copy = abs(size[0] * BDD_SIZE[1] / BDD_SIZE[0] - size[1]) <= 1
    if in_bdd and (not in_image or (legacy and scaled_copy)):
        return BDD_SIZE
    if in_bdd and scaled_copy and corners:
        raise DataError(
            f"the labels have no size: they may be for the image, {size[0]} x {size[1]}, or for BDD100K's 1280 x 720",
            remedy='write "size": {"width": ..., "height": ...} into each frame',
        )
    return size


def _image(
    reading: Reading,
    frame: dict[str, Any],
    position: int,
    path: Path,
    config_size: tuple[int, int] | None,
    index: ImageIndex,
    sizes: Sizes,
    guess: Callable[[tuple[int, int]], tuple[int, int]],
) -> tuple[SourceImage, list[Any]]:
    """The image of a frame and its labels."""
    written = text(frame.get("name"), f"name of frame [{position}]")
    labels = array(frame.get("labels"), f"labels of frame [{position}]")
    drive = as_name(frame.get("videoName"), "videoName") or as_name(frame.get("video_name"), "video_name")
    name = PurePosixPath(written).name if "://" in written else written.replace("\\", "/")
    existing = index.find(*([f"{drive}/{name}"] if drive else []), name)
    if existing is None and (existing := index.elsewhere(f"{drive}/{name}" if drive else name)) is not None:
        reading.list_place(FOUND_ELSEWHERE, index.root / existing)
    if existing is None:
        reading.note("images that are not on disk; their sizes are taken from the labels")
    size = (
        _size(frame["size"]) if frame.get("size") else config_size or (guess(sizes.of(existing)) if existing else None)
    )
    if size is None:
        reading.note("images of unknown size, taken as 1280 x 720 like all of BDD100K")
        size = BDD_SIZE
    image = SourceImage(existing or name, *size, label_file=path)
    image.drive = drive or folder_drive(name)
    frame_index = frame.get("frameIndex", frame.get("frame_index"))
    image.frame_index = whole(frame_index, "frameIndex") if drive and frame_index is not None else None
    image.attributes = {
        str(key): scalar(value) for key, value in mapping(frame.get("attributes") or {}, "attributes").items()
    }
    return image, labels


def _add_objects(reading: Reading, image: SourceImage, labels: list[Any], place: JsonPlace) -> None:
    """Add the objects of a frame's labels; `place` is the path of the labels in the file."""
    assert image.label_file is not None
    for position, label in enumerate(labels):
        name = f"frame [{place[-2]}] label [{position}]"
        category = label.get("category") if isinstance(label, dict) else None
        at = (*place, position)
        with reading.object(category if isinstance(category, str) and category else "(no label)", image.label_file, at):
            item = _object(reading, mapping(label, name), name, (image.width, image.height))
            if item is not None:
                item.line = at
                image.objects.append(item)


def _object(reading: Reading, label: dict[str, Any], place: str, size: tuple[int, int]) -> SourceObject | None:
    category = text(label.get("category"), f"category of {place}")
    attributes = {
        str(key): scalar(value)
        for key, value in mapping(label.get("attributes") or {}, f"attributes of {place}").items()
    }
    if label.get("id") is not None:
        attributes["track_id"] = str(label["id"])
    if label.get("score") is not None:
        attributes["score"] = number(label["score"], f"score of {place}")
    item = SourceObject(category, (0, 0, 0, 0), attributes=attributes)
    item.ignore = any(is_nonzero(attributes.get(key)) for key in IGNORE_ATTRIBUTES)
    box = _box(label["box2d"], place) if label.get("box2d") else None
    rings = _rings(label, place)
    if label.get("rle"):
        item.segmentation = checked_rle(label["rle"], *size)
        tight = masks.box_xyxy(masks.decode(item.segmentation, size[1], size[0]))
        box = box or tight
        if box is None:
            reading.drop(category, "an empty mask")
            return None
    elif rings:
        item.segmentation = [flat(ring) for ring in rings]
        box = box or box_of([point for ring in rings for point in ring])
    if box is None:
        reading.drop(category, _reason_without_box(label))
        return None
    item.box_xyxy = box
    return item


def _reason_without_box(label: dict[str, Any]) -> str:
    if label.get("poly2d"):
        return "an open line encloses nothing"
    if label.get("box3d") is not None:
        return "a 3D box alone"
    return "neither box2d nor poly2d nor rle"


def _box(record: object, place: str) -> Box:
    box = mapping(record, f"box2d of {place}")
    values = [number(box.get(key), f"{key} of {place}") for key in ("x1", "y1", "x2", "y2")]
    return values[0], values[1], values[2], values[3]


def _rings(label: dict[str, Any], place: str) -> list[list[tuple[float, float]]]:
    """Outlines of the closed polygons of a label."""
    rings = []
    for part in array(label.get("poly2d"), f"poly2d of {place}"):
        polygon = mapping(part, f"poly2d of {place}")
        points = points_of(array(polygon.get("vertices"), f"vertices of {place}"), f"vertices of {place}")
        types = text(polygon.get("types") or "L" * len(points), f"types of {place}")
        if polygon.get("closed") is not None and not is_nonzero(polygon["closed"]):
            continue
        if len(points) < 3:
            raise DataError(
                f"{place} is a polygon with {len(points)} points, not three or more", remedy="fix or remove the label"
            )
        rings.append(bezier_outline(points, types))
    return rings
