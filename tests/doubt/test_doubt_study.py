"""The study of wrong labels: what is planted, and its measures against numbers computed by hand."""

import sys
from pathlib import Path

import numpy as np
import pytest
from doubt_cases import perfect, street

from drivetl.doubt.find import find
from drivetl.doubt.kinds import KINDS


@pytest.fixture
def study(monkeypatch):
    monkeypatch.setattr(sys, "path", [str(Path(__file__).parents[2] / "tools"), *sys.path])
    from studies import doubt

    return doubt


def test_the_planted_faults_are_what_they_say(study):
    true = street(n_images=26, seed=1)
    faulty, faults = study.plant(true, 0)
    again, same = study.plant(true, 0)
    assert (again, same) == (faulty, faults) != study.plant(true, 1)
    assert [sum(fault.kind == kind for fault in faults) for kind in KINDS] == [5, 5, 5]  # 5 % of 100
    before, after = ({image.id: image.annotations for image in one.images} for one in (true, faulty))
    touched = [fault.true for fault in faults]
    for image_id, labels in before.items():
        assert [item for item in labels if item not in touched] == [item for item in after[image_id] if item in labels]
    for fault in faults:
        if fault.annotation is None:
            assert fault.kind == "overlooked" and fault.true not in after[fault.image_id]
            continue
        item = after[fault.image_id][fault.annotation]
        moved = np.subtract(item.bbox_xywh, fault.true.bbox_xywh) / np.array(fault.true.bbox_xywh)[[2, 3, 2, 3]]
        assert (item.category_id != fault.true.category_id) == (fault.kind == "swapped")
        assert (
            np.hypot(*moved[:2]) == pytest.approx(0.3 if fault.kind == "badly_located" else 0) and not moved[2:].any()
        )


def test_law_a_perfect_detector_finds_every_planted_fault(study):
    true = street(n_images=26, seed=1)
    faulty, faults = study.plant(true, 0)
    doubts = find(faulty, perfect(true)).doubts
    for kind in KINDS:
        of_kind = [fault for fault in faults if fault.kind == kind]
        ranking = study.ranked(faulty, [row for row in doubts if row.kind == kind], of_kind)
        per_image = np.bincount([fault.image_id - 1 for fault in of_kind], minlength=26).astype(float)
        assert study.average_precision(ranking, per_image, np.ones((1, 26))) == [1.0]
        assert [value.item() for value in study.at_threshold(ranking, per_image, 0.2, np.ones((1, 26)))] == [1.0, 1.0]


def test_the_measures_are_those_computed_by_hand(study):
    ranking = study.Ranking(np.array([0, 1, 0]), np.array([0.9, 0.8, 0.5]), np.array([1.0, 0.0, 1.0]))
    faults, weights = np.array([3.0, 1.0]), np.array([[1.0, 1.0], [2.0, 0.0]])
    np.testing.assert_allclose(study.average_precision(ranking, faults, weights), [(1 + 2 / 3) / 4, (2 + 2) / 6])
    precision, recall = study.at_threshold(ranking, faults, 0.8, weights)
    np.testing.assert_allclose(precision, [0.5, 1.0])
    np.testing.assert_allclose(recall, [1 / 4, 2 / 6])
    assert np.isnan(study.at_threshold(ranking, faults, 0.95, weights)[0]).all()
