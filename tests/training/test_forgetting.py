"""Laws of the forgetting ledger: unchanged classes have a delta of 0, classes without a counterpart have no value."""

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from training_runs import kill_after, write_tree

from drivetl.coco.io import read_dataset, write_dataset
from drivetl.errors import DrivetlError
from drivetl.metrics import coco_ap
from drivetl.metrics.match_store import match
from drivetl.metrics.relabel import relabelled
from drivetl.metrics.results import Results
from drivetl.metrics.statistics import draw_weights
from drivetl.models.build import ModelSpec, build_model
from drivetl.training.finetune import finetune
from drivetl.training.forgetting import DRAWS, OldDomain, ledger, lines
from drivetl.training.rundir import read_metrics


def target(source, tmp_path, categories, relation=None, **optim):
    """A config that adapts the source to data with other class names."""
    config, run = source
    train = write_tree(tmp_path / "train", categories=categories, relation=relation)
    val = write_tree(tmp_path / "val", n_images=4, categories=categories, first_drive=10, seed=1, relation=relation)
    return dataclasses.replace(
        config,
        data=dataclasses.replace(config.data, train=str(train), val=str(val)),
        model=dataclasses.replace(config.model, start=str(run), norm="frozen"),
        optim=dataclasses.replace(config.optim, **optim),
    )


def test_law_reordered_classes_without_training_forget_nothing(source, tmp_path):
    config = target(source, tmp_path, ("pedestrian", "auto"), {"auto": {"car": 1.0}}, epochs=1, lr=1e-12)
    old = Path(source[0].data.val)
    finetune(config, tmp_path / "run", source_data=old)
    document = json.loads((tmp_path / "run" / "forgetting.json").read_text())
    assert [(row["name"], row["counterpart"]) for row in document["classes"]] == [
        ("car", ["auto"]),
        ("pedestrian", ["pedestrian"]),
    ]
    assert document["mean"]["before"]["point"] > 0
    for row in [*document["classes"], document["mean"]]:
        assert row["delta"] == {"point": 0.0, "low": None, "high": None}, row  # 3 drives: no interval
    assert (document["images"], document["left_out"]) == (4, [])
    assert "| car | " in (tmp_path / "run" / "README.md").read_text()


def test_a_class_without_a_counterpart_has_no_value_instead_of_zero(source, tmp_path, capsys):
    config, old = target(source, tmp_path, ("car", "bird"), epochs=1), Path(source[0].data.val)
    (tmp_path / "train" / "000004.png").write_bytes(old.with_name("000001.png").read_bytes())
    finetune(config, tmp_path / "run", source_data=old)
    printed = capsys.readouterr()
    assert "--source-data has images of data.train: 1 of 4, first " in " ".join(printed.err.split())
    car, pedestrian = json.loads((tmp_path / "run" / "forgetting.json").read_text())["classes"]
    assert pedestrian["counterpart"] == [] and pedestrian["n"] > 0
    assert pedestrian["before"]["point"] is not None and pedestrian["after"]["point"] is None
    assert car["after"]["point"] is not None
    assert "gone" in printed.out
    assert "| gone |" in (tmp_path / "run" / "README.md").read_text()


def boxes(*rows):
    """(image, class, x) -> a detection of 10 x 10 px at x, with decreasing scores."""
    images, classes, xs = zip(*rows, strict=True)
    boxes_xywh = [(x, 0.0, 10.0, 10.0) for x in xs]
    return Results.of(images, classes, boxes_xywh, np.linspace(0.9, 0.5, len(rows)))


def test_an_object_detected_by_two_counterparts_of_a_class_counts_once():
    detections = boxes((1, 1, 0.0), (1, 2, 1.0), (1, 2, 50.0), (2, 2, 0.0), (1, 3, 0.0))
    merged = relabelled(detections, {1: 7, 2: 7})
    order = np.lexsort((merged.boxes_xywh[:, 0], merged.image_id))
    assert merged.image_id[order].tolist() == [1, 1, 2] and set(merged.category_id) == {7}
    assert merged.boxes_xywh[order, 0].tolist() == [0.0, 50.0, 0.0]
    separate = relabelled(detections, {1: 7, 2: 8})  # two classes: no detection duplicates another
    assert sorted(separate.category_id.tolist()) == [7, 8, 8, 8]
    assert len(relabelled(detections, {9: 1})) == 0


def test_a_loss_of_ap_is_reported_with_its_interval(tmp_path):
    data = read_dataset(write_tree(tmp_path / "old", n_images=24, n_drives=6))
    objects = [(image.id, item.category_id, item.bbox_xywh) for image in data.images for item in image.annotations]
    ids, classes, boxes_xywh = zip(*objects, strict=True)
    before = Results.of(ids, classes, boxes_xywh, np.ones(len(ids)))
    after = before.where((before.category_id != 1) | (before.image_id % 2 == 0))
    old = OldDomain(tmp_path, data, ("car", "pedestrian"), (), {1: 1, 2: 2}, {1: 1, 2: 2})
    car, pedestrian = ledger(old, before, after, ("car", "pedestrian"))["classes"]
    assert car["delta"]["low"] <= car["delta"]["point"] < -0.3 and car["delta"]["high"] < 0
    assert pedestrian["delta"]["point"] == 0.0
    assert lines(ledger(old, before, after, ("car", "pedestrian")))[0][3] == "1.000"


