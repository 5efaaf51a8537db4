"""Match and measure every cell of a sweep, with the same bootstrap draws for all cells and detectors."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from drivetl.conditions import CATALOG, CLEAN, Cell
from drivetl.console import track
from drivetl.metrics.measures import METRICS, Measure, measure, unmeasured
from drivetl.metrics.operating import choose_thresholds
from drivetl.metrics.paired import exchanged_ap
from drivetl.metrics.statistics import draw_weights, percentile_interval, sign_flips
from drivetl.metrics.truth import Floats
from drivetl.robustness.held_out import HEADLINE, Level, Levels, levels
from drivetl.robustness.run import FinishedSweep

OPERATING_RULE = "f1"

Document = dict[str, Any]


@dataclass
class ScoredSweep:
    """Every cell of every detector (`run`, `baseline`), measured with the same bootstrap draws."""

    swept: FinishedSweep
    metric: str
    """The main metric, a key of `measures.METRICS`."""
    weights: Floats
    """(B, I) weight of each image in each draw."""
    levels: Levels
    thresholds: dict[str, Floats]
    """Detector -> (K,) operating thresholds, frozen on its clean detections."""
    measures: dict[str, dict[Cell, Measure]]
    """Detector -> cell -> its metrics."""
    exchanged: dict[Cell, tuple[Floats, Floats]] = field(default_factory=dict)
    """Cell -> (1 + B,) metric of run and of baseline: as measured, then after each exchange of drives."""

    def point(self, detector: str, cell: Cell) -> float:
        """The main metric of a detector in a cell, 0..1."""
        return self.measures[detector][cell].numbers[self.metric]

    def headline_conditions(self) -> list[str]:
        """The label-safe conditions that are held out and complete; of an unverified run, all label-safe ones."""
        counted = HEADLINE if self.levels.verified else (Level.UNVERIFIED,)
        return [
            name
            for name in self.swept.conditions
            if self.levels.of_condition[name] in counted
            and CATALOG[name].label_safe
            and name not in self.swept.incomplete
        ]


def score_sweep(swept: FinishedSweep, metric: str = "AP", n_draws: int = 400, seed: int = 0) -> ScoredSweep:
    """Match and measure every cell from its cached detections, with a progress bar.

    With too few images or drives there are no draws: every interval and p is then NaN.
    """
    units = swept.truth.drives.units()
    weights = draw_weights(units, n_draws, seed)
    known = levels(swept.detectors["run"].augmentation, swept.conditions, swept.severities)
    scored = ScoredSweep(swept, metric, weights, known, {}, {name: {} for name in swept.detectors})
    exchanges = sign_flips(units, n_draws, seed)
    flips = np.vstack([np.zeros((1, len(units)), bool), exchanges])

    def score_cell(cell: Cell) -> None:
        stores = {name: swept.matched(name, cell) for name in swept.detectors if cell not in swept.caches[name].absent}
        for name, store in stores.items():
            if cell == CLEAN:
                scored.thresholds[name] = choose_thresholds(store, OPERATING_RULE)
            scored.measures[name][cell] = measure(store, metric, scored.thresholds[name], weights)
        for name in swept.detectors.keys() - stores.keys():
            scored.measures[name][cell] = unmeasured(scored.measures[name][CLEAN])
        if "baseline" in swept.detectors:
            scored.exchanged[cell] = (
                exchanged_ap(stores["run"], stores["baseline"], METRICS[metric])(flips)
                if len(stores) == 2
                else (np.full(len(flips), np.nan), np.full(len(flips), np.nan))
            )

    score_cell(CLEAN)  # first: the others need its thresholds
    with ThreadPoolExecutor(min(4, os.cpu_count() or 1)) as pool:
        for _ in track(pool.map(score_cell, swept.cells), "scoring", total=len(swept.cells)):
            pass
    return scored


def interval(point: float, draws: Floats) -> Document:
    """A point estimate with its 95 % interval and standard error, from (B,) draws."""
    estimate = percentile_interval(draws, point)
    return {"point": estimate.point, "low": estimate.low, "high": estimate.high, "se": estimate.standard_error}
