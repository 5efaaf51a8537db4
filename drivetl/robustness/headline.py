"""mPC and rPC of a sweep: the headline over what was held out, the named sets, and each condition.

Intervals of sums, ratios and differences come from the same draws as those of the cells.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from drivetl.conditions import CATALOG, CLEAN, SETS
from drivetl.metrics.aggregates import mpc_draws, summarize
from drivetl.metrics.measures import mean_of, permutation_p
from drivetl.metrics.statistics import holm, minimum_detectable
from drivetl.metrics.truth import Floats
from drivetl.robustness import road
from drivetl.robustness.held_out import HEADLINE, SEEN, Level
from drivetl.robustness.score_cells import Document, Scored, interval


def _table(scored: Scored, who: str, names: Sequence[str]) -> dict[str, dict[int, float]]:
    return {
        name: {severity: scored.point(who, (name, severity)) for severity in scored.swept.severities} for name in names
    }


def _mpc_draws(scored: Scored, who: str, names: Sequence[str]) -> Floats:
    return mpc_draws(
        {
            name: {severity: scored.of[who][name, severity].draws for severity in scored.swept.severities}
            for name in names
        }
    )


def _aggregate(scored: Scored, names: Sequence[str], who: str = "run") -> Document:
    """mPC and rPC of some conditions with intervals; None where no condition is given."""
    found = summarize(_table(scored, who, names), scored.point(who, CLEAN))
    draws, clean = _mpc_draws(scored, who, names), scored.of[who][CLEAN].draws
    with np.errstate(invalid="ignore", divide="ignore"):
        relative = draws / clean if len(draws) else draws
    return {
        "conditions": list(names),
        "label": found.label,
        "n_cells": found.n_cells,
        "n_requested": found.n_requested,
        "mpc": interval(found.mpc, draws),
        "rpc": interval(found.rpc, relative[np.isfinite(relative)]),
        "worst_condition": found.worst_condition or None,
        "worst": found.worst,
        "cvar20": found.cvar20,
    }


_SET_MEANING = {
    "drive": "all physical conditions",
    "common": "the 15 published corruptions (three of them move content)",
    "common_aligned": "the 15 published corruptions, content held in place",
    "all": "every condition that keeps labels true",
}


def headline(scored: Scored, names: Sequence[str]) -> Document:
    """The aggregate over the held-out conditions; with a baseline also its own and the paired difference."""
    row = _aggregate(scored, names) | {"levels": list(HEADLINE if scored.levels.verified else (Level.UNVERIFIED,))}
    if "baseline" in scored.of and names:
        other = _aggregate(scored, names, "baseline")
        ours, theirs = _mpc_draws(scored, "run", names), _mpc_draws(scored, "baseline", names)
        swaps = [_swapped_mean(scored, name) for name in names]
        row["baseline"] = other
        row["delta"] = _delta(row["mpc"]["point"] - other["mpc"]["point"], ours - theirs, mean_of(swaps))
        with np.errstate(invalid="ignore", divide="ignore"):
            relative = ours / scored.of["run"][CLEAN].draws - theirs / scored.of["baseline"][CLEAN].draws
        row["delta_rpc"] = interval(row["rpc"]["point"] - other["rpc"]["point"], relative[np.isfinite(relative)])
    return row


def _swapped_mean(scored: Scored, name: str) -> Floats:
    """(1 + B,) difference run - baseline of a condition's mean, under exchanges."""
    pairs = [scored.swaps[name, severity] for severity in scored.swept.severities]
    return mean_of([ours - theirs for ours, theirs in pairs])


def _delta(point: float, draws: Floats, differences: Floats) -> Document:
    found = interval(point, draws)
    return found | {"p": permutation_p(differences), "mde": minimum_detectable(found["se"])}


def sets(scored: Scored) -> list[Document]:
    """Aggregates of the named sets that were run completely, and of what was seen in training."""
    done = set(scored.swept.conditions)
    known = [(name, _SET_MEANING[name], list(members)) for name, members in SETS.items() if set(members) <= done]
    for level in SEEN:
        names = [name for name in scored.swept.conditions if scored.levels.of_condition[name] == level]
        if names:
            known.append((str(level), level.meaning, names))
    return [{"name": name, "meaning": meaning} | _aggregate(scored, members) for name, meaning, members in known]


def conditions(scored: Scored) -> list[Document]:
    """One row per condition: level, mean over severities, where recall halves, difference to the baseline."""
    clean_recall = road.recall_draws(scored.of["run"][CLEAN], scored.swept.truth, scored.weights)
    summary = summarize(_table(scored, "run", scored.swept.conditions), scored.point("run", CLEAN))
    rows = []
    for name in scored.swept.conditions:
        condition = CATALOG[name]
        recalls = {
            severity: road.recall_draws(scored.of["run"][name, severity], scored.swept.truth, scored.weights)
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
            "mean": interval(summary.per_condition[name], _mpc_draws(scored, "run", [name])),
            "rce": summary.rce[name],
            "auc": summary.auc[name],
            "half_recall": road.half_recall(name, clean_recall, recalls),
        }
        if "baseline" in scored.of:
            theirs = summarize(_table(scored, "baseline", [name]), scored.point("baseline", CLEAN)).mpc
            draws = _mpc_draws(scored, "run", [name]) - _mpc_draws(scored, "baseline", [name])
            row["baseline_mean"] = theirs
            row["delta"] = _delta(row["mean"]["point"] - theirs, draws, _swapped_mean(scored, name))
        rows.append(row)
    if "baseline" in scored.of:
        adjusted = holm({row["name"]: row["delta"]["p"] for row in rows})
        for row in rows:
            row["delta"]["p_holm"] = adjusted[row["name"]]
    return rows
