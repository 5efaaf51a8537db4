import json
from pathlib import Path

import numpy as np
import pytest
import yaml
from simulated import detect, drives

from drivetl.cli import main
from drivetl.coco.detections import Detections
from drivetl.coco.drives import Drives
from drivetl.coco.hashes import file_hash, images_hash
from drivetl.coco.io import write_dataset
from drivetl.coco.records import Annotation, Dataset, ImageRecord
from drivetl.conditions import CLEAN
from drivetl.errors import ConfigError, DataError
from drivetl.files.yaml_reader import Document
from drivetl.metrics import comparison
from drivetl.metrics.comparison import compare
from drivetl.metrics.gate import check_gate, load_gate, parse_gate
from drivetl.metrics.match_store import match
from drivetl.metrics.results import save_results
from drivetl.metrics.truth import from_dataset
from drivetl.robustness import detection_cache
from drivetl.robustness.find_cells import open_cache

FOG = [("fog", 1), ("fog", 3)]
RAIN = [("rain", 1), ("rain", 3)]
N_DRIVES = 30


def simulated(skills, seed=1):
    """{detector: {condition: skill}} -> match stores of two detectors on the same drives."""
    rng = np.random.default_rng(seed)
    truth, difficulty = drives(N_DRIVES), rng.normal(0, 0.8, N_DRIVES)
    stores = {
        (name, cell): match(truth, detect(truth, rng, skill[cell[0]], difficulty))
        for name, skill in skills.items()
        for cell in [CLEAN, *FOG, *RAIN]
    }
    return lambda name, cell: stores[name, cell]


SAME = {"clean": 1.2, "fog": 0.6, "rain": 0.6}


@pytest.fixture(scope="module")
def lost_in_fog():
    """A is as good as B except in fog."""
    return compare(simulated({"a": SAME | {"fog": -0.6}, "b": SAME}), [*FOG, *RAIN], "AP50", n_draws=500, seed=3)


def test_rows_of_a_comparison(lost_in_fog):
    assert [row.name for row in lost_in_fog.rows] == ["clean", "mPC", "rPC", "fog", "rain"]
    fog, rain, clean = (lost_in_fog.row(name) for name in ("fog", "rain", "clean"))
    assert fog.delta.high < 0 and fog.p_holm < 0.05
    assert rain.delta.low < 0 < rain.delta.high and rain.p_holm > 0.05
    assert clean.p > 0.05 and np.isnan(clean.p_holm)
    assert fog.delta.point == pytest.approx(fog.a - fog.b)
    mpc = lost_in_fog.row("mPC")
    assert mpc.a == pytest.approx((fog.a + rain.a) / 2)
    assert lost_in_fog.row("rPC").b == pytest.approx(mpc.b / clean.b)
    assert fog.minimum_detectable == pytest.approx(2.8 * fog.delta.standard_error)
    assert lost_in_fog.drives.n_drives == N_DRIVES and lost_in_fog.warning is None


def test_objects_are_counted_pairwise(lost_in_fog):
    found = lost_in_fog.objects
    assert found.only_a + found.only_b + found.both + found.neither == N_DRIVES * 2 * 4
    assert found.p > 0.05


def test_a_detector_against_itself():
    matched = simulated({"a": SAME})
    same = compare(lambda _, cell: matched("a", cell), FOG, "AP", n_draws=100)
    for row in same.rows:
        assert (row.delta.point, row.delta.low, row.delta.high) == (0, 0, 0)
    assert {row.p for row in same.rows if row.name != "rPC"} == {1.0}
    assert (same.objects.only_a, same.objects.only_b, same.objects.p) == (0, 0, 1.0)


def test_other_images_or_metrics_are_refused():
    a, b = (drives(n) for n in (5, 6))
    rng = np.random.default_rng(0)
    stores = {"a": match(a, detect(a, rng)), "b": match(b, detect(b, rng))}
    with pytest.raises(ConfigError, match="same images"):
        compare(lambda name, _: stores[name], [], n_draws=10)
    with pytest.raises(ConfigError, match="metric 'mAP'"):
        compare(lambda name, _: stores[name], [], "mAP")


