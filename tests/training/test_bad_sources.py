"""A source that cannot be used: the error says what was expected, what was found, and nothing is written."""

import dataclasses
import json
import os
import shutil
from pathlib import Path

import pytest
import torch
from training_runs import write_tree

from drivetl.errors import CheckpointError, ConfigError
from drivetl.models.build import ModelSpec, build_model
from drivetl.training.finetune import finetune


class Code:
    """Unpickling it would make a folder."""

    def __init__(self, folder):
        self.folder = folder

    def __reduce__(self):
        return os.mkdir, (str(self.folder),)


def spec(arch="fasterrcnn_tiny_fpn", n_classes=2):
    return ModelSpec(
        arch, tuple(f"class {n}" for n in range(n_classes)), 64, 96, 50, 20, 16, 10, 0.05, frozen_norm=True
    )


def refused(config, tmp_path, error, message):
    with pytest.raises(error) as caught:
        finetune(config, tmp_path / "out")
    assert str(caught.value).replace(str(tmp_path), "TMP") == message
    assert not (tmp_path / "out").exists()


def starting_from(config, start):
    return dataclasses.replace(config, model=dataclasses.replace(config.model, start=str(start)))


def test_weights_of_another_architecture(small_config, tmp_path):
    torch.save(build_model(spec("fasterrcnn_mobilenet_v2_lite_fpn")).state_dict(), tmp_path / "other.pth")
    refused(
        starting_from(small_config, tmp_path / "other.pth"),
        tmp_path,
        CheckpointError,
        "weights other.pth: tensor backbone.body.0.0.weight: expected 24x3x3x3, found 32x3x3x3 (and 114 more that do"
        " not fit: backbone.body.0.1.bias, backbone.body.0.1.running_mean, backbone.body.0.1.running_var, ...) - use"
        " weights of this architecture",
    )


def test_features_of_another_architecture(small_config, tmp_path):
    torch.save({"0.weight": torch.zeros(8, 3, 7, 7)}, tmp_path / "features.pth")
    own = len([key for key in build_model(spec()).backbone.body.state_dict() if "tracked" not in key])
    refused(
        starting_from(small_config, tmp_path / "features.pth"),
        tmp_path,
        CheckpointError,
        f"backbone features.pth: 1 tensors found, the backbone has {own} - use weights of this architecture",
    )


def test_a_run_of_another_architecture(small_config, source, tmp_path):
    config = starting_from(small_config, source[1])
    config = dataclasses.replace(
        config, model=dataclasses.replace(config.model, arch="fasterrcnn_mobilenet_v2_lite_fpn")
    )
    refused(
        config,
        tmp_path,
        ConfigError,
        "model.start is a fasterrcnn_tiny_fpn, model.arch is fasterrcnn_mobilenet_v2_lite_fpn"
        " - set --model.arch fasterrcnn_tiny_fpn",
    )


def test_a_missing_tensor_is_named(small_config, tmp_path):
    state = build_model(spec()).state_dict()
    del state["rpn.head.bbox_pred.bias"]
    torch.save(state, tmp_path / "holes.pth")
    refused(
        starting_from(small_config, tmp_path / "holes.pth"),
        tmp_path,
        CheckpointError,
        "weights holes.pth: tensor rpn.head.bbox_pred.bias: expected 12, found nothing - use weights of this"
        " architecture",
    )


