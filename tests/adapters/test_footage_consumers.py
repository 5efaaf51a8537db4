"""Other people's tools read what conversion writes: pycocotools loads it, and the truth scores 1.0 against itself."""

from __future__ import annotations

from pathlib import Path

import pytest
from footage_trees import TREES, convert_tree, write_tree
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from drivetl.coco.io import write_dataset


@pytest.mark.parametrize("format_name", TREES)
def test_the_truth_fed_back_scores_one(format_name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    dataset, _ = convert_tree(format_name, write_tree(tmp_path / "in", TREES[format_name]()))
    path = tmp_path / "all.json"
    write_dataset(dataset, path)
    truth = COCO(str(path))
    assert len(truth.imgs) == len(dataset.images)
    objects = [item for item in truth.anns.values() if not item["iscrowd"]]
    regions = [item for item in truth.anns.values() if item["iscrowd"]]
    for kind in ["bbox", "segm"] if all("segmentation" in item for item in objects + regions) else ["bbox"]:
        results = [
            {key: item[key] for key in ("image_id", "category_id", "bbox")}
            | {"score": 0.9}
            | ({"segmentation": truth.annToRLE(item)} if kind == "segm" else {})
            for item in objects + regions  # a detection inside an ignore region is neither right nor wrong
        ]
        evaluation = COCOeval(truth, truth.loadRes(results), kind)
        evaluation.evaluate()
        evaluation.accumulate()
        precision = evaluation.eval["precision"][..., 0, -1]
        assert (precision > -1).any() and precision[precision > -1].min() > 1 - 1e-9
    capsys.readouterr()