def test_the_gate_fails_only_significant_losses(lost_in_fog):
    gate = parse_gate(Document({"metric": "AP50", "max_drop": {"clean": 0.05, "conditions": 0.05, "mPC": 0.5}}))
    verdicts = {one.name: one for one in check_gate(gate, lost_in_fog)}
    assert set(verdicts) == {"clean", "mPC", "fog", "rain"}
    assert {name for name, one in verdicts.items() if not one.passed} == {"fog"}
    assert verdicts["fog"].drop > 0.05 and verdicts["fog"].p < 0.05
    generous = parse_gate(Document({"max_drop": {"conditions": 0.05, "fog": 0.9}}))
    assert all(one.passed for one in check_gate(generous, lost_in_fog))


def test_a_gate_with_prove_fails_what_is_not_ruled_out(lost_in_fog):
    narrow = {"max_drop": {"rain": 0.001, "mPC": 0.9}, "must": "prove"}
    verdicts = {one.name: one.passed for one in check_gate(parse_gate(Document(narrow)), lost_in_fog)}
    assert verdicts == {"rain": False, "mPC": True}


def test_a_gate_on_an_unmeasured_row_is_an_error(lost_in_fog):
    with pytest.raises(ConfigError, match="tolerance for 'snow'"):
        check_gate(parse_gate(Document({"max_drop": {"snow": 0.1}})), lost_in_fog)
    few = comparison.Comparison("AP", lost_in_fog.rows, lost_in_fog.objects, Drives(("a", "b", "c", "d") * 2), 100)
    with pytest.raises(ConfigError, match="cannot decide on 4 drives"):
        check_gate(parse_gate(Document({"max_drop": {"fog": 0.1}})), few)


@pytest.mark.parametrize(
    ("document", "message"),
    [
        (None, "a gate needs `max_drop`"),
        ({"max_drop": {}}, "a gate needs `max_drop`"),
        ({"max_drop": {"fog": 0.1}, "confidense": 0.9}, "unknown key 'confidense'"),
        ({"max_drop": {"fog": "1 %"}}, "max_drop.fog is '1 %', it must be a number from 0 to 1"),
        ({"max_drop": {"fog": 1.5}}, "max_drop.fog is 1.5, it must be a number from 0 to 1"),
        ({"max_drop": {"fog": 0.1}, "metric": "mAP"}, "metric is 'mAP', it must be AP or AP50"),
        ({"max_drop": {"fog": 0.1}, "must": "win"}, "must is 'win', it must be not_regress or prove"),
        ({"max_drop": {"fog": 0.1}, "confidence": 95}, "confidence is 95, it must be a number of at least 0.5"),
    ],
)
def test_broken_gates(document, message):
    with pytest.raises(DataError, match=message.replace("(", r"\(")):
        parse_gate(Document(document))


def test_the_shipped_gate_can_be_read():
    gate = load_gate(Path(__file__).parents[2] / "configs" / "gate.yaml")
    assert set(gate.max_drop) == {"clean", "mPC", "rPC", "conditions"}


def test_a_gate_with_invalid_yaml_names_its_line(tmp_path):
    path = tmp_path / "gate.yaml"
    path.write_text("max_drop: {fog: 0.1\nmetric: AP\n")
    with pytest.raises(DataError, match="not valid YAML") as error:
        load_gate(path)
    assert error.value.file == path and error.value.line == 2


def write(path, document):
    path.write_text(json.dumps(document))
    return str(path)


