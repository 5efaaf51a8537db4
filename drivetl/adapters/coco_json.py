"""Plain COCO: category ids become 1..K in their order; crowds are ignore regions; unknown keys are kept."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Container, Iterator
from pathlib import Path
from typing import Any

from drivetl.adapters.reading import (
    FOUND_ELSEWHERE,
    Footage,
    ImageIndex,
    Reading,
    Sizes,
    folder_drive,
    is_nonzero,
    marked_ignore,
)
from drivetl.adapters.shapes import box_of, checked_rle, enclose_rotated, pairs
from drivetl.coco import masks, rules
from drivetl.coco.boxes import xywh_to_xyxy
from drivetl.coco.io import load_json
from drivetl.coco.records import Box, Segmentation, SourceImage, SourceObject
from drivetl.coco.taxonomy import Taxonomy
from drivetl.errors import DataError
from drivetl.files.fields import mapping, shown

_UNKNOWN = "(unknown category)"

Names = dict[int | str, str]
"""Category id -> name, in the order of the ids."""

Grouped = dict[int | str, list[tuple[int, dict[str, Any]]]]
"""Image id -> [(position in the file, annotation), ...]."""


def read(reading: Reading) -> Footage:
    """COCO footage: one json file, or the only one in a folder or its `annotations` folder."""
    path = _the_json(reading.root)
    document = mapping(load_json(path), "the file")
    try:
        names = _categories(_list(document, "categories"))
        records, annotations = _list(document, "images"), _list(document, "annotations")
    except DataError as error:
        raise error.at(path) from None
    images_root = reading.images or _images_root(document, path)
    ours = isinstance(document.get("info"), dict) and "drivetl" in document["info"]
    if not ours:
        _leave_out_root_categories(reading, names, _list(document, "categories"), annotations)
    grouped = _by_image(reading, annotations, records, names, path)
    images = _images(reading, records, grouped, names, path, ours, _Files(images_root, records))
    return Footage(images_root, images, tuple(dict.fromkeys(names.values())), ordered=True)


def _leave_out_root_categories(
    reading: Reading, names: Names, categories: list[dict[str, Any]], annotations: list[Any]
) -> None:
    """Remove categories without annotations that are the supercategory of others: Roboflow's root is not a class."""
    parents = {record.get("supercategory") for record in categories if record.get("supercategory") != record["name"]}
    used = {record.get("category_id") for record in annotations if isinstance(record, dict)} if parents else set()
    for category_id, name in list(names.items()):
        if name in parents and category_id not in used and len(names) > 1:
            del names[category_id]
            reading.note(f"category without objects, the supercategory of others: {name!r} is not a class")


class _Files:
    """The image files of a json: on disk under their name, else found by their base name."""

    def __init__(self, root: Path, records: list[Any]):
        self.index, self.sizes = ImageIndex(root), Sizes(root)
        written = (record.get("file_name") for record in records if isinstance(record, dict))
        self._count = Counter(_base_name(name) for name in written if isinstance(name, str))

    def locate(self, written: str, reading: Reading) -> str:
        """The name below the images root, or the name as written when the image is not on disk."""
        name = written.replace("\\", "/").removeprefix("./")
        if name in self.index:
            return name
        existing = self.index.elsewhere(written) if self._count[_base_name(written)] == 1 else None
        if existing is None:
            reading.note("images that are not on disk; their sizes are taken from the labels")
            return name
        reading.list_place(FOUND_ELSEWHERE, self.index.root / existing)
        return existing


def _base_name(name: str) -> str:
    return name.replace("\\", "/").rpartition("/")[2]


def _the_json(root: Path) -> Path:
    if root.is_file():
        return root
    if not root.is_dir():
        raise DataError("no such file or folder", remedy="check --root", file=root)
    files = sorted(root.glob("*.json")) or sorted((root / "annotations").glob("*.json"))
    if len(files) != 1:
        raise DataError(
            f"contains {len(files)} json files" if files else "contains no json file",
            remedy="name one of them with --root",
            file=root,
        )
    return files[0]


def _images_root(document: dict[str, Any], path: Path) -> Path:
    """The images root in a json of drivetl, else `images` next to the json or its folder, else the json's folder."""
    info = document.get("info")
    own = info.get("drivetl") if isinstance(info, dict) else None
    if isinstance(own, dict) and isinstance(own.get("images_root"), str) and "\0" not in own["images_root"]:
        return path.parent / str(own["images_root"])
    for folder in (path.parent / "images", path.parent.parent / "images"):
        if folder.is_dir():
            return folder
    return path.parent


