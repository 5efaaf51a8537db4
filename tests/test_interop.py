"""docs/interop.md runs: other tools read our datasets and predictions, and find the same boxes."""

import json
import re
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
from robust_run import SPEC
from training_runs import write_tree

import drivetl
from drivetl.coco.io import read_dataset, write_dataset

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "interop.md"


def run_blocks(heading, names):
    """Run the Python of a section as it stands; returns the names it defines."""
    section = re.search(rf"^## {heading}\n(.*?)(?=^## |\Z)", PAGE.read_text("utf-8"), re.MULTILINE | re.DOTALL)
    assert section, heading
    blocks = re.findall(r"^```python\n(.*?)^```$", section[1], re.MULTILINE | re.DOTALL)
    assert blocks
    for block in blocks:
        exec(compile(block, str(PAGE), "exec"), names)
    return names


@pytest.fixture
def dataset(tmp_path, monkeypatch):
    """out/val.json in the working directory, with its images in another folder."""
    monkeypatch.chdir(tmp_path)
    data = read_dataset(write_tree(tmp_path / "images"))
    (tmp_path / "out").mkdir()
    write_dataset(data, tmp_path / "out" / "val.json")
    return read_dataset(tmp_path / "out" / "val.json")


@pytest.fixture
def city(dataset, tmp_path):
    """runs/city: a detector of the dataset's classes, with random weights."""
    import torch

    from drivetl.models.build import build_model
    from drivetl.models.checkpoint import save_model
    from drivetl.models.weights import portable_state

    torch.manual_seed(0)
    spec = replace(SPEC, categories=dataset.categories)
    save_model(tmp_path / "runs" / "city" / "checkpoints" / "best", portable_state(build_model(spec)), spec, {})


def boxes_of(record):
    return sorted((item.category_id, tuple(item.bbox_xywh)) for item in record.annotations)


def test_torchvision_reads_the_same_boxes_and_pixels(dataset, capsys):
    data = run_blocks("torchvision", {})["data"]
    assert len(data) == len(dataset.images) == capsys.readouterr().out.count("(96, 64)") + 1  # one is smaller
    crowds = 0
    for number, record in zip(data.ids, sorted(dataset.images, key=lambda image: image.id), strict=True):
        image, annotations = data[data.ids.index(number)]
        assert number == record.id
        found = sorted((item["category_id"], tuple(item["bbox"])) for item in annotations if not item["iscrowd"])
        assert found == boxes_of(record)
        crowds += sum(item["iscrowd"] for item in annotations)
        expected = cv2.imread(str(dataset.images_root / record.file_name))[..., ::-1]
        assert np.array_equal(np.asarray(image), expected)
    assert crowds == sum(len(image.ignore_regions) for image in dataset.images) * len(dataset.categories) > 0


def test_supervision_draws_what_a_run_finds(dataset, city, tmp_path):
    supervision = pytest.importorskip("supervision", reason="needs the package supervision")
    found = run_blocks("supervision", {})["found"]
    again = drivetl.load("runs/city")(dataset.images_root / dataset.images[0].file_name)
    assert isinstance(found, supervision.Detections) and np.array_equal(found.xyxy, again.boxes)
    assert cv2.imread(str(tmp_path / "drawn.jpg")).shape == (64, 96, 3)


def test_fiftyone_loads_labels_and_predictions(dataset, tmp_path):
    fiftyone = pytest.importorskip("fiftyone", reason="needs the package fiftyone")
    (tmp_path / "seen").mkdir()
    results = [
        {"image_id": image.id, "category_id": item.category_id, "bbox": item.bbox_xywh, "score": 0.9}
        for image in dataset.images
        for item in image.annotations
    ]
    (tmp_path / "seen" / "results.json").write_text(json.dumps(results))
    try:
        fiftyone.list_datasets()
    except fiftyone.core.config.FiftyOneConfigError as error:
        pytest.skip(f"fiftyone has no database here: {error}")
    loaded = run_blocks("FiftyOne", {})["dataset"]
    try:
        records = {image.id: image for image in dataset.images}
        assert len(loaded) == len(records)
        for sample in loaded:
            record = records[sample.coco_id]
            found = [item.bounding_box for item in sample.found.detections] if sample.found else []
            size = np.array([record.width, record.height] * 2)
            expected = np.array([item.bbox_xywh for item in record.annotations]).reshape(-1, 4)
            assert np.allclose(np.array(found).reshape(-1, 4) * size, expected)
    finally:
        loaded.delete()
