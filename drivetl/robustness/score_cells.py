"""Every cell of a sweep matched and measured, with the same bootstrap draws for all cells and detectors."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from drivetl.conditions import CATALOG, CLEAN, Cell
from drivetl.console import track
from drivetl.metrics.measures import Measure, measure, swapped
from drivetl.metrics.operating import thresholds
from drivetl.metrics.statistics import draw_weights, percentile_interval, sign_flips
from drivetl.metrics.truth import Floats
from drivetl.robustness.held_out import HEADLINE, Level, Levels, levels
from drivetl.robustness.run import Swept

OPERATING_RULE = "f1"

Document = dict[str, Any]


@dataclass
class Scored:
    """Every cell of every detector, measured with the same bootstrap draws."""

    swept: Swept
    metric: str
    weights: Floats
    """(B, I)"""
    levels: Levels
    thresholds: dict[str, Floats]
    """Detector -> (K,) operating thresholds, frozen on its clean detections."""
    of: dict[str, dict[Cell, Measure]]
    swaps: dict[Cell, tuple[Floats, Floats]] = field(default_factory=dict)
    """Cell -> (1 + B,) metric of run and baseline after exchanges; the first without any."""

    def point(self, who: str, cell: Cell) -> float:
        return self.of[who][cell].numbers[self.metric]

    def headline_conditions(self) -> list[str]:
        """Held-out conditions whose labels hold; of an unverified run, all whose labels hold."""
        counted = HEADLINE if self.levels.verified else (Level.UNVERIFIED,)
        return [
            name
            for name in self.swept.conditions
            if self.levels.of_condition[name] in counted and CATALOG[name].label_safe
        ]


def score(swept: Swept, metric: str = "AP", n_draws: int = 400, seed: int = 0) -> Scored:
    """Match and measure every cell, with a progress bar; nothing is inferred."""
    units = swept.truth.drives.units()
    weights = draw_weights(units, n_draws, seed)
    known = levels(swept.detectors["run"].augmentation, swept.conditions, swept.severities)
    scored = Scored(swept, metric, weights, known, {}, {who: {} for who in swept.detectors})
    flips = np.vstack([np.zeros((1, len(units)), bool), sign_flips(units, n_draws, seed)])

    def of_cell(cell: Cell) -> None:
        stores = {who: swept.matched(who, cell) for who in swept.detectors}
        for who, store in stores.items():
            if cell == CLEAN:
                scored.thresholds[who] = thresholds(store, OPERATING_RULE)
            scored.of[who][cell] = measure(store, metric, scored.thresholds[who], weights)
        if "baseline" in stores:
            scored.swaps[cell] = swapped(stores["run"], stores["baseline"], metric, flips)

    of_cell(CLEAN)  # the others need its thresholds
    with ThreadPoolExecutor(min(4, os.cpu_count() or 1)) as pool:
        for _ in track(pool.map(of_cell, swept.cells), "scoring", total=len(swept.cells)):
            pass
    return scored


def interval(point: float, draws: Floats) -> Document:
    """A point estimate with its 95 % interval and standard error, from (B,) draws."""
    found = percentile_interval(draws, point)
    return {"point": found.point, "low": found.low, "high": found.high, "se": found.standard_error}
