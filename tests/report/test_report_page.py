"""The report's files: complete, self-contained, escaped, readable without script."""

import csv
import json
import re
from html.parser import HTMLParser

import pytest

from drivetl.console.text import markdown
from drivetl.errors import DataError
from drivetl.report import charts, diagnosis, texts
from drivetl.report.document import read_results
from drivetl.report.html import build_report, learning_curves_section
from drivetl.robustness.held_out import MEANING

VOID = {"meta", "link", "img", "br", "hr", "input", "line", "circle", "polygon", "polyline"}


class Page(HTMLParser):
    """Ids, links, sources, and whether tags are balanced."""

    def __init__(self, text):
        super().__init__()
        self.ids, self.links, self.sources, self.open, self.scripts = [], [], [], [], 0
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        known = dict(attrs)
        self.scripts += tag == "script" or any(name.startswith("on") for name in known)
        if "id" in known:
            self.ids.append(known["id"])
        for name in ("src", "href"):
            if name in known:
                (self.links if name == "href" else self.sources).append(known[name])
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        if tag not in VOID:
            assert self.open.pop() == tag


@pytest.fixture(scope="module")
def page(report_folder):
    return (report_folder / "report.html").read_text("utf-8")


def test_every_file_is_written(report_folder):
    files = {"results.json", "cells.csv", "summary.md", "report.html", "pictures"}
    assert {path.name for path in report_folder.iterdir()} == files


def test_the_page_is_complete_and_loads_nothing(page):
    seen = Page(page)
    assert seen.open == [] and seen.scripts == 0
    assert all(link.startswith(("#", "data:")) for link in seen.links)
    assert seen.sources and all(source.startswith("data:image/jpeg;base64,") for source in seen.sources)
    assert {link[1:] for link in seen.links if link.startswith("#")} <= set(seen.ids)
    assert not re.search(r"url\(|@import|https?://", page)


def test_sections_are_in_order(page):
    order = "heatmap curves forest slices classes road diagnosis gallery worst heldout provenance"
    expected = order.split()
    assert [name for name in Page(page).ids if name in expected] == expected


def test_names_from_outside_are_escaped(report_folder):
    results = read_results(report_folder)
    results["run"]["name"] = "<img src=x onerror=alert(1)>"
    results["conditions"][0]["why"] = "<script>alert(1)</script>"
    page = build_report(results, image_folder=report_folder / "pictures")
    assert "<script>" not in page and "<img src=x" not in page and "&lt;script&gt;" in page


def test_names_from_outside_are_literal_in_the_summary(report_folder):
    results = read_results(report_folder)
    plain = texts.summary_md(results)
    assert plain == (report_folder / "summary.md").read_text()
    for name in ("<img src=x onerror=alert(1)>", "a | b", "[x](http://y)", "**x**", "x\x1b[31m\ny"):
        results["run"]["name"] = name
        summary = texts.summary_md(results)
        assert name not in summary.replace(markdown(name), "") and markdown(name) in summary
        assert len(summary.splitlines()) == len(plain.splitlines())


def test_every_number_of_the_heat_map_is_in_the_page(report_folder, page):
    results = read_results(report_folder)
    for cell in results["cells"]:
        assert f"<b>{texts.percent(cell['value']['point'])}</b>" in page


def test_levels_are_marked(report_folder, page):
    levels = {row["name"]: row["level"] for row in read_results(report_folder)["conditions"]}
    assert levels["fog"] == "L0" and levels["night"] == "L3"
    assert '<span class="chip L0">seen</span>' in page and '<span class="chip L3">L3</span>' in page
    assert "moves content" in page


def test_results_json_has_null_and_no_nan(report_folder):
    text = (report_folder / "results.json").read_text()
    assert "NaN" not in text and "Infinity" not in text
    assert json.loads(text)["schema"] == "drivetl.robustness/1"


def test_cells_csv_equals_results_json(report_folder):
    results = read_results(report_folder)
    rows = list(csv.DictReader((report_folder / "cells.csv").read_text().splitlines()))
    assert len(rows) == 1 + len(results["cells"])
    for row, cell in zip(rows, [results["clean"], *results["cells"]], strict=True):
        assert row["condition"] == cell["condition"] and int(row["severity"]) == cell["severity"]
        assert (float(row["value"]) if row["value"] else None) == cell["value"]["point"]


def test_the_tables_of_the_summary_are_valid_markdown(report_folder):
    lines = (report_folder / "summary.md").read_text().splitlines()
    for header in (number for number, line in enumerate(lines) if line.startswith("|---")):
        assert lines[header].count("|") == lines[header - 1].count("|") == lines[header + 1].count("|")
    assert any("night" in line and "L3" in line for line in lines)


def test_a_missing_number_is_a_dash_not_a_zero(report_folder):
    results = read_results(report_folder)
    for cell in results["cells"]:
        if cell["condition"] == "night":
            cell["value"] = {"point": None, "low": None, "high": None, "se": None}
    shown = {row["row"]["name"]: row for _, rows in charts.heat_groups(results) for row in rows}
    assert shown["night"]["cells"][0]["tone"] == "none"
    page = build_report(results)
    assert "nan" not in re.sub(r"[a-z]*nan[a-z]+|[a-z]+nan", "", page.split("</style>")[1].lower())


