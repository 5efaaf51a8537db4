"""Every command that is printed after `next:` runs as printed; export takes its size from the run's data."""

import argparse
import json
import shlex
import shutil
import subprocess
from collections import Counter
from pathlib import Path

import pytest
import yaml
from kitti_trees import three_frames
from planted import planted_dataset
from robust_run import write_run
from training_runs import tiny_training, write_tree

from drivetl.cli import main
from drivetl.commands import COMMANDS
from drivetl.commands.export import add_arguments, choose_size
from drivetl.config import dump_yaml
from drivetl.errors import ConfigError
from drivetl.models.checkpoint import load_detector

CASES = {
    "sample": "--frames-a 2 --frames-b 1 --scale 0.2 --processes 1 --out {out}",
    "convert-kitti": "--root {kitti} --out {out}",
    "convert-footage": "--format coco --root {folder} --out {out}",
    "select": "{data} --run {run} --count 3 --workers 0 --device cpu --out {out}",
    "labels": "{data} --format yolo --out {out}",
    "split": "{data} --out {out}",
    "merge": "{data} {val} --out {out}",
    "audit": "{data} --out {out}",
    "doubt": "{val} --run {run} --workers 0 --device cpu --out {out}",
    "view": "{data} --images 2 --out {out}",
    "anchors": "{data} --config {config} --out {out}",
    "finetune": "--config {config} --out {out}",
    "budget": "--config {config} --budgets 4 --seeds 0 --regimes scratch --steps 2 --out {out}",
    "predict": "--run {run} --data {val} --score 0.3 --workers 0 --device cpu --out {out}",
    "evaluate": "--gt {val} --predictions {results}",
    "eval-robustness": "--run {run} --data {val} --conditions fog --severities 1 --workers 0 --device cpu --out {out}",
    "compare": "{run} {run}",
    "conditions": "--names fog --severities 1 {image} --out {out}.png",
    "export": "--run {run} --height 64 --width 96 --out {out}.onnx",
    "info": "{data}",
    "completion": "bash",
    "demo": "--out {out}",
}
WITHOUT_NUMBERS = {"completion", "demo"}
END_HERE = {"evaluate", "eval-robustness", "compare", "export", "info", "completion", "demo"}
"""They print no next command: what they wrote is the end of the work."""


@pytest.fixture(scope="module")
def names(source, tmp_path_factory):
    """Field -> path, in folders whose names have a space."""
    root = tmp_path_factory.mktemp("all") / "two words"
    train, val = write_tree(root / "train"), write_tree(root / "val", n_images=2, first_drive=10, seed=1)
    three_frames(root / "kitti")
    (root / "tiny.yaml").write_text(dump_yaml(tiny_training(train, val)))
    (root / "results.json").write_text("[]")
    shutil.copytree(source[1], root / "run")
    shutil.copytree(train.parent, root / "footage")
    return {
        "data": train,
        "val": val,
        "kitti": root / "kitti",
        "folder": root / "footage",
        "image": train.parent / "000001.png",
        "config": root / "tiny.yaml",
        "results": root / "results.json",
        "run": root / "run",
    }


@pytest.fixture(scope="module")
def seen():
    """The flags of the slow commands that ran: the same ones need not run again after another command."""
    return {"eval-robustness": set(), "finetune": set()}


def is_repeated(words, seen):
    if words[0] not in seen:
        return False
    flags = " ".join(word for word in words if word.startswith("--"))
    repeated = flags in seen[words[0]]
    seen[words[0]].add(flags)
    return repeated


def run(words, capsys):
    """The commands after `next:` of one command, as words; its --json line says the same."""
    assert main([*words, "--json"]) == 0, capsys.readouterr().err
    *printed, line = capsys.readouterr().out.splitlines()
    lines = [line for line in printed if line.startswith("next:")]
    document = json.loads(line)
    assert document["next"] == [line.removeprefix("next:  ") for line in lines]
    assert (document["command"], document["exit_code"], document["error"]) == (words[0], 0, None)
    assert document["numbers"] or words[0] in WITHOUT_NUMBERS
    assert words[0] == "demo" or all(Path(path).exists() for path in document["wrote"])
    return [shlex.split(line.removeprefix("next:")) for line in lines]


