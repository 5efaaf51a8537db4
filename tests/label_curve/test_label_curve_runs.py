"""Laws of `drivetl budget`: nested subsets of whole drives, steps, resume, refusals, and one tiny study."""

import dataclasses
import itertools
import json
import shutil
from pathlib import Path

import pytest
from browser import BROWSER, WIDTHS, assert_the_page_fits
from safetensors.torch import load_file, save_file
from training_runs import write_tree

from drivetl.cli import main
from drivetl.coco.hashes import file_hash
from drivetl.coco.io import read_dataset
from drivetl.coco.records import Annotation, ImageRecord
from drivetl.config import dump_yaml, recipe_keys
from drivetl.errors import ConfigError, DataError
from drivetl.files.runs import checkpoint_folder
from drivetl.files.shipped import shipped
from drivetl.files.typed import AUTO
from drivetl.label_curve.page import steps_in_words
from drivetl.label_curve.plan import _steps, default_counts, label_order, make_plan, parse_counts, run_config
from drivetl.label_curve.regimes import parse_regimes
from drivetl.label_curve.runs import Rows, run_all
from drivetl.training import trainer
from drivetl.training.finetune import finetune
from drivetl.training.recipe import recipe


def frames(drives=((5, 1), (7, 2), (3, 1), (9, 2))):
    """(length, class) of each drive -> images whose ids do not follow time."""
    images = []
    for drive, (length, kind) in enumerate(drives):
        for index in range(length):
            image = ImageRecord(1000 - len(images), f"{drive}/{index}.png", 10, 10, f"drive {drive}", index)
            image.annotations = [Annotation(kind, (0.0, 0.0, 5.0, 5.0), 25.0)]
            images.append(image)
    return images


@pytest.mark.parametrize("seed", range(5))
def test_subsets_are_nested_and_whole_drives_but_the_last(seed):
    images = frames()
    order = label_order(images, seed)
    assert sorted(image.id for image in order) == sorted(image.id for image in images)
    lengths = {f"drive {drive}": length for drive, length in enumerate((5, 7, 3, 9))}
    for count in range(1, len(images) + 1):  # prefixes of one order are nested
        taken = [image.drive for image in order[:count]]
        cut = [name for name in dict.fromkeys(taken) if taken.count(name) < lengths[name]]
        assert cut in ([], [taken[-1]])


def test_seeds_differ_and_repeat_themselves():
    orders = [[image.id for image in label_order(frames(), seed)] for seed in (0, 1, 2, 3, 0)]
    assert orders[0] == orders[4] and len(set(map(tuple, orders))) > 1


