"""Two processes started by torchrun share a sweep: the report is that of one process."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from planted import planted_dataset
from robust_run import write_run

from drivetl.coco.io import read_dataset
from drivetl.robustness.detection_cache import image_keys
from drivetl.robustness.find_cells import open_cache

ROOT = Path(__file__).parents[2]
NOTHING = {"version": 1, "preset": "none", "transforms": [], "ancestors": []}
WORDS = ["--conditions", "night,contrast", "--severities", "2,4", "--slices", "weather"]
WORDS += ["--draws", "50", "--workers", "0", "--device", "cpu", "--batch-size", "3"]


def sweep(launcher, run, data, out):
    command = [*launcher, str(ROOT / "tools" / "eval_robustness.py"), "--run", str(run), "--data", str(data)]
    env = os.environ | {"OMP_NUM_THREADS": "1"}
    done = subprocess.run([*command, *WORDS, "--out", str(out)], capture_output=True, text=True, timeout=900, env=env)
    assert done.returncode == 0, done.stderr[-2000:]
    return json.loads((out / "results.json").read_text()), done


@pytest.fixture(scope="module")
def alone_and_shared(tmp_path_factory):
    folder = tmp_path_factory.mktemp("shards")
    data = planted_dataset(folder / "data", n_images=7, n_drives=3)
    launchers = {  # `--`: torchrun has an option --run-path of its own
        "alone": [sys.executable],
        "shared": [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2", "--"],
    }
    reports = {}
    for name, launcher in launchers.items():
        run = write_run(folder / name / "run", NOTHING)
        reports[name] = (*sweep(launcher, run, data, folder / name / "out"), run, folder / name / "out")
    return reports


def test_the_shared_report_equals_that_of_one_process(alone_and_shared):
    alone, shared = (alone_and_shared[name][0] for name in ("alone", "shared"))
    assert alone["timing"]["inferences"] == 5 * 4 + 3
    assert 0 < shared["timing"]["inferences"] < alone["timing"]["inferences"], "the other process had its share"
    assert shared | {"timing": 0} == alone | {"timing": 0}


def test_the_shared_cells_equal_those_of_one_process(alone_and_shared):
    """Compare detections: an untrained detector has many, but its AP is 0 everywhere."""
    data = read_dataset(alone_and_shared["alone"][2].parents[1] / "data" / "val.json")
    alone, shared = (open_cache(alone_and_shared[name][2]) for name in ("alone", "shared"))
    assert alone.cells() == shared.cells() and len(alone.cells()) == 5
    keys = image_keys(data)
    for cell in alone.cells():
        ids = {key: image.id for key, image in zip(keys, data.images, strict=True) if alone.has(key, cell)}
        ours, theirs = alone.results(cell, ids), shared.results(cell, ids)
        assert len(ours) > 20
        assert np.array_equal(ours.image_id, theirs.image_id)
        assert np.array_equal(ours.category_id, theirs.category_id)
        assert np.allclose(ours.boxes_xywh, theirs.boxes_xywh, atol=1e-3)
        assert np.allclose(ours.scores, theirs.scores, atol=1e-6)


def test_both_processes_wrote_cells_and_one_wrote_the_report(alone_and_shared):
    _, done, run, out = alone_and_shared["shared"]
    assert len(list((run / "robustness" / ".cells").rglob("*.npz"))) >= 2
    assert done.stdout.count("report.html\n") == 1 and len(list(out.parent.iterdir())) == 2