def _list(document: dict[str, Any], key: str) -> list[Any]:
    """A list of the json; empty when it is missing."""
    problem = None if document.get(key) is None else rules.list_problem(document, key)
    if problem is not None:
        raise DataError(problem, remedy="write a list of records")
    return document.get(key) or []


def _categories(records: list[Any]) -> Names:
    """Names by id, in the order of ids."""
    pairs = rules.each("categories", records, _category)
    rules.unique("category", [category_id for category_id, _ in pairs])
    return dict(sorted(pairs, key=lambda pair: (isinstance(pair[0], str), pair[0])))


def _category(record: object) -> tuple[int | str, str]:
    fields = rules.record(record)
    return rules.any_id(fields), rules.category_name(fields)


def _by_image(reading: Reading, annotations: list[Any], records: list[Any], names: Names, path: Path) -> Grouped:
    """Annotations by image id as (position, record); an unlisted image_id is an error."""
    listed = {
        record["id"]
        for record in records
        if isinstance(record, dict) and isinstance(record.get("id"), int | float | str)
    }
    grouped: Grouped = defaultdict(list)
    for position, record in enumerate(annotations):
        with reading.object(_label(record, names), path, ("annotations", position)):
            image_id, annotation = rules.at("annotations", position, _with_image_id, record, listed)
            grouped[image_id].append((position, annotation))
    return grouped


def _with_image_id(record: object, listed: Container[object]) -> tuple[int | str, dict[str, Any]]:
    """(image id, annotation) of a record."""
    annotation = rules.record(record)
    image_id = rules.any_id(annotation, "image_id")
    if image_id not in listed:
        raise rules.unlisted("image_id", image_id)
    return image_id, annotation


def _label(record: object, names: Names) -> str:
    category_id = record.get("category_id") if isinstance(record, dict) else None
    return names.get(category_id, _UNKNOWN) if isinstance(category_id, int | str) else _UNKNOWN


def _images(
    reading: Reading, records: list[Any], grouped: Grouped, names: Names, path: Path, ours: bool, files: _Files
) -> Iterator[SourceImage]:
    seen: set[int | str] = set()
    for position, record in enumerate(records):
        try:
            image, image_id = rules.at("images", position, _image, record, path, ours, reading, files)
            if isinstance(record.get("labelled"), list):
                rules.at("images", position, _carry_labelled, image, record, names, reading.taxonomy)
            if image_id in seen:
                raise rules.placed(rules.duplicated("image", image_id), "images", position)
        except DataError as error:
            reading.account.locate(error, path, ("images", position), reading.on_error)
            _reject_image(reading, error, record, grouped, names, seen)
            continue
        seen.add(image_id)
        for number_in_file, annotation in grouped.get(image_id, []):
            at = ("annotations", number_in_file)
            with reading.object(_label(annotation, names), path, at):
                item = rules.at(*at, _object, reading, annotation, names, (image.width, image.height), ours)
                item.line = at
                image.objects.append(item)
        yield image


def _reject_image(
    reading: Reading, error: DataError, record: object, grouped: Grouped, names: Names, seen: set[int | str]
) -> None:
    """Count an image and its annotations as rejected; with a repeated id they stay with the first image."""
    if reading.on_error != "skip":
        raise error
    image_id = record.get("id") if isinstance(record, dict) else None
    lost = grouped.pop(image_id, []) if isinstance(image_id, int | str) and image_id not in seen else []
    reading.account.reject(error, [_label(annotation, names) for _, annotation in lost] or ["unreadable record"])
    reading.note("label files or images left out because they cannot be read")


def _image(record: object, path: Path, ours: bool, reading: Reading, files: _Files) -> tuple[SourceImage, int | str]:
    fields = rules.record(record)
    image_id = rules.any_id(fields)
    file_name = files.locate(rules.file_name(fields), reading)
    has_size = fields.get("width") is not None or fields.get("height") is not None or file_name not in files.index
    size = rules.image_size(fields, texts=True) if has_size else files.sizes.of(file_name)
    image = SourceImage(file_name, *size, label_file=path)
    image.drive = rules.drive(fields) or folder_drive(file_name)
    image.frame_index = rules.frame_index(fields, texts=True)
    image.attributes = dict(rules.attributes(fields.get("attributes")))
    image.extra = {key: value for key, value in fields.items() if key not in rules.IMAGE_KEYS}
    if not ours:
        image.extra.setdefault("source_id", image_id)
        if fields.get("not_exhaustive_category_ids"):
            reading.note("images with 'not_exhaustive_category_ids' (LVIS), which are taken as labelled completely")
    return image, image_id


