"""Every public function that takes an array says what it got and what it expects, and computes nothing from it."""

from pathlib import Path

import numpy as np
import pytest
import torch

from drivetl.coco import masks
from drivetl.coco.detections import Detections
from drivetl.conditions import apply
from drivetl.draw import objects as draw
from drivetl.errors import DataError
from drivetl.export.onnx import export
from drivetl.files.arrays import numbers
from drivetl.metrics import coco_ap
from drivetl.metrics.match_store import match
from drivetl.metrics.results import Results, of_image

IMAGE = np.full((40, 60, 3), 120, np.uint8)
BOXES = [[1.0, 2.0, 30.0, 20.0]]
MASK = np.zeros((40, 60), np.uint8)

TAKES_IMAGE = {
    "conditions.apply": lambda image: apply(image, "fog", 1, 0),
    "draw_objects": lambda image: draw.draw_objects(image, BOXES, [1]),
    "resize_to_width": lambda image: draw.resize_to_width(image, 30),
    "contact_sheet": lambda image: draw.contact_sheet([("a", image)], 1, 60),
    "jpeg": draw.jpeg,
    "png": draw.png,
    "export": lambda image: export(None, Path("never.onnx"), 40, 60, [image]),
}
WRONG_IMAGES = {
    "floats of 0..1": (IMAGE / 255, "float64 array with values 0.47", "255 * image"),
    "floats of 0..255": (IMAGE.astype(np.float32), "float32 array with values 120", "astype(np.uint8)"),
    "channels first": (IMAGE.transpose(2, 0, 1), "(3, 40, 60) uint8 array", "transpose(1, 2, 0)"),
    "grey": (IMAGE[..., 0], "(40, 60) uint8 array", "np.stack"),
    "with alpha": (np.zeros((40, 60, 4), np.uint8), "(40, 60, 4) uint8 array", "image[..., :3]"),
    "a batch": (IMAGE[None], "(1, 40, 60, 3) uint8 array", "one by one"),
    "empty": (IMAGE[:0], "(0, 60, 3) uint8 array", "at least one pixel"),
    "a list": (IMAGE.tolist(), "a list", "(H, W, 3) uint8 RGB array"),
    "a tensor": (torch.from_numpy(IMAGE), "(40, 60, 3) uint8 tensor", "(H, W, 3) uint8 RGB array"),
}


@pytest.mark.parametrize("function", TAKES_IMAGE)
@pytest.mark.parametrize("wrong", WRONG_IMAGES)
def test_law_a_wrong_image_is_refused(function, wrong):
    if function == "export":
        pytest.importorskip("onnxruntime")
    image, given, remedy = WRONG_IMAGES[wrong]
    with pytest.raises(DataError) as caught:
        TAKES_IMAGE[function](image)
    assert given in caught.value.reason and remedy in caught.value.remedy


def store():
    truth = {
        "images": [{"id": number, "width": 60, "height": 40} for number in (1, 2)],
        "categories": [{"id": 1, "name": "car"}],
        "annotations": [{"image_id": 1, "category_id": 1, "bbox": [1, 2, 29, 18]}],
    }
    return match(truth, Results.of([1], [1], [[1, 2, 29, 18]], [0.9]))


WRONG_ARRAYS = {
    "boxes to draw": (lambda: draw.draw_objects(IMAGE, [1.0, 2.0, 3.0, 4.0], [1]), r"boxes is \(4\) float64"),
    "boxes of texts": (lambda: draw.draw_objects(IMAGE, [["1", "2", "3", "4"]], [1]), r"boxes is .*<U1"),
    "labels to draw": (lambda: draw.draw_objects(IMAGE, BOXES, [1, 2]), "1 boxes but 2 labels"),
    "scores to draw": (lambda: draw.draw_objects(IMAGE, BOXES, [1], scores=[]), "1 boxes but 0 scores"),
    "masks to draw": (lambda: draw.draw_objects(IMAGE, BOXES, [1], masks=[MASK.T]), r"masks\[0\] is \(60, 40\) uint8"),
    "regions to draw": (lambda: draw.draw_objects(IMAGE, [], [], ignore_boxes=[[1, 2]]), r"boxes is \(1, 2\)"),
    "boxes of results": (lambda: Results.of([1], [1], [[1, 2, 3]], [0.5]), r"boxes_xywh is \(1, 3\)"),
    "scores of results": (lambda: Results.of([1], [1], BOXES, [[0.5]]), r"scores is \(1, 1\)"),
    "fewer scores": (lambda: Results.of([1, 1], [1, 1], BOXES * 2, [0.5]), "2 boxes_xywh, 1 scores"),
    "ids with decimals": (lambda: Results.of([1.5], [1], BOXES, [0.5]), "image_id .* not whole numbers"),
    "ids of NaN": (lambda: Results.of([1], [np.nan], BOXES, [0.5]), "category_id .* not whole numbers"),
    "masks of results": (lambda: Results.of([1], [1], BOXES, [0.5], []), "0 segmentations"),
    "detections": (lambda: of_image(1, Detections(np.ones((2, 4), "f4"), np.ones(3), np.ones(2))), "3 scores"),
    "weights of AP": (lambda: coco_ap.ap(store(), 0.5, np.ones((5, 3))), r"weights is \(5, 3\)"),
    "a mask of 255": (lambda: masks.encode(MASK + 255), "mask is .* values 255 to 255"),
    "a mask of probabilities": (lambda: masks.encode(MASK + 0.5), "not whole numbers"),
    "masks as a batch": (lambda: masks.encode(MASK[None]), r"mask is \(1, 40, 60\)"),
    "depth": (lambda: apply(IMAGE, "fog", 1, 0, depth=np.ones((60, 40), "f4")), r"depth .* \(60, 40\)"),
    "vehicles": (lambda: apply(IMAGE, "night", 1, 0, vehicles=np.ones((1, 5))), r"vehicles is \(1, 5\)"),
}


@pytest.mark.parametrize("case", WRONG_ARRAYS)
def test_law_a_wrong_array_is_refused(case):
    call, message = WRONG_ARRAYS[case]
    with pytest.raises(DataError, match=message) as caught:
        call()
    assert caught.value.remedy.startswith("pass ")


def test_right_arguments_pass():
    assert draw.draw_objects(IMAGE, np.zeros((0, 4)), []).shape == IMAGE.shape
    assert len(Results.of([], [], [], [])) == 0 and Results.of([1.0], [1], BOXES, [1]).image_id.dtype == np.int64
    assert masks.encode(MASK > 0) == masks.encode(MASK) == masks.encode(MASK.astype(float))
    assert coco_ap.ap(store(), 0.5, np.ones(2)) == coco_ap.ap(store(), 0.5)
    assert np.array_equal(apply(IMAGE, "fog", 2, 0, depth=np.full((40, 60), 30.0, "f4")).shape, IMAGE.shape)


def test_numbers_is_no_copy_of_an_array():
    array = np.ones((3, 4))
    assert numbers(array, "x", ("N", 4)) is array and numbers([], "x", ("N", 4)).shape == (0, 4)
    for wrong in ([[1, 2], [3]], None, "x", [None], {"a": 1}):
        with pytest.raises(DataError, match=r"x is .* - pass numbers of shape \(N, 4\)"):
            numbers(wrong, "x", ("N", 4))
