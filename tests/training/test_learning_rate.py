"""Laws of the learning rate: it follows the images per step where the recipe chose it."""

import dataclasses
import math

import pytest

from drivetl.config import load_config
from drivetl.training.finetune import finetune
from drivetl.training.optimizer import SAME_RATE, batch_factor
from drivetl.training.prepare import rate_for_batch
from drivetl.training.recipe import recipe


def changed(config, section, **values):
    return dataclasses.replace(config, **{section: dataclasses.replace(getattr(config, section), **values)})


@pytest.mark.parametrize("name", ["adamw", "sgd"])
def test_law_the_rate_is_as_measured_within_the_measured_batches_and_follows_outside(name):
    low, high = SAME_RATE
    assert all(batch_factor(images, name) == 1 for images in range(low, high + 1))
    factors = [batch_factor(images, name) for images in range(1, 200)]
    assert factors == sorted(factors)
    power = 1.0 if name == "sgd" else 0.5
    for images in (16, 32, 128):
        assert batch_factor(images, name) == pytest.approx((images / high) ** power)
        assert batch_factor(4 * images, name) == pytest.approx(batch_factor(images, name) * 4**power)
    assert batch_factor(1, name) == pytest.approx((1 / low) ** power)


def test_the_effective_batch_counts_parts_and_processes(small_config):
    config = changed(small_config, "optim", lr=3e-4, accumulate=4)
    resolved, notes = rate_for_batch(config, 2)
    assert resolved.optim.lr == 3e-4 * 2
    assert notes == ["lr 0.0006: the recipe's 0.0003 x 2 for 32 images per optimizer step (square root rule)"]
    assert rate_for_batch(changed(config, "optim", accumulate=1), 1) == (changed(config, "optim", accumulate=1), [])
    assert rate_for_batch(changed(config, "optim", lr=9.0, name="sgd"), 8)[0].optim.lr == 10.0


def test_law_only_a_rate_of_the_recipe_follows_and_a_resumed_run_keeps_its_own(small_config, tmp_path, capsys):
    auto = changed(small_config, "optim", lr="auto", epochs=1, accumulate=2, batch_size=8)
    finetune(auto, tmp_path / "auto")
    chosen = load_config(tmp_path / "auto" / "config.yaml").optim.lr
    assert chosen == recipe(8, "none", 16).lr * math.sqrt(2)
    assert "for 16 images per optimizer step" in " ".join(capsys.readouterr().out.split())
    finetune(auto, tmp_path / "auto", resume=True)
    assert load_config(tmp_path / "auto" / "config.yaml").optim.lr == chosen
    finetune(changed(auto, "optim", lr=1e-3), tmp_path / "written")
    assert load_config(tmp_path / "written" / "config.yaml").optim.lr == 1e-3
    assert "the recipe's" not in capsys.readouterr().out
