"""Laws of `model.start`: all names of a source give the same source, and missing class names are warned about."""

import dataclasses
import json
import re

import pytest
import torch

from drivetl.errors import CheckpointError
from drivetl.models import surgery
from drivetl.models.build import ModelSpec, build_model
from drivetl.models.checkpoint import load_detector, save_model
from drivetl.models.source import load_source_detector, read_source
from drivetl.models.weights import load_backbone, portable_state

ARCH = "fasterrcnn_tiny_fpn"
SPEC = ModelSpec(ARCH, ("car", "tram"), 64, 96, 20, 20, 16, 10, 0.05, frozen_norm=True)
SCORES = "roi_heads.box_predictor.cls_score.weight"


def detector_state():
    torch.manual_seed(0)
    return portable_state(build_model(SPEC))


@pytest.fixture
def run(tmp_path):
    """The folder of a run: a checkpoint with its own anchors, and an augmentation manifest."""
    spec = dataclasses.replace(SPEC, anchor_sizes=((9.0,),) * 4, anchor_ratios=((0.5, 1.0, 2.0),) * 4)
    save_model(tmp_path / "city" / "checkpoints" / "best", detector_state(), spec, {"tram": {"train": 1.0}})
    (tmp_path / "city" / "augmentation.json").write_text(json.dumps({"version": 1, "transforms": []}))
    return tmp_path / "city"


def written(tmp_path, state, name="city.pth"):
    torch.save(state, tmp_path / name)
    return str(tmp_path / name)


@pytest.mark.parametrize("name", ["", "checkpoints/best", "checkpoints/best/model.safetensors"])
def test_law_a_run_its_checkpoint_and_the_weights_in_it_are_the_same_source(run, name):
    whole, part = read_source(str(run), ARCH), read_source(str(run / name), ARCH)
    assert part.categories == ("car", "tram") and part.spec.anchor_sizes == ((9.0,),) * 4
    assert part.relation == {"tram": {"train": 1.0}} and part.augmentation == {"version": 1, "transforms": []}
    assert part.description == "run city"
    assert all(torch.equal(value, part.state[key]) for key, value in whole.state.items())
    assert dataclasses.replace(part, state={}) == dataclasses.replace(whole, state={})
    expected, loaded = (load_detector(run, device="cpu"), load_source_detector(str(run / name), SPEC, "cpu", "fp32"))
    assert loaded.weights_hash == expected.weights_hash and loaded.augmentation == expected.augmentation


@pytest.mark.parametrize("start", [".", "model.safetensors"])
def test_a_checkpoint_is_recognised_from_within_its_folder(run, monkeypatch, start):
    monkeypatch.chdir(run / "checkpoints" / "best")
    source = read_source(start, ARCH)
    assert source.description == "run city" and source.augmentation is not None


@pytest.mark.parametrize("prefix", ["module.", "model.", "_orig_mod.", "module._orig_mod."])
def test_law_a_wrapped_detector_is_read_as_the_detector(tmp_path, prefix):
    state = detector_state()
    source = read_source(written(tmp_path, {"state_dict": {prefix + key: value for key, value in state.items()}}), ARCH)
    assert source.categories == ("class 1", "class 2") and source.description == "weights city.pth"
    assert source.state.keys() == state.keys()
    assert all(torch.equal(value, source.state[key]) for key, value in state.items())


@pytest.mark.parametrize("part", ["roi_heads", "rpn", "backbone.fpn"])
def test_a_detector_under_other_names_is_never_loaded_in_order(part):
    model = build_model(SPEC)
    body = {f"net.backbone.body.{key}": value for key, value in model.backbone.body.state_dict().items()}
    assert load_backbone(model, body, "file") > 0
    with pytest.raises(CheckpointError, match=rf"file: tensor net\.{part}\.x\.weight: a detector's, but .* - save"):
        load_backbone(model, body | {f"net.{part}.x.weight": torch.zeros(1)}, "file")


def test_law_the_source_detector_accepts_every_file_that_surgery_accepts(tmp_path):
    state = detector_state()
    extra = {"loss.weight": torch.ones(2), "auxiliary.box_predictor.cls_score.weight": torch.ones(7, 3)}
    start = written(tmp_path, state | extra)
    source, target = read_source(start, ARCH), dataclasses.replace(SPEC, categories=("car",))
    report = surgery.load(build_model(target), source.state, surgery.plan(source.categories, ("car",), {}))
    assert {line.key for line in report.tensors if line.status == "unused"} == set(extra)
    loaded = load_source_detector(start, target, "cpu", "fp32").model.state_dict()
    assert all(torch.equal(value, loaded[key]) for key, value in state.items())
    del state["rpn.head.bbox_pred.bias"]
    with pytest.raises(CheckpointError, match=r"tensor rpn\.head\.bbox_pred\.bias: expected .* found nothing"):
        load_source_detector(written(tmp_path, state | extra), target, "cpu", "fp32")


