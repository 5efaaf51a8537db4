"""Detectors with other classes than the data: what meets is measured as ever, what is not known has no number."""

import json
import re

import numpy as np
import pytest
from planted import CLASSES, PlantedDetector, planted_dataset

import drivetl
from drivetl.coco.detections import Detections
from drivetl.errors import ConfigError

QUICK = {"conditions": "fog,night", "severities": (1, 3), "draws": 60, "workers": 0}


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return planted_dataset(tmp_path_factory.mktemp("planted"), n_images=10, n_drives=5)


class Renamed:
    """The planted detector under other names: `places` of car and pedestrian among `categories`, 0: not known.

    With `noise` it also reports its last class all over the image.
    """

    def __init__(self, categories, places, noise=False):
        self.categories, self.places, self.noise = categories, np.array([0, *places]), noise
        self.inner = PlantedDetector()

    def infer(self, images):
        return [self._one(found, image) for found, image in zip(self.inner.infer(images), images, strict=True)]

    def _one(self, found, image):
        labels = self.places[found.labels]
        known = labels > 0
        boxes, scores, labels = found.boxes[known], found.scores[known], labels[known]
        if self.noise:
            whole = [[0, 0, image.shape[2], image.shape[1]]]
            boxes, scores = np.vstack([boxes, whole]), np.append(scores, 1.0)
            labels = np.append(labels, len(self.categories))
        return Detections(boxes.astype(np.float32), scores.astype(np.float32), labels)


def document(detector, data, **options):
    return drivetl.evaluate_robustness(detector, data, **QUICK | options).document


MEASURED = ("clean", "cells", "conditions", "headline", "diagnosis", "classes", "operating", "road", "data")


@pytest.mark.parametrize(
    ("categories", "places", "given"),
    [
        (("Pedestrian", "CAR", "kite"), (2, 1), None),
        (("kite", "walker", "auto", "zebra"), (3, 2), {"auto": "car", "walker": "pedestrian"}),
    ],
)
def test_law_names_and_their_order_change_no_number(data, categories, places, given):
    own, other = document(PlantedDetector(), data), document(Renamed(categories, places, True), data, class_map=given)
    for key in MEASURED:
        assert other[key] == own[key], key
    assert own["clean"]["value"]["point"] > 0.5, "the law is about real numbers"
    assert own["class_match"] is None and other["class_match"]["unknown"] == []
    assert set(other["class_match"]["run"]["unmapped"]) == set(categories) - {categories[place - 1] for place in places}


def test_law_an_unknown_class_has_no_number_and_no_part_in_a_mean(data):
    own, cars = document(PlantedDetector(), data), document(Renamed(("car",), (1, 0)), data)
    for whole, part in zip([own["clean"], *own["cells"]], [cars["clean"], *cars["cells"]], strict=True):
        assert part["per_class"]["car"] == whole["per_class"]["car"]
        assert part["numbers"]["AP"] == whole["per_class"]["car"]["AP"], "the mean is over cars alone"
        assert part["per_class"]["pedestrian"]["AP"] is None and part["per_class"]["pedestrian"]["recall"] is None
        assert part["recall"]["point"] == pytest.approx(whole["per_class"]["car"]["recall"])
    assert cars["headline"]["mpc"]["point"] == pytest.approx(
        np.mean([cell["per_class"]["car"]["AP"] for cell in own["cells"]])
    )
    counts = {row["group"]: row["n_gt"] for row in own["classes"] if row["by"] == "class"}
    assert cars["data"]["objects"] == counts["car"] and counts["pedestrian"] > 0
    assert cars["class_match"]["unknown"] == [
        {
            "class": "pedestrian",
            "objects": counts["pedestrian"],
            "unknown_to": ["Renamed"],
            "why": "it has no related class",
            "may_be_found_as": [],
        }
    ]
    row = next(row for row in cars["classes"] if row["group"] == "pedestrian")
    assert row["n_gt"] == counts["pedestrian"] and row["unknown_to"] == ["Renamed"] and row["clean"]["AP"] is None


