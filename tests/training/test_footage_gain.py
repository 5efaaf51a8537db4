"""Laws of the comparison with the same training without the footage: what is run, what is said, what is resumed."""

import dataclasses
import json
import shlex

import pytest
from training_runs import changed, same, weights, write_tree
from two_cars import detections, world

from drivetl.cli import main
from drivetl.config import dump_yaml, load_config
from drivetl.errors import ConfigError
from drivetl.files.runs import BEST_DETECTIONS
from drivetl.metrics.results import save_results
from drivetl.training import loop, trainer
from drivetl.training.finetune import finetune
from drivetl.training.footage_gain import CAVEAT, GAIN, commands_without, gain


@pytest.fixture(scope="module")
def config(tmp_path_factory, source):
    """Two labelled images and one frame a step, from the source's detector."""
    folder = tmp_path_factory.mktemp("footage")
    frames = write_tree(folder / "night", n_images=5, seed=8).parent
    (frames / "data.json").unlink()
    config = changed(source[0], "data", unlabelled=str(frames), pseudo_threshold=0.2, pseudo_ignore_from=0.05)
    config = changed(config, "model", start=str(source[1]))
    config = changed(config, "optim", batch_size=3, epochs=2, lr=1e-3)
    return dataclasses.replace(config, eval=dataclasses.replace(config.eval, every=1))


@pytest.fixture(scope="module")
def compared(config, tmp_path_factory):
    """The run and that without the footage, of one call."""
    run = tmp_path_factory.mktemp("compared") / "run"
    outcome = finetune(config, run, compare_without=True)
    assert outcome.gain == json.loads((run / GAIN).read_text())
    return run, run.with_name("run_without")


def test_law_it_does_what_the_two_printed_commands_do(config, compared, tmp_path, capsys):
    run, without = compared
    train, compare = map(shlex.split, commands_without(load_config(run / "config.yaml"), run))
    assert train[-1] == compare[-1] == str(without)
    assert main([*train[1:-1], str(tmp_path / "again")]) == 0
    assert main([*compare[1:], "--out", str(tmp_path / "compared.json")]) == 0
    assert same(weights(without), weights(tmp_path / "again")) and not same(weights(without), weights(run))
    row, document = (
        json.loads((tmp_path / "compared.json").read_text())["rows"][0],
        json.loads((run / GAIN).read_text()),
    )
    assert (document["with"], document["without"], document["delta"]["point"]) == (row["a"], row["b"], row["delta"])
    assert {key: document["delta"][key] for key in ("low", "high", "p")} == {
        key: row[key] for key in ("low", "high", "p")
    }


def test_law_the_model_card_and_the_closing_lines_say_which_to_use(config, compared, tmp_path, capsys, monkeypatch):
    run, without = compared
    monkeypatch.setattr(loop, "forward_uint8", None)  # both are finished: nothing is trained
    before = weights(run), weights(without)
    (run / GAIN).unlink()
    outcome = finetune(config, run, resume=True)
    assert same(weights(run), before[0]) and same(weights(without), before[1])
    document = json.loads((run / GAIN).read_text())
    assert document == outcome.gain and document["use"] == str(without / "checkpoints" / "best"), "three drives"
    words = " ".join(capsys.readouterr().out.split())
    verdict = document["verdict"]
    assert verdict.startswith("the footage is not shown to help: AP ") and "3 drives are too few" in verdict
    assert f"{verdict} {CAVEAT} use {document['use']}: trained without the footage" in words
    assert "was not run" not in words and f"the same training without the footage: {without}" in words
    card = " ".join((run / "README.md").read_text().split())
    assert "was not run" not in card and "drivetl compare" not in card and f"Use `{document['use']}`" in card
    assert verdict[1:60] in card
    assert "nlabelled" not in (without / "README.md").read_text()


def test_law_a_kill_in_the_second_training_is_resumed_there(config, compared, tmp_path, monkeypatch):
    monkeypatch.setattr(trainer, "SAVE_EVERY_S", -1.0)
    run, without = tmp_path / "run", tmp_path / "run_without"
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        save = trainer.Trainer.save

        def save_and_die(self):
            save(self)
            if self.run == without and self.step >= 5:
                raise KeyboardInterrupt

        patch.setattr(trainer.Trainer, "save", save_and_die)
        finetune(config, run, compare_without=True)
    assert (run / "README.md").is_file() and not (without / "README.md").exists() and not (run / GAIN).exists()
    assert main(["finetune", "--resume", "--out", str(run)]) == 0
    for ours, theirs in zip((run, without), compared, strict=True):
        assert same(weights(ours), weights(theirs)) and same(weights(ours, "best"), weights(theirs, "best"))
    ours, theirs = (json.loads((path / GAIN).read_text()) for path in (run, compared[0]))
    assert ours["delta"] == theirs["delta"]


