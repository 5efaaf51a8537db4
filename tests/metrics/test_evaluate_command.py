import json

import numpy as np
import pytest
from coco_cases import oracle, random_case

from drivetl.cli import main
from drivetl.coco.io import read_dataset, write_dataset
from drivetl.coco.records import Annotation, Dataset, IgnoreRegion, ImageRecord
from drivetl.metrics import coco_ap
from drivetl.metrics.match_store import match
from drivetl.metrics.results import read_coco_results


def write(path, document):
    path.write_text(json.dumps(document))
    return str(path)


@pytest.fixture
def files(tmp_path):
    truth, results = random_case(4)
    for number, image in enumerate(truth["images"]):
        image["sequence"] = f"drive {number // 2}"
    return truth, results, write(tmp_path / "gt.json", truth), write(tmp_path / "results.json", results)


def test_twelve_numbers_and_classes(files, tmp_path):
    truth, results, gt, predictions = files
    out = tmp_path / "M.json"
    command = ["evaluate", "--gt", gt, "--predictions", predictions, "--out", str(out)]
    assert main(command) == 0
    numbers = json.loads(out.read_text())
    np.testing.assert_allclose(numbers["stats"], oracle(truth, results).stats, rtol=0, atol=1e-12)
    assert set(numbers["per_class"]) == {"class 1", "class 2", "class 3"}
    assert main(command) == 0  # the same numbers again
    assert main([*command[:4], write(tmp_path / "other.json", results[:-20]), *command[5:]]) == 2
    assert json.loads(out.read_text()) == numbers


def test_details_are_json_without_nan(files, tmp_path, capsys):
    _, _, gt, predictions = files
    out = tmp_path / "M.json"
    command = ["evaluate", "--gt", gt, "--predictions", predictions, "--out", str(out), "--details"]
    assert main([*command, "--draws", "50"]) == 0
    found = json.loads(out.read_text())["details"]
    assert {"intervals", "operating", "lrp", "calibration", "confusion", "slices", "tide"} == set(found)
    assert found["intervals"]["AP"]["low"] <= found["intervals"]["AP"]["point"] <= found["intervals"]["AP"]["high"]
    assert "too few drives: 6" in " ".join(capsys.readouterr().err.split())


def test_law_details_of_few_drives_have_no_interval(files, tmp_path, capsys):
    truth, _, _, predictions = files
    for number, image in enumerate(truth["images"]):
        image["sequence"] = f"drive {number // 3}"
    out = tmp_path / "M.json"
    command = ["evaluate", "--gt", write(tmp_path / "few.json", truth), "--predictions", predictions, "--details"]
    assert main([*command, "--out", str(out), "--draws", "50"]) == 0
    found = json.loads(out.read_text())["details"]
    for row in (found["intervals"]["AP"], *(row["recall"] for row in found["slices"])):
        assert row["point"] is not None and row["low"] is None and row["high"] is None
    captured = capsys.readouterr()
    assert "12 images of 4 drives; intervals and tests need 8 images and 5 drives" in " ".join(captured.err.split())
    assert "95 %" not in captured.out and "no intervals" in captured.out


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--details", "--threshold-rule", "recall"], "--threshold-value for recall is missing"),
        (["--details", "--threshold-rule", "recall", "--threshold-value", "2"], "for recall is 2"),
        (["--details", "--threshold-rule", "fp_per_image", "--threshold-value", "-1"], "fp_per_image is -1"),
        (["--details", "--threshold-value", "0.5"], "needs the rule recall or fp_per_image, not f1"),
        (["--details", "--slices", "nope"], "no object and no image has the attribute 'nope' - known: "),
        (["--slices", "weather"], "--slices needs --details"),
        (["--protocol", "kitti", "--details"], "need --protocol coco"),
    ],
)
def test_flags_without_effect_are_refused(files, capsys, flags, message):
    assert main(["evaluate", "--gt", files[2], "--predictions", files[3], *flags]) == 2
    assert message in " ".join(capsys.readouterr().err.split())


