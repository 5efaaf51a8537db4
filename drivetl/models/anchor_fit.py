"""Anchors fitted to a dataset, defended on drives they have not seen, and refused when not better.

    decision = anchor_fit.fit(scaled_boxes(dataset, 800, 1333), spec_of(model), strides_of(model))
    decision.show(); decision.chosen

Two kinds of proposal: as many anchors per location as before, each of which starts from an RPN row of its own, and
more of them, which start from the nearest (`anchors.expand_rpn`). Sizes stay within a factor of two of the old ones:
the features of a level were trained for objects of about that size.
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
"""What anchors must gain in held-out coverage (mean of IoU 0.5 and 0.7) to be worth a change."""
MIN_GAIN_OF_MORE = 0.04
"""What more anchors per location must gain over the best of as many: they cost time at every image."""
MAX_LOSS = 0.02
"""What a class or a size may lose in coverage at IoU 0.5 for the gain of the others."""
HELD_OUT_SHARE = 0.3
MIN_HELD_OUT = 50
"""Fewer held-out boxes than this judge nothing."""
MAX_BOXES = 4000
"""A fit looks at a random sample of this many boxes; judging looks at all."""


@dataclass(frozen=True, slots=True)
class Proposal:
    """One set of anchors and its judgement."""

    kind: str
    """`same count` or `more`."""
    spec: AnchorSpec
    held_out: Coverage
    accepted: bool
    reason: str


@dataclass(frozen=True, slots=True)
class Decision:
    """What was there, what was tried, what was chosen and why."""

    before: AnchorSpec
    held_out_before: Coverage
    held_out: ScaledBoxes
    """The boxes that judged."""
    how: str
    """How they were held out."""
    proposals: tuple[Proposal, ...]
    chosen: AnchorSpec
    reason: str

    @property
    def changed(self) -> bool:
        """Whether better anchors were found."""
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
        found = [item.held_out for item in self.proposals if item.spec == self.chosen]
        return found[0] if found else self.held_out_before

    def show(self) -> None:
        """Print what was compared and what was decided."""
        rows = [("now", self.before.per_location, *_cells(self.held_out_before))]
        for number, item in enumerate(self.proposals, 1):
            rows.append((f"{number}: {item.kind}", item.spec.per_location, *_cells(item.held_out)))
        console.table(
            f"Anchors on {len(self.held_out)} held-out boxes ({self.how})", ("anchors", "per place", *COLUMNS), rows
        )
        for number, item in enumerate(self.proposals, 1):
            console.say(f"{number}: {item.spec.describe()}: {item.reason}")
        console.say(f"anchors {self.reason}")

    def save(self, path: Path) -> None:
        """Write anchors.json."""
        write_atomically(path, json.dumps(self.as_dict(), indent=1) + "\n")


COLUMNS = ("IoU >= .5", ">= .7", "positives", "low quality")
"""Share of boxes with an anchor at that IoU, anchors made positive per object, share that only the low-quality rule
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
    return [(name, str(int(which.sum())), *_cells(cover.take(which))) for name, which in groups(boxes).items()]


def split_by_drive(boxes: ScaledBoxes, seed: int = 0) -> tuple[Ints, Ints, str]:
    """(indices to fit on, indices to evaluate on, how): whole drives are held out until they hold 30 % of the boxes.

    Images of unknown drive may be neighbours of each other, so they stay together as one drive would. Where that
    leaves fewer than two, the last images are held out: neighbouring frames still differ most at the end.
    """
    of_box = boxes.drives.take(boxes.images)
    groups = list(of_box.places().values())
    if len(groups) < 2:
        cut = int(len(boxes) * (1 - HELD_OUT_SHARE))
        cut = int(np.searchsorted(boxes.images, boxes.images[cut])) if len(boxes) else 0
        few = "drives unknown" if of_box.n_unknown else "the data knows fewer than two drives"
        return np.arange(cut), np.arange(cut, len(boxes)), f"the last images: {few}"
    order = np.random.default_rng(seed).permutation(len(groups))
    taken = np.cumsum([len(groups[place]) for place in order])
    last = int(np.searchsorted(taken, HELD_OUT_SHARE * len(boxes)))
    held = np.concatenate([groups[place] for place in order[: min(last + 1, len(groups) - 1)]])
    mask = np.isin(np.arange(len(boxes)), held)
    return np.flatnonzero(~mask), np.flatnonzero(mask), _held_in_words(of_box, of_box.take(held))


