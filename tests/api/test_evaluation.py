"""`drivetl.evaluate` gives the command's numbers for every form of ground truth and results."""

import json

import numpy as np
import pytest
from planted import PlantedDetector, planted_dataset

import drivetl
from drivetl.metrics import coco_ap
from drivetl.metrics.match_store import match
from drivetl.prediction.images import predict
from drivetl.prediction.results import coco_results


@pytest.fixture
def case(tmp_path):
    """(ground truth json, rows of results, their json): a detector that misses the faint objects."""
    path = planted_dataset(tmp_path / "data", n_images=10, n_drives=5)
    data = drivetl.read_dataset(path)
    rows = [row for image, found in predict(PlantedDetector(150), data) for row in coco_results(image.id, found)]
    (tmp_path / "results.json").write_text(json.dumps(rows))
    return path, rows, tmp_path / "results.json"


def test_law_every_form_gives_the_same_numbers(case):
    path, rows, file = case
    expected = coco_ap.summarize(match(json.loads(path.read_text()), rows)).named()
    for gt in (str(path), path, drivetl.read_dataset(path), json.loads(path.read_text())):
        for results in (str(file), file, [file], rows, tuple(rows)):
            assert drivetl.evaluate(gt, results).named() == pytest.approx(expected, nan_ok=True)


def test_it_has_numbers_classes_and_an_interval(case):
    path, rows, _ = case
    found = drivetl.evaluate(path, rows)
    assert 0 < found.ap < 1 and found.ap50 == found.named()["AP50"]
    assert set(found.per_class) == {"car", "pedestrian"} and found.per_class["car"]["n_gt"] > 0
    assert found.n_images == 10 and found.n_objects == 36
    interval = found.interval("AP50", draws=200)
    assert interval.point == pytest.approx(found.ap50) and interval.low < interval.point < interval.high
    with pytest.raises(drivetl.DrivetlError, match="no interval of 'AP05'"):
        found.interval("AP05")


def test_few_images_have_no_interval(tmp_path):
    path = planted_dataset(tmp_path / "d", n_images=3)
    data = drivetl.read_dataset(path)
    rows = [row for image, found in predict(PlantedDetector(), data) for row in coco_results(image.id, found)]
    interval = drivetl.evaluate(data, rows).interval()
    assert interval.point == pytest.approx(1.0) and np.isnan(interval.low) and np.isnan(interval.high)


def test_it_is_shown_as_text_and_as_html(case):
    path, rows, _ = case
    data = drivetl.read_dataset(path)
    data.categories = ("<b>car", "pedestrian")
    found = drivetl.evaluate(data, rows)
    assert f"AP50  {found.ap50:.3f}".replace("  ", " ") in " ".join(str(found).split())
    assert "10 images, 36 objects" in repr(found)
    page = found._repr_html_()
    assert page.count("<table>") == 2 and "&lt;b&gt;car" in page and "<b>" not in page


def test_no_detections_is_zero_with_a_warning(case, capsys):
    found = drivetl.evaluate(case[0], [])
    assert found.ap == 0 and "10 of 10 images have no detections" in found.warnings[0]
    assert "10 of 10 images" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("results", "message"),
    [
        ("nothing.json", r"nothing\.json: cannot be read"),
        ({"a": 1}, "the results are a dict"),
        ([{"image_id": 1}], r"\[0\]: .*category_id"),
        ([{"image_id": 99, "category_id": 1, "bbox": [1, 2, 3, 4], "score": 0.5}], "image_id 99 is not in the ground"),
        ([{"image_id": 1, "category_id": 1, "bbox": [1, 2, 3, 4], "score": 0.5}, 7], r"results\[0\] is a dict"),
        ([7], r"results\[0\] is a int"),
    ],
)
def test_wrong_results_are_named(case, results, message):
    with pytest.raises(drivetl.DrivetlError, match=message):
        drivetl.evaluate(case[0], results)


def test_other_wrong_arguments(case):
    with pytest.raises(drivetl.DrivetlError, match="the ground truth is a int"):
        drivetl.evaluate(5, [])
    with pytest.raises(drivetl.DrivetlError, match="iou_type is 'box'"):
        drivetl.evaluate(case[0], [], iou_type="box")


def test_a_dataset_is_shown_in_a_line(case):
    data = drivetl.read_dataset(str(case[0]))
    assert repr(data) == "Dataset(10 images, 36 objects, 2 classes: car, pedestrian)"
    assert repr(data.subset(data.images[:2])).startswith("Dataset(2 images")
