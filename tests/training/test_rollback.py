"""Laws of a loss that is not finite: it is captured, computed again, and survived with half the learning rate."""

import itertools
import json
import math

import pytest
import torch
from training_runs import changed, kill_after, rows_of, same, weights

from drivetl.cli import main
from drivetl.config import dump_yaml
from drivetl.errors import CheckpointError
from drivetl.training import loop, trainer
from drivetl.training.capture import main as replay_command
from drivetl.training.capture import replay
from drivetl.training.finetune import finetune
from drivetl.training.state import is_finite


def not_finite_in(monkeypatch, *calls):
    """The losses of these forward passes of the process, counted from 1, are NaN."""
    forward, count = loop.forward_uint8, itertools.count(1)

    def broken(*arguments):
        losses = forward(*arguments)
        factor = float("nan") if next(count) in calls else 1.0
        return {key: value * factor for key, value in losses.items()}

    monkeypatch.setattr(loop, "forward_uint8", broken)


def test_law_a_rollback_is_a_resume_of_the_saved_state_with_half_the_rate(small_config, tmp_path, monkeypatch, capsys):
    config = changed(changed(small_config, "optim", ema=0.9), "eval", every=2)
    monkeypatch.setattr(trainer, "SAVE_EVERY_S", -1.0)
    with monkeypatch.context() as patch:
        not_finite_in(patch, 4)
        outcome = finetune(config, tmp_path / "run")
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        kill_after(patch, 3)
        finetune(config, tmp_path / "half")
    slower = changed(config, "optim", lr=config.optim.lr / 2)
    (tmp_path / "half" / "config.yaml").write_text(dump_yaml(slower))
    finetune(slower, tmp_path / "half", resume=True)
    assert same(weights(tmp_path / "run"), weights(tmp_path / "half"))
    (row,), (half,) = rows_of(tmp_path / "run"), rows_of(tmp_path / "half")
    assert row == half | {"rollbacks": 1} and outcome.best["epoch"] == 2
    said = capsys.readouterr()
    text = " ".join((said.out + said.err).split())
    assert "back to step 3, learning rate x 0.5 (rollback 1 of 3)" in text
    assert "rolled back once, as a loss was not finite (step 3): the learning rate ended at 0.5" in text
    assert "rolled back once" in (tmp_path / "run" / "README.md").read_text()
    assert [path.name for path in (tmp_path / "run" / "captures").iterdir()] == ["step_0000003_0"]


