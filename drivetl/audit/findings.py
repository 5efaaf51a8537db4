"""What an audit says: findings, each with a severity, a count, examples and what to do."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from drivetl.audit.tables import Tables

Severity = Literal["error", "warning", "note"]
"""error: training or evaluation fails or is wrong. warning: probably wrong, look. note: good to know."""

SEVERITIES: tuple[Severity, ...] = ("error", "warning", "note")
EXAMPLES = 12
"""Examples listed per finding; the count is always the full one."""


@dataclass(frozen=True)
class Example:
    """One case: what it is, and where to look for it."""

    detail: str
    image: str = ""
    """File name, where one image is meant."""
    annotation_id: Any = None
    image_row: int = -1
    annotation_row: int = -1

    def as_dict(self) -> dict[str, Any]:
        """What stands in audit.json."""
        return {"detail": self.detail, "image": self.image, "annotation_id": self.annotation_id}


@dataclass(frozen=True)
class Finding:
    """One kind of thing that is wrong or odd."""

    code: str
    """A stable name for scripts."""
    severity: Severity
    title: str
    count: int
    unit: str
    """What is counted: boxes, images, ..."""
    total: int
    """Of how many."""
    remedy: str
    examples: list[Example] = field(default_factory=list)

    def as_dict(self) -> dict[str, Any]:
        """What stands in audit.json."""
        keys = ("code", "severity", "title", "count", "unit", "total", "remedy")
        return {key: getattr(self, key) for key in keys} | {
            "examples": [example.as_dict() for example in self.examples]
        }


def spread(rows: Sequence[int] | npt.NDArray[Any], wanted: int = EXAMPLES) -> list[int]:
    """At most `wanted` of the rows, evenly spread from the first to the last."""
    if len(rows) <= wanted:
        return [int(row) for row in rows]
    return [int(rows[place]) for place in np.linspace(0, len(rows) - 1, wanted).astype(int)]


def about_boxes(
    tables: Tables,
    found: npt.NDArray[np.bool_],
    code: str,
    severity: Severity,
    title: str,
    remedy: str,
    detail: Callable[[int], str] | None = None,
) -> list[Finding]:
    """A finding about annotations, `found` being (A,) true for each of them; none where there is none."""
    rows = np.flatnonzero(found)
    if not len(rows):
        return []
    examples = [box_example(tables, row, detail(row) if detail else "") for row in spread(rows)]
    total = len(found) if tables.crowd[rows].any() else int((~tables.crowd).sum())
    return [Finding(code, severity, title, len(rows), "boxes", total, remedy, examples)]


def box_example(tables: Tables, row: int, detail: str = "") -> Example:
    """An annotation with its class and box as they stand in the file."""
    box = tables.annotation_records[row]
    written = box.get("bbox") if isinstance(box, dict) else box
    text = f"{tables.name(tables.category_ids[row])} {_brief(written)}" + (f": {detail}" if detail else "")
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
    """A finding about images, given by row; none where there is none."""
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
    """A finding about records that are neither image nor box, one line each; none where there is none."""
    if not details:
        return []
    examples = [Example(details[place]) for place in spread(range(len(details)))]
    return [Finding(code, severity, title, len(details), unit, total, remedy, examples)]


def plain(value: Any) -> Any:
    """An id as JSON can hold it briefly."""
    return value if isinstance(value, int | None) else _brief(value)


def _brief(value: object) -> str:
    if isinstance(value, list) and all(isinstance(item, int | float) for item in value):
        return "[" + ", ".join(f"{item:.6g}" for item in value[:8]) + ("]" if len(value) <= 8 else ", ...]")
    text = str(value)
    return text if len(text) <= 80 else text[:77] + "..."
