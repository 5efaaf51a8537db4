"""Plain COCO: any category ids become 1..K in the order of the ids; crowds are ignore regions; foreign keys stay."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from drivetl.adapters.reading import (
    Footage,
    ImageIndex,
    Reading,
    folder_drive,
    mapping,
    number,
    sequence,
    shown,
    text,
    whole,
)
from drivetl.adapters.shapes import box_of, checked_rle, flat, pairs, points_of
from drivetl.coco import masks
from drivetl.coco.io import load_json
from drivetl.coco.records import Box, Segmentation, SourceImage, SourceObject
from drivetl.coco.taxonomy import Taxonomy
from drivetl.errors import DataError

IMAGE_KEYS = {"id", "file_name", "width", "height", "sequence", "frame_index", "attributes", "labelled"}
Names = dict[int | str, str]
"""Category id -> name, in the order of the ids."""

Grouped = dict[int | str, list[tuple[int, dict[str, Any]]]]
"""Image id -> [(position in the file, annotation), ...]."""

ANNOTATION_KEYS = {"id", "image_id", "category_id", "bbox", "area", "iscrowd", "segmentation", "attributes"}


def read(reading: Reading) -> Footage:
    """COCO footage: one json, given itself or as the only json with annotations in a folder."""
    path = _the_json(reading.root)
    document = mapping(load_json(path), "the file")
    try:
        names = _categories(sequence(document.get("categories"), "categories"))
        records = sequence(document.get("images"), "images")
        annotations = sequence(document.get("annotations"), "annotations")
    except DataError as error:
        raise error.at(path) from None
    images_root = reading.images or _images_root(document, path)
    ours = isinstance(document.get("info"), dict) and "drivetl" in document["info"]
    images = _images(reading, records, _by_image(reading, annotations, records, names, path), names, path, ours)
    index = ImageIndex(images_root)
    return Footage(images_root, _counted(reading, images, index), tuple(dict.fromkeys(names.values())), ordered=True)


def _counted(reading: Reading, images: Iterator[SourceImage], index: ImageIndex) -> Iterator[SourceImage]:
    for image in images:
        if image.file_name not in index:
            reading.note("images that are not on disk; their sizes are taken from the labels")
        yield image


def _the_json(root: Path) -> Path:
    if root.is_file():
        return root
    if not root.is_dir():
        raise DataError("no such file or folder", remedy="check --root", file=root)
    found = sorted(root.glob("*.json")) or sorted((root / "annotations").glob("*.json"))
    if len(found) != 1:
        raise DataError(
            f"{len(found)} json files in it" if found else "no json file in it",
            remedy="name one of them with --root",
            file=root,
        )
    return found[0]


def _images_root(document: dict[str, Any], path: Path) -> Path:
    """Where drivetl's own jsons say, else `images` beside the json or beside its folder, else the json's folder."""
    info = document.get("info")
    own = info.get("drivetl") if isinstance(info, dict) else None
    if isinstance(own, dict) and isinstance(own.get("images_root"), str) and "\0" not in own["images_root"]:
        return path.parent / str(own["images_root"])
    for folder in (path.parent / "images", path.parent.parent / "images"):
        if folder.is_dir():
            return folder
    return path.parent


def _key(value: object, what: str) -> int | str:
    """An id: a whole number or a text."""
    return value if isinstance(value, str) and value else whole(value, what)


def _categories(records: list[Any]) -> Names:
    """Names by id, in the order of ids."""
    names: Names = {}
    for position, record in enumerate(records):
        place = f"categories[{position}]"
        category = mapping(record, place)
        category_id = _key(category.get("id"), f"id of {place}")
        if category_id in names:
            raise DataError(f"category id {shown(category_id)} comes twice", remedy="give every category its own id")
        names[category_id] = text(category.get("name"), f"name of {place}")
    return dict(sorted(names.items(), key=lambda pair: (isinstance(pair[0], str), pair[0])))


def _by_image(reading: Reading, annotations: list[Any], records: list[Any], names: Names, path: Path) -> Grouped:
    """Annotations by image id as (position, record); those of no listed image are errors."""
    listed = {
        record["id"]
        for record in records
        if isinstance(record, dict) and isinstance(record.get("id"), int | float | str)
    }
    grouped: Grouped = defaultdict(list)
    for position, record in enumerate(annotations):
        place = f"annotations[{position}]"
        with reading.object(_label(record, names), path, ("annotations", position)):
            annotation = mapping(record, place)
            image_id = _key(annotation.get("image_id"), f"image_id of {place}")
            if image_id not in listed:
                raise DataError(
                    f"{place}: image_id {shown(image_id)} is no listed image", remedy="remove the annotation"
                )
            grouped[image_id].append((position, annotation))
    return grouped


def _label(record: object, names: Names) -> str:
    category_id = record.get("category_id") if isinstance(record, dict) else None
    return names.get(category_id, "(unknown category)") if isinstance(category_id, int) else "(unknown category)"


def _images(
    reading: Reading, records: list[Any], grouped: Grouped, names: Names, path: Path, ours: bool
) -> Iterator[SourceImage]:
    seen: set[int | str] = set()
    for position, record in enumerate(records):
        try:
            place = f"images[{position}]"
            image, image_id = _image(record, place, path, ours)
            if isinstance(record.get("labelled"), list):
                _carry_labelled(image, record["labelled"], place, names, reading.taxonomy)
            if image_id in seen:
                raise DataError(f"image id {shown(image_id)} comes twice", remedy="give every image its own id")
        except DataError as error:
            reading.account.place(error, path, ("images", position), reading.on_error)
            _reject_image(reading, error, record, grouped, names, seen)
            continue
        seen.add(image_id)
        for number_in_file, annotation in grouped.get(image_id, []):
            place = f"annotations[{number_in_file}]"
            at = ("annotations", number_in_file)
            with reading.object(_label(annotation, names), path, at):
                item = _object(annotation, place, names, (image.width, image.height), ours)
                item.line = at
                image.objects.append(item)
        yield image


def _reject_image(
    reading: Reading, error: DataError, record: object, grouped: Grouped, names: Names, seen: set[int | str]
) -> None:
    """Leave out an image with all its annotations, counted; those of a repeated id stay with the first image."""
    if reading.on_error != "skip":
        raise error
    image_id = record.get("id") if isinstance(record, dict) else None
    lost = grouped.get(image_id, []) if isinstance(image_id, int) and image_id not in seen else []
    reading.account.reject(error, [_label(annotation, names) for _, annotation in lost] or ["unreadable record"])
    if lost:
        grouped.pop(image_id, None) if isinstance(image_id, int) else None
    reading.note("label files or images left out because they cannot be read")


def _image(record: object, place: str, path: Path, ours: bool) -> tuple[SourceImage, int | str]:
    given = mapping(record, place)
    image_id = _key(given.get("id"), f"id of {place}")
    name = text(given.get("file_name"), f"file_name of {place}").replace("\\", "/").removeprefix("./")
    size = whole(given.get("width"), f"width of {place}"), whole(given.get("height"), f"height of {place}")
    image = SourceImage(name, *size, label_file=path)
    image.sequence = text(given.get("sequence") or "", f"sequence of {place}") or folder_drive(name)
    if given.get("frame_index") is not None:
        image.frame_index = whole(given["frame_index"], f"frame_index of {place}")
    image.attributes = dict(mapping(given.get("attributes") or {}, f"attributes of {place}"))
    image.extra = {key: value for key, value in given.items() if key not in IMAGE_KEYS}
    if not ours:
        image.extra.setdefault("source_id", image_id)
    return image, image_id


def _carry_labelled(
    image: SourceImage, labelled: list[Any], place: str, names: Names, taxonomy: Taxonomy | None
) -> None:
    """Say in `extra` which classes this image is labelled for: other classes are unknown in it, not absent.

    Raises DataError for an id that is no category, and for a class that is made of labelled and unlabelled ones.
    """
    given = {_key(item, f"labelled of {place}") for item in labelled}
    stranger = next((item for item in labelled if item not in names), None)
    if stranger is not None:
        raise DataError(f"{place}: labelled {shown(stranger)} is no category", remedy="use category ids")
    classes = tuple(dict.fromkeys(names.values())) if taxonomy is None else taxonomy.categories
    says: dict[int, set[bool]] = defaultdict(set)
    for category_id, name in names.items():
        target = classes.index(name) + 1 if taxonomy is None else taxonomy.category_id(name)
        if target is not None:
            says[target].add(category_id in given)
    torn = next((target for target in says if len(says[target]) > 1), None)
    if torn is not None:
        raise DataError(
            f"{place}: class {classes[torn - 1]!r} is made of categories that are labelled and some that are not",
            remedy="keep them apart in the taxonomy",
        )
    kept = sorted(target for target in says if True in says[target])
    if len(kept) < len(classes):
        image.extra["labelled"] = kept


def _object(annotation: dict[str, Any], place: str, names: Names, size: tuple[int, int], ours: bool) -> SourceObject:
    category_id = _key(annotation.get("category_id"), f"category_id of {place}")
    if category_id not in names:
        raise DataError(f"{place}: category_id {shown(category_id)} is not listed", remedy="list it in categories")
    segmentation = _segmentation(annotation.get("segmentation"), place, size)
    box = _box(annotation.get("bbox"), segmentation, place, size)
    attributes = dict(mapping(annotation.get("attributes") or {}, f"attributes of {place}"))
    if not (ours and annotation.get("iscrowd")):  # the writer joins the categories of a region by its number
        attributes.pop("ignore_region", None)
    item = SourceObject(names[category_id], box, segmentation, ignore=bool(annotation.get("iscrowd")))
    if annotation.get("area") is not None:
        item.area = number(annotation["area"], f"area of {place}")
    item.attributes = attributes
    item.extra = {key: value for key, value in annotation.items() if key not in ANNOTATION_KEYS}
    if not ours and annotation.get("id") is not None:
        item.extra.setdefault("source_id", annotation["id"])
    return item


def _segmentation(value: object, place: str, size: tuple[int, int]) -> Segmentation | None:
    if not value:
        return None
    if isinstance(value, dict):
        return checked_rle(value, *size)
    rings = []
    for ring in sequence(value, f"segmentation of {place}"):
        numbers = sequence(ring, f"segmentation of {place}")
        if len(numbers) < 6 or len(numbers) % 2:
            raise DataError(f"{place}: a polygon of {len(numbers)} numbers", remedy="x and y of three points or more")
        rings.append(flat(points_of([list(pair) for pair in pairs(numbers)], f"segmentation of {place}")))
    return rings


def _box(value: object, segmentation: Segmentation | None, place: str, size: tuple[int, int]) -> Box:
    if value is None and segmentation is not None:
        if isinstance(segmentation, list):
            return box_of([point for ring in segmentation for point in pairs(ring)])
        tight = masks.box_xyxy(masks.decode(segmentation, size[1], size[0]))
        return tight or (0, 0, 0, 0)
    if not isinstance(value, list) or len(value) != 4:
        raise DataError(f"{place}: bbox is {shown(value)}", remedy="a box is x, y, width, height")
    x, y, w, h = (number(item, f"bbox of {place}") for item in value)
    if w < 0 or h < 0:
        raise DataError(f"{place}: bbox {value} has a negative size", remedy="a box is x, y, width, height")
    return x, y, x + w, y + h
