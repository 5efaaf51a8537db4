"""A release gate: how much worse than the reference a new detector may be, and whether it is.

metric: AP             # AP or AP50
confidence: 0.95
must: not_regress      # fail where a loss beyond the tolerance is proven; `prove`: fail where it is not ruled out
max_drop:              # in the metric's own unit, 0..1
  clean: 0.005
  mPC: 0.01
  rPC: 0.02
  conditions: 0.02     # every condition that is not named
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
from drivetl.metrics.comparison import Comparison, Row
from drivetl.metrics.statistics import holm

EVERY_CONDITION = "conditions"
FEWEST_DRIVES = 5


@typed_dataclass(frozen=True, config=ConfigDict(strict=True, extra="forbid", use_attribute_docstrings=True))
class Gate:
    """Tolerances per row of a comparison."""

    max_drop: Annotated[dict[str, Annotated[float, Field(ge=0, le=1)]], Field(min_length=1)]
    """Row -> the loss that is allowed, in the metric's own unit, 0.01 for one AP point."""
    metric: Literal["AP", "AP50"] = "AP"
    """The metric that is compared."""
    confidence: Annotated[float, Field(ge=0.5, lt=1)] = 0.95
    """Of the bootstrap."""
    must: Literal["not_regress", "prove"] = "not_regress"
    """not_regress: fail where a loss beyond the tolerance is proven; prove: fail where it is not ruled out."""
    description: str = ""
    """For people."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """One gated row."""

    name: str
    drop: float
    """B - A: how much worse A is."""
    tolerance: float
    p: float
    """not_regress: that the true drop stays within the tolerance, Holm-adjusted; prove: that it does not."""
    passed: bool
    note: str


def load_gate(path: Path) -> Gate:
    """Read a gate file. Raises DataError with file and line, naming the key."""
    try:
        return parse_gate(read_yaml(path))
    except DataError as error:
        raise error.at(path) from None


def parse_gate(document: Document) -> Gate:
    """The gate in a YAML document. Raises DataError without a file name."""
    values = document.value
    if not isinstance(values, dict) or not isinstance(values.get("max_drop"), dict) or not values["max_drop"]:
        raise DataError("a gate needs `max_drop`, a mapping", remedy="for example {clean: 0.005, conditions: 0.02}")
    return typed(Gate, document, DataError)


def check(gate: Gate, comparison: Comparison) -> list[Verdict]:
    """One verdict per gated row: A must not be worse than B by more than the tolerance.

    not_regress fails a row where the bootstrap proves a larger drop (one-sided, Holm over all gated rows); prove fails
    a row where it does not rule one out. Raises ConfigError for a tolerance whose row was not measured, and for fewer
    than five drives (or images, where drives are unknown), which prove nothing.
    """
    if comparison.n_units < FEWEST_DRIVES:
        raise ConfigError(
            f"a gate cannot decide on {comparison.drives.units_in_words()}",
            remedy=f"measure on {FEWEST_DRIVES} or more",
        )
    gated = _gated(gate, comparison)
    proven = holm({row.name: _p_within(row, tolerance) for row, tolerance in gated})
    verdicts = []
    for row, tolerance in gated:
        regress = gate.must == "not_regress"
        p = proven[row.name] if regress else _p_beyond(row, tolerance)
        small = p < 1 - gate.confidence
        passed = bool(not small if regress else small) and not np.isnan(row.delta.point)
        verdicts.append(Verdict(row.name, -row.delta.point, tolerance, p, passed, _note(row, tolerance, passed, gate)))
    return verdicts


def _gated(gate: Gate, comparison: Comparison) -> list[tuple[Row, float]]:
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
    """Share of draws in which the drop stays within the tolerance: small means that it is proven to exceed it."""
    known = row.draws[~np.isnan(row.draws)]
    return float((1 + (known >= -tolerance).sum()) / (len(known) + 1)) if len(known) else float("nan")


def _p_beyond(row: Row, tolerance: float) -> float:
    """Share of draws in which the drop exceeds the tolerance: small means that it is ruled out."""
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