def test_an_unverified_run_is_marked(report_folder):
    results = read_results(report_folder)
    assert "over the held-out cells" in build_report(results)
    results["protocol"]["verified"] = False
    page = build_report(results)
    assert "UNVERIFIED" in page.split("<nav")[0] and "over the unverified cells" in page
    assert "held-out cells" not in page and "<th>held out</th>" not in page, "nothing is claimed"


def test_a_baseline_that_is_better_stays_inside_the_plot(report_folder):
    results = read_results(report_folder)
    for cell in results["cells"]:
        cell["value"] = dict.fromkeys(cell["value"], 0.01)
        cell["baseline"] = dict.fromkeys(cell["baseline"], 0.9)
    results["clean"]["value"] = dict.fromkeys(results["clean"]["value"], 0.02)
    plots = "".join(str(row["plot"]) for row in charts.condition_curves(results))
    heights = [
        float(y) for points in re.findall(r'points="([^"]+)"', plots) for y in re.findall(r",(-?[\d.]+)", points)
    ]
    assert heights and min(heights) >= 0


def test_a_class_that_the_detector_does_not_know_has_no_row_at_the_operating_point(report_folder):
    results = read_results(report_folder)
    name = next(iter(results["diagnosis"][0]["operating"]))
    row = {"class": name, "objects": 3, "unknown_to": ["x"], "why": "", "may_be_found_as": []}
    before = [item["name"] for item in diagnosis.diagnosis_rows(results)["classes"]]
    results["class_match"] = {"run": None, "baseline": None, "unknown": [row]}
    assert [item["name"] for item in diagnosis.diagnosis_rows(results)["classes"]] == before[1:] != before


def test_the_verdict_when_nothing_was_held_out(report_folder):
    results = read_results(report_folder)
    results["headline"] |= {"conditions": [], "delta": None}
    assert "None of the 5 conditions measured was held out" in texts.verdict(results)[0]
    assert '<table class="heat">' in build_report(results)


@pytest.mark.parametrize(("clean", "words"), [(0.0, "finds nothing"), (None, "could not be measured")])
def test_the_verdict_without_a_clean_value(report_folder, clean, words):
    results = read_results(report_folder)
    results["clean"]["value"] = {"point": clean, "low": clean, "high": clean, "se": clean}
    assert words in texts.verdict(results)[0] and "keeps" not in texts.verdict(results)[0]
    build_report(results)
    texts.summary_md(results)


def test_extra_sections_come_first(report_folder):
    extra = learning_curves_section({"transfer": [(0, 0.1), (480, 0.6)], "scratch": [(0, None), (480, 0.4)]})
    page = build_report(read_results(report_folder), extra_sections=[extra], title="demo")
    ids = Page(page).ids
    assert ids.index("learning") < ids.index("heatmap") and "<title>demo</title>" in page
    assert "60.0" in extra.body and "transfer" in extra.body
    assert Page(str(learning_curves_section({"only": []}).body)).open == []


def test_another_schema_is_refused(tmp_path):
    (tmp_path / "results.json").write_text('{"schema": "drivetl.robustness/0"}')
    with pytest.raises(DataError, match=r"its schema is 'drivetl\.robustness/0'"):
        read_results(tmp_path)


def test_a_missing_image_is_named(report_folder, tmp_path):
    with pytest.raises(DataError, match=r"\.jpg: image of the report is missing"):
        build_report(read_results(report_folder), image_folder=tmp_path)


def test_the_worst_images_are_not_those_of_the_gallery(report_folder):
    gallery = read_results(report_folder)["gallery"]
    shown = [[(row["image_id"], row["condition"], row["severity"]) for row in gallery[kind]] for kind in gallery]
    assert all(shown) and len({row for rows in shown for row in rows}) == sum(map(len, shown))


def test_levels_are_explained_above_the_first_pill(report_folder):
    page = (report_folder / "report.html").read_text("utf-8")
    table = page[page.index('id="heatmap"') : page.index('<table class="heat">')]
    present = {row["level"] for row in read_results(report_folder)["conditions"]}
    assert present == {level for level, text in MEANING.items() if text in table}


def test_the_gallery_counts_what_it_shows(report_folder):
    results = read_results(report_folder)
    for row in results["gallery"]["conditions"]:
        assert row["found"] + row["lost"] + row["missed"] <= 4
        assert all((report_folder / "pictures" / name).stat().st_size > 1000 for name in row["files"].values())
    assert {row["severity"] for row in results["gallery"]["conditions"]} == {3}


def test_errors_and_calibration_are_shown_for_both_cells(report_folder, page):
    results = read_results(report_folder)
    clean, worst = results["diagnosis"]
    name = f"{texts.plain_name(worst['condition'])}, severity {worst['severity']}"
    assert page.count(name) > 3 and clean["condition"] == "clean"
    for cell in (clean, worst):
        assert f"D-ECE {texts.percent(cell['calibration']['d_ece'])}" in page
    shown = page.split('<section id="diagnosis">')[1].split("</section>")[0]
    assert f"<b>{texts.percent(worst['tide']['delta_ap']['Miss'])}</b>" in shown
    assert 'id="kitti"' not in page
    rows = [
        {"class": "car", "difficulty": level, "clean": 0.5, "held_out": 0.25, "cells": {}}
        for level in ("easy", "moderate", "hard")
    ]
    with_kitti = build_report(results | {"kitti": rows})
    assert with_kitti.count("50.0 <small>/ 25.0</small>") == 3
    assert "| car | hard | 50.0 | 25.0 |" in texts.summary_md(results | {"kitti": rows})
