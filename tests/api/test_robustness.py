"""`drivetl.evaluate_robustness` measures any detector, and gives the command's numbers for a run of ours."""

import json

import numpy as np
import pytest
import torch
from planted import CLASSES, PlantedDetector, planted_dataset
from robust_run import write_run

import drivetl
from drivetl.cli import main
from drivetl.coco.detections import Detections
from drivetl.coco.masks import encode
from drivetl.detectors.any_detector import AnyDetector, checked

QUICK = {"workers": 0, "draws": 60}


class Own:
    """A user's detector: nothing but categories and infer, answers in any of the accepted forms."""

    categories = CLASSES

    def __init__(self, form):
        self.form, self.planted = form, PlantedDetector()

    def infer(self, images):
        assert all(image.dtype == torch.uint8 and image.shape[0] == 3 for image in images)
        return [self.form(found) for found in self.planted.infer(images)]


FORMS = {
    "detections": lambda found: found,
    "tuple": lambda found: (found.boxes, found.scores, found.labels),
    "lists": lambda found: (found.boxes.tolist(), found.scores.tolist(), found.labels.tolist()),
    "dict of tensors": lambda found: {
        "boxes": torch.from_numpy(found.boxes),
        "scores": torch.from_numpy(found.scores).double(),
        "labels": torch.from_numpy(found.labels),
        "other": None,
    },
    "worst first": lambda found: (found.boxes[::-1], found.scores[::-1], found.labels[::-1]),
}


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return planted_dataset(tmp_path_factory.mktemp("data") / "d", n_images=10, n_drives=5)


@pytest.fixture(scope="module")
def found(data):
    """The results of a user's detector in two conditions."""
    return drivetl.evaluate_robustness(Own(FORMS["tuple"]), data, conditions="fog,night", severities=[1, 5], **QUICK)


def test_any_object_is_measured(found):
    assert found.clean.point == pytest.approx(1.0)
    assert set(found.cells) == {"fog", "night"} and set(found.cells["fog"]) == {1, 5}
    assert found.cells["fog"][5].point < found.cells["fog"][1].point <= 1
    mean = np.mean([cell.point for row in found.cells.values() for cell in row.values()])
    assert found.mpc.point == pytest.approx(mean) and found.mpc.low <= mean <= found.mpc.high
    assert found.rpc.point == pytest.approx(mean / found.clean.point)
    row = found.table()[0]
    assert row["condition"] == "fog" and row["level"] == "UNVERIFIED" and row["images"] == 10
    assert row["s5"] == found.cells["fog"][5].point and row["low"] <= row["mean"] <= row["high"]


@pytest.mark.parametrize("form", ["detections", "lists", "dict of tensors", "worst first"])
def test_law_every_form_of_answer_gives_the_same_numbers(data, found, form):
    other = drivetl.evaluate_robustness(
        Own(FORMS[form]), drivetl.read_dataset(data), conditions=["fog"], severities=[5], **QUICK
    )
    assert other.cells["fog"][5].point == pytest.approx(found.cells["fog"][5].point, abs=1e-6)


def test_law_arrays_on_request_give_the_same_numbers(data, found):
    class OfArrays(Own):
        layout = "HWC"

        def infer(self, images):
            assert all(isinstance(image, np.ndarray) and image.shape[2] == 3 for image in images)
            return super().infer([torch.from_numpy(image).permute(2, 0, 1) for image in images])

    other = drivetl.evaluate_robustness(OfArrays(FORMS["tuple"]), data, conditions="fog", severities=[5], **QUICK)
    assert other.cells["fog"][5].point == found.cells["fog"][5].point


def test_the_report_is_written_and_shown(found, tmp_path):
    page = found.report(str(tmp_path / "report"))
    names = {path.name for path in page.parent.iterdir()}
    assert page.name == "report.html" and names == {
        "report.html",
        "results.json",
        "cells.csv",
        "summary.md",
        "pictures",
    }
    assert "Own, weights unknown" in page.read_text("utf-8")
    assert json.loads((page.parent / "results.json").read_text())["run"]["weights"] is None
    with pytest.raises(drivetl.DrivetlError, match="exists already"):
        found.report(tmp_path / "report")
    with pytest.raises(drivetl.DrivetlError, match="is not a folder"):
        found.report(tmp_path / "page.html")
    html = found._repr_html_()
    assert "<table>" in html and "<svg" in html and "UNVERIFIED" in html
    assert "fog" in str(found) and "Own" in str(found).splitlines()[0] and repr(found).startswith("Robustness(Own: AP ")


def test_law_a_run_gives_the_numbers_of_the_command(data, tmp_path):
    run = write_run(tmp_path / "run")
    ours = drivetl.evaluate_robustness(run, data, conditions="fog", severities=[3], metric="AP50", workers=0, draws=60)
    assert list((run / "robustness" / ".cells").glob("*/*.npz"))
    words = [
        "eval-robustness",
        "--run",
        run,
        "--data",
        data,
        "--conditions",
        "fog",
        "--severities",
        "3",
        "--workers",
        "0",
    ]
    words += ["--metric", "AP50", "--draws", "60", "--out", tmp_path / "out", "--device", "cpu"]
    assert main(list(map(str, words))) == 0
    theirs = json.loads((tmp_path / "out" / "results.json").read_text())
    for key in ("cells", "conditions", "headline", "clean", "run", "protocol"):
        assert json.loads(json.dumps(ours.document[key])) == theirs[key]
    assert theirs["timing"]["inferences"] == 0


