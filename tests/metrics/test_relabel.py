"""Laws of detections under other classes; the oracle of merged ones is torchvision's NMS."""

import numpy as np
import pytest
import torch
from torchvision.ops import batched_nms

from drivetl.metrics.relabel import MERGE_IOU, relabelled
from drivetl.metrics.results import Results


def random_results(n, n_images, n_classes, seed=0):
    rng = np.random.default_rng(seed)
    boxes = np.column_stack([rng.uniform(0, 30, (n, 2)), rng.uniform(10, 40, (n, 2))])
    return Results.of(rng.integers(1, n_images + 1, n), rng.integers(1, n_classes + 1, n), boxes, rng.random(n))


@pytest.mark.parametrize("n", [0, 1, 40, 400])
def test_merged_classes_are_those_of_nms(n):
    """Each detection of an image is of another class, so that torchvision's NMS compares the same pairs."""
    found = random_results(n, 5, 1)
    found.category_id[:] = np.arange(1, n + 1)
    to = {number: 1 + number % 2 for number in range(1, n + 1)}
    merged = relabelled(found, to)
    labels = found.category_id % 2 + 1
    corners = torch.from_numpy(found.boxes_xywh.copy())
    corners[:, 2:] += corners[:, :2]
    groups = torch.from_numpy(found.image_id * 10 + labels)
    kept = sorted(batched_nms(corners, torch.from_numpy(found.scores), groups, MERGE_IOU).tolist())
    assert merged.boxes_xywh.tolist() == found.boxes_xywh[kept].tolist() and (n < 40 or len(kept) < n)
    assert merged.category_id.tolist() == labels[kept].tolist()


def test_law_detections_of_one_class_never_hide_each_other():
    found = random_results(200, 3, 4)
    merged = relabelled(found, {1: 2})
    assert merged.scores.tolist() == found.scores[found.category_id == 1].tolist()
    assert set(merged.category_id.tolist()) == {2}


def test_law_a_permutation_and_its_inverse_are_the_identity():
    found = random_results(100, 3, 3)
    there = relabelled(found, {1: 3, 2: 1, 3: 2})
    back = relabelled(there, {3: 1, 1: 2, 2: 3})
    assert back.category_id.tolist() == found.category_id.tolist() and back.scores.tolist() == found.scores.tolist()


def test_masks_stay_with_their_detections():
    found = random_results(6, 1, 2)
    found.segmentations = [{"size": [1, number + 1], "counts": "1"} for number in range(6)]
    kept = relabelled(found, {2: 1})
    assert [mask["size"][1] - 1 for mask in kept.segmentations] == np.flatnonzero(found.category_id == 2).tolist()
