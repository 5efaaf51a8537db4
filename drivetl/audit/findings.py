"""Findings of an audit: severity, count, examples and remedy."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from drivetl.audit.tables import Tables

Severity = Literal["error", "warning", "note"]
"""error: training or evaluation fails or is wrong. warning: probably wrong, check. note: for information."""

SEVERITIES: tuple[Severity, ...] = ("error", "warning", "note")
EXAMPLES = 12
"""Examples listed per finding at most; the count covers all cases."""


@dataclass(frozen=True)
class Example:
    """One case of a finding and its location."""

    detail: str
    image: str = ""
    """File name; empty if the case does not belong to one image."""
    annotation_id: Any = None
    image_row: int = -1
    annotation_row: int = -1

    def as_dict(self) -> dict[str, Any]:
        """The record in audit.json."""
        return {"detail": self.detail, "image": self.image, "annotation_id": self.annotation_id}


@dataclass(frozen=True)
class Finding:
    """One kind of problem and its cases."""

    code: str
    """Stable machine-readable name."""
    severity: Severity
    title: str
    count: int
    unit: str
    """What is counted: boxes, images, ..."""
    total: int
    """Number of units checked."""
    remedy: str
    examples: list[Example] = field(default_factory=list)

    def as_dict(self) -> dict[str, Any]:
        """The record in audit.json."""
        keys = ("code", "severity", "title", "count", "unit", "total", "remedy")
        return {key: getattr(self, key) for key in keys} | {
            "examples": [example.as_dict() for example in self.examples]
        }


def spread(rows: Sequence[int] | npt.NDArray[Any], limit: int = EXAMPLES) -> list[int]:
    """At most `limit` of the rows, evenly spaced from the first to the last."""
    if len(rows) <= limit:
        return [int(row) for row in rows]
    return [int(rows[index]) for index in np.linspace(0, len(rows) - 1, limit).astype(int)]


def about_boxes(
    tables: Tables,
    affected: npt.NDArray[np.bool_],
    code: str,
    severity: Severity,
    title: str,
    remedy: str,
    detail: Callable[[int], str] | None = None,
) -> list[Finding]:
    """A finding about the annotations in the (A,) mask `affected`; an empty list if there are none."""
    rows = np.flatnonzero(affected)
    if not len(rows):
        return []
    examples = [box_example(tables, row, detail(row) if detail else "") for row in spread(rows)]
    total = len(affected) if tables.crowd[rows].any() else int((~tables.crowd).sum())
    return [Finding(code, severity, title, len(rows), "boxes", total, remedy, examples)]


def box_example(tables: Tables, row: int, detail: str = "") -> Example:
    """An annotation with its class and box as written in the file."""
    record = tables.annotation_records[row]
    bbox = record.get("bbox") if isinstance(record, dict) else record
    text = f"{tables.name(tables.category_ids[row])} {_brief(bbox)}" + (f": {detail}" if detail else "")
    image = int(tables.image_rows[row])
    name = tables.file_names[image] if image >= 0 else ""
    return Example(text, name, plain(tables.annotation_ids[row]), image, row)


def about_images(
    tables: Tables,
    rows: Sequence[int] | npt.NDArray[Any],
    code: str,
    severity: Severity,
    title: str,
    remedy: str,
    detail: Callable[[int], str] | None = None,
) -> list[Finding]:
    """A finding about the images in `rows`; an empty list if there are none."""
    if not len(rows):
        return []
    examples = [
        Example(detail(row) if detail else "", tables.file_names[row] or f"images[{row}]", None, row)
        for row in spread(rows)
    ]
    return [Finding(code, severity, title, len(rows), "images", len(tables.image_records), remedy, examples)]


def about_records(
    details: Sequence[str], total: int, unit: str, code: str, severity: Severity, title: str, remedy: str
) -> list[Finding]:
    """A finding about other records, one line of text each; an empty list if there are none."""
    if not details:
        return []
    examples = [Example(details[index]) for index in spread(range(len(details)))]
    return [Finding(code, severity, title, len(details), unit, total, remedy, examples)]


def plain(value: Any) -> Any:
    """An id as a JSON value; anything but an integer or None as short text."""
    return value if isinstance(value, int | None) else _brief(value)


def _brief(value: object) -> str:
    if isinstance(value, list) and all(isinstance(item, int | float) for item in value):
        return "[" + ", ".join(f"{item:.6g}" for item in value[:8]) + ("]" if len(value) <= 8 else ", ...]")
    text = str(value)
    return text if len(text) <= 80 else text[:77] + "..."
