"""Checks of the json itself: lists, records, ids, names, references."""

from __future__ import annotations

from collections import Counter, defaultdict
from typing import Any

import numpy as np

from drivetl.audit.findings import Finding, about_boxes, about_images, about_records
from drivetl.audit.tables import Tables
from drivetl.errors import DataError
from drivetl.files.paths import safe_relative


def check_lists(tables: Tables) -> list[Finding]:
    """images, annotations and categories are there, in a file that every JSON reader takes."""
    findings = about_records(
        [] if tables.strict else ["NaN or Infinity stands where a number belongs"],
        1,
        "datasets",
        "json-not-strict",
        "error",
        "The file holds NaN or Infinity, which JSON does not know",
        "mend the records below; write with allow_nan=False to find the next one early",
    )
    return findings + about_records(
        [f"`{name}` is missing or no list" for name in tables.missing_lists],
        3,
        "lists",
        "lists-missing",
        "error",
        "The file is no COCO dataset",
        "a COCO dataset has the lists images, annotations and categories (a results list has none of them)",
    )


def check_categories(tables: Tables) -> list[Finding]:
    """Usable records, ids 1..K without gaps, each name once."""
    records = tables.category_records
    broken = [
        f"categories[{place}]: {str(record)[:80]}"
        for place, record in enumerate(records)
        if not isinstance(record, dict) or not _is_id(record.get("id")) or not isinstance(record.get("name"), str)
    ]
    findings = about_records(
        broken,
        len(records),
        "categories",
        "category-records",
        "error",
        "Categories without id or name",
        "give each category a whole number `id` and a `name`",
    )
    usable = [record for record in records if isinstance(record, dict) and _is_id(record.get("id"))]
    ids = [record["id"] for record in usable]
    if not broken and records and sorted(ids) != list(range(1, len(ids) + 1)):
        findings += about_records(
            [f"ids are {sorted(ids)[:20]}, not 1..{len(ids)}"],
            1,
            "datasets",
            "category-ids",
            "error",
            "Category ids are not 1..K",
            "convert with `drivetl convert-footage --format coco`: the id is the model's label index",
        )
    return findings + _similar_names([record["name"] for record in usable if record.get("name")], len(records))


def _similar_names(names: list[Any], total: int) -> list[Finding]:
    """Two names that differ by case, blanks, plural or punctuation are mostly one class misspelt."""
    groups = defaultdict(list)
    for name in map(str, names):
        groups["".join(letter for letter in name.lower() if letter.isalnum()).removesuffix("s")].append(name)
    return about_records(
        [" / ".join(repr(name) for name in group) for group in groups.values() if len(group) > 1],
        total,
        "categories",
        "category-similar",
        "warning",
        "Category names that are almost the same",
        "merge them in the taxonomy: list all spellings under `labels` of one class",
    )


def check_images(tables: Tables) -> list[Finding]:
    """Usable records, each id and file once, names that stay under the images root."""
    rows = range(len(tables.image_records))
    sized = np.asarray(np.isfinite(tables.sizes_wh).all(axis=1))
    broken = [row for row in rows if not (_is_id(tables.image_ids[row]) and tables.file_names[row] and sized[row])]
    findings = about_images(
        tables,
        broken,
        "image-records",
        "error",
        "Image records without usable id, file_name, width or height",
        "write whole-number id, file_name, and the true width and height in px",
        lambda row: f"images[{row}]: {str(tables.image_records[row])[:100]}",
    )
    findings += _repeated_ids(tables)
    findings += about_images(
        tables,
        [row for row in rows if tables.file_names[row] and not _is_safe(tables.file_names[row])],
        "file-name-unsafe",
        "error",
        "File names that are absolute or climb out of the images root",
        "make file_name relative to the images root, with forward slashes",
    )
    names = Counter(name for name in tables.file_names if name)
    seen: set[str] = set()
    again = [row for row in rows if names[tables.file_names[row]] > 1 and not _first(tables.file_names[row], seen)]
    return findings + about_images(
        tables,
        again,
        "file-name-repeated",
        "error",
        "Files that are listed more than once",
        "merge the records: all annotations of a file belong to one image id",
        lambda row: f"id {tables.image_ids[row]} repeats a file listed before",
    )


