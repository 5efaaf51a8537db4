"""mPC, rPC and worst-case numbers of a table of cells (condition x severity). Pure arithmetic.

Definitions: Michaelis et al. 2019, "Benchmarking Robustness in Object Detection". A cell that was not run is NaN,
never zero.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from drivetl.metrics.truth import Floats

Cells = Mapping[str, Mapping[int, float]]
"""Condition -> severity 1..5 -> performance in any unit; NaN or absent: not run."""


@dataclass(frozen=True, slots=True)
class Aggregates:
    """Summary of a sweep, in the unit of its cells (AP: 0..1). NaN where a number is undefined."""

    clean: float
    mpc: float
    """Mean over conditions of the mean over severities, over the cells that were run; report it with `label`."""
    rpc: float
    """mpc / clean, the ratio of means (not the mean of ratios)."""
    n_cells: int
    n_requested: int
    worst_condition: str
    worst: float
    """The lowest mean over severities among the conditions."""
    cvar20: float
    """Mean of the worst fifth of the cells (at least one)."""
    per_condition: dict[str, float]
    """Mean over severities."""
    rce: dict[str, float]
    """Relative corruption error per condition: (clean - mean) / clean."""
    auc: dict[str, float]
    """Area under performance over severity 0 (clean) to the highest, divided by its length."""

    @property
    def complete(self) -> bool:
        return self.n_cells == self.n_requested

    @property
    def label(self) -> str:
        """`mPC`, or `mPC over k of n cells` when some were not run, which no published mPC compares to."""
        return "mPC" if self.complete else f"mPC over {self.n_cells} of {self.n_requested} cells"


def summarize(cells: Cells, clean: float) -> Aggregates:
    """Aggregate a cell table. Severity 0, where present, is the clean image and is ignored.

    Where conditions have different severities, a severity that a condition lacks counts as a cell that was not run.
    """
    severities = sorted({severity for row in cells.values() for severity in row if severity > 0})
    table = np.array(
        [[float(row.get(severity, np.nan)) for severity in severities] for row in cells.values()], np.float64
    ).reshape(len(cells), len(severities))
    means = {name: _mean(row) for name, row in zip(cells, table, strict=True)}
    known = {name: value for name, value in means.items() if not np.isnan(value)}
    worst = min(known, key=lambda name: known[name]) if known else ""
    mpc = _mean(np.array(list(means.values())))
    return Aggregates(
        clean=float(clean),
        mpc=mpc,
        rpc=_ratio(mpc, clean),
        n_cells=int((~np.isnan(table)).sum()),
        n_requested=table.size,
        worst_condition=worst,
        worst=known.get(worst, float("nan")),
        cvar20=_worst_fifth(table),
        per_condition=means,
        rce={name: _ratio(clean - value, clean) for name, value in means.items()},
        auc={name: _area(np.array([clean, *row]), [0, *severities]) for name, row in zip(cells, table, strict=True)},
    )


def mpc_draws(cells: Mapping[str, Mapping[int, Floats]]) -> Floats:
    """(B,) mPC of each bootstrap draw, from the (B,) draws of every cell, which must share their image weights."""
    rows = [
        np.mean([draws for severity, draws in row.items() if severity > 0], axis=0)
        for row in cells.values()
        if any(severity > 0 for severity in row)
    ]
    return np.mean(rows, axis=0) if rows else np.zeros(0)


def _mean(values: Floats) -> float:
    known = values[~np.isnan(values)]
    return float(known.mean()) if len(known) else float("nan")


def _ratio(value: float, base: float) -> float:
    return float(value / base) if base else float("nan")


def _worst_fifth(table: Floats) -> float:
    known = np.sort(table[~np.isnan(table)])
    return float(known[: max(1, len(known) // 5)].mean()) if len(known) else float("nan")


def _area(performance: Floats, severities: list[int]) -> float:
    """Trapezoids over the severities that were run, divided by the range; NaN with fewer than two points."""
    known = ~np.isnan(performance)
    x, y = np.asarray(severities, np.float64)[known], performance[known]
    if len(x) < 2:
        return float("nan")
    return float(((y[1:] + y[:-1]) / 2 * np.diff(x)).sum() / (x[-1] - x[0]))
