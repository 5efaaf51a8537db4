"""Laws of the forgetting ledger: what is the same costs nothing, what is gone has no number."""

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
from drivetl.metrics.results import Results
from drivetl.metrics.statistics import draw_weights
from drivetl.models.build import ModelSpec, build_model
from drivetl.training.finetune import finetune
from drivetl.training.forgetting import DRAWS, OldDomain, ledger, lines, relabelled
from drivetl.training.rundir import read_metrics


def target(source, tmp_path, categories, relation=None, **optim):
    """A config that carries the source to a world with other class names."""
    config, run = source
    train = write_tree(tmp_path / "train", categories=categories, relation=relation)
    val = write_tree(tmp_path / "val", n_images=4, categories=categories, first_drive=10, seed=1, relation=relation)
    return dataclasses.replace(
        config,
        data=dataclasses.replace(config.data, train=str(train), val=str(val)),
        model=dataclasses.replace(config.model, start=str(run), norm="frozen"),
        optim=dataclasses.replace(config.optim, **optim),
    )


def test_law_classes_in_another_order_and_nothing_learnt_forget_nothing(source, tmp_path):
    config = target(source, tmp_path, ("pedestrian", "auto"), {"auto": {"car": 1.0}}, epochs=1, lr=1e-12)
    old = Path(source[0].data.val)
    finetune(config, tmp_path / "run", source_data=old)
    found = json.loads((tmp_path / "run" / "forgetting.json").read_text())
    assert [(row["name"], row["counterpart"]) for row in found["classes"]] == [
        ("car", ["auto"]),
        ("pedestrian", ["pedestrian"]),
    ]
    assert found["mean"]["before"]["point"] > 0
    for row in [*found["classes"], found["mean"]]:
        assert row["delta"] == {"point": 0.0, "low": 0.0, "high": 0.0}, row
    assert (found["images"], found["left_out"]) == (4, [])
    assert "| car | " in (tmp_path / "run" / "README.md").read_text()


def test_a_class_without_a_counterpart_is_gone_and_not_zero(source, tmp_path, capsys):
    config = target(source, tmp_path, ("car", "bird"), epochs=1)
    finetune(config, tmp_path / "run", source_data=Path(source[0].data.val))
    car, pedestrian = json.loads((tmp_path / "run" / "forgetting.json").read_text())["classes"]
    assert pedestrian["counterpart"] == [] and pedestrian["n"] > 0
    assert pedestrian["before"]["point"] is not None and pedestrian["after"]["point"] is None
    assert car["after"]["point"] is not None
    assert "gone" in capsys.readouterr().out
    assert "| gone |" in (tmp_path / "run" / "README.md").read_text()


def boxes(*rows):
    """(image, class, x) -> a detection of 10 x 10 px at x, the first the surest."""
    images, classes, xs = zip(*rows, strict=True)
    places = [(x, 0.0, 10.0, 10.0) for x in xs]
    return Results.of(images, classes, places, np.linspace(0.9, 0.5, len(rows)))


def test_an_object_that_two_heirs_of_a_class_find_counts_once():
    found = boxes((1, 1, 0.0), (1, 2, 1.0), (1, 2, 50.0), (2, 2, 0.0), (1, 3, 0.0))
    merged = relabelled(found, {1: 7, 2: 7})
    order = np.lexsort((merged.boxes_xywh[:, 0], merged.image_id))
    assert merged.image_id[order].tolist() == [1, 1, 2] and set(merged.category_id) == {7}
    assert merged.boxes_xywh[order, 0].tolist() == [0.0, 50.0, 0.0]
    apart = relabelled(found, {1: 7, 2: 8})  # two classes: nothing is the other's double
    assert sorted(apart.category_id.tolist()) == [7, 8, 8, 8]
    assert len(relabelled(found, {9: 1})) == 0


def test_what_got_worse_is_said_with_its_interval(tmp_path):
    data = read_dataset(write_tree(tmp_path / "old", n_images=24))
    whole = [(image.id, item.category_id, item.bbox_xywh) for image in data.images for item in image.annotations]
    ids, classes, places = zip(*whole, strict=True)
    before = Results.of(ids, classes, places, np.ones(len(ids)))
    after = before.where((before.category_id != 1) | (before.image_id % 2 == 0))
    old = OldDomain(tmp_path, data, ("car", "pedestrian"), (), {1: 1, 2: 2}, {1: 1, 2: 2})
    car, pedestrian = ledger(old, before, after, ("car", "pedestrian"))["classes"]
    assert car["delta"]["low"] <= car["delta"]["point"] < -0.3 and car["delta"]["high"] < 0
    assert pedestrian["delta"]["point"] == 0.0
    assert lines(ledger(old, before, after, ("car", "pedestrian")))[0][3] == "1.000"