def test_coco_ids_with_gaps(tmp_path):
    """Any detector's COCO files work, also where categories are not 1..K."""
    truth, results = random_case(6)
    new = {1: 3, 2: 18, 3: 90}
    for record in truth["annotations"] + results:
        record["category_id"] = new[record["category_id"]]
    truth["categories"] = [{"id": number, "name": str(number)} for number in new.values()]
    found = coco_ap.summarize(match(truth, results))
    np.testing.assert_allclose(found.stats, oracle(truth, results).stats, rtol=0, atol=1e-12)


def test_no_detections_at_all(files, tmp_path, capsys):
    truth, _, gt, _ = files
    out = tmp_path / "M.json"
    nothing = write(tmp_path / "nothing.json", [])
    assert main(["evaluate", "--gt", gt, "--predictions", nothing, "--out", str(out)]) == 0
    np.testing.assert_allclose(json.loads(out.read_text())["stats"], oracle(truth, []).stats)
    assert "12 of 12 images have no detections" in " ".join(capsys.readouterr().err.split())


def test_repeated_detections_are_warned_about(files, tmp_path, capsys):
    _, results, gt, _ = files
    twice = write(tmp_path / "twice.json", [*results, *results[:7]])
    assert main(["evaluate", "--gt", gt, "--predictions", twice]) == 0
    assert "7 detections repeat another one exactly" in " ".join(capsys.readouterr().err.split())


def test_parts_of_results_are_joined(files, tmp_path):
    truth, results, gt, _ = files
    parts = [write(tmp_path / f"{i}.json", results[i::2]) for i in range(2)]
    out = tmp_path / "M.json"
    assert main(["evaluate", "--gt", gt, "--predictions", *parts, "--out", str(out)]) == 0
    expected = oracle(truth, results[0::2] + results[1::2]).stats
    np.testing.assert_allclose(json.loads(out.read_text())["stats"], expected, rtol=0, atol=1e-12)


GOOD = {"image_id": 1, "category_id": 1, "bbox": [0, 0, 5, 5], "score": 0.5}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"image_id": 999_999}, "[1]: image_id 999999 is not in the ground truth"),
        ({"category_id": 7}, "[1]: category_id 7 is not in the ground truth"),
        ({"score": float("nan")}, "[1]: score is nan, not a finite number"),
        ({"bbox": [0, 0, -5, 5]}, "[1]: bbox [0.0, 0.0, -5.0, 5.0] has a negative width"),
        ({"bbox": [0, float("inf"), 5, 5]}, "[1]: bbox [0.0, inf, 5.0, 5.0] is not finite"),
        ({"bbox": [0, 0, 5]}, "[1]: bbox is [0, 0, 5], not four numbers"),
        ({"score": None}, "[1]: score is None, not a number"),
        ({"score": "high"}, "[1]: score is 'high', not a number"),
        ({"bbox": None}, "[1]: bbox is None, not four numbers"),
    ],
)
def test_invalid_results_are_user_errors(tmp_path, capsys, change, message):
    truth = {
        "images": [{"id": 1, "width": 10, "height": 10}],
        "annotations": [],
        "categories": [{"id": 1, "name": "car"}],
    }
    gt, out = write(tmp_path / "gt.json", truth), tmp_path / "M.json"
    predictions = write(tmp_path / "results.json", [GOOD, GOOD | change])
    assert main(["evaluate", "--gt", gt, "--predictions", predictions, "--out", str(out)]) == 2
    error = " ".join(capsys.readouterr().err.split())
    assert message in error and "results.json" in error
    assert not out.exists()


