"""Laws of a run's images: batch.jpg shows what is trained on and changes nothing; curves.png shows metrics.jsonl."""

import random

import cv2
import numpy as np
import pytest
import torch
from training_runs import changed, kill_after, tiny_training, without_times, write_tree

from drivetl.coco.io import read_dataset
from drivetl.data.dataset import DetectionDataset
from drivetl.data.sampling import EpochBatches, Extra, Streams
from drivetl.draw import training_curves
from drivetl.errors import DataError
from drivetl.training import finetune as finetuning
from drivetl.training import trainer
from drivetl.training.finetune import finetune
from drivetl.training.first_batch import MOST_TILES, draw_sample, first_batch
from drivetl.training.rundir import read_metrics


def decoded(content):
    image = cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_COLOR)
    assert image is not None
    return image


def target(boxes, labels, ignore=(), masks=None):
    found = {
        "boxes": torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4),
        "labels": torch.tensor(labels, dtype=torch.int64),
        "ignore_boxes": torch.tensor(ignore, dtype=torch.float32).reshape(-1, 4),
        "image_id": torch.tensor(1),
    }
    return found | ({} if masks is None else {"masks": masks})


def test_boxes_masks_and_ignore_regions_are_drawn_where_they_are():
    image = torch.full((3, 100, 200), 90, dtype=torch.uint8)
    masks = torch.zeros((2, 100, 200), dtype=torch.uint8)
    masks[0, 30:50, 110:130] = 1  # of a box of 40 px; the second object has no mask
    shown = draw_sample(
        image, target([[100, 20, 140, 60], [20, 20, 60, 60]], [1, 2], [[150, 70, 190, 95]], masks), ("car", "bus"), 200
    )
    changed = (shown != 90).any(axis=2)
    assert changed[20, 105:135].all() and changed[20:60, 100].all()  # the outline
    assert changed[31:49, 111:129].all() and not changed[55, 125:135].any()  # the mask, and not the rest of its box
    assert not changed[30:50, 30:50].any()
    assert changed[70:95, 150:190].mean() > 0.4
    assert not changed[70:95, :90].any()
    assert (image == 90).all()


def test_images_without_objects_and_sources_are_drawn_and_the_batch_is_cut(tmp_path):
    tree = write_tree(tmp_path / "a", n_images=20)
    dataset = read_dataset(tree)
    data = Streams([DetectionDataset(dataset), DetectionDataset(dataset, stream=1)])
    batches = EpochBatches(20, 40, 0, extras=[Extra(20, 0.5)])
    sheet = decoded(first_batch(data, batches, dataset.categories))
    assert len(next(iter(batches))) == 40 > MOST_TILES
    assert sheet.shape[1] >= 96 and (sheet != 90).any()


def test_law_drawing_touches_no_random_state_and_not_the_batches(tmp_path):
    dataset = read_dataset(write_tree(tmp_path / "a"))
    from drivetl.data import augment

    pipeline = augment.build(augment.load_preset("weather"))
    data, batches = Streams([DetectionDataset(dataset, augment=pipeline)]), EpochBatches(8, 4, 0)
    expected = [
        (image.clone(), int(target["image_id"])) for image, target in map(data.__getitem__, next(iter(batches)))
    ]
    before = torch.get_rng_state(), random.getstate(), np.random.get_state()[1].tolist()  # noqa: NPY002
    once, again = (first_batch(data, batches, dataset.categories) for _ in range(2))
    assert once == again
    assert torch.equal(before[0], torch.get_rng_state())
    assert before[1:] == (random.getstate(), np.random.get_state()[1].tolist())  # noqa: NPY002
    assert (batches.epoch, batches.first) == (0, 0)
    for (image, number), item in zip(expected, next(iter(batches)), strict=True):
        now, target = data[item]
        assert torch.equal(image, now) and number == int(target["image_id"])


@pytest.mark.parametrize(("augment", "said"), [("none", "the first batch with"), ("weather", "batch, augmented, with")])
def test_the_batch_is_said_to_be_augmented_where_it_is(small_config, tmp_path, capsys, augment, said):
    finetune(changed(changed(small_config, "data", augment=augment), "optim", epochs=1), tmp_path / "run")
    assert f"{said} its labels" in capsys.readouterr().out