def test_law_the_mean_over_kept_classes_is_over_those_that_a_draw_holds(tmp_path):
    """A class of one drive is missing in every third draw; the interval is of all draws, as that of AP itself."""
    data = read_dataset(write_tree(tmp_path / "old", n_images=24))
    for image in data.images:
        image.annotations = [item for item in image.annotations if item.category_id == 1 or image.sequence == "drive 0"]
    whole = [(image.id, item.category_id, item.bbox_xywh) for image in data.images for item in image.annotations]
    ids, classes, places = zip(*whole, strict=True)
    perfect = Results.of(ids, classes, places, np.ones(len(ids)))
    half = perfect.where((perfect.category_id != 1) | (perfect.image_id % 2 == 0))
    old = OldDomain(tmp_path, data, ("car", "pedestrian"), (), {1: 1, 2: 2}, {1: 1, 2: 2})
    mean = ledger(old, perfect, half, ("car", "pedestrian"))["mean"]["delta"]
    store = match(data, half)
    draws = coco_ap.ap(store, None, draw_weights(store.units(), DRAWS)) - 1.0
    low, high = np.quantile(draws, [0.025, 0.975])
    assert mean["low"] == pytest.approx(low) and mean["high"] == pytest.approx(high)


def test_a_killed_run_remembers_its_old_data_and_says_what_it_left_out(source, tmp_path, monkeypatch, capsys):
    config = target(source, tmp_path, ("car", "pedestrian"), epochs=1)
    old = write_tree(tmp_path / "old", n_images=4, categories=("car", "boat"), first_drive=10, seed=1)
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        kill_after(patch, 0)
        finetune(config, tmp_path / "run", source_data=old)
    assert read_metrics(tmp_path / "run" / "metrics.jsonl")[0]["epoch"] == 0
    finetune(config, tmp_path / "run", resume=True)
    assert [row["epoch"] for row in read_metrics(tmp_path / "run" / "metrics.jsonl")] == [0, 1]
    assert json.loads((tmp_path / "run" / "forgetting.json").read_text())["left_out"] == ["boat"]
    remark = "abelled there and unknown to the source: boat"
    card = (tmp_path / "run" / "README.md").read_text()
    assert remark in capsys.readouterr().out and remark in card and "oo few drives" in card


def test_a_weights_file_is_rebuilt_as_the_detector_it_was(small_config, tmp_path):
    """Random weights of 91 classes stand for a published file: names are `class N`, and the data must say so."""
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
    found = json.loads((tmp_path / "run" / "forgetting.json").read_text())
    assert [row["name"] for row in found["classes"]] == ["class 3", "class 7"]
    assert all(row["after"]["point"] is None for row in found["classes"]) and found["mean"] is None


@pytest.mark.parametrize("case", ["no detector", "other classes", "no images", "a lost picture"])
def test_old_data_that_tells_nothing_is_refused_before_anything_is_written(source, tmp_path, case):
    config = source[0]
    old = write_tree(tmp_path / "old", categories=("boat", "plane"))
    if case != "no detector":
        config = dataclasses.replace(config, model=dataclasses.replace(config.model, start=str(source[1])))
    message = {
        "no detector": r"--source-data needs a source that detects, model\.start is random weights",
        "no images": r"old/data\.json: no images in it - give data of the source's own domain",
        "a lost picture": r"old/data\.json: 000002\.png is not there - restore it",
        "other classes": r"boat, plane, none of which the source knows: car, pedestrian - give data of",
    }[case]
    if case == "no images":
        dataset = read_dataset(old)
        write_dataset(dataset.subset([]), old)
    if case == "a lost picture":
        (tmp_path / "old" / "000002.png").unlink()
    with pytest.raises(DrivetlError, match=message):
        finetune(config, tmp_path / "run", source_data=old)
    assert not (tmp_path / "run").exists()
