"""The demo's page: the robustness report with the learning curves of transfer and scratch on top, and a closing
table."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from drivetl import console
from drivetl.files.write import write_atomically
from drivetl.report.document import read_results
from drivetl.report.html import build_report, learning_curves_section
from drivetl.training.rundir import read_metrics

CONTESTANTS = {"transfer": "from town A", "scratch": "from scratch"}


def write_demo_report(out: Path) -> Path:
    """Write `out`/report.html and print the closing table; returns the page's path."""
    rows = {name: read_metrics(out / name / "metrics.jsonl") for name in CONTESTANTS}
    results = read_results(out / "robustness")
    curves = {CONTESTANTS[name]: [(row["step"], row["AP50"]) for row in metrics] for name, metrics in rows.items()}
    section = learning_curves_section(
        curves,
        title="What town A was worth in town B",
        lead=(
            "AP50 on town B's validation drives while learning the same few labelled frames. The upper line starts "
            "with what was learnt in town A, judged before its first step."
        ),
        x_label="optimizer steps",
    )
    page = build_report(
        results,
        pictures=out / "robustness" / "pictures",
        extra_sections=[section],
        title="drivetl demo: a detector moves to another town",
    )
    write_atomically(out / "report.html", page)
    _closing_table(rows)
    return out / "report.html"


def _closing_table(rows: dict[str, list[dict[str, Any]]]) -> None:
    lines = []
    for name, metrics in rows.items():
        best = max(metrics, key=lambda row: float(row["AP"]))
        start = metrics[0]["AP50"] if metrics[0]["epoch"] == 0 else None
        before = "-" if start is None else f"{start:.3f}"
        lines.append([CONTESTANTS[name], before, f"{best['AP50']:.3f}", f"{best['AP']:.3f}"])
    console.table("town B's validation drives, clean", ["", "AP50 before", "AP50", "AP"], lines)
