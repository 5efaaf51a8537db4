"""Errors, calibration and operating points of the clean and the worst cell, ready for the template."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from drivetl.draw.svg_charts import Series, legend, line_chart
from drivetl.report import texts

Document = Mapping[str, Any]

KINDS = {
    "Cls": "wrong class",
    "Loc": "wrong location",
    "Both": "wrong class and location",
    "Dupe": "duplicate",
    "Bkg": "background",
    "Miss": "missed",
}
"""TIDE's kinds of error -> their names on the page."""


def diagnosis_rows(results: Document) -> dict[str, Any]:
    """Error bars, reliability plot and table of classes; one entry per cell, the clean one first."""
    cells = results["diagnosis"]
    names = [cell_label(cell) for cell in cells]
    unknown = {row["class"] for row in (results.get("class_match") or {"unknown": []})["unknown"]}
    return {
        "names": names,
        "legend": legend(names),
        "errors": _errors(cells),
        "reliability": _reliability(cells, names),
        "calibration": [
            {
                "name": name,
                "d_ece": texts.percent(cell["calibration"]["d_ece"]),
                "la_ece": texts.percent(cell["calibration"]["la_ece"]),
                "n": cell["calibration"]["n_detections"],
            }
            for name, cell in zip(names, cells, strict=True)
        ],
        "floor": cells[0]["calibration"]["score_floor"],
        "matching": cells[0]["calibration"]["matching"],
        "classes": [
            {"name": name, "cells": [_operating(cell, name) for cell in cells]}
            for name in cells[0]["operating"]
            if name not in unknown
        ],
        "rates": [row["false_per_image"] for row in cells[0]["recall_at"]],
    }


def cell_label(cell: Document) -> str:
    """`clean`; `night, severity 3`."""
    if not cell["severity"]:
        return "clean"
    return f"{texts.plain_name(cell['condition'])}, severity {cell['severity']}"


def _errors(cells: Sequence[Document]) -> list[dict[str, Any]]:
    if any(cell["tide"] is None for cell in cells):
        return []
    costs = [[cell["tide"]["delta_ap"][kind] for cell in cells] for kind in KINDS]
    most = max([value or 0.0 for row in costs for value in row] + [0.01])
    return [
        {
            "name": KINDS[kind],
            "bars": [
                {
                    "width": f"{100 * max(0.0, value or 0.0) / most:.1f}%",
                    "text": texts.percent(value),
                    "count": cell["tide"]["counts"].get(kind),
                }
                for value, cell in zip(row, cells, strict=True)
            ],
        }
        for kind, row in zip(KINDS, costs, strict=True)
    ]


def _reliability(cells: Sequence[Document], names: Sequence[str]) -> Any:
    """Precision against the mean score of each bin; on the diagonal the detector is calibrated."""
    series = []
    for cell, name in zip(cells, names, strict=True):
        rows = cell["calibration"]
        bins = [
            (100 * x, 100 * y, int(n))
            for x, y, n in zip(rows["confidence"], rows["precision"], rows["counts"], strict=True)
            if x is not None and y is not None
        ]
        notes = [f"{name}, score {x:.0f} %: precision {y:.0f} % of {n}" for x, y, n in bins]
        series.append(Series(name, [(x, y) for x, y, _ in bins], notes=notes))
    series.append(Series("perfect calibration", [(0.0, 0.0), (100.0, 100.0)]))
    label = "; ".join(note for line in series for note in line.notes)
    return line_chart(
        series,
        label=label,
        x_label="score, %; vertical axis: precision, %",
        x_ticks=[(float(x), str(x)) for x in (0, 25, 50, 75, 100)],
        y_max=100.0,
        width=420,
        height=260,
    )


def _operating(cell: Document, name: str) -> dict[str, Any]:
    point, lrp = cell["operating"][name], cell["olrp"]["classes"][name]
    return {
        "threshold": _score(point["threshold"]),
        "best": _score(lrp["threshold"]),
        "recall": texts.percent(point["recall"], 0),
        "precision": texts.percent(point["precision"], 0),
        "false": _score(point["fp_per_image"]),
        "recall_at": [texts.percent(row["classes"][name]["recall"], 0) for row in cell["recall_at"]],
    }


def _score(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f}"


def kitti_rows(results: Document) -> list[dict[str, Any]]:
    """Class -> clean and held-out AP40 at easy, moderate, hard."""
    rows: dict[str, dict[str, Any]] = {}
    for ap in results["kitti"]:
        row = rows.setdefault(ap["class"], {"name": ap["class"], "levels": []})
        row["levels"].append(
            {"level": ap["difficulty"], "clean": texts.percent(ap["clean"]), "held_out": texts.percent(ap["held_out"])}
        )
    return list(rows.values())
