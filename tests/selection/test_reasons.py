"""The reasons, word for word."""

import numpy as np
import pytest

from drivetl.coco.detections import Detections
from drivetl.coco.records import ImageRecord
from drivetl.selection.choose import Choice
from drivetl.selection.pool import Frame
from drivetl.selection.reasons import reasons_of

CATEGORIES = ("car", "person", "bus", "person_sitting")


def found(*rows):
    """Detections of (score, class name), best first."""
    rows = sorted(rows, reverse=True)
    labels = np.array([CATEGORIES.index(name) + 1 for _, name in rows], np.int64)
    return Detections(np.zeros((len(rows), 4), np.float32), np.array([score for score, _ in rows], np.float32), labels)


def why(*detections, frames=None, labelled=None, **facts):
    frames = frames or [Frame(ImageRecord(n + 1, f"{n}.png", 9, 9), "X") for n in range(len(detections))]
    known = {"is_far": False, "first_of_drive": False, "first_of_conditions": False, "alone_in_drive": False} | facts
    choices = [Choice(index, 1.0, 1.0, **known) for index in range(len(detections))]
    return reasons_of(choices, frames, detections, CATEGORIES, np.ones(4), labelled)


@pytest.mark.parametrize(
    ("rows", "text"),
    [
        ([(0.4, "car")] * 5, "uncertain: 5 cars near 0.4"),
        ([(0.35, "car"), (0.45, "car"), (0.6, "bus")], "uncertain: 2 cars near 0.4 and 1 bus near 0.6"),
        ([(0.5, "person")] * 2 + [(0.3, "bus")] * 2, "uncertain: 2 people near 0.5 and 2 buses near 0.3"),
        ([(0.5, "person_sitting")] * 3 + [(0.95, "car")], "uncertain: 3 x person_sitting near 0.5"),
        ([(0.5, "car"), (0.4, "bus"), (0.2, "person")], "uncertain: 1 car near 0.5 and 1 bus near 0.4"),
        ([], "nothing detected: look for missed objects"),
    ],
)
def test_doubts_in_words(rows, text):
    assert why(found(*rows)) == [[text]]


def test_a_class_is_new_once_and_not_in_the_first_frame():
    sure_car, sure_bus = found((0.99, "car")), found((0.99, "bus"), (0.99, "car"))
    assert why(sure_car, sure_bus, sure_bus)[1:] == [["first with a bus"], ["the best of those left"]]
    assert why(sure_car, labelled=frozenset({3})) == [["first with a car"]]
    assert why(sure_car, labelled=frozenset({1, 3})) == [["the best of those left"]]


def test_conditions_drives_and_distance():
    night = [Frame(ImageRecord(1, "1.png", 9, 9), "X", 0.0, (("timeofday", "night"), ("weather", "")))]
    sure = found((0.99, "car"))
    assert why(sure, frames=night, alone_in_drive=True, first_of_conditions=True) == [["only night frame of X"]]
    assert why(sure, frames=night, first_of_conditions=True, is_far=True) == [
        ["first night frame", "unlike the frames chosen before"]
    ]
    assert why(sure, is_far=True, labelled=frozenset({1})) == [["unlike the labelled frames and those chosen before"]]
    assert why(sure, first_of_drive=True) == [["first of X"]]


def test_law_every_frame_has_a_reason():
    rng = np.random.default_rng(0)
    rows = [[(float(rng.random()), CATEGORIES[rng.integers(4)]) for _ in range(rng.integers(5))] for _ in range(50)]
    assert all(1 <= len(reasons) <= 4 for reasons in why(*(found(*row) for row in rows)))
