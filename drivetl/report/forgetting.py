"""The forgetting ledger of a run (forgetting.json, written by `finetune --source-data`) as a section of its report."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from markupsafe import Markup

from drivetl.coco.io import load_json
from drivetl.draw.pages import render
from drivetl.errors import DataError
from drivetl.report import texts
from drivetl.report.html import Section

_KEYS = {"metric", "data", "images", "drives", "warning", "classes", "mean", "left_out"}


def read_forgetting(run: Path | None) -> dict[str, Any] | None:
    """The run's ledger; None where it was not asked for. Raises DataError for a file that is none."""
    path = run / "forgetting.json" if run is not None else None
    if path is None or not path.is_file():
        return None
    found = load_json(path)
    if not isinstance(found, dict) or not found.keys() >= _KEYS:
        raise DataError("is no forgetting ledger", remedy="remove it, or train again", file=path)
    return found


def forgetting_sections(results: Mapping[str, Any]) -> list[Section]:
    """One section, or none where the document holds no ledger."""
    found = results.get("forgetting")
    if found is None:
        return []
    body = Markup(render("report/section_forgetting", found=found, t=texts))  # noqa: S704 - escaped by the template
    lead = (
        "What adapting cost where the source came from: its classes there, before the first step and now. A class "
        "that was dropped or merged is gone, which is not the same as 0."
    )
    return [Section("forgetting", "What was forgotten", lead, body)]
