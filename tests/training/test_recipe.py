"""Laws of the recipe by the number of labels, of layered configs and of the shipped regimes."""

import dataclasses
import json
from pathlib import Path

import pytest
import torch
import yaml

from drivetl.coco.hashes import file_hash
from drivetl.commands import dispatch
from drivetl.config import MOST_EPOCHS, dump_yaml, load_config, recipe_keys, values_of
from drivetl.errors import ConfigError
from drivetl.files.typed import AUTO
from drivetl.models.weights import read_weights
from drivetl.training.finetune import Outcome, finetune
from drivetl.training.recipe import FEW, FOOTAGE_STEPS, MAX_PASSES, STRONG_EMA, STRONG_FROM, recipe, resolve_auto
from drivetl.training.rundir import read_metrics

CONFIGS = Path(__file__).parents[2] / "configs" / "finetune"
REGIMES = sorted(path.stem for path in (CONFIGS / "regimes").glob("*.yaml"))
DATA = "data: {train: a.json, val: b.json}\n"


def written(tmp_path, text, name="c.yaml"):
    path = tmp_path / name
    path.write_text(text)
    return path


@pytest.mark.parametrize("augmented", ["mild", "strong"])
@pytest.mark.parametrize("start", ["detector", "features", "none"])
@pytest.mark.parametrize("batch", [1, 4, 16])
def test_law_few_labels_get_steps_within_bounds(start, batch, augmented):
    least, most = {"detector": (90, 800), "features": (600, 1600), "none": (1500, 2400)}[start]
    before = 0
    for n in (1, 10, 25, 50, 100, FEW):
        per_epoch = -(-n // batch)
        epochs = recipe(n, start, batch, augmented).epochs
        steps = epochs * per_epoch
        assert steps < most + per_epoch  # the last epoch is complete
        assert steps >= least or (start == "detector" and epochs == MAX_PASSES)
        assert steps >= before - per_epoch
        before = steps


@pytest.mark.parametrize("augmented", ["mild", "strong"])
@pytest.mark.parametrize("start", ["detector", "features", "none"])
@pytest.mark.parametrize("batch", [1, 4, 16, 64])
def test_law_more_labels_never_mean_fewer_steps(start, batch, augmented):
    per_epoch = [-(-n // batch) for n in range(1, 2 * FEW)]
    epochs = [recipe(n, start, batch, augmented).epochs for n in range(1, 2 * FEW)]
    assert start != "detector" or max(epochs) <= MAX_PASSES
    steps = [times * each for times, each in zip(epochs, per_epoch, strict=True)]
    assert all(after > before - each for before, after, each in zip(steps, steps[1:], per_epoch, strict=False))


def test_few_labels_stay_close_to_a_detector_and_many_train_it_longer():
    few, many = recipe(50, "detector", 4), recipe(5000, "detector", 4)
    assert few.frozen_stages > many.frozen_stages and few.source_share > many.source_share
    assert few.epochs * 13 < many.epochs * 1250  # steps
    assert few.epochs < recipe(FEW, "detector", 4).epochs  # fewer labels are seen less often
    assert recipe(50, "none", 4).frozen_stages == 0 == recipe(50, "none", 4).l2sp
    assert recipe(50, "features", 4).lr > few.lr


@pytest.mark.parametrize("start", ["detector", "features", "none"])
@pytest.mark.parametrize("n", [1, 25, 50, 100, FEW, FEW + 1, 5000])
def test_law_a_strong_preset_never_gets_fewer_steps(start, n):
    mild, strong = (recipe(n, start, 4, augmented) for augmented in ("mild", "strong"))
    assert strong.epochs >= mild.epochs and strong.ema >= mild.ema
    assert recipe(n, start, 4, "none") == mild
    assert strong == mild or (start == "detector" and STRONG_FROM < n <= FEW)


def test_the_recipe_follows_the_preset(tmp_path):
    path = written(tmp_path, DATA + "optim: {recipe: auto}\n")
    notes = {}
    for preset in ("none", "photometric", "severe", "mixed"):
        config, (notes[preset],) = resolve_auto(load_config(path, ["--data.augment", preset]), 180, "detector")
        assert (config.optim.ema == STRONG_EMA) == (preset in ("severe", "mixed")), preset
        assert config.optim.source_share == (0.0 if preset in ("severe", "mixed") else 0.3)
    assert "no augmentation" in notes["none"] and "mild augmentation" in notes["photometric"]
    assert "strong augmentation (4 % of images unchanged)" in notes["severe"]


@pytest.mark.parametrize("batch", [1, 3, 8, 64])
def test_law_footage_that_the_start_labels_has_its_length_and_stays_closest_to_it(batch):
    for n in (1, 25, 50, 180, FEW, FEW + 1, 5000):
        per_epoch = -(-n // batch)
        chosen = recipe(n, "detector", batch, footage=True)
        steps = chosen.epochs * per_epoch
        assert steps < max(FOOTAGE_STEPS, per_epoch) + per_epoch
        assert steps >= FOOTAGE_STEPS or chosen.epochs == MAX_PASSES
        for augmented in ("none", "mild", "strong"):
            others = recipe(n, "detector", batch, augmented)
            assert chosen.lr < others.lr and chosen.source_share > others.source_share
            assert recipe(n, "detector", batch, augmented, footage=True) == chosen
    assert recipe(50, "features", batch, footage=True) == recipe(50, "features", batch)


def test_the_recipe_for_footage_is_for_a_start_that_labels_it_and_knows_the_labels(tmp_path):
    train, run = written(tmp_path, "{}", "a.json"), tmp_path / "run"
    (run / "checkpoints" / "best").mkdir(parents=True)
    for name in ("model.json", "model.safetensors"):
        written(run / "checkpoints" / "best", "", name)
    text = f"data: {{train: {train}, val: b.json}}\nmodel: {{start: {run}}}\noptim: {{recipe: auto, batch_size: 3}}\n"
    path = written(tmp_path, text)

    def chosen(*flags, start="detector"):
        return resolve_auto(load_config(path, [*flags]), 180, start)

    frames = ("--data.unlabelled", "frames")
    plain = chosen()[0].optim
    for provenance in (
        None,
        "",
        "[]",
        "{}",
        '{"train_sha256": "0"}',
    ):  # trained on other labels, or on nobody knows what
        if provenance is not None:
            written(run, provenance, "provenance.json")
        resolved, lines = chosen(*frames)
        assert resolved.optim == plain and "model.start was not trained on data.train" in lines[-1]
    written(run, json.dumps({"train_sha256": file_hash(train)}), "provenance.json")
    assert chosen()[0].optim == plain  # no footage
    resolved, lines = chosen(*frames)
    assert (resolved.optim.epochs, resolved.optim.lr, resolved.optim.source_share) == (2, 1e-4, 0.5)  # 2 x 90 steps
    assert resolved.data.augment == "severe" and "from a detector trained on them, which labels footage" in lines[-1]
    part = chosen(*frames, "--data.source", "s.json", "--data.source_share", "0.3333")[0]
    assert part.optim.epochs == 1  # one labelled image of the target in a step
    assert chosen(*frames, "--optim.epochs", "1")[0].data.augment == "severe"  # the teacher was trained before
    assert chosen(*frames, "--data.pseudo", "results.json")[0].optim == plain  # of another detector
    assert chosen("--data.pseudo", "edited.json")[0].optim == plain
    assert chosen(*frames, start="none")[0].optim == chosen(start="none")[0].optim


def test_the_recipe_fills_in_auto_values_and_keeps_the_others(tmp_path):
    path = written(tmp_path, DATA + "optim: {recipe: auto, lr: 0.5, epochs: auto}\n")
    config = load_config(path, ["--optim.ema", "0.5"])
    assert (config.optim.lr, config.optim.ema, config.optim.epochs, config.eval.every) == (0.5, 0.5, AUTO, AUTO)
    resolved, (_, note) = resolve_auto(config, 50, "detector")
    assert (resolved.optim.lr, resolved.optim.ema) == (0.5, 0.5)
    chosen = recipe(50, "detector", 4)
    assert (resolved.optim.epochs, resolved.optim.frozen_stages) == (chosen.epochs, chosen.frozen_stages)
    assert note.startswith("recipe for 50 labelled images (few) from a detector, mild augmentation (")
    assert "of images unchanged): epochs 8, layer_decay 1" in note
    assert "lr" not in note and "ema" not in note
    assert all(values_of(resolved)[key] != AUTO for key in recipe_keys())
    again = load_config(written(tmp_path, dump_yaml(resolved), "again.yaml"))
    assert again == resolved and resolve_auto(again, 9000, "none") == (resolved, [])


def test_law_a_length_beyond_the_bound_is_refused(tmp_path):
    assert load_config(written(tmp_path, DATA), [f"--optim.epochs={MOST_EPOCHS}"]).optim.epochs == MOST_EPOCHS
    with pytest.raises(
        ConfigError, match=r"optim\.epochs is 10001, it must be a whole number from 1 to 10000, or auto"
    ):
        load_config(written(tmp_path, DATA), [f"--optim.epochs={MOST_EPOCHS + 1}"])
    most = max(recipe(n, start, 1, "strong").epochs for n in (1, 25, 200) for start in ("detector", "features", "none"))
    assert most <= MOST_EPOCHS


@pytest.mark.parametrize("text", ["optim: {lr: -1}", "optim: {recipe: auto, epochs: -1}"])
def test_law_no_number_is_read_as_auto(tmp_path, text):
    key = "lr" if "lr" in text else "epochs"
    with pytest.raises(ConfigError, match=rf"c\.yaml:2: optim\.{key} is -1, it must be .*auto"):
        load_config(written(tmp_path, DATA + text))


def test_the_error_about_a_wrong_value_names_its_file_or_flag(tmp_path):
    path = written(tmp_path, DATA + "optim: {lr: 0.5}\n")
    with pytest.raises(ConfigError, match=r"^--optim\.epochs=autoo: "):
        load_config(path, ["--optim.epochs", "autoo"])
    with pytest.raises(ConfigError, match=r"d\.yaml:2: optim\.epochs"):
        load_config(written(tmp_path, DATA + "optim: {epochs: autoo}\n", "d.yaml"), ["--optim.lr", "0.1"])
    for seed in ("-1", str(2**63)):
        with pytest.raises(ConfigError, match=rf"seed is {seed}, it must be a whole number from 0"):
            load_config(path, ["--seed", seed])


def test_without_auto_the_recipe_changes_nothing(tmp_path):
    config = load_config(written(tmp_path, DATA + "optim: {lr: 0.5}\n"), ["--data.augment", "none"])
    assert (config.optim.epochs, config.optim.frozen_stages, config.eval.every) == (12, 0, 1)
    assert resolve_auto(config, 50, "detector") == (config, [])


def test_a_short_training_limits_the_recipes_heads_only_epochs(tmp_path):
    path = written(tmp_path, DATA + "optim: {recipe: auto, epochs: 1}\n")
    assert resolve_auto(load_config(path), 5000, "detector")[0].optim.heads_only_epochs == 0
    clash = written(tmp_path, DATA + "optim: {recipe: auto, heads_only_epochs: 90}\n", "clash.yaml")
    with pytest.raises(ConfigError, match=r"optim\.heads_only_epochs is 90.*below optim\.epochs"):
        resolve_auto(load_config(clash), 5000, "detector")


def test_a_later_config_overrides_an_earlier_one_and_flags_override_both(tmp_path):
    first = written(tmp_path, DATA + "optim: {lr: 0.5, epochs: 7}\nseed: 3\n")
    second = written(tmp_path, "optim: {lr: 0.25}\n", "d.yaml")
    config = load_config([first, second], ["--optim.epochs", "9"])
    assert (config.optim.lr, config.optim.epochs, config.seed) == (0.25, 9, 3)
    with pytest.raises(ConfigError, match=r"d\.yaml:1: unknown key 'optim\.lrr'"):
        load_config([first, written(tmp_path, "optim: {lrr: 1}\n", "d.yaml")])
    with pytest.raises(ConfigError, match=r"d\.yaml:1: optim\.lr"):
        load_config([first, written(tmp_path, "optim: {lr: fast}\n", "d.yaml")])


def test_the_effective_values_are_saved_and_used_by_resume(source, tmp_path):
    """config.yaml has the recipe's choice; resuming with the same `auto` config reads it from there."""
    config, run = source
    auto = {key.split(".")[1]: AUTO for key in recipe_keys() if key.startswith("optim.")} | {"epochs": 1}
    config = dataclasses.replace(
        config,
        model=dataclasses.replace(config.model, start=str(run)),
        optim=dataclasses.replace(config.optim, recipe="auto", **auto),
        eval=dataclasses.replace(config.eval, every=AUTO),
    )
    finetune(config, tmp_path / "run")
    effective = yaml.safe_load((tmp_path / "run" / "config.yaml").read_text())
    assert (effective["optim"]["lr"], effective["optim"]["frozen_stages"]) == (3e-4, 2)
    assert effective["eval"]["every"] == 1
    finetune(config, tmp_path / "run", resume=True)
    with pytest.raises(ConfigError, match=r"optim\.batch_size was 4, now 2"):
        other = dataclasses.replace(config, optim=dataclasses.replace(config.optim, batch_size=2))
        finetune(other, tmp_path / "run", resume=True)


def test_the_command_accepts_several_configs_and_the_old_data(tmp_path, monkeypatch):
    called = []

    def record(config, out, **options):
        called.append(((config, out), options))
        return Outcome(out, [], {}, {})

    monkeypatch.setattr("drivetl.training.finetune.finetune", record)
    monkeypatch.chdir(tmp_path)
    for name in ("a.json", "b.json", "old.json"):  # the command looks whether they exist
        Path(name).touch()
    base = written(tmp_path, DATA + "optim: {lr: 0.5}\n", "city.yaml")
    over = CONFIGS / "regimes" / "heads_only.yaml"
    arguments = ["--config", str(base), "--config", str(over), "--source-data", "old.json", "--seed", "5"]
    dispatch(["finetune", *arguments])
    (config, out), options = called[0]
    assert (config.optim.lr, config.optim.frozen_stages, config.seed) == (0.5, 99, 5)
    assert out == Path("runs/city-heads_only")
    unset = {"resume": False, "accept_changed_images": False, "compare_without": False}
    assert options == unset | {"source_data": Path("old.json")}


STAGES = tuple(f"backbone.body.{number}." for number in range(5))
HEADS = ("backbone.fpn.", "rpn.head.", "roi_heads.")
MOVE = {
    "heads_only": (1, HEADS),
    "gradual_unfreezing": (3, (*HEADS, STAGES[4])),
    "layer_decay": (1, (*HEADS, *STAGES)),
    "l2sp": (1, (*HEADS, *STAGES)),
    "from_scratch": (1, (*HEADS, *STAGES)),
}
"""Regime -> epochs of the test, parameters that change in them; all others must stay the same, bit for bit."""


@pytest.mark.parametrize("regime", REGIMES)
def test_a_regime_changes_exactly_the_parameters_it_should(source, tmp_path, regime):
    config, run = source
    config = dataclasses.replace(config, model=dataclasses.replace(config.model, start=str(run)))
    base, over = written(tmp_path, dump_yaml(config)), CONFIGS / "regimes" / f"{regime}.yaml"
    assert f"--config configs/finetune/regimes/{regime}.yaml" in over.read_text()
    epochs, moving = MOVE[regime]
    layered = load_config([base, over], [f"--optim.epochs={epochs}", "--optim.lr=0.001"])
    finetune(layered, tmp_path / "run")
    before = read_weights(run / "checkpoints" / "best" / "model.safetensors")
    after = read_weights(tmp_path / "run" / "checkpoints" / "last" / "model.safetensors")
    for part in (*STAGES, *HEADS):
        moved = [not torch.equal(after[key], before[key]) for key in before if key.startswith(part)]
        assert any(moved) if part in moving else not any(moved), part
    rows = read_metrics(tmp_path / "run" / "metrics.jsonl")
    assert ("train_loss_l2sp" in rows[-1]) == (regime == "l2sp")
    surgery = json.loads((tmp_path / "run" / "surgery.json").read_text())
    assert (surgery["start"] == "none") == (regime == "from_scratch")
