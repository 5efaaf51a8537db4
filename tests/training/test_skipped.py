"""Laws of images that cannot be read: they end the training, or are skipped, counted and listed."""

import contextlib
import io
import json

import numpy as np
import pytest
import torch
from training_runs import changed, kill_after, same, weights, without_times, write_tree

from drivetl.cli import main
from drivetl.coco.io import read_dataset
from drivetl.config import dump_yaml
from drivetl.data.augment import build, load_preset
from drivetl.data.dataset import MOST_IN_A_ROW, DetectionDataset
from drivetl.errors import DataError
from drivetl.training import skipped, trainer
from drivetl.training.finetune import finetune
from drivetl.training.rundir import read_metrics


def damage(json_path, *numbers):
    """Cut the files of these images short."""
    for number in numbers:
        path = json_path.parent / f"{number:06d}.png"
        path.write_bytes(path.read_bytes()[:60])


def samples(json_path, skip_bad):
    data = read_dataset(json_path)
    return DetectionDataset(data, augment=build(load_preset("photometric")), seed=3, skip_bad=skip_bad)


def test_law_the_next_image_takes_the_place_and_all_others_are_the_same(tmp_path):
    path = write_tree(tmp_path / "train")
    whole = [samples(path, True)[2, index] for index in range(8)]
    damage(path, 4, 5, 8)
    with pytest.raises(DataError, match=r"000004\.png"):
        samples(path, False)[2, 3]
    data = samples(path, True)
    for index in range(8):
        image, target = data[2, index]
        if index not in (3, 4, 7):
            assert torch.equal(image, whole[index][0]) and target.keys() == whole[index][1].keys()
            assert all(torch.equal(target[key], value) for key, value in whole[index][1].items())
            continue
        instead = {3: 6, 4: 6, 7: 1}[index]
        assert int(target["image_id"]) == instead and int(target["skipped"]) == index
        assert not np.array_equal(image, whole[instead - 1][0]), "another augmentation"
        again = data[2, index][0]
        assert torch.equal(image, again)
    assert "000004.png" in data.reason_to_skip(3)


@pytest.mark.parametrize("count", [5, MOST_IN_A_ROW + 9])
def test_a_folder_of_which_nothing_can_be_read_is_an_error_also_where_images_are_skipped(tmp_path, count):
    path = write_tree(tmp_path / "train", n_images=count)
    damage(path, *range(1, count + 1))
    with pytest.raises(
        DataError, match=rf"{min(count, MOST_IN_A_ROW)} images in a row cannot be read, the last: .*png"
    ):
        samples(path, True)[0, 2]


@pytest.fixture
def damaged(small_config):
    """A training with two damaged images of eight, each of which is asked for in both epochs."""
    from pathlib import Path

    damage(Path(small_config.data.train), 4, 5)
    return changed(small_config, "data", on_bad_image="skip")


def test_law_a_resumed_run_and_one_with_workers_are_the_same_and_count_every_image_once(
    damaged, tmp_path, monkeypatch, capsys
):
    finetune(damaged, tmp_path / "whole")
    said = capsys.readouterr()
    assert said.err.count("000004.png") == 2  # when it was found, and at the end
    listed = "skipped 2 training images that cannot be read: 000004.png (2 times), 000005.png (2 times)"
    assert listed in " ".join(said.err.split()) and listed in (tmp_path / "whole" / "README.md").read_text()
    monkeypatch.setattr(trainer, "SAVE_EVERY_S", 1e9)
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        kill_after(patch, 2)
        finetune(damaged, tmp_path / "killed")
    with (tmp_path / "killed" / skipped.FILE).open("a") as file:
        file.write('{"epoch": 1, "image": "000004.png", "reason": "again"}\n{"epo')  # what a kill leaves
    finetune(changed(damaged, "data", workers=1), tmp_path / "killed", resume=True)
    assert same(weights(tmp_path / "whole"), weights(tmp_path / "killed"))
    rows = [read_metrics(tmp_path / name / "metrics.jsonl") for name in ("whole", "killed")]
    assert without_times(rows[0]) == without_times(rows[1])
    assert " ".join(capsys.readouterr().err.split()).count(listed) == 1


def test_a_run_that_stopped_at_a_bad_image_continues_with_skip(damaged, tmp_path, capsys):
    stops = changed(damaged, "data", on_bad_image="stop")
    (tmp_path / "c.yaml").write_text(dump_yaml(stops))
    flags = ["finetune", "--config", str(tmp_path / "c.yaml"), "--out", str(tmp_path / "run")]
    assert main(flags) == 2
    assert ".png: " in capsys.readouterr().err.splitlines()[-1]
    if not (tmp_path / "run" / "config.yaml").is_file():
        pytest.fail("the run began")
    assert main(["finetune", "--resume", "--out", str(tmp_path / "run"), "--data.on_bad_image", "skip"]) == 0
    lines = (tmp_path / "run" / skipped.FILE).read_text().splitlines()
    assert {json.loads(line)["image"] for line in lines} == {"000004.png", "000005.png"}


def test_a_bad_validation_image_always_stops(damaged, tmp_path):
    from pathlib import Path

    damage(Path(damaged.data.val), 2)
    with contextlib.redirect_stderr(io.StringIO()), pytest.raises(DataError, match=r"val/000002\.png"):
        finetune(damaged, tmp_path / "run")


def test_nothing_skipped_is_nothing_said(tmp_path):
    assert skipped.in_words(tmp_path / skipped.FILE) == []
    names = [f"{number}.png" for number in range(9)]
    lines = [json.dumps({"epoch": 1, "image": name, "reason": "r"}) for name in names]
    (tmp_path / skipped.FILE).write_text("\n".join(lines))
    (sentence,) = skipped.in_words(tmp_path / skipped.FILE)
    assert sentence.startswith("skipped 9 training images that cannot be read: 0.png, 1.png,") and "4 more" in sentence