def test_law_the_mean_over_kept_classes_is_over_those_present_in_a_draw(tmp_path):
    """A class that only one drive has is missing in every third draw; the interval is over all draws, like AP's."""
    data = read_dataset(write_tree(tmp_path / "old", n_images=24, n_drives=6))
    for image in data.images:
        image.annotations = [item for item in image.annotations if item.category_id == 1 or image.drive == "drive 0"]
    objects = [(image.id, item.category_id, item.bbox_xywh) for image in data.images for item in image.annotations]
    ids, classes, boxes_xywh = zip(*objects, strict=True)
    perfect = Results.of(ids, classes, boxes_xywh, np.ones(len(ids)))
    half = perfect.where((perfect.category_id != 1) | (perfect.image_id % 2 == 0))
    old = OldDomain(tmp_path, data, ("car", "pedestrian"), (), {1: 1, 2: 2}, {1: 1, 2: 2})
    mean = ledger(old, perfect, half, ("car", "pedestrian"))["mean"]["delta"]
    store = match(data, half)
    draws = coco_ap.ap(store, None, draw_weights(store.units(), DRAWS)) - 1.0
    low, high = np.quantile(draws, [0.025, 0.975])
    assert mean["low"] == pytest.approx(low) and mean["high"] == pytest.approx(high)


def test_a_resumed_run_uses_its_old_data_and_reports_the_classes_left_out(source, tmp_path, monkeypatch, capsys):
    config = target(source, tmp_path, ("car", "pedestrian"), epochs=1)
    old = write_tree(tmp_path / "old", n_images=4, categories=("car", "boat"), first_drive=10, seed=1)
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        kill_after(patch, 2)
        finetune(config, tmp_path / "run", source_data=old)
    assert read_metrics(tmp_path / "run" / "metrics.jsonl")[0]["epoch"] == 0
    finetune(config, tmp_path / "run", resume=True)
    assert [row["epoch"] for row in read_metrics(tmp_path / "run" / "metrics.jsonl")] == [0, 1]
    assert json.loads((tmp_path / "run" / "forgetting.json").read_text())["left_out"] == ["boat"]
    remark = "abelled in this data, but not classes of the source: boat"
    card = (tmp_path / "run" / "README.md").read_text()
    assert remark in capsys.readouterr().out and remark in card and "oo few images or drives" in card


def test_a_weights_file_is_rebuilt_as_its_detector(small_config, tmp_path):
    """Random weights of 91 classes as a substitute for a published file: class names are `class N`, as in the data."""
    torch.manual_seed(0)
    model = build_model(
        ModelSpec("fasterrcnn_tiny_fpn", tuple(f"class {n}" for n in range(1, 91)), 64, 96, 50, 20, 16, 10, 0.0, True)
    )
    torch.save(model.state_dict(), tmp_path / "weights.pth")
    old = write_tree(tmp_path / "old", categories=("class 3", "class 7"))
    config = dataclasses.replace(
        small_config,
        model=dataclasses.replace(small_config.model, start=str(tmp_path / "weights.pth")),
        optim=dataclasses.replace(small_config.optim, epochs=1),
    )
    finetune(config, tmp_path / "run", source_data=old)
    document = json.loads((tmp_path / "run" / "forgetting.json").read_text())
    assert [row["name"] for row in document["classes"]] == ["class 3", "class 7"]
    assert all(row["after"]["point"] is None for row in document["classes"]) and document["mean"] is None


@pytest.mark.parametrize("case", ["no detector", "other classes", "no images", "a lost image"])
def test_unusable_old_data_is_refused_before_anything_is_written(source, tmp_path, case):
    config = source[0]
    old = write_tree(tmp_path / "old", categories=("boat", "plane"))
    if case != "no detector":
        config = dataclasses.replace(config, model=dataclasses.replace(config.model, start=str(source[1])))
    message = {
        "no detector": r"--source-data needs a detector to start from, model\.start is random weights",
        "no images": r"old/data\.json: no images in it - give data of the source's own domain",
        "a lost image": r"old/data\.json: 000002\.png is missing - restore it",
        "other classes": r"boat, plane, none of which is a class of the source: car, pedestrian - give data of",
    }[case]
    if case == "no images":
        dataset = read_dataset(old)
        write_dataset(dataset.subset([]), old)
    if case == "a lost image":
        (tmp_path / "old" / "000002.png").unlink()
    with pytest.raises(DrivetlError, match=message):
        finetune(config, tmp_path / "run", source_data=old)
    assert not (tmp_path / "run").exists()
