"""Tiles, heat map rows, curves, bars and facts of a results document, ready for the templates."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from markupsafe import Markup

from drivetl.coco.drives import drives_in_words
from drivetl.conditions import Family
from drivetl.console.text import listing
from drivetl.draw.svg_charts import Series, line_chart
from drivetl.report import texts

Document = Mapping[str, Any]
_FAMILIES = tuple(str(family) for family in Family)


def tiles(results: Document) -> list[dict[str, str]]:
    """The numbers at the top of the page: label, value, interval (`span`) and a note each."""
    head, metric = results["headline"], results["metric"]
    shown = [
        {
            "label": f"clean {metric}",
            "value": texts.percent(results["clean"]["value"]["point"]),
            "span": texts.span(results["clean"]["value"]),
            "note": texts.data_line(results),
        }
    ]
    if not head["conditions"] or not results["data"].get("sufficient", True):
        return shown
    levels = " + ".join(head["levels"])
    shown += [
        {
            "label": head["label"],
            "value": texts.percent(head["mpc"]["point"]),
            "span": texts.span(head["mpc"]),
            "note": f"mean {metric} over {head['n_cells']} cells, {levels}",
        },
        {
            "label": "rPC",
            "value": f"{texts.percent(head['rpc']['point'], 0)} %",
            "span": texts.span(head["rpc"], 0),
            "note": f"of the clean {metric} kept",
        },
        {
            "label": "weakest condition",
            "value": texts.percent(head["worst"]),
            "span": "",
            "note": texts.plain_name(head["worst_condition"] or "-"),
        },
    ]
    real = [row for row in results["slices"] if row["against_clean"] and not row["reference"] and not row["small"]]
    known = [row for row in real if row["kept"]["point"] is not None]
    if known:
        row = min(known, key=lambda slice_row: float(slice_row["kept"]["point"]))
        shown.append(
            {
                "label": f"real {texts.plain_name(row['value'])} (L4)",
                "value": f"{texts.percent(row['kept']['point'], 0)} %",
                "span": texts.span(row["kept"], 0),
                "note": f"of the clean {metric} kept, {row['images']} images",
            }
        )
    if head.get("delta"):
        shown.append(
            {
                "label": f"compared with {results['baseline']['name']}",
                "value": texts.signed(head["delta"]["point"]),
                "span": texts.signed_span(head["delta"]),
                "note": f"difference in {head['label']}, p {texts.p_value(head['delta']['p'])}",
            }
        )
    return shown


def ordered(results: Document) -> list[Document]:
    """Conditions by family, the weakest first."""
    return sorted(
        results["conditions"],
        key=lambda row: (_FAMILIES.index(row["family"]), row["mean"]["point"] is None, row["mean"]["point"] or 0.0),
    )


def heat_groups(results: Document) -> list[tuple[str, list[dict[str, Any]]]]:
    """(family, rows): one row per condition with its cells, their colour, and the mean."""
    rows = _heat_rows(results)
    groups = [(family, [row for row in rows if row["row"]["family"] == family]) for family in _FAMILIES]
    return [(family, of_family) for family, of_family in groups if of_family]


def _heat_rows(results: Document) -> list[dict[str, Any]]:
    clean = results["clean"]["value"]["point"]
    cells = {(cell["condition"], cell["severity"]): cell for cell in results["cells"]}
    rows = []
    for row in ordered(results):
        shown = [cells[row["name"], severity] for severity in results["protocol"]["severities"]]
        rows.append(
            {
                "row": row,
                "cells": [
                    {"cell": cell, "axis": texts.amount(cell["axis"]), **heat(cell["value"]["point"], clean)}
                    for cell in shown
                ],
                "mean": heat(row["mean"]["point"], clean),
            }
        )
    return rows


def heat(value: float | None, clean: float | None) -> dict[str, str]:
    """CSS class and colour mix of a value: warm below half of the clean value, cool above."""
    if value is None or not clean:
        return {"tone": "none", "mix": "0%"}
    share = min(1.0, max(0.0, value / clean))
    return {"tone": "low" if share < 0.5 else "high", "mix": f"{200 * share - (100 if share >= 0.5 else 0):.0f}%"}


def condition_curves(results: Document) -> list[dict[str, Any]]:
    """A small plot per condition: the value against the condition's physical parameter."""
    cells = {(cell["condition"], cell["severity"]): cell for cell in results["cells"]}
    clean = results["clean"]["value"]["point"] or 0.0
    tops = [100 * (cell["value"]["high"] or cell["value"]["point"] or 0.0) for cell in results["cells"]]
    tops += [100 * (cell["baseline"]["point"] or 0.0) for cell in results["cells"] if results["baseline"] is not None]
    y_max = max([100 * clean, *tops, 10.0]) * 1.06
    return [
        {
            "row": row,
            "plot": _curve([cells[row["name"], s] for s in results["protocol"]["severities"]], row, results, y_max),
        }
        for row in ordered(results)
    ]


