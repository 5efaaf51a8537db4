"""The demo's page: the robustness report with the learning curves of transfer and scratch on top."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from drivetl import console
from drivetl.files.write import write_atomically
from drivetl.report.document import read_results
from drivetl.report.html import build_report, learning_curves_section
from drivetl.training.rundir import read_metrics

RUNS = {"transfer": "from town A", "scratch": "from scratch"}
"""Folder of the run -> its name in the plot and the table."""


def write_demo_report(out: Path) -> Path:
    """Write `out`/report.html and print a table of both runs; returns the page's path."""
    rows = {name: read_metrics(out / name / "metrics.jsonl") for name in RUNS}
    results = read_results(out / "robustness")
    curves = {RUNS[name]: [(row["step"], row["AP50"]) for row in metrics] for name, metrics in rows.items()}
    section = learning_curves_section(
        curves,
        title="What pretraining on town A brings in town B",
        lead=(
            "AP50 on all of town B's validation drives (day and night, dry and wet) during training on the same few "
            "labelled frames. The line "
            "'from town A' starts from the detector trained on town A, evaluated before the first step."
        ),
        x_label="optimiser steps",
    )
    page = build_report(
        results,
        image_folder=out / "robustness" / "pictures",
        extra_sections=[section],
        title="drivetl demo: a detector adapted to another town",
    )
    write_atomically(out / "report.html", page)
    _print_table(rows)
    return out / "report.html"


def _print_table(rows: dict[str, list[dict[str, Any]]]) -> None:
    lines = []
    for name, metrics in rows.items():
        best = max(metrics, key=lambda row: float(row["AP"]))
        start = metrics[0]["AP50"] if metrics[0]["epoch"] == 0 else None
        before = "-" if start is None else f"{start:.3f}"
        console.numbers(**{name: {"AP50_before": start, "AP50": best["AP50"], "AP": best["AP"]}})
        lines.append([RUNS[name], before, f"{best['AP50']:.3f}", f"{best['AP']:.3f}"])
    console.table("town B's validation drives, by day and night, dry and wet", ["", "AP50 before", "AP50", "AP"], lines)
