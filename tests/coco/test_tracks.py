"""Laws of the tracker: ids follow the objects, and depend neither on the order of boxes nor on scale and place."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from drivetl.coco.tracks import NO_TRACKS, associate

side = st.integers(1, 40)
boxes = st.lists(st.tuples(st.integers(0, 80), st.integers(0, 80), side, side), max_size=6, unique=True).map(
    lambda rows: np.array([(x, y, x + w, y + h) for x, y, w, h in rows], np.float64).reshape(-1, 4)
)
frames = st.lists(boxes, min_size=1, max_size=4)


def run(all_boxes, all_labels=None, **options):
    """The ids of each frame."""
    tracks, ids = NO_TRACKS, []
    for number, box in enumerate(all_boxes):
        label = np.ones(len(box), int) if all_labels is None else all_labels[number]
        tracks, of_frame = associate(tracks, box, label, **options)
        ids.append(of_frame.tolist())
    return ids


@given(frames)
def test_law_ids_are_unique_in_a_frame_and_new_ones_are_never_used_before(all_boxes):
    used: set[int] = set()
    for of_frame in run(all_boxes, patience=2):
        assert len(set(of_frame)) == len(of_frame) and all(number >= 1 for number in of_frame)
        new = [number for number in of_frame if number not in used]
        assert sorted(new) == list(range(len(used) + 1, len(used) + 1 + len(new)))
        used.update(of_frame)


@settings(max_examples=50)
@given(frames, st.randoms(use_true_random=False))
def test_law_the_order_of_boxes_does_not_matter(all_boxes, random):
    orders = [random.sample(range(len(box)), len(box)) for box in all_boxes]
    shuffled = run([box[order] for box, order in zip(all_boxes, orders, strict=True)])
    for plain, other, order in zip(run(all_boxes), shuffled, orders, strict=True):
        assert [plain[position] for position in order] == other


@settings(max_examples=50)
@given(frames, st.sampled_from([0.5, 2.0, 8.0]), st.integers(-64, 64))
def test_law_scale_and_place_do_not_matter(all_boxes, scale, shift):
    assert run([box * scale + shift for box in all_boxes]) == run(all_boxes)


@given(boxes)
def test_law_what_stands_still_keeps_its_id(box):
    first, second, third = run([box, box, box])
    assert first == second == third


def test_an_object_that_moves_keeps_its_id_and_another_class_never_takes_it():
    path = [[[10 + 6 * n, 20, 40 + 6 * n, 50]] for n in range(8)]
    assert run(path) == [[1]] * 8
    assert run(path, [[1], [2], [1], [2], [1], [2], [1], [2]], patience=1) == [[1], [2]] * 4


def test_a_gap_within_the_patience_keeps_the_id_and_a_longer_one_ends_it():
    here, nothing = np.array([[10.0, 10, 50, 50]]), np.zeros((0, 4))
    for patience in (1, 3):
        assert run([here, *[nothing] * patience, here], patience=patience)[-1] == [1]
        assert run([here, *[nothing] * (patience + 1), here], patience=patience)[-1] == [2]
    assert run([nothing, nothing]) == [[], []]


def test_the_best_overlap_wins():
    first = np.array([[0, 0, 20, 20], [30, 0, 50, 20]])
    second = np.array([[4, 0, 24, 20], [31, 0, 51, 20], [1, 0, 21, 20]])
    assert run([first, second]) == [[1, 2], [3, 2, 1]]
    assert sorted(run([first, second], min_iou=1.0)[1]) == [3, 4, 5]


@pytest.mark.parametrize("box", [[[5, 5, 5, 9]], [[0, 0, 0, 0]]])
def test_a_box_without_area_is_a_track_of_one_frame(box):
    assert run([box, box]) == [[1], [2]]
