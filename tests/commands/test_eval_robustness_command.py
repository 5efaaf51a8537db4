"""eval-robustness and predict from the command line: their files, their refusals, nothing half-written."""

import json

import numpy as np
import pytest
from planted import planted_dataset
from robust_run import write_run

from drivetl.cli import main
from drivetl.commands.eval_robustness import parse_budget
from drivetl.conditions import parse_severities
from drivetl.errors import ConfigError
from drivetl.models.checkpoint import load_detector
from drivetl.robustness.run import identity

NOTHING = {"version": 1, "preset": "none", "transforms": [], "ancestors": []}
FOG = NOTHING | {"transforms": [{"name": "Fog", "phenomenon": "fog", "model": "koschmieder_depth", "range": {}}]}
QUICK = ["--severities", "1,3", "--workers", "0", "--draws", "50", "--device", "cpu"]


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return planted_dataset(tmp_path_factory.mktemp("planted"), n_images=4, n_drives=2)


@pytest.fixture
def run(tmp_path):
    return write_run(tmp_path / "runs" / "mine", NOTHING)


def evaluate(run, data, *words):
    return main(["eval-robustness", "--run", str(run), "--data", str(data), *QUICK, *words])


def test_the_report_is_written_next_to_the_run(run, data, capsys):
    assert evaluate(run, data, "--conditions", "night,contrast", "--slices", "weather") == 0
    folder = run / "robustness" / "val"
    assert {path.name for path in folder.iterdir()} >= {"results.json", "cells.csv", "summary.md", "report.html"}
    results = json.loads((folder / "results.json").read_text())
    assert [row["level"] for row in results["conditions"]] == ["L3", "L3"]
    assert results["protocol"]["severities"] == [1, 3] and results["data"]["images"] == 2
    assert results["data"]["clean_slice"] == "weather=clear"
    assert [row["value"] for row in results["slices"]] == ["clear", "rain"]
    printed = capsys.readouterr().out
    assert "clean slice (weather=clear): 2 of 4 images" in printed
    assert "report.html" in printed and "night" in printed and "bound by" in printed


def test_slices_from_a_csv(run, data, tmp_path, capsys):
    """The CSV may name more images than the dataset has; the report has the pair and its sentence."""
    rows = [f"{n:06d}.png,{'noon' if n < 2 else 'midnight'},{'day' if n < 2 else 'night'}" for n in range(9)]
    table = tmp_path / "attributes.csv"
    table.write_text("\n".join(["file_name,hour,light", *rows]))
    out = tmp_path / "out"
    words = ["--conditions", "night,contrast", "--slices", str(table), "--out", str(out)]
    for wrong, message in (
        (["--pairs", "light=dusk:night"], "--pairs light=dusk: no real slice has this value - available: light=night"),
        (["--pairs", "light=night:fog"], "--pairs light=night:fog: not run - add fog to --conditions"),
        (["--clean", "hour=noon", "--pairs", "hour=midnight:night"], "no real slice has this value - available: none"),
    ):
        assert evaluate(run, data, *words, *wrong) == 2
        assert message in capsys.readouterr().err
    assert not (run / "robustness").exists(), "refused before anything was inferred"
    assert evaluate(run, data, *words) == 0
    real = json.loads((out / "results.json").read_text())["real"]
    assert real["clean"] == {"light": "day"}
    assert [(pair["value"], pair["condition"]) for pair in real["pairs"]] == [("night", "night")]
    assert "Real conditions (L4)" in (out / "report.html").read_text()
    assert "| light=night (too small) | 2 |" in (out / "summary.md").read_text()


def test_a_second_report_reuses_stored_detections(run, data, tmp_path, capsys):
    assert evaluate(run, data, "--conditions", "night") == 0
    other = write_run(tmp_path / "runs" / "other", NOTHING, seed=1)
    assert evaluate(run, data, "--conditions", "night", "--baseline", str(other), "--out", str(tmp_path / "b")) == 0
    results = json.loads((tmp_path / "b" / "results.json").read_text())
    assert results["baseline"]["name"] == "other" and results["timing"]["inferences"] == 3 * 4
    assert evaluate(run, data, "--conditions", "night", "--budget", "0", "--out", str(tmp_path / "c")) == 0
    assert json.loads((tmp_path / "c" / "results.json").read_text())["timing"]["bound_by"] == "stored"
    capsys.readouterr()


