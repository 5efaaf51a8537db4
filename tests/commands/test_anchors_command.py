"""`drivetl anchors` decides what `drivetl finetune` decides, and passes its flags on to the next command."""

import json
import shlex
from dataclasses import replace

import cv2
import numpy as np
import pytest

from drivetl.cli import main
from drivetl.coco.io import write_dataset
from drivetl.coco.records import Annotation, Dataset, ImageRecord
from drivetl.config import load_config
from drivetl.models.build import build_model
from drivetl.models.checkpoint import save_model
from drivetl.training.prepare import model_spec

CATEGORIES = ("car", "person")


def write_town(folder, first_drive, images, seed):
    """Write a dataset of flat and tall boxes on noise images; every drive has another number of boxes. Its json."""
    random = np.random.default_rng(seed)
    (folder / "images").mkdir(parents=True)
    records = []
    for number in range(images):
        drive = number % 5
        record = ImageRecord(number + 1, f"{number}.png", 96, 64, f"drive {first_drive + drive}")
        for _ in range(4 + drive):
            w, h = np.array([(40, 9), (6, 30)][random.integers(2)]) * random.uniform(0.9, 1.1, 2)
            x, y = random.uniform(0, 96 - w), random.uniform(0, 64 - h)
            record.annotations.append(Annotation(1 + int(h > w), (x, y, w, h), w * h))
        cv2.imwrite(str(folder / "images" / record.file_name), random.integers(0, 255, (64, 96, 3), np.uint8))
        records.append(record)
    write_dataset(Dataset(CATEGORIES, records, folder / "images"), folder / "town.json")
    return folder / "town.json"


@pytest.fixture(scope="module")
def town(tmp_path_factory):
    """(train json, val json, YAML of a training that takes a second)."""
    root = tmp_path_factory.mktemp("town")
    train, val = write_town(root / "train", 0, 60, 0), write_town(root / "val", 10, 4, 1)
    (root / "small.yaml").write_text(
        "model: {arch: fasterrcnn_tiny_fpn, start: none, min_size: 64, max_size: 96, proposals_train: 50,"
        " proposals_test: 20, rois_per_image: 16}\n"
        "data: {augment: none, workers: 0}\n"
        "optim: {epochs: 1, lr: 0.001}\n"
        "runtime: {device: cpu, precision: fp32}\n"
    )
    return train, val, root / "small.yaml"


def run_with_anchors(folder, town, sizes):
    """A run of the tiny detector whose anchors are not the architecture's."""
    train, val, config = town
    document = load_config(config, ["--data.train", str(train), "--data.val", str(val)])
    spec = replace(
        model_spec(document, CATEGORIES, frozen=False, source=None),
        anchor_sizes=tuple((size,) for size in sizes),
        anchor_ratios=((0.25, 1.0, 4.0),) * 4,
    )
    save_model(folder / "checkpoints" / "best", build_model(spec).state_dict(), spec, {})
    return folder


def decisions(town, out, words):
    """(decision of `anchors`, decision of `finetune`) for the same configs and flags."""
    train, val, config = town
    same = ["--config", str(config), *map(str, words)]
    assert main(["anchors", str(train), *same, "--out", str(out / "anchors")]) == 0
    assert main(["finetune", *same, "--data.train", str(train), "--data.val", str(val), "--out", str(out / "run")]) == 0
    return tuple(json.loads((out / name / "anchors.json").read_text()) for name in ("anchors", "run"))


def test_law_anchors_and_finetune_decide_the_same(town, tmp_path):
    planned, made = decisions(town, tmp_path, [])
    assert planned == made and planned["changed"]


def test_law_from_a_run_whose_anchors_were_changed(town, tmp_path, capsys):
    source = run_with_anchors(tmp_path / "source", town, (11.0, 20.0, 41.0, 80.0))
    planned, made = decisions(town, tmp_path, ["--model.start", source])
    assert planned == made and planned["before"]["ratios"][0] == [0.25, 1.0, 4.0]
    assert "Anchors of run source on 60 images" in capsys.readouterr().out


def test_law_with_the_seed_and_the_images_of_several_configs(town, tmp_path):
    """A seed decides which drives are held out and which images are used; a later YAML wins."""
    first, second = tmp_path / "first.yaml", tmp_path / "second.yaml"
    first.write_text("seed: 1\ndata: {train_images: 55}\n")
    second.write_text("seed: 5\n")
    by_file, made = decisions(town, tmp_path / "files", ["--config", first, "--config", second])
    assert by_file == made
    by_flag, made = decisions(town, tmp_path / "flag", ["--config", first, "--seed", "0"])
    assert by_flag == made
    # 11 images of each drive, with 4, 5, 6, 7 and 8 boxes: the number of boxes shows which drives a seed holds out
    assert (by_file["held_out"]["boxes"], by_flag["held_out"]["boxes"]) == (11 * (8 + 7), 11 * (6 + 8))


def test_the_next_command_has_the_same_configs_and_flags(town, tmp_path, capsys):
    train, val, config = town
    second = tmp_path / "two words.yaml"
    second.write_text("seed: 1\n")
    flags = ["--model.max_size", "90", "--seed=2"]
    words = ["anchors", str(train), "--config", str(config), "--config", str(second), *flags]
    assert main([*words, "--out", str(tmp_path / "a")]) == 0
    printed = capsys.readouterr().out
    expected = ["finetune", *words[2:6], "--data.train", str(train), "--data.val", "VAL.json", *flags]
    assert f"to train with validation data VAL.json: {shlex.join(['drivetl', *expected])}" in printed
    assert "next:" not in printed
    assert main([*words, "--data.val", str(val), "--out", str(tmp_path / "b")]) == 0
    printed = capsys.readouterr().out
    expected = ["finetune", *words[2:6], "--data.train", str(train), *flags, "--data.val", str(val)]
    assert f"next:  {shlex.join(['drivetl', *expected])}" in printed and "VAL.json" not in printed


def test_anchors_are_measured_with_model_anchors_keep(town, capsys):
    train, _, config = town
    assert main(["anchors", str(train), "--config", str(config), "--model.anchors", "keep"]) == 0
    assert "model.anchors is keep: finetune keeps those of fasterrcnn_tiny_fpn" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--data.train", "other.json"], "--data.train is other.json, the dataset to measure is"),
        (["--model.start", "no/such/run"], "no/such/run: no such file or run - model.start is"),
        (["--seed", "x"], "seed"),
    ],
)
def test_mistakes_are_named(town, capsys, words, message):
    train, _, config = town
    assert main(["anchors", str(train), "--config", str(config), *words]) == 2
    assert message in capsys.readouterr().err


def test_a_run_of_another_architecture_is_refused_as_finetune_does(town, tmp_path, capsys):
    source = run_with_anchors(tmp_path / "source", town, (11.0, 20.0, 41.0, 80.0))
    train, _, config = town
    words = ["--model.start", str(source), "--model.arch", "fasterrcnn_resnet18_fpn"]
    assert main(["anchors", str(train), "--config", str(config), *words]) == 2
    assert "--model.arch fasterrcnn_tiny_fpn" in capsys.readouterr().err
