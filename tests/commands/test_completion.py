"""A shell that asks gets the commands, flags and values that come next."""

import os
import subprocess
import sys

import pytest

from drivetl.cli import main

pytest.importorskip("argcomplete", reason="argcomplete is not installed: run make setup")


def completions(line, folder):
    """What the script of a shell gets for a command line that ends at the cursor."""
    answer = folder / "answer"
    request = {"_ARGCOMPLETE": "1", "_ARGCOMPLETE_IFS": "\n", "_ARGCOMPLETE_SHELL": "bash", "COMP_TYPE": "9"}
    request |= {"COMP_LINE": line, "COMP_POINT": str(len(line)), "_ARGCOMPLETE_STDOUT_FILENAME": str(answer)}
    subprocess.run([sys.executable, "-m", "drivetl"], env=os.environ | request, cwd=folder, check=True)
    return set(answer.read_text().split())


@pytest.mark.parametrize(
    ("line", "among", "not_among"),
    [
        ("drivetl ev", {"evaluate", "eval-robustness"}, {"export"}),
        ("drivetl convert-footage --format c", {"cvat", "cityscapes", "coco"}, {"yolo"}),
        ("drivetl conditions --", {"--conditions", "--quiet", "--json"}, {"--names"}),
        ("drivetl info da", {"data.json"}, {"other"}),
    ],
)
def test_what_comes_next_is_offered(line, among, not_among, tmp_path):
    (tmp_path / "data.json").touch()
    (tmp_path / "other").touch()
    offered = completions(line, tmp_path)
    assert among <= offered and not not_among & offered


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_the_script_registers_drivetl(shell, capsys):
    assert main(["completion", shell]) == 0
    script = capsys.readouterr().out
    assert "drivetl" in script and "_ARGCOMPLETE" in script
    if shell == "bash":
        subprocess.run(["bash", "-n"], input=script, text=True, check=True)
