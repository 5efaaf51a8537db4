"""Law: where drives are unknown, every output says so, counts none, and resamples images."""

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
from planted import PlantedDetector, read_planted
from training_runs import write_tree

from drivetl.cli import main
from drivetl.coco.drives import UNKNOWN_DRIVES, Drives
from drivetl.coco.io import read_dataset, write_dataset
from drivetl.commands.eval_robustness import _print as print_sweep
from drivetl.config import dump_yaml
from drivetl.errors import ConfigError
from drivetl.files.yaml_reader import Document
from drivetl.metrics.comparison import compare
from drivetl.metrics.gate import check_gate, parse_gate
from drivetl.metrics.match_store import match
from drivetl.metrics.measures import ratio_interval
from drivetl.metrics.results import Results, save_results
from drivetl.metrics.statistics import draw_weights
from drivetl.report.html import build_report
from drivetl.report.texts import data_line, summary_md
from drivetl.robustness.report_document import report_document
from drivetl.robustness.run import run_sweep
from drivetl.training import forgetting
from drivetl.training.model_card import model_card, outcome
from drivetl.training.trainer import BEST_DETECTIONS, SOURCE_DETECTIONS

MIXED = f"{UNKNOWN_DRIVES} (4 of 12 images have no drive; the others are of 3 drives)"


def without_drives(dataset, keep=0):
    """The same dataset in which only the first `keep` images name their drive."""
    for image in dataset.images[keep:]:
        image.drive = ""
    return dataset


def all_found(dataset, keep=lambda image: True):
    """Every box of some images, found exactly."""
    rows = [
        (image.id, item.category_id, item.bbox_xywh)
        for image in dataset.images
        if keep(image)
        for item in image.annotations
    ]
    ids, classes, boxes = zip(*rows, strict=True)
    return Results.of(ids, classes, boxes, np.linspace(0.5, 1, len(ids)))


def one_line(text):
    return " ".join(text.split())


@pytest.fixture
def files(tmp_path):
    """A dataset without drives and two results files."""
    data = without_drives(read_dataset(write_tree(tmp_path / "data", n_images=12)))
    write_dataset(data, tmp_path / "gt.json")
    for name, every in (("a", 1), ("b", 2)):
        found = all_found(data, lambda image, every=every: image.id % every == 0)
        columns = zip(found.image_id, found.category_id, found.boxes_xywh.tolist(), found.scores, strict=True)
        records = [
            {"image_id": int(i), "category_id": int(k), "bbox": box, "score": float(score)}
            for i, k, box, score in columns
        ]
        (tmp_path / f"{name}.json").write_text(json.dumps(records))
    return [str(tmp_path / f"{name}.json") for name in ("gt", "a", "b")]


def test_evaluate_reports_unknown_drives(files, tmp_path, capsys):
    command = ["evaluate", "--gt", files[0], "--predictions", files[2], "--details", "--draws", "50"]
    assert main([*command, "--out", str(tmp_path / "M.json")]) == 0
    printed = capsys.readouterr()
    assert UNKNOWN_DRIVES in one_line(printed.err) and "95 % intervals over 12 images" in printed.out
    found = json.loads((tmp_path / "M.json").read_text())["details"]
    assert found["intervals"]["drives"] is None and found["intervals"]["warning"] == UNKNOWN_DRIVES
    assert {row["n_drives"] for row in found["slices"]} == {None}


def test_compare_reports_unknown_drives(files, tmp_path, capsys):
    gate = tmp_path / "gate.yaml"
    gate.write_text("max_drop: {clean: 0.9}")
    command = ["compare", *files[1:], "--data", files[0], "--draws", "200", "--gate", str(gate)]
    assert main([*command, "--out", str(tmp_path / "c.json")]) == 0
    printed = capsys.readouterr()
    assert UNKNOWN_DRIVES in one_line(printed.err) and "95 % intervals over 12 images" in printed.out
    found = json.loads((tmp_path / "c.json").read_text())
    assert found["drives"] is None and found["warning"] == UNKNOWN_DRIVES


def test_a_gate_on_too_few_images_names_images(tmp_path):
    data = without_drives(read_dataset(write_tree(tmp_path / "data", n_images=4)))
    store = match(data, all_found(data))
    with pytest.raises(ConfigError, match="cannot decide on 4 images"):
        check_gate(parse_gate(Document({"max_drop": {"clean": 0.1}})), compare(lambda *_: store, [], n_draws=10))


