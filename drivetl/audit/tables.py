"""A COCO JSON as columns. Invalid values become missing values (NaN, -1, empty), never an exception.

The checks work on these columns, so a million boxes are checked in seconds.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from itertools import chain
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

from drivetl.coco.io import load_json
from drivetl.errors import DataError

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]
T = TypeVar("T")
_INTEGER, _NUMBER, _TEXT = frozenset({int}), frozenset({int, float}), frozenset({str})


@dataclass
class Tables:
    """The three lists of a COCO JSON as columns; row r of a column is record r of the list."""

    path: Path
    images_root: Path
    info: dict[str, Any]
    """The content of `info.drivetl`."""
    missing_lists: list[str]
    """Which of images, annotations, categories are absent or not a list."""
    strict: bool
    """False: the file contains NaN or Infinity, which Python's json writes although JSON does not allow it."""

    image_records: list[Any]
    image_ids: list[Any]
    file_names: list[str]
    """Empty if the record has no valid name."""
    sizes_wh: Floats
    """(I, 2) width and height in px; NaN if invalid."""
    drives: list[str]
    frame_indices: list[int | None]
    image_attributes: list[dict[str, Any]]

    annotation_records: list[Any]
    annotation_ids: list[Any]
    image_rows: Ints
    """(A,) row of each annotation's image; -1 if there is none."""
    category_ids: Ints
    """(A,); -1 if the record has no valid one."""
    boxes_xywh: Floats
    """(A, 4) px as written in the file; NaN if invalid."""
    areas: Floats
    """(A,) px^2; NaN if missing."""
    crowd: Bools
    """(A,) True for ignore regions."""

    category_records: list[Any]
    names: dict[int, str] = field(default_factory=dict)
    """Category id -> name, valid records only."""

    @cached_property
    def boxes_xyxy(self) -> Floats:
        """(A, 4) px."""
        return np.concatenate([self.boxes_xywh[:, :2], self.boxes_xywh[:, :2] + self.boxes_xywh[:, 2:]], axis=1)

    @cached_property
    def image_wh(self) -> Floats:
        """(A, 2) width and height of each annotation's image, px; NaN if unknown."""
        sizes = np.concatenate([self.sizes_wh, np.full((1, 2), np.nan)])
        return np.asarray(sizes[self.image_rows])

    @cached_property
    def _valid(self) -> Bools:
        with np.errstate(invalid="ignore"):
            sized = (self.boxes_xywh[:, 2:] > 0).all(axis=1) & np.isfinite(self.boxes_xywh).all(axis=1)
        return np.asarray(sized & np.isfinite(self.image_wh).all(axis=1))

    def valid(self) -> Bools:
        """(A,) True for finite boxes of positive size that belong to an image of known size."""
        return self._valid.copy()

    def objects(self) -> Bools:
        """(A,) True for valid boxes that are not ignore regions."""
        return self.valid() & ~self.crowd

    def name(self, category_id: int) -> str:
        """The name of a category, or 'category N' if it has none."""
        return self.names.get(int(category_id), f"category {int(category_id)}")


def load_tables(path: Path, images_root: Path | None = None) -> Tables:
    """Read any JSON file as far as possible. Raises DataError only if the file is missing or is not JSON."""
    document, strict = _load(path)
    lists: dict[str, list[Any]] = {}
    missing = []
    for key in ("images", "annotations", "categories"):
        value = document.get(key) if isinstance(document, dict) else None
        lists[key] = value if isinstance(value, list) else []
        if not isinstance(value, list):
            missing.append(key)
    info = _dictionary(_dictionary(document.get("info")).get("drivetl")) if isinstance(document, dict) else {}
    root = images_root or path.parent / str(info.get("images_root", "."))
    images, annotations = lists["images"], lists["annotations"]
    image_ids = _column(images, "id", _identity, None, _INTEGER)
    return Tables(
        path=path,
        images_root=root,
        info=info,
        missing_lists=missing,
        strict=strict,
        image_records=images,
        image_ids=image_ids,
        file_names=_column(images, "file_name", _text, "", _TEXT),
        sizes_wh=_sizes(images),
        drives=_column(images, "sequence", lambda value: str(value or ""), "", _TEXT),
        frame_indices=_column(images, "frame_index", _integer_or_none, None),
        image_attributes=_column(images, "attributes", _dictionary, {}, frozenset({dict})),
        annotation_records=annotations,
        annotation_ids=_column(annotations, "id", _identity, None, _INTEGER),
        image_rows=_rows(image_ids, annotations),
        category_ids=_category_ids(annotations),
        boxes_xywh=_boxes(annotations),
        areas=np.array(_column(annotations, "area", _number, np.nan, _NUMBER), np.float64),
        crowd=np.array(_column(annotations, "iscrowd", bool, False, _INTEGER), np.bool_),
        category_records=lists["categories"],
        names=_names(lists["categories"]),
    )


