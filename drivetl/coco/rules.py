"""The rules for records of a COCO json and their error texts, shared by all readers.

A rule takes a value and returns it typed, or raises DataError without a place; `placed` adds the record's position,
the reader adds line and file. There are three strictnesses:

* our own datasets (`coco.io`): every rule, and ids 1..K;
* any ground truth and any detector's results (`metrics`): any ids, fields that no metric reads may be absent;
* datasets of other tools (`adapters.coco_json`): `texts=True`: ids may be texts, numbers may be written as texts, a
  broken record may be left out.

In the audit, a value that breaks a rule is a gap in a column.
"""

from __future__ import annotations

from collections.abc import Callable, Container, Mapping, Sequence
from typing import Any, NamedTuple, TypeVar

from drivetl.coco.records import Box, Segmentation
from drivetl.errors import DataError
from drivetl.files.fields import as_name, mapping, number, shown, text, whole
from drivetl.files.images import MAX_PIXELS

T = TypeVar("T")

LISTS = ("images", "annotations", "categories")
LIST_OF = {"image": "images", "annotation": "annotations", "category": "categories"}
IMAGE_KEYS = frozenset({"id", "file_name", "width", "height", "sequence", "frame_index", "attributes", "labelled"})
ANNOTATION_KEYS = frozenset({"id", "image_id", "category_id", "bbox", "area", "iscrowd", "segmentation", "attributes"})

FAR_PX = 1e100
"""Limit of coordinates: from the square root of the largest float on, the area of a box overflows."""

_BOX = "a box is [x, y, width, height] in px"


class AnnotationFields(NamedTuple):
    """The typed fields of an annotation record."""

    image_id: int
    category_id: int
    bbox_xywh: Box
    area: float
    crowd: bool
    attributes: dict[str, Any]
    segmentation: Segmentation | None


def placed(error: DataError, key: str, position: int) -> DataError:
    """The error with the place of its record: `annotations[3]: ...`, or `[3]: ...` in a results list."""
    return DataError(f"{key}[{position}]: {error.reason}", remedy=error.remedy, file=error.file, line=error.line)


def at(key: str, position: int, read: Callable[..., T], *args: Any) -> T:
    """The result of `read(*args)`; its DataError gets the place of the record."""
    try:
        return read(*args)
    except DataError as error:
        raise placed(error, key, position) from None


def each(key: str, records: Sequence[Any], rule: Callable[[Any], T]) -> list[T]:
    """The result of the rule for each record. Raises its DataError with the place of the first broken record."""
    position = 0
    try:
        results = []
        for position, item in enumerate(records):  # noqa: B007 - the except clause needs it
            results.append(rule(item))
        return results
    except DataError as error:
        raise placed(error, key, position) from None


def reason(rule: Callable[[Any], object], value: object) -> str | None:
    """The reason why a value breaks a rule; None when it does not."""
    try:
        rule(value)
    except DataError as error:
        return error.reason
    return None


def list_problem(document: object, key: str) -> str | None:
    """Why a document lacks this list; None when it has it."""
    if not isinstance(document, Mapping):
        return "it is not an object with lists"
    if document.get(key) is None:
        return f"the list `{key}` is missing"
    return None if isinstance(document[key], list) else f"`{key}` is {shown(document[key])}, not a list"


def lists(document: object) -> tuple[list[Any], list[Any], list[Any]]:
    """The images, annotations and categories of a dataset. Raises DataError for a missing list."""
    for key in LISTS:
        problem = list_problem(document, key)
        if problem is not None:
            raise DataError(
                f"not a COCO dataset: {problem}", remedy="add the lists `images`, `annotations` and `categories`"
            )
    assert isinstance(document, Mapping)
    return document["images"], document["annotations"], document["categories"]


def record(value: object) -> dict[str, Any]:
    """A record."""
    return mapping(value, "the record")


