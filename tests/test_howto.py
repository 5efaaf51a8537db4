"""The how-to pages work: their code is put in place in a copy of the repository, and the laws of the room run there."""

import json
from pathlib import Path

import pytest
from howto import MOST_LINES, REPOSITORY, commands_of, copy_with, lines_of_code, run
from training_runs import write_tree

PAGES = sorted((REPOSITORY / "docs" / "howto").glob("*.md"))
PYTEST = ("-m", "pytest", "-p", "no:cacheprovider", "-p", "no:xdist")


def page(name: str) -> Path:
    return REPOSITORY / "docs" / "howto" / f"{name}.md"


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.stem)
def test_a_page_is_short(path):
    assert 10 < lines_of_code(path) < MOST_LINES


def test_a_new_format_passes_the_laws_of_formats(tmp_path):
    copy = copy_with(page("new_format"), tmp_path)
    laws = ("tests/adapters/test_format_laws.py", "tests/adapters/test_datasets_cards.py")
    printed = run(copy, *PYTEST, *laws, "-k", "boxes_csv or every or exemptions")
    assert "passed" in printed and "skipped" not in printed


def test_a_new_condition_passes_the_laws_of_conditions(tmp_path):
    copy = copy_with(page("new_condition"), tmp_path)
    golden = copy / "tests" / "conditions" / "golden_conditions.json"
    before = json.loads(golden.read_text())["fingerprints"]
    for words in commands_of(page("new_condition")):
        run(copy, *words)
    after = json.loads(golden.read_text())["fingerprints"]
    assert after.pop("vignette 3") and after == before
    run(copy, *PYTEST, "tests/conditions", "-k", "vignette or catalogue or protocol_version")


def test_a_new_backbone_builds_and_trains(tmp_path):
    copy = copy_with(page("new_backbone"), tmp_path / "copy")
    run(copy, *PYTEST, "tests/models/test_build.py", "-k", "fasterrcnn_pool_fpn")
    data = write_tree(tmp_path / "data", n_images=4)
    overrides = ["--data.train", data, "--data.val", data, "--optim.epochs", "1", "--runtime.device", "cpu"]
    small = ["--model.min_size", "64", "--model.max_size", "96", "--model.anchors", "keep"]
    small += ["--model.proposals_train", "50", "--model.rois_per_image", "16"]
    config = ["--config", "configs/finetune/pool.yaml", "--out", tmp_path / "run"]
    run(copy, "-m", "drivetl.cli", "finetune", *config, *overrides, *small)
    spec = json.loads((tmp_path / "run" / "checkpoints" / "best" / "model.json").read_text())
    assert spec["spec"]["arch"] == "fasterrcnn_pool_fpn"