def _load(path: Path) -> tuple[Any, bool]:
    try:
        return load_json(path), True
    except DataError:
        data = path.read_bytes() if path.is_file() else b""
        if b"NaN" not in data and b"Infinity" not in data:
            raise
        try:
            return json.loads(data), False
        except (ValueError, RecursionError):
            pass
        raise


def _column(
    records: list[Any], key: str, convert: Callable[[Any], T], missing: T, plain: frozenset[type] = frozenset()
) -> list[T]:
    """One value per record: converted, or `missing` if the key is absent or its value cannot be converted.

    If all values have one of the `plain` types, they are used unconverted, which is many times faster.
    """
    if plain:
        try:
            raw = [record[key] for record in records]
        except (KeyError, IndexError, TypeError):
            pass
        else:
            if plain.issuperset(map(type, raw)):
                return raw
    values = []
    for record in records:
        try:
            values.append(convert(record[key]))
        except (KeyError, IndexError, TypeError, ValueError, OverflowError):
            values.append(missing)
    return values


def _identity(value: Any) -> Any:
    """The value itself; TypeError if it cannot be a dictionary key."""
    hash(value)
    return value


def _text(value: Any) -> str:
    return value if isinstance(value, str) else ""


def _dictionary(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _integer(value: Any) -> int:
    """An integer that fits int64; ValueError for anything else."""
    if isinstance(value, bool) or not isinstance(value, int) or abs(value) > 2**62:
        raise ValueError
    return value


def _integer_or_none(value: Any) -> int | None:
    return None if value is None else _integer(value)


def _number(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ValueError
    return float(value)


def _sizes(records: list[Any]) -> Floats:
    columns = [_column(records, key, _number, np.nan, _NUMBER) for key in ("width", "height")]
    sizes = np.array(columns, np.float64).T.reshape(-1, 2)
    with np.errstate(invalid="ignore"):
        sizes[~((sizes >= 1) & (sizes < 1e9))] = np.nan
    return sizes


def _rows(image_ids: list[Any], annotations: list[Any]) -> Ints:
    """(A,) row of the first image with the annotation's image_id; True is not an id, although True == 1 in Python."""
    rows: dict[Any, int] = {}
    for row, identifier in enumerate(image_ids):
        if identifier is not None and not isinstance(identifier, bool):
            rows.setdefault(identifier, row)
    referenced = _column(annotations, "image_id", _identity, None, _INTEGER)
    return np.array([rows.get(identifier, -1) for identifier in referenced], np.int64)


def _category_ids(annotations: list[Any]) -> Ints:
    """orjson reads integers up to 2^64; values beyond int64 become -1."""
    try:
        return np.array(_column(annotations, "category_id", _integer, -1, _INTEGER), np.int64)
    except OverflowError:
        return np.array(_column(annotations, "category_id", _integer, -1), np.int64)


def _boxes(annotations: list[Any]) -> Floats:
    lists = _column(annotations, "bbox", _box, (np.nan,) * 4, frozenset({list}))
    if not (set(map(len, lists)) <= {4} and _NUMBER.issuperset(map(type, chain.from_iterable(lists)))):
        lists = _column(annotations, "bbox", _box, (np.nan,) * 4)
    boxes = np.array(lists, np.float64).reshape(-1, 4)
    boxes[~(np.abs(boxes) < 1e9).all(axis=1)] = np.nan
    return boxes


def _box(value: Any) -> tuple[float, float, float, float]:
    x, y, w, h = value
    if isinstance(value, str | dict):
        raise ValueError
    return x * 1.0, y * 1.0, w * 1.0, h * 1.0


def _names(records: list[Any]) -> dict[int, str]:
    ids, names = _column(records, "id", _integer, -1), _column(records, "name", _text, "")
    return {number: name for number, name in zip(ids, names, strict=True) if number >= 0 and name}