def test_invalid_files_are_user_errors(files, tmp_path, capsys):
    _, results, gt, predictions = files
    cases = [
        ([gt, predictions, predictions], "the same detections as"),
        ([gt, gt], "the file must hold a list of detections"),
        ([predictions, predictions], "not a COCO dataset"),
        ([gt, str(tmp_path / "missing.json")], "missing.json"),
        ([gt, write(tmp_path / "copy.json", results), predictions], "the same detections as"),
    ]
    for (truth, *predicted), message in cases:
        assert main(["evaluate", "--gt", truth, "--predictions", *predicted]) == 2
        assert message in " ".join(capsys.readouterr().err.split())
    assert main(["evaluate", "--gt", gt, "--predictions", predictions, "--iou-type", "segm"]) == 2


def test_masks_by_command(tmp_path):
    truth, results = random_case(1, n_images=4, masks=True)
    gt, predictions = write(tmp_path / "gt.json", truth), write(tmp_path / "r.json", results)
    out = tmp_path / "M.json"
    command = ["evaluate", "--gt", gt, "--predictions", predictions, "--iou-type", "segm"]
    assert main([*command, "--out", str(out), "--details", "--draws", "20"]) == 0
    numbers = json.loads(out.read_text())
    np.testing.assert_allclose(numbers["stats"], oracle(truth, results, "segm").stats, rtol=0, atol=1e-12)
    assert "tide" not in numbers["details"]


def test_kitti_by_command(tmp_path):
    tail = "-1 -1 -1 -1000 -1000 -1000 -10"
    for name in ("labels", "results"):
        (tmp_path / name).mkdir()
    for frame in range(60):
        line = f"Car 0 0 -10 100 100 200 160 {tail}"
        (tmp_path / "labels" / f"{frame:06d}.txt").write_text(line + "\n")
        (tmp_path / "results" / f"{frame:06d}.txt").write_text(f"{line} {1 - frame / 100}\n")
    out = tmp_path / "M.json"
    command = ["evaluate", "--protocol", "kitti", "--gt", str(tmp_path / "labels"), "--out", str(out)]
    assert main([*command, "--predictions", str(tmp_path / "results")]) == 0
    easy = json.loads(out.read_text())["car"]["easy"]
    assert (easy["AP40"], easy["AP11"], len(easy["precision_41"])) == (100.0, 100.0, 41)


def test_kittis_rules_on_a_converted_dataset(tmp_path):
    """The labels' own boxes, names and hardness count, not what conversion made of them."""
    tail = "1.5 1.6 4 0 1.7 20 0"
    labels = [
        f"Car 0.00 0 0 100 100 200 160 {tail}",
        f"Car 0.00 2 0 300 100 400 160 {tail}",
        f"Van 0.00 0 0 500 100 600 160 {tail}",
        f"Car 0.40 0 0 1180 100 1280 160 {tail}",
        "DontCare -1 -1 -10 700 100 800 160 -1 -1 -1 -1000 -1000 -1000 -10",
    ]
    results = [
        ("car", (100, 100, 200, 160)),
        ("car", (500, 100, 600, 160)),
        ("car", (700, 100, 800, 160)),
        ("car", (1180, 100, 1280, 160)),
        ("pedestrian", (10, 10, 40, 80)),
    ]
    root, folder = tmp_path / "root", tmp_path / "root" / "training" / "label_2"
    folder.mkdir(parents=True)
    (tmp_path / "results").mkdir()
    for frame in range(50):
        (folder / f"{frame:06d}.txt").write_text("\n".join(labels))
        lines = [
            f"{name} -1 -1 -10 {' '.join(map(str, box))} -1 -1 -1 -1000 -1000 -1000 -10 {1 - frame / 100}"
            for name, box in results
        ]
        (tmp_path / "results" / f"{frame:06d}.txt").write_text("\n".join(lines))
    command = ["convert-kitti", "--root", str(root), "--out", str(tmp_path / "data"), "--mapping-dir", "none"]
    assert main([*command, "--image-size", "1242x375"]) == 0
    converted = read_dataset(tmp_path / "data" / "all.json")
    ids = {name: number for number, name in enumerate(converted.categories, 1)}
    records = [
        {
            "image_id": image.id,
            "category_id": ids[name],
            "bbox": [x1, y1, x2 - x1, y2 - y1],
            "score": 1 - int(image.file_name[-10:-4]) / 100,
        }
        for image in converted.images
        for name, (x1, y1, x2, y2) in results
    ]
    predictions = write(tmp_path / "results.json", records)
    common = ["evaluate", "--protocol", "kitti", "--predictions"]
    by_folder, by_dataset = tmp_path / "1.json", tmp_path / "2.json"
    gt = str(tmp_path / "data" / "all.json")
    assert main([*common, str(tmp_path / "results"), "--gt", str(folder), "--out", str(by_folder)]) == 0
    assert main([*common, predictions, "--gt", gt, "--out", str(by_dataset)]) == 0
    found = json.loads(by_folder.read_text())
    assert found == json.loads(by_dataset.read_text())
    assert found["car"]["easy"]["n_gt"] == 50 and found["car"]["hard"]["n_gt"] == 150
    assert found["car"]["easy"]["AP40"] == 100.0


