"""Two processes started by torchrun, or the jobs of an array, share a sweep: the report is that of one process."""

import json
import os
import shlex
import subprocess
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from planted import planted_dataset
from robust_run import write_run

from drivetl.cli import main
from drivetl.coco.io import read_dataset
from drivetl.commands import build_parser
from drivetl.commands.flags import given_flags
from drivetl.robustness.detection_cache import image_keys
from drivetl.robustness.find_cells import open_cache

ROOT = Path(__file__).parents[2]
NOTHING = {"version": 1, "preset": "none", "transforms": [], "ancestors": []}
WORDS = ["--conditions", "night,contrast", "--severities", "2,4", "--slices", "weather"]
WORDS += ["--draws", "50", "--workers", "0", "--device", "cpu", "--batch-size", "3"]


def sweep(launcher, run, data, out):
    command = [*launcher, str(ROOT / "tools" / "eval_robustness.py"), "--run-dir", str(run), "--data", str(data)]
    env = os.environ | {"OMP_NUM_THREADS": "1"}
    done = subprocess.run([*command, *WORDS, "--out", str(out)], capture_output=True, text=True, timeout=900, env=env)
    assert done.returncode == 0, done.stderr[-2000:]
    return json.loads((out / "results.json").read_text()), done


@pytest.fixture(scope="module")
def alone_and_shared(tmp_path_factory):
    folder = tmp_path_factory.mktemp("shards")
    data = planted_dataset(folder / "data", n_images=7, n_drives=3)
    launchers = {
        "alone": [sys.executable],
        "shared": [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"],
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


def test_law_the_jobs_of_an_array_join(alone_and_shared, tmp_path, capsys):
    alone, _, old, _ = alone_and_shared["alone"]
    run, data = write_run(tmp_path / "a run", NOTHING), old.parents[1] / "data" / "val.json"
    words = ["eval-robustness", "--run", str(run), "--data", str(data), *WORDS]
    assert main([*words, "--shard", "2/2"]) == 0
    said = capsys.readouterr().out
    assert "shard 2/2 is done: 3 of 7 images are complete in every cell" in said and "next:" not in said
    (whole,) = [line.partition("too: ")[2] for line in said.splitlines() if line.startswith("when the other shards")]
    assert sorted(shlex.split(whole)) == sorted(["drivetl", *words])
    assert main([*words, "--shard", "1/2"]) == 0
    (line,) = [line for line in capsys.readouterr().out.splitlines() if line.startswith("next:")]
    assert line == f"next:  {whole}"
    assert main([*shlex.split(whole)[1:], "--out", str(tmp_path / "out")]) == 0
    joined = json.loads((tmp_path / "out" / "results.json").read_text())
    assert joined["timing"]["inferences"] == 0
    assert joined["cells"] == alone["cells"] and joined["headline"] == alone["headline"]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--shard", "3/2"], "--shard '3/2' is not I/N with I from 1 to N - for example 1/4"),
        (["--shard", "1/2", "--budget", "1m"], "--shard with --budget - limit the images with --images"),
    ],
)
def test_mistakes_in_a_shard(alone_and_shared, capsys, words, message):
    run = alone_and_shared["alone"][2]
    data = run.parents[1] / "data" / "val.json"
    assert main(["eval-robustness", "--run", str(run), "--data", str(data), "--out", str(run / "new"), *words]) == 2
    assert message in capsys.readouterr().err


def test_law_the_given_flags_are_the_command():
    words = ["--detector", "onnx:a.onnx", "--data", "v.json", "--augmentation", "a", "--augmentation", "b"]
    words += ["--severities", "1", "--draws", "50", "--cache", "two words"]
    args = build_parser("eval-robustness").parse_args(["eval-robustness", "--shard", "1/2", "--quiet", *words])
    given = given_flags(args, without=("shard",))
    assert Counter(given) == Counter(words)
    again = build_parser("eval-robustness").parse_args(["eval-robustness", *given])
    assert vars(again) | {"parser": 0, "run": 0} == vars(args) | {"parser": 0, "run": 0, "shard": None, "quiet": False}
