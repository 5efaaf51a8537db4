"""Comparison of two detectors: differences with intervals, paired permutation tests, and objects only one detects.

Both are measured on the same images with the same bootstrap draws, so the difficulty of a drive cancels out.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from drivetl.coco.drives import Drives
from drivetl.conditions import CLEAN, Cell
from drivetl.console import track
from drivetl.errors import ConfigError
from drivetl.metrics import coco_ap
from drivetl.metrics.aggregates import mpc_draws, summarize
from drivetl.metrics.extra_metrics import plain_values
from drivetl.metrics.match_store import MatchStore
from drivetl.metrics.measures import METRICS, mean_of, permutation_p
from drivetl.metrics.operating import choose_thresholds
from drivetl.metrics.paired import exchanged_ap
from drivetl.metrics.statistics import (
    Interval,
    draw_weights,
    few_drives,
    holm,
    minimum_detectable,
    no_intervals,
    percentile_interval,
    sign_flips,
)
from drivetl.metrics.truth import Bools, Floats

CLEAN_ROW, MPC_ROW, RPC_ROW = CLEAN[0], "mPC", "rPC"


@dataclass(frozen=True, slots=True)
class Row:
    """Both detectors on one condition (mean over severities), on clean images, or their mPC or rPC (all 0..1).

    NaN where nothing was measured.
    """

    name: str
    a: float
    b: float
    delta: Interval
    """A - B."""
    p: float
    """Two-sided, from the permutation test over drives; NaN for rPC."""
    p_holm: float
    """Holm-adjusted over the conditions; NaN for clean, mPC and rPC."""
    minimum_detectable: float
    """The smallest true difference that a test at 5 % on these drives detects in 80 % of cases."""
    draws: Floats
    """(B,) bootstrap draws of A - B; none where images or drives are too few."""
    n_images: int = 0
    """Number of images measured."""


@dataclass(frozen=True, slots=True)
class ObjectCounts:
    """Numbers of objects that A and B detect on clean images, each at its own operating thresholds."""

    only_a: int
    only_b: int
    both: int
    neither: int
    p: float
    """Two-sided, for equal numbers: like McNemar's test, but exchanging whole drives instead of single objects."""


@dataclass(frozen=True, slots=True)
class Comparison:
    """A against B."""

    metric: str
    rows: list[Row]
    objects: ObjectCounts
    drives: Drives
    """Of the images compared in every condition (on clean images, where there is no condition)."""
    n_draws: int
    clean_drives: Drives | None = None
    """Of the images compared on clean images, where these are more."""

    @property
    def n_units(self) -> int:
        """Number of resampled units: drives, blocks of a single drive, or images of unknown drive."""
        return len(set(self.drives.units()))

    @property
    def warning(self) -> str | None:
        """Why the intervals are missing or too narrow, or None."""
        return no_intervals(self.drives) or few_drives(self.drives)

    def row(self, name: str) -> Row | None:
        return next((row for row in self.rows if row.name == name), None)

    def conditions(self) -> list[Row]:
        """The rows that are conditions."""
        return [row for row in self.rows if row.name not in (CLEAN_ROW, MPC_ROW, RPC_ROW)]

    def as_dict(self) -> dict[str, Any]:
        """Ready for JSON, without the draws."""
        rows = [
            {
                "name": row.name,
                "a": row.a,
                "b": row.b,
                "delta": row.delta.point,
                "low": row.delta.low,
                "high": row.delta.high,
                "p": row.p,
                "p_holm": row.p_holm,
                "minimum_detectable": row.minimum_detectable,
                "images": row.n_images,
            }
            for row in self.rows
        ]
        document = {
            "metric": self.metric,
            "delta": "a - b",
            "rows": rows,
            "objects": {name: getattr(self.objects, name) for name in ("only_a", "only_b", "both", "neither", "p")},
            "images": len(self.drives.names),
            "units": self.n_units,
            "drives": self.drives.n_drives,
            "draws": self.n_draws,
            "warning": self.warning,
        }
        plain: dict[str, Any] = plain_values(document)
        return plain


def compare(
    matched: Callable[[str, Cell], MatchStore],
    cells: Sequence[Cell],
    metric: str = "AP",
    n_draws: int = 1000,
    seed: int = 0,
    level: float = 0.95,
    clean: Callable[[str], MatchStore] | None = None,
) -> Comparison:
    """Compare two detectors on clean images and in further cells.

    matched: ("a" or "b", cell) -> match store; all stores must have the same images. Called once per cell.
    clean: "a" or "b" -> match store of more clean images than the cells have: for the clean row and the object counts.
    rPC relates the cells to their own images. Where images or drives are too few, intervals and p are NaN.
    Raises ConfigError for an unknown metric, or when the two were measured on different images.
    """
    if metric not in METRICS:
        raise ConfigError(f"metric {metric!r} is unknown", remedy=f"choose {' or '.join(METRICS)}")
    pair = matched("a", CLEAN), matched("b", CLEAN)
    wide = pair if clean is None else (clean("a"), clean("b"))
    shared, all_clean = (_Draws.of(stores[0].truth.drives, n_draws, seed) for stores in (pair, wide))
    measured = {CLEAN: _measured(*pair, metric, shared)}
    for cell in track(list(cells), "comparing"):
        measured[cell] = _measured(matched("a", cell), matched("b", cell), metric, shared)
    rows = _rows(measured, level, shared)
    if clean is not None:
        rows[0] = _row(CLEAN_ROW, [_measured(*wide, metric, all_clean)], level, all_clean)
    objects = _object_counts(*wide, all_clean.flips)
    return Comparison(metric, rows, objects, shared.drives, n_draws, None if clean is None else all_clean.drives)


