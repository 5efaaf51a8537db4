"""Anchors fitted to a dataset, evaluated on held-out drives, and refused when they are not better there.

    decision = anchor_fit.fit(scaled_boxes(dataset, 800, 1333), spec_of(model), strides_of(model))
    decision.show(); decision.chosen

There are two kinds of proposal. `same count` keeps the number of anchors per location, and each new anchor starts from
a different RPN row. `more` adds anchors, which start from the nearest old row (`anchors.expand_rpn`). Sizes stay within
a factor of two of the old ones: the features of a level were trained for objects of about that size.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from drivetl import console
from drivetl.coco.drives import Drives
from drivetl.files.write import write_atomically
from drivetl.models import anchor_search
from drivetl.models.anchor_search import groups
from drivetl.models.anchors import AnchorSpec, Coverage, Ints, ScaledBoxes, coverage

MIN_GAIN = 0.02
"""Gain in held-out coverage (mean of IoU 0.5 and 0.7) that new anchors need."""
MIN_GAIN_OF_MORE = 0.04
"""Gain that more anchors per location need over the best of the same count: they cost time on every image."""
MAX_LOSS = 0.02
"""Largest loss of coverage at IoU 0.5 accepted for any class or size range."""
HELD_OUT_SHARE = 0.3
MIN_HELD_OUT = 50
"""With fewer held-out boxes than this nothing is evaluated."""
MAX_BOXES = 4000
"""A fit uses a random sample of this many boxes; the evaluation uses all held-out boxes."""


@dataclass(frozen=True, slots=True)
class Proposal:
    """One set of anchors, its held-out coverage, and whether it was accepted."""

    kind: str
    """`same count` or `more`."""
    spec: AnchorSpec
    held_out: Coverage
    accepted: bool
    reason: str


@dataclass(frozen=True, slots=True)
class Decision:
    """The anchors before, the proposals, the chosen anchors, and why."""

    before: AnchorSpec
    held_out_before: Coverage
    held_out: ScaledBoxes
    """The boxes the proposals were evaluated on."""
    how: str
    """How they were held out."""
    proposals: tuple[Proposal, ...]
    chosen: AnchorSpec
    reason: str

    @property
    def changed(self) -> bool:
        """Whether a proposal replaced the anchors."""
        return self.chosen != self.before

    def as_dict(self) -> dict[str, Any]:
        """anchors.json: before, after, every proposal with its held-out coverage."""
        return {
            "before": self.before.as_dict() | _numbers(self.held_out_before),
            "after": self.chosen.as_dict() | _numbers(self._chosen_coverage()),
            "changed": self.changed,
            "reason": self.reason,
            "held_out": {"boxes": len(self.held_out), "how": self.how},
            "proposals": [
                {"kind": item.kind, "accepted": item.accepted, "reason": item.reason}
                | item.spec.as_dict()
                | _numbers(item.held_out)
                for item in self.proposals
            ],
        }

    def _chosen_coverage(self) -> Coverage:
        return next((item.held_out for item in self.proposals if item.spec == self.chosen), self.held_out_before)

    def show(self) -> None:
        """Print the comparison and the decision."""
        rows = [("now", self.before.per_location, *_cells(self.held_out_before))]
        for number, item in enumerate(self.proposals, 1):
            rows.append((f"{number}: {item.kind}", item.spec.per_location, *_cells(item.held_out)))
        console.table(
            f"Anchors on {len(self.held_out)} held-out boxes ({self.how})", ("anchors", "per location", *COLUMNS), rows
        )
        for number, item in enumerate(self.proposals, 1):
            console.say(f"{number}: {item.spec.describe()}: {item.reason}")
        console.say(f"anchors {self.reason}")

    def save(self, path: Path) -> None:
        """Write anchors.json."""
        write_atomically(path, json.dumps(self.as_dict(), indent=1) + "\n")


COLUMNS = ("IoU >= .5", ">= .7", "positives", "low quality")
"""Share of boxes with an anchor at that IoU, positive anchors per object, share of boxes that only the low-quality rule
matches."""


def _cells(cover: Coverage) -> tuple[str, ...]:
    if not len(cover.best_iou):
        return ("-",) * len(COLUMNS)
    shares = (f"{cover.share(0.5):.1%}", f"{cover.share(0.7):.1%}")
    return (*shares, f"{cover.positives.mean():.1f}", f"{cover.low_quality:.1%}")


def _numbers(cover: Coverage) -> dict[str, float | None]:
    if not len(cover.best_iou):
        return dict.fromkeys(("covered_50", "covered_70", "positives_per_object", "low_quality_only"))
    return {
        "covered_50": cover.share(0.5),
        "covered_70": cover.share(0.7),
        "positives_per_object": float(cover.positives.mean()),
        "low_quality_only": cover.low_quality,
    }


def breakdown(boxes: ScaledBoxes, cover: Coverage) -> list[tuple[str, ...]]:
    """Rows of a table (name, boxes, COLUMNS...): all, then each group of `groups`."""
    return [(name, str(int(mask.sum())), *_cells(cover.take(mask))) for name, mask in groups(boxes).items()]


def split_by_drive(boxes: ScaledBoxes, seed: int = 0) -> tuple[Ints, Ints, str]:
    """(indices to fit on, held-out indices, how): whole drives are held out until they contain 30 % of the boxes.

    Images of unknown drive may be neighbours of each other, so they stay together, like one drive. With fewer than two
    drives the last images are held out: only those at the cut are neighbours of images that are fitted on.
    """
    of_box = boxes.drives.take(boxes.images)
    by_drive = list(of_box.places().values())
    if len(by_drive) < 2:
        cut = int(len(boxes) * (1 - HELD_OUT_SHARE))
        cut = int(np.searchsorted(boxes.images, boxes.images[cut])) if len(boxes) else 0
        reason = "drives unknown" if of_box.n_unknown else "the data has fewer than two drives"
        return np.arange(cut), np.arange(cut, len(boxes)), f"the last images: {reason}"
    order = np.random.default_rng(seed).permutation(len(by_drive))
    n_boxes = np.cumsum([len(by_drive[index]) for index in order])
    last = int(np.searchsorted(n_boxes, HELD_OUT_SHARE * len(boxes)))
    held_out = np.concatenate([by_drive[index] for index in order[: min(last + 1, len(by_drive) - 1)]])
    mask = np.isin(np.arange(len(boxes)), held_out)
    return np.flatnonzero(~mask), np.flatnonzero(mask), _held_out_in_words(of_box, of_box.take(held_out))


def _held_out_in_words(all_drives: Drives, held_out: Drives) -> str:
    """`1 of 3 drives`, and on which side the images of unknown drive are."""
    text = f"{len(held_out.known)} of {len(all_drives.known)} drives"
    if not all_drives.n_unknown:
        return text
    return f"{text}; images of unknown drive are {'held out' if held_out.n_unknown else 'fitted on'}"


def fit(boxes: ScaledBoxes, before: AnchorSpec, strides: Sequence[int], seed: int = 0) -> Decision:
    """Propose anchors for a dataset and evaluate them on held-out drives. Law: held-out coverage is never lower."""
    fit_indices, held_out_indices, how = split_by_drive(boxes, seed)
    held_out = boxes.take(held_out_indices)
    now = coverage(held_out, before, strides)
    if len(held_out) < MIN_HELD_OUT or len(fit_indices) < MIN_HELD_OUT:
        reason = (
            f"kept: too few boxes, {len(fit_indices)} to fit on and {len(held_out)} held out (at least {MIN_HELD_OUT}"
            " each are needed)"
        )
        return Decision(before, now, held_out, how, (), before, reason)
    sample = np.random.default_rng(seed).permutation(fit_indices)[:MAX_BOXES]
    fit_boxes = boxes.take(np.sort(sample))
    same = anchor_search.search(fit_boxes, strides, anchor_search.starts(fit_boxes, before), before)
    proposals = [_evaluate("same count", same, held_out, strides, now, now, MIN_GAIN)]
    rival, over = (proposals[0].held_out, " over 1") if proposals[0].accepted else (now, "")
    for start in anchor_search.more(same, before):
        larger = anchor_search.search(fit_boxes, strides, [start], before)
        proposals.append(_evaluate("more", larger, held_out, strides, now, rival, MIN_GAIN_OF_MORE, over))
    accepted = [item for item in proposals if item.accepted]
    if not accepted:
        return Decision(before, now, held_out, how, tuple(proposals), before, "kept: nothing better on held-out boxes")
    best = max(accepted, key=lambda item: (_score(item.held_out), -item.spec.per_location))
    return Decision(before, now, held_out, how, tuple(proposals), best.spec, f"changed ({best.kind}): {best.reason}")


def _score(cover: Coverage) -> float:
    return (cover.share(0.5) + cover.share(0.7)) / 2


def _evaluate(
    kind: str,
    spec: AnchorSpec,
    held_out: ScaledBoxes,
    strides: Sequence[int],
    now: Coverage,
    rival: Coverage,
    min_gain: float,
    over: str = "",
) -> Proposal:
    """Accept a proposal that covers no less than `now` at either IoU, loses no more than MAX_LOSS in any class or size
    range, and gains at least `min_gain` over `rival`, which `over` names where it is not `now`."""
    cover = coverage(held_out, spec, strides)
    gain = _score(cover) - _score(rival)
    lower = [str(iou) for iou in (0.5, 0.7) if cover.share(iou) < now.share(iou)]
    if lower:
        return Proposal(kind, spec, cover, False, f"refused: covers less at IoU {' and '.join(lower)}")
    for name, mask in groups(held_out).items():
        loss = now.take(mask).share(0.5) - cover.take(mask).share(0.5)
        if mask.sum() >= MIN_HELD_OUT and loss > MAX_LOSS:
            return Proposal(kind, spec, cover, False, f"refused: {name} loses {loss:.1%} at IoU 0.5")
    if gain < min_gain:
        return Proposal(kind, spec, cover, False, f"refused: gains {gain:+.3f}{over}, less than {min_gain}")
    return Proposal(kind, spec, cover, True, f"gains {gain:+.3f}{over}")