def _curve(cells: list[Document], row: Document, results: Document, y_max: float) -> Markup:
    axis = [float(cell["axis"]) for cell in cells]
    logarithmic = min(axis) > 0 and max(axis) / min(axis) >= 5
    sign = -1.0 if len(axis) > 1 and axis[-1] < axis[0] else 1.0
    xs = [sign * (math.log(value) if logarithmic else value) for value in axis]
    if len(set(xs)) < len(xs):  # the main parameter is the same at two severities: use the severity as the axis
        xs, axis = [float(cell["severity"]) for cell in cells], [float(cell["severity"]) for cell in cells]
    notes = [f"severity {cell['severity']}: {texts.with_span(cell['value'])}" for cell in cells]
    series = [
        Series(
            results["run"]["name"],
            [(x, _hundred(cell["value"]["point"])) for x, cell in zip(xs, cells, strict=True)],
            [
                (x, _hundred(cell["value"]["low"]), _hundred(cell["value"]["high"]))
                for x, cell in zip(xs, cells, strict=True)
            ],
            notes,
        )
    ]
    if results["baseline"] is not None:
        points = [(x, _hundred(cell["baseline"]["point"])) for x, cell in zip(xs, cells, strict=True)]
        series.append(Series(results["baseline"]["name"], points))
    label = f"{texts.plain_name(row['name'])}: " + "; ".join(notes)
    unit = texts.axis_name(row) + (", log" if logarithmic else "")
    return line_chart(
        series,
        label=label,
        x_label=unit,
        x_ticks=[(x, texts.amount(value)) for x, value in zip(xs, axis, strict=True)],
        y_max=y_max,
        reference=(_hundred(results["clean"]["value"]["point"]), "clean"),
    )


def _hundred(value: float | None) -> float:
    return math.nan if value is None else 100 * value


def forest(results: Document) -> dict[str, Any]:
    """Differences to the baseline as bars on one scale, in percent of its width; the largest difference first."""
    rows = [(texts.plain_name(row["name"]), row["delta"], row["level"]) for row in results["conditions"]]
    rows.sort(key=lambda row: -(row[1]["point"] or 0.0))
    head = results["headline"].get("delta")
    if head is not None:
        rows.insert(0, ("all held out", head, ""))
    ends = [abs(delta[end]) for _, delta, _ in rows for end in ("low", "high", "point") if delta[end] is not None]
    limit = max([*ends, 0.01]) * 1.05

    def position(value: float) -> float:
        return float(50 + 50 * value / limit)

    bars = []
    for name, delta, level in rows:
        low, high = (delta["point"] if delta[end] is None else delta[end] for end in ("low", "high"))
        if delta["point"] is None:
            continue
        bars.append(
            {
                "name": name,
                "level": level,
                "left": f"{position(low):.2f}%",
                "width": f"{position(high) - position(low):.2f}%",
                "dot": f"{position(delta['point']):.2f}%",
                "text": texts.signed(delta["point"]),
                "span": texts.signed_span(delta),
                "p": texts.p_value(delta.get("p_holm", delta["p"])),
                "significant": texts.significant(delta),
                "better": delta["point"] > 0,
                "total": not level,
            }
        )
    return {"bars": bars, "limit": texts.percent(limit)}