def dataset(tmp_path, **options):
    images = [
        ImageRecord(7, "b.png", 320, 240, "drive 1", **options),
        ImageRecord(3, "a.png", 320, 240, "drive 2"),
        ImageRecord(5, "empty.png", 320, 240),
    ]
    images[0].annotations = [Annotation(1, (0, 0, 50, 50), 2500.0), Annotation(2, (100, 0, 50, 50), 2500.0)]
    images[0].ignore_regions = [IgnoreRegion((200, 100, 100, 100), 10000.0)]
    images[1].annotations = [Annotation(1, (10, 10, 40, 40), 1600.0)]
    return Dataset(("car", "van"), images, tmp_path)


def test_a_dataset_and_its_json_give_the_same(tmp_path):
    write_dataset(dataset(tmp_path), tmp_path / "gt.json")
    results = [
        GOOD | {"image_id": 7, "bbox": [0, 0, 50, 45]},
        GOOD | {"image_id": 7, "bbox": [210, 110, 40, 40], "score": 0.9},
        GOOD | {"image_id": 3, "category_id": 2, "bbox": [0, 0, 9, 9]},
    ]
    document = json.loads((tmp_path / "gt.json").read_text())
    direct = coco_ap.summarize(match(dataset(tmp_path), results))
    np.testing.assert_array_equal(direct.precision, coco_ap.summarize(match(document, results)).precision)
    again = coco_ap.summarize(match(read_dataset(tmp_path / "gt.json"), results))
    np.testing.assert_array_equal(direct.precision, again.precision)
    np.testing.assert_allclose(
        direct.stats,
        oracle({key: document[key] for key in ("images", "annotations", "categories")}, results).stats,
        rtol=0,
        atol=1e-12,
    )
    assert direct.named()["AP50"] == pytest.approx(0.252, abs=0.003)  # car 51/101 points at precision 1, van 0
    store = match(dataset(tmp_path), results)
    assert store.units() == (1, 2, 0)  # drive 2, unknown, drive 1


def test_classes_that_an_image_does_not_label_are_left_out(tmp_path):
    """A detection of an unlabelled class is ignored."""
    results = [
        GOOD | {"image_id": 7, "category_id": 2, "bbox": [0, 100, 50, 45], "score": 0.9},
        GOOD | {"image_id": 7, "category_id": 2, "bbox": [100, 0, 50, 50], "score": 0.5},
    ]
    full, partly = dataset(tmp_path), dataset(tmp_path, labelled=(1,))
    partly.images[0].annotations = partly.images[0].annotations[:1]
    assert len(match(full, results).scores) == 2
    store = match(partly, results)
    assert (len(store.scores), store.dropped_unlabelled) == (0, 2)
    write_dataset(partly, tmp_path / "gt.json")
    from_file = match(json.loads((tmp_path / "gt.json").read_text()), results)
    assert (len(from_file.scores), from_file.dropped_unlabelled) == (0, 2)


