"""How different two frames are, by what a detector sees in them: PPAL's category-conditioned matching.

Yang, Huang and Crowley, "Plug and Play Active Learning for Object Detection", CVPR 2024, section 3.3: every object
looks for the most similar object of its class in the other frame; its distance is 1 - cosine of their features, or 2
when the other frame has no such object; a frame's distance is the mean weighted by score, and both directions are
averaged. Their code gives two frames the distance 0 when one has no object; here that is 2, and 0 only when neither has
any.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from drivetl import console
from drivetl.metrics.truth import Floats

MOST_OBJECTS = 30
"""Per frame, best first; the others have low scores and so hardly any weight."""
FARTHEST = 2.0
"""Of an object whose class the other frame does not show."""
AT_ONCE = 256
"""Frames per block: bounds the memory."""

Features = npt.NDArray[np.float16]


@dataclass(frozen=True)
class Objects:
    """The objects of F frames, P of each, padded."""

    features: npt.NDArray[np.float16]
    """(F, P, D) of unit length; 0 in the padding."""
    scores: npt.NDArray[np.float32]
    """(F, P), 0 in the padding."""
    labels: npt.NDArray[np.int64]
    """(F, P) category ids 1..K, 0 in the padding."""

    def __len__(self) -> int:
        return len(self.scores)


def objects_of(
    features: Sequence[Features], scores: Sequence[npt.ArrayLike], labels: Sequence[npt.ArrayLike]
) -> Objects:
    """The first MOST_OBJECTS objects of each frame, best first: per frame (N, D) features, scores and labels; what has
    no features or no score is left out."""
    width = max((rows.shape[1] for rows in features if len(rows)), default=1)
    shape = len(features), MOST_OBJECTS
    packed = Objects(np.zeros((*shape, width), np.float16), np.zeros(shape, np.float32), np.zeros(shape, np.int64))
    for row, (feature, score, label) in enumerate(zip(features, scores, labels, strict=True)):
        count = min(len(feature), len(np.asarray(score)), MOST_OBJECTS)
        if count:
            packed.features[row, :count] = feature[:count]
            packed.scores[row, :count] = np.asarray(score)[:count]
            packed.labels[row, :count] = np.asarray(label)[:count]
    return packed


def distances_to(frames: Objects, others: Objects, which: int) -> Floats:
    """(F,) distance in 0..2 of every frame to frame number `which` of `others`."""
    there = others.labels[which] > 0
    target = others.features[which, there].astype(np.float32)  # (Q, D)
    score, label = others.scores[which, there], others.labels[which, there]
    found = np.empty(len(frames))
    for start in range(0, len(frames), AT_ONCE):
        part = slice(start, start + AT_ONCE)
        labels, scores = frames.labels[part], frames.scores[part]
        if not len(label):
            found[part] = np.where((labels > 0).any(axis=1), FARTHEST, 0.0)
            continue
        apart = 1.0 - frames.features[part].astype(np.float32) @ target.T  # (F, P, Q)
        apart = np.where(labels[:, :, None] == label, np.clip(apart, 0.0, FARTHEST), FARTHEST)
        there_weight, here_weight = float(score.sum()), scores.sum(axis=1)
        forward = (apart.min(axis=2) * scores).sum(axis=1) / np.where(here_weight > 0, here_weight, 1.0)
        backward = (apart.min(axis=1) * score).sum(axis=1) / there_weight
        found[part] = np.where(here_weight > 0, (forward + backward) / 2, FARTHEST)
    return found


def nearest_distances(frames: Objects, others: Objects) -> Floats:
    """(F,) distance of every frame to the nearest of the others; FARTHEST without any."""
    nearest = np.full(len(frames), FARTHEST)
    for which in console.track(range(len(others)), "comparing with labelled", unit="frames"):
        np.minimum(nearest, distances_to(frames, others, which), out=nearest)
    return nearest
