"""A COCO JSON as columns. Invalid values become missing values (NaN, -1, empty), never an exception.

The checks work on these columns, so a million boxes are checked in seconds.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from drivetl.coco import rules
from drivetl.coco.boxes import LIMIT_PX
from drivetl.coco.columns import NUMBER, OBJECT, TEXT, WHOLE, column, flat_boxes, plain
from drivetl.coco.io import load_json_with_nan
from drivetl.files.fields import as_name, number, text, whole

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]


@dataclass
class Tables:
    """The three lists of a COCO JSON as columns; row r of a column is record r of the list."""

    path: Path
    images_root: Path
    info: dict[str, Any]
    """The content of `info.drivetl`."""
    list_problems: list[str]
    """What is wrong with the lists images, annotations, categories."""
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
    """(A,) row of each annotation's image; -1 without an image."""
    category_ids: Ints
    """(A,); -1 if the record has no valid one."""
    boxes_xywh: Floats
    """(A, 4) px as written in the file; NaN if invalid."""
    areas: Floats
    """(A,) px^2; NaN if missing."""
    crowd: Bools
    """(A,) True for ignore regions."""
    crowd_broken: Bools
    """(A,) True where `iscrowd` is neither 0 nor 1; `crowd` is False there."""

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

    def class_names(self) -> list[str]:
        """The name of every category that is listed or used, by id."""
        ids = sorted({*self.names, *self.category_ids.tolist()})
        return list(dict.fromkeys(self.name(number) for number in ids))

    def name(self, category_id: int) -> str:
        """The name of a category, or 'category N' if it has none."""
        return self.names.get(int(category_id), f"category {int(category_id)}")


def load_tables(path: Path, images_root: Path | None = None) -> Tables:
    """Read any JSON file as far as possible. Raises DataError only if the file is missing or is not JSON."""
    document, strict = load_json_with_nan(path)
    problems = [problem for key in rules.LISTS if (problem := rules.list_problem(document, key)) is not None]
    images, annotations, categories = (
        document[key] if rules.list_problem(document, key) is None else [] for key in rules.LISTS
    )
    info = document.get("info") if isinstance(document, dict) else None
    own = info.get("drivetl") if isinstance(info, dict) else None
    own = own if isinstance(own, dict) else {}
    root = images_root or path.parent / str(own.get("images_root", "."))
    crowd, crowd_broken = _crowd(annotations)
    image_ids = column(images, "id", _identity, None, WHOLE)
    return Tables(
        path=path,
        images_root=root,
        info=own,
        list_problems=problems,
        strict=strict,
        image_records=images,
        image_ids=image_ids,
        file_names=column(images, "file_name", _file_name, "", TEXT),
        sizes_wh=_sizes(images),
        drives=column(images, "sequence", partial(as_name, what="sequence"), "", TEXT),
        frame_indices=column(images, "frame_index", _integer, None),
        image_attributes=column(images, "attributes", rules.attributes, {}, OBJECT),
        annotation_records=annotations,
        annotation_ids=column(annotations, "id", _identity, None, WHOLE),
        image_rows=_rows(image_ids, annotations),
        category_ids=_category_ids(annotations),
        boxes_xywh=_boxes(annotations),
        areas=np.array(column(annotations, "area", rules.area, np.nan, NUMBER), np.float64),
        crowd=crowd,
        crowd_broken=crowd_broken,
        category_records=categories,
        names=_names(categories),
    )


def _identity(value: Any) -> Any:
    """The value itself; TypeError if it cannot be a dictionary key."""
    hash(value)
    return value


_file_name = partial(text, what="file_name")
_integer = partial(whole, what="id", texts=False)


def _sizes(records: list[Any]) -> Floats:
    columns = [
        column(records, key, partial(number, what=key, texts=False), np.nan, NUMBER) for key in ("width", "height")
    ]
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
    referenced = column(annotations, "image_id", _identity, None, WHOLE)
    return np.array([rows.get(identifier, -1) for identifier in referenced], np.int64)


def _category_ids(annotations: list[Any]) -> Ints:
    """orjson reads integers up to 2^64; values beyond int64 become -1."""
    try:
        return np.array(column(annotations, "category_id", _integer, -1, WHOLE), np.int64)
    except OverflowError:
        return np.array(column(annotations, "category_id", _integer, -1), np.int64)


def _crowd(annotations: list[Any]) -> tuple[Bools, Bools]:
    """(A,) ignore regions, and (A,) those whose `iscrowd` breaks its rule."""
    values = plain(annotations, "iscrowd", WHOLE)
    if values is not None and set(values) <= {0, 1}:
        return np.array(values, np.bool_), np.zeros(len(values), np.bool_)
    values = [record.get("iscrowd") if isinstance(record, dict) else None for record in annotations]
    broken = [rules.reason(rules.crowd, value) is not None for value in values]
    crowd = [not fault and rules.crowd(value) for fault, value in zip(broken, values, strict=True)]
    return np.array(crowd, np.bool_), np.array(broken, np.bool_)


def _boxes(annotations: list[Any]) -> Floats:
    lists = plain(annotations, "bbox", frozenset({list}))
    sides: Any = None if lists is None else flat_boxes(lists)
    if sides is None:
        sides = column(annotations, "bbox", rules.four_numbers, (np.nan,) * 4)
    boxes = np.array(sides, np.float64).reshape(-1, 4)
    boxes[~(np.abs(boxes) < LIMIT_PX).all(axis=1)] = np.nan
    return boxes


def _names(records: list[Any]) -> dict[int, str]:
    ids = column(records, "id", _integer, -1)
    names = column(records, "name", partial(as_name, what="name"), "")
    return {number: name for number, name in zip(ids, names, strict=True) if number >= 0 and name}
