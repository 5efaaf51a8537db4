"""Laws of rounds of pseudo-labels: who labels the second one, and how far it agrees with the first."""

import dataclasses
import json
from pathlib import Path

import pytest
import torch
from training_runs import changed, same, weights, write_tree

from drivetl.coco.io import read_dataset, write_dataset
from drivetl.coco.records import Annotation, Dataset, IgnoreRegion, ImageRecord
from drivetl.files.runs import PSEUDO
from drivetl.models.checkpoint import load_detector
from drivetl.processes import Group
from drivetl.training.bands import capped, most_objects, with_bands
from drivetl.training.finetune import finetune
from drivetl.training.footage import read_unlabelled
from drivetl.training.rounds import agreement, agreement_in_words, round_of
from drivetl.training.unlabelled import detect_all, label, write_pseudo


@pytest.fixture
def start(tmp_path):
    """A run as a start: what its weights are does not matter."""
    folder = tmp_path / "first" / "checkpoints" / "best"
    folder.mkdir(parents=True)
    for name in ("model.json", "model.safetensors"):
        (folder / name).touch()
    return tmp_path / "first"


def labelled(root, categories, **frames):
    """Frame name -> its (category id, x) as a dataset of boxes of 10 x 10 px."""
    images = []
    for number, (name, objects) in enumerate(frames.items(), 1):
        image = ImageRecord(number, f"{name}.png", 200, 100)
        image.annotations = [Annotation(category, (float(x), 0.0, 10.0, 10.0), 100.0) for category, x in objects]
        images.append(image)
    return Dataset(categories, images, root)


def test_law_an_object_is_labelled_again_in_its_class_at_iou_one_half_in_frames_of_both_rounds(start, tmp_path):
    """Ids and order of images and classes may differ."""
    before = labelled(tmp_path, ("person", "car"), gone=[(2, 0)], a=[(2, 0), (2, 50), (1, 100)], empty=[])
    before.images[1].ignore_regions = [IgnoreRegion((150.0, 0.0, 10.0, 10.0), 100.0)]
    write_dataset(before, start / PSEUDO)
    now = [(1, 3), (1, 54), (1, 100), (1, 150)]  # IoU 0.54; 0.43; another class; an ignore region before
    after = labelled(tmp_path, ("car", "person"), empty=[(1, 0)], a=now, new=[(1, 0)])
    assert agreement(str(start), after) == {"frames": 2, "before": 3, "again": 1, "new": 4}
    assert agreement(str(start / "checkpoints" / "best"), before) == {"frames": 3, "before": 4, "again": 4, "new": 0}
    assert agreement(str(start), labelled(tmp_path, ("car",), other=[(1, 0)])) is None
    assert agreement("coco", after) is None
    assert agreement_in_words({"frames": 1, "before": 4, "again": 3, "new": 2}, 2) == (
        "round 2: 3 of 4 (75 %) pseudo-objects that the start was trained on are labelled again (same class, IoU 0.5),"
        " 2 are new (frames of both rounds: 1)"
    )
    nothing = {"frames": 3, "before": 0, "again": 0, "new": 0}
    assert agreement(str(start), labelled(tmp_path, ("car",), empty=[])) == nothing | {"frames": 1}
    assert "0 of 0 pseudo-objects" in agreement_in_words(nothing, 2)


def test_law_the_round_of_a_start_is_one_more_however_it_is_named(start, capsys):
    named = (start, start / "checkpoints" / "best", start / "checkpoints" / "best" / "model.safetensors")
    assert [round_of(str(path)) for path in named] == [1] * 3 and round_of("coco") == 1
    (start / "provenance.json").write_text(json.dumps({"pseudo_round": 2}))
    assert [round_of(str(path)) for path in named] == [3] * 3


def test_law_the_best_weights_of_the_first_round_label_the_second(small_config, source, tmp_path, capsys):
    footage = write_tree(tmp_path / "night", n_images=5, seed=8).parent
    (footage / "data.json").unlink()
    config = changed(small_config, "data", unlabelled=str(footage), pseudo_threshold=0.2, pseudo_ignore_from=0.05)
    config = changed(config, "model", start=str(source[1]))
    config = changed(config, "optim", batch_size=3, ema=0.9)
    finetune(config, tmp_path / "first")
    second = changed(config, "model", start=str(tmp_path / "first"))
    train, val = (read_dataset(Path(path)) for path in (config.data.train, config.data.val))
    frames = read_unlabelled(second, train, val)
    capsys.readouterr()
    found = label(frames, second, None, train, torch.device("cpu"), Group())
    teacher = load_detector(tmp_path / "first", "best", "cpu", "fp32")
    detections = detect_all(teacher, frames.dataset, second, Group(), "by the first")
    expected = capped(with_bands(frames.dataset, detections, (0.2, 0.05)), most_objects(train))
    assert [image.annotations for image in found.dataset.images] == [image.annotations for image in expected.images]
    assert any(image.annotations for image in expected.images)

    first = read_dataset(tmp_path / "first" / PSEUDO)
    assert not same(*(weights(tmp_path / "first", which) for which in ("best", "last"))), "the test can tell"
    (tmp_path / "second").mkdir()
    facts = write_pseudo(found, tmp_path / "second", second)
    assert facts["pseudo_round"] == 2
    assert facts["pseudo_agreement"]["before"] == sum(len(image.annotations) for image in first.images)
    assert f"round 2: {facts['pseudo_agreement']['again']} of " in " ".join(capsys.readouterr().out.split())

    (tmp_path / "first" / PSEUDO).write_text("{")
    assert write_pseudo(found, tmp_path / "second", second).keys() == facts.keys() - {"pseudo_agreement"}
    assert "is not compared with the one before" in " ".join(capsys.readouterr().err.split())
    edited = dataclasses.replace(second, data=dataclasses.replace(second.data, pseudo=str(tmp_path / PSEUDO)))
    assert "pseudo_round" not in write_pseudo(found, tmp_path / "second", edited), "a file has no round"
