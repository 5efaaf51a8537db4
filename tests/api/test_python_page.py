"""docs/python.md runs as it stands, on frames of the sample city and a run with its classes."""

import re
from dataclasses import replace

import torch
from howto import REPOSITORY
from robust_run import SPEC

import drivetl
from drivetl.cli import main
from drivetl.models.build import build_model
from drivetl.models.checkpoint import save_model
from drivetl.models.weights import portable_state

PAGE = REPOSITORY / "docs" / "python.md"


def write_city(folder):
    """The dataset and a run with its classes, where the page expects them."""
    words = ["sample", "--town", "a", "--frames-a", "5", "--scale", "0.15", "--processes", "1"]
    assert main([*words, "--out", str(folder / "city")]) == 0
    assert main(["convert-kitti", "--root", str(folder / "city" / "town_a"), "--out", str(folder / "out")]) == 0
    torch.manual_seed(0)
    spec = replace(SPEC, categories=drivetl.read_dataset(folder / "out" / "val.json").categories)
    save_model(folder / "runs" / "city" / "checkpoints" / "best", portable_state(build_model(spec)), spec, {})


def test_the_page_runs_from_top_to_bottom(tmp_path, monkeypatch, capsys):
    write_city(tmp_path)
    monkeypatch.chdir(tmp_path)
    blocks = re.findall(r"^```python\n(.*?)^```$", PAGE.read_text("utf-8"), re.MULTILINE | re.DOTALL)
    names = {"__name__": "page"}
    for block in blocks:
        exec(compile(block, str(PAGE), "exec"), names)
    printed = capsys.readouterr().out
    assert len(blocks) >= 6 and "objects in fog" in printed and "torch.Size([3, " in printed
    assert (tmp_path / "found.png").is_file() and (tmp_path / "report" / "report.html").is_file()
    assert "of Mine, clean" in printed
