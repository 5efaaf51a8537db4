"""An AP of exactly zero is explained from the data."""

import numpy as np
import pytest
from simulated import drives

from drivetl.metrics.results import Results
from drivetl.metrics.zero_ap import explain_zero


@pytest.mark.parametrize(
    ("change", "cause"),
    [
        (lambda box: box, "class ids differ"),
        (lambda box: np.hstack([box[:, :2], box[:, :2] + box[:, 2:]]), "x1, y1, x2, y2"),
        (lambda box: np.hstack([box[:, :2] + box[:, 2:] / 2, box[:, 2:]]), "centre x"),
        (lambda box: box / 375, "fractions of the image size"),
        (lambda box: box + 5000, ""),
    ],
)
def test_law_a_zero_is_explained_by_what_makes_the_boxes_match(change, cause):
    truth = drives(5)
    truth.boxes_xywh[:] += [40, 90, 0, 0]
    boxes = change(truth.boxes_xywh)
    results = Results.of(truth.image_ids[truth.image], np.full(len(boxes), 9), boxes, np.full(len(boxes), 0.9))
    text = explain_zero(truth, results)
    assert cause in text and bool(text) == bool(cause)
