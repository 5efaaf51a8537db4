"""The document of a sweep: known answers, consistent intervals, None where nothing was measured."""

import numpy as np
import pytest
from planted import PlantedDetector, planted_dataset, read_planted

from drivetl.coco.io import read_dataset
from drivetl.conditions import CATALOG
from drivetl.errors import ConfigError, DataError
from drivetl.metrics.measures import permutation_p
from drivetl.metrics.statistics import FEWEST_DRIVES
from drivetl.robustness import road
from drivetl.robustness.report_document import report_document
from drivetl.robustness.run import run_sweep, summarize

MANIFEST = {
    "version": 1,
    "preset": "test",
    "ancestors": [],
    "transforms": [
        {
            "name": "Fog",
            "phenomenon": "fog",
            "model": "koschmieder_depth",
            "family": "weather",
            "range": {"visibility_m": [40, 600]},
            "p": 0.5,
        }
    ],
}


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return read_planted(tmp_path_factory.mktemp("planted"), n_images=12, n_drives=6)


@pytest.fixture(scope="module")
def document(data, tmp_path_factory):
    swept = run_sweep(
        PlantedDetector(augmentation=MANIFEST),
        data,
        ["fog", "night", "motion_blur"],
        [1, 3],
        baseline=PlantedDetector(contrast=140, weights_hash="worse"),
        cache=tmp_path_factory.mktemp("cells"),
        workers=0,
    )
    return report_document(swept, n_draws=100, slices=["weather"])


def test_summarize_is_the_mean_of_means():
    found = summarize({"fog": {1: 0.4, 2: 0.2}, "night": {1: 0.6, 2: 0.0}}, clean=0.5)
    assert found.mpc == pytest.approx(0.3) and found.rpc == pytest.approx(0.6)


def test_the_headline_is_over_held_out_conditions(document):
    assert {row["name"]: row["level"] for row in document["conditions"]} == {
        "fog": "L0",
        "night": "L3",
        "motion_blur": "L3",
    }
    # motion_blur moves content: it is shown, but never in the headline
    assert document["headline"]["conditions"] == ["night"]
    values = [row["value"]["point"] for row in document["cells"] if row["condition"] == "night"]
    assert document["headline"]["mpc"]["point"] == pytest.approx(np.mean(values))
    clean = document["clean"]["value"]["point"]
    assert document["headline"]["rpc"]["point"] == pytest.approx(np.mean(values) / clean)
    assert document["headline"]["label"] == "mPC"


def test_all_planted_boxes_are_detected_on_clean_images(document):
    assert document["clean"]["value"]["point"] == pytest.approx(1.0)
    assert document["clean"]["recall"]["point"] == pytest.approx(1.0)
    assert document["data"] | {"hash": ""} == {
        "hash": "",
        "source": "planted",
        "categories": ["car", "pedestrian"],
        "images": 12,
        "images_requested": 12,
        "objects": 44,
        "drives": 6,
        "units": 6,
        "sufficient": True,
        "budget_needed_s": None,
        "clean_slice": None,
        "depth_images": 0,
        "warning": document["data"]["warning"],
    }
    assert "too few drives: 6" in document["data"]["warning"]


def test_intervals_contain_their_points(document):
    for cell in [document["clean"], *document["cells"]]:
        value = cell["value"]
        assert value["low"] - 1e-9 <= value["point"] <= value["high"] + 1e-9
    delta = document["headline"]["delta"]
    assert delta["point"] == pytest.approx(
        document["headline"]["mpc"]["point"] - document["headline"]["baseline"]["mpc"]["point"]
    )
    assert delta["low"] > 0 and delta["p"] <= 2 / 2**6 + 0.1, "the baseline misses faint boxes"


def test_survival_is_recall_of_the_objects_detected_on_clean_images(document):
    night = next(row for row in document["cells"] if row["condition"] == "night" and row["severity"] == 3)
    # every object is detected on clean images, so the two are equal
    assert night["survival"]["point"] == pytest.approx(night["recall"]["point"])


def test_slices_account_for_every_image(document):
    assert {row["value"]: row["images"] for row in document["slices"]} == {"clear": 8, "rain": 4}
    assert all(row["small"] for row in document["slices"])
    assert sum(row["objects"] for row in document["slices"]) == 44


def test_law_a_slice_of_few_drives_has_no_interval(document):
    """Enough images and drives in total: clear weather is in four of the six drives, rain in two."""
    assert document["data"]["sufficient"] and document["clean"]["value"]["low"] is not None
    for row in document["slices"]:
        assert row["drives"] < FEWEST_DRIVES
        for key in ("performance", "performance_standardised", "recall", "delta"):
            assert row[key]["point"] is not None and row[key]["low"] is None, (row["value"], key)


def test_fragile_objects_are_lost_in_some_cells(document):
    for row in document["road"]["fragile_objects"]:
        assert 0 < row["lost_share"] <= 1 and row["n_cells"] == 2
    assert [row["speed_kmh"] for row in document["road"]["in_path"]] == [50, 100]


