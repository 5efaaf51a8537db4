"""Laws that hold for every command: the common flags, the --json line, and mistakes told with what was meant."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from planted import planted_dataset

from drivetl.cli import main
from drivetl.commands import COMMANDS, build_parser
from drivetl.config import load_config


def exit_code(words):
    """Of main, also where argparse ends it."""
    try:
        return main(list(map(str, words)))
    except SystemExit as stop:
        return stop.code


def commands():
    """Name -> parser of every command."""
    (action,) = (action for action in build_parser()._actions if action.dest == "command")
    return action.choices


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return planted_dataset(tmp_path_factory.mktemp("data"), n_images=2, n_drives=2)


def test_without_a_command_the_help_is_shown(capsys):
    assert main([]) == 0
    shown = capsys.readouterr().out
    assert all(name in shown for name in COMMANDS)


def test_law_every_command_takes_quiet_and_json():
    for name, parser in commands().items():
        assert {"--quiet", "--json"} <= set(parser.flags()), name


def test_law_no_flag_has_two_shown_names():
    for name, parser in commands().items():
        for action in parser._actions:
            assert len([flag for flag in action.option_strings if flag.startswith("--")]) <= 1, (name, action)


def test_quiet_prints_nothing_and_json_ends_stdout_with_one_line(data, tmp_path, capsys):
    out = tmp_path / "labels"
    assert main(["labels", str(data), "--format", "yolo", "--out", str(out), "--quiet"]) == 0
    assert capsys.readouterr().out == ""
    assert main(["view", str(data), "--out", str(tmp_path / "v.png"), "--json"]) == 0
    *human, line = capsys.readouterr().out.splitlines()
    document = json.loads(line)
    assert document["command"] == "view" and document["exit_code"] == 0 and document["error"] is None
    assert document["wrote"] == [str(tmp_path / "v.png")]
    assert [f"next:  {command}" for command in document["next"]] == [row for row in human if row.startswith("next:")]
    assert main(["view", str(data), "--out", str(tmp_path / "w.png"), "--json", "--quiet"]) == 0
    (line,) = capsys.readouterr().out.splitlines()
    assert json.loads(line)["wrote"] == [str(tmp_path / "w.png")]


@pytest.mark.parametrize(
    ("words", "code"),
    [(["info", "no.json", "--json"], 2), (["info", "--json", "--nonsense"], 2), (["ifno", "--json"], 2)],
)
def test_a_mistake_is_in_the_json_line(words, code, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert exit_code(words) == code
    shown = capsys.readouterr()
    (line,) = shown.out.splitlines()
    document = json.loads(line)
    assert document["exit_code"] == code and shown.err == f"error: {document['error']}\n"


def test_numbers_that_json_lacks_are_null(capsys):
    import numpy as np

    from drivetl import console

    with console.recording() as record:
        console.numbers(ap=float("nan"), ap50=np.float32(0.5), images=np.int64(3), per_class={"car": np.nan})
        console.json_line(record, "x", 0)
    numbers = json.loads(capsys.readouterr().out)["numbers"]
    assert numbers == {"ap": None, "ap50": 0.5, "images": 3, "per_class": {"car": None}}


@pytest.mark.parametrize(
    ("words", "meant"),
    [
        (["evalute"], "unknown command 'evalute' - did you mean 'evaluate'?"),
        (["info", "x", "--jsn"], "unknown flag --jsn - did you mean '--json'?"),
        (
            ["labels", "{data}", "--fromat", "yolo", "--format", "yolo", "--out", "o"],
            "--fromat - did you mean '--format'?",
        ),
        (["labels", "{data}", "--format", "yolov", "--out", "o"], "--format is 'yolov' - did you mean 'yolo'?"),
        (["finetune", "--config", "{config}", "--reume"], "unknown flag --reume - did you mean '--resume'?"),
        (["finetune", "--config", "{config}", "--optim.lrr", "1"], "did you mean 'optim.lr'?"),
        (["finetune", "--config", "tiy.yaml"], "tiy.yaml: cannot be read (No such file or directory) - did you mean"),
        (["finetune", "--config", "{config}", "--optim.lr", "abc"], "optim.lr is 'abc', it must be a number above 0"),
        (
            ["view", "{data}", "--out", "v.png", "--tile-width", "abc"],
            "--tile-width is 'abc', it must be a whole number",
        ),
        (["view", "{data}", "--out", "v.png", "--score", "abc"], "--score is 'abc', it must be a number"),
        (["info", "{data}n"], "did you mean '{data}'?"),
        (["view", "{data}", "--out", "{data}"], "exists already and is never overwritten - name another"),
        (["evaluate", "--gt", "{data}"], "evaluate: missing: --predictions"),
    ],
)
def test_a_mistake_names_what_was_meant(words, meant, data, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    Path("tiny.yaml").write_text("data: {train: a.json, val: b.json}\n")
    assert exit_code(word.format(data=data, config="tiny.yaml") for word in words) == 2
    shown = capsys.readouterr()
    assert not shown.out and len(shown.err.splitlines()) == 1
    assert shown.err.startswith("error: ") and meant.format(data=data) in shown.err
    assert [path.name for path in tmp_path.iterdir()] == ["tiny.yaml"]


def test_a_missing_config_may_be_one_of_ours(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert exit_code(["finetune", "--config", "tiny.yaml"]) == 2
    assert "configs/finetune/tiny.yaml'?" in capsys.readouterr().err


HOSTILE = "\x1b]0;title\x07\u202e\x1b[31m"


@pytest.mark.parametrize(
    "words", [[HOSTILE], ["info", HOSTILE, HOSTILE], ["info", "x", f"--{HOSTILE}"], ["info", HOSTILE]]
)
def test_foreign_text_in_a_mistake_is_made_safe(words, capsys):
    assert exit_code(words) == 2
    shown = capsys.readouterr().err
    assert "\\x1b]0;title\\x07" in shown
    assert not {letter for letter in shown if letter < " " or letter == "\u202e"} - {"\n"}


def test_print_config_is_the_effective_config_and_trains_nothing(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    Path("c.yaml").write_text("data: {train: a.json, val: b.json}\noptim: {epochs: 3}\n")
    assert main(["finetune", "--config", "c.yaml", "--optim.lr", "0.001", "--print-config"]) == 0
    printed = capsys.readouterr().out
    Path("effective.yaml").write_text(printed)
    config = load_config(Path("effective.yaml"))
    assert (config.optim.epochs, config.optim.lr, config.data.val) == (3, 0.001, "b.json")
    assert main(["finetune", "--config", "effective.yaml", "--print-config", "--quiet"]) == 0
    assert capsys.readouterr().out == printed
    assert sorted(path.name for path in tmp_path.iterdir()) == ["c.yaml", "effective.yaml"]


OLD_NAMES = {
    "view": {"--images": "--count", "--min-score": "--score"},
    "conditions": {"--images": "--count", "--names": "--conditions"},
    "budget": {"--budgets": "--label-counts"},
}


@pytest.mark.parametrize("command", OLD_NAMES)
def test_old_names_mean_the_same_and_are_hidden(command):
    parser = commands()[command]
    by_name = {name: action for action in parser._actions for name in action.option_strings}
    for old, new in OLD_NAMES[command].items():
        assert by_name[old].dest == by_name[new].dest and by_name[old].type in (by_name[new].type, str), old
        assert old not in parser.format_help() and new in parser.format_help()


def test_the_old_name_of_a_flag_keeps_working(tmp_path, capsys):
    assert main(["conditions", "--list", "--conditions", "fog"]) == 0
    shown = capsys.readouterr().out
    assert main(["conditions", "--list", "--names", "fog"]) == 0
    assert capsys.readouterr().out == shown and "fog" in shown


def test_python_m_drivetl_is_the_command():
    done = subprocess.run([sys.executable, "-m", "drivetl", "--version"], capture_output=True, text=True, check=True)
    assert done.stdout.startswith("drivetl ")


def test_a_reader_that_stops_reading_is_no_traceback():
    command = f"{sys.executable} -m drivetl conditions --list | head -1"
    done = subprocess.run(
        ["bash", "-c", f"{command}; exit ${{PIPESTATUS[0]}}"], capture_output=True, text=True, check=False
    )
    assert "Traceback" not in done.stderr and done.returncode in (0, 141)