def test_a_drive_that_is_cut_is_cut_evenly_in_time():
    places = [image.frame_index for image in label_order(frames([(64, 1)]), 0)]
    for count in (4, 8, 16, 32):
        kept = sorted(places[:count])
        assert {b - a for a, b in itertools.pairwise(kept)} == {64 // count}


def test_classes_keep_their_shares_as_well_as_drives_allow():
    images = frames([(4, 1)] * 20 + [(4, 2)] * 20)
    shares = []
    for seed in range(20):
        half = label_order(images, seed)[:80]
        shares.append(sum(image.annotations[0].category_id == 1 for image in half) / 80)
    assert all(0.4 <= share <= 0.6 for share in shares)


def test_budgets_are_read_or_refused():
    assert parse_counts("2,4,all", 8) == (2, 4, 8)
    for text, why in (
        ("9", "has 8"),
        ("4,2", "must rise"),
        ("2,2", "must rise"),
        ("8,all", "must rise"),
        ("0,4", "'0'"),
        ("", "not a number"),
        ("two", "'two'"),
        ("-3", "'-3'"),
        ("all,4", "must rise"),
    ):
        with pytest.raises(ConfigError, match=why):
            parse_counts(text, 8)
    with pytest.raises(ConfigError, match="not a number"):
        parse_counts("9" * 5000, 8)


@pytest.mark.parametrize(
    "available, counts", [(8, (8,)), (25, (25,)), (60, (25, 50, 60)), (100, (25, 50, 100)), (101, (25, 50, 100, 101))]
)
def test_without_budgets_the_usual_counts_are_taken_as_far_as_there_are_frames(available, counts, capsys):
    assert default_counts(available) == counts
    assert (f"has {available} frames" in capsys.readouterr().out) == (available <= 100)


@pytest.fixture
def written(small_config, tmp_path):
    """The config as a file: 8 frames to train on, 4 to evaluate on."""
    path = tmp_path / "tiny.yaml"
    path.write_text(dump_yaml(small_config))
    return path


def test_regimes_differ_only_in_start_and_recipe(written, tmp_path):
    start = ["--model.start", "runs/source", "--optim.frozen_stages", "2"]
    found = parse_regimes("transfer,scratch", [written], start)
    assert (found["transfer"].model.start, found["transfer"].optim.frozen_stages) == ("runs/source", 2)
    assert (found["scratch"].model.start, found["scratch"].optim.frozen_stages) == ("none", 0)
    assert found["scratch"].data == found["transfer"].data
    faster = tmp_path / "faster.yaml"
    faster.write_text("data:\n  train: elsewhere.json\noptim:\n  lr: 0.01\n")
    found = parse_regimes(f"scratch,faster={faster}", [written], ["--optim.lr=0.5"])
    assert found["faster"].optim.lr == 0.01 and found["scratch"].optim.lr == 0.5
    assert found["faster"].data.train == found["scratch"].data.train


@pytest.mark.parametrize(
    "text, why",
    [
        ("scrach", "did you mean 'scratch'"),
        ("transfer", "nothing to transfer"),
        ("scratch,scratch", "empty, duplicated or not a name"),
        ("a/b=x.yaml", "empty, duplicated or not a name"),
        ("zzz", "known: transfer"),
    ],
)
def test_wrong_regimes_are_refused(written, text, why):
    with pytest.raises(ConfigError, match=why):
        parse_regimes(text, [written], [])


def test_all_counts_make_the_same_steps_and_evaluations(small_config, tmp_path):
    optim = dataclasses.replace(small_config.optim, epochs=6, heads_only_epochs=2, unfreeze_every=1)
    config = dataclasses.replace(small_config, optim=optim)
    for count in (4, 8, 16, 40):
        found = run_config(config, 120, count, 3, tmp_path / "x.json")
        per_epoch = -(-count // 4)
        assert found.optim.epochs * per_epoch == 120
        assert found.optim.heads_only_epochs == round(found.optim.epochs / 3)
        assert found.optim.epochs / found.eval.every == pytest.approx(6, abs=0.5)
        assert found.seed == 3
        found.check()


def plan(config, out, budgets="4,8", steps=4, seeds=(0,), **regimes):
    return make_plan(out, {"scratch": config} | regimes, budgets, seeds, steps)


def test_steps_and_frames_that_contradict_are_refused(small_config, tmp_path):
    with pytest.raises(ConfigError, match="less than one epoch"):
        plan(small_config, tmp_path / "out", steps=1)
    some = dataclasses.replace(small_config, data=dataclasses.replace(small_config.data, train_images=4))
    with pytest.raises(ConfigError, match="train_images"):
        plan(some, tmp_path / "out")
    unknown = dataclasses.replace(small_config, optim=dataclasses.replace(small_config.optim, batch_size=AUTO))
    with pytest.raises(ConfigError, match=r"optim\.batch_size is auto, .*--optim\.batch_size 4"):
        plan(unknown, tmp_path / "out")
    repeated = dataclasses.replace(small_config, data=dataclasses.replace(small_config.data, sampling="repeat_factor"))
    with pytest.raises(ConfigError, match=r"set data\.sampling: uniform"):
        plan(repeated, tmp_path / "out")
    assert plan(small_config, tmp_path / "out", steps=None).steps == {"scratch": (200, 200)}
    left = {key.split(".")[1]: AUTO for key in recipe_keys() if key.startswith("optim.")}
    auto = dataclasses.replace(small_config, optim=dataclasses.replace(small_config.optim, recipe="auto", **left))
    own = plan(auto, tmp_path / "out", steps=None)  # what a user with that many labels would get
    for cell in own.cells():
        count = cell[1]
        assert own.config(cell).optim.epochs == recipe(count, "none", auto.optim.batch_size).epochs
    assert not (tmp_path / "out").exists()


def test_the_preset_of_a_run_follows_its_labels_and_its_length(source, small_config, tmp_path, monkeypatch):
    monkeypatch.setattr("drivetl.training.recipe.STRONG_FROM", 4)
    config = dataclasses.replace(
        small_config,
        data=dataclasses.replace(small_config.data, augment=AUTO),
        model=dataclasses.replace(small_config.model, start=str(source[1])),
    )
    for steps, with_8 in ((None, "severe"), (30, "severe"), (8, "photometric")):  # 8 frames: 2 steps an epoch
        made = make_plan(tmp_path / "out", {"transfer": config}, "4,8", [0], steps)
        assert [made.config(cell).data.augment for cell in made.cells()] == ["photometric", with_8]
    inputs = [made.inputs_of(cell)["data.augment"] for cell in made.cells()]
    assert inputs[0] == inputs[1] == plan(small_config, tmp_path / "out").inputs_of(("scratch", 4, 0))["data.augment"]


def test_the_steps_given_are_the_steps_made(small_config, tmp_path):
    odd = plan(small_config, tmp_path / "out", steps=5)  # an epoch of 8 frames has two steps
    assert odd.steps == {"scratch": (5, 4)} and odd.target_steps == {"scratch": 5}
    assert "5, 4 optimiser steps" in steps_in_words((5, 4), 5) and "nearest to 5" in steps_in_words((5, 4), 5)
    assert steps_in_words((6, 6), 6) == "6 optimiser steps at every count"
    assert "nearest to 5" in steps_in_words((4, 4), 5)
    assert "recipe" in steps_in_words((90, 120), None)
    assert [row["steps"] for row in run_all(odd)] == [5, 4]


@pytest.mark.parametrize("count", [1, 3, 4, 5, 8, 40, 100])
@pytest.mark.parametrize("wanted", [37, 200, 201])
def test_steps_are_whole_epochs_and_never_half_an_epoch_off(small_config, count, wanted):
    an_epoch = -(-count // small_config.optim.batch_size)
    (made,) = _steps(small_config, "none", [count], wanted)
    assert made % an_epoch == 0 and abs(made - wanted) <= an_epoch / 2
    parts = dataclasses.replace(small_config.optim, batch_size=small_config.optim.batch_size // 2, accumulate=2)
    assert _steps(dataclasses.replace(small_config, optim=parts), "none", [count], wanted) == (made,)


def test_a_replayed_source_takes_its_share_of_the_steps_of_every_run(small_config, tmp_path):
    old = write_tree(tmp_path / "old", n_images=4, first_drive=20)
    data = dataclasses.replace(small_config.data, source=str(old), source_share=0.5)
    replaying = dataclasses.replace(small_config, data=data)
    made = plan(replaying, tmp_path / "out", steps=8)
    assert made.steps == {"scratch": (8, 8)}  # an epoch of 4 and of 8 frames has 2 and 4 steps
    assert [made.config(cell).optim.epochs for cell in made.cells()] == [4, 2]
    assert made.inputs["scratch"]["data.source"] == file_hash(old)
    val = Path(small_config.data.val)
    leaky = val.with_name("copy.json")
    leaky.write_bytes(val.read_bytes())
    with pytest.raises(ConfigError, match=r"which data\.val evaluates on"):
        plan(dataclasses.replace(small_config, data=dataclasses.replace(data, source=str(leaky))), tmp_path / "out")


def test_every_run_is_checked_before_the_first_training(small_config, tmp_path):
    left = {key.split(".")[1]: AUTO for key in recipe_keys() if key.startswith("optim.")}
    optim = dataclasses.replace(small_config.optim, recipe="auto", **{**left, "heads_only_epochs": 800})
    long = dataclasses.replace(small_config, optim=optim)  # 1500 epochs at 4 frames, 750 at 8
    with pytest.raises(ConfigError, match=r"scratch with 8 frames: optim\.heads_only_epochs is 800"):
        plan(long, tmp_path / "out", steps=4)
    missing = dataclasses.replace(small_config.data, augment=str(tmp_path / "gone.yaml"))
    with pytest.raises(ConfigError, match=r"gone\.yaml"):
        plan(dataclasses.replace(small_config, data=missing), tmp_path / "out")


def test_regimes_that_would_be_the_same_training_are_refused(small_config, tmp_path):
    with_l2sp = dataclasses.replace(small_config, optim=dataclasses.replace(small_config.optim, l2sp=0.1))
    for twin in (small_config, with_l2sp):  # without start weights, L2-SP has no effect
        with pytest.raises(ConfigError, match="scratch and other would be the same"):
            plan(small_config, tmp_path / "out", other=twin)
    faster = dataclasses.replace(small_config, optim=dataclasses.replace(small_config.optim, lr=0.5))
    plan(small_config, tmp_path / "out", other=faster)


def test_a_folder_with_other_content_is_left_alone(small_config, tmp_path):
    out = tmp_path / "thesis"
    out.mkdir()
    plan(small_config, out)  # empty: fine
    (out / "report.html").write_text("mine")
    with pytest.raises(ConfigError, match="thesis has files, but none of a study"):
        plan(small_config, out)
    with pytest.raises(ConfigError, match="html is a file"):
        plan(small_config, out / "report.html")
    assert [path.name for path in out.iterdir()] == ["report.html"]


def test_a_study_killed_before_its_first_row_resumes(small_config, tmp_path, monkeypatch):
    def die(self):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(trainer.Trainer, "save", die)
        run_all(plan(small_config, tmp_path / "out", budgets="4", steps=1))
    assert [row["steps"] for row in run_all(plan(small_config, tmp_path / "out", budgets="4", steps=1))] == [1]


def without_time(rows):
    return [{key: value for key, value in row.items() if key != "seconds"} for row in rows]


def test_a_killed_study_resumes_and_ends_with_the_same_rows(small_config, tmp_path, monkeypatch):
    whole = run_all(plan(small_config, tmp_path / "whole"))
    save, saved = trainer.Trainer.save, []

    def save_and_die(self):
        save(self)
        saved.append(self.step)
        if len(saved) == 7:  # the first run saves five times, the second is half done
            raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(trainer.Trainer, "save", save_and_die)
        run_all(plan(small_config, tmp_path / "killed"))
    lines = (tmp_path / "killed" / "rows.jsonl").read_text().splitlines()
    assert [json.loads(line)["frames"] for line in lines] == [4]
    rows = run_all(plan(small_config, tmp_path / "killed"))
    assert without_time(rows) == without_time(whole)
    assert [row["steps"] for row in rows] == [4, 4]
    assert not list((tmp_path / "killed").rglob("last"))


def test_rows_of_another_dataset_or_configuration_are_refused_and_named(small_config, tmp_path):
    run_all(plan(small_config, tmp_path / "out", budgets="4"))
    faster = dataclasses.replace(small_config, optim=dataclasses.replace(small_config.optim, lr=0.5))
    with pytest.raises(DataError, match=r"rows\.jsonl:1: .*optim\.lr was 0\.001, now 0\.5"):
        Rows(plan(faster, tmp_path / "out", budgets="4"))
    data = dataclasses.replace(small_config.data, val=small_config.data.train)
    with pytest.raises(DataError, match="another dataset"):
        Rows(plan(dataclasses.replace(small_config, data=data), tmp_path / "out", budgets="4"))
    for line in ("nonsense", "[]", '{"regime": "scratch", "frames": 4, "seed": 0}'):
        (tmp_path / "out" / "rows.jsonl").write_text(f"{line}\n")
        with pytest.raises(DataError, match=r"rows\.jsonl:1: not a row"):
            Rows(plan(small_config, tmp_path / "out", budgets="4"))


def test_a_smaller_or_another_list_of_counts_keeps_what_has_finished(small_config, tmp_path):
    rows = run_all(plan(small_config, tmp_path / "out"))
    for budgets in ("4", "8"):
        (kept,) = run_all(plan(small_config, tmp_path / "out", budgets=budgets))
        assert kept in rows
    run_all(plan(small_config, tmp_path / "out", budgets="2"))
    assert run_all(plan(small_config, tmp_path / "out")) == rows
    other = dataclasses.replace(small_config.data, val=small_config.data.train)
    with pytest.raises(DataError, match="another dataset"):
        Rows(plan(dataclasses.replace(small_config, data=other), tmp_path / "out", budgets="3"))


def test_rows_trained_with_other_weights_or_another_augmentation_are_refused(source, small_config, tmp_path):
    start, preset = tmp_path / "start", tmp_path / "mild.yaml"
    shutil.copytree(source[1], start)
    shutil.copy(shipped("configs/weather/photometric.yaml"), preset)
    config = dataclasses.replace(
        small_config,
        data=dataclasses.replace(small_config.data, augment=str(preset)),
        model=dataclasses.replace(small_config.model, start=str(start)),
    )

    def again():
        return make_plan(tmp_path / "out", {"transfer": config}, "4", [0], 1)

    run_all(again())
    text = preset.read_text()
    preset.write_text("# a remark changes nothing\n" + text)
    Rows(again())
    preset.write_text(shipped("configs/weather/none.yaml").read_text())
    with pytest.raises(DataError, match=r"rows\.jsonl:1: .*another content of data\.augment"):
        Rows(again())
    preset.write_text(text)
    weights = checkpoint_folder(start, "best") / "model.safetensors"
    save_file({name: value + 1 for name, value in load_file(weights).items()}, weights)
    with pytest.raises(DataError, match=r"rows\.jsonl:1: .*another content of model\.start"):
        Rows(again())


def test_the_command_from_flags_to_page(small_config, written, tmp_path, capsys):
    source, out = tmp_path / "source", tmp_path / "study"
    finetune(small_config, source)
    command = ["budget", "--config", str(written), "--model.start", str(source), "--out", str(out)]
    command += ["--budgets", "4,all", "--seeds", "0", "--regimes", "transfer,scratch", "--steps", "4"]
    assert main(command) == 0
    results = json.loads((out / "budget.json").read_text())
    assert results["schema"] == "drivetl.budget/1"
    assert results["protocol"]["budgets"] == [4, 8]
    scratch = results["metrics"]["AP"]["regimes"]["scratch"]
    mine = [row for row in results["runs"] if row["regime"] == "scratch"]
    assert [row["AP"] for row in mine] == pytest.approx([one["value"]["point"] for one in scratch["points"]])
    assert all((row["source_AP"] is None) == (row["regime"] == "scratch") for row in results["runs"])
    gains = [(row["regime"], row["over"], row["frames"]) for row in results["metrics"]["AP"]["gains"]]
    assert gains == [("transfer", "scratch", 4), ("transfer", "scratch", 8)]
    assert scratch["curve"] is None and "at least 3" in scratch["why_not"]
    assert all(point["value"]["low"] is None for point in scratch["points"]), "4 frames: no interval"
    assert results["metrics"]["AP"]["gains"][0]["gain"]["low"] is None
    assert any("intervals and tests need 8 images and 5 drives" in text for text in results["warnings"])
    page = (out / "report.html").read_text()
    assert "How many labelled frames?" in page and "at least 3" in page and "http" not in page
    for width in WIDTHS if BROWSER else ():
        assert_the_page_fits(page, tmp_path, width)
    small, large = (read_dataset(out / "frames" / f"s0-{count}.json") for count in (4, 8))
    assert {image.id for image in small.images} < {image.id for image in large.images}
    assert len(small.images) == 4
    capsys.readouterr()
    assert main(command) == 0  # nothing is trained again
    assert "4 of 4 runs are already finished" in capsys.readouterr().out
    assert json.loads((out / "budget.json").read_text()) == results


@pytest.mark.parametrize(
    "flags, why",
    [
        (["--seeds", "0,0"], "0 is duplicated"),
        (["--seeds", "x"], "write numbers"),
        (["--target", "40"], "between 0 and 1"),
        (["--budgets", "4,99"], "has 8"),
        (["--seeds", str(2**63)], "too large"),
        (["--seeds", "9" * 5000], "too large"),
        (["--seed", "5"], "write --seeds"),
        (["--seed=5"], "write --seeds"),
        (["--targ", "0.5"], "unknown flag --targ"),
    ],
)
def test_mistakes_are_one_line_and_exit_code_2(written, tmp_path, capsys, flags, why):
    out = tmp_path / "none"
    assert main(["budget", "--config", str(written), "--regimes", "scratch", "--out", str(out), *flags]) == 2
    assert why in capsys.readouterr().err
    assert not out.exists()
