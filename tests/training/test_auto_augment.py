"""Laws of `data.augment: auto`: what is chosen, by what alone, and that a run keeps what it began with."""

import sys
from pathlib import Path

import pytest
import torch
import yaml
from training_runs import changed, kill_after, rows_of, same, weights

from drivetl.config import FinetuneConfig, check_files, load_config, with_values
from drivetl.data.augment import PRESETS, load_preset, strength
from drivetl.errors import ConfigError
from drivetl.files.typed import AUTO
from drivetl.training.finetune import finetune
from drivetl.training.pair import read_pair
from drivetl.training.preflight_plan import plan_training
from drivetl.training.prepare import prepare
from drivetl.training.recipe import FEW, STRONG_EMA, STRONG_EPOCHS, STRONG_FROM, preset_for, resolve_auto

ROOT = Path(__file__).parents[2]
CONFIGS = ROOT / "configs" / "finetune"
DATA = with_values(FinetuneConfig(), {"data.train": "a.json", "data.val": "b.json"})
LEFT = {f"optim.{key}": AUTO for key in ("epochs", "lr", "ema", "source_share", "frozen_stages")}
"""Values that a recipe chooses."""


@pytest.mark.parametrize(
    ("start", "n_images", "preset"),
    [
        ("detector", 1, "photometric"),
        ("detector", STRONG_FROM, "photometric"),
        ("detector", STRONG_FROM + 1, "severe"),
        ("detector", 180, "severe"),
        ("detector", 5000, "severe"),
        ("features", 1, "photometric"),
        ("features", FEW, "photometric"),
        ("features", FEW + 1, "weather"),
        ("none", FEW, "photometric"),
        ("none", 5000, "weather"),
    ],
)
def test_the_preset_of_a_start_and_a_number_of_labels(start, n_images, preset):
    config = with_values(DATA, LEFT)
    resolved, lines = resolve_auto(config, n_images, start)
    assert resolved.data.augment == preset and lines[0].startswith(f"data.augment {preset}: ")
    assert (" no detector" in lines[0]) == (start != "detector")
    is_strong = strength(load_preset(preset)) == "strong"
    assert (resolved.optim.ema == STRONG_EMA) == (is_strong and n_images <= FEW)  # the recipe follows the choice
    for world in (2, 8):  # the same on every process, however many there are
        assert resolve_auto(config, n_images, start, world)[0].data == resolved.data
    footage = with_values(config, {"data.unlabelled": "frames"})
    assert resolve_auto(footage, n_images, start)[0].data.augment == preset  # frames without labels do not count


@pytest.mark.parametrize(
    ("epochs", "preset"), [(3, "photometric"), (STRONG_EPOCHS - 1, "photometric"), (STRONG_EPOCHS, "severe")]
)
def test_a_length_set_too_short_gets_no_strong_preset(epochs, preset):
    resolved, (line,) = resolve_auto(with_values(DATA, {"optim.epochs": epochs}), 180, "detector")
    assert resolved.data.augment == preset and ("fewer than 12 epochs" in line) == (epochs < STRONG_EPOCHS)
    assert preset_for(50, "detector", epochs)[0] == "photometric" and preset_for(500, "none", epochs)[0] == "weather"


@pytest.mark.parametrize("preset", PRESETS)
@pytest.mark.parametrize("n_images", [50, 180, 5000])
def test_law_a_named_preset_is_left_alone(preset, n_images):
    config = with_values(DATA, {**LEFT, "data.augment": preset})
    resolved, lines = resolve_auto(config, n_images, "detector")
    assert resolved.data.augment == preset and not any("data.augment" in line for line in lines)