def test_compare_reads_the_stored_cells(run, data, tmp_path, capsys):
    """compare reads the cells of eval-robustness, without a model."""
    other = write_run(tmp_path / "runs" / "other", NOTHING, seed=1)
    for folder in (run, other):
        assert evaluate(folder, data, "--conditions", "night") == 0
    words = ["compare", str(run), str(other), "--data", str(data), "--draws", "200", "--out", str(tmp_path / "c.json")]
    assert main(words) == 0
    rows = [row["name"] for row in json.loads((tmp_path / "c.json").read_text())["rows"]]
    assert rows[0] == "clean" and "night" in rows
    capsys.readouterr()


def test_the_same_cells_for_any_batch_size(run, data, tmp_path):
    """With a real network: a batch has images of one size, so padding never changes the detections."""
    values = []
    for size in ("1", "5"):
        copy = write_run(tmp_path / size / "run", NOTHING)
        out = tmp_path / size / "out"
        assert evaluate(copy, data, "--conditions", "contrast", "--batch-size", size, "--out", str(out)) == 0
        results = json.loads((out / "results.json").read_text())
        values.append([cell["numbers"]["AP50"] for cell in results["cells"]])
    assert np.allclose(np.array(values, float)[0], np.array(values, float)[1], atol=1e-6)


def test_nothing_is_overwritten(run, data, capsys):
    assert evaluate(run, data, "--conditions", "night") == 0
    before = (run / "robustness" / "val" / "results.json").read_bytes()
    assert evaluate(run, data, "--conditions", "night") == 2
    assert "never overwritten - name another folder with --out" in capsys.readouterr().err
    assert (run / "robustness" / "val" / "results.json").read_bytes() == before


def test_held_out_refuses_what_was_trained_on(tmp_path, data, capsys):
    run = write_run(tmp_path / "run", FOG)
    assert evaluate(run, data, "--conditions", "held_out,fog") == 2
    assert "condition 'fog' is not held out" in capsys.readouterr().err
    assert not (run / "robustness").exists()


@pytest.mark.parametrize("conditions", ["held_out", "night"])
def test_a_misspelt_phenomenon_is_named_before_anything_is_measured(tmp_path, data, capsys, conditions):
    row = {"name": "Fog", "phenomenon": "fogg", "model": "mine", "range": {}}
    run = write_run(tmp_path / "run", NOTHING | {"transforms": [row]})
    assert evaluate(run, data, "--conditions", conditions) == 2
    assert capsys.readouterr().err.startswith(
        "error: augmentation.json: transform 'Fog' has the unknown phenomenon 'fogg' - did you mean 'fog'?"
    )
    assert not (run / "robustness").exists()


def test_an_unverified_run_is_marked(tmp_path, data, capsys):
    run = write_run(tmp_path / "run")
    assert evaluate(run, data, "--conditions", "night", "--out", str(tmp_path / "out")) == 0
    printed = capsys.readouterr()
    assert "UNVERIFIED" in printed.err and "UNVERIFIED" in printed.out
    for name in ("report.html", "summary.md", "cells.csv"):
        assert "UNVERIFIED" in (tmp_path / "out" / name).read_text(), name


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--conditions", "nigth"], "did you mean 'night'"),
        (["--severities", "0,6"], "--severities '0,6' - write numbers from 1 to 5"),
        (["--budget", "soon"], "--budget 'soon' is not a time"),
        (["--baseline", "nowhere"], "nowhere: no such folder"),
        (["--slices", "colour", "--conditions", "contrast"], "no image has the attribute 'colour'"),
        (["--slices", "weather", "--clean", "dry"], "--clean 'dry' is not NAME=VALUE - for example"),
        (
            ["--slices", "weather", "--pairs", "weather=rain"],
            "--pairs 'weather=rain' is not NAME=VALUE:CONDITION - for example",
        ),
        (["--slices", "nowhere.csv"], "nowhere.csv"),
        (["--batch-size", "0"], "--batch-size is 0"),
        (["--conditions", "contrast", "--budget", "0"], "use a larger --budget"),
    ],
)
def test_the_likeliest_mistakes(run, data, capsys, words, message):
    assert evaluate(run, data, *words) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ") and message in error and "Traceback" not in error
    assert not (run / "robustness" / "val").exists()


