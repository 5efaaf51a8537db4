"""Scores of doubtful labels against numbers computed by hand from the formulas in the docstrings."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from drivetl.doubt.scores import Boxes, assign, badly_located, image_quality, overlooked, similarity, softmin, swapped


def boxes(*rows):
    """Rows of (x1, y1, x2, y2, class, confidence)."""
    table = np.array(rows, float).reshape(-1, 6)
    return Boxes(table[:, :4], table[:, 4].astype(np.int64), table[:, 5])


NONE = boxes()
SQUARE = (0, 0, 10, 10)
RIGHT = (5, 0, 15, 10)  # IoU with SQUARE 1/3; centres 5 px apart, both diagonals 14.142 px
SIMILAR = 0.9 / 3 + 0.1 * math.exp(-5 / math.hypot(10, 10))


def test_the_similarity_is_that_of_the_formula():
    found = similarity(np.array([SQUARE, RIGHT], float), np.array([SQUARE, RIGHT, (20, 0, 30, 10)], float))
    far = [0.1 * math.exp(-d / math.hypot(10, 10)) for d in (20, 15)]
    np.testing.assert_allclose(found, [[1, SIMILAR, far[0]], [SIMILAR, 1, far[1]]])


def test_an_empty_box_is_similar_to_nothing():
    point = np.array([[3, 3, 3, 3]], float)
    assert similarity(point, point) == 0
    assert 0 < similarity(point, np.array([SQUARE], float)) < 0.1


def test_a_label_has_the_detection_of_its_class_that_fits_best_to_itself():
    labels = boxes((*SQUARE, 1, 1), (*RIGHT, 1, 1), (0, 0, 10, 10, 2, 1))
    found = boxes((1, 0, 11, 10, 1, 0.6), (4, 0, 14, 10, 1, 0.9), (0, 0, 10, 10, 3, 0.9))
    assert assign(labels, found, 0.1).tolist() == [0, 1, -1]
    assert assign(boxes((*SQUARE, 1, 1), (*SQUARE, 1, 1)), found, 0.1).tolist() == [0, 1]
    assert assign(labels, NONE, 0.1).tolist() == [-1, -1, -1]
    assert assign(NONE, found, 0.1).tolist() == []
    assert assign(boxes((*SQUARE, 1, 1)), boxes((*RIGHT, 1, 0.9)), 0.4).tolist() == [-1]


def test_a_badly_located_label_scores_the_confidence_and_distance_of_its_own_detection():
    labels = boxes((*SQUARE, 1, 1), (100, 0, 110, 10, 1, 1))
    found = boxes((*RIGHT, 1, 0.6), (105, 0, 115, 10, 1, 0.4))
    own = assign(labels, found, 0.1)
    scored = badly_located(labels, found, own, 0.5, 0.3)
    np.testing.assert_allclose(scored.quality, [1 - 0.6 * (1 - SIMILAR), 1])
    assert scored.evidence.tolist() == [0, -1]
    assert badly_located(labels, found, own, 0.5, 0.4).quality.tolist() == [1, 1]
    assert badly_located(labels, NONE, assign(labels, NONE, 0.1), 0.5, 0.3).quality.tolist() == [1, 1]
    assert len(badly_located(NONE, found, assign(NONE, found, 0.1), 0.5, 0.3).quality) == 0


def test_a_swapped_label_scores_the_margin_of_its_own_class():
    labels = boxes((*SQUARE, 1, 1), (100, 0, 110, 10, 1, 1))
    found = boxes((*SQUARE, 2, 0.8), (*RIGHT, 1, 0.3), (*RIGHT, 3, 0.4))
    scored = swapped(labels, found)
    np.testing.assert_allclose(scored.quality, [1 - 0.8 + 0.3 * SIMILAR, 1])
    assert scored.evidence.tolist() == [0, -1]
    assert swapped(labels, boxes((*SQUARE, 1, 0.9), (*SQUARE, 2, 0.6))).quality.tolist() == [1, 1]
    assert swapped(labels, NONE).quality.tolist() == [1, 1] and len(swapped(NONE, found).quality) == 0


def test_an_overlooked_object_scores_its_confidence_and_its_distance_from_every_label():
    labels = boxes((*SQUARE, 1, 1))
    found = boxes(
        (*SQUARE, 1, 0.9), (*RIGHT, 1, 0.8), (*RIGHT, 2, 0.7), (100, 0, 110, 10, 1, 0.6), (200, 0, 210, 10, 1, 0.4)
    )
    scored = overlooked(labels, found, assign(labels, found, 0.1), 0.5)
    expected = [np.nan, 1 - 0.8 * (1 - SIMILAR), 1 - 0.7 * (1 - SIMILAR), 1 - 0.6, np.nan]
    np.testing.assert_allclose(scored.quality, expected)
    assert scored.evidence.tolist() == [-1, 0, 0, -1, -1]
    alone = overlooked(NONE, found, assign(NONE, found, 0.1), 0.5)
    np.testing.assert_allclose(alone.quality, [0.1, 0.2, 0.3, 0.4, np.nan], atol=1e-12)


def test_the_softmin_is_that_of_the_formula():
    weights = [math.exp((1 - 0.2) / 0.1), math.exp((1 - 0.4) / 0.1)]
    assert softmin(np.array([0.2, np.nan, 0.4])) == pytest.approx((0.2 * weights[0] + 0.4 * weights[1]) / sum(weights))
    assert softmin(np.array([])) == softmin(np.array([np.nan])) == 1
    assert softmin(np.array([0.3])) == pytest.approx(0.3)


def test_the_quality_of_an_image_is_the_geometric_mean_over_the_kinds():
    assert image_quality([np.array([0.5]), np.array([]), np.array([0.25])]) == pytest.approx(
        (0.5 * 1 * 0.25) ** (1 / 3)
    )


@given(st.lists(st.floats(0, 1), min_size=1, max_size=20))
def test_law_the_softmin_is_between_the_lowest_and_the_mean(values):
    found = softmin(np.array(values))
    assert min(values) - 1e-12 <= found <= np.mean(values) + 1e-12
