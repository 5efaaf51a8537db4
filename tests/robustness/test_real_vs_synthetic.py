"""Real against synthetic conditions: where the real night is the synthetic night, they agree exactly."""

import json

import cv2
import numpy as np
import pytest
from planted import PlantedDetector, planted_dataset

from drivetl.coco.io import read_dataset
from drivetl.coco.records import ImageRecord
from drivetl.conditions import CATALOG
from drivetl.data.dataset import read_image
from drivetl.data.vehicles import vehicle_boxes
from drivetl.errors import ConfigError
from drivetl.metrics.match_store import match
from drivetl.metrics.statistics import draw_weights, few_drives
from drivetl.metrics.truth import from_dataset
from drivetl.robustness.clean_slice import choose_clean, clean_images, is_clean, synthetic_counterparts
from drivetl.robustness.condition_slices import class_and_size_mix, slices_of, standardised_ap
from drivetl.robustness.report_document import report_document
from drivetl.robustness.road import crossing
from drivetl.robustness.run import run_sweep
from drivetl.robustness.sweep import corrupted

N = 25


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """A clean drive, and a night drive made of it by `night` at severity 3."""
    folder = tmp_path_factory.mktemp("real")
    path = planted_dataset(folder, n_images=N, n_drives=1)
    document = json.loads(path.read_text())
    clean = read_dataset(path)
    for image in document["images"]:
        image |= {"sequence": "noon", "attributes": {"timeofday": "daytime", "weather": "clear"}}
    for record in clean.images:
        vehicles = vehicle_boxes(record, clean.categories)
        night = corrupted(read_image(record, clean.images_root), record, ("night", 3), None, vehicles)
        name = f"images/night_{record.id:06d}.png"
        cv2.imwrite(str(folder / name), night[..., ::-1])
        document["images"].append(
            {
                "id": record.id + 100,
                "file_name": name,
                "width": record.width,
                "height": record.height,
                "sequence": "midnight",
                "attributes": {"timeofday": "night", "weather": "clear"},
            }
        )
    document["annotations"] += [
        one | {"id": one["id"] + 1000, "image_id": one["image_id"] + 100} for one in document["annotations"]
    ]
    path.write_text(json.dumps(document))
    return read_dataset(path)


def swept(data, cache, conditions=("night", "contrast"), severities=(1, 3, 5), **options):
    clean = choose_clean(data.images, ["timeofday", "weather"], {})
    detector = PlantedDetector(contrast=40)
    found = run_sweep(detector, data, conditions, severities, cache=cache, clean=clean, workers=0, **options)
    return found, detector


@pytest.fixture(scope="module")
def document(data, tmp_path_factory):
    found, _ = swept(data, tmp_path_factory.mktemp("cells"))
    return report_document(found, metric="AP50", n_draws=60, slices=["timeofday", "weather"])


def test_conditions_are_applied_to_the_clean_slice_alone(data, tmp_path):
    found, detector = swept(data, tmp_path)
    assert detector.images_seen == N * (1 + 2 * 3) + N
    assert {image.drive for image in found.dataset.images} == {"noon"}
    again, detector = swept(data, tmp_path)
    assert detector.images_seen == 0 and again.real.ids == found.real.ids


def test_a_real_night_that_is_the_synthetic_one_agrees_exactly(document):
    (pair,) = document["real"]["pairs"]
    assert (pair["attribute"], pair["value"], pair["condition"]) == ("timeofday", "night", "night")
    by_severity = {row["severity"]: row for row in pair["severities"]}
    assert by_severity[3]["difference"]["point"] == pytest.approx(0, abs=1e-12)
    assert pair["real_drop"]["point"] == pytest.approx(by_severity[3]["drop"]["point"])
    assert 0.01 < pair["real_drop"]["point"] < 0.95, "the drop is neither 0 nor total"
    assert pair["matches_at"]["state"] == "reached"
    assert pair["matches_at"]["value"] == pytest.approx(CATALOG["night"].axis[2])


