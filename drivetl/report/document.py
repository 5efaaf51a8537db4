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
    """Draw the gallery and write all files of the report into an empty folder.

    Sets `results["gallery"]` and `results["forgetting"]`.
    """
    image_folder = folder / "pictures"
    image_folder.mkdir()
    results["gallery"] = make_gallery(swept, results, image_folder)
    results["forgetting"] = read_forgetting(swept.detectors["run"].run)
    write_atomically(folder / "results.json", orjson.dumps(results, option=orjson.OPT_INDENT_2 | orjson.OPT_SORT_KEYS))
    write_atomically(folder / "cells.csv", texts.cells_csv(results))
    write_atomically(folder / "summary.md", texts.summary_md(results))
    page = build_report(results, image_folder=image_folder, extra_sections=forgetting_sections(results))
    write_atomically(folder / "report.html", page)


def read_results(folder: Path) -> dict[str, Any]:
    """The results document in the folder of a report. Raises DataError when it is missing or has another schema."""
    path = folder / "results.json"
    results: dict[str, Any] = load_json(path)
    check_schema(results, path)
    return results