def test_a_baseline_is_compared(data):
    weak = PlantedDetector(contrast=150, name="weak", weights_hash="weak")
    found = drivetl.evaluate_robustness(
        PlantedDetector(), data, baseline=weak, conditions="fog", severities=[2], **QUICK
    )
    assert found.table()[0]["delta"] > 0 and "- weak" in str(found)


def test_detections_are_stored_only_when_the_weights_have_a_name(data, tmp_path):
    named = PlantedDetector()
    for _ in range(2):
        drivetl.evaluate_robustness(named, data, conditions="fog", severities=[1], cache=tmp_path / "c", **QUICK)
    assert named.images_seen == 20
    with pytest.raises(drivetl.DrivetlError, match="cannot be stored") as caught:
        drivetl.evaluate_robustness(Own(FORMS["tuple"]), data, conditions="fog", cache=tmp_path / "c", **QUICK)
    assert "weights_hash" in caught.value.remedy


class Nameless:
    categories = CLASSES


@pytest.mark.parametrize(
    ("detector", "options", "message"),
    [
        (object(), {}, "is a object without categories"),
        (type("Odd", (), {"categories": CLASSES, "infer": print, "layout": "BHW"})(), {}, "layout is 'BHW'"),
        (Nameless(), {}, "is a Nameless without infer"),
        (type("Bad", (), {"categories": "car", "infer": print})(), {}, "categories are a str"),
        (type("Few", (), {"categories": ["boat"], "infer": print})(), {}, "no class of the detector is one of"),
        (PlantedDetector(), {"class_map": {"boat": "car"}}, "names 'boat', which is not a class of the detector"),
        ("runs/nothing", {}, "no such folder"),
        (PlantedDetector(), {"severities": [0, 6]}, "severities '0,6'"),
        (PlantedDetector(), {"conditions": ["fogg"]}, "did you mean 'fog'"),
        (PlantedDetector(), {"metric": "mAP"}, "metric is 'mAP'"),
        (PlantedDetector(), {"draws": 3}, "draws is 3"),
    ],
)
def test_wrong_arguments_are_named(data, detector, options, message):
    with pytest.raises(drivetl.DrivetlError, match=message):
        drivetl.evaluate_robustness(detector, data, **{"conditions": "fog", "workers": 0, **options})


GOOD = {"boxes": [[10, 20, 50, 60.0]], "scores": [0.5], "labels": [1]}


@pytest.mark.parametrize(
    ("output", "message", "remedy"),
    [
        (None, "a NoneType", "a dict or a tuple"),
        ({"bbox": 1}, "a dict with the keys bbox", "boxes"),
        (GOOD | {"boxes": [[1, 2, 3]]}, r"boxes \(1, 3\)", "(N, 4)"),
        (GOOD | {"boxes": [[1, 2, 3], [4]]}, "boxes are a list", "numbers"),
        (GOOD | {"scores": [0.5, 0.4]}, r"scores \(2,\)", "as many"),
        (GOOD | {"scores": [float("nan")]}, "scores contain NaN", "finite"),
        (GOOD | {"scores": [7.5]}, "scores from 7.5 to 7.5", "sigmoid"),
        (GOOD | {"labels": [0]}, "labels from 0 to 0, for 2 classes", "add 1"),
        (GOOD | {"labels": [3]}, "labels from 3 to 3, for 2 classes", "label 1 is categories"),
        (GOOD | {"labels": [1.5]}, "not whole numbers", "1..K"),
        (GOOD | {"labels": ["car"]}, "labels are a list", "numbers"),
        (GOOD | {"boxes": [[80, 60, 30, 20]]}, r"box \(80, 60, 30, 20\) ends before", "x, y, width, height"),
        (GOOD | {"boxes": [[0.1, 0.2, 0.5, 0.6]]}, "no box goes beyond 0.6", "0..1 of the image's size"),
        (GOOD | {"boxes": [[300, 20, 350, 60]]}, "outside the image of 256 x 96 px", "resized or padded"),
        (GOOD | {"masks": np.zeros((1, 28, 28))}, r"masks are \(1, 28, 28\)", "(1, 96, 256)"),
    ],
)
def test_law_an_answer_of_another_form_is_refused_with_what_came(output, message, remedy):
    with pytest.raises(drivetl.DrivetlError, match=message) as caught:
        checked(output, 2, (96, 256), "Own.infer, image 0")
    assert remedy in caught.value.remedy and "Own.infer, image 0" in caught.value.reason


@pytest.mark.parametrize("answer", [{}, "boxes", 5, [GOOD]])
def test_one_entry_per_image_is_needed(answer):
    detector = type("Own", (), {"categories": ["car"], "infer": lambda self, images: answer})()
    with pytest.raises(drivetl.DrivetlError, match=r"Own\.infer returned"):
        AnyDetector(detector).infer([torch.zeros((3, 96, 256), dtype=torch.uint8)] * 2)


def test_an_image_without_detections_and_masks_are_fine():
    empty = checked(([], [], []), 2, (96, 256), "")
    assert empty.boxes.shape == (0, 4) and empty.scores.shape == empty.labels.shape == (0,)
    mask = np.zeros((1, 96, 256), np.uint8)
    mask[0, 20:60, 10:50] = 1
    assert checked(GOOD | {"masks": mask}, 2, (96, 256), "").masks == [encode(mask[0])]
    kept = Detections(np.array([[1, 2, 3, 4.0]]), np.array([0.5]), np.array([2]), [encode(mask[0])])
    assert checked(kept, 2, (96, 256), "").masks == kept.masks