def _carry_labelled(image: SourceImage, record: dict[str, Any], names: Names, taxonomy: Taxonomy | None) -> None:
    """Write to `extra` which classes this image is labelled for: other classes are unknown in it, not absent.

    Raises DataError for an id that is not a category, and for a class made of labelled and unlabelled ones.
    """
    labelled = set(rules.labelled(record, names) or ())
    classes = tuple(dict.fromkeys(names.values())) if taxonomy is None else taxonomy.categories
    labelled_parts: dict[int, set[bool]] = defaultdict(set)
    for category_id, name in names.items():
        target = classes.index(name) + 1 if taxonomy is None else taxonomy.category_id(name)
        if target is not None:
            labelled_parts[target].add(category_id in labelled)
    mixed = next((target for target in labelled_parts if len(labelled_parts[target]) > 1), None)
    if mixed is not None:
        raise DataError(
            f"class {classes[mixed - 1]!r} is made of categories that are labelled and some that are not",
            remedy="keep them separate in the taxonomy",
        )
    kept = sorted(target for target in labelled_parts if True in labelled_parts[target])
    if len(kept) < len(classes):
        image.extra["labelled"] = kept


def _object(
    reading: Reading, annotation: dict[str, Any], names: Names, size: tuple[int, int], ours: bool
) -> SourceObject:
    category_id = rules.any_id(annotation, "category_id")
    if category_id not in names:
        raise rules.unlisted("category_id", category_id)
    segmentation = _segmentation(annotation.get("segmentation"), size)
    box = _box(annotation, segmentation, size)
    attributes = dict(rules.attributes(annotation.get("attributes")))
    crowd = rules.crowd(annotation.get("iscrowd"))
    if not (ours and crowd):  # the writer joins the categories of a region by its number
        attributes.pop("ignore_region", None)
    item = SourceObject(names[category_id], box, segmentation, ignore=crowd)
    if annotation.get("area") is not None:
        item.area = rules.area(annotation["area"], texts=True)
    item.attributes = attributes
    item.extra = {key: value for key, value in annotation.items() if key not in rules.ANNOTATION_KEYS}
    if not ours:
        _read_dialects(reading, item, annotation)
    return item


def _read_dialects(reading: Reading, item: SourceObject, annotation: dict[str, Any]) -> None:
    """What other tools add to an annotation: a rotation (CVAT), the mode of its box (Detectron2), `ignore`."""
    if annotation.get("id") is not None:
        item.extra.setdefault("source_id", annotation["id"])
    mode = annotation.get("bbox_mode")
    if mode not in (None, 1, "1", "XYWH_ABS", "BoxMode.XYWH_ABS"):
        raise DataError(f"bbox_mode is {shown(mode)}, not 1 (XYWH_ABS)", remedy="write boxes as x, y, width, height")
    for key in ("rotation", "angle", "theta"):
        if is_nonzero(annotation.get(key)):
            reading.note(f"annotations with {key!r}, which is not applied: the box is taken as upright")
    for key in ("isCrowd", "is_crowd", "crowd"):
        if is_nonzero(annotation.get(key)) and not item.ignore:
            raise DataError(
                f"{key} is {shown(annotation[key])}, which COCO calls iscrowd", remedy="rename it to iscrowd"
            )
    if annotation.get("score") is not None:
        reading.note("annotations with a score, read as labels: they may be predictions")
    item.ignore |= marked_ignore(item.attributes)
    if is_nonzero(annotation.get("ignore")) and not item.ignore:
        reading.note("annotations with 'ignore' and without iscrowd, kept as objects as in COCO's own evaluation")
    enclose_rotated(reading, item)


def _segmentation(value: object, size: tuple[int, int]) -> Segmentation | None:
    if isinstance(value, dict) and value:
        return checked_rle(value, *size)
    polygons = rules.segmentation(value)
    if not isinstance(polygons, list) or not any(polygons):  # [[]]: a box without a mask
        return None
    width, height = size
    problem = masks.problem(polygons, height, width)
    short = next((polygon for polygon in polygons if len(polygon) < 6), None)
    if problem is None and short is not None:
        problem = f"a polygon of {len(short)} numbers, not x and y of three points or more"
    if problem is not None:
        raise DataError(problem, remedy=masks.REMEDY)
    return [list(map(float, polygon)) for polygon in polygons]


def _box(annotation: dict[str, Any], segmentation: Segmentation | None, size: tuple[int, int]) -> Box:
    """(x1, y1, x2, y2) in px; that of the mask where the record has no bbox."""
    if annotation.get("bbox") is not None or segmentation is None:
        return xywh_to_xyxy(rules.box_xywh(rules.required(annotation, "bbox"), texts=True))
    if isinstance(segmentation, list):
        return box_of([point for ring in segmentation for point in pairs(ring)])
    return masks.box_xyxy(masks.decode(segmentation, size[1], size[0])) or (0, 0, 0, 0)
