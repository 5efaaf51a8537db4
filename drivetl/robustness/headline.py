"""mPC and rPC of a sweep: the headline over the held-out conditions, the named sets, and a row per condition.

Intervals of means, ratios and differences use the draws of the cells.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from drivetl.conditions import CATALOG, CLEAN, SETS
from drivetl.metrics.aggregates import mpc_draws, summarize
from drivetl.metrics.measures import mean_of, permutation_p
from drivetl.metrics.statistics import allows_intervals, holm, minimum_detectable
from drivetl.metrics.truth import Floats
from drivetl.robustness import road
from drivetl.robustness.held_out import HEADLINE, SEEN, Level
from drivetl.robustness.score_cells import Document, ScoredSweep, interval


def _points(scored: ScoredSweep, detector: str, names: Sequence[str]) -> dict[str, dict[int, float]]:
    """Condition -> severity -> the main metric."""
    severities = scored.swept.severities
    return {name: {severity: scored.point(detector, (name, severity)) for severity in severities} for name in names}


def _mpc_draws(scored: ScoredSweep, detector: str, names: Sequence[str]) -> Floats:
    """(B,) draws of the mPC of some conditions."""
    cells, severities = scored.measures[detector], scored.swept.severities
    return mpc_draws({name: {severity: cells[name, severity].draws for severity in severities} for name in names})


def _aggregate(scored: ScoredSweep, names: Sequence[str], detector: str = "run") -> Document:
    """mPC and rPC of some conditions with intervals; NaN without conditions."""
    summary = summarize(_points(scored, detector, names), scored.point(detector, CLEAN))
    draws, clean = _mpc_draws(scored, detector, names), scored.measures[detector][CLEAN].draws
    with np.errstate(invalid="ignore", divide="ignore"):
        relative = draws / clean if len(draws) else draws
    return {
        "conditions": list(names),
        "label": summary.label,
        "n_cells": summary.n_cells,
        "n_requested": summary.n_requested,
        "mpc": interval(summary.mpc, draws),
        "rpc": interval(summary.rpc, relative[np.isfinite(relative)]),
        "worst_condition": summary.worst_condition or None,
        "worst": summary.worst,
        "cvar20": summary.cvar20,
    }


_SET_MEANING = {
    "drive": "all physical conditions",
    "common": "the 15 published corruptions (three of them move content)",
    "common_aligned": "the 15 published corruptions, content held in place",
    "all": "every condition that keeps labels true",
}


def headline_row(scored: ScoredSweep, names: Sequence[str]) -> Document:
    """The aggregate over the held-out conditions; with a baseline also its aggregate and the paired difference.

    All its numbers are NaN where images or drives are too few to conclude anything.
    """
    row = _aggregate(scored, names) | {"levels": list(HEADLINE if scored.levels.verified else (Level.UNVERIFIED,))}
    if not allows_intervals(scored.swept.truth.drives):
        compared = {"baseline": None, "delta": None, "delta_rpc": None} if "baseline" in scored.measures else {}
        return row | _without_numbers(row) | compared
    if "baseline" in scored.measures and names:
        other = _aggregate(scored, names, "baseline")
        ours, theirs = _mpc_draws(scored, "run", names), _mpc_draws(scored, "baseline", names)
        exchanged = [_exchanged_difference(scored, name) for name in names]
        row["baseline"] = other
        point = row["mpc"]["point"] - other["mpc"]["point"]
        row["delta"] = _delta(scored, point, ours - theirs, mean_of(exchanged))
        with np.errstate(invalid="ignore", divide="ignore"):
            relative = ours / scored.measures["run"][CLEAN].draws - theirs / scored.measures["baseline"][CLEAN].draws
        row["delta_rpc"] = interval(row["rpc"]["point"] - other["rpc"]["point"], relative[np.isfinite(relative)])
    return row


def _without_numbers(row: Document) -> Document:
    """The measured numbers of an aggregate, all NaN."""
    nan = float("nan")
    intervals = {key: dict.fromkeys(row[key], nan) for key in ("mpc", "rpc")}
    return intervals | {"worst_condition": None, "worst": nan, "cvar20": nan}


def _exchanged_difference(scored: ScoredSweep, name: str) -> Floats:
    """(1 + B,) run - baseline of a condition's mean over severities: as measured, then after each exchange."""
    pairs = [scored.exchanged[name, severity] for severity in scored.swept.severities]
    return mean_of([ours - theirs for ours, theirs in pairs])


def _delta(scored: ScoredSweep, point: float, draws: Floats, differences: Floats) -> Document:
    delta, n_units = interval(point, draws), len(set(scored.swept.truth.drives.units()))
    return delta | {"p": permutation_p(differences), "mde": minimum_detectable(delta["se"], n_units)}


def set_rows(scored: ScoredSweep) -> list[Document]:
    """Aggregates of the named sets that were run completely, and of the conditions seen in training."""
    run = set(scored.swept.conditions) - scored.swept.incomplete
    rows = [(name, _SET_MEANING[name], list(members)) for name, members in SETS.items() if set(members) <= run]
    for level in SEEN:
        names = [name for name in scored.swept.conditions if name in run and scored.levels.of_condition[name] == level]
        if names:
            rows.append((str(level), level.meaning, names))
    return [{"name": name, "meaning": meaning} | _aggregate(scored, members) for name, meaning, members in rows]


def condition_rows(scored: ScoredSweep) -> list[Document]:
    """One row per condition: level, mean over severities, where recall halves, difference from the baseline."""
    clean_recall = road.recall_draws(scored.measures["run"][CLEAN], scored.swept.truth, scored.weights)
    summary = summarize(_points(scored, "run", scored.swept.conditions), scored.point("run", CLEAN))
    rows = []
    for name in scored.swept.conditions:
        condition = CATALOG[name]
        of_whole = float("nan") if name in scored.swept.incomplete else 1.0
        recalls = {
            severity: road.recall_draws(scored.measures["run"][name, severity], scored.swept.truth, scored.weights)
            for severity in scored.swept.severities
        }
        row: Document = {
            "name": name,
            "phenomenon": condition.phenomenon,
            "model": condition.model,
            "family": condition.family,
            "parameter": condition.unit[0],
            "unit": condition.unit[1],
            "label_safe": condition.label_safe,
            "shift_note": condition.shift_note,
            "level": scored.levels.of_condition[name],
            "why": scored.levels.why[name],
            "images": len(scored.swept.truth.image_ids),
            "mean": interval(of_whole * summary.per_condition[name], _mpc_draws(scored, "run", [name])),
            "rce": of_whole * summary.rce[name],
            "auc": of_whole * summary.auc[name],
            "half_recall": road.half_recall(name, clean_recall, recalls),
        }
        if "baseline" in scored.measures:
            theirs = summarize(_points(scored, "baseline", [name]), scored.point("baseline", CLEAN)).mpc
            draws = _mpc_draws(scored, "run", [name]) - _mpc_draws(scored, "baseline", [name])
            row["baseline_mean"] = theirs
            row["delta"] = _delta(scored, row["mean"]["point"] - theirs, draws, _exchanged_difference(scored, name))
        rows.append(row)
    if "baseline" in scored.measures:
        adjusted = holm({row["name"]: row["delta"]["p"] for row in rows})
        for row in rows:
            row["delta"]["p_holm"] = adjusted[row["name"]]
    return rows
