"""Real conditions beside the synthetic ones: what a real night costs, and what the synthetic night said it would.

A pair is a real slice (L4) and a synthetic condition of the same phenomenon, applied to the clean slice. Both drops
are measured from the same clean images at the same mix of classes and sizes; their difference, with an interval from
draws that all share, is the agreement: 0 when the synthetic condition predicts the real one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from drivetl.conditions import Cell
from drivetl.errors import ConfigError
from drivetl.metrics.match_store import MatchStore
from drivetl.metrics.measures import METRICS
from drivetl.metrics.statistics import draw_weights
from drivetl.metrics.truth import Bools, Floats
from drivetl.robustness import road
from drivetl.robustness.clean_slice import UNKNOWN, in_words, stand_ins
from drivetl.robustness.condition_slices import (
    Slice,
    class_and_size_mix,
    mixed_ap,
    mixed_draws,
    slice_and_reference,
    slice_row,
    slices_of,
)
from drivetl.robustness.score_cells import Document, Scored, interval

Pairs = Mapping[tuple[str, str], Sequence[str]]
"""(attribute, value) -> the synthetic conditions that stand for it."""


def real_conditions(
    scored: Scored, attributes: Sequence[str], n_draws: int, seed: int, pairs: Pairs | None = None
) -> tuple[list[Document], Document | None]:
    """The rows of every slice, and the agreement of real and synthetic drops (None without a clean slice).

    pairs: replaces, for the slices it names, the conditions that the catalog's phenomena give. Raises ConfigError for
    an attribute that no image has, and for a pair whose slice or condition was not measured.
    """
    swept = scored.swept
    store = swept.as_they_are("run")
    parts = slices_of(store.truth, attributes, swept.clean)
    check_pairs(pairs or {}, parts, swept.conditions)
    compared = [part for part in parts if part.against_clean]
    units = store.truth.drives.units([part.images.tolist() for part in compared])
    weights = draw_weights(units, n_draws, seed)
    iou = METRICS[scored.metric]
    mixed = [slice_and_reference(store, part, weights, iou) for part in parts]
    rows = [
        slice_row(store, part, scored.thresholds["run"], weights, iou, ours)
        for part, ours in zip(parts, mixed, strict=True)
    ]
    if "baseline" in swept.detectors:
        other = swept.as_they_are("baseline")
        for row, part, (ours, _) in zip(rows, parts, mixed, strict=True):
            theirs = mixed_draws(other, part.images, part, weights, iou)
            row["baseline"], row["delta"] = _interval(theirs), _interval(ours - theirs)
    if swept.real is None:
        return rows, None
    agreement = _Agreement(scored, store, weights)
    of_slice = [
        (part, name, ours)
        for part, ours in zip(parts, mixed, strict=True)
        if part.against_clean and not part.is_reference
        for name in (pairs or {}).get((part.attribute, part.value), stand_ins(part.value, swept.conditions))
    ]
    named = {(part.attribute, part.value) for part, _, _ in of_slice}
    return rows, {
        "clean": dict(swept.clean),
        "clean_images": len(swept.dataset.images),
        "left_out": store.n_images - int(np.any([part.images for part in compared], axis=0).sum()),
        "units": len(set(units)),
        "note": _note(store, compared),
        "pairs": [agreement.of(*pair) for pair in of_slice],
        "unpaired": [
            {"attribute": part.attribute, "value": part.value}
            for part in compared
            if not part.is_reference and part.value != UNKNOWN and (part.attribute, part.value) not in named
        ],
    }


class _Agreement:
    """Pairs of a real slice and a condition; every cell is matched once."""

    def __init__(self, scored: Scored, store: MatchStore, weights: Floats):
        self.scored, self.store, self.weights = scored, store, weights
        clean_ids = scored.swept.truth.image_ids
        self.of_clean: Bools = np.isin(store.truth.image_ids, clean_ids)
        self.cells: dict[Cell, MatchStore] = {}

    def of(self, part: Slice, condition: str, mixed: tuple[Floats, Floats]) -> Document:
        """Both drops of one pair, by severity and in the mean, their difference, and where the curve meets reality.

        mixed: `slice_and_reference` of the part under the shared draws.
        """
        iou = METRICS[self.scored.metric]
        mix = class_and_size_mix(self.store, part)
        real, clean = mixed
        weights = np.vstack([np.ones((1, int(self.of_clean.sum()))), self.weights[:, self.of_clean]])
        by_severity = {
            severity: mixed_ap(self._cell((condition, severity)), iou, weights, mix)
            for severity in self.scored.swept.severities
        }
        mean = np.mean(list(by_severity.values()), axis=0)
        return {
            "attribute": part.attribute,
            "value": part.value,
            "condition": condition,
            "level": self.scored.levels.of_condition[condition],
            "images": int(part.images.sum()),
            "clean": _interval(clean),
            "real": _interval(real),
            "real_drop": _interval(clean - real),
            "synthetic_drop": _interval(clean - mean),
            "difference": _interval(mean - real),
            "severities": [
                {"severity": severity, "drop": _interval(clean - one), "difference": _interval(one - real)}
                for severity, one in by_severity.items()
            ],
            "matches_at": road.crossing(condition, real, by_severity),
        }

    def _cell(self, cell: Cell) -> MatchStore:
        if cell not in self.cells:
            self.cells[cell] = self.scored.swept.matched("run", cell)
        return self.cells[cell]


def _interval(values: Floats) -> Document:
    return interval(float(values[0]), values[1:])


def _note(store: MatchStore, compared: Sequence[Slice]) -> str | None:
    """What slices of one drive each, or of unknown drives, cannot show."""
    drives_of = {
        "the clean slice" if part.is_reference else in_words({part.attribute: part.value}): store.truth.drives.take(
            np.flatnonzero(part.images)
        )
        for part in compared
    }
    shown = {place for part in compared for place in np.flatnonzero(part.images).tolist()}
    unknown = store.truth.drives.take(sorted(shown)).unknown_in_words()
    lone = [name for name, drives in drives_of.items() if len(drives.known) == 1 and not drives.n_unknown]
    if not lone:
        return unknown
    subject = f"{', '.join(lone[:-1])} and {lone[-1]} are" if len(lone) > 1 else f"{lone[0]} is"
    note = (
        f"{subject} one drive{' each' if len(lone) > 1 else ''}: intervals resample blocks of consecutive frames. One "
        "drive per condition cannot separate the condition from the drive: its traffic, its hour, its camera settings"
    )
    return f"{note}. {unknown[0].upper()}{unknown[1:]}" if unknown else note


def check_pairs(pairs: Pairs, parts: Sequence[Slice], conditions: Sequence[str]) -> None:
    """Raises ConfigError for a pair whose slice is not there or whose condition is not run."""
    known = {(part.attribute, part.value) for part in parts if part.against_clean and not part.is_reference}
    for (attribute, value), names in pairs.items():
        if (attribute, value) not in known:
            listed = ", ".join(in_words({one: of}) for one, of in sorted(known)) or "none"
            raise ConfigError(f"--pairs {attribute}={value}: no real slice is so", remedy=f"there are {listed}")
        for name in names:
            if name not in conditions:
                raise ConfigError(f"--pairs {attribute}={value}:{name}: not run", remedy=f"name {name} in --conditions")
