"""A release gate: fails a detector that is worse than its reference by more than a tolerance. A gate file:

metric: AP             # AP or AP50
confidence: 0.95
must: not_regress      # fail on a significant loss beyond the tolerance; `prove`: fail where one is not ruled out
max_drop:              # tolerances in the metric's unit, 0..1
  clean: 0.005
  mPC: 0.01
  rPC: 0.02
  conditions: 0.02     # each condition that has no entry of its own
  fog: 0.01
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
from pydantic import ConfigDict, Field
from pydantic.dataclasses import dataclass as typed_dataclass

from drivetl.errors import ConfigError, DataError
from drivetl.files.typed import typed
from drivetl.files.yaml_reader import Document, read_yaml
from drivetl.metrics.comparison import CLEAN_ROW, Comparison, Row
from drivetl.metrics.statistics import FEWEST_DRIVES, FEWEST_IMAGES, allows_intervals, holm

EVERY_CONDITION = "conditions"


@typed_dataclass(frozen=True, config=ConfigDict(strict=True, extra="forbid", use_attribute_docstrings=True))
class Gate:
    """Tolerances per row of a comparison."""

    max_drop: Annotated[dict[str, Annotated[float, Field(ge=0, le=1)]], Field(min_length=1)]
    """Row -> the allowed loss in the metric's unit, 0..1: 0.01 is one AP point."""
    metric: Literal["AP", "AP50"] = "AP"
    """The metric that is compared."""
    confidence: Annotated[float, Field(ge=0.5, lt=1)] = 0.95
    """Confidence level of the bootstrap test."""
    must: Literal["not_regress", "prove"] = "not_regress"
    """not_regress: fail on a significant loss beyond the tolerance; prove: fail where one is not ruled out."""
    description: str = ""
    """Free text."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """The decision on one row of the comparison."""

    name: str
    drop: float
    """B - A: how much worse A is, in the metric's unit."""
    tolerance: float
    """The largest allowed drop, in the same unit."""
    p: float
    """Of the hypothesis that the drop is within the tolerance (Holm-adjusted); with `prove`, that it exceeds it."""
    passed: bool
    note: str


def load_gate(path: Path) -> Gate:
    """Read a gate file. Raises DataError naming file, line and key."""
    try:
        return parse_gate(read_yaml(path))
    except DataError as error:
        raise error.at(path) from None


def parse_gate(document: Document) -> Gate:
    """The gate in a YAML document. Raises DataError naming line and key."""
    values = document.value
    if not isinstance(values, dict) or not isinstance(values.get("max_drop"), dict) or not values["max_drop"]:
        raise DataError("a gate needs `max_drop`, a mapping", remedy="for example {clean: 0.005, conditions: 0.02}")
    return typed(Gate, document, DataError)


def check_gate(gate: Gate, comparison: Comparison) -> list[Verdict]:
    """One verdict per row that has a tolerance: A must not be worse than B by more than it.

    not_regress fails a row whose drop is significantly larger (one-sided, Holm over all gated rows); prove fails a row
    where the bootstrap does not rule out a larger drop. Raises ConfigError for a tolerance whose row was not measured,
    and for too few images or drives (`statistics.FEWEST_DRIVES`).
    """
    gated = _gated_rows(gate, comparison)
    for row, _ in gated:
        drives = comparison.clean_drives if row.name == CLEAN_ROW and comparison.clean_drives else comparison.drives
        if not allows_intervals(drives):
            raise ConfigError(
                f"a gate cannot decide on {drives.units_in_words()}",
                remedy=f"measure {row.name} on {FEWEST_DRIVES} or more, and on {FEWEST_IMAGES} images or more",
            )
    p_within = holm({row.name: _p_within(row, tolerance) for row, tolerance in gated})
    verdicts = []
    for row, tolerance in gated:
        regress = gate.must == "not_regress"
        p = p_within[row.name] if regress else _p_beyond(row, tolerance)
        significant = p < 1 - gate.confidence
        passed = bool(not significant if regress else significant) and not np.isnan(row.delta.point)
        verdicts.append(Verdict(row.name, -row.delta.point, tolerance, p, passed, _note(row, tolerance, passed, gate)))
    return verdicts


def _gated_rows(gate: Gate, comparison: Comparison) -> list[tuple[Row, float]]:
    """The rows with a tolerance, and the tolerance."""
    tolerances = {name: tolerance for name, tolerance in gate.max_drop.items() if name != EVERY_CONDITION}
    missing = sorted(name for name in tolerances if comparison.row(name) is None)
    if missing or (EVERY_CONDITION in gate.max_drop and not comparison.conditions()):
        known = ", ".join(row.name for row in comparison.rows)
        raise ConfigError(
            f"the gate has a tolerance for {(missing or [EVERY_CONDITION])[0]!r}, which was not measured in both",
            remedy=f"measured: {known}",
        )
    every = gate.max_drop.get(EVERY_CONDITION)
    if every is not None:
        tolerances |= {row.name: tolerances.get(row.name, every) for row in comparison.conditions()}
    return [(row, tolerances[row.name]) for row in comparison.rows if row.name in tolerances]


def _p_within(row: Row, tolerance: float) -> float:
    """Share of draws in which the drop is within the tolerance: small means that it significantly exceeds it."""
    known = row.draws[~np.isnan(row.draws)]
    return float((1 + (known >= -tolerance).sum()) / (len(known) + 1)) if len(known) else float("nan")


def _p_beyond(row: Row, tolerance: float) -> float:
    """Share of draws in which the drop exceeds the tolerance: small means that such a drop is ruled out."""
    known = row.draws[~np.isnan(row.draws)]
    return float((1 + (known < -tolerance).sum()) / (len(known) + 1)) if len(known) else float("nan")


def _note(row: Row, tolerance: float, passed: bool, gate: Gate) -> str:
    if np.isnan(row.delta.point):
        return "not measurable"
    if not passed:
        return "worse beyond its tolerance" if gate.must == "not_regress" else "a loss beyond the tolerance is possible"
    if row.delta.point < -tolerance:
        return "worse than its tolerance, but not proven: measure on more drives"
    return "within its tolerance"
