"""Laws of the verdict: a gain is reported with its interval, never with more certainty than the drives allow, and a
source that training made worse is kept."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from training_runs import changed, write_tree
from two_cars import detections, world

from drivetl.coco.detections import Detections
from drivetl.coco.drives import Drives
from drivetl.coco.io import read_dataset
from drivetl.errors import DataError
from drivetl.files.runs import BEST_DETECTIONS
from drivetl.metrics.results import load_results, of_image, save_results
from drivetl.models.weights import read_weights
from drivetl.training.finetune import finetune
from drivetl.training.model_card import model_card, outcome, verdict
from drivetl.training.trainer import KEPT_DETECTIONS, SOURCE_DETECTIONS


def rows(*scores):
    return [{"epoch": epoch, "step": epoch, "AP": score, "AP50": score} for epoch, score in enumerate(scores)]


def outcome_of(tmp_path, n_drives, best=lambda _: 2, source=lambda number: 1 + number % 2):
    val = world(n_drives)
    save_results(tmp_path / SOURCE_DETECTIONS, detections(val, source))
    save_results(tmp_path / BEST_DETECTIONS, detections(val, best))
    metrics = rows(0.75, 1.0)
    return outcome(tmp_path, metrics, metrics[1], val)


def test_a_significant_gain_is_reported_with_its_interval(tmp_path):
    document = outcome_of(tmp_path, 10)
    assert document["delta"]["point"] == pytest.approx(1 - 76 / 101, abs=1e-9)  # 3 of 4 cars: recall points 0..75 %
    assert 0 < document["delta"]["low"] <= document["delta"]["point"] <= document["delta"]["high"]
    assert document["delta"]["p"] < 0.05 and document["drives"] == 10
    assert document["verdict"].startswith("adapting helped: AP 0.750 -> 1.000 (+0.248, 95 % interval +0.248 to +0.248")


def test_a_gain_in_one_drive_is_not_significant(tmp_path):
    document = outcome_of(tmp_path, 10, best=lambda _: 1, source=lambda number: 1 if number > 4 else 0)
    assert document["delta"]["point"] > 0
    assert document["verdict"].startswith("adapting may have helped, but there are too few drives to establish it: AP ")


def test_with_fewer_than_six_drives_nothing_is_significant(tmp_path):
    document = outcome_of(tmp_path, 5)
    assert document["delta"]["p"] > 0.05  # 2^(1 - 5): five drives cannot do better
    assert "5 drives are too few for a significance test - validate on at least 6" in document["verdict"]


def test_names_from_outside_are_literal_in_the_card(small_config, tmp_path):
    facts = {
        "categories": ["<b>car</b>", "a|b", "traffic light"],
        "start": "[a](b)",
        "train_images": 4,
        "train_drives": "1 drive",
        "augmentation": "<!-- x",
        "outcome": outcome_of(tmp_path, 6),
        "forgetting": None,
        "path": Path("runs/a b"),
    }
    card = model_card("**run**\n# x", small_config, facts)
    assert card.startswith("# \\*\\*run\\*\\*\\\\n# x\n")
    assert "- classes: \\<b>car\\</b>, a\\|b, traffic light\n" in card
    assert "from \\[a\\](b)." in card and "- augmentation: \\<!-- x\n" in card
    assert "--run 'runs/a b' --data" in card


def test_without_validation_objects_there_is_no_evaluation():
    document = {"before": {"AP": None}, "best": {"epoch": 0, "AP": float("nan")}, "delta": None, "drives": 9}
    assert verdict(document, [], Drives(("a",))) == (
        "adapting cannot be evaluated: the validation images contain no objects"
    )


def test_without_a_source_there_is_no_verdict():
    metrics = rows(0.1, 0.2)[1:]
    document = {"before": None, "best": metrics[0], "delta": None, "drives": 9}
    assert verdict(document, metrics, Drives(("a",))) == ""


def test_when_training_does_harm_the_source_is_kept_and_the_verdict_says_so(source, small_config, tmp_path):
    """A learning rate of 0.05 diverges; the target has the classes in another order, so best must be the mapped
    source."""
    names = ("pedestrian", "car")
    train = write_tree(tmp_path / "train2", categories=names)
    val = write_tree(tmp_path / "val2", n_images=4, categories=names, first_drive=10, seed=1)
    config = changed(small_config, "data", train=str(train), val=str(val))
    config = changed(config, "model", start=str(source[1]), norm="frozen")
    done = finetune(changed(config, "optim", lr=0.05), tmp_path / "target")
    assert done.best["epoch"] == 0
    assert done.comparison["verdict"].startswith("adapting did not help: no epoch (best ")
    old = read_weights(source[1] / "checkpoints" / "best" / "model.safetensors")
    kept = read_weights(tmp_path / "target" / "checkpoints" / "best" / "model.safetensors")
    last = read_weights(tmp_path / "target" / "checkpoints" / "last" / "model.safetensors")
    scores = "roi_heads.box_predictor.cls_score.weight"
    assert torch.equal(kept[scores], old[scores][[0, 2, 1]])
    boxes = "roi_heads.box_predictor.bbox_pred.weight"
    assert torch.equal(kept[boxes].view(3, 4, -1), old[boxes].view(3, 4, -1)[[0, 2, 1]])
    rest = [key for key in old if "box_predictor" not in key]
    assert all(torch.equal(kept[key], old[key]) for key in rest)
    assert any(not torch.equal(last[key], old[key]) for key in rest)
    assert json.loads((tmp_path / "target" / "outcome.json").read_text())["best"]["epoch"] == 0
    assert "Adapting did not help" in (tmp_path / "target" / "README.md").read_text()


def test_the_evaluation_interval_does_not_change_the_weights(small_config, tmp_path):
    for every in (1, 2):
        finetune(changed(small_config, "eval", every=every), tmp_path / str(every))
    first, second = (
        read_weights(tmp_path / name / "checkpoints" / "last" / "model.safetensors") for name in ("1", "2")
    )
    assert all(torch.equal(first[key], second[key]) for key in first)


def test_the_best_detections_on_disk_are_those_of_the_best_row(small_config, tmp_path):
    from drivetl.metrics.match_store import match
    from drivetl.training.validate import headline

    config = changed(small_config, "optim", epochs=4, lr=3e-3)
    done = finetune(changed(config, "eval", keep_detections=True), tmp_path / "run")
    val = read_dataset(tmp_path / "val" / "data.json")
    results = load_results(tmp_path / "run" / BEST_DETECTIONS)
    assert headline(match(val, results))["AP"] == done.best["AP"]
    for row in done.rows:
        kept = load_results(tmp_path / "run" / KEPT_DETECTIONS.format(step=row["step"]))
        assert headline(match(val, kept))["AP"] == row["AP"]


def test_stored_detections_are_read_exactly_and_a_damaged_file_is_named(tmp_path):
    detected = Detections(
        np.array([[1.1, 2.2, 30.3, 40.4]], np.float32), np.array([0.123456789], np.float32), np.array([2])
    )
    results = of_image(7, detected)
    save_results(tmp_path / "a.npz", results)
    loaded = load_results(tmp_path / "a.npz")
    for name in ("image_id", "category_id", "boxes_xywh", "scores"):
        assert np.array_equal(getattr(loaded, name), getattr(results, name)), name
    (tmp_path / "a.npz").write_bytes((tmp_path / "a.npz").read_bytes()[:50])
    with pytest.raises(DataError, match=r"a\.npz: stored detections cannot be read"):
        load_results(tmp_path / "a.npz")