def test_differences_are_differences(document):
    (pair,) = document["real"]["pairs"]
    gap = pair["real_drop"]["point"] - pair["synthetic_drop"]["point"]
    assert pair["difference"]["point"] == pytest.approx(gap)
    drops = [row["drop"]["point"] for row in pair["severities"]]
    assert pair["synthetic_drop"]["point"] == pytest.approx(np.mean(drops))
    assert pair["difference"]["low"] < pair["difference"]["point"] < pair["difference"]["high"]


def test_the_note_warns_of_one_drive_per_slice(document):
    assert "the clean slice and timeofday=night are one drive each" in document["real"]["note"]
    assert "cannot separate the condition from the drive" in document["real"]["note"]
    assert document["data"]["drives"] == 1 and "one drive only" in document["data"]["warning"]
    assert document["clean"]["value"]["high"] > document["clean"]["value"]["low"], "blocks vary"


def test_rows_of_the_slices(document):
    rows = {(row["attribute"], row["value"]): row for row in document["slices"]}
    assert list(rows) == [("timeofday", "daytime"), ("timeofday", "night"), ("weather", "clear")]
    day, night = rows["timeofday", "daytime"], rows["timeofday", "night"]
    assert day["reference"] and not night["reference"] and night["against_clean"]
    assert day["drop"]["point"] == 0 and day["kept"]["point"] == 1
    assert (night["images"], night["drives"], night["small"]) == (N, 1, True)
    # the clean slice is what the conditions were applied to
    assert day["performance"]["point"] == pytest.approx(document["clean"]["value"]["point"])


def test_a_baseline_is_measured_in_real_conditions_too(data, tmp_path):
    found, _ = swept(data, tmp_path, ["night"], [3], baseline=PlantedDetector(contrast=250, weights_hash="b"))
    document = report_document(found, metric="AP50", n_draws=50, slices=["timeofday"])
    day = document["slices"][0]
    assert day["delta"]["point"] == pytest.approx(day["performance_standardised"]["point"] - day["baseline"]["point"])
    assert day["delta"]["point"] > 0, "the baseline misses faint boxes"


def test_pairs_can_be_named(data, tmp_path):
    found, _ = swept(data, tmp_path)
    pairs = {("timeofday", "night"): ["contrast"]}
    document = report_document(found, n_draws=50, slices=["timeofday"], pairs=pairs)
    assert [pair["condition"] for pair in document["real"]["pairs"]] == ["contrast"]
    for wrong, words in (
        ({("timeofday", "dusk"): ["night"]}, r"no real slice has this value - available: timeofday=night"),
        ({("timeofday", "night"): ["fog"]}, r"night:fog: not run - add fog to --conditions"),
    ):
        with pytest.raises(ConfigError, match=words):
            report_document(found, n_draws=50, slices=["timeofday"], pairs=wrong)


def test_synthetic_counterparts():
    every = list(CATALOG)
    assert synthetic_counterparts("night", every) == ["night"]
    assert synthetic_counterparts("dawn/dusk", every) == ["dusk"]
    assert synthetic_counterparts("wet_road", every) == ["wet_road"]
    assert synthetic_counterparts("rainy", every) == ["rain"]
    assert synthetic_counterparts("foggy", every) == ["fog", "plasma_fog"]
    assert synthetic_counterparts("overcast", every) == synthetic_counterparts("daytime", every) == []
    assert is_clean("clear/daytime") and not is_clean("partly cloudy") and not is_clean("(not given)")


def record(number, sequence="", **attributes):
    return ImageRecord(number, f"{number}.png", 640, 360, sequence, attributes=attributes)


def test_the_clean_slice_is_clean_in_every_attribute():
    images = [
        record(1, weather="dry", time="day"),
        record(2, weather="dry", time="night"),
        record(3, weather="wet", time="day"),
        record(4, scene="city"),
        record(5, weather="dry", time="day"),
    ]
    clean = choose_clean(images, ["weather", "time", "scene"], {})
    assert clean == {"weather": "dry", "time": "day"}
    assert [one.id for one in clean_images(images, clean)] == [1, 5]
    assert choose_clean(images, ["scene"], {}) == {}
    assert choose_clean(images, ["weather"], {"weather": "wet"}) == {"weather": "wet"}