@dataclass(frozen=True, slots=True)
class _Draws:
    """The bootstrap draws and the exchanges that all cells over the same images share."""

    drives: Drives
    n_units: int
    weights: Floats
    """(B, I) weight of each image in each draw."""
    flips: Bools
    """(1 + B, I) True where A and B are exchanged; nowhere in the first row."""

    @staticmethod
    def of(drives: Drives, n_draws: int, seed: int) -> _Draws:
        """None but the identity where images or drives are too few."""
        units = drives.units()
        exchanges = sign_flips(units, n_draws, seed)
        flips = np.vstack([np.zeros((1, len(units)), bool), exchanges])
        return _Draws(drives, len(set(units)), draw_weights(units, n_draws, seed), flips)


def _measured(a: MatchStore, b: MatchStore, metric: str, draws: _Draws) -> _Cell:
    exchanged = exchanged_ap(a, b, METRICS[metric])
    draws_a, draws_b = (coco_ap.ap(store, METRICS[metric], draws.weights) for store in (a, b))
    return _Cell(draws_a, draws_b, *exchanged(draws.flips))


@dataclass(frozen=True, slots=True)
class _Cell:
    draws_a: Floats
    draws_b: Floats
    exchanged_a: Floats
    """(1 + B,) as measured, then after each exchange."""
    exchanged_b: Floats


def _rows(measured: dict[Cell, _Cell], level: float, shared: _Draws) -> list[Row]:
    clean = measured[CLEAN]
    rows = [_row(CLEAN_ROW, [clean], level, shared)]
    names = list(dict.fromkeys(name for name, _ in measured if name != CLEAN[0]))
    by_condition = {name: {s: cell for (n, s), cell in measured.items() if n == name} for name in names}
    if names:
        cells_of_conditions = [list(cells.values()) for cells in by_condition.values()]
        rows += [_mpc_row(cells_of_conditions, level, shared), _rpc_row(by_condition, clean, level, shared)]
    conditions = [_row(name, list(cells.values()), level, shared) for name, cells in by_condition.items()]
    adjusted = holm({row.name: row.p for row in conditions})
    return rows + [replace(row, p_holm=adjusted[row.name]) for row in conditions]


def _row(name: str, cells: list[_Cell], level: float, shared: _Draws) -> Row:
    draws = mean_of([cell.draws_a for cell in cells]) - mean_of([cell.draws_b for cell in cells])
    exchanged_a, exchanged_b = (
        mean_of([getattr(cell, key) for cell in cells]) for key in ("exchanged_a", "exchanged_b")
    )
    return _tested_row(name, exchanged_a, exchanged_b, draws, level, shared)


def _mpc_row(conditions: list[list[_Cell]], level: float, shared: _Draws) -> Row:
    def mean(column: str) -> Floats:
        return mean_of([mean_of([getattr(cell, column) for cell in cells]) for cells in conditions])

    draws = mean("draws_a") - mean("draws_b")
    return _tested_row(MPC_ROW, mean("exchanged_a"), mean("exchanged_b"), draws, level, shared)


def _rpc_row(by_condition: dict[str, dict[int, _Cell]], clean: _Cell, level: float, shared: _Draws) -> Row:
    """rPC is a ratio: exchanging drives mixes the clean denominators, so it has an interval but no permutation test."""
    points, draws = [], []
    for detector in ("a", "b"):
        table = {
            name: {s: float(getattr(cell, f"exchanged_{detector}")[0]) for s, cell in row.items()}
            for name, row in by_condition.items()
        }
        points.append(summarize(table, float(getattr(clean, f"exchanged_{detector}")[0])).rpc)
        columns = {
            name: {s: getattr(cell, f"draws_{detector}") for s, cell in row.items()}
            for name, row in by_condition.items()
        }
        with np.errstate(invalid="ignore", divide="ignore"):
            draws.append(mpc_draws(columns) / getattr(clean, f"draws_{detector}"))
    delta = draws[0] - draws[1]
    delta[~np.isfinite(delta)] = np.nan
    interval = percentile_interval(delta, points[0] - points[1], level)
    nan, smallest = float("nan"), minimum_detectable(interval.standard_error, shared.n_units)
    return Row(RPC_ROW, points[0], points[1], interval, nan, nan, smallest, delta, len(shared.drives.names))


def _tested_row(
    name: str, exchanged_a: Floats, exchanged_b: Floats, draws: Floats, level: float, shared: _Draws
) -> Row:
    """The row of (1 + B,) values as measured and after exchanges, and (B,) bootstrap draws of their difference."""
    difference = exchanged_a - exchanged_b
    delta = percentile_interval(draws, float(difference[0]), level)
    return Row(
        name,
        float(exchanged_a[0]),
        float(exchanged_b[0]),
        delta,
        permutation_p(difference),
        float("nan"),
        minimum_detectable(delta.standard_error, shared.n_units),
        draws,
        len(shared.drives.names),
    )


def _object_counts(a: MatchStore, b: MatchStore, flips: Bools) -> ObjectCounts:
    by_a, by_b = (store.detected_objects(choose_thresholds(store)) for store in (a, b))
    real = ~a.truth.crowd
    gain = np.bincount(a.truth.image[real], by_a[real].astype(np.float64) - by_b[real], minlength=a.n_images)
    differences = np.where(flips, -gain, gain).sum(axis=1)
    return ObjectCounts(
        only_a=int((real & by_a & ~by_b).sum()),
        only_b=int((real & by_b & ~by_a).sum()),
        both=int((real & by_a & by_b).sum()),
        neither=int((real & ~by_a & ~by_b).sum()),
        p=permutation_p(differences),
    )
