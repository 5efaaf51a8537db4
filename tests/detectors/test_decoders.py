"""Each decoder on outputs whose boxes are worked out by hand."""

import math

import numpy as np
import pytest

from drivetl.detectors.decoders import DECODERS, FORMS
from drivetl.detectors.onnx_layout import Layout
from drivetl.errors import DataError


def decode(decoder, arrays, n_classes, size_hw, **keys):
    layout = Layout(decoder=decoder, classes=["a"] * n_classes, **keys)
    outputs = {name: np.asarray(value, np.float64) for name, value in arrays.items()}
    return DECODERS[decoder](outputs, layout, n_classes, size_hw)


def test_yolox_adds_the_cell_and_scales_by_the_stride():
    rows = np.zeros((1, 16 + 4 + 1, 5 + 2), np.float32)  # 32 x 32 px: grids of 4 x 4, 2 x 2 and 1 cells
    rows[0, 6] = 0.5, 0.25, math.log(2), math.log(3), 0.8, 0.1, 0.5  # stride 8, row 1, column 2
    rows[0, 17] = 0, 0, 0, 0, 1, 0.3, 0.2  # stride 16, row 0, column 1
    rows[0, 20] = 0.5, 0.5, 0, math.log(0.5), 0.5, 0, 1  # stride 32
    found = decode("yolox", {"output": rows}, 2, (32, 32))
    # centre ((2 + 0.5) * 8, (1 + 0.25) * 8) = (20, 10), size (2 * 8, 3 * 8) = (16, 24)
    np.testing.assert_allclose(found.boxes[6], [12, -2, 28, 22], atol=1e-5)
    np.testing.assert_allclose(found.boxes[17], [8, -8, 24, 8], atol=1e-5)
    np.testing.assert_allclose(found.boxes[20], [0, 8, 32, 24], atol=1e-5)
    np.testing.assert_allclose(found.scores[[6, 17, 20]], [0.4, 0.3, 0.5], atol=1e-6)
    assert found.numbers[[6, 17, 20]].tolist() == [1, 0, 1]


def test_yolox_of_a_wide_input_and_with_logits():
    rows = np.full((1, 8 + 2, 5 + 1), -100, np.float32)  # 16 x 32 px: 2 x 4 cells, 1 x 2 cells, none of stride 32
    rows[0, 5] = 0, 0, 0, 0, 0, math.log(3)  # stride 8, row 1, column 1; sigmoid(0) * sigmoid(log 3) = 0.5 * 0.75
    found = decode("yolox", {"output": rows}, 1, (16, 32), activation="sigmoid")
    np.testing.assert_allclose(found.boxes[5], [4, 4, 12, 12])
    assert found.scores[5] == pytest.approx(0.375) and found.scores.argmax() == 5


def test_ultralytics_is_a_table_with_a_column_per_candidate():
    columns = [[10, 20, 4, 6, 0.1, 0.7], [100, 50, 20, 10, 0.3, 0.2], [0, 0, 2, 2, 0.5, 0.5]]
    found = decode("ultralytics", {"output0": np.array(columns, np.float32).T[None]}, 2, (640, 640))
    np.testing.assert_allclose(found.boxes, [[8, 17, 12, 23], [90, 45, 110, 55], [-1, -1, 1, 1]])
    np.testing.assert_allclose(found.scores, [0.7, 0.3, 0.5], atol=1e-7)
    assert found.numbers.tolist() == [1, 0, 0]


def test_detr_with_sigmoid_has_a_candidate_per_query_and_class():
    boxes = [[[0.5, 0.5, 0.2, 0.4], [0.25, 0.75, 0.5, 0.5]]]
    logits = [[[0, math.log(3)], [-1000, math.log(9)]]]
    found = decode("detr", {"pred_boxes": boxes, "logits": logits}, 2, (100, 200), activation="sigmoid")
    np.testing.assert_allclose(found.boxes[0], [80, 30, 120, 70])
    np.testing.assert_allclose(found.boxes, found.boxes[[0, 0, 2, 2]])
    np.testing.assert_allclose(found.boxes[2], [0, 50, 100, 100])
    np.testing.assert_allclose(found.scores, [0.5, 0.75, 0, 0.9], atol=1e-12)
    assert found.numbers.tolist() == [0, 1, 0, 1]


