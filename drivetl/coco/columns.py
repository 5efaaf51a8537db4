"""The records of a COCO list as columns. Records of plain values, the usual case, are checked by column, which is
several times faster than record by record."""

from __future__ import annotations

from collections.abc import Callable, Container, Sequence
from dataclasses import dataclass
from itertools import chain
from math import isfinite
from typing import Any, TypeVar

from drivetl.coco import rules
from drivetl.coco.records import Segmentation
from drivetl.errors import DataError

T = TypeVar("T")
WHOLE, NUMBER, TEXT = frozenset({int}), frozenset({int, float}), frozenset({str})
OBJECT = frozenset({dict})
_NOTHING = frozenset({type(None)})


@dataclass(slots=True)
class AnnotationColumns:
    """The annotations of a list, in its order; A may be 0."""

    image_ids: list[int]
    """(A,) each a listed image."""
    category_ids: list[int]
    """(A,) each a listed category."""
    boxes: list[float]
    """(4 * A,) x, y, w, h in px of one box after the other."""
    areas: list[float]
    """(A,) px^2; w * h when the record has none."""
    crowd: list[bool]
    """(A,)"""
    attributes: list[dict[str, Any]]
    """(A,) the records' own."""
    segmentations: list[Segmentation | None]
    """(A,) not checked."""


def plain(records: Sequence[Any], key: str, types: frozenset[type]) -> list[Any] | None:
    """The value of each record, when all have one of these types; else None."""
    try:
        values = [record[key] for record in records]
    except (KeyError, IndexError, TypeError):
        return None
    return values if types.issuperset(map(type, values)) else None


def optional(records: Sequence[Any], key: str, types: frozenset[type]) -> list[Any] | None:
    """The value of each record, None when it is missing, if all have one of these types; else None."""
    values = [record.get(key) for record in records]
    return values if (types | _NOTHING).issuperset(map(type, values)) else None


def column(
    records: Sequence[Any], key: str, rule: Callable[[Any], T], gap: T, types: frozenset[type] = frozenset()
) -> list[T]:
    """One value per record, read tolerantly: `gap` when the key is missing or its value breaks the rule.

    If all values have one of `types`, they are used as they are.
    """
    if types and (values := plain(records, key, types)) is not None:
        return values
    converted = []
    for record in records:
        try:
            converted.append(rule(record[key]))
        except (DataError, KeyError, IndexError, TypeError, ValueError, OverflowError):
            converted.append(gap)
    return converted


def flat_boxes(boxes: Sequence[list[Any]]) -> list[float] | None:
    """The numbers of all boxes in one list, when each box is a list of four numbers; else None."""
    if not set(map(len, boxes)) <= {4}:
        return None
    numbers = list(chain.from_iterable(boxes))
    return numbers if NUMBER.issuperset(map(type, numbers)) else None


def annotation_columns(
    records: Sequence[Any], images: Container[object], categories: Container[object]
) -> AnnotationColumns:
    """The columns of valid annotations.

    Raises DataError with the position of the first invalid one.
    """
    try:
        fast = _plain_columns(records, images, categories)
    except OverflowError:  # integers that are too large for a float
        fast = None
    if fast is not None:
        return fast
    rows = rules.each("annotations", records, lambda record: rules.annotation(record, images, categories))
    return AnnotationColumns(
        [row.image_id for row in rows],
        [row.category_id for row in rows],
        [side for row in rows for side in row.bbox_xywh],
        [row.area for row in rows],
        [row.crowd for row in rows],
        [row.attributes for row in rows],
        [row.segmentation for row in rows],
    )


def _plain_columns(
    records: Sequence[Any], images: Container[object], categories: Container[object]
) -> AnnotationColumns | None:
    """The result of `annotation_columns` for valid records of plain values; None for others."""
    image_ids, category_ids = plain(records, "image_id", WHOLE), plain(records, "category_id", WHOLE)
    boxes = plain(records, "bbox", frozenset({list}))
    if image_ids is None or category_ids is None or boxes is None or not OBJECT.issuperset(map(type, records)):
        return None
    sides = flat_boxes(boxes)
    areas, attributes = optional(records, "area", NUMBER), optional(records, "attributes", OBJECT)
    crowd = optional(records, "iscrowd", frozenset({int, bool}))
    if sides is None or areas is None or attributes is None or crowd is None or not set(crowd) <= {None, 0, 1}:
        return None
    if not all(map(images.__contains__, set(image_ids))) or not all(map(categories.__contains__, set(category_ids))):
        return None
    if not _keep_rules(sides):
        return None
    if None in areas:
        areas = [w * h if area is None else area for area, w, h in zip(areas, sides[2::4], sides[3::4], strict=True)]
    if not isfinite(sum(areas)):
        return None
    return AnnotationColumns(
        image_ids,
        category_ids,
        sides,
        areas,
        list(map(bool, crowd)),
        [item or {} for item in attributes] if None in attributes else attributes,
        [record.get("segmentation") or None for record in records],
    )


def _keep_rules(sides: Sequence[float]) -> bool:
    """Whether all boxes keep the rule for boxes: they do when the box of their extreme values does."""
    extremes = (min(sides, default=0), max(sides, default=0), min(sides[2::4], default=0), min(sides[3::4], default=0))
    return isfinite(sum(sides)) and rules.reason(rules.box_xywh, extremes) is None
