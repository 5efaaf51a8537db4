"""Laws of gradient accumulation and of the learning rate's schedules."""

import dataclasses
import itertools
import math

import pytest
import torch
from training_runs import changed, without_times

from drivetl.config import OptimConfig
from drivetl.data.sampling import EpochBatches, Parts
from drivetl.errors import DrivetlError
from drivetl.models.build import build_model
from drivetl.models.weights import read_weights
from drivetl.training import loop, trainer
from drivetl.training.finetune import finetune
from drivetl.training.optimizer import build_optimizer, learning_rate
from drivetl.training.prepare import effective_batch, model_spec
from drivetl.training.rundir import read_metrics


def batch_of(n_images):
    """Images of one size, each with two objects."""
    generator = torch.Generator().manual_seed(3)
    images = [torch.randint(0, 256, (3, 64, 96), generator=generator, dtype=torch.uint8) for _ in range(n_images)]
    boxes = torch.tensor([[8.0, 8, 40, 40], [50, 20, 80, 60]])
    targets = [
        {"boxes": boxes + 2 * n, "labels": torch.tensor([1, 2]), "image_id": torch.tensor(n)} for n in range(n_images)
    ]
    return images, targets


def update(config, accumulate, monkeypatch):
    """The change of every weight in one step on eight images, and the losses it reports."""
    size = 8 // accumulate
    optim = dataclasses.replace(config.optim, name="sgd", accumulate=accumulate, batch_size=size, clip_norm=1.0)
    monkeypatch.setattr(torch, "randperm", lambda n, **options: torch.arange(n, device=options.get("device")))
    torch.manual_seed(0)
    model = build_model(model_spec(config, ("car", "pedestrian"), True, None)).train()
    model.rpn.fg_bg_sampler.batch_size_per_image = 16  # as many of every image: a mean of means is the mean
    before = {name: value.detach().clone() for name, value in model.named_parameters()}
    images, targets = batch_of(8)
    batches = [(images[n : n + size], targets[n : n + size]) for n in range(0, 8, size)]
    means, steps = loop.Means(), []
    loop.train_epoch(
        model,
        batches,
        build_optimizer(model, config.model.arch, optim),
        optim,
        first_step=0,
        total_steps=1,
        device=torch.device("cpu"),
        precision=torch.float32,
        means=means,
        after_step=lambda step, losses: steps.append(step),
    )
    assert steps == [0]
    return {name: value.detach() - before[name] for name, value in model.named_parameters()}, means.means()


def test_law_the_update_is_that_of_the_big_batch_to_rounding(small_config, monkeypatch):
    config = changed(small_config, "optim", lr=1.0)
    whole, losses = update(config, 1, monkeypatch)
    assert max(float(change.abs().max()) for change in whole.values()) > 1e-3
    for accumulate in (2, 4):
        parts, losses_of_parts = update(config, accumulate, monkeypatch)
        for name, change in whole.items():
            torch.testing.assert_close(parts[name], change, rtol=1e-3, atol=1e-6, msg=name)
        assert losses_of_parts == pytest.approx(losses, rel=1e-5)


def test_law_the_parts_of_a_batch_are_the_batch():
    whole = EpochBatches(21, 8, seed=1)
    for count in (1, 2, 4, 8):
        parts = list(Parts(EpochBatches(21, 8, seed=1), count))
        assert {len(part) for part in parts} == {8 // count} and len(parts) == len(Parts(whole, count))
        joined = [list(itertools.chain(*parts[n : n + count])) for n in range(0, len(parts), count)]
        assert joined == list(whole)


def test_a_resumed_epoch_begins_at_a_whole_step():
    batches = EpochBatches(21, 4, seed=1)
    parts = list(Parts(batches, 2))
    batches.first = 2
    assert list(Parts(batches, 2)) == parts[4:]


@pytest.mark.parametrize("steps", [2, 3])
def test_law_resume_of_an_accumulated_training_is_bit_exact(small_config, tmp_path, monkeypatch, steps):
    config = changed(small_config, "optim", accumulate=2, batch_size=2, ema=0.9)
    whole = finetune(config, tmp_path / "whole")
    assert [row["step"] for row in whole.rows] == [2, 4]  # of four images each
    forward, count = loop.forward_uint8, itertools.count(1)

    def die_between_two_parts(*arguments):
        if next(count) == 2 * steps:
            raise KeyboardInterrupt
        return forward(*arguments)

    monkeypatch.setattr(trainer, "SAVE_EVERY_S", -1.0)
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(loop, "forward_uint8", die_between_two_parts)
        finetune(config, tmp_path / "killed")
    torch.manual_seed(99)
    finetune(config, tmp_path / "killed", resume=True)
    one, other = (read_weights(tmp_path / n / "checkpoints/last/model.safetensors") for n in ("whole", "killed"))
    assert one.keys() == other.keys() and all(torch.equal(one[key], other[key]) for key in one)
    rows = [read_metrics(tmp_path / name / "metrics.jsonl") for name in ("whole", "killed")]
    without_time, of_killed = map(without_times, rows)
    assert without_time == of_killed


def test_a_loss_that_is_not_finite_in_the_second_part_leaves_the_weights_and_names_its_images(monkeypatch):
    model = torch.nn.Linear(2, 1)
    before = {key: value.clone() for key, value in model.state_dict().items()}
    count = itertools.count()
    monkeypatch.setattr(
        loop,
        "forward_uint8",
        lambda network, *_: {"a": network(torch.ones(3, 2)).sum() * (float("nan") if next(count) else 1.0)},
    )
    optimizer = torch.optim.SGD([{"params": list(model.parameters()), "scale": 1.0}], lr=0.1)
    batches = [([], [{"image_id": torch.tensor(number)}]) for number in (7, 8)]
    with pytest.raises(DrivetlError, match=r"step 0: a loss is not finite \(a nan\) on image ids 8 "):
        loop.train_epoch(
            model,
            batches,
            optimizer,
            OptimConfig(accumulate=2),
            first_step=0,
            total_steps=1,
            device=torch.device("cpu"),
            precision=torch.float32,
            means=loop.Means(),
        )
    assert all(torch.equal(before[key], value) for key, value in model.state_dict().items())


def test_the_effective_batch_is_said(small_config):
    config = changed(small_config, "optim", accumulate=3)
    assert effective_batch(small_config, 1) == []
    assert effective_batch(config, 1) == ["effective batch: 12 images per optimizer step (batch_size 4 x accumulate 3)"]
    assert effective_batch(config, 2)[0].startswith("effective batch: 24 images per optimizer step")


def rates(schedule, total=90):
    config = OptimConfig(lr=1.0, warmup_fraction=0.1, schedule=schedule)
    return [learning_rate(step, total, config) for step in range(total)]


def test_law_every_schedule_rises_to_the_peak_and_then_does_as_it_is_called():
    found = {schedule: rates(schedule) for schedule in ("cosine", "step", "constant")}
    for values in found.values():
        assert values[:9] == [pytest.approx((step + 1) / 9) for step in range(9)]
    assert found["constant"][9:] == [1.0] * 81
    assert found["step"][9:60] == [1.0] * 51
    assert found["step"][60:80] == pytest.approx([0.1] * 20) and found["step"][80:] == pytest.approx([0.01] * 10)
    expected = [0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * (step / 81))) for step in range(81)]
    assert found["cosine"][9:] == expected  # bit for bit
