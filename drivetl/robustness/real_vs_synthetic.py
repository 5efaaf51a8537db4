"""Real against synthetic conditions: the drop at real night, and the drop that the synthetic night predicts.

A pair is a real slice (L4) and a synthetic condition of the same phenomenon, applied to the clean slice. Both drops
are measured from the same clean images at the same mix of classes and sizes. Their difference, with an interval from
shared draws, is the agreement: 0 when the synthetic condition predicts the real drop.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from drivetl.conditions import Cell
from drivetl.errors import ConfigError
from drivetl.metrics.match_store import MatchStore
from drivetl.metrics.measures import METRICS
from drivetl.metrics.statistics import draw_weights, draws_within
from drivetl.metrics.truth import Bools, Floats
from drivetl.robustness import road
from drivetl.robustness.clean_slice import UNKNOWN, synthetic_counterparts, values_as_text
from drivetl.robustness.condition_slices import (
    Slice,
    class_and_size_mix,
    slice_and_reference_ap,
    slice_row,
    slices_of,
    standardised_ap,
    standardised_draws,
)
from drivetl.robustness.score_cells import Document, ScoredSweep, interval

Pairs = Mapping[tuple[str, str], Sequence[str]]
"""(attribute, value) -> the synthetic conditions it is compared with."""


def real_conditions(
    scored: ScoredSweep, attributes: Sequence[str], n_draws: int, seed: int, pairs: Pairs | None = None
) -> tuple[list[Document], Document | None]:
    """The row of every slice, and the agreement of real and synthetic drops (None without a clean slice).

    attributes: of the images, to slice by. pairs: for the slices it names, the conditions to compare with instead of
    those of the same phenomenon. Raises ConfigError for
    an attribute that no image has, and for a pair whose slice or condition was not measured.
    """
    swept = scored.swept
    store = swept.matched_unmodified("run")
    parts = slices_of(store.truth, attributes, swept.clean)
    check_pairs(pairs or {}, parts, swept.conditions)
    compared = [part for part in parts if part.against_clean]
    units = store.truth.drives.units([part.images.tolist() for part in compared])
    everywhere = draw_weights(units, n_draws, seed)
    # none where the slice or its reference has too few drives
    draws = [draws_within(draws_within(everywhere, units, part.images), units, part.reference) for part in parts]
    iou = METRICS[scored.metric]
    standardised = [slice_and_reference_ap(store, *of_part, iou) for of_part in zip(parts, draws, strict=True)]
    rows = [
        slice_row(store, part, scored.thresholds["run"], weights, iou, of_part)
        for part, weights, of_part in zip(parts, draws, standardised, strict=True)
    ]
    if "baseline" in swept.detectors:
        other = swept.matched_unmodified("baseline")
        for row, part, weights, (ours, _) in zip(rows, parts, draws, standardised, strict=True):
            theirs = standardised_draws(other, part.images, part, weights, iou)
            row["baseline"], row["delta"] = _interval(theirs), _interval(ours - theirs)
    if swept.real is None:
        return rows, None
    agreement = _Agreement(scored, store)
    compared_pairs = [
        (part, name, weights, of_part)
        for part, weights, of_part in zip(parts, draws, standardised, strict=True)
        if part.against_clean and not part.is_reference
        for name in _conditions_for(part, pairs or {}, swept.conditions)
    ]
    paired = {(part.attribute, part.value) for part, *_ in compared_pairs}
    return rows, {
        "clean": dict(swept.clean),
        "clean_images": len(swept.dataset.images),
        "left_out": store.n_images - int(np.any([part.images for part in compared], axis=0).sum()),
        "units": len(set(units)),
        "note": _note(store, compared),
        "pairs": [agreement.pair_row(*pair) for pair in compared_pairs],
        "unpaired": [
            {"attribute": part.attribute, "value": part.value}
            for part in compared
            if not part.is_reference and part.value != UNKNOWN and (part.attribute, part.value) not in paired
        ],
    }


def _conditions_for(part: Slice, pairs: Pairs, conditions: Sequence[str]) -> Sequence[str]:
    """The synthetic conditions that a real slice is compared with: those `pairs` names, else of its phenomenon."""
    return pairs.get((part.attribute, part.value), synthetic_counterparts(part.value, conditions))


class _Agreement:
    """Rows of pairs of a real slice and a synthetic condition; every cell is matched once."""

    def __init__(self, scored: ScoredSweep, store: MatchStore):
        self.scored, self.store = scored, store
        clean_ids = scored.swept.truth.image_ids
        self.clean_images: Bools = np.isin(store.truth.image_ids, clean_ids)
        self.matched_cells: dict[Cell, MatchStore] = {}

    def pair_row(self, part: Slice, condition: str, draws: Floats, standardised: tuple[Floats, Floats]) -> Document:
        """Both drops of one pair by severity and in the mean, their difference, and where they are equal on the axis.

        draws: (B, I); standardised: `slice_and_reference_ap` of the part under them.
        """
        iou = METRICS[self.scored.metric]
        mix = class_and_size_mix(self.store, part)
        real, clean = standardised
        weights = np.vstack([np.ones((1, int(self.clean_images.sum()))), draws[:, self.clean_images]])
        by_severity = {
            severity: np.full(len(weights), np.nan)
            if (condition, severity) in self.scored.swept.missing
            else standardised_ap(self._cell((condition, severity)), iou, weights, mix)
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
                {"severity": severity, "drop": _interval(clean - ap), "difference": _interval(ap - real)}
                for severity, ap in by_severity.items()
            ],
            "matches_at": road.crossing(condition, real, by_severity),
        }

    def _cell(self, cell: Cell) -> MatchStore:
        if cell not in self.matched_cells:
            self.matched_cells[cell] = self.scored.swept.matched("run", cell)
        return self.matched_cells[cell]


def _interval(values: Floats) -> Document:
    return interval(float(values[0]), values[1:])


def _note(store: MatchStore, compared: Sequence[Slice]) -> str | None:
    """What slices of a single drive, or of unknown drives, cannot show; None where there are none."""
    drives_of = {
        "the clean slice"
        if part.is_reference
        else values_as_text({part.attribute: part.value}): store.truth.drives.take(np.flatnonzero(part.images))
        for part in compared
    }
    measured = np.flatnonzero(np.any([part.images for part in compared], axis=0)).tolist() if compared else []
    unknown = store.truth.drives.take(measured).unknown_in_words()
    single = [name for name, drives in drives_of.items() if len(drives.known) == 1 and not drives.n_unknown]
    if not single:
        return unknown
    subject = f"{', '.join(single[:-1])} and {single[-1]} are" if len(single) > 1 else f"{single[0]} is"
    note = (
        f"{subject} one drive{' each' if len(single) > 1 else ''}: intervals resample blocks of consecutive frames. "
        "One drive per condition cannot separate the condition from the drive: its traffic, its hour, its camera "
        "settings"
    )
    return f"{note}. {unknown[0].upper()}{unknown[1:]}" if unknown else note


def check_pairs(pairs: Pairs, parts: Sequence[Slice], conditions: Sequence[str]) -> None:
    """Raises ConfigError for a pair whose slice does not exist or whose condition was not run."""
    known = {(part.attribute, part.value) for part in parts if part.against_clean and not part.is_reference}
    for (attribute, value), names in pairs.items():
        if (attribute, value) not in known:
            available = ", ".join(values_as_text({key: text}) for key, text in sorted(known)) or "none"
            raise ConfigError(
                f"--pairs {attribute}={value}: no real slice has this value", remedy=f"available: {available}"
            )
        for name in names:
            if name not in conditions:
                raise ConfigError(f"--pairs {attribute}={value}:{name}: not run", remedy=f"add {name} to --conditions")
