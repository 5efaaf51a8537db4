"""Too few images or drives give numbers without intervals, p, detectable difference or headline."""

import json

import numpy as np
import pytest
from planted import PlantedDetector, read_planted

from drivetl.coco.drives import Drives
from drivetl.coco.io import read_dataset
from drivetl.commands.demo import plan
from drivetl.metrics.statistics import FEWEST_IMAGES, allows_intervals, minimum_detectable, smallest_p
from drivetl.report import texts
from drivetl.robustness import sweep as sweeping
from drivetl.robustness.budget import budget_text
from drivetl.robustness.report_document import report_document
from drivetl.robustness.run import at_most, images_needed, run_sweep


def interrupted(tmp_path, monkeypatch, seconds):
    """The document of a sweep that a budget ended, on a clock that advances 1 s each time it is read."""
    folder = tmp_path / "data"
    data = read_dataset(folder / "val.json") if folder.exists() else read_planted(folder, n_images=24, n_drives=6)
    clock = iter(np.arange(0, 1e6, 1.0))
    monkeypatch.setattr(sweeping.time, "perf_counter", lambda: float(next(clock)))
    other = PlantedDetector(contrast=140, weights_hash="worse")
    options = {"cache": tmp_path / "cells", "budget_s": seconds, "workers": 0, "batch_size": 1}
    swept = run_sweep(PlantedDetector(), data, ["night", "contrast"], [1, 3], baseline=other, **options)
    return report_document(swept, metric="AP50", n_draws=60)


def test_law_a_budget_of_few_images_gives_no_verdict(tmp_path, monkeypatch):
    document = interrupted(tmp_path, monkeypatch, 150.0)
    assert 0 < document["data"]["images"] < FEWEST_IMAGES and not document["data"]["sufficient"]
    assert document["headline"]["mpc"]["point"] is None and document["headline"]["rpc"]["point"] is None
    for row in [document["clean"], *document["cells"]]:
        assert row["value"]["point"] is not None and row["value"]["low"] is None and row["value"]["high"] is None
        assert row["images"] == document["data"]["images"]
    for row in document["conditions"]:
        assert row["delta"]["p"] is None and row["delta"]["mde"] is None and row["delta"]["low"] is None
    first, second = texts.verdict(document)
    assert "No verdict" in first and f"{document['data']['images']} of 24 images" in first
    assert f"--budget {budget_text(document['data']['budget_needed_s'])}" in second
    summary = texts.summary_md(document)
    assert "rPC" not in summary and "95 %" not in summary and texts.smallest_p(document) == ""
    json.dumps(document, allow_nan=False)


def test_the_budget_that_is_named_is_enough(tmp_path, monkeypatch):
    needed = interrupted(tmp_path, monkeypatch, 150.0)["data"]["budget_needed_s"]
    document = interrupted(tmp_path, monkeypatch, 1.5 * needed)
    assert document["data"]["sufficient"] and document["headline"]["mpc"]["low"] is not None


@pytest.mark.parametrize("budget_s", [100.0, 200.0])
def test_law_a_budget_is_kept(tmp_path, monkeypatch, budget_s):
    assert interrupted(tmp_path, monkeypatch, budget_s)["timing"]["wall_s"] <= budget_s + 2


@pytest.mark.parametrize("n_units", range(1, 12))
def test_law_nothing_is_detectable_where_no_p_reaches_five_percent(n_units):
    assert np.isnan(minimum_detectable(0.1, n_units)) == (smallest_p(n_units) >= 0.05)
    assert smallest_p(n_units) >= 0.125 or allows_intervals(Drives(tuple(f"d{i % n_units}" for i in range(40))))


def test_a_lone_drive_is_counted_by_its_blocks():
    """The test exchanges blocks of a lone drive: its smallest p follows from their number, not from one drive."""
    document = {"data": {"drives": 1, "units": 5, "images": 25, "sufficient": True}}
    assert texts.smallest_p(document).startswith("With 5 blocks of one drive, p cannot be below about 0.062")
    assert texts.smallest_p({"data": {"drives": 1, "units": 20, "images": 100, "sufficient": True}}) == ""


def test_images_needed():
    assert images_needed(Drives(("",) * 30)) == FEWEST_IMAGES
    assert images_needed(Drives(("a", "b", "c") * 30)) is None
    assert images_needed(Drives(("a",) * 30)) == 25


def test_law_at_most_n_images_are_of_every_drive_and_leave_real_conditions(tmp_path):
    data = read_planted(tmp_path / "data", n_images=24, n_drives=6)
    clean = {"weather": "clear"}
    few = at_most(data, clean, 8)
    of_weather = [[image for image in some.images if image.attributes["weather"] == "clear"] for some in (data, few)]
    assert [len(images) for images in of_weather] == [16, 8]
    assert len(few.images) == 8 + 8 and {image.drive for image in few.images} == {image.drive for image in data.images}
    assert at_most(data, clean, None) is data and at_most(data, clean, 16) is data
    assert at_most(data, {}, 5).images == at_most(data, {}, 5).images and len(at_most(data, {}, 5).images) == 5


def test_law_the_demo_is_sized_by_work_not_by_time(tmp_path):
    words = [word for _, _, argv in plan(tmp_path, 0) for word in argv]
    assert "--budget" not in words and int(words[words.index("--images") + 1]) >= FEWEST_IMAGES


@pytest.mark.parametrize(("seconds", "text"), [(1, "10s"), (61, "70s"), (121, "3m"), (8000, "3h")])
def test_budget_text(seconds, text):
    assert budget_text(seconds) == text
