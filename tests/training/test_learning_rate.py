"""Laws of the learning rate: it follows the images per step where the recipe chose it, and can be found by a test."""

import json
import math

import numpy as np
import pytest
from PIL import Image
from training_runs import changed, kill_after, rows_of, same, weights

from drivetl.cli import main
from drivetl.config import dump_yaml, load_config
from drivetl.training import rate_finder
from drivetl.training.finetune import finetune
from drivetl.training.optimizer import SAME_RATE, batch_factor
from drivetl.training.prepare import rate_for_batch
from drivetl.training.rate_finder import HIGHEST, LOWEST, STEPS, curve_of, range_test
from drivetl.training.recipe import recipe


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


RATES = np.geomspace(LOWEST, HIGHEST, STEPS)


def falling_at(rate, drop=1.0, noise=0.0, seed=0):
    """A loss of 2 that falls by `drop` around a rate, within half a decade, and rises again two decades later."""
    decades = np.log10(RATES / rate)
    loss = 2 - drop / (1 + np.exp(-6 * decades)) + 3 / (1 + np.exp(-8 * (decades - 2)))
    return (loss + np.random.default_rng(seed).normal(0, noise, STEPS)).tolist()


@pytest.mark.parametrize("noise", [0.0, 0.05, 0.2])
def test_law_the_steepest_fall_of_a_known_curve_is_found(noise):
    for rate in (1e-4, 1e-3, 5e-3):
        for seed in range(20):
            picked = curve_of(RATES.tolist(), falling_at(rate, noise=noise, seed=seed)).picked
            assert picked is not None and abs(math.log10(picked / rate)) < (0.1 if noise == 0 else 0.6)


def test_law_losses_of_a_diverged_model_do_not_move_the_pick():
    """The last losses of a test may be a thousand times as large as the others."""
    for seed in range(20):
        losses = falling_at(1e-3, noise=0.1, seed=seed)[:66]  # up to a rate of 8e-3, where the loss is lowest
        calm = curve_of(RATES[:66].tolist(), losses).picked
        wild = curve_of(RATES[:69].tolist(), [*losses, 9.0, 80.0, 2000.0]).picked
        assert calm is not None and wild is not None and abs(math.log10(wild / calm)) < 0.15


def test_law_a_flat_curve_has_no_rate():
    """Noise alone, falling off a cliff at the end or not: at most one in twenty is taken for a fall."""
    taken = 0
    for seed in range(200):
        losses = falling_at(1e-2, drop=0.0 if seed % 2 else 1e-3, noise=0.3, seed=seed)
        taken += curve_of(RATES.tolist(), losses).picked is not None
    assert taken <= 10
    assert curve_of(RATES.tolist(), [1.0] * STEPS).picked is None
    assert curve_of(RATES.tolist(), np.linspace(1, 2, STEPS).tolist()).picked is None
    assert curve_of(RATES[:5].tolist(), [1.0] * 5).picked is None


def test_law_the_test_is_bounded_and_ends_where_the_loss_diverges():
    seen = []

    def loss_at(rate):
        seen.append(rate)
        return 1.0 if rate < 1e-2 else 50.0

    rates, losses = range_test(loss_at, RATES.tolist())
    assert len(rates) == len(losses) == len(seen) and 1e-2 <= rates[-1] < 2e-2
    rates, losses = range_test(lambda rate: 1.0, RATES.tolist())
    assert rates == RATES.tolist() and len(losses) == STEPS


def test_law_a_training_after_find_is_the_one_with_the_rate_written_and_a_resume_does_not_repeat_it(
    small_config, tmp_path, monkeypatch, capsys
):
    """BatchNorm's statistics, the random states and the optimizer are those of a training without a test."""
    monkeypatch.setattr(rate_finder, "STEPS", 40)
    config = changed(
        changed(small_config, "optim", lr="find", accumulate=2, batch_size=2, ema=0.9), "model", norm="train"
    )
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        kill_after(patch, 2)
        finetune(config, tmp_path / "found")
    picked = load_config(tmp_path / "found" / "config.yaml").optim.lr
    assert f"optim.lr find: {picked:g}, where the loss falls most steeply" in " ".join(capsys.readouterr().out.split())
    with monkeypatch.context() as patch:
        patch.setattr(rate_finder, "range_test", lambda *_: pytest.fail("the test was repeated"))
        finetune(config, tmp_path / "found", resume=True)
    finetune(changed(config, "optim", lr=picked), tmp_path / "written")
    assert same(weights(tmp_path / "found"), weights(tmp_path / "written"))
    assert rows_of(tmp_path / "found") == rows_of(tmp_path / "written")
    document = json.loads((tmp_path / "found" / "lr_find.json").read_text())
    assert document["picked"] == picked and len(document["rates"]) == len(document["losses"]) <= 40
    with Image.open(tmp_path / "found" / "lr_find.png") as image:
        assert image.size == (720, 440)


def test_a_loss_that_does_not_fall_is_refused_with_the_plot(small_config, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(rate_finder, "STEPS", 12)
    monkeypatch.setattr(rate_finder, "HIGHEST", 1.1e-6)
    (tmp_path / "c.yaml").write_text(dump_yaml(changed(small_config, "optim", lr="find")))
    assert main(["finetune", "--config", str(tmp_path / "c.yaml"), "--out", str(tmp_path / "run")]) == 2
    said = " ".join(capsys.readouterr().err.split())
    assert "optim.lr find: the loss does not fall in 12 steps from rate 1e-06 to 1.1e-06" in said
    assert "lr_find.png; write a rate, or auto" in said and (tmp_path / "run" / "lr_find.png").is_file()
