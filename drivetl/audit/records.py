"""Checks of the JSON itself: lists, records, ids, names, references."""

from __future__ import annotations

from collections import Counter, defaultdict
from typing import Any

import numpy as np

from drivetl.audit.findings import Finding, about_boxes, about_images, about_records
from drivetl.audit.tables import Tables
from drivetl.coco import rules
from drivetl.files.paths import is_safe


def check_lists(tables: Tables) -> list[Finding]:
    """The file is strict JSON and has the lists images, annotations and categories."""
    findings = about_records(
        [] if tables.strict else ["NaN or Infinity in place of a number"],
        1,
        "datasets",
        "json-not-strict",
        "error",
        "The file contains NaN or Infinity, which is not valid JSON",
        "fix the records listed below; write the file with allow_nan=False to catch this early",
    )
    return findings + about_records(
        tables.list_problems,
        3,
        "lists",
        "lists-missing",
        "error",
        "The file is not a COCO dataset",
        "a COCO dataset has the lists images, annotations and categories; a results file has none of them",
    )


def check_categories(tables: Tables) -> list[Finding]:
    """Valid records, ids 1..K without gaps, unique names."""
    records = tables.category_records
    broken = [
        f"categories[{index}]: {str(record)[:80]}"
        for index, record in enumerate(records)
        if not isinstance(record, dict) or not _is_id(record.get("id")) or not isinstance(record.get("name"), str)
    ]
    findings = about_records(
        broken,
        len(records),
        "categories",
        "category-records",
        "error",
        "Categories without id or name",
        "give each category an integer `id` and a `name`",
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
            "convert with `drivetl convert-footage --format coco`: category ids must equal the model's label indices",
        )
    return findings + _similar_names([record["name"] for record in usable if record.get("name")], len(records))


def _similar_names(names: list[Any], total: int) -> list[Finding]:
    """Names that differ only by case, spaces, plural or punctuation are usually spellings of one class."""
    groups = defaultdict(list)
    for name in map(str, names):
        groups["".join(character for character in name.lower() if character.isalnum()).removesuffix("s")].append(name)
    return about_records(
        [" / ".join(repr(name) for name in group) for group in groups.values() if len(group) > 1],
        total,
        "categories",
        "category-similar",
        "warning",
        "Nearly identical category names",
        "merge them in the taxonomy: list all spellings under `labels` of one class",
    )


def check_images(tables: Tables) -> list[Finding]:
    """Valid records, unique ids and files, file names inside the images root."""
    rows = range(len(tables.image_records))
    sized = np.asarray(np.isfinite(tables.sizes_wh).all(axis=1))
    broken = [row for row in rows if not (_is_id(tables.image_ids[row]) and tables.file_names[row] and sized[row])]
    findings = about_images(
        tables,
        broken,
        "image-records",
        "error",
        "Image records without a valid id, file_name, width or height",
        "write an integer id, file_name, and the actual width and height in px",
        lambda row: f"images[{row}]: {str(tables.image_records[row])[:100]}",
    )
    findings += _repeated_ids(tables)
    findings += about_images(
        tables,
        [row for row in rows if tables.file_names[row] and not is_safe(tables.file_names[row])],
        "file-name-unsafe",
        "error",
        "File names that are absolute or leave the images root",
        "make file_name relative to the images root, with forward slashes",
    )
    names = Counter(name for name in tables.file_names if name)
    seen: set[str] = set()
    repeated = [
        row for row in rows if names[tables.file_names[row]] > 1 and not _is_first(tables.file_names[row], seen)
    ]
    return findings + about_images(
        tables,
        repeated,
        "file-name-repeated",
        "error",
        "Files listed more than once",
        "merge the records: all annotations of a file must have the same image_id",
        lambda row: f"id {tables.image_ids[row]} has the same file as an earlier image",
    )


def _repeated_ids(tables: Tables) -> list[Finding]:
    seen: set[Any] = set()
    ids = tables.image_ids
    repeated = [row for row in range(len(ids)) if _is_id(ids[row]) and not _is_first(ids[row], seen)]
    return about_images(
        tables,
        repeated,
        "image-id-repeated",
        "error",
        "Duplicate image ids",
        "give every image a unique id and update image_id of its annotations",
        lambda row: f"id {ids[row]} is already used",
    )


def check_references(tables: Tables) -> list[Finding]:
    """Every annotation refers to an existing image and category."""
    records = tables.annotation_records
    findings = about_boxes(
        tables,
        tables.image_rows < 0,
        "image-unknown",
        "error",
        "Annotations with an unknown image_id",
        "add the image, or remove the annotation: it is used in neither training nor evaluation",
        lambda row: _unlisted(records[row], "image_id"),
    )
    known = np.array(sorted(tables.names), np.int64)
    return findings + about_boxes(
        tables,
        ~np.isin(tables.category_ids, known),
        "category-unknown",
        "error",
        "Annotations with an unknown category_id",
        "add the category, or fix category_id",
        lambda row: _unlisted(records[row], "category_id"),
    )


def check_crowd(tables: Tables) -> list[Finding]:
    """Ignore regions are marked by 0 and 1."""
    records = tables.annotation_records
    return about_boxes(
        tables,
        tables.crowd_broken,
        "iscrowd-unusable",
        "error",
        "Annotations whose iscrowd is not 0 or 1",
        "write the number 0 for an object, 1 for an ignore region",
        lambda row: rules.reason(rules.crowd, records[row]["iscrowd"]) or "",
    )


def check_annotation_ids(tables: Tables) -> list[Finding]:
    """Annotation ids are unique integers, none of them 0."""
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
        "Annotations without a valid id",
        "number them 1, 2, 3, ...",
        lambda row: f"annotations[{row}] has id {ids[row]!r}",
    )
    findings += about_boxes(
        tables,
        repeated,
        "annotation-id-repeated",
        "error",
        "Duplicate annotation ids",
        "number them 1, 2, 3, ...: pycocotools keeps only the last annotation of each id",
    )
    return findings + about_boxes(
        tables,
        usable & (numbers == 0),
        "annotation-id-zero",
        "warning",
        "Annotation with id 0",
        "number from 1: pycocotools treats a match with id 0 as no match, which lowers AP",
    )


def check_id_gaps(tables: Tables) -> list[Finding]:
    """Gaps in the ids: harmless, but possibly a sign of lost records."""
    findings = []
    for kind, ids in (("image", tables.image_ids), ("annotation", tables.annotation_ids)):
        numbers = np.unique(np.array([value for value in ids if _is_id(value)], np.int64))
        jumps = np.flatnonzero(np.diff(numbers) > 1)
        # Splits keep their ids, so each part has gaps everywhere: one finding, not one per gap.
        findings += about_records(
            [f"{numbers[index]} is followed by {numbers[index + 1]}" for index in jumps],
            len(numbers),
            "gaps",
            f"{kind}-id-gaps",
            "note",
            f"Gaps in the {kind} ids",
            "expected in train or val of a split; otherwise check whether records were lost",
        )
    return findings


def _is_id(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and abs(value) < 2**62


def _is_first(value: Any, seen: set[Any]) -> bool:
    """Whether the value is not in `seen` yet; adds it."""
    new = value not in seen
    seen.add(value)
    return new


def _unlisted(record: Any, key: str) -> str:
    """Why a record's reference leads nowhere."""
    return rules.reason(lambda value: rules.reference(rules.record(value), key, ()), record) or ""
