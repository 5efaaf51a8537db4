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
    """The ledger of a run; None if the run has none. Raises DataError for a file that is not a ledger."""
    path = run / "forgetting.json" if run is not None else None
    if path is None or not path.is_file():
        return None
    ledger = load_json(path)
    if not isinstance(ledger, dict) or not ledger.keys() >= _KEYS:
        raise DataError("is not a forgetting ledger", remedy="remove it, or train again", file=path)
    return ledger


def forgetting_sections(results: Mapping[str, Any]) -> list[Section]:
    """One section; an empty list if the document has no ledger."""
    ledger = results.get("forgetting")
    if ledger is None:
        return []
    body = Markup(render("report/section_forgetting", ledger=ledger, t=texts))  # noqa: S704 - escaped by the template
    lead = (
        "Performance on the validation data of the source domain, before the first training step and after training. "
        "A class that was dropped or merged is 'gone', which is not an AP of 0."
    )
    return [Section("forgetting", "Forgetting on the source domain", lead, body)]