def test_the_batch_is_there_before_the_first_step_and_the_curves_at_the_end(small_config, tmp_path, monkeypatch):
    run = tmp_path / "run"
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        kill_after(patch, 0)  # the first state is saved before the batch is drawn
        finetune(small_config, run)
    assert not (run / "batch.jpg").exists()
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        kill_after(patch, 1)
        finetune(small_config, run, resume=True)
    assert decoded((run / "batch.jpg").read_bytes()).size
    first = (run / "batch.jpg").stat().st_mtime_ns
    monkeypatch.setattr(finetuning, "first_batch", None)  # a resumed run does not draw it again
    finetune(small_config, run, resume=True)
    assert (run / "batch.jpg").stat().st_mtime_ns == first
    assert decoded((run / "curves.png").read_bytes()).shape[1] == 1280


def test_law_curves_of_a_resumed_run_are_those_of_an_uninterrupted_one(tree, tmp_path, monkeypatch):
    config = tiny_training(*tree)
    shown = []
    monkeypatch.setattr(trainer, "CURVES_EVERY_S", -1.0)
    monkeypatch.setattr(
        training_curves, "plot", lambda rows, rate, path: shown.append((list(rows), rate)) or path.touch()
    )
    finetune(config, tmp_path / "whole")
    assert [len(rows) for rows, _ in shown] == [1, 2, 2]  # after each evaluation, and at the end
    rows, rate = shown[-1]
    assert rows == read_metrics(tmp_path / "whole" / "metrics.jsonl")
    assert rate[0] == [0, 1, 2, 3] and max(rate[1]) <= config.optim.lr
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        kill_after(patch, 2)
        finetune(config, tmp_path / "killed")
    finetune(config, tmp_path / "killed", resume=True)

    assert without_times(shown[-1][0]) == without_times(rows) and shown[-1][1] == rate


def test_curves_have_gaps_for_what_is_missing(tmp_path):
    rows = [
        {"epoch": 0, "step": 0, "AP": None, "AP50": 0.5},
        {"epoch": 1, "step": 5, "AP": 0.2, "AP50": 0.4, "train_loss": 2.0, "train_loss_classifier": 1.5},
        {"epoch": 2, "step": 10, "AP": None, "AP50": 0.6, "train_loss": None, "train_loss_classifier": 0.5},
    ]
    steps, values = training_curves.series(rows, "AP")
    assert steps == [0, 5, 10] and np.array_equal(values, [np.nan, 0.2, np.nan], equal_nan=True)
    losses = training_curves.losses_of(rows)
    assert list(losses) == ["loss", "loss_classifier"] and losses["loss_classifier"] == ([5, 10], [1.5, 0.5])
    for number, some in enumerate(([], rows[:1], rows)):
        path = tmp_path / f"{number}.png"
        training_curves.plot(some, ([0], [0.1]), path)
        assert decoded(path.read_bytes()).shape == (380, 1280, 3)


@pytest.mark.parametrize("total", [1, 2, 30, 1000])
def test_law_every_point_of_the_curves_is_inside_and_noise_next_to_zero_looks_like_zero(total):
    row = {"epoch": 1, "step": total, "AP": 0.0001, "AP50": 0.0006, "train_loss": 2.0, "train_loss_classifier": 1.5}
    rows = [{"epoch": 0, "step": 0, "AP": 0.0, "AP50": 0.0002}, row]
    for some in (rows, rows[1:], rows[:1]):
        figure = training_curves.figure_of(some, (list(range(total)), [1e-3] * total))
        for axis in figure.axes:
            for line in axis.lines[:2]:
                x, y = np.array(line.get_xydata()).T
                assert axis.get_xlim()[0] <= x.min() and x.max() <= axis.get_xlim()[1]
                assert axis.get_ylim()[0] <= y.min() and y.max() <= axis.get_ylim()[1]
            assert all(tick == round(tick) for tick in axis.get_xticks())
        assert figure.axes[2].get_ylim()[1] >= 0.05


def test_an_image_that_cannot_be_read_stops_before_the_first_step(small_config, tmp_path):
    folder = tmp_path / "train"
    for path in folder.glob("*.png"):
        path.write_bytes(b"no image")
    with pytest.raises(DataError, match=r"\.png"):
        finetune(small_config, tmp_path / "run")
    assert not (tmp_path / "run" / "metrics.jsonl").exists()