def required(fields: dict[str, Any], key: str) -> Any:
    """A required value. Raises DataError when it is missing."""
    try:
        return fields[key]
    except KeyError:
        raise DataError(f"`{key}` is missing", remedy="add it, or remove the record") from None


def integer_id(fields: dict[str, Any], key: str = "id") -> int:
    """An id: a whole number of 64 bits."""
    return whole(required(fields, key), key, texts=False)


def any_id(fields: dict[str, Any], key: str = "id") -> int | str:
    """An id of another tool's dataset: a whole number, or a text."""
    value = required(fields, key)
    return value if isinstance(value, str) and value else whole(value, key, texts=False)


def duplicated(kind: str, identifier: object) -> DataError:
    """The error of a second record with the same id."""
    return DataError(f"{kind} id {shown(identifier)} is duplicated", remedy=f"give every {kind} its own id")


def unlisted(key: str, value: object) -> DataError:
    """The error of an `image_id`, `category_id` or id in `labelled` that is not listed."""
    target = "images" if key == "image_id" else "categories"
    return DataError(f"{key} {shown(value)} is not listed in `{target}`", remedy="list it, or remove the record")


def reference(fields: dict[str, Any], key: str, listed: Container[object]) -> int:
    """An `image_id` or `category_id`, which must be listed."""
    identifier = integer_id(fields, key)
    if identifier not in listed:
        raise unlisted(key, identifier)
    return identifier


def category(value: object) -> tuple[int, str]:
    """(id, name) of a category."""
    fields = record(value)
    return integer_id(fields), category_name(fields)


def category_name(fields: dict[str, Any]) -> str:
    """The name of a category."""
    return as_name(required(fields, "name"), "name")


def image_size(fields: dict[str, Any], *, texts: bool = False) -> tuple[int, int]:
    """(width, height) in px. Raises DataError for an impossible size."""
    width = whole(required(fields, "width"), "width", texts=texts)
    height = whole(required(fields, "height"), "height", texts=texts)
    check_size(width, height)
    return width, height


def size_or_unknown(fields: dict[str, Any]) -> tuple[int, int]:
    """(width, height) in px of an image that is only scored: 0 when unknown, without an upper limit."""
    width, height = (whole(fields.get(key) or 0, key, texts=False) for key in ("width", "height"))
    if width < 0 or height < 0:
        raise _unusable_size(width, height)
    return width, height


def check_size(width: int, height: int) -> None:
    """Raises DataError for an impossible size in px."""
    if width < 1 or height < 1 or width * height > MAX_PIXELS:
        raise _unusable_size(width, height)


def _unusable_size(width: int, height: int) -> DataError:
    return DataError(f"image size {width} x {height} is not usable", remedy="an image has 1 to 200 million pixels")


def file_name(fields: dict[str, Any]) -> str:
    """The file name as written."""
    return text(required(fields, "file_name"), "file_name")


def drive(fields: dict[str, Any]) -> str:
    """The drive of an image, under `sequence`; "" when unknown. A drive may be the number 0."""
    return as_name(fields.get("sequence"), "sequence")


def frame_index(fields: dict[str, Any], *, texts: bool = False) -> int | None:
    """The frame's number in its drive; None when unknown."""
    value = fields.get("frame_index")
    return None if value is None else whole(value, "frame_index", texts=texts)


def labelled(fields: dict[str, Any], categories: Container[object]) -> tuple[int, ...] | None:
    """The ids of the categories that an image is labelled for; None means all. Raises DataError for an unlisted id."""
    value = fields.get("labelled")
    if value is None:
        return None
    if not isinstance(value, list):
        raise DataError(f"labelled is {shown(value)}, not a list", remedy="write category ids, or leave it out")
    for identifier in value:
        if isinstance(identifier, list | dict) or identifier not in categories:
            raise unlisted("labelled", identifier)
    return tuple(value)


def attributes(value: object) -> dict[str, Any]:
    """The attributes of an image or annotation; null, an empty list and an empty text mean no attributes."""
    if type(value) is dict:
        return value
    return {} if value is None or value == [] or value == "" else mapping(value, "attributes")


