"""Drawn frames: classes, outcomes, masks and track ids, and two models together."""

import cv2
import numpy as np
import pytest
from planted import CLASSES

from drivetl.coco.detections import Detections
from drivetl.coco.masks import encode
from drivetl.coco.records import IgnoreRegion, ImageRecord
from drivetl.draw.palette import FOUND, INVENTED, MISSED, UNCOUNTED, colour_of
from drivetl.prediction import outcomes
from drivetl.prediction.drawing import annotated, together
from drivetl.prediction.outcomes import Outcome
from drivetl.prediction.results import Found

GREY = np.full((200, 320, 3), 128, np.uint8)


def found(boxes, labels, masks=None, **extra):
    boxes = np.array(boxes, np.float32).reshape(-1, 4)
    record = extra.pop("record", ImageRecord(1, "a.png", 320, 200))
    return Found(record, Detections(boxes, np.full(len(boxes), 0.9, np.float32), np.array(labels, int), masks), **extra)


def colours_in(image):
    return {tuple(pixel) for pixel in image.reshape(-1, 3).tolist()}


def test_no_detection_leaves_the_frame_as_it_is():
    assert (annotated(GREY, found([], []), CLASSES) == GREY).all()


def test_boxes_have_the_colour_of_their_class():
    drawn = colours_in(annotated(GREY, found([[20, 60, 90, 120], [150, 60, 180, 150]], [1, 2]), CLASSES))
    assert {colour_of("car"), colour_of("pedestrian")} <= drawn and FOUND not in drawn


def test_outcomes_have_their_own_colours_and_missed_objects_are_dashed():
    outcome = Outcome(
        [outcomes.FOUND, outcomes.INVENTED, outcomes.UNCOUNTED], np.array([[220.0, 60, 280, 150]]), np.array([1])
    )
    boxes = [[10, 60, 60, 120], [80, 60, 130, 120], [150, 60, 190, 120]]
    record = ImageRecord(1, "a.png", 320, 200, ignore_regions=[IgnoreRegion((140, 150, 60, 40), 2400)])
    drawn = annotated(GREY, found(boxes, [1, 1, 2], record=record), CLASSES, outcome)
    assert {FOUND, INVENTED, MISSED, UNCOUNTED} <= colours_in(drawn) and colour_of("car") not in colours_in(drawn)
    for x, colour, solid in ((10, FOUND, True), (80, INVENTED, True), (220, MISSED, False)):
        share = (drawn[61:119, x] == colour).all(axis=1).mean()
        assert share == 1 if solid else 0.4 < share < 0.8
    assert (drawn[152:188, 142:198] != 128).any()  # the ignore region is hatched


def test_masks_are_filled_and_ids_are_written():
    mask = np.zeros((200, 320), np.uint8)
    cv2.circle(mask, (60, 90), 25, 1, -1)
    boxes = [[35, 65, 86, 116]]
    drawn = annotated(GREY, found(boxes, [1], [encode(mask)]), CLASSES)
    inside = 0.55 * 128 + 0.45 * np.array(colour_of("car"))
    assert np.abs(drawn[90, 60] - inside).max() <= 1 and (drawn[67, 37] == 128).all()
    plain = annotated(GREY, found(boxes, [1]), CLASSES)
    named = annotated(GREY, found(boxes, [1], track_ids=np.array([12])), CLASSES)
    assert (plain[65:116, 35:86] == named[65:116, 35:86]).all() and (plain[:64] != named[:64]).any()


@pytest.mark.parametrize(("height", "width"), [(200, 320), (100, 320)])
def test_law_two_frames_are_together_whole_and_in_order(height, width):
    left, right = np.full((height, width, 3), 30, np.uint8), np.full((height, width, 3), 220, np.uint8)
    both = together([left, right], ["first run", "a second run with a name that is too long for its strip of text" * 3])
    for shade in (30, 220):
        assert (both == shade).all(axis=2).sum() >= height * width
    stacked = width > height * 16 / 9
    assert both.shape[1] == (width if stacked else 2 * width)
    first, second = (np.argwhere((both == shade).all(axis=2)).mean(axis=0) for shade in (30, 220))
    assert first[0 if stacked else 1] < second[0 if stacked else 1]
    assert together([left], ["alone"]) is left
