"""The page of `drivetl budget`, and its numbers in sentences."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from markupsafe import Markup

from drivetl.coco.drives import drives_in_words
from drivetl.draw.pages import render, style_sheet
from drivetl.draw.svg_charts import Series, legend, line_charts
from drivetl.label_curve.fit import REACH
from drivetl.report.texts import DASH, percent, signed, signed_span, span

Document = Mapping[str, Any]


def sentences(results: Document) -> list[str]:
    """The gain from the next frames, the frames that a target needs, the gain of transfer; only what is known."""
    metric = results["protocol"]["metric"]
    lines = []
    for name, regime in results["metrics"][metric]["regimes"].items():
        lines.append(_next(name, regime, metric) if regime["next"] else f"{name}: {regime['why_not']}.")
        if regime["target"]:
            lines.append(
                f"With {name}, {metric} {percent(regime['target']['value'])} needs {_target(regime['target'])}."
            )
    return lines + _gains(results["metrics"][metric]["gains"], metric)


def _next(name: str, regime: Document, metric: str) -> str:
    step = regime["next"]
    gain, most = step["gain"], step["mostly"]
    what = f", mostly {most} ({signed(step['per_class'][most]['point'])})" if most else ""
    uncertain = "; it may be zero" if gain["low"] is not None and gain["low"] < 0.0005 else ""
    return (
        f"With {name}, {step['frames']:,} more frames give about {signed(gain['point'])} {metric} "
        f"(95 %: {signed_span(gain) or 'unknown'}){what}{uncertain}."
    )


def _gains(gains: Sequence[Document], metric: str) -> list[str]:
    """A sentence per pair of regimes: the difference at the smallest and the largest label count."""
    lines = []
    for name, over in dict.fromkeys((row["regime"], row["over"]) for row in gains):
        rows = [row for row in gains if row["regime"] == name]
        parts = []
        for index in dict.fromkeys((0, len(rows) - 1)):
            frames, gain = rows[index]["frames"], rows[index]["gain"]
            parts.append(f"{signed(gain['point'])} {metric} at {frames:,} frames ({_how_certain(gain)})")
        lines.append(f"{name} compared with {over}: {' and '.join(parts)}.")
    return lines


def _how_certain(gain: Document) -> str:
    if gain["low"] is None:
        return "no interval"
    return f"95 %: {signed_span(gain)}" + (", not significant" if gain["low"] <= 0 <= gain["high"] else "")


def _target(target: Document) -> str:
    """The frames that reach a target: `about 60 frames (95 %: 40 to 90)`; never fewer than were tried."""
    frames, most, least = target["frames"], f"more than {target['most']:,}", target["least"]
    low, high = (
        most if count is None else f"{least:,} or fewer" if count <= least else f"{count:,.0f}"
        for count in (frames["low"], frames["high"])
    )
    if frames["point"] is None:
        return f"{most} frames" + ("" if frames["low"] is None else f" (95 %: from {low})")
    if frames["point"] <= least:
        reach = "" if frames["high"] == frames["point"] else f"; 95 %: up to {high}"
        return f"at most {least:,} frames (the smallest count tried{reach})"
    return f"about {frames['point']:,.0f} frames (95 %: {low} to {high})"


def table(results: Document) -> tuple[list[str], list[dict[str, Any]]]:
    """(column names, rows of name, note and cells): every regime at every label count, and the gains."""
    metric = results["protocol"]["metric"]
    other = "AP50" if metric == "AP" else "AP"
    regimes, more = results["metrics"][metric]["regimes"], results["metrics"][other]["regimes"]
    gains = {(row["regime"], row["frames"]): row for row in results["metrics"][metric]["gains"]}
    pairs = list(dict.fromkeys((row["regime"], row["over"]) for row in gains.values()))
    columns = [f"{name}{part}" for name in regimes for part in (f" {metric}", f" {other}")]
    columns += [f"{name} - {over}" for name, over in pairs]
    rows = []
    for n, count in enumerate(results["protocol"]["budgets"]):
        drives = sorted({row["drives"] for row in results["runs"] if row["frames"] == count} - {None})
        cells = []
        for name in regimes:
            cells += [_cell(regimes[name]["points"][n]["value"]), _cell(more[name]["points"][n]["value"])]
        cells += [_signed_cell(gains[name, count]["gain"]) for name, _ in pairs]
        rows.append(
            {
                "name": f"{count:,}",
                "note": f"{DASH.join(map(str, drives[:1] + drives[1:][-1:])) or 'unknown'} drives",
                "cells": cells,
            }
        )
    return columns, rows


def validation_drives(results: Document) -> str:
    """`5 validation drives`, or `unknown drives`."""
    count = results["data"]["val_drives"]
    return "unknown drives" if count is None else f"{count} validation drives"


def _cell(interval: Document) -> dict[str, str]:
    return {"value": percent(interval["point"]), "span": span(interval)}


def _signed_cell(interval: Document) -> dict[str, str]:
    return {"value": signed(interval["point"]), "span": signed_span(interval)}


def _classes(results: Document) -> list[dict[str, Any]]:
    """A table per regime: every class at every label count, and its gain from the next frames."""
    metric = results["protocol"]["metric"]
    parts = []
    for name, regime in results["metrics"][metric]["regimes"].items():
        step = regime["next"]
        rows = []
        for kind, objects in results["data"]["objects"].items():
            cells = [_cell(point["per_class"][kind]) for point in regime["points"]]
            cells += [_signed_cell(step["per_class"][kind])] if step else []
            rows.append({"name": kind, "note": f"{objects:,} objects", "cells": cells})
        columns = [f"{count:,}" for count in results["protocol"]["budgets"]]
        lead = f"{metric} in percent. Object counts are for all {results['data']['train_images']:,} frames."
        if step:
            columns.append(f"next {step['frames']:,}")
            lead += " The last column is the predicted gain from a curve per class; a dash: no curve fits its points."
        parts.append({"regime": name, "lead": lead, "columns": columns, "rows": rows})
    return parts


def build_label_curve_page(results: Document) -> str:
    """One self-contained HTML file, from a document of schema `drivetl.budget/1`."""
    metric = results["protocol"]["metric"]
    regimes = results["metrics"][metric]["regimes"]
    columns, rows = table(results)
    classes = _classes(results)
    sections = [("curve", "Curve"), ("table", "In numbers")]
    sections += [(f"class-{n}", f"By class: {part['regime']}") for n, part in enumerate(classes, 1)]
    return render(
        "label_curve/label_curve",
        results=results,
        metric=metric,
        validation_drives=validation_drives(results),
        sentences=sentences(results),
        sections=[*sections, ("how", "How it was measured")],
        plot=_plots(results),
        missing=[(name, regime["why_not"]) for name, regime in regimes.items() if regime["why_not"]],
        columns=columns,
        table=rows,
        classes=classes,
        facts=_facts(results),
        style=style_sheet(),
    )


def _plots(results: Document) -> Markup:
    """The plot twice, for a wide page and for a phone."""
    metric, counts = results["protocol"]["metric"], results["protocol"]["budgets"]
    regimes = results["metrics"][metric]["regimes"]
    series = [
        _series(name, regime, counts[-1], n - (len(regimes) - 1) / 2)
        for n, (name, regime) in enumerate(regimes.items())
    ]
    tops = [value for line in series for _, low, high in (*line.whiskers, *line.band) for value in (low, high)]
    label = "; ".join(note for line in series for note in line.notes)
    marks = [*counts, round(REACH * counts[-1])] if any(line.beyond for line in series) else counts
    return legend(list(regimes)) + line_charts(
        series,
        label=label,
        x_label="labelled frames, log",
        y_max=1.06 * max([10.0, *filter(math.isfinite, tops)]),
        x_ticks=[(math.log(x), f"{x:,}") for x in marks],
        heights=(330, 250),
    )


def _series(name: str, regime: Document, last: int, offset: float) -> Series:
    """Points, band and curve of a regime; points are shifted a little, so that intervals do not overlap."""
    values = [(point["frames"], point["value"]) for point in regime["points"]]
    xs = [math.log(count) + 0.025 * offset for count, _ in values]
    line = [
        (math.log(x), 100 * y, 100 * low, 100 * high) for x, y, low, high in (regime["curve"] or {"line": ()})["line"]
    ]
    edge = math.log(last) + 1e-9
    return Series(
        name,
        [(x, _hundred(value["point"])) for x, (_, value) in zip(xs, values, strict=True)],
        [(x, low, high) for x, _, low, high in line],
        [f"{name}, {count:,} frames: {percent(value['point'])} ({span(value)})" for count, value in values],
        [(x, _hundred(value["low"]), _hundred(value["high"])) for x, (_, value) in zip(xs, values, strict=True)],
        [(x, y) for x, y, _, _ in line if x <= edge],
        [(x, y) for x, y, _, _ in line if x >= edge - 2e-9],
    )


def _hundred(value: float | None) -> float:
    return math.nan if value is None else 100 * value


def steps_in_words(steps: Sequence[int], target: int | None) -> str:
    """A phrase: the optimiser steps of a regime's runs at each label count, and where the numbers come from."""
    same = len(set(steps)) == 1
    numbers = f"{steps[0]:,}" if same else ", ".join(f"{count:,}" for count in steps)
    phrase = f"{numbers} optimiser steps" + (" at every count" if same else "")
    if target is None:
        return phrase if same else f"{phrase}, by its recipe for each count"
    return phrase if set(steps) == {target} else f"{phrase}: the whole epochs nearest to {target:,}"


