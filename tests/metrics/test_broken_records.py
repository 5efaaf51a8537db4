"""Invalid records are refused by their position, never shifted, truncated or decoded."""

import numpy as np
import pytest

from drivetl.coco.records import Annotation, Dataset, ImageRecord
from drivetl.errors import DataError
from drivetl.metrics.kitti_objects import labels_of
from drivetl.metrics.match_store import match
from drivetl.metrics.truth import from_coco

GOOD = {"image_id": 1, "category_id": 1, "bbox": [10, 10, 30, 30], "score": 0.5}
SQUARE = [[10, 10, 40, 10, 40, 40, 10, 40]]


def truth(annotation=(), image=(), categories=("car",)):
    box = {"id": 1, "image_id": 1, "category_id": 1, "bbox": [10, 10, 30, 30], "segmentation": SQUARE}
    return {
        "images": [{"id": 1, "width": 100, "height": 80} | dict(image)],
        "categories": [{"id": 1, "name": name} for name in categories],
        "annotations": [box | dict(annotation)],
    }


@pytest.mark.parametrize(
    ("first", "second", "message"),
    [
        ({"bbox": [0, 0, 5, 5, 0.9]}, {}, r"\[0\]: .* not four numbers"),
        ({"bbox": [0, 0, 5, 5, 0.9]}, {"bbox": [0, 0, 5, 5, 0.9]}, r"\[0\]: .* not four numbers"),
        ({"bbox": [0, 0, 5]}, {"bbox": [5, 0, 0, 5, 5]}, r"\[0\]: .* not four numbers"),
        ({}, {"bbox": "1234"}, r"\[1\]: .*'1234', not four numbers"),
        ({}, {"bbox": ["1", "2", "3", "4"]}, r"\[1\]: .* not four numbers"),
        ({}, {"category_id": 1.7}, r"\[1\]: .*category_id is 1.7, not a whole number"),
        ({"image_id": 1.5}, {"image_id": 1.5}, r"\[0\]: .*image_id is 1.5, not a whole number"),
        ({}, {"image_id": 10**30}, r"\[1\]: .*image_id is 1\d*, not a whole number"),
        ({}, {"bbox": [0, 0, 1e200, 1e200]}, r"\[1\]: bbox .* is not finite or far beyond any image"),
        ({}, {"bbox": None, "segmentation": {"size": [80, 100], "counts": "!!!!~~~~"}}, r"\[1\]: .*text form"),
        ({}, {"bbox": None, "segmentation": {"size": [80, 100], "counts": [-5, 8005]}}, r"\[1\]: .*do not fill"),
    ],
)
def test_broken_detections(first, second, message):
    with pytest.raises(DataError, match=message):
        match(truth(), [GOOD | first, GOOD | second])


@pytest.mark.parametrize(
    "mask",
    [
        {"size": [80, 100], "counts": "!!!!~~~~"},
        {"size": [80, 100], "counts": [0, 80]},
        {"size": [80, 100], "counts": [-5, 8005]},
        {"counts": [0, 8000]},
        "abc",
        [[10, 10, 40, 10, 40, 40, 10]],
    ],
)
def test_broken_masks(mask):
    """The position is that in the results, not that by score."""
    sound = GOOD | {"segmentation": SQUARE, "score": 0.1}
    with pytest.raises(DataError, match=r"^\[1\]: |image 1: ") as error:
        match(truth(), [sound, sound | {"segmentation": mask, "score": 0.9}], "segm")
    assert error.value.remedy
    with pytest.raises(DataError, match="an object of image 1: "):
        match(truth({"segmentation": mask}), [sound], "segm")


@pytest.mark.parametrize(
    ("document", "message"),
    [
        (truth(categories=("car", "van")), "category id 1 is duplicated"),
        (truth(image={"id": 1.5}), r"images\[0\]: id is 1.5, not a whole number"),
        (truth({"image_id": [1]}), r"annotations\[0\].*\[1\]"),
        (truth(image={"attributes": "x"}), r"images\[0\]: attributes is 'x', not an object"),
        (truth({"attributes": [1]}), r"annotations\[0\]: attributes is \[1\], not an object"),
        (truth({"iscrowd": "0"}), r"annotations\[0\]: iscrowd is '0', not 0 or 1"),
        (truth({"bbox": [0, 0, 1e200, 1e200], "area": 5}), r"annotations\[0\]: bbox .* is not finite"),
    ],
)
def test_broken_truth(document, message):
    with pytest.raises(DataError, match=message):
        from_coco(document)


@pytest.mark.parametrize(("given", "crowd"), [(None, False), (0, False), (1, True), (True, True), (False, False)])
def test_crowds(given, crowd):
    np.testing.assert_array_equal(from_coco(truth({"iscrowd": given})).crowd, [crowd])


def test_kittis_rules_want_kittis_classes(tmp_path):
    image = ImageRecord(1, "a.png", 320, 240)
    image.annotations = [Annotation(1, (0, 0, 50, 50), 2500.0)]
    with pytest.raises(DataError, match=r"not from KITTI: no object .*\(classes: lorry\)"):
        labels_of(Dataset(("lorry",), [image], tmp_path))
    assert len(labels_of(Dataset(("lorry",), [image], tmp_path, {"source": "kitti"})).names) == 1
