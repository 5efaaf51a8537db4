"""The uncertainty of an image by hand, and the difficulty of classes from a run's validation."""

import math

import numpy as np
import pytest

from drivetl.coco.detections import Detections
from drivetl.coco.records import Annotation, Dataset, IgnoreRegion, ImageRecord
from drivetl.metrics.match_store import match
from drivetl.metrics.results import Results
from drivetl.selection.uncertainty import class_qualities, entropy, uncertainty, weights_of


def found(*rows):
    """Detections of (score, label), boxes of no interest."""
    return Detections(
        np.zeros((len(rows), 4), np.float32),
        np.array([score for score, _ in rows], np.float32),
        np.array([label for _, label in rows], np.int64),
    )


def test_oracle_entropy_by_hand():
    # s = 0.25: 0.25 ln 4 + 0.75 ln(4/3) = 0.34657 + 0.21576
    assert entropy([0.25]) == pytest.approx([0.562335], abs=1e-6)
    assert entropy([0.5, 0.75]) == pytest.approx([math.log(2), 0.562335], abs=1e-6)
    assert entropy([0.0, 1.0]).tolist() == [0.0, 0.0] and len(entropy([])) == 0


def test_oracle_an_image_by_hand():
    # classes weigh 1 and 1.2; 0.04 is below the least score:
    # ln 2 + 1.2 (ln 2 + 0.562335) = 0.693147 + 1.506579
    detections = found((0.5, 1), (0.5, 2), (0.25, 2), (0.04, 1))
    assert uncertainty(detections, np.array([1.0, 1.2])) == pytest.approx(2.199726, abs=1e-5)
    assert uncertainty(found(), np.ones(2)) == 0.0
    assert uncertainty(found((1.0, 1)), np.ones(2)) == 0.0


def test_oracle_class_weights_by_hand():
    # 1 + 0.3 * 0.2 * ln(1 + (e^(1/0.3) - 1) * d); e^(1/0.3) = 28.0316
    # d = 0: 1; d = 1: 1 + 0.06 / 0.3 = 1.2; d = 0.5: 1 + 0.06 ln(14.5158) = 1.160517
    assert weights_of(np.array([1.0, 0.0, 0.5, np.nan])) == pytest.approx([1.0, 1.2, 1.160517, 1.0], abs=1e-5)


def test_law_a_harder_class_weighs_more():
    weights = weights_of(np.linspace(0, 1, 50))
    assert (np.diff(weights) < 0).all() and weights[0] == pytest.approx(1.2) and weights[-1] == 1.0


def test_oracle_class_qualities_by_hand():
    """Class a: one object matched with score 0.8 at an IoU of 0.9, one missed, a crowd that does not count. Class b: no
    object."""
    image = ImageRecord(1, "a.png", 200, 100)
    image.annotations = [Annotation(1, (0.0, 0.0, 10.0, 10.0), 100.0), Annotation(1, (50.0, 0.0, 9.0, 9.0), 81.0)]
    image.ignore_regions = [IgnoreRegion((100.0, 0.0, 50.0, 50.0), 2500.0)]
    results = Results.of([1, 1, 1], [1, 1, 2], [[0, 0, 10, 9], [110, 10, 20, 20], [0, 60, 10, 10]], [0.8, 0.9, 0.7])
    qualities = class_qualities(match(Dataset(("a", "b"), [image], None), results))
    assert qualities[0] == pytest.approx((0.8**0.6 * 0.9**0.4) / 2) and np.isnan(qualities[1])
