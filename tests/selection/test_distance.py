"""How different two frames are: by hand, and as laws on random ones."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from drivetl.selection.distance import FARTHEST, MOST_OBJECTS, distances_to, nearest_distances, objects_of


def frames(*rows):
    """Each frame a list of (angle in degrees of its 2-D feature, score, label)."""
    features = [
        np.array([(np.cos(np.radians(a)), np.sin(np.radians(a))) for a, _, _ in row], np.float16).reshape(-1, 2)
        for row in rows
    ]
    return objects_of(features, [[s for _, s, _ in row] for row in rows], [[k for _, _, k in row] for row in rows])


def test_oracle_two_frames_by_hand():
    """Frame 0: cars at 0 and 90 degrees, scores 0.9 and 0.3. Frame 1: a car at 60 degrees, 0.5, and a person, 0.5."""
    both = frames([(0, 0.9, 1), (90, 0.3, 1)], [(60, 0.5, 1), (0, 0.5, 2)])
    # from 0: (0.9 (1 - cos 60) + 0.3 (1 - cos 30)) / 1.2; from 1: (0.5 (1 - cos 30) + 0.5 * 2) / 1
    forward = (0.9 * 0.5 + 0.3 * (1 - np.sqrt(3) / 2)) / 1.2
    backward = 0.5 * (1 - np.sqrt(3) / 2) + 0.5 * 2
    assert distances_to(both, both, 1) == pytest.approx([(forward + backward) / 2, 0], abs=2e-3)


def test_frames_without_objects():
    some = frames([], [(10, 0.5, 1)], [])
    assert distances_to(some, some, 0).tolist() == [0, FARTHEST, 0]
    assert distances_to(some, some, 1) == pytest.approx([FARTHEST, 0, FARTHEST], abs=2e-3)
    nothing = objects_of([], [], [])
    assert len(distances_to(nothing, some, 0)) == 0
    assert nearest_distances(some, nothing).tolist() == [FARTHEST] * 3


def test_no_class_in_common_is_farthest():
    some = frames([(0, 0.5, 1)], [(0, 0.5, 2)])
    assert distances_to(some, some, 0)[1] == FARTHEST


OBJECT = st.tuples(st.integers(0, 90), st.floats(0.05, 1), st.integers(1, 3))


@given(st.lists(st.lists(OBJECT, max_size=4), min_size=2, max_size=6))
def test_law_symmetric_and_zero_to_itself_and_within_range(rows):
    some = frames(*rows)
    matrix = np.array([distances_to(some, some, which) for which in range(len(rows))])
    assert np.allclose(matrix, matrix.T, atol=1e-5) and (matrix >= 0).all() and (matrix <= FARTHEST).all()
    assert np.allclose(np.diag(matrix), 0, atol=4e-3)
    assert np.allclose(nearest_distances(some, some), 0, atol=4e-3)


def test_only_the_best_objects_of_a_crowded_frame_are_compared():
    crowd = [(0, 0.9, 1)] * MOST_OBJECTS
    some = frames([*crowd, (90, 0.1, 2)], crowd)
    assert distances_to(some, some, 1)[0] == pytest.approx(0, abs=2e-3)
