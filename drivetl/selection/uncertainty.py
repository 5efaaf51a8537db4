"""How unsure a detector is of a frame: PPAL's difficulty calibrated uncertainty.

Yang, Huang and Crowley, "Plug and Play Active Learning for Object Detection", CVPR 2024, section 3.2; constants and the
entropy of a detection as in the authors' code. There the quality of a class is a moving average over the training, here
it is measured on the run's validation images, where an object that no detection matches has quality 0.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from drivetl.coco.detections import Detections
from drivetl.metrics.match_store import MatchStore
from drivetl.metrics.truth import Floats

LEAST_SCORE = 0.05
"""Detections below it do not count."""
QUALITY_XI = 0.6
"""The quality of a matched object is score^xi IoU^(1 - xi)."""
ALPHA, BETA = 0.3, 0.2
"""Shape of the weight of a class, and the weight that the hardest one has above 1."""


def entropy(scores: npt.ArrayLike) -> Floats:
    """(N,) binary entropy in nats of scores in 0..1: -s ln s - (1 - s) ln(1 - s); 0 at 0 and 1, ln 2 at 0.5."""
    score = np.asarray(scores, np.float64)
    terms = [np.where(p > 0, -p * np.log(np.where(p > 0, p, 1.0)), 0.0) for p in (score, 1.0 - score)]
    return np.asarray(terms[0] + terms[1], np.float64)


def uncertainty(detections: Detections, class_weights: Floats) -> float:
    """The sum over an image's detections of at least LEAST_SCORE of their entropy times the weight of their class.

    class_weights: (K,) as `weights_of`. 0 without detections.
    """
    counted = detections.scores >= LEAST_SCORE
    return float(np.sum(entropy(detections.scores[counted]) * class_weights[detections.labels[counted] - 1]))


def weights_of(qualities: Floats) -> Floats:
    """(K,) class qualities in 0..1 -> (K,) weights in 1..1 + BETA: the lower the quality, the higher the weight.

    w = 1 + alpha beta ln(1 + (e^(1 / alpha) - 1) (1 - quality)); 1 where the quality is NaN.
    """
    difficulty = 1.0 - np.asarray(qualities, np.float64)
    weights = 1.0 + ALPHA * BETA * np.log1p(np.expm1(1.0 / ALPHA) * difficulty)
    return np.where(np.isnan(weights), 1.0, weights)


def class_qualities(store: MatchStore) -> Floats:
    """(K,) mean over the objects of each class of score^xi IoU^(1 - xi) of the detection that matches them at an IoU of
    0.5, 0 without one; NaN for a class without objects."""
    hit, _ = store.tp_and_ignored()
    quality = np.where(hit, store.scores**QUALITY_XI * store.iou_of_match() ** (1 - QUALITY_XI), 0.0)
    n_classes = len(store.truth.categories)
    total = np.bincount(store.category, quality, minlength=n_classes)
    counts = np.bincount(store.truth.category[~store.views[0].truth_ignored], minlength=n_classes)
    return np.asarray(np.divide(total, counts, out=np.full(n_classes, np.nan), where=counts > 0), np.float64)
