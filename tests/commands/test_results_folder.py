"""`--detector results:DIR`: detections made elsewhere give the sweep's report, and what is missing stays missing."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from planted import PlantedDetector, planted_dataset
from robust_run import write_run

import drivetl
from drivetl.cli import main
from drivetl.models.checkpoint import load_detector

NOTHING = {"version": 1, "preset": "none", "transforms": [], "ancestors": []}
FOG = NOTHING | {"transforms": [{"name": "Fog", "phenomenon": "fog", "model": "koschmieder_depth", "range": {}}]}
QUICK = ["--conditions", "fog,night", "--severities", "1,3", "--draws", "60", "--workers", "0"]


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return planted_dataset(tmp_path_factory.mktemp("planted"), n_images=10, n_drives=5)


@pytest.fixture(scope="module")
def cells(data, tmp_path_factory):
    """The folder that `conditions --write` writes."""
    folder = tmp_path_factory.mktemp("written") / "cells"
    words = ["--conditions", "clean,fog,night", "--severities", "1,3", "--workers", "0"]
    assert main(["conditions", "--data", str(data), "--write", str(folder), *words]) == 0
    return folder


def detect_elsewhere(infer, cells, folder):
    """Runs the code of docs/any_detector.md: reads the files of the manifest, writes COCO results per cell."""

    def detect(image):
        found = infer([torch.from_numpy(image.copy()).permute(2, 0, 1)])[0]
        return np.column_stack([found.boxes.astype(float), found.scores, found.labels])

    code = (Path(__file__).parents[2] / "docs" / "any_detector.md").read_text().split("```python\n")[1].split("```")[0]
    names = {}
    exec(code, names)
    names["detect_cells"](detect, cells, folder)
    return folder


@pytest.fixture(scope="module")
def found(cells, tmp_path_factory):
    return detect_elsewhere(PlantedDetector().infer, cells, tmp_path_factory.mktemp("found") / "planted")


def evaluate(folder, data, out, *words):
    return main(["eval-robustness", "--detector", f"results:{folder}", "--data", str(data), "--out", str(out), *words])


def document(out):
    return json.loads((out / "results.json").read_text())


MEASURED = ("clean", "cells", "conditions", "headline", "sets", "diagnosis", "classes", "operating", "road", "data")


def test_the_circle_of_any_detector(data, found, tmp_path, capsys):
    """The sweep in one process, and the files of --write through results:, are the same report."""
    assert evaluate(found, data, tmp_path / "out", *QUICK) == 0
    own = drivetl.evaluate_robustness(
        PlantedDetector(), data, conditions="fog,night", severities=(1, 3), draws=60, workers=0
    )
    theirs = document(tmp_path / "out")
    for key in MEASURED:
        assert theirs[key] == own.document[key], key
    assert own.clean.point > 0.5 and own.cells["night"][3].point < own.clean.point, "the law is about real numbers"
    assert theirs["run"]["name"] == "planted" and not theirs["protocol"]["verified"]
    assert theirs["timing"]["inferences"] == 0 and theirs["protocol"]["missing_cells"] == []
    assert {path.name for path in (tmp_path / "out").iterdir()} >= {"report.html", "summary.md", "cells.csv"}
    assert "UNVERIFIED" in capsys.readouterr().err


def test_the_circle_of_a_run(data, cells, tmp_path):
    run = write_run(tmp_path / "runs" / "mine", NOTHING)
    words = ["eval-robustness", "--run", str(run), "--data", str(data), "--out", str(tmp_path / "swept")]
    assert main([*words, *QUICK, "--batch-size", "1", "--device", "cpu"]) == 0
    folder = detect_elsewhere(load_detector(run, device="cpu").infer, cells, tmp_path / "found")
    manifest = ["--augmentation", str(run / "augmentation.json")]
    assert evaluate(folder, data, tmp_path / "read", *QUICK, *manifest) == 0
    swept, read = document(tmp_path / "swept"), document(tmp_path / "read")
    assert sum(path.stat().st_size for path in folder.rglob("*.json")) > 10_000, "it detects something"
    for key in MEASURED:
        assert read[key] == swept[key], key
    assert read["protocol"] == swept["protocol"] and read["protocol"]["verified"]


def test_a_missing_cell_is_listed_and_has_no_number(data, found, tmp_path, capsys):
    part = tmp_path / "part"
    shutil.copytree(found, part)
    (part / "night" / "3.json").unlink()
    other = write_run(tmp_path / "other", NOTHING)
    words = ["--baseline", str(other), "--device", "cpu", "--slices", "weather", "--clean", "weather=clear"]
    for number, more in enumerate(([], words)):
        out = tmp_path / f"out{number}"
        assert evaluate(part, data, out, *QUICK, *more) == 0
        assert "no results in 1 cells, whose numbers are missing: night/3" in capsys.readouterr().err
        results = document(out)
        assert results["protocol"]["missing_cells"] == ["night/3"]
        cell = next(row for row in results["cells"] if (row["condition"], row["severity"]) == ("night", 3))
        numbers = [
            cell["value"]["point"],
            cell["recall"]["point"],
            cell["survival"]["point"],
            *cell["numbers"].values(),
        ]
        assert numbers == [None] * len(numbers) and cell["false_alarms_per_image"] is None
        night = next(row for row in results["conditions"] if row["name"] == "night")
        assert night["mean"]["point"] is None and night["rce"] is None
        assert results["headline"]["conditions"] == ["fog"], "no mean over what is left of night"
        for name in ("report.html", "summary.md"):
            assert "1 cell has no results (night/3)" in (out / name).read_text()
        assert ("night", 3) not in {(row["condition"], row["severity"]) for row in results["road"]["worst_frames"]}
    whole = tmp_path / "whole"
    assert evaluate(found, data, whole, *QUICK) == 0
    known = [row for row in document(whole)["cells"] if (row["condition"], row["severity"]) != ("night", 3)]
    kept = [row for row in document(tmp_path / "out0")["cells"] if (row["condition"], row["severity"]) != ("night", 3)]
    assert kept == known, "the other cells do not change"


def test_held_out_takes_the_conditions_that_the_folder_has(data, found, tmp_path):
    words = ["--severities", "1,3", "--draws", "60"]
    (tmp_path / "trained.json").write_text(json.dumps(FOG))
    assert evaluate(found, data, tmp_path / "a", *words) == 0
    assert document(tmp_path / "a")["protocol"]["conditions"] == ["fog", "night"]
    assert evaluate(found, data, tmp_path / "b", *words, "--augmentation", str(tmp_path / "trained.json")) == 0
    results = document(tmp_path / "b")
    assert results["protocol"]["conditions"] == ["night"] and results["protocol"]["verified"]


def test_a_condition_named_next_to_held_out_is_never_dropped_silently(data, found, tmp_path, capsys):
    words = ["--severities", "1,3", "--draws", "60", "--conditions", "held_out,rain"]
    assert evaluate(found, data, tmp_path / "a", *words) == 0
    results, told = document(tmp_path / "a"), capsys.readouterr()
    assert results["protocol"]["missing_cells"] == ["rain/1", "rain/3"]
    assert set(results["protocol"]["conditions"]) == {"fog", "night", "rain"}
    assert "no results in 2 cells, whose numbers are missing: rain/1, rain/3" in told.err
    assert "not in the folder, so not in the report: " in told.out and "snow" in told.out
    rain = next(row for row in results["conditions"] if row["name"] == "rain")
    assert rain["mean"]["point"] is None and "rain" not in results["headline"]["conditions"]


def test_fewer_images_are_those_of_the_sweep(data, found, tmp_path):
    assert evaluate(found, data, tmp_path / "a", *QUICK, "--images", "8") == 0
    whole = drivetl.evaluate_robustness(
        PlantedDetector(), data, conditions="fog,night", severities=(1, 3), draws=60, workers=0, images=8
    )
    assert document(tmp_path / "a")["cells"] == whole.document["cells"]


def test_an_empty_file_is_nothing_found(data, found, tmp_path):
    shutil.copytree(found, tmp_path / "part")
    (tmp_path / "part" / "night" / "3.json").write_text("[]")
    assert evaluate(tmp_path / "part", data, tmp_path / "out", *QUICK) == 0
    cell = document(tmp_path / "out")["cells"][-1]
    assert (cell["condition"], cell["severity"], cell["value"]["point"]) == ("night", 3, 0.0)


def test_the_detectors_own_classes(data, found, tmp_path):
    """With classes.txt the ids are the detector's: the report is that of the data's ids."""
    part, numbers = tmp_path / "part", {1: 4, 2: 2}
    shutil.copytree(found, part)
    for path in part.rglob("*.json"):
        rows = json.loads(path.read_text())
        rows = [row | {"category_id": numbers[row["category_id"]]} for row in rows]
        path.write_text(json.dumps([*rows, *([rows[0] | {"category_id": 3}] if rows else [])]))
    (part / "classes.txt").write_text("bike\nPedestrian\nkite\nCar\n")
    assert evaluate(found, data, tmp_path / "a", *QUICK) == evaluate(part, data, tmp_path / "b", *QUICK) == 0
    for key in MEASURED:
        assert document(tmp_path / "a")[key] == document(tmp_path / "b")[key], key
    assert document(tmp_path / "b")["class_match"]["run"]["unmapped"] == ["bike", "kite"]
    (part / "classes.txt").write_text("bike\nPedestrian\nkite\n")
    assert evaluate(part, data, tmp_path / "c", *QUICK) == 2
    (part / "classes.txt").write_text("bike\n\nCar\n")
    assert evaluate(part, data, tmp_path / "c", *QUICK) == 2 and not (tmp_path / "c").exists()


def test_a_stray_box_outside_is_no_reason_to_stop(data, found, tmp_path):
    shutil.copytree(found, tmp_path / "part")
    rows = [row_of()] * 200 + [row_of(bbox=[-50, 10, 20, 20])]
    (tmp_path / "part" / "night" / "3.json").write_text(json.dumps(rows))
    assert evaluate(tmp_path / "part", data, tmp_path / "out", *QUICK) == 0


def row_of(**changes):
    return {"image_id": 1, "category_id": 1, "bbox": [1, 2, 10, 10], "score": 0.5} | changes


@pytest.mark.parametrize(
    ("file", "content", "message"),
    [
        ("clean/0.json", None, "no clean/0.json: without results on unmodified images nothing can be compared"),
        ("fog/1.json", [row_of(image_id=99)], "fog/1.json: [0]: image_id 99 is not in the ground truth"),
        ("fog/1.json", [row_of(category_id=7)], "fog/1.json: [0]: category_id 7 is not in the ground truth"),
        ("fog/3.json", [row_of(score=3.5)], "fog/3.json: scores from 3.5 to 3.5 - write 0..1"),
        ("fog/3.json", [row_of(bbox=[1, 2, -3, 4])], "fog/3.json: [0]"),
        ("fog/3.json", {"images": []}, "fog/3.json: not COCO results"),
        ("fog/3.json", [row_of(bbox=[0.1, 0.2, 0.3, 0.4])], "fog/3.json: no box goes beyond 0.6"),
        (
            "fog/3.json",
            [row_of(bbox=[700, 20, 30, 30])],
            "[0]: the box (700, 20, 30, 30) is outside image 1 of 256 x 96",
        ),
    ],
)
def test_results_that_do_not_fit(data, found, tmp_path, capsys, file, content, message):
    shutil.copytree(found, tmp_path / "part")
    (tmp_path / "part" / file).unlink()
    if content is not None:
        (tmp_path / "part" / file).write_text(json.dumps(content))
    assert evaluate(tmp_path / "part", data, tmp_path / "out", *QUICK) == 2
    error = capsys.readouterr().err
    assert message in error and "Traceback" not in error and not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--out", "o"], "needs one of --run and --detector"),
        (["--detector", "results:FOUND", "--run", ".", "--out", "o"], "needs one of --run and --detector"),
        (["--detector", "results:FOUND"], "--detector needs --out"),
        (
            ["--detector", "yolo:FOUND", "--out", "o"],
            "--detector 'yolo:found' is not a detector - write results:DIR, python:",
        ),
        (["--detector", "results:nowhere", "--out", "o"], "nowhere: no such folder"),
        (["--run", ".", "--augmentation", "DATA"], "--augmentation goes with --detector"),
        (
            ["--detector", "results:FOUND", "--out", "o", "--augmentation", "DATA"],
            "val.json: not an augmentation manifest",
        ),
        (["--detector", "results:FOUND", "--out", "o", "--conditions", "rain"], "no results under conditions"),
        (["--detector", "results:FOUND", "--out", "o", "--severities", "5"], "no results under conditions"),
        (["--detector", "results:FOUND", "--out", "o", *QUICK, "--iou-type", "segm"], "no mask"),
    ],
)
def test_the_likeliest_mistakes(data, found, tmp_path, monkeypatch, capsys, words, message):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "found").symlink_to(found)
    words = [word.replace("FOUND", "found").replace("DATA", str(data)) for word in words]
    assert main(["eval-robustness", "--data", str(data), *words]) == 2
    error = capsys.readouterr().err
    assert message in error and "Traceback" not in error and not (tmp_path / "o").exists()


def test_every_number_of_the_folder_is_read_without_rounding(found):
    from drivetl.metrics.results import from_records

    rows = json.loads((found / "clean" / "0.json").read_text())
    assert np.array_equal(from_records(rows).scores, [row["score"] for row in rows])


def test_a_baseline_may_be_any_detector(data, found, tmp_path, monkeypatch):
    """The same detections as a folder and as code: the difference is zero in every cell."""
    monkeypatch.syspath_prepend(str(Path(__file__).parents[1] / "helpers"))
    pairs = {
        "folder": (f"results:{found}", "python:planted:PlantedDetector"),
        "code": ("python:planted:PlantedDetector", f"results:{found}"),
    }
    for name, (detector, baseline) in pairs.items():
        words = ["--detector", detector, "--baseline", baseline, "--data", str(data), "--out", str(tmp_path / name)]
        assert main(["eval-robustness", *words, *QUICK]) == 0
        results = document(tmp_path / name)
        assert results["baseline"]["name"] and len(results["cells"]) == 4
        for cell in results["cells"]:
            assert cell["value"]["point"] == cell["baseline"]["point"] > 0 and cell["delta"]["point"] == 0


@pytest.mark.parametrize(
    ("baseline", "message"),
    [
        ("results:nowhere", "nowhere: no such folder"),
        ("python:nowhere.py:make", "nowhere.py: cannot be read"),
        ("nowhere", "nowhere: no such folder"),
    ],
)
def test_a_baseline_that_is_not_there(data, found, tmp_path, capsys, baseline, message):
    assert evaluate(found, data, tmp_path / "o", "--baseline", baseline) == 2
    error = capsys.readouterr().err
    assert message in error and "Traceback" not in error and not (tmp_path / "o").exists()