def coco_files(tmp_path, skills):
    rng = np.random.default_rng(1)
    truth, difficulty = drives(N_DRIVES), rng.normal(0, 0.8, N_DRIVES)
    document = {
        "images": [
            {"id": int(i), "width": 375, "height": 375, "sequence": name}
            for i, name in zip(truth.image_ids, truth.drives.names, strict=True)
        ],
        "categories": [{"id": 1, "name": "car"}],
        "annotations": [
            {"image_id": int(image) + 1, "category_id": 1, "bbox": box}
            for image, box in zip(truth.image, truth.boxes_xywh.tolist(), strict=True)
        ],
    }
    paths = []
    for name, skill in skills.items():
        found = detect(truth, rng, skill, difficulty)
        records = [
            {"image_id": int(i), "category_id": 1, "bbox": box, "score": score}
            for i, box, score in zip(found.image_id, found.boxes_xywh.tolist(), found.scores, strict=True)
        ]
        paths.append(write(tmp_path / f"{name}.json", records))
    return write(tmp_path / "gt.json", document), paths


def test_results_files_and_the_gate_by_command(tmp_path, capsys):
    gt, (bad, good) = coco_files(tmp_path, {"bad": 0.0, "good": 1.5})
    gate = tmp_path / "gate.yaml"
    gate.write_text(yaml.safe_dump({"metric": "AP50", "max_drop": {"clean": 0.01}}))
    out = tmp_path / "compare.json"
    common = ["--data", gt, "--draws", "200", "--gate", str(gate)]
    assert main(["compare", good, bad, *common, "--out", str(out)]) == 0
    assert main(["compare", bad, good, *common]) == 1
    assert "gate: FAIL (clean)" in capsys.readouterr().out
    found = json.loads(out.read_text())
    assert found["rows"][0]["delta"] > 0 and found["gate"][0]["passed"] is True
    assert main(["compare", bad, good, "--data", gt, "--draws", "200"]) == 0  # without a gate it only reports
    assert main(["compare", bad, good]) == 2
    gate.write_text(yaml.safe_dump({"max_drop": {"fog": 0.01}}))
    assert main(["compare", bad, good, *common]) == 2
    assert "not measured in both" in " ".join(capsys.readouterr().err.split())


CLASSES = ("car",)


def run_folder(root, name, dataset, cells, skill, weights="0" * 16, version=None, seed=0):
    """A run directory with cached cells, as a sweep writes them."""
    identity = {"weights": weights, "settings": "", "precision": "torch.float32"}
    store = detection_cache.DetectionCache(root / name / detection_cache.CELLS_FOLDER, identity)
    rng = np.random.default_rng(seed)
    for cell in cells:
        for key in detection_cache.image_keys(dataset):
            detected = rng.random(4) < skill
            boxes = np.array([[60.0 * i, 0, 60 * i + 50, 50] for i in range(4)], np.float32)[detected]
            scores = rng.uniform(0.5, 1, len(boxes)).astype(np.float32)
            store.add(key, cell, Detections(boxes, scores, np.ones(len(boxes), np.int64)))
    store.flush()
    if version is not None:
        for about in (root / name).rglob("about.json"):
            about.write_text(json.dumps(json.loads(about.read_text()) | {"protocol_version": version}))
    return root / name


@pytest.fixture
def street(tmp_path):
    """Thirty drives of one image each, with image files that exist."""
    images = []
    for number in range(1, N_DRIVES + 1):
        (tmp_path / f"{number}.png").write_bytes(b"x" * number)
        boxes = [(60.0 * i, 0.0, 50.0, 50.0) for i in range(4)]
        marks = [Annotation(1, box, 2500.0) for box in boxes]
        images.append(ImageRecord(number, f"{number}.png", 375, 375, f"drive {number}", annotations=marks))
    dataset = Dataset(CLASSES, images, tmp_path)
    write_dataset(dataset, tmp_path / "val.json")
    return dataset


