"""Laws of building, saving and loading detectors."""

import dataclasses
import json
from typing import get_args

import pytest
import torch

from drivetl.config import Architecture
from drivetl.errors import CheckpointError, ConfigError
from drivetl.models.build import ARCHITECTURES, ModelSpec, build_model, set_anchors, stage_parameters
from drivetl.models.checkpoint import load_detector, save_model
from drivetl.models.norm import FusedFrozenBatchNorm2d
from drivetl.models.source import read_source
from drivetl.models.weights import load_backbone, portable_state, read_weights

TINY = ModelSpec("fasterrcnn_tiny_fpn", ("car", "tram"), 64, 128, 20, 20, 16, 10, 0.05, frozen_norm=False)


def tiny_run(folder, spec=TINY):
    torch.manual_seed(0)
    model = build_model(spec).eval()
    save_model(
        folder / "checkpoints" / "best", portable_state(model), spec, {"car": {"car": 1.0}, "tram": {"train": 1.0}}
    )
    return model


def test_the_config_names_the_architectures():
    assert set(get_args(Architecture)) == set(ARCHITECTURES)


@pytest.mark.parametrize("arch", ARCHITECTURES)
def test_every_architecture_builds_and_its_stages_contain_every_parameter_once(arch):
    with torch.device("meta"):
        model = build_model(dataclasses.replace(TINY, arch=arch))
    groups = stage_parameters(model, arch)
    names = [name for group in groups for name, _ in group]
    assert sorted(names) == sorted(name for name, _ in model.named_parameters())
    assert len(groups) == len(ARCHITECTURES[arch].stages) + 2 and all(groups)


@pytest.mark.parametrize("frozen", [False, True])
def test_a_saved_detector_is_loaded_bit_for_bit(tmp_path, frozen):
    spec = dataclasses.replace(
        TINY, frozen_norm=frozen, anchor_sizes=((8.0, 12.0),) * 4, anchor_ratios=((0.5, 2.0),) * 4
    )
    model = tiny_run(tmp_path, spec)
    detector = load_detector(tmp_path, device="cpu", precision="fp32")
    image = torch.randint(0, 255, (3, 60, 100), dtype=torch.uint8)
    with torch.inference_mode():
        before = model([image / 255.0])[0]
    after = detector.infer([image])[0]
    assert detector.categories == ("car", "tram") and detector.relation["tram"] == {"train": 1.0}
    torch.testing.assert_close(torch.from_numpy(after.boxes), before["boxes"], rtol=0, atol=0)
    assert any(isinstance(module, FusedFrozenBatchNorm2d) for module in detector.model.modules()) == frozen


def test_a_batch_gives_the_detections_of_single_images(tmp_path):
    tiny_run(tmp_path)
    detector = load_detector(tmp_path, device="cpu")
    images = [torch.randint(0, 255, (3, 64, 96), dtype=torch.uint8) for _ in range(3)]
    for alone, together in zip([detector.infer([image])[0] for image in images], detector.infer(images), strict=True):
        assert abs(len(alone.scores) - len(together.scores)) <= 1
        n = min(len(alone.scores), len(together.scores), 3)
        torch.testing.assert_close(
            torch.from_numpy(alone.scores[:n]), torch.from_numpy(together.scores[:n]), rtol=1e-3, atol=1e-4
        )


def test_the_hash_depends_on_the_weights(tmp_path):
    tiny_run(tmp_path / "a")
    tiny_run(tmp_path / "b")
    model = build_model(TINY)
    save_model(tmp_path / "c" / "checkpoints" / "best", portable_state(model), TINY, {})
    a, b, c = (load_detector(tmp_path / name, device="cpu").weights_hash for name in "abc")
    assert a == b != c


def damage(path, how):
    if how == "cut":
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    elif how == "noise":
        path.write_bytes(b"not a file of weights at all")
    else:
        path.unlink()


@pytest.mark.parametrize("how", ["cut", "noise", "gone"])
@pytest.mark.parametrize("name", ["model.safetensors", "model.json"])
def test_a_damaged_checkpoint_is_an_error_that_names_it(tmp_path, name, how):
    tiny_run(tmp_path)
    damage(tmp_path / "checkpoints" / "best" / name, how)
    with pytest.raises(CheckpointError, match=r"finetune wrote|safetensors"):
        load_detector(tmp_path)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("arch", "resnet"),
        ("categories", []),
        ("min_size", -3),
        ("min_size", "big"),
        ("anchor_sizes", [["x"]]),
        ("nonsense", 1),
        ("min_size", True),
        ("detections_per_image", "x"),
        ("detections_per_image", -1),
        ("categories", ["car", "car"]),
        ("categories", ["car", 7]),
        ("categories", "ab"),
        ("score_threshold", "x"),
        ("score_threshold", float("nan")),
        ("score_threshold", 1),
        ("frozen_norm", "no"),
        ("anchor_sizes", [[-8.0], [16.0], [32.0], [64.0]]),
        ("anchor_sizes", [[8.0], [16.0], [32.0], []]),
        ("anchor_sizes", [[8.0], [16.0], [32.0], ["64"]]),
        ("anchor_sizes", [[8.0], [16.0], [32.0], [10**400]]),
        ("anchor_ratios", [[0.5, 0, 2.0]] * 4),
        ("anchor_ratios", [[float("inf")]] * 4),
    ],
)
def test_an_invalid_model_json_is_refused(tmp_path, key, value):
    tiny_run(tmp_path)
    path = tmp_path / "checkpoints" / "best" / "model.json"
    document = json.loads(path.read_text())
    document["spec"][key] = value
    path.write_text(json.dumps(document))
    with pytest.raises(CheckpointError, match=rf"model\.json: does not describe a model .*({key}|resnet)"):
        load_detector(tmp_path)


