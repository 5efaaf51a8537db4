"""A run without masks can start one with masks, and vice versa; every other architecture is still refused."""

import json

import pytest
import torch
from training_runs import changed, write_tree

from drivetl.coco.io import read_dataset, write_dataset
from drivetl.files.runs import BEST_DETECTIONS, PSEUDO
from drivetl.metrics.match_store import match
from drivetl.metrics.results import load_results
from drivetl.models.checkpoint import load_detector
from drivetl.training.finetune import finetune
from drivetl.training.pair import read_pair
from drivetl.training.prepare import prepare

BOXES, MASKS = "fasterrcnn_mobilenet_v2_lite_fpn", "maskrcnn_mobilenet_v2_lite_fpn"


def with_masks(path, every=1):
    """Each `every`-th object gets its box as a mask."""
    dataset = read_dataset(path)
    for image in dataset.images:
        for item in image.annotations[::every]:
            x, y, w, h = item.bbox_xywh
            item.segmentation = [[x, y, x + w, y, x + w, y + h, x, y + h]]
    path.unlink()
    write_dataset(dataset, path)


@pytest.fixture
def runs(small_config, tree, tmp_path):
    """(config, box run, mask run started from it); half of the training objects have masks."""
    with_masks(tree[0], every=2)
    with_masks(tree[1])
    config = changed(changed(small_config, "model", arch=BOXES), "optim", epochs=1)
    finetune(config, tmp_path / "boxes")
    mask_config = changed(config, "model", arch=MASKS, start=str(tmp_path / "boxes"))
    finetune(mask_config, tmp_path / "masks")
    return config, tmp_path / "boxes", tmp_path / "masks"


def test_a_run_with_boxes_starts_masks_and_the_other_way_round(runs, tree):
    config, boxes, masks = runs
    surgery = json.loads((masks / "surgery.json").read_text())
    new = [line for line in surgery["tensors"] if line["status"] == "reset"]
    assert new and all(line["reason"] == "new: the source has no mask branch" for line in new)

    source = load_detector(boxes, device="cpu").model
    to_masks = changed(config, "model", arch=MASKS, start=str(boxes))
    prepared = prepare(to_masks, *read_pair(to_masks), torch.device("cpu"), torch.float32)
    assert not prepared.source_maps and not any(".mask_" in name for name in prepared.inherited)
    own, theirs = prepared.model.state_dict(), source.state_dict()
    assert all(torch.equal(own[key], value) for key, value in theirs.items() if "tracked" not in key)

    # the best checkpoint is chosen by boxes: the source, whose masks are untrained, must not be chosen
    rows = [json.loads(line) for line in (masks / "metrics.jsonl").read_text().splitlines()]
    assert [row["epoch"] for row in rows] == [1] and surgery["new_branch"]
    results = load_results(masks / BEST_DETECTIONS)
    assert match(read_dataset(tree[1]), results, "segm").iou_type == "segm"

    to_boxes = changed(config, "model", start=str(masks))
    prepared = prepare(to_boxes, *read_pair(to_boxes), torch.device("cpu"), torch.float32)
    assert prepared.source_maps
    unused = [line for line in prepared.surgery["tensors"] if line["status"] == "unused"]
    assert {line["key"] for line in unused} == {line["key"] for line in new}
    trained = load_detector(masks, device="cpu").model.state_dict()
    kept = prepared.model.state_dict()
    assert all(torch.equal(value, trained[key]) for key, value in kept.items() if "tracked" not in key)


def test_footage_is_labelled_with_boxes_alone_and_the_masks_of_labelled_images_are_still_trained(runs, tree, tmp_path):
    config, _, masks = runs
    footage = write_tree(tmp_path / "night", n_images=5, seed=8).parent
    for name in ("data.json", "000002.png"):  # the frame without objects looks the same in every tree
        (footage / name).unlink()
    config = changed(config, "model", arch=MASKS, start=str(masks))
    config = changed(config, "data", unlabelled=str(footage), pseudo_threshold=2e-3, pseudo_ignore_from=1e-3)
    outcome = finetune(changed(config, "optim", batch_size=3), tmp_path / "run")
    labels = read_dataset(tmp_path / "run" / PSEUDO)
    found = [item for image in labels.images for item in [*image.annotations, *image.ignore_regions]]
    assert found and all(item.segmentation is None for item in found)
    assert 0 < outcome.rows[-1]["train_loss_mask"] < 10
