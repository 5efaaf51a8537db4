"""The documents: their tables are the CSV files' numbers."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "results.md"


@pytest.fixture
def tools(monkeypatch: pytest.MonkeyPatch) -> None:
    """Modules of tools/ can be imported."""
    monkeypatch.setattr(sys, "path", [str(ROOT / "tools"), *sys.path])


def test_the_short_tables_are_extracts_of_the_csv_files(tools: None) -> None:
    import results

    page = PAGE.read_text("utf-8")
    assert results.with_tables(page) == page, "run python tools/results.py"
    names = [row["name"] for row in results.load("index")]
    assert names == sorted(results.SHORT) == sorted({match[2] for match in results.BLOCK.finditer(page)})
    assert names == sorted(path.stem for path in results.FOLDER.glob("*.csv") if path != results.INDEX)
    for name in names:
        assert 3 <= len(results.markdown(results.SHORT[name], results.load(name)).splitlines()) <= 8  # six rows


def test_an_interval_takes_three_columns_of_a_csv(tools: None) -> None:
    import results

    text = results.csv_text([{"line": "a", "AP": "9.6 [7.6, 15.5]"}, {"line": "b, c", "AP": "-"}])
    assert text == 'line,AP,AP low,AP high\na,9.6,7.6,15.5\n"b, c",,,\n'