def test_read_results_for_a_dataset(tmp_path):
    path = tmp_path / "results.json"
    write(path, [GOOD | {"image_id": 3}])
    assert len(read_coco_results(path, dataset(tmp_path))) == 1


DEEP = "[" * 900 + "]" * 900


@pytest.mark.parametrize(
    "text",
    [
        DEEP,
        f"[NaN,{'[' * 5000}{']' * 5000}]",
        f"[NaN,{DEEP}]",
        f'[{{"image_id": {DEEP}, "category_id": 1, "bbox": [1, 2, 3, 4], "score": 0.5}}]',
        f'[{{"image_id": 1, "category_id": 1, "bbox": {DEEP}, "score": NaN}}]',
        f'[{{"image_id": 1, "category_id": 1, "bbox": [1, 2, 3, 4], "score": {DEEP}}}]',
    ],
)
def test_deep_results_are_one_error_line(files, tmp_path, capsys, text):
    _, _, gt, _ = files
    path = tmp_path / "deep.json"
    path.write_text(text)
    for command in (["evaluate", "--gt", gt], ["view", gt, "--out", str(tmp_path / "sheet.png")]):
        assert main([*command, "--predictions", str(path)]) == 2
        err = capsys.readouterr().err
        assert f"error: {path}" in err and len(err.splitlines()[-1]) < 510


def test_a_broken_mask_in_the_truth_names_the_truth(tmp_path, capsys):
    square = [[10, 10, 40, 10, 40, 40, 10, 40]]
    truth = {
        "images": [{"id": 1, "width": 100, "height": 80}],
        "categories": [{"id": 1, "name": "car"}],
        "annotations": [{"id": 1, "image_id": 1, "category_id": 1, "bbox": [10, 10, 30, 30], "segmentation": square}],
    }
    detection = {"image_id": 1, "category_id": 1, "bbox": [10, 10, 30, 30], "score": 0.5, "segmentation": square}
    predictions = write(tmp_path / "results.json", [detection])
    for mask in ({"size": [80, 100], "counts": [0, 80]}, None):
        truth["annotations"][0]["segmentation"] = mask
        gt = write(tmp_path / "gt.json", truth)
        assert main(["evaluate", "--gt", str(gt), "--predictions", str(predictions), "--iou-type", "segm"]) == 2
        assert f"error: {gt}: an object of image 1" in capsys.readouterr().err


def test_an_empty_list_of_results_can_be_scored_by_masks(tmp_path, capsys):
    """Also as one part of several: an empty part does not take the masks of the others away."""
    square = [[10, 10, 40, 10, 40, 40, 10, 40]]
    box = {"image_id": 1, "category_id": 1, "bbox": [10, 10, 30, 30], "segmentation": square}
    gt = write(
        tmp_path / "gt.json",
        {
            "images": [{"id": 1, "width": 100, "height": 80}],
            "categories": [{"id": 1, "name": "car"}],
            "annotations": [{"id": 1, **box}],
        },
    )
    empty, full = write(tmp_path / "empty.json", []), write(tmp_path / "full.json", [{**box, "score": 0.5}])
    for parts, expected in (([empty], 0.0), ([empty, full], 1.0)):
        out = tmp_path / f"{len(parts)}.json"
        argv = ["evaluate", "--gt", gt, "--predictions", *parts, "--iou-type", "segm", "--out", out]
        assert main([str(word) for word in argv]) == 0
        assert json.loads(out.read_text())["stats"][0] == pytest.approx(expected)
    capsys.readouterr()


@pytest.mark.parametrize("name", [".", "gt.json/m.json", "x" * 300])
def test_an_out_that_cannot_be_a_file_is_one_error_line(files, tmp_path, capsys, name):
    _, _, gt, predictions = files
    argv = ["evaluate", "--gt", gt, "--predictions", predictions, "--out", str(tmp_path / name)]
    assert main(argv) == 2
    assert "cannot be written" in capsys.readouterr().err
