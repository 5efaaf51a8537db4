"""KITTI label text: one object a line, 15 columns and a 16th with a score where a detector wrote it.

    type truncated occluded alpha left top right bottom height width length x y z rotation_y [score]

Boxes are 0-based px, left top right bottom. Sizes in m, location in camera coordinates (m), angles in rad.
The same columns follow `frame track_id` in a KITTI tracking file.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from math import hypot
from typing import Any

import orjson

from drivetl.coco.records import SourceObject
from drivetl.errors import DataError

LABELS = ("Car", "Van", "Truck", "Pedestrian", "Person_sitting", "Person", "Cyclist", "Tram", "Misc", "DontCare")
"""The types KITTI itself writes; `Person` only in the tracking labels."""

COLUMNS = [
    "truncated",
    "occluded",
    "alpha",
    "left",
    "top",
    "right",
    "bottom",
    "height",
    "width",
    "length",
    "x",
    "y",
    "z",
    "rotation_y",
    "score",
]
"""Names of the numbers after the type."""

LIMIT = 1e9
"""No box, size or place is larger."""


def parse_plain(text: str, first: int = 1) -> list[SourceObject] | None:
    """The objects of lines as KITTI writes them, the first of which has number `first`; None when one of them is
    unusual, good or bad.

    A JSON parser reads the numbers of all lines in one call, five times faster than float() each.
    """
    if "," in text or "[" in text or "]" in text:  # they would pass for what stands between numbers
        return None
    labels, rests = [], []
    for line in text.removesuffix("\n").split("\n"):
        label, _, rest = line.partition(" ")
        if not label.isidentifier():
            return None
        labels.append(label)
        rests.append(rest)
    joined = "],[".join(rests)
    if "e" in joined:  # JSON's true and false would pass for numbers
        return None
    try:
        rows = orjson.loads(f"[[{joined.replace(' ', ',')}]]")
        if len(rows) != len(labels) or not all(14 <= len(row) <= 15 and hypot(*row) < LIMIT for row in rows):
            return None
    except (ValueError, TypeError):
        return None
    return list(map(source_object, labels, rows, range(first, first + len(labels))))


def parse_line(text: str, number: int) -> SourceObject:
    """One label line. Raises DataError with the line number for wrong counts, words and numbers no box can have."""
    plain = parse_plain(text, number)
    if plain is not None:
        return plain[0]
    fields = text.split()
    if not 15 <= len(fields) <= 16:
        raise DataError(
            f"{len(fields)} fields instead of 15 (or 16 with a score)",
            remedy="a line is: type truncated occluded alpha, 4 box, 3 size, 3 location, rotation_y",
            line=number,
        )
    return source_object(fields[0], parse_numbers(fields[1:], COLUMNS, number), number)


def parse_numbers(fields: Sequence[str], names: Sequence[str], number: int) -> list[float]:
    """The fields as finite numbers. Raises DataError that names the first field that is none."""
    try:
        values = list(map(float, fields))
        if hypot(*values) < LIMIT and "_" not in "".join(fields):  # False for NaN; float() takes 1_000
            return values
    except ValueError:
        pass
    for name, field in zip(names, fields, strict=False):
        _check_number(name, field, number)
    return [float(field) for field in fields]


def _check_number(name: str, field: str, number: int) -> None:
    try:
        usable = abs(float(field)) < LIMIT and "_" not in field
    except ValueError:
        usable = False
    if not usable:
        raise DataError(f"{name} is {field[:40]!r}, not a usable number", remedy="mend or remove the line", line=number)


def source_object(label: str, values: list[float], number: int) -> SourceObject:
    """The object of a type and its 14 or 15 numbers; all but the box become attributes, unrounded."""
    occluded = values[1]
    attributes: dict[str, Any] = {
        "truncated": values[0],
        "occluded": int(occluded) if occluded == int(occluded) else occluded,
        "alpha": values[2],
        "dimensions_hwl_m": values[7:10],
        "location_xyz_m": values[10:13],
        "rotation_y": values[13],
    }
    if len(values) == 15:
        attributes["score"] = values[14]
    box_xyxy = (float(values[3]), float(values[4]), float(values[5]), float(values[6]))
    return SourceObject(label, box_xyxy, None, None, False, attributes, {}, number)


def format_line(label: str, box_xyxy: Iterable[float], attributes: dict[str, Any]) -> str:
    """One label line; what the attributes do not say is written as KITTI writes what is not known.

    Raises DataError for a class of several words and an attribute that is no number.
    """
    if label.split() != [label]:
        raise DataError(f"class {label!r} is not one word", remedy="KITTI has columns: rename the class")
    numbers = [
        *_numbers(attributes, "truncated", -1),
        *_numbers(attributes, "occluded", -1),
        *_numbers(attributes, "alpha", -10),
        *_numbers({"box": list(box_xyxy)}, "box", 0, 0, 0, 0),
        *_numbers(attributes, "dimensions_hwl_m", -1, -1, -1),
        *_numbers(attributes, "location_xyz_m", -1000, -1000, -1000),
        *_numbers(attributes, "rotation_y", -10),
    ]
    fields = [label, format_number(numbers[0]), _integer(numbers[1]), *map(format_number, numbers[2:])]
    if "score" in attributes:
        fields += map(repr, _numbers(attributes, "score", 0))
    return " ".join(fields)


def _numbers(attributes: dict[str, Any], name: str, *unknown: float) -> list[float]:
    """An attribute as the floats of as many columns as `unknown` fills. Raises DataError that names its value."""
    value = attributes.get(name, unknown)
    parts = value if isinstance(value, list | tuple) else [value]
    try:
        numbers = list(map(float, parts))
    except (TypeError, ValueError):
        numbers = []
    if len(numbers) != len(unknown) or not hypot(*numbers) < LIMIT:  # NaN is not
        wanted = "a number" if len(unknown) == 1 else f"{len(unknown)} numbers"
        raise DataError(
            f"{name} is {repr(value)[:60]}, KITTI writes {wanted} there", remedy="mend or remove the attribute"
        )
    return numbers


def format_number(value: float) -> str:
    """Two decimals as KITTI writes them, more only where the value has more; -1, -10, -1000 stay bare."""
    number = float(value)
    if number in (-1.0, -10.0, -1000.0):
        return str(int(number))
    short = f"{number:.2f}"
    return short if float(short) == number else repr(number)


def _integer(number: float) -> str:
    """`occluded` is 0..3 in KITTI; another source's true and false become 1 and 0."""
    return str(int(number)) if number == int(number) else repr(number)