def class_rows(results: Document) -> list[dict[str, Any]]:
    """Per class and size: clean and held-out value with the widths of their bars."""
    metric = results["metric"]
    rows = []
    for row in results["classes"]:
        key = metric if metric in row["clean"] else "AP"
        clean, held_out = row["clean"][key], row["held_out"][key]
        if row["by"] == "size" and clean is None:
            continue
        rows.append(
            {
                "by": row["by"],
                "group": row["group"],
                "n_gt": None if row.get("n_gt") is None else int(row["n_gt"]),
                "metric": key,
                "clean": texts.percent(clean),
                "held_out": texts.percent(held_out),
                "kept": "-" if not clean or held_out is None else f"{100 * held_out / clean:.0f} %",
                "unknown": f"not known to {listing(row['unknown_to'])}" if row.get("unknown_to") else "",
                "clean_width": f"{100 * (clean or 0.0):.1f}%",
                "held_out_width": f"{100 * (held_out or 0.0):.1f}%",
            }
        )
    return rows


def road_rows(results: Document) -> dict[str, Any]:
    """Per condition: where recall halves, recall, survival and misses in the path; and which objects are lost first."""
    road = results["road"]
    severity = road["severity_shown"]
    cells = {(cell["condition"], cell["severity"]): cell for cell in results["cells"]}
    rows = []
    for row in ordered(results):
        cell = cells[row["name"], severity]
        rows.append(
            {
                "row": row,
                "half": texts.half_recall(row["half_recall"]),
                "axis": texts.parameter(row["half_recall"]) if row["half_recall"]["state"] == "reached" else "",
                "recall": texts.with_span(cell["recall"], 0),
                "survival": texts.with_span(cell["survival"], 0),
                "false": "-" if cell["false_alarms_per_image"] is None else f"{cell['false_alarms_per_image']:.2f}",
                "missed": [
                    texts.percent(path["missed"].get(f"{row['name']}/{severity}"), 0) for path in road["in_path"]
                ],
            }
        )
    return {
        "severity": severity,
        "rows": rows,
        "in_path": road["in_path"],
        "groups": [[row for row in road["fragile_groups"] if row["by"] == kind] for kind in ("class", "height")],
        "objects": road["fragile_objects"],
        "clean_recall": texts.with_span(results["clean"]["recall"], 0),
        "clean_false": f"{results['clean']['false_alarms_per_image']:.2f}",
    }


def _depth_fact(data: Document) -> str:
    known = data["depth_images"]
    if not known:
        return "estimated from each image: the data has no depth maps"
    others = "" if known == data["images"] else ", estimated for the others"
    return f"depth maps of the data for {known} of {data['images']} images{others}"


def _detector_fact(row: Document) -> str:
    return f"{row['name']}, weights {row['weights'] or 'unknown'}"


def provenance(results: Document) -> list[tuple[str, str]]:
    """(name, text) of everything needed to reproduce the numbers."""
    run, base, data = results["run"], results["baseline"], results["data"]
    protocol, timing = results["protocol"], results["timing"]
    over = texts.resampled(results) if data["drives"] is None else drives_in_words(data["drives"])
    facts = [
        ("detector", _detector_fact(run) + (f", {run['precision']} on {run['device']}" if run["device"] else "")),
        ("augmentation", run["augmentation"] or "unknown: no manifest"),
        ("baseline", _detector_fact(base) if base else "none"),
        ("data", f"{texts.data_line(results)}; images {data['hash']}"),
        ("depth", _depth_fact(data)),
        (
            "conditions",
            f"protocol version {protocol['version']}, severities {', '.join(map(str, protocol['severities']))}",
        ),
        ("statistics", f"{protocol['draws']} bootstrap draws over {over}, seed {protocol['seed']}"),
        ("time", texts.timing_line(timing)),
        ("schema", results["schema"]),
    ]
    if protocol["budget_s"] is not None:
        facts.insert(
            6,
            (
                "time limit",
                (
                    f"{protocol['budget_s']:.0f} s: {data['images']} of {data['images_requested']} images, "
                    f"spread over the {'images' if data['drives'] is None else 'drives'}, the same for all cells"
                ),
            ),
        )
    return facts