def _facts(results: Document) -> list[tuple[str, str]]:
    data, protocol, metric = results["data"], results["protocol"], results["protocol"]["metric"]
    facts = [
        (
            "data",
            (
                f"{data['train_images']:,} frames of {drives_in_words(data['train_drives'])} to choose from; evaluated "
                f"on {data['val_images']:,} frames of {drives_in_words(data['val_drives'])}; hash {data['hash']}"
            ),
        ),
        (
            "subsets",
            (
                "nested: single frames, in another order for each seed"
                if data["train_drives"] is None
                else "nested: whole drives, in another order for each seed; of the last drive, frames evenly spaced "
                "in time fill up the count"
            ),
        ),
        ("intervals", protocol["intervals"]),
        (
            "not covered",
            (
                "frames other than those in data.train: the larger the share of them that a count takes, the less the "
                "seeds can differ; and the best epoch is chosen on the same validation frames, with the same number of "
                "evaluations at every count"
            ),
        ),
    ]
    for name, regime in protocol["regimes"].items():
        steps = steps_in_words(regime["steps"], regime["steps_wanted"])
        facts.append((name, f"{regime['arch']} from {regime['start']}, {steps}"))
        curve = results["metrics"][metric]["regimes"][name]["curve"]
        if curve:
            facts.append(
                (
                    f"curve of {name}",
                    (
                        f"{metric}(n) = {curve['a']:.3f} - {curve['b']:.3g} n^-{curve['c']:.3g}; largest distance to a "
                        f"point {percent(curve['largest_misfit'])}; not extrapolated beyond "
                        f"{round(REACH * protocol['budgets'][-1]):,} frames"
                    ),
                )
            )
    return facts
