"""A small report, made once: planted images, a sweep with a baseline, its document and images."""

import pytest
from planted import PlantedDetector, read_planted

from drivetl.report.document import write_document
from drivetl.robustness.report_document import report_document
from drivetl.robustness.run import run_sweep

FOG = {"name": "Fog <b>", "phenomenon": "fog", "model": "koschmieder_depth", "range": {}}
MANIFEST = {"version": 1, "preset": "test", "transforms": [FOG], "ancestors": []}


@pytest.fixture(scope="session")
def report_folder(tmp_path_factory):
    """results.json, cells.csv, summary.md, report.html, pictures/ of a verified run compared with a baseline."""
    root = tmp_path_factory.mktemp("report")
    data = read_planted(root / "data", n_images=10, n_drives=5)
    data.info["source"] = "<script>alert(1)</script>"
    swept = run_sweep(
        PlantedDetector(augmentation=MANIFEST),
        data,
        ["fog", "night", "rain", "contrast", "motion_blur"],
        [1, 3, 5],
        baseline=PlantedDetector(contrast=130, weights_hash="b"),
        cache=root / "cells",
        workers=0,
    )
    folder = root / "out"
    folder.mkdir()
    write_document(swept, report_document(swept, n_draws=60, slices=["weather"]), folder)
    return folder