@pytest.mark.parametrize("accumulate", [1, 2])
def test_law_resume_after_a_rollback_is_bit_exact(small_config, tmp_path, monkeypatch, accumulate):
    config = changed(small_config, "optim", accumulate=accumulate, batch_size=4 // accumulate)
    monkeypatch.setattr(trainer, "SAVE_EVERY_S", -1.0)
    for name in ("whole", "killed"):
        with monkeypatch.context() as patch:
            not_finite_in(patch, 2 * accumulate)
            if name == "killed":
                kill_after(patch, 3)
                with pytest.raises(KeyboardInterrupt):
                    finetune(config, tmp_path / name)
            else:
                finetune(config, tmp_path / name)
    finetune(config, tmp_path / "killed", resume=True)
    assert same(weights(tmp_path / "whole"), weights(tmp_path / "killed"))
    assert rows_of(tmp_path / "whole") == rows_of(tmp_path / "killed")
    assert [row["rollbacks"] for row in rows_of(tmp_path / "killed")] == [1, 1]


def test_law_a_training_that_diverges_ends_after_its_rollbacks_and_its_losses_are_computed_again(
    small_config, tmp_path, capsys
):
    """A real divergence: steps of ten, without clipping."""
    config = changed(small_config, "optim", lr=10.0, clip_norm=0.0, rollbacks=2, name="sgd", epochs=4)
    config = changed(changed(config, "eval", every=4), "model", norm="frozen")
    (tmp_path / "c.yaml").write_text(dump_yaml(config))
    run = tmp_path / "run"
    assert main(["finetune", "--config", str(tmp_path / "c.yaml"), "--out", str(run)]) == 2
    folders = sorted((run / "captures").iterdir())
    assert [folder.name[-2:] for folder in folders] == ["_0", "_1", "_2"]
    said = " ".join(capsys.readouterr().err.split())
    assert "rollback 2 of 2" in said and "rollback 3" not in said
    assert f"it is captured in {folders[2]}" in said
    for folder in folders:
        before, now = replay(folder, "cpu")
        assert any(not math.isfinite(value) for value in before.values())
        assert {key: str(value) for key, value in before.items()} == {key: str(value) for key, value in now.items()}
    capsys.readouterr()
    assert replay_command([str(folders[0]), "--device", "cpu"]) == 0
    assert "nan" in capsys.readouterr().out


def test_law_a_captured_loss_that_is_finite_has_the_same_bits(small_config, tmp_path, monkeypatch):
    """The random state, augmentation and BatchNorm's mode are those of the step: also where the loss is a number."""
    from drivetl.training import capture

    config = changed(changed(small_config, "optim", rollbacks=0), "model", norm="train")
    kept = {}
    forward = loop.forward_uint8

    def remember(*arguments):
        kept.update({key: float(value.detach()) for key, value in forward(*arguments).items()})
        return {key: torch.tensor(float("nan"), requires_grad=True) for key in kept}

    monkeypatch.setattr(loop, "forward_uint8", remember)
    with pytest.raises(loop.NotFiniteLossError):
        finetune(config, tmp_path / "run")
    _, now = capture.replay(tmp_path / "run" / "captures" / "step_0000000_0", "cpu")
    assert now == kept


def test_a_folder_that_is_no_capture_is_refused(small_config, tmp_path, monkeypatch, capsys):
    with monkeypatch.context() as patch, pytest.raises(loop.NotFiniteLossError):
        not_finite_in(patch, 1)
        finetune(changed(small_config, "optim", rollbacks=0), tmp_path / "run")
    folder = tmp_path / "run" / "captures" / "step_0000000_0"
    facts = json.loads((folder / "capture.json").read_text())
    assert facts["weights_are_finite"] and facts["step"] == 0 and len(facts["image_ids"]) == 4
    for name, content in (
        ("batch.safetensors", b"x"),
        ("capture.json", b"{}"),
        ("capture.json", b"[1"),
        ("capture.json", json.dumps(facts | {"precision": "int8"}).encode()),
    ):
        before = (folder / name).read_bytes()
        (folder / name).write_bytes(content)
        with pytest.raises(CheckpointError, match=r"step_0000000_0: not a capture .* - name a folder in captures/"):
            replay(folder, "cpu")
        (folder / name).write_bytes(before)
    assert replay_command([str(tmp_path / "nothing")]) == 2
    assert "error: " in capsys.readouterr().err


def test_law_weights_that_are_not_finite_are_not_saved(small_config, tmp_path, monkeypatch):
    """The first gradient after which weights are not finite: the state before is what the training returns to."""
    step_of = torch.optim.AdamW.step
    count = itertools.count(1)

    def poisoned(self, *arguments):
        result = step_of(self, *arguments)
        if next(count) == 2:
            with torch.no_grad():
                self.param_groups[0]["params"][0].fill_(float("inf"))
        return result

    monkeypatch.setattr(trainer, "SAVE_EVERY_S", -1.0)
    monkeypatch.setattr(torch.optim.AdamW, "step", poisoned)
    finetune(changed(small_config, "eval", every=2), tmp_path / "run")
    model = torch.nn.Module()
    for key, value in weights(tmp_path / "run").items():
        model.register_buffer(key.replace(".", "_"), value)
    assert is_finite(model)
    facts = json.loads((tmp_path / "run/captures/step_0000002_0/capture.json").read_text())
    assert not facts["weights_are_finite"]
    assert rows_of(tmp_path / "run")[0]["rollbacks"] == 1