def related(data, folder):
    """The data with a taxonomy in which a pedestrian grows out of car and boat."""
    content = json.loads(data.read_text())
    content["info"]["drivetl"] |= {
        "images_root": str(data.parent),
        "taxonomy": {
            "name": "odd",
            "classes": {"car": {"from": {"car": 1.0}}, "pedestrian": {"from": {"car": 0.5, "boat": 0.5}}},
        },
    }
    path = folder / "related.json"
    path.write_text(json.dumps(content))
    return path


def test_what_an_unknown_class_may_be_found_as_is_neither_right_nor_wrong(data, tmp_path):
    """A detector that calls every pedestrian a car is the one that finds cars alone."""
    both = related(data, tmp_path)
    careless = document(Renamed(("car",), (1, 1)), both)
    careful = document(Renamed(("car",), (1, 0)), both)
    wrong = document(Renamed(("car",), (1, 1)), data)
    assert careless["clean"]["numbers"] == careful["clean"]["numbers"]
    assert careless["clean"]["false_alarms_per_image"] == careful["clean"]["false_alarms_per_image"]
    assert wrong["clean"]["numbers"]["AP"] < careful["clean"]["numbers"]["AP"], "without the relation it is wrong"
    assert careless["class_match"]["unknown"][0]["may_be_found_as"] == ["car"]


def test_a_comparison_is_over_the_classes_that_both_know(data):
    whole = document(PlantedDetector(), data)
    pair = document(PlantedDetector(), data, baseline=Renamed(("Car", "boat"), (1, 0)))
    for one, other in zip(pair["cells"], whole["cells"], strict=True):
        assert one["value"]["point"] == one["baseline"]["point"] == other["per_class"]["car"]["AP"]
    assert pair["class_match"]["unknown"][0]["unknown_to"] == ["Renamed"]
    assert pair["class_match"]["run"]["unmapped"] == [] and pair["class_match"]["baseline"]["unmapped"] == ["boat"]


def test_real_slices_leave_unknown_classes_out_too(data):
    options = {"slices": ["weather"], "clean": {"weather": "clear"}}
    own, cars = document(PlantedDetector(), data, **options), document(Renamed(("car",), (1, 0)), data, **options)
    for whole, part in zip(own["slices"], cars["slices"], strict=True):
        assert part["value"] == whole["value"] and part["objects"] < whole["objects"]


def test_detectors_without_a_common_class_are_refused(data):
    with pytest.raises(ConfigError, match="no class of the data is known to both detectors"):
        document(Renamed(("car",), (1, 0)), data, baseline=Renamed(("pedestrian",), (0, 1)))
    with pytest.raises(ConfigError, match="no class of the baseline is one of the data's: boat"):
        document(PlantedDetector(), data, baseline=Renamed(("boat",), (0, 0)))


def test_every_text_says_what_is_not_known(data, tmp_path):
    results = drivetl.evaluate_robustness(Renamed((*CLASSES[:1], *(f"c{n}" for n in range(20))), (1, 0)), data, **QUICK)
    sentence = "Over 1 of 2 classes: pedestrian ("
    left_out = "20 classes of Renamed are not classes of the data; such detections are left out: c0, c1, "
    assert sentence in str(results) and sentence in results._repr_html_()
    page = results.report(tmp_path / "out")
    assert page.read_text().count("not known to Renamed") == 2
    for name in ("report.html", "summary.md"):
        text = (tmp_path / "out" / name).read_text()
        assert sentence in text and left_out in text and "c11 and 8 more." in text
        assert not re.search(r"\bruns?\b", re.sub(r"<style.*?</style>", "", text, flags=re.DOTALL)), (
            "not a run of drivetl"
        )
    cells = (tmp_path / "out" / "cells.csv").read_text()
    assert "pedestrian" not in cells or ",0.0," not in cells