@pytest.mark.parametrize("weight", [float("nan"), 0, -1.0, "0.5", None, True])
def test_a_relation_with_a_weight_that_is_not_a_positive_number_is_refused(tmp_path, weight):
    tiny_run(tmp_path)
    path = tmp_path / "checkpoints" / "best" / "model.json"
    document = json.loads(path.read_text())
    document["relation"]["tram"] = {"train": weight}
    path.write_text(json.dumps(document))
    with pytest.raises(CheckpointError, match=r"model\.json: .*relation of tram: .* is not a positive number"):
        load_detector(tmp_path)


def test_the_error_about_weights_of_another_shape_names_the_tensor(tmp_path):
    tiny_run(tmp_path)
    path = tmp_path / "checkpoints" / "best" / "model.json"
    document = json.loads(path.read_text())
    document["spec"]["categories"] = ["car", "tram", "bus"]
    path.write_text(json.dumps(document))
    with pytest.raises(CheckpointError, match=r"roi_heads.*expected \(16,\), found \(12,\)"):
        load_detector(tmp_path)


def test_a_backbone_is_loaded_by_name_or_by_order_and_refused_when_it_does_not_fit():
    spec = dataclasses.replace(TINY, arch="fasterrcnn_mobilenet_v2_fpn")
    source, target = build_model(spec), build_model(spec)
    state = {key: value for key, value in source.backbone.body.state_dict().items() if "num_batches" not in key}
    for renamed in (state, {f"features.x{number}": value for number, value in enumerate(state.values())}):
        assert load_backbone(target, renamed, "file") == len(state)
        assert all(
            torch.equal(state[key], value) for key, value in target.backbone.body.state_dict().items() if key in state
        )
    with pytest.raises(CheckpointError, match=r"1 tensors found"):
        load_backbone(target, {"a": torch.zeros(3)}, "file")
    broken = dict(state)
    broken["0.0.weight"] = torch.zeros(1)
    with pytest.raises(CheckpointError, match=r"0\.0\.weight: expected \(32, 3, 3, 3\), found \(1,\)"):
        load_backbone(target, broken, "file")


def test_the_error_about_a_missing_source_names_the_valid_ones(tmp_path):
    assert read_source("none", "fasterrcnn_tiny_fpn") is None
    with pytest.raises(ConfigError, match="publishes no coco weights"):
        read_source("coco", "fasterrcnn_tiny_fpn")
    with pytest.raises(CheckpointError, match="no such file or run"):
        read_source(str(tmp_path / "nothing"), "fasterrcnn_tiny_fpn")
    with pytest.raises(ConfigError, match="did you mean 'fasterrcnn_resnet50_fpn'"):
        build_model(dataclasses.replace(TINY, arch="fasterrcnn_resnet50_fpm"))


def test_a_torch_file_may_wrap_its_weights(tmp_path):
    state = {"a": torch.arange(3.0)}
    torch.save({"model": state, "epoch": 3}, tmp_path / "wrapped.pth")
    assert torch.equal(read_weights(tmp_path / "wrapped.pth")["a"], state["a"])
    torch.save({"net": state, "epoch": 3}, tmp_path / "otherwise.pth")
    with pytest.raises(CheckpointError, match=r"expected a dict of tensors, 'net' is of type dict - save"):
        read_weights(tmp_path / "otherwise.pth")
    torch.save([1, 2], tmp_path / "list.pth")
    with pytest.raises(CheckpointError, match="expected a dict of tensors, found list"):
        read_weights(tmp_path / "list.pth")


def test_anchors_must_fit_the_pyramid():
    model = build_model(TINY)
    with pytest.raises(ConfigError, match="anchors for 2 levels, the pyramid has 4"):
        set_anchors(model, ((8.0,), (16.0,)), None)
    with pytest.raises(ConfigError, match="differ between levels"):
        set_anchors(model, ((8.0,), (16.0,), (32.0,), (64.0, 80.0)), None)
