"""KITTI label text: one object per line, read and written. 15 columns, and a 16th with a score in a result file.

    type truncated occluded alpha left top right bottom height width length x y z rotation_y [score]

Boxes are 0-based px, left top right bottom. Sizes in m, location in camera coordinates (m), angles in rad.
The same columns follow `frame track_id` in a KITTI tracking file.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from math import hypot
from typing import Any, NamedTuple

import orjson

from drivetl.errors import DataError

LABELS = ("Car", "Van", "Truck", "Pedestrian", "Person_sitting", "Person", "Cyclist", "Tram", "Misc", "DontCare")
"""The types KITTI itself writes; `Person` only in the tracking labels."""

COLUMNS = (
    *("type", "truncated", "occluded", "alpha"),
    *("left", "top", "right", "bottom"),
    *("height", "width", "length", "x", "y", "z", "rotation_y", "score"),
)

ANY_LINE = (15, 16)
"""Columns of a label line, with or without a score."""
RESULT_LINE = (16,)

LIMIT = 1e9
"""No box, size or location is larger."""


class KittiLine(NamedTuple):
    """The columns of one line. The defaults are KITTI's marks for unknown values."""

    label: str
    box_xyxy: Sequence[float] = (0.0, 0.0, 0.0, 0.0)
    """left, top, right, bottom in px."""
    truncated: float = -1.0
    """0..1: the share of the object that is outside the image."""
    occluded: float = -1.0
    """0 fully visible, 1 partly, 2 largely occluded, 3 unknown."""
    alpha: float = -10.0
    """Observation angle in rad, -pi..pi."""
    dimensions_hwl_m: Sequence[float] = (-1.0, -1.0, -1.0)
    location_xyz_m: Sequence[float] = (-1000.0, -1000.0, -1000.0)
    rotation_y: float = -10.0
    """rad about the camera's y axis, -pi..pi."""
    score: float | None = None


_UNKNOWN = KittiLine("")


def parse_plain(text: str, counts: Collection[int] = ANY_LINE) -> list[KittiLine] | None:
    """Fast path for lines in KITTI's own spelling; None when a line is spelled differently or invalid.

    A JSON parser reads the numbers of all lines in one call, five times faster than float() for each.
    """
    if "," in text or "[" in text or "]" in text:  # they would read as separators of numbers
        return None
    labels, rests = [], []
    for line in text.removesuffix("\n").split("\n"):
        label, _, rest = line.partition(" ")
        if not label.isidentifier():
            return None
        labels.append(label)
        rests.append(rest)
    joined = "],[".join(rests)
    if "e" in joined:  # JSON's true and false would read as numbers
        return None
    try:
        rows = orjson.loads(f"[[{joined.replace(' ', ',')}]]")
        if len(rows) != len(labels) or not all(len(row) + 1 in counts and hypot(*row) < LIMIT for row in rows):
            return None
    except (ValueError, TypeError):
        return None
    return list(map(_line, labels, rows))


def parse_line(text: str, number: int | None = None, counts: Collection[int] = ANY_LINE) -> KittiLine:
    """One line whose number of columns is in `counts`.

    Raises DataError with the line number for a wrong number of columns and a column that is not a usable number.
    """
    plain = parse_plain(text, counts)
    if plain is not None:
        return plain[0]
    fields = text.split()
    if len(fields) not in counts:
        expected = "15 (or 16 with a score)" if 15 in counts else "16, the score last"
        raise DataError(
            f"{len(fields)} fields instead of {expected}", remedy=f"a line is: {' '.join(COLUMNS)}", line=number
        )
    return _line(fields[0], _parse_numbers(fields[1:], number))


def parse_text(text: str, counts: Collection[int] = ANY_LINE) -> list[tuple[int, KittiLine]]:
    """(line number, line) of a whole file without blank lines. Raises DataError like `parse_line`."""
    plain = parse_plain(text, counts)
    if plain is not None:
        return list(enumerate(plain, 1))
    lines = enumerate(text.split("\n"), 1)
    return [(number, parse_line(line, number, counts)) for number, line in lines if line and not line.isspace()]


def _line(label: str, values: list[float]) -> KittiLine:
    """A line from its type and its 14 or 15 numbers."""
    return KittiLine(
        label,
        values[3:7],
        values[0],
        values[1],
        values[2],
        values[7:10],
        values[10:13],
        values[13],
        values[14] if len(values) == 15 else None,
    )


