import numpy as np
import pytest
from coco_cases import oracle, random_case

from drivetl.evaluation import coco_ap
from drivetl.evaluation.store import match


def assert_equal_to_pycocotools(truth, results, iou_type="bbox"):
    theirs = oracle(truth, results, iou_type)
    ours = coco_ap.summarize(match(truth, results, iou_type))
    np.testing.assert_allclose(ours.precision, theirs.eval["precision"], rtol=0, atol=1e-12)
    np.testing.assert_allclose(ours.recall, theirs.eval["recall"], rtol=0, atol=1e-12)
    np.testing.assert_allclose(ours.stats, theirs.stats, rtol=0, atol=1e-12)


@pytest.mark.parametrize("coarse", [True, False])
@pytest.mark.parametrize("seed", range(40))
def test_equals_pycocotools_on_boxes(seed, coarse):
    assert_equal_to_pycocotools(*random_case(seed, coarse=coarse))


@pytest.mark.parametrize("seed", range(6))
def test_equals_pycocotools_on_masks(seed):
    assert_equal_to_pycocotools(*random_case(seed, n_images=6, masks=True), "segm")
