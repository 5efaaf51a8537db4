"""Laws of the command line: every command has help, errors are one line and exit 2, converting needs no torch."""

import subprocess
import sys
from pathlib import Path

import pytest

from drivetl.cli import main
from drivetl.commands import COMMANDS

ROOT = Path(__file__).parents[1]


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_help(name, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    with pytest.raises(SystemExit) as stop:
        main([name, "--help"])
    assert stop.value.code == 0
    shown = capsys.readouterr().out
    assert max(map(len, shown.splitlines())) <= 80
    assert f"drivetl {name}" in shown and COMMANDS[name] in " ".join(shown.split())


@pytest.mark.parametrize("tool", ["convert_kitti", "convert_footage", "finetune", "eval_robustness"])
def test_every_tool_is_the_command_of_its_name(tool):
    text = (ROOT / "tools" / f"{tool}.py").read_text()
    assert f'main(["{tool.replace("_", "-")}", *sys.argv[1:]])' in text
    assert len(text.splitlines()) <= 40


@pytest.mark.parametrize(
    "argv", [["finetune", "--config", "nowhere.yaml"], ["convert-kitti", "--root", "nowhere", "--out", "o"]]
)
def test_a_mistake_is_one_line_and_exit_code_2(argv, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(argv) == 2
    captured = capsys.readouterr()
    assert captured.err.startswith("error: ") and "nowhere" in captured.err and " - " in captured.err
    assert "Traceback" not in captured.err
    assert not list(tmp_path.iterdir())


def test_an_unknown_flag_is_refused():
    with pytest.raises(SystemExit) as stop:
        main(["info", "--nonsense"])
    assert stop.value.code == 2


@pytest.mark.parametrize(
    "argv", [["info", "x", "\x1b[31m"], ["\x1b[31m"], ["view", "a", "--out", "b", "--seed", "\x1b["]]
)
def test_law_the_command_line_is_repeated_without_control_characters(argv, capsys):
    with pytest.raises(SystemExit):
        main(argv)
    error = capsys.readouterr().err
    assert "\x1b" not in error and "\\x1b[" in error and error.count("\n") == 1


@pytest.mark.parametrize("name", ["audit", "compare", "evaluate", "eval-robustness", "sample", "view"])
@pytest.mark.parametrize("text", ["-1", "1.5", str(2**63)])
def test_a_seed_out_of_range_is_refused(name, text, capsys):
    with pytest.raises(SystemExit) as stop:
        main([name, "--seed", text])
    assert stop.value.code == 2
    assert f"{text} is not a whole number from 0 to below 2^63" in capsys.readouterr().err


def test_converting_never_loads_torch():
    code = (
        "import sys; from drivetl.cli import main\n"
        "try: main(['convert-kitti', '--help'])\n"
        "except SystemExit: pass\n"
        "sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, check=False).returncode == 0