@pytest.mark.parametrize(("keep", "drives", "words"), [(0, None, UNKNOWN_DRIVES), (8, 3, MIXED)])
def test_the_robustness_report_reports_unknown_drives(keep, drives, words, tmp_path, capsys):
    data = without_drives(read_planted(tmp_path / "planted", n_images=12, n_drives=3), keep)
    for image in data.images:
        image.attributes["timeofday"] = "day"
    swept = run_sweep(PlantedDetector(), data, ["night"], [3], cache=tmp_path / "cells", workers=0)
    results = report_document(swept, metric="AP50", n_draws=50, slices=["timeofday"])
    assert results["data"]["drives"] == drives and results["data"]["warning"] == words
    assert results["slices"][0]["drives"] == drives
    print_sweep(results)
    assert words in one_line(capsys.readouterr().err)
    page, summary = build_report(results), summary_md(results)
    for text in (page, summary):
        assert words[1:] in text
        assert ("whole drives" in text) == (drives is not None)
    assert ("unknown drives" in data_line(results)) == (drives is None)
    if drives is None:
        assert "12 drives" not in page + summary
        truth, cell = swept.truth, swept.matched("run", ("night", 3))
        hit = cell.detected_objects(np.array(list(results["operating"]["thresholds"].values())))
        hits, total = (np.bincount(truth.image[rows], minlength=12).astype(float) for rows in (hit, ~truth.crowd))
        expected = ratio_interval(hits, total, draw_weights(range(12), 50))
        assert results["cells"][0]["recall"]["high"] == pytest.approx(expected.high)


def test_the_forgetting_ledger_reports_unknown_drives(tmp_path, capsys):
    data = without_drives(read_dataset(write_tree(tmp_path / "old", n_images=12)))
    old = forgetting.OldDomain(tmp_path, data, ("car", "pedestrian"), (), {1: 1, 2: 2}, {1: 1, 2: 2})
    found = forgetting.ledger(old, all_found(data), all_found(data), ("car", "pedestrian"))
    assert found["drives"] is None and found["warning"] == UNKNOWN_DRIVES
    forgetting.show(found)
    printed = one_line(capsys.readouterr().out)
    assert UNKNOWN_DRIVES in printed and "12 images of unknown drives" in printed


@pytest.mark.parametrize(
    ("keep", "trained_on", "drives", "over", "words"),
    [
        (0, "unknown drives", None, "12 images", UNKNOWN_DRIVES),
        (8, "3 drives (4 images of unknown drive)", 3, "3 drives and 4 images of unknown drive", UNKNOWN_DRIVES),
    ],
)
def test_the_model_card_reports_unknown_drives(keep, trained_on, drives, over, words, small_config, tmp_path):
    val = without_drives(read_dataset(write_tree(tmp_path / "data", n_images=12)), keep)
    save_results(tmp_path / SOURCE_DETECTIONS, all_found(val, lambda image: image.id % 2 == 0))
    save_results(tmp_path / BEST_DETECTIONS, all_found(val))
    rows = [{"epoch": n, "step": n, "AP": score, "AP50": score} for n, score in enumerate((0.5, 1.0))]
    found = outcome(tmp_path, rows, rows[1], val)
    assert found["drives"] == drives and words in found["warning"] and words in found["verdict"]
    assert f"over {over};" in found["verdict"]
    facts = {
        "start": "x",
        "categories": val.categories,
        "train_images": 12,
        "train_drives": Drives.of(val.images).in_words(),
        "augmentation": "none",
        "outcome": found,
        "forgetting": None,
        "path": tmp_path,
    }
    card = model_card("run", small_config, facts)
    assert words in card and f"trained on 12 images of {trained_on}," in card


def test_the_label_curve_reports_unknown_drives(small_config, tmp_path, capsys):
    paths = {}
    for name, path in (("train", small_config.data.train), ("val", write_tree(tmp_path / "wide", n_images=8, seed=1))):
        data = read_dataset(Path(path))
        write_dataset(without_drives(data), data.images_root / f"{name}_bare.json")
        paths[name] = str(data.images_root / f"{name}_bare.json")
    config = dataclasses.replace(small_config, data=dataclasses.replace(small_config.data, **paths))
    (tmp_path / "c.yaml").write_text(dump_yaml(config))
    command = ["budget", "--config", str(tmp_path / "c.yaml"), "--budgets", "4,all", "--seeds", "0", "--steps", "4"]
    assert main([*command, "--regimes", "scratch", "--out", str(tmp_path / "study")]) == 0
    printed = capsys.readouterr()
    assert UNKNOWN_DRIVES in one_line(printed.err) and "of unknown drives" in one_line(printed.out)
    results = json.loads((tmp_path / "study" / "budget.json").read_text())
    assert UNKNOWN_DRIVES in results["warnings"] and UNKNOWN_DRIVES in results["protocol"]["intervals"]
    assert results["data"]["train_drives"] is results["data"]["val_drives"] is None
    assert {row["drives"] for row in results["runs"]} == {None}
    assert UNKNOWN_DRIVES[1:] in (tmp_path / "study" / "report.html").read_text()
