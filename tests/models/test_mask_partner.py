"""Laws of a Faster R-CNN and the Mask R-CNN of the same backbone: each can start the other, and boxes are unchanged."""

import dataclasses
import json

import pytest
import torch

from drivetl.errors import CheckpointError
from drivetl.models import surgery
from drivetl.models.build import ARCHITECTURES, ModelSpec, architecture, box_architecture, build_model
from drivetl.models.source import load_source_detector
from drivetl.models.surgery import MASK_BRANCH

BOXES, MASKS = "fasterrcnn_mobilenet_v2_lite_fpn", "maskrcnn_mobilenet_v2_lite_fpn"
OLD, NEW = ("person", "car", "train"), ("tram", "cyclist", "person")
RELATION = {"tram": {"train": 1.0}, "cyclist": {"person": 0.5, "bicycle": 0.5}, "person": {"person": 1.0}}
MASKED = [name for name, arch in ARCHITECTURES.items() if arch.masks]


def model_of(arch, categories, seed):
    """Random weights, with a standard deviation of 0.05 in the heads."""
    torch.manual_seed(seed)
    model = build_model(ModelSpec(arch, categories, 64, 96, 50, 50, 16, 20, 0.0, True)).eval()
    for name, parameter in model.named_parameters():
        if "predictor" in name:
            torch.nn.init.normal_(parameter, std=0.05)
    return model


def moved(start, target):
    """(source, target, report): the target with the source's weights, mapped by relation."""
    source, model = model_of(start, OLD, 0), model_of(target, NEW, 1)
    report = surgery.load(model, source.state_dict(), surgery.plan(OLD, NEW, RELATION))
    return source, model, report


def heads_of(model):
    """(class logits, box deltas) of one image's proposals."""
    seen = []
    handle = model.roi_heads.box_predictor.register_forward_hook(lambda _m, _i, result: seen.append(result))
    with torch.inference_mode():
        model([torch.rand(3, 64, 96, generator=torch.Generator().manual_seed(3))])
    handle.remove()
    return seen[0]


@pytest.mark.parametrize("arch", MASKED)
def test_every_mask_architecture_is_a_box_architecture_plus_a_mask_branch(arch):
    partner = box_architecture(arch)
    spec = ModelSpec(partner, ("car",), 64, 96, 50, 50, 16, 20, 0.0, True)
    with torch.device("meta"):
        boxes = build_model(spec).state_dict()
        masks = build_model(dataclasses.replace(spec, arch=arch)).state_dict()
    extra = masks.keys() - boxes.keys()
    assert extra and all(MASK_BRANCH.search(key) for key in extra)
    assert {key: value.shape for key, value in masks.items() if key not in extra} == {
        key: value.shape for key, value in boxes.items()
    }
    assert architecture(partner).stages == architecture(arch).stages and not architecture(partner).masks


def test_exactly_the_mask_architectures_are_named_maskrcnn():
    assert [name for name in ARCHITECTURES if name.startswith("maskrcnn_")] == MASKED
    assert box_architecture(BOXES) == BOXES


@pytest.mark.parametrize(("start", "target"), [(BOXES, MASKS), (MASKS, BOXES), (MASKS, MASKS)])
def test_law_boxes_of_a_class_with_one_source_class_are_the_sources_bit_for_bit(start, target):
    source, model, _ = moved(start, target)
    (old_logits, old_deltas), (logits, deltas) = heads_of(source), heads_of(model)
    for name, parent in {"tram": "train", "person": "person"}.items():
        new, old = 1 + NEW.index(name), 1 + OLD.index(parent)
        assert torch.equal(logits[:, new], old_logits[:, old])
        assert torch.equal(deltas[:, 4 * new : 4 * new + 4], old_deltas[:, 4 * old : 4 * old + 4])
    assert torch.equal(logits[:, 0], old_logits[:, 0]) and logits[:, 1:].std() > 0


def test_law_mask_rows_follow_the_relation():
    source, model, report = moved(MASKS, MASKS)
    features = torch.randn(2, 64, 14, 14)
    with torch.inference_mode():
        old, new = (each.roi_heads.mask_predictor(each.roi_heads.mask_head(features)) for each in (source, model))
    assert torch.equal(new[:, 0], old[:, 0])
    assert torch.equal(new[:, 1], old[:, 1 + OLD.index("train")])
    assert torch.equal(new[:, 3], old[:, 1 + OLD.index("person")])
    assert torch.equal(new[:, 2], new[:, 3])  # cyclist: of its two parents the source has only person
    assert set(report.counts()) == {"kept", "mapped"}


def test_a_new_mask_branch_is_listed_with_its_shapes_and_the_reason(tmp_path):
    _, model, report = moved(BOXES, MASKS)
    report.save(tmp_path / "surgery.json")
    lines = json.loads((tmp_path / "surgery.json").read_text())["tensors"]
    own = {key: list(value.shape) for key, value in model.state_dict().items() if MASK_BRANCH.search(key)}
    new = {line["key"]: line for line in lines if line["status"] not in ("kept", "mapped")}
    assert {key: line["target_shape"] for key, line in new.items()} == own and own
    for line in new.values():
        assert line["status"] == "reset" and line["source_shape"] is None
        assert line["reason"] == "new: the source has no mask branch"


def test_an_incomplete_mask_branch_is_refused():
    state = model_of(MASKS, OLD, 0).state_dict()
    missing = [key for key in state if MASK_BRANCH.search(key)][1:3]
    model = model_of(MASKS, NEW, 1)
    with pytest.raises(CheckpointError, match=rf"tensor {min(missing)}: expected .*, found nothing \(and 1 more"):
        surgery.load(
            model, {key: value for key, value in state.items() if key not in missing}, surgery.plan(OLD, NEW, RELATION)
        )


def test_a_dropped_mask_branch_is_listed_with_its_shapes_and_the_reason(capsys):
    source, _, report = moved(MASKS, BOXES)
    own = {key: tuple(value.shape) for key, value in source.state_dict().items() if MASK_BRANCH.search(key)}
    dropped = {line.key: line for line in report.tensors if line.status not in ("kept", "mapped")}
    assert {key: line.source_shape for key, line in dropped.items()} == own and own
    for line in dropped.values():
        assert line.status == "unused" and line.target_shape is None
        assert line.reason == "dropped: the model has no mask branch"
    report.show()
    assert "dropped" in capsys.readouterr().out


@pytest.mark.parametrize("start", [BOXES, MASKS])
@pytest.mark.parametrize("target", [BOXES, MASKS])
def test_a_weights_file_with_or_without_masks_detects_the_same_boxes(tmp_path, start, target):
    model = model_of(start, ("class 1", "class 2"), 0)
    torch.save(model.state_dict(), tmp_path / "weights.pth")
    spec = ModelSpec(target, ("car",), 64, 96, 50, 50, 16, 20, 0.0, True)
    detector = load_source_detector(str(tmp_path / "weights.pth"), spec, "cpu", "fp32")
    image = torch.randint(0, 255, (3, 64, 96), dtype=torch.uint8)
    with torch.inference_mode():
        expected = model([image / 255.0])[0]
    assert torch.equal(torch.from_numpy(detector.infer([image])[0].boxes), expected["boxes"])