@pytest.mark.parametrize("name", ["cut.pth", "cut.safetensors"])
def test_a_truncated_file(small_config, source, tmp_path, name):
    torch.save(build_model(spec()).state_dict(), tmp_path / "whole.pth")
    whole = {
        "cut.pth": tmp_path / "whole.pth",
        "cut.safetensors": source[1] / "checkpoints" / "best" / "model.safetensors",
    }[name]
    (tmp_path / name).write_bytes(whole.read_bytes()[:5000])
    with pytest.raises(
        CheckpointError,
        match=rf"{name}: not a (file of plain weights|safetensors file) \(.+\)"
        r" - it (is damaged|may be truncated): download or save it again",
    ):
        finetune(starting_from(small_config, tmp_path / name), tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("legacy", [False, True])
def test_pickled_code_is_never_run(small_config, tmp_path, legacy):
    state = {"weight": Code(tmp_path / "made")}
    torch.save(state, tmp_path / "evil.pth", _use_new_zipfile_serialization=not legacy)
    refused(
        starting_from(small_config, tmp_path / "evil.pth"),
        tmp_path,
        CheckpointError,
        "TMP/evil.pth: contains code (a pickled posix.mkdir), which is never run"
        " - save model.state_dict() alone, or a safetensors file",
    )
    assert not (tmp_path / "made").exists()


def test_a_pickled_model_is_refused_in_one_plain_line(small_config, tmp_path):
    torch.save(torch.nn.Linear(1, 1), tmp_path / "whole.pth")
    refused(
        starting_from(small_config, tmp_path / "whole.pth"),
        tmp_path,
        CheckpointError,
        "TMP/whole.pth: contains code (a pickled torch.nn.modules.linear.Linear), which is never run"
        " - save model.state_dict() alone, or a safetensors file",
    )


def test_weights_that_are_not_finite(small_config, tmp_path):
    state = build_model(spec()).state_dict()
    state["roi_heads.box_head.fc6.bias"][3] = torch.nan
    torch.save(state, tmp_path / "broken.pth")
    refused(
        starting_from(small_config, tmp_path / "broken.pth"),
        tmp_path,
        CheckpointError,
        "TMP/broken.pth: tensor roi_heads.box_head.fc6.bias: contains values that are not finite"
        " - use weights saved before the training diverged",
    )


def test_a_relation_with_an_unknown_class(small_config, source, tmp_path):
    relation = {"rider": {"pedestrain": 1.0}}
    train = write_tree(tmp_path / "train2", categories=("car", "rider"), relation=relation)
    val = write_tree(tmp_path / "val2", categories=("car", "rider"), relation=relation, first_drive=10)
    config = starting_from(small_config, source[1])
    config = dataclasses.replace(config, data=dataclasses.replace(config.data, train=str(train), val=str(val)))
    refused(
        config,
        tmp_path,
        ConfigError,
        "class 'rider' grows out of 'pedestrain', which neither the source nor COCO has - did you mean 'pedestrian'?",
    )


def test_zero_classes(small_config, tmp_path):
    for path in map(Path, (small_config.data.train, small_config.data.val)):
        document = json.loads(path.read_text()) | {"categories": [], "annotations": []}
        document["info"]["drivetl"].pop("taxonomy")
        path.write_text(json.dumps(document))
    refused(small_config, tmp_path, ConfigError, "data.train: no classes in it - convert and split it again")


def test_a_source_whose_anchors_differ_in_number_between_levels(small_config, source, tmp_path):
    shutil.copytree(source[1], tmp_path / "run")
    path = tmp_path / "run" / "checkpoints" / "best" / "model.json"
    document = json.loads(path.read_text())
    document["spec"]["anchor_sizes"] = [[8.0], [16.0], [32.0], [64.0, 80.0]]
    document["spec"]["anchor_ratios"] = [[0.5, 1.0, 2.0]] * 4
    path.write_text(json.dumps(document))
    refused(
        starting_from(small_config, tmp_path / "run"),
        tmp_path,
        ConfigError,
        "anchors per location differ between levels ([3, 3, 3, 6]) - the RPN head is shared, make them equal",
    )


@pytest.mark.parametrize(
    ("norm", "start", "batch", "frozen", "note"),
    [
        ("auto", "none", 4, False, "BatchNorm trained: a random start has no statistics to keep"),
        ("auto", "run", 4, True, "BatchNorm frozen: 4 images per device are too few for batch statistics"),
        ("auto", "run", 16, False, "BatchNorm trained: 16 images per device are enough for batch statistics"),
        ("frozen", "none", 4, True, "BatchNorm frozen: as configured"),
        ("train", "run", 4, False, "BatchNorm trained: as configured"),
    ],
)
def test_batch_norm_is_frozen_or_trained_by_rule_with_a_note(small_config, source, norm, start, batch, frozen, note):
    from drivetl.models.norm import FusedFrozenBatchNorm2d
    from drivetl.training.pair import read_pair
    from drivetl.training.prepare import prepare

    config = dataclasses.replace(
        small_config,
        model=dataclasses.replace(small_config.model, norm=norm, start="none" if start == "none" else str(source[1])),
        optim=dataclasses.replace(small_config.optim, batch_size=batch),
    )
    prepared = prepare(config, *read_pair(config), torch.device("cpu"), torch.float32)
    assert note in prepared.notes
    norms = [module for module in prepared.model.modules() if "BatchNorm" in type(module).__name__]
    assert norms and all(isinstance(module, FusedFrozenBatchNorm2d) is frozen for module in norms)
