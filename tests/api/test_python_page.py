"""docs/python.md runs as it stands, on a tiny run and a tiny dataset."""

import re

from howto import REPOSITORY
from robust_run import write_run
from training_runs import write_tree

PAGE = REPOSITORY / "docs" / "python.md"


def test_the_page_runs_from_top_to_bottom(tmp_path, monkeypatch, capsys):
    write_run(tmp_path / "runs" / "city")
    write_tree(tmp_path / "data", n_images=4)
    monkeypatch.chdir(tmp_path)
    blocks = re.findall(r"^```python\n(.*?)^```$", PAGE.read_text("utf-8"), re.MULTILINE | re.DOTALL)
    names = {"__name__": "page"}
    for block in blocks:
        exec(compile(block, str(PAGE), "exec"), names)
    printed = capsys.readouterr().out
    assert len(blocks) >= 6 and "objects in fog" in printed and "torch.Size([3, " in printed
    assert (tmp_path / "found.png").is_file() and (tmp_path / "report" / "report.html").is_file()
    assert "of Mine, clean" in printed