def test_other_classes_than_the_data(run, data, tmp_path, capsys):
    other = tmp_path / "val.json"
    other.write_text(data.read_text().replace('"pedestrian"', '"walker"').replace('"."', f'"{data.parent}"'))
    quick = ["--conditions", "contrast", "--severities", "3", "--draws", "60"]
    assert evaluate(run, other, "--out", str(tmp_path / "cars"), *quick) == 0
    error = capsys.readouterr().err
    assert "Over 1 of 2 classes: walker (4 objects) is not known to mine. It has no AP" in error
    assert "1 class of mine is not one of the data; such detections are left out: pedestrian" in error
    assert evaluate(run, other, "--out", str(tmp_path / "all"), *quick, "--class-map", "pedestrian=walker") == 0
    assert "Classes of mine: pedestrian is walker" in capsys.readouterr().err
    assert evaluate(run, data, "--out", str(tmp_path / "own"), *quick) == 0
    own, mapped = (json.loads((tmp_path / name / "results.json").read_text()) for name in ("own", "all"))
    assert mapped["clean"]["numbers"] == own["clean"]["numbers"] and own["class_match"] is None
    assert evaluate(run, other, "--out", str(tmp_path / "no"), *quick, "--class-map", "pedestrian=wolker") == 2
    assert "names 'wolker', which is not a class of the data - did you mean 'walker'?" in capsys.readouterr().err
    assert main(["predict", "--run", str(run), "--data", str(other), "--out", str(tmp_path / "p")]) == 2
    assert "or use its images: " in capsys.readouterr().err and not (tmp_path / "p").exists()


@pytest.mark.parametrize(("text", "seconds"), [("90", 90), ("90s", 90), ("10m", 600), ("1.5h", 5400), ("0", 0)])
def test_budgets(text, seconds):
    assert parse_budget(text) == seconds


def test_the_same_weights_with_other_settings_have_their_own_cells(run):
    before = identity(load_detector(run, device="cpu"))
    about = run / "checkpoints" / "best" / "model.json"
    text = about.read_text()
    about.write_text(text.replace('"score_threshold": 0.05', '"score_threshold": 0.2'))
    assert about.read_text() != text
    after = identity(load_detector(run, device="cpu"))
    assert before["weights"] == after["weights"] and before != after


def test_no_budget_is_no_limit_and_severities_are_sorted():
    assert parse_budget(None) is None and parse_severities("5,1,1") == [1, 5]
    with pytest.raises(ConfigError):
        parse_budget("-3m")


def test_predict_on_a_dataset(run, data, tmp_path, capsys):
    out = tmp_path / "p"
    words = ["--workers", "0", "--score", "0.05", "--pictures", "2"]
    assert main(["predict", "--run", str(run), "--data", str(data), "--out", str(out), *words]) == 0
    rows = json.loads((out / "results.json").read_text())
    assert {row["image_id"] for row in rows} <= {1, 2, 3, 4}
    assert len(list((out / "pictures").rglob("*.jpg"))) == 2
    assert main(["evaluate", "--gt", str(data), "--predictions", str(out / "results.json")]) == 0
    capsys.readouterr()


def test_predict_on_a_folder_and_as_kitti(run, data, tmp_path, capsys):
    out = tmp_path / "p"
    words = ["--workers", "0", "--score", "0.05", "--pictures", "0"]
    images = ["--images", str(data.parent / "images")]
    assert main(["predict", "--run", str(run), *images, "--out", str(out), *words]) == 0
    document = json.loads((out / "images.json").read_text())
    assert [image["file_name"] for image in document["images"]] == [f"{n:06d}.png" for n in range(4)]
    assert not (out / "pictures").exists()
    kitti = tmp_path / "k"
    assert main(["predict", "--run", str(run), *images, "--out", str(kitti), *words, "--format", "kitti"]) == 0
    assert sorted(path.name for path in (kitti / "data").iterdir()) == [f"{n:06d}.txt" for n in range(4)]
    assert main(["predict", "--run", str(run), *images, "--out", str(kitti), *words]) == 2
    assert "never overwritten" in capsys.readouterr().err