def _parse_numbers(fields: Sequence[str], number: int | None) -> list[float]:
    try:
        values = list(map(float, fields))
        if hypot(*values) < LIMIT and "_" not in "".join(fields):  # False for NaN; float() takes 1_000
            return values
    except ValueError:
        pass
    for name, field in zip(COLUMNS[1:], fields, strict=False):
        _check_number(name, field, number)
    return [float(field) for field in fields]


def _check_number(name: str, field: str, line: int | None) -> None:
    try:
        usable = abs(float(field)) < LIMIT and "_" not in field
    except ValueError:
        usable = False
    if not usable:
        raise DataError(f"{name} is {field[:40]!r}, not a usable number", remedy="fix or remove the line", line=line)


def attributes_of(line: KittiLine) -> dict[str, Any]:
    """All columns except type and box, unrounded, as attributes of an annotation."""
    occluded = line.occluded
    attributes: dict[str, Any] = {
        "truncated": line.truncated,
        "occluded": int(occluded) if occluded == int(occluded) else occluded,
        "alpha": line.alpha,
        "dimensions_hwl_m": line.dimensions_hwl_m,
        "location_xyz_m": line.location_xyz_m,
        "rotation_y": line.rotation_y,
    }
    if line.score is not None:
        attributes["score"] = line.score
    return attributes


def line_of(label: str, box_xyxy: Iterable[float], attributes: Mapping[str, Any]) -> KittiLine:
    """The reverse of `attributes_of`; a missing attribute gets KITTI's mark for unknown.

    Raises DataError for an attribute that does not have one number per column.
    """
    values = {
        name: _numbers(attributes[name], name, getattr(_UNKNOWN, name))
        for name in ("truncated", "occluded", "alpha", "dimensions_hwl_m", "location_xyz_m", "rotation_y", "score")
        if name in attributes
    }
    return KittiLine(label, _numbers(list(box_xyxy), "box", _UNKNOWN.box_xyxy), **values)


def _numbers(value: object, name: str, unknown: object) -> Any:
    """One float, or a list as long as `unknown`. Raises DataError with the name and the value."""
    count = len(unknown) if isinstance(unknown, tuple) else 1
    parts = value if isinstance(value, list | tuple) else [value]
    try:
        numbers = list(map(float, parts))
    except (TypeError, ValueError):
        numbers = []
    if len(numbers) != count or not hypot(*numbers) < LIMIT:  # NaN is not
        expected = "a number" if count == 1 else f"{count} numbers"
        raise DataError(f"{name} is {repr(value)[:60]}, KITTI expects {expected}", remedy="fix or remove the attribute")
    return numbers if isinstance(unknown, tuple) else numbers[0]


def exact(value: float) -> str:
    """Two decimals as in KITTI, more only when the value needs them; -1, -10 and -1000 without decimals."""
    number = float(value)
    if number in (-1.0, -10.0, -1000.0):
        return str(int(number))
    short = rounded(number)
    return short if float(short) == number else repr(number)


def rounded(value: float) -> str:
    """Two decimals."""
    return f"{value:.2f}"


def write_line(line: KittiLine, number: Callable[[float], str] = exact, score: Callable[[float], str] = repr) -> str:
    """One line without its line end. `number` formats known values; unknown ones are KITTI's marks without decimals.

    Raises DataError for a type of several words.
    """
    if line.label.split() != [line.label]:
        raise DataError(
            f"class {line.label!r} is not one word", remedy="rename the class: KITTI separates columns by spaces"
        )
    known: list[tuple[float, float]] = [
        (line.alpha, _UNKNOWN.alpha),
        *((value, LIMIT) for value in line.box_xyxy),
        *zip(line.dimensions_hwl_m, _UNKNOWN.dimensions_hwl_m, strict=True),
        *zip(line.location_xyz_m, _UNKNOWN.location_xyz_m, strict=True),
        (line.rotation_y, _UNKNOWN.rotation_y),
    ]
    fields = [line.label, _mark_or(line.truncated, _UNKNOWN.truncated, number), _integer(line.occluded)]
    fields += [_mark_or(value, unknown, number) for value, unknown in known]
    if line.score is not None:
        fields.append(score(line.score))
    return " ".join(fields)


def _mark_or(value: float, unknown: float, number: Callable[[float], str]) -> str:
    return str(int(unknown)) if value == unknown else number(value)


def _integer(number: float) -> str:
    """`occluded` is 0..3 in KITTI; another source's true and false become 1 and 0."""
    return str(int(number)) if number == int(number) else repr(number)