def _repeated_ids(tables: Tables) -> list[Finding]:
    seen: set[Any] = set()
    ids = tables.image_ids
    again = [row for row in range(len(ids)) if _is_id(ids[row]) and not _first(ids[row], seen)]
    return about_images(
        tables,
        again,
        "image-id-repeated",
        "error",
        "Image ids that are used more than once",
        "give every image its own id, and its annotations with it",
        lambda row: f"id {ids[row]} is used before",
    )


def check_references(tables: Tables) -> list[Finding]:
    """Every annotation belongs to a listed image and a listed category."""
    records = tables.annotation_records
    findings = about_boxes(
        tables,
        tables.image_rows < 0,
        "image-unknown",
        "error",
        "Annotations of images that are not listed",
        "list the image, or remove the annotation: it reaches neither training nor evaluation",
        lambda row: f"image_id {_value(records[row], 'image_id')}",
    )
    known = np.array(sorted(tables.names), np.int64)
    return findings + about_boxes(
        tables,
        ~np.isin(tables.category_ids, known),
        "category-unknown",
        "error",
        "Annotations of categories that are not listed",
        "list the category, or correct category_id",
        lambda row: f"category_id {_value(records[row], 'category_id')}",
    )


def check_annotation_ids(tables: Tables) -> list[Finding]:
    """Each annotation id once, none 0."""
    ids = tables.annotation_ids
    usable = np.array([_is_id(value) for value in ids], np.bool_)
    numbers = np.array([value if ok else -1 for value, ok in zip(ids, usable, strict=True)], np.int64)
    repeated = usable.copy()
    repeated[np.unique(numbers, return_index=True)[1]] = False
    findings = about_boxes(
        tables,
        ~usable,
        "annotation-id-missing",
        "error",
        "Annotations without a usable id",
        "number them 1, 2, 3, ...",
        lambda row: f"annotations[{row}] has id {ids[row]!r}",
    )
    findings += about_boxes(
        tables,
        repeated,
        "annotation-id-repeated",
        "error",
        "Annotation ids that are used more than once",
        "number them 1, 2, 3, ...: pycocotools keeps only the last of each",
    )
    return findings + about_boxes(
        tables,
        usable & (numbers == 0),
        "annotation-id-zero",
        "warning",
        "An annotation has the id 0",
        "number from 1: pycocotools takes a match with id 0 for no match, and AP comes out low",
    )


def check_id_gaps(tables: Tables) -> list[Finding]:
    """Ids that skip numbers: harmless, but often the trace of records lost on the way."""
    findings = []
    for kind, ids in (("image", tables.image_ids), ("annotation", tables.annotation_ids)):
        numbers = np.unique(np.array([value for value in ids if _is_id(value)], np.int64))
        jumps = np.flatnonzero(np.diff(numbers) > 1)
        # A dataset split in two keeps its ids, so each part has gaps everywhere: worth a word, not a list.
        findings += about_records(
            [f"{numbers[place]} is followed by {numbers[place + 1]}" for place in jumps],
            len(numbers),
            "gaps",
            f"{kind}-id-gaps",
            "note",
            f"Gaps in the {kind} ids",
            "expected in one side of a split; otherwise find out which records were lost on the way",
        )
    return findings


def _is_id(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and abs(value) < 2**62


def _first(value: Any, seen: set[Any]) -> bool:
    """Whether the value comes for the first time; remembers it."""
    new = value not in seen
    seen.add(value)
    return new


def _is_safe(name: str) -> bool:
    try:
        safe_relative(name)
    except DataError:
        return False
    return True


def _value(record: Any, key: str) -> str:
    return repr(record.get(key))[:60] if isinstance(record, dict) else repr(record)[:60]