def test_the_document_is_reproducible(data, document, tmp_path):
    swept = run_sweep(
        PlantedDetector(augmentation=MANIFEST),
        data,
        ["fog", "night", "motion_blur"],
        [1, 3],
        baseline=PlantedDetector(contrast=140, weights_hash="worse"),
        cache=tmp_path,
        workers=1,
        batch_size=3,
    )
    again = report_document(swept, n_draws=100, slices=["weather"])
    assert again | {"timing": 0} == document | {"timing": 0}


def test_an_equal_baseline_has_no_difference(data, tmp_path):
    swept = run_sweep(
        PlantedDetector(),
        data,
        ["night"],
        [2],
        baseline=PlantedDetector(weights_hash="twin"),
        cache=tmp_path,
        workers=0,
    )
    delta = report_document(swept, n_draws=60)["headline"]["delta"]
    assert delta["point"] == 0 and delta["p"] == 1.0


def test_an_unverified_run_is_marked_everywhere(data, tmp_path):
    swept = run_sweep(PlantedDetector(), data, ["night"], [2], cache=tmp_path, workers=0)
    document = report_document(swept, n_draws=60)
    assert not document["protocol"]["verified"] and not document["run"]["verified"]
    assert document["headline"]["levels"] == ["UNVERIFIED"] == [row["level"] for row in document["conditions"]]


def test_without_held_out_conditions_the_headline_is_none(data, tmp_path):
    swept = run_sweep(PlantedDetector(augmentation=MANIFEST), data, ["fog"], [3], cache=tmp_path, workers=0)
    head = report_document(swept, n_draws=60)["headline"]
    assert head["conditions"] == [] and head["mpc"]["point"] is None and head["rpc"]["point"] is None


def test_images_without_objects_measure_nothing(tmp_path):
    data = read_planted(tmp_path / "data", n_images=4)
    empty = data.subset(data.images[:1])
    swept = run_sweep(PlantedDetector(), empty, ["night"], [1], cache=tmp_path / "c", workers=0)
    document = report_document(swept, n_draws=60)
    assert document["clean"]["value"]["point"] is None
    assert document["cells"][0]["value"]["point"] is None and document["headline"]["mpc"]["point"] is None


def test_no_images_is_an_error(data, tmp_path):
    with pytest.raises(DataError, match="no images"):
        run_sweep(PlantedDetector(), data.subset([]), ["night"], [1], cache=tmp_path)


def test_no_common_class_is_an_error(tmp_path):
    data = read_dataset(planted_dataset(tmp_path / "data", n_images=2))
    with pytest.raises(
        ConfigError, match="no class of the detector is one of the data's: tram; those are car, pedestrian"
    ):
        run_sweep(PlantedDetector(categories=("tram",)), data, ["night"], [1], cache=tmp_path)


def test_an_unknown_slice_attribute_names_the_available_ones(data, tmp_path):
    swept = run_sweep(PlantedDetector(), data, ["night"], [2], cache=tmp_path, workers=0)
    with pytest.raises(ConfigError, match="'wether' - available attributes: sequence, weather"):
        report_document(swept, n_draws=60, slices=["wether"])


def curve(*values, draws=50):
    return {s: np.full(draws + 1, value) for s, value in zip((1, 2, 3, 4, 5), values, strict=False)}


def test_half_recall_lies_between_the_severities_that_bracket_it():
    clean = np.full(51, 0.8)
    found = road.half_recall("fog", clean, curve(0.8, 0.7, 0.5, 0.3, 0.1))
    low, high = CATALOG["fog"].axis[3], CATALOG["fog"].axis[2]
    assert found["state"] == "reached" and low < found["value"] < high
    assert found["value"] == pytest.approx(np.sqrt(low * high)), "halfway in recall is halfway in log visibility"
    assert found["mild"] == found["strong"] == pytest.approx(found["value"])


def test_half_recall_at_a_step_is_the_step():
    found = road.half_recall("rain", np.full(51, 0.8), curve(0.8, 0.4, 0.2, 0.1, 0.0))
    assert found["value"] == pytest.approx(CATALOG["rain"].axis[1])


@pytest.mark.parametrize(
    ("values", "state"), [((0.3, 0.2, 0.1, 0, 0), "before"), ((0.8, 0.7, 0.7, 0.6, 0.5), "beyond")]
)
def test_half_recall_outside_the_ladder_has_no_value(values, state):
    found = road.half_recall("fog", np.full(51, 0.8), curve(*values))
    assert found["state"] == state and found["value"] is None


def test_half_recall_without_recall_is_unknown():
    assert road.half_recall("fog", np.full(51, np.nan), curve(0.1, 0, 0, 0, 0))["state"] == "unknown"
    assert road.half_recall("fog", np.zeros(51), curve(0, 0, 0, 0, 0))["state"] == "unknown"


def test_stopping_distances():
    assert road.stopping_distance_m(50) == pytest.approx(30, abs=0.2)
    assert road.stopping_distance_m(100) == pytest.approx(92, abs=0.2)


def test_permutation_p_counts_ties_and_both_sides():
    assert permutation_p(np.array([0.5, 0.5, -0.5, 0.1, 0.0])) == pytest.approx(3 / 5)
    assert np.isnan(permutation_p(np.array([np.nan, 0.1])))
