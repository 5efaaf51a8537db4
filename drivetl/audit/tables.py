"""A COCO json as columns, read tolerantly: what is broken becomes a gap in a column, never an exception.

The audit's checks work on these columns, so a million boxes are looked at in seconds.
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
_WHOLE, _NUMBER, _TEXT = frozenset({int}), frozenset({int, float}), frozenset({str})


@dataclass
class Tables:
    """The three lists of a COCO json as columns; row r of a column belongs to record r of the list."""

    path: Path
    images_root: Path
    info: dict[str, Any]
    """What stands under `info.drivetl`."""
    missing_lists: list[str]
    """Those of images, annotations, categories that are absent or no list."""
    strict: bool
    """False: the file holds NaN or Infinity, which Python's json writes though no JSON has them."""

    image_records: list[Any]
    image_ids: list[Any]
    file_names: list[str]
    """Empty where the record has no usable one."""
    sizes_wh: Floats
    """(I, 2) width and height in px; NaN where unusable."""
    sequences: list[str]
    frame_indices: list[int | None]
    image_attributes: list[dict[str, Any]]

    annotation_records: list[Any]
    annotation_ids: list[Any]
    image_rows: Ints
    """(A,) the row of each annotation's image; -1 where there is none."""
    category_ids: Ints
    """(A,); -1 where the record has no usable one."""
    boxes_xywh: Floats
    """(A, 4) px as they stand in the file; NaN where unusable."""
    areas: Floats
    """(A,) px^2; NaN where not given."""
    crowd: Bools
    """(A,) ignore regions."""

    category_records: list[Any]
    names: dict[int, str] = field(default_factory=dict)
    """Category id -> name, of the usable records."""

    @cached_property
    def boxes_xyxy(self) -> Floats:
        """(A, 4) px."""
        return np.concatenate([self.boxes_xywh[:, :2], self.boxes_xywh[:, :2] + self.boxes_xywh[:, 2:]], axis=1)

    @cached_property
    def image_wh(self) -> Floats:
        """(A, 2) size of each annotation's image; NaN where unknown."""
        sizes = np.concatenate([self.sizes_wh, np.full((1, 2), np.nan)])
        return np.asarray(sizes[self.image_rows])

    @cached_property
    def _sound(self) -> Bools:
        with np.errstate(invalid="ignore"):
            sized = (self.boxes_xywh[:, 2:] > 0).all(axis=1) & np.isfinite(self.boxes_xywh).all(axis=1)
        return np.asarray(sized & np.isfinite(self.image_wh).all(axis=1))

    def sound(self) -> Bools:
        """(A,) boxes that are finite, have a size, and lie in an image of known size: what statistics are made of."""
        return self._sound.copy()

    def objects(self) -> Bools:
        """(A,) sound boxes that are no ignore regions."""
        return self.sound() & ~self.crowd

    def name(self, category_id: int) -> str:
        """The name of a category, or what to call one that has none."""
        return self.names.get(int(category_id), f"category {int(category_id)}")


def load_tables(path: Path, images_root: Path | None = None) -> Tables:
    """Read any JSON file as far as it goes. Raises DataError only when the file is missing or no JSON."""
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
    image_ids = _column(images, "id", _identity, None, _WHOLE)
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
        sequences=_column(images, "sequence", lambda value: str(value or ""), "", _TEXT),
        frame_indices=_column(images, "frame_index", _whole_or_none, None),
        image_attributes=_column(images, "attributes", _dictionary, {}, frozenset({dict})),
        annotation_records=annotations,
        annotation_ids=_column(annotations, "id", _identity, None, _WHOLE),
        image_rows=_rows(image_ids, annotations),
        category_ids=_category_ids(annotations),
        boxes_xywh=_boxes(annotations),
        areas=np.array(_column(annotations, "area", _number, np.nan, _NUMBER), np.float64),
        crowd=np.array(_column(annotations, "iscrowd", bool, False, _WHOLE), np.bool_),
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
    records: list[Any], key: str, convert: Callable[[Any], T], gap: T, plain: frozenset[type] = frozenset()
) -> list[T]:
    """One value a record: converted, or the gap where the key is absent or its value cannot be converted.

    Values that all have one of the `plain` types are taken as they are, which is many times faster.
    """
    if plain:
        try:
            taken = [record[key] for record in records]
        except (KeyError, IndexError, TypeError):
            pass
        else:
            if plain.issuperset(map(type, taken)):
                return taken
    values = []
    for record in records:
        try:
            values.append(convert(record[key]))
        except (KeyError, IndexError, TypeError, ValueError, OverflowError):
            values.append(gap)
    return values


def _identity(value: Any) -> Any:
    """The value itself when it can be a key; a list or an object cannot."""
    hash(value)
    return value


def _text(value: Any) -> str:
    return value if isinstance(value, str) else ""


def _dictionary(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _whole(value: Any) -> int:
    """An integer of a size that arrays hold; ValueError for anything else."""
    if isinstance(value, bool) or not isinstance(value, int) or abs(value) > 2**62:
        raise ValueError
    return value


def _whole_or_none(value: Any) -> int | None:
    return None if value is None else _whole(value)


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
    """The first image that has the id; True is no id, though Python takes it for 1."""
    rows: dict[Any, int] = {}
    for row, identifier in enumerate(image_ids):
        if identifier is not None and not isinstance(identifier, bool):
            rows.setdefault(identifier, row)
    wanted = _column(annotations, "image_id", _identity, None, _WHOLE)
    return np.array([rows.get(identifier, -1) for identifier in wanted], np.int64)


def _category_ids(annotations: list[Any]) -> Ints:
    """orjson reads whole numbers up to 2^64; whatever arrays cannot hold is a gap."""
    try:
        return np.array(_column(annotations, "category_id", _whole, -1, _WHOLE), np.int64)
    except OverflowError:
        return np.array(_column(annotations, "category_id", _whole, -1), np.int64)


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
    ids, names = _column(records, "id", _whole, -1), _column(records, "name", _text, "")
    return {number: name for number, name in zip(ids, names, strict=True) if number >= 0 and name}