BROKEN = {
    "nan": (lambda value: value * torch.nan, "not finite"),
    "infinite": (lambda value: value + torch.inf, "not finite"),
    "beyond float32": (lambda value: value.double() + 1e300, "not finite"),
    "whole numbers": (lambda value: value.long(), "expected dense floating-point numbers, found int64"),
    "complex": (lambda value: value.to(torch.complex64), "found complex64"),
    "sparse": (lambda value: value.to_sparse(), "found float32, sparse_coo"),
    "without data": (lambda value: value.to("meta"), "found float32, strided, meta"),
    "one number": (lambda value: torch.tensor(1.0), "a single number"),
}


@pytest.mark.parametrize("how", BROKEN)
def test_the_error_about_invalid_weights_names_the_file_and_the_tensor(tmp_path, how):
    state = detector_state()
    corrupt, message = BROKEN[how]
    with pytest.raises(CheckpointError, match=rf"city\.pth: tensor {re.escape(SCORES)}: .*{message}.* - "):
        read_source(written(tmp_path, state | {SCORES: corrupt(state[SCORES])}), ARCH)


def test_our_checkpoints_must_be_finite_too(run):
    state = detector_state()
    state[SCORES][0, 0] = torch.inf
    save_model(run / "checkpoints" / "best", state, SPEC, {})
    for read in (lambda: load_detector(run), lambda: read_source(str(run), ARCH)):
        with pytest.raises(CheckpointError, match=rf"model\.safetensors: tensor {re.escape(SCORES)}: .*finite"):
            read()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_any_floating_point_type_is_accepted_and_integer_batch_counters_are_ignored(tmp_path, dtype):
    state = {key: value.to(dtype) for key, value in detector_state().items()}
    counted = state | {"backbone.body.0.1.num_batches_tracked": torch.tensor(7)}
    assert read_source(written(tmp_path, counted), ARCH).categories == ("class 1", "class 2")


def test_class_names_are_read_from_the_file_next_to_the_weights(tmp_path, capsys):
    start = written(tmp_path, detector_state())
    (tmp_path / "city.pth.classes.txt").write_text("\ufeffcar\r\n traffic light \r\n\r\n", encoding="utf-8")
    source = read_source(start, ARCH)
    assert source.categories == ("car", "traffic light")
    row = surgery.plan(source.categories, ("light",), {"light": {"traffic light": 1.0}}).classes[1]
    assert row.status == "kept" and row.rows == (2,)
    assert load_source_detector(start, SPEC, "cpu", "fp32").categories == source.categories
    assert capsys.readouterr().err == ""


def test_the_warning_about_classes_without_names_says_how_to_name_them(tmp_path, capsys):
    assert read_source(written(tmp_path, detector_state()), ARCH).categories == ("class 1", "class 2")
    warning = capsys.readouterr().err
    assert "city.pth: its 2 classes have no names, so every class starts from the mean of all" in warning
    assert "name them in city.pth.classes.txt next to it" in warning


def test_a_head_of_cocos_size_has_cocos_classes_unless_a_file_names_others(tmp_path, capsys):
    start = written(tmp_path, {SCORES: torch.zeros(91, 2)})
    assert read_source(start, "fasterrcnn_resnet50_fpn").categories[2] == "car"
    own = [*(f"kind {number}" for number in range(88)), "N/A", "N/A"]
    (tmp_path / "city.pth.classes.txt").write_text("\n".join(own))
    assert read_source(start, "fasterrcnn_resnet50_fpn").categories == tuple(own)
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "0 names, the head has 2 classes"),
        (b"car", "1 names, the head has 2 classes"),
        (b"car\ntram\nbus", "3 names, the head has 2 classes"),
        (b"__background__\ncar", "__background__ is not a class"),
        (b"car\ncar", "car more than once"),
        (b"stra\xdfenbahn\ncar", "not UTF-8 text"),
        (b"car\n" * 300_000, "more than a megabyte of names"),
    ],
)
def test_invalid_class_names_are_refused(tmp_path, content, message):
    start = written(tmp_path, detector_state())
    (tmp_path / "city.pth.classes.txt").write_bytes(content)
    with pytest.raises(CheckpointError, match=rf"city\.pth\.classes\.txt: {message} - write one name per line"):
        read_source(start, ARCH)
