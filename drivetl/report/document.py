"""The folder of a report: results.json, cells.csv, summary.md, report.html, pictures/."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import orjson

from drivetl.coco.io import load_json
from drivetl.files.write import write_atomically
from drivetl.report import texts
from drivetl.report.forgetting import forgetting_sections, read_forgetting
from drivetl.report.gallery import make_gallery
from drivetl.report.html import build_report, check_schema
from drivetl.robustness.run import FinishedSweep


def write_document(swept: FinishedSweep, results: dict[str, Any], folder: Path) -> None:
    """Draw the gallery and write every file of the report into an empty folder; `results` gets `gallery` and
    `forgetting`."""
    pictures = folder / "pictures"
    pictures.mkdir()
    results["gallery"] = make_gallery(swept, results, pictures)
    results["forgetting"] = read_forgetting(swept.detectors["run"].run)
    write_atomically(folder / "results.json", orjson.dumps(results, option=orjson.OPT_INDENT_2 | orjson.OPT_SORT_KEYS))
    write_atomically(folder / "cells.csv", texts.cells_csv(results))
    write_atomically(folder / "summary.md", texts.summary_md(results))
    page = build_report(results, pictures=pictures, extra_sections=forgetting_sections(results))
    write_atomically(folder / "report.html", page)


def read_results(folder: Path) -> dict[str, Any]:
    """The results document of a report's folder. Raises DataError when it is missing or of another schema."""
    path = folder / "results.json"
    results = load_json(path)
    check_schema(results, path)
    found: dict[str, Any] = results
    return found