def test_law_every_command_has_a_case():
    assert list(CASES) == list(COMMANDS)


@pytest.mark.parametrize("command", CASES)
def test_law_every_next_command_runs_as_printed(command, names, seen, tmp_path, capsys, monkeypatch):
    if command == "export":
        pytest.importorskip("onnxruntime")
    if command == "completion":
        pytest.importorskip("argcomplete")
    if command == "demo":  # its steps are other commands
        monkeypatch.setattr("drivetl.commands.demo.plan", lambda out, seed: [])
        monkeypatch.setattr("drivetl.commands.demo_report.write_demo_report", lambda out: out / "report.html")
    monkeypatch.chdir(tmp_path)
    words = [word.format(**names, out=tmp_path / "new folder" / "out") for word in CASES[command].split()]
    found = run([command, *words], capsys)
    assert bool(found) != (command in END_HERE)
    ran = Counter()
    while found:
        program, *words = found.pop()
        ran[program if program != "drivetl" else words[0]] += 1
        if program == "drivetl":
            if ran[words[0]] <= 2 and not is_repeated(words, seen):  # audit and view name each other
                found += run(words, capsys)
        else:
            subprocess.run([program, *words], check=True)
            assert program != "ln" or (tmp_path / words[-1]).is_dir()


def test_audit_names_no_next_command_for_a_dataset_that_cannot_be_drawn(names, tmp_path, capsys):
    data = write_tree(tmp_path / "data")
    (tmp_path / "data" / "000004.png").unlink()
    assert run(["audit", str(data)], capsys) == []


def test_law_predict_leads_to_the_evaluation_of_every_detection(tmp_path, capsys):
    data = planted_dataset(tmp_path / "planted", n_images=2, n_drives=2)
    words = ["predict", "--run", str(write_run(tmp_path / "a run")), "--data", str(data), "--workers", "0"]
    (again,) = run([*words, "--out", str(tmp_path / "out"), "--device", "cpu", "--score", "0.3"], capsys)
    assert again[1] == "predict" and again[again.index("--score") + 1] == "0"
    (evaluate,) = run(again[1:], capsys)
    assert evaluate[1] == "evaluate" and evaluate[-1] == str(tmp_path / "out_all" / "results.json")


def test_law_export_takes_the_size_of_the_run_data_and_any_where_it_differs(tmp_path, capsys):
    data = planted_dataset(tmp_path / "planted", n_images=3, n_drives=3)
    document = json.loads(data.read_text())
    size_hw = document["images"][0]["height"], document["images"][0]["width"]
    run = write_run(tmp_path / "run")
    detector = load_detector(run, device="cpu")

    def chosen(*flags):
        parser = argparse.ArgumentParser()
        add_arguments(parser)
        return choose_size(parser.parse_args(["--run", str(run), "--out", "m.onnx", *flags]), detector)

    with pytest.raises(ConfigError, match="size of the run's images is unknown") as caught:
        chosen()
    assert "--height and --width, or use --any-size" in caught.value.remedy
    assert chosen("--any-size")[2] and chosen("--height", "50", "--width", "70") == (50, 70, False)
    (run / "config.yaml").write_text(yaml.safe_dump({"data": {"val": str(data)}}))
    assert chosen() == (*size_hw, True) and "have 2 sizes" in capsys.readouterr().out
    assert chosen("--height", "64") == (64, size_hw[1], False) and chosen("--width", "0") == (size_hw[0], 0, False)
    document["images"].pop()
    document["annotations"] = [item for item in document["annotations"] if item["image_id"] != 3]
    data.write_text(json.dumps(document))
    capsys.readouterr()
    assert chosen() == (*size_hw, False) and f"{size_hw[1]} x {size_hw[0]} px" in capsys.readouterr().out