def test_a_run_without_of_another_training_is_refused_before_the_first_step(config, compared, tmp_path):
    folder = compared[0].parent
    other = dataclasses.replace(config, seed=1)
    compared[0].rename(folder / "moved")
    try:
        with pytest.raises(ConfigError, match=r"run_without: is not the same training as .*seed was 0, now 1 - remove"):
            finetune(other, folder / "run", compare_without=True)
        assert not (folder / "run").exists()
    finally:
        (folder / "moved").rename(compared[0])
    (tmp_path / "run_without").mkdir()
    (tmp_path / "run_without" / "notes.txt").touch()
    with pytest.raises(ConfigError, match=r"run_without: is not the same training .*nothing to resume"):
        finetune(config, tmp_path / "run", compare_without=True)
    assert [path.name for path in tmp_path.iterdir()] == ["run_without"]


def test_without_footage_the_flag_is_a_mistake(config, tmp_path, capsys):
    (tmp_path / "c.yaml").write_text(dump_yaml(changed(config, "data", unlabelled="")))
    words = ["finetune", "--config", str(tmp_path / "c.yaml"), "--out", str(tmp_path / "run")]
    assert main([*words, "--compare-without-unlabelled"]) == 2
    assert "the config has no footage without labels - set data.unlabelled" in capsys.readouterr().err
    with pytest.raises(ConfigError, match="no footage"):
        finetune(changed(config, "data", unlabelled=""), tmp_path / "run", compare_without=True)
    assert not (tmp_path / "run").exists()


def gain_of(folder, n_drives, with_footage, without, best_epoch=3):
    """The document of two runs that find so many of the two cars of every image."""
    val = world(n_drives)
    for name, found in (("run", with_footage), ("run_without", without)):
        save_results(folder / name / BEST_DETECTIONS, detections(val, found))
        (folder / name / "outcome.json").write_text(json.dumps({"best": {"epoch": best_epoch}}))
    return gain(folder / "run", val, "AP")


def test_law_only_a_significant_gain_ships_the_run_with_the_footage(tmp_path):
    better, worse = lambda _: 2, lambda image: 1 + image % 2
    cases = {
        "helped: AP 0.752 without it, 1.000 with it (+0.248, 95 %": (10, better, worse, "run"),
        "did not help, it did harm: AP 1.000 without it, 0.752 with it (-0.248": (10, worse, better, "run_without"),
        "did not help: AP 1.000 without it, 1.000 with it, no statistic": (10, better, better, "run_without"),
        "is not shown to help: AP 0.752 without it, 1.000 with it (+0.248), and 5 drives": (
            5,
            better,
            worse,
            "run_without",
        ),
    }
    for verdict, (n_drives, ours, theirs, use) in cases.items():
        document = gain_of(tmp_path, n_drives, ours, theirs)
        assert document["verdict"].startswith(f"the footage {verdict}"), document["verdict"]
        assert document["use"] == str(tmp_path / use / "checkpoints" / "best")
        assert document["reason"] == f"trained with{'out' if use == 'run_without' else ''} the footage"


def test_a_gain_in_one_drive_alone_does_not_ship(tmp_path):
    document = gain_of(tmp_path, 10, lambda image: 2 if image <= 4 else 1, lambda _: 1)
    assert document["delta"]["point"] > 0 and document["use"].endswith("run_without/checkpoints/best")
    assert "no statistically significant difference" in document["verdict"]


def test_a_start_that_was_kept_and_data_without_objects_are_said(tmp_path):
    kept = gain_of(tmp_path, 10, lambda _: 1, lambda _: 1, best_epoch=0)
    assert kept["reason"].endswith("no epoch of it beats the start, whose weights these are")
    val = world(10)
    for image in val.images:
        image.annotations = []
    empty = gain(tmp_path / "run", val, "AP")
    assert "cannot be evaluated" in empty["verdict"] and empty["use"].endswith("run_without/checkpoints/best")