def four_numbers(value: Any, *, texts: bool = False) -> Box:
    """The numbers of a box, finite or not. Raises DataError for anything else."""
    try:
        x, y, w, h = value
        if not isinstance(value, str | dict):
            return _side(x, texts), _side(y, texts), _side(w, texts), _side(h, texts)
    except (TypeError, ValueError):
        pass
    raise DataError(f"bbox is {shown(value)}, not four numbers", remedy=_BOX)


def _side(value: Any, texts: bool) -> float:
    if isinstance(value, bool) or (isinstance(value, str) and not texts):
        raise ValueError
    try:
        return float(value)
    except OverflowError:
        return float("inf")


def box_xywh(value: object, *, texts: bool = False) -> Box:
    """(x, y, w, h) in px: finite; width and height may be 0."""
    box = four_numbers(value, texts=texts)
    x, y, w, h = box
    if not (-FAR_PX < x < FAR_PX and -FAR_PX < y < FAR_PX and -FAR_PX < w < FAR_PX and -FAR_PX < h < FAR_PX):
        raise DataError(f"bbox {list(box)} is not finite or far beyond any image", remedy=_BOX)
    if w < 0 or h < 0:
        raise DataError(f"bbox {list(box)} has a negative width or height", remedy=f"{_BOX}, not corners")
    return box


def box_of(value: object) -> Box:
    """(x, y, w, h) in px of an annotation record."""
    return box_xywh(required(record(value), "bbox"))


def area(value: object, *, texts: bool = False) -> float:
    """An area in px^2."""
    return number(value, "area", texts=texts)


def score(value: object) -> float:
    """The score of a detection."""
    return number(value, "score", texts=False)


def crowd(value: Any) -> bool:
    """Whether `iscrowd` marks an ignore region: 0, 1, true or false; null is 0. A text is an error, also "0"."""
    if value is None:
        return False
    if isinstance(value, int | float) and value in (0, 1):
        return bool(value)
    raise DataError(
        f"iscrowd is {shown(value)}, not 0 or 1", remedy="write the number 0 for an object, 1 for an ignore region"
    )


def shape_problem(segmentation: object) -> str | None:
    """Why a segmentation has the wrong structure; `masks.problem` also checks its numbers."""
    if isinstance(segmentation, dict):
        has_size = isinstance(segmentation.get("size"), list | tuple)
        sound = has_size and isinstance(segmentation.get("counts"), str | bytes | list)
    else:
        sound = isinstance(segmentation, list) and all(isinstance(polygon, list) for polygon in segmentation)
    return None if sound else "segmentation is neither a list of polygons nor an RLE with size and counts"


def segmentation(value: Any) -> Segmentation | None:
    """A segmentation with the right structure; None for an empty one."""
    if not value:
        return None
    problem = shape_problem(value)
    if problem is not None:
        raise DataError(problem, remedy="fix or remove the segmentation")
    return value  # type: ignore[no-any-return]


def annotation(value: object, images: Container[object], categories: Container[object]) -> AnnotationFields:
    """The fields of an annotation with a listed image and category; the segmentation is not checked."""
    fields = record(value)
    image_id = reference(fields, "image_id", images)
    category_id = reference(fields, "category_id", categories)
    box = box_of(fields)
    return AnnotationFields(
        image_id,
        category_id,
        box,
        box[2] * box[3] if fields.get("area") is None else area(fields["area"]),
        crowd(fields.get("iscrowd")),
        attributes(fields.get("attributes")),
        fields.get("segmentation") or None,
    )


def unique(kind: str, identifiers: Sequence[int | str]) -> None:
    """Raises DataError, with the position, of the first duplicated id."""
    if len(set(identifiers)) == len(identifiers):
        return
    seen: set[int | str] = set()
    for position, identifier in enumerate(identifiers):
        if identifier in seen:
            raise placed(duplicated(kind, identifier), LIST_OF[kind], position)
        seen.add(identifier)