def test_detr_with_softmax_leaves_the_last_output_out():
    boxes = [[[0.5, 0.5, 1, 1], [0.5, 0.5, 0.5, 0.5]]]
    logits = [[[math.log(2), math.log(3), math.log(5)], [1000, 0, 0]]]  # 0.2, 0.3 and no object 0.5
    found = decode("detr", {"dets": boxes, "labels": logits}, 2, (10, 10), activation="softmax")
    np.testing.assert_allclose(found.scores, [0.3, 1.0])
    np.testing.assert_allclose(found.boxes, [[0, 0, 10, 10], [2.5, 2.5, 7.5, 7.5]])
    assert found.numbers.tolist() == [1, 0]


@pytest.mark.parametrize(
    ("keys", "box"),
    [
        ({}, [10, 20, 30, 60]),
        ({"box_format": "xywh"}, [10, 20, 40, 80]),
        ({"box_format": "cxcywh"}, [-5, -10, 25, 50]),
        ({"box_unit": "fraction"}, [2000, 2000, 6000, 6000]),
    ],
)
def test_boxes_after_nms_in_every_form(keys, box):
    outputs = {"det_boxes": [[[10, 20, 30, 60]]], "det_scores": [[0.5]], "det_classes": [[3]], "num_dets": [[1]]}
    found = decode("boxes", outputs, 5, (100, 200), **keys)
    np.testing.assert_allclose(found.boxes, [box])
    assert found.scores.tolist() == [0.5] and found.numbers.tolist() == [3]


def test_boxes_of_one_output_and_of_named_ones():
    found = decode("boxes", {"output0": [[[1, 2, 3, 4, 0.5, 7], [5, 6, 7, 8, 0.25, 0]]]}, 9, (10, 10))
    np.testing.assert_allclose(found.boxes, [[1, 2, 3, 4], [5, 6, 7, 8]])
    assert found.scores.tolist() == [0.5, 0.25] and found.numbers.tolist() == [7, 0]
    outputs = {"o1": [[1.0, 2, 3, 4]], "o2": [0.5], "o3": [1]}
    same = decode("boxes", outputs, 2, (10, 10), outputs={"boxes": "o1", "scores": "o2", "labels": "o3"})
    np.testing.assert_allclose(same.boxes, [[1, 2, 3, 4]])
    empty = {"boxes": np.zeros((0, 4)), "scores": np.zeros(0), "labels": np.zeros(0, int)}
    assert decode("boxes", empty, 2, (10, 10)).boxes.shape == (0, 4)


@pytest.mark.parametrize(
    ("decoder", "outputs", "message"),
    [
        ("yolox", {"output": np.zeros((1, 21, 8))}, r"its shape is \(1, 21, 8\), not \(1, 21, 7\)"),
        ("yolox", {"a": np.zeros(1), "b": np.zeros(1)}, "2 outputs, the decoder takes 1"),
        ("ultralytics", {"output": np.zeros((1, 21, 6))}, r"not \(1, 6, N\)"),
        ("detr", {"boxes": np.zeros((1, 5, 4)), "logits": np.zeros((1, 5, 3))}, r"is not logits \(1, Q, 2\)"),
        ("detr", {"boxes": np.zeros((1, 4, 4)), "logits": np.zeros((1, 5, 2))}, "4 boxes, 5 rows of logits"),
        ("detr", {"x": np.zeros((1, 4, 4)), "logits": np.zeros((1, 5, 2))}, "no output is named like boxes - add outp"),
        ("boxes", {"boxes": np.zeros((2, 5, 4)), "scores": np.zeros(5), "labels": np.zeros(5)}, "is not boxes"),
        ("boxes", {"boxes": np.zeros((5, 4)), "scores": np.zeros(4), "labels": np.zeros(5)}, "5 boxes, 4 scores"),
        ("boxes", {"o": np.zeros((1, 4, 7))}, r"an output of \(1, 4, 7\) is not \(N, 6\)"),
        ("boxes", {"o": np.full((1, 4, 6), np.nan)}, "labels contain NaN"),
    ],
)
def test_another_form_is_named(decoder, outputs, message):
    with pytest.raises(DataError, match=message):
        decode(decoder, outputs, 2, (32, 32))


def test_every_decoder_has_its_form_in_words():
    assert list(FORMS) == list(DECODERS)
