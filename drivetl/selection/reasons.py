"""Why a frame was chosen, in words for the person who labels it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from drivetl.coco.detections import Detections
from drivetl.console.text import listing
from drivetl.metrics.truth import Floats
from drivetl.selection.choose import Choice
from drivetl.selection.pool import Frame
from drivetl.selection.uncertainty import entropy

UNSURE = (0.2, 0.8)
"""Scores between these say that the detector is unsure."""
SURE_ENOUGH = 0.5
"""Score from which a detection says that a class is there."""
MOST_CLASSES = 2
"""Classes that are named as uncertain."""


def reasons_of(
    choices: Sequence[Choice],
    frames: Sequence[Frame],
    detections: Sequence[Detections],
    categories: Sequence[str],
    class_weights: Floats,
    labelled_classes: frozenset[int] | None = None,
) -> list[list[str]]:
    """One to four reasons per choice, in the order of the choices.

    detections: of every frame; class_weights: (K,); labelled_classes: category ids seen in the frames that are
    labelled, None where there are none. The first frame's classes are new by necessity and are not mentioned.
    """
    shown = labelled_classes
    earlier = "the frames chosen before"
    if labelled_classes is not None:
        earlier = "the labelled frames and those chosen before"
    rows = []
    for choice in choices:
        frame, found = frames[choice.index], detections[choice.index]
        present = frozenset(found.labels[found.scores >= SURE_ENOUGH].tolist())
        rows.append(
            [
                *_of_conditions(choice, frame, frames),
                *_of_classes([] if shown is None else sorted(present - shown), categories),
                *_of_doubts(found, categories, class_weights),
                *([f"unlike {earlier}"] if choice.is_far else []),
            ]
            or [f"first of {frame.drive}" if choice.first_of_drive and frame.drive else "the best of those left"]
        )
        shown = present | (shown or frozenset())
    return rows


def _of_conditions(choice: Choice, frame: Frame, frames: Sequence[Frame]) -> list[str]:
    words = " ".join(value.replace("_", " ") for _, value in frame.conditions if value)
    if not words:
        return []
    if choice.alone_in_drive:
        return [f"only {words} frame" + (f" of {frame.drive}" if frame.drive else "")]
    return [f"first {words} frame"] if choice.first_of_conditions else []


def _of_classes(new: Sequence[int], categories: Sequence[str]) -> list[str]:
    names = [categories[number - 1] for number in new]
    return [f"first with {listing([_article(name) for name in names])}"] if names else []


def _of_doubts(found: Detections, categories: Sequence[str], class_weights: Floats) -> list[str]:
    if not len(found.scores):
        return ["nothing detected: look for missed objects"]
    unsure = (found.scores >= UNSURE[0]) & (found.scores <= UNSURE[1])
    worth: Mapping[int, float] = {
        int(label): float(class_weights[label - 1] * entropy(found.scores[unsure & (found.labels == label)]).sum())
        for label in np.unique(found.labels[unsure])
    }
    parts = []
    for label in sorted(worth, key=lambda label: (-worth[label], label))[:MOST_CLASSES]:
        scores = found.scores[unsure & (found.labels == label)]
        parts.append(f"{_counted(len(scores), categories[label - 1])} near {scores.mean():.1f}")
    return [f"uncertain: {listing(parts)}"] if parts else []


def _counted(count: int, name: str) -> str:
    """`1 car`, `3 buses`, `2 people`, `2 x person_sitting`."""
    if count == 1:
        return f"1 {name}"
    if not name.replace(" ", "").isalpha():
        return f"{count} x {name}"
    if name == "person":
        return f"{count} people"
    return f"{count} {name}{'es' if name.endswith(('s', 'x', 'ch', 'sh')) else 's'}"


def _article(name: str) -> str:
    return f"{'an' if name[:1].lower() in 'aeiou' else 'a'} {name}"