@pytest.mark.parametrize(
    ("slices", "chosen", "words"),
    [
        (["wether"], {}, "no image has the attribute 'wether' - available attributes: sequence, weather"),
        (["weather"], {"time": "day"}, "--clean names 'time', which --slices does not"),
        (
            ["weather"],
            {"weather": "sunny"},
            "--clean weather=sunny: no image has this value - available values: dry, wet",
        ),
        (["weather", "sequence"], {"sequence": "b"}, "no image is weather=dry, sequence=b"),
    ],
)
def test_invalid_clean_slices(slices, chosen, words):
    images = [record(1, "a", weather="dry"), record(2, "b", weather="wet")]
    with pytest.raises(ConfigError, match=words):
        choose_clean(images, slices, chosen)


def test_a_single_drive_is_cut_into_blocks_of_consecutive_images():
    truth = truth_of(["a"] * 30 + ["b"] * 10 + ["c"] * 10)
    night = np.arange(50) >= 40
    assert truth.drives.units() == truth.drives.indices() == (0,) * 30 + (1,) * 10 + (2,) * 10
    units = truth.drives.units([night])
    assert units[:40] == truth.drives.units()[:40] and len(set(units[40:])) == 2
    assert list(units[40:]) == sorted(units[40:])
    alone = truth_of(["a"] * 100)
    assert len(set(alone.drives.units())) == 20 and draw_weights(alone.drives.units(), 50).std() > 0
    assert "resample 20 blocks" in few_drives(alone.drives)
    assert truth_of(["a"]).drives.units() == (0,)


def truth_of(sequences):
    images = [{"id": i + 1, "sequence": name, "width": 64, "height": 64} for i, name in enumerate(sequences)]
    from drivetl.metrics.truth import from_coco

    return from_coco({"images": images, "annotations": [], "categories": [{"id": 1, "name": "car"}]})


def test_a_different_mix_of_sizes_causes_no_drop():
    """Small objects are all missed, large ones all found, on both sides; the night only has fewer small ones."""
    images, annotations, results = [], [], []
    for number, (time, small, large) in enumerate([("day", 6, 2), ("night", 1, 4)], 1):
        images.append({"id": number, "width": 2000, "height": 400, "attributes": {"time": time}})
        for place, side in enumerate([20] * small + [120] * large):
            box = [150 * place, 10, side, side]
            annotations.append({"image_id": number, "category_id": 1, "bbox": box, "area": side * side})
            if side == 120:
                results.append({"image_id": number, "category_id": 1, "bbox": box, "score": 0.9})
    store = match({"images": images, "annotations": annotations, "categories": [{"id": 1, "name": "car"}]}, results)
    day, night = slices_of(store.truth, ["time"], {"time": "day"})
    mix = class_and_size_mix(store, night)
    assert mix.tolist() == [[0.75, 0, 0.25]]
    of_day, of_night = (standardised_ap(store, 0.5, part.images[None].astype(float), mix)[0] for part in (day, night))
    assert of_day == of_night == pytest.approx(0.25)


def test_crossing_of_a_curve_and_a_value():
    curves = {severity: np.full(3, value) for severity, value in ((1, 0.5), (3, 0.3), (5, 0.1))}
    assert crossing("rain", np.full(3, 0.3), curves)["value"] == pytest.approx(CATALOG["rain"].axis[2])
    assert crossing("rain", np.full(3, 0.6), curves)["state"] == "before"
    assert crossing("rain", np.full(3, 0.05), curves)["state"] == "beyond"


def test_slices_without_a_clean_value_are_measured_against_the_largest(data):
    truth = from_dataset(data)
    parts = slices_of(truth, ["sequence"], {})
    assert [part.value for part in parts] == ["midnight", "noon"]
    assert parts[0].is_reference and not parts[1].against_clean