def test_runs_by_command(tmp_path, street, capsys):
    bad = run_folder(tmp_path, "bad", street, [CLEAN, *FOG, ("night", 1)], 0.4, seed=1)
    good = run_folder(tmp_path, "good", street, [CLEAN, *FOG], 0.9, weights="1" * 16, seed=2)
    gate, out = tmp_path / "gate.yaml", tmp_path / "compare.json"
    gate.write_text(yaml.safe_dump({"max_drop": {"conditions": 0.05}}))
    command = ["compare", str(bad), str(good), "--data", str(tmp_path / "val.json"), "--draws", "200"]
    assert main([*command, "--gate", str(gate), "--out", str(out)]) == 1
    rows = {row["name"]: row for row in json.loads(out.read_text())["rows"]}
    assert set(rows) == {"clean", "mPC", "rPC", "fog"}  # what both have seen
    assert rows["fog"]["high"] < 0
    (bad / "config.yaml").write_text(yaml.safe_dump({"data": {"val": str(tmp_path / "val.json")}}))
    assert main(["compare", str(bad), str(good), "--draws", "200"]) == 0
    assert main(["compare", str(good), str(bad), "--draws", "200"]) == 2
    assert "--data" in capsys.readouterr().err


def test_cells_of_another_protocol_version_are_refused(tmp_path, street):
    run = run_folder(tmp_path, "old", street, [CLEAN], 0.5, version="ancient")
    with pytest.raises(DataError, match="protocol version ancient"):
        open_cache(run)


def test_cached_cells_must_belong_to_one_detector(tmp_path, street):
    with pytest.raises(DataError, match="no stored detections"):
        open_cache(tmp_path)
    run = run_folder(tmp_path, "run", street, [CLEAN], 0.5)
    run_folder(tmp_path, "run", street, [CLEAN, *FOG], 0.5, weights="2" * 16)
    with pytest.raises(DataError, match="cells of 2 detectors"):
        open_cache(run)
    (run / "robustness" / "val").mkdir()
    (run / "robustness" / "val" / "results.json").write_text(json.dumps({"run": {"weights": "2" * 16}}))
    assert open_cache(run).cells() == [CLEAN, *FOG]


def test_law_runs_that_were_never_swept_are_compared_on_all_clean_images(tmp_path, street, capsys):
    """Their validation kept the detections of every image."""
    rng = np.random.default_rng(1)
    for name in ("a", "b"):
        save_results(tmp_path / name / "eval" / "best.npz", detect(from_dataset(street), rng))
        (tmp_path / name / "config.yaml").write_text(yaml.safe_dump({"data": {"val": str(tmp_path / "val.json")}}))
    out = tmp_path / "c.json"
    assert main(["compare", str(tmp_path / "a"), str(tmp_path / "b"), "--draws", "100", "--out", str(out)]) == 0
    (row,) = json.loads(out.read_text())["rows"]
    assert row["name"] == "clean" and row["images"] == len(street.images)
    other = tmp_path / "other.json"
    other.write_bytes((tmp_path / "val.json").read_bytes())
    assert main(["compare", str(tmp_path / "a"), str(tmp_path / "b"), "--data", str(other)]) == 2
    assert "stored detections of its own validation data only" in capsys.readouterr().err


@pytest.mark.parametrize("change", ["labels", "images"])
def test_law_a_validation_of_data_that_has_changed_is_not_compared(tmp_path, street, capsys, change):
    """Its stored detections are of other labels or other pixels under the same path."""
    data = tmp_path / "val.json"
    hashes = {"val_sha256": file_hash(data), "val_images_sha256": images_hash(street)}
    for name in ("a", "b"):
        save_results(tmp_path / name / "eval" / "best.npz", detect(from_dataset(street), np.random.default_rng(1)))
        (tmp_path / name / "config.yaml").write_text(yaml.safe_dump({"data": {"val": str(data)}}))
        (tmp_path / name / "provenance.json").write_text(json.dumps(hashes))
    command = ["compare", str(tmp_path / "a"), str(tmp_path / "b"), "--draws", "100"]
    assert main(command) == 0
    if change == "labels":
        data.write_text(data.read_text() + " ")
    else:
        (tmp_path / street.images[3].file_name).write_bytes(b"other pixels")
    assert main(command) == 2
    assert "changed since the run stored its detections - run eval-robustness" in capsys.readouterr().err
    run_folder(tmp_path, "a", street, [CLEAN], 0.5)
    run_folder(tmp_path, "b", street, [CLEAN], 0.5)
    assert main(command) == 0  # a sweep is of the images that it saw
