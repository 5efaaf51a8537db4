"""The forgetting ledger in the report: gone is a word, never a number; names are escaped."""

import json

import pytest

from drivetl.errors import DataError
from drivetl.report.document import read_results
from drivetl.report.forgetting import forgetting_sections, read_forgetting
from drivetl.report.html import build_report


def interval(point, low=None, high=None):
    return {"point": point, "low": low, "high": high}


LEDGER = {
    "metric": "AP",
    "data": "old/val.json",
    "images": 1200,
    "drives": 3,
    "draws": 1000,
    "warning": "too few drives: 3",
    "left_out": ["boat"],
    "classes": [
        {
            "name": "<b>car",
            "n": 4321,
            "counterpart": ["car", "van"],
            "before": interval(0.5, 0.4, 0.6),
            "after": interval(0.45, 0.35, 0.55),
            "delta": interval(-0.05, -0.07, -0.03),
        },
        {
            "name": "truck",
            "n": 7,
            "counterpart": [],
            "before": interval(0.3, 0.2, 0.4),
            "after": interval(None),
            "delta": interval(None),
        },
    ],
    "mean": {
        "before": interval(0.5, 0.4, 0.6),
        "after": interval(0.45, 0.35, 0.55),
        "delta": interval(-0.05, -0.07, -0.03),
    },
}


def test_the_section_is_in_the_page_and_says_gone(report_folder):
    results = read_results(report_folder) | {"forgetting": LEDGER}
    page = build_report(results, extra_sections=forgetting_sections(results))
    part = page.split('<section id="forgetting">')[1].split("</section>")[0]
    for text in ("&lt;b&gt;car", "car, van", "4,321", "50.0 (40.0–60.0)", "−5.0", "−7.0 to −3.0", "boat", "Too few"):
        assert text in part, text
    truck = part.split('<th scope="row">truck</th>')[1].split("</tr>")[0]
    assert truck.count("gone") == 2 and "0.0" not in truck.replace("30.0", "").replace("20.0", "").replace("40.0", "")


def test_a_run_without_a_ledger_has_no_section(report_folder, tmp_path):
    results = read_results(report_folder)
    assert results["forgetting"] is None and forgetting_sections(results) == []
    assert read_forgetting(None) is None and read_forgetting(tmp_path) is None


def test_a_ledger_is_read_and_another_file_is_refused(tmp_path):
    (tmp_path / "forgetting.json").write_text(json.dumps(LEDGER))
    assert read_forgetting(tmp_path) == LEDGER
    (tmp_path / "forgetting.json").write_text("[]")
    with pytest.raises(DataError, match=r"forgetting\.json: is not a forgetting ledger"):
        read_forgetting(tmp_path)
