"""Laws of early stopping, of evaluations that are not made after every epoch, and of the metric that makes one the
best."""

import json
from contextlib import contextmanager
from types import SimpleNamespace

import pytest
import torch
from safetensors.torch import load_file
from training_runs import changed, kill_after, rows_of

from drivetl.files.runs import STATE
from drivetl.models.weights import read_weights
from drivetl.processes import Group
from drivetl.training import trainer
from drivetl.training.finetune import finetune
from drivetl.training.model_card import verdict


@pytest.fixture
def standing_still(small_config):
    """A training of six epochs whose AP never changes after the first."""
    config = changed(changed(small_config, "optim", lr=1e-9, epochs=6), "model", norm="frozen")
    return changed(config, "eval", stop_after=2)


def test_law_a_training_that_does_not_improve_stops_and_a_resumed_one_at_the_same_place(
    standing_still, tmp_path, monkeypatch, capsys
):
    whole = finetune(standing_still, tmp_path / "whole")
    assert [row["epoch"] for row in whole.rows] == [1, 2, 3] and whole.best["epoch"] == 1
    said = capsys.readouterr().out
    assert "stopped early, after epoch 3 of 6: AP has not improved in 2 evaluations, best 0.0" in " ".join(said.split())
    monkeypatch.setattr(trainer, "SAVE_EVERY_S", -1.0)
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        kill_after(patch, 5)  # one evaluation without an improvement was counted
        finetune(standing_still, tmp_path / "killed")
    for _ in range(2):  # one that has stopped does not train on
        finetune(standing_still, tmp_path / "killed", resume=True)
        assert rows_of(tmp_path / "whole") == rows_of(tmp_path / "killed")
    one, other = (read_weights(tmp_path / n / "checkpoints/last/model.safetensors") for n in ("whole", "killed"))
    assert all(torch.equal(one[key], other[key]) for key in one)
    assert "resumed at step 5 of 12" in capsys.readouterr().out


@pytest.mark.parametrize("killed_after", [1, 3, 4, 7])
def test_law_resume_is_exact_with_accumulation_an_average_and_early_stopping_together(
    standing_still, tmp_path, monkeypatch, killed_after
):
    """Killed in an epoch, at its end, and after the first evaluation without an improvement: the weights, their
    average, the evaluations and the place where the training stops are those of a run that nobody killed."""
    config = changed(standing_still, "optim", accumulate=2, batch_size=1, ema=0.9, lr=1e-9)
    whole = finetune(config, tmp_path / "whole")
    assert [row["step"] for row in whole.rows] == [4, 8, 12]  # of two images each; three of six epochs
    monkeypatch.setattr(trainer, "SAVE_EVERY_S", -1.0)
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        kill_after(patch, killed_after)
        finetune(config, tmp_path / "killed")
    torch.manual_seed(99)
    assert finetune(config, tmp_path / "killed", resume=True).best == whole.best
    assert rows_of(tmp_path / "whole") == rows_of(tmp_path / "killed")
    for which in ("best", "last"):
        one, other = (
            read_weights(tmp_path / n / f"checkpoints/{which}/model.safetensors") for n in ("whole", "killed")
        )
        assert one.keys() == other.keys() and all(torch.equal(one[key], other[key]) for key in one)
    states = [load_file(tmp_path / name / STATE) for name in ("whole", "killed")]
    assert any(key.startswith("ema.") for key in states[0]) and any(key.startswith("optim.") for key in states[0])
    assert states[0].keys() == states[1].keys()
    assert all(torch.equal(states[0][key], states[1][key]) for key in states[0])


def stops(scores, stop_after, metric="AP"):
    """Whether a training with these evaluations stops, the first of the best being the best."""
    rows = [{"step": step, "epoch": step, metric: score} for step, score in enumerate(scores)]
    known = [row for row in rows if row[metric] is not None]
    evaluation = SimpleNamespace(stop_after=stop_after, metric=metric)
    config = SimpleNamespace(eval=evaluation, optim=SimpleNamespace(epochs=99))
    best = max(known, key=lambda row: row[metric], default=None)
    log = SimpleNamespace(rows=rows)
    return trainer.Trainer._stops_early(SimpleNamespace(config=config, best=best, log=log, group=Group()), len(rows))


def test_law_evaluations_since_the_best_are_counted():
    assert not stops([0.3, 0.2, 0.1, 0.0], 0)
    assert stops([0.3, 0.2, 0.1], 2) and not stops([0.3, 0.2, 0.4], 2) and not stops([0.3, 0.2], 2)
    assert stops([0.1, 0.3, 0.3, 0.3], 2, "AP50")
    assert not stops([], 1) and not stops([None, None, None], 1)


@contextmanager
def evaluations(monkeypatch, *headlines):
    """The headline of each evaluation, as it would be on other data."""
    left = [dict(zip(("AP", "AP50", "AP75"), values, strict=True)) for values in headlines]
    with monkeypatch.context() as patch:
        patch.setattr(trainer, "headline", lambda _: left.pop(0))
        yield
    assert not left


@pytest.mark.parametrize(("metric", "epoch"), [("AP", 1), ("AP50", 2)])
def test_law_the_best_row_is_the_best_in_the_metric(small_config, tmp_path, monkeypatch, metric, epoch):
    with evaluations(monkeypatch, (0.4, 0.5, 0.1), (0.3, 0.6, 0.1)):
        outcome = finetune(changed(small_config, "eval", metric=metric), tmp_path / "run")
    assert outcome.best["epoch"] == epoch
    assert json.loads((tmp_path / "run" / "outcome.json").read_text())["metric"] == metric
    best, last = (read_weights(tmp_path / "run/checkpoints" / n / "model.safetensors") for n in ("best", "last"))
    assert all(torch.equal(best[key], last[key]) for key in best) == (epoch == 2)


def test_the_verdict_is_about_the_metric():
    rows = [{"epoch": epoch, "AP": 0.1 * (1 + epoch), "AP50": 0.9 - 0.1 * epoch} for epoch in range(3)]
    document = {"metric": "AP50", "before": rows[0], "best": rows[0], "delta": None}
    assert verdict(document, rows, None).startswith(
        "adapting did not help: no epoch (best 0.800, epoch 1) beats the source, AP50 0.900"
    )


def test_law_a_row_has_the_losses_of_all_steps_since_the_row_before(small_config, tmp_path, monkeypatch):
    """Also in a run that was killed in an epoch whose evaluation is left out, and at its end."""
    config = changed(small_config, "optim", epochs=4)
    every, second = finetune(config, tmp_path / "every"), changed(config, "eval", every=2)
    whole = finetune(second, tmp_path / "whole")
    assert [row["epoch"] for row in whole.rows] == [2, 4]
    for key in (key for key in whole.rows[0] if key.startswith("train_loss")):
        losses = [row[key] for row in every.rows]
        expected = [sum(losses[:2]) / 2, sum(losses[2:]) / 2]
        assert [row[key] for row in whole.rows] == pytest.approx(expected)
    monkeypatch.setattr(trainer, "SAVE_EVERY_S", -1.0)
    for steps in (1, 2, 3, 6):
        with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
            kill_after(patch, steps)
            finetune(second, tmp_path / f"killed{steps}")
        finetune(second, tmp_path / f"killed{steps}", resume=True)
        assert rows_of(tmp_path / "whole") == rows_of(tmp_path / f"killed{steps}")