def test_the_run_records_its_choice_and_pre_flight_makes_the_same(source, small_config, tmp_path, monkeypatch):
    monkeypatch.setattr("drivetl.training.recipe.STRONG_FROM", 4)
    config = changed(changed(small_config, "data", augment=AUTO), "model", start=str(source[1]))
    pair = read_pair(config)
    short = plan_training(config, *pair)
    assert short.config.data.augment == "photometric"
    assert short.choices == (
        "data.augment photometric: more than 4 labelled images and a detector to start from, but fewer than 12 epochs",
    )
    config = changed(config, "optim", epochs=AUTO)
    prepared = prepare(config, *pair, torch.device("cpu"), torch.float32)
    planned = plan_training(config, *pair)
    assert prepared.config.data == planned.config.data and prepared.manifest["preset"] == "severe"
    assert planned.choices == tuple(prepared.notes[: len(planned.choices)])
    finetune(changed(small_config, "data", augment=AUTO), tmp_path / "run")
    recorded = yaml.safe_load((tmp_path / "run" / "config.yaml").read_text())
    assert recorded["data"]["augment"] == "photometric"


def test_law_a_run_keeps_the_preset_it_began_with(source, small_config, tmp_path, monkeypatch):
    """Begun when the default was photometric; its config says nothing, and today another preset would be chosen."""
    old = changed(small_config, "model", start=str(source[1]))
    assert old.data.augment == "photometric"
    finetune(old, tmp_path / "whole")
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        kill_after(patch, 2)
        finetune(old, tmp_path / "run")
    monkeypatch.setattr("drivetl.training.recipe.STRONG_FROM", 4)
    monkeypatch.setattr("drivetl.training.recipe.STRONG_EPOCHS", 1)
    now = changed(old, "data", augment=AUTO)
    assert plan_training(now, *read_pair(now)).config.data.augment == "severe"
    finetune(now, tmp_path / "run", resume=True)
    assert same(weights(tmp_path / "run"), weights(tmp_path / "whole"))
    assert rows_of(tmp_path / "run") == rows_of(tmp_path / "whole")
    assert yaml.safe_load((tmp_path / "run" / "config.yaml").read_text())["data"]["augment"] == "photometric"
    with pytest.raises(ConfigError, match=r"data\.augment was 'photometric', now 'severe'"):
        finetune(changed(old, "data", augment="severe"), tmp_path / "run", resume=True)


def test_auto_is_never_a_file_and_a_wrong_word_names_it(small_config, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("auto").write_text("steps:\n  - {name: haze, p: 1}\n")
    config = changed(small_config, "data", augment=AUTO)
    check_files(config)
    assert resolve_auto(config, 8, "none")[0].data.augment == "photometric"
    with pytest.raises(ConfigError, match="step 1 changes every image"):
        load_preset("./auto")
    with pytest.raises(ConfigError, match=r"'atuo' - did you mean 'auto'"):
        check_files(changed(small_config, "data", augment="atuo"))
    with pytest.raises(ConfigError, match="use auto, mixed, none"):
        check_files(changed(small_config, "data", augment="xyz"))


def test_shipped_configs_leave_the_preset_open_unless_they_fix_their_length():
    for path in sorted(CONFIGS.glob("*.yaml")):
        config = load_config(path)
        assert (config.data.augment == AUTO) == (config.optim.recipe == AUTO), path.stem
    assert load_config(CONFIGS / "mobilenet_v2_lite.yaml").data.augment == "photometric"  # that of the studies


def test_the_study_has_what_a_user_gets_without_a_word(monkeypatch):
    monkeypatch.setattr(sys, "path", [str(ROOT / "tools"), *sys.path])
    from studies import robust
    from studies.runs import LITE

    preset, length = robust.LINES["default"]
    assert robust.ORDER[0] == ("default",)
    flags = {"data.train": "a.json", "data.val": "b.json", "data.augment": preset, **length["highway"]}
    config = load_config(LITE, [f"--{key}={value}" for key, value in flags.items()])
    resolved, _ = resolve_auto(config, 180, "detector")
    long = robust.LONG["highway"]
    assert resolved.data.augment == "severe" and resolved.optim.ema == long["optim.ema"]
    assert resolved.optim.epochs >= long["optim.epochs"] and long["optim.epochs"] % resolved.eval.every == 0