def _held_in_words(boxes: Drives, held: Drives) -> str:
    """`1 of 3 drives`, and on which side the images of unknown drive are."""
    text = f"{len(held.known)} of {len(boxes.known)} drives"
    if not boxes.n_unknown:
        return text
    return f"{text}; images of unknown drive are {'held out' if held.n_unknown else 'fitted on'}"


def fit(boxes: ScaledBoxes, before: AnchorSpec, strides: Sequence[int], seed: int = 0) -> Decision:
    """Propose anchors for a dataset and judge them on held-out drives. Law: held-out coverage is never lower."""
    fit_on, judge_on, how = split_by_drive(boxes, seed)
    held_out = boxes.take(judge_on)
    now = coverage(held_out, before, strides)
    if len(held_out) < MIN_HELD_OUT or len(fit_on) < MIN_HELD_OUT:
        reason = (
            f"kept: {len(fit_on)} boxes to fit on and {len(held_out)} to judge on are too few (at least {MIN_HELD_OUT}"
            " each)"
        )
        return Decision(before, now, held_out, how, (), before, reason)
    sample = np.random.default_rng(seed).permutation(fit_on)[:MAX_BOXES]
    learn = boxes.take(np.sort(sample))
    same = anchor_search.search(learn, strides, anchor_search.starts(learn, before), before)
    proposals = [_judge("same count", same, held_out, strides, now, now, MIN_GAIN)]
    so_far = proposals[0].held_out if proposals[0].accepted else now
    for start in anchor_search.more(same, before):
        larger = anchor_search.search(learn, strides, [start], before)
        proposals.append(_judge("more", larger, held_out, strides, now, so_far, MIN_GAIN_OF_MORE))
    accepted = [item for item in proposals if item.accepted]
    if not accepted:
        return Decision(before, now, held_out, how, tuple(proposals), before, "kept: nothing better on held-out boxes")
    best = max(accepted, key=lambda item: (_score(item.held_out), -item.spec.per_location))
    return Decision(before, now, held_out, how, tuple(proposals), best.spec, f"changed ({best.kind}): {best.reason}")


def _score(cover: Coverage) -> float:
    return (cover.share(0.5) + cover.share(0.7)) / 2


def _judge(
    kind: str,
    spec: AnchorSpec,
    held_out: ScaledBoxes,
    strides: Sequence[int],
    now: Coverage,
    rival: Coverage,
    min_gain: float,
) -> Proposal:
    """Accept a proposal that covers no less than `now` at either IoU, costs no class and no size more than MAX_LOSS,
    and gains `min_gain` over `rival`."""
    cover = coverage(held_out, spec, strides)
    gain = _score(cover) - _score(rival)
    lower = [str(iou) for iou in (0.5, 0.7) if cover.share(iou) < now.share(iou)]
    if lower:
        return Proposal(kind, spec, cover, False, f"refused: covers less at IoU {' and '.join(lower)}")
    for name, which in groups(held_out).items():
        lost = now.take(which).share(0.5) - cover.take(which).share(0.5)
        if which.sum() >= MIN_HELD_OUT and lost > MAX_LOSS:
            return Proposal(kind, spec, cover, False, f"refused: {name} lose {lost:.1%} at IoU 0.5")
    if gain < min_gain:
        return Proposal(kind, spec, cover, False, f"refused: gains {gain:+.3f}, less than {min_gain}")
    return Proposal(kind, spec, cover, True, f"gains {gain:+.3f}")
