"""The exported file gives the model's boxes, classes and scores, and has metadata."""

import json
import re
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from planted import read_planted

import drivetl
from drivetl.cli import main
from drivetl.detectors.exported import OnnxModel
from drivetl.detectors.spec import open_detector, parse_spec
from drivetl.errors import ConfigError, DataError
from drivetl.export import onnx as export_onnx
from drivetl.files.images import read_rgb
from drivetl.models.build import ModelSpec, build_model
from drivetl.models.checkpoint import load_detector, save_model
from drivetl.models.weights import portable_state

ROOT = Path(__file__).parents[2]
KITTI = ROOT.parent / "shared" / "data" / "kitti" / "training" / "image_2"

pytest.importorskip("onnx")
onnxruntime = pytest.importorskip("onnxruntime")


def tiny_run(folder, arch="fasterrcnn_tiny_fpn", score_threshold=0.05):
    torch.manual_seed(0)
    spec = ModelSpec(arch, ("car", "person"), 96, 192, 50, 50, 16, 10, score_threshold, True)
    save_model(folder / "checkpoints" / "best", portable_state(build_model(spec)), spec, {})
    return folder


def run_session(path, image):
    return onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"]).run(None, {"image": image})


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    """(run, file) written by the command."""
    folder = tmp_path_factory.mktemp("export")
    run, out = tiny_run(folder / "run"), folder / "model.onnx"
    cv2.imwrite(str(folder / "small.png"), np.full((64, 96, 3), 90, np.uint8))
    words = ["export", "--run", str(run), "--out", str(out), "--height", "90", "--width", "160"]
    assert main([*words, "--image", str(folder / "small.png")]) == 0
    return run, out


def test_exported_file_matches_the_model_on_a_new_image(exported):
    run, out = exported
    image = np.random.default_rng(7).integers(0, 255, (3, 90, 160), dtype=np.uint8)
    detector = load_detector(run, device="cpu", precision="fp32")
    expected = detector.infer([torch.from_numpy(image)])[0]
    boxes, labels, scores = run_session(out, image)
    assert len(expected.boxes) > 0
    np.testing.assert_allclose(boxes, expected.boxes, atol=0.01)
    np.testing.assert_array_equal(labels, expected.labels)
    np.testing.assert_allclose(scores, expected.scores, atol=1e-5)


def test_metadata_describes_inputs_and_outputs(exported):
    run, out = exported
    detector = load_detector(run, device="cpu", precision="fp32")
    session = onnxruntime.InferenceSession(out, providers=["CPUExecutionProvider"])
    metadata = session.get_modelmeta().custom_metadata_map
    assert json.loads(metadata["classes"]) == ["__background__", "car", "person"]
    assert json.loads(metadata["resize"]) == {"min_size": 96, "max_size": 192}
    assert metadata["weights_hash"] == detector.weights_hash
    assert session.get_inputs()[0].type == "tensor(uint8)"


def test_image_without_detections_gives_empty_outputs(tmp_path):
    run, out = tiny_run(tmp_path / "run", score_threshold=0.999), tmp_path / "model.onnx"
    check = export_onnx.export(load_detector(run, device="cpu", precision="fp32"), out, 64, 96)
    assert check.detections == 0
    boxes, labels, scores = run_session(out, np.zeros((3, 64, 96), np.uint8))
    assert boxes.shape == (0, 4) and labels.shape == (0,) and scores.shape == (0,)


def test_masks_are_exported(tmp_path):
    run, out = tiny_run(tmp_path / "run", "maskrcnn_mobilenet_v2_fpn"), tmp_path / "model.onnx"
    check = export_onnx.export(load_detector(run, device="cpu", precision="fp32"), out, 64, 96)
    assert check.detections > 0 and check.score < 1e-4
    assert run_session(out, np.zeros((3, 64, 96), np.uint8))[3].shape[1:] == (1, 64, 96)


def test_a_graph_that_differs_is_not_written(tmp_path, monkeypatch):
    detector = load_detector(tiny_run(tmp_path / "run"), device="cpu", precision="fp32")
    monkeypatch.setattr(export_onnx, "BOX_TOLERANCE_PX", -1.0)
    with pytest.raises(export_onnx.DrivetlError, match="20 of 20 detections of ONNX Runtime and the model differ"):
        export_onnx.export(detector, tmp_path / "model.onnx", 64, 96)
    assert not (tmp_path / "model.onnx").exists()


def test_existing_file_and_invalid_size_are_refused(tmp_path):
    detector = load_detector(tiny_run(tmp_path / "run"), device="cpu", precision="fp32")
    with pytest.raises(ConfigError, match="--height and --width range from 32"):
        export_onnx.export(detector, tmp_path / "model.onnx", 8, 96)
    (tmp_path / "model.onnx").write_bytes(b"mine")
    with pytest.raises(ConfigError, match="never overwritten"):
        export_onnx.export(detector, tmp_path / "model.onnx", 64, 96)
    assert (tmp_path / "model.onnx").read_bytes() == b"mine"


def test_missing_run_is_a_user_error(tmp_path, capsys):
    assert main(["export", "--run", str(tmp_path / "no"), "--out", str(tmp_path / "m.onnx")]) == 2
    assert "no such folder" in capsys.readouterr().err


@pytest.fixture(scope="module")
def of_any_size(tmp_path_factory):
    """(run, file) of a graph that takes any size; the run has a manifest."""
    folder = tmp_path_factory.mktemp("any")
    run, out = tiny_run(folder / "run"), folder / "city.onnx"
    (run / "augmentation.json").write_text(json.dumps({"version": 1, "preset": "none", "transforms": []}))
    assert main(["export", "--run", str(run), "--out", str(out), "--any-size"]) == 0
    return run, out


def same_boxes(first, second, tolerance_px=0.01):
    """All detections agree; those of equal scores may be in another order."""
    expected = [first.boxes, first.labels, first.scores]
    actual = [second.boxes, second.labels, second.scores]
    pairs = export_onnx.agreeing(expected, actual)
    assert len(pairs) == len(first.boxes) == len(second.boxes)
    rows, columns = map(list, zip(*pairs, strict=True))
    np.testing.assert_allclose(second.boxes[columns], first.boxes[rows], atol=tolerance_px)


@pytest.mark.parametrize("size_hw", [(90, 160), (160, 90), (33, 200), (375, 1242)])
def test_law_a_graph_of_any_size_gives_the_models_boxes_at_every_size(of_any_size, size_hw):
    run, out = of_any_size
    image = torch.from_numpy(np.random.default_rng(3).integers(0, 255, (3, *size_hw), dtype=np.uint8))
    expected = load_detector(run, device="cpu", precision="fp32").infer([image])[0]
    (found,) = OnnxModel(out).infer([image])
    assert len(expected.boxes) > 0
    same_boxes(expected, found)


def test_law_parity_on_real_frames(of_any_size):
    names = ("000000.png", "000001.png", "000011.png")  # 1224 x 370 and 1242 x 375
    if missing := [name for name in names if not (KITTI / name).is_file()]:
        pytest.skip(f"needs KITTI frames: {KITTI / missing[0]}")
    run, out = of_any_size
    detector, model = load_detector(run, device="cpu", precision="fp32"), OnnxModel(out)
    for name in names:
        frame = read_rgb(KITTI / name)
        image = torch.from_numpy(np.ascontiguousarray(frame.transpose(2, 0, 1)))
        expected = detector.infer([image])[0]
        assert len(expected.boxes) == 10
        same_boxes(expected, model.infer([image])[0])


def test_the_metadata_says_what_to_do_with_another_size(exported, of_any_size):
    fixed, free = (
        onnxruntime.InferenceSession(file).get_modelmeta().custom_metadata_map for _, file in (exported, of_any_size)
    )
    assert json.loads(fixed["input_size"]) == {"height": 90, "width": 160} and free["input_size"] == "any"
    assert "min(160 / w, 90 / h)" in fixed["other_sizes"] and "RGB (124, 116, 104)" in fixed["other_sizes"]
    assert "any height and width" in free["other_sizes"]
    assert json.loads(free["augmentation"])["preset"] == "none" and "augmentation" not in fixed


def test_law_agreeing_pairs_detections_once_within_the_tolerances():
    boxes = np.array([[0, 0, 10, 10], [0, 0, 10, 10], [20, 20, 30, 30]], np.float32)
    labels, scores = np.array([1, 2, 1]), np.array([0.9, 0.9, 0.5], np.float32)
    first = [boxes, labels, scores]
    assert export_onnx.agreeing(first, first) == [(0, 0), (1, 1), (2, 2)]
    swapped = [item[[2, 1, 0]] for item in first]
    assert export_onnx.agreeing(first, swapped) == [(0, 2), (1, 1), (2, 0)]
    assert export_onnx.agreeing(first, [boxes + np.float32(0.1), labels, scores]) == []
    assert export_onnx.agreeing(first, [boxes, labels, scores - np.float32(0.01)]) == []
    assert export_onnx.agreeing(first, [boxes[:1], labels[:1], scores[:1]]) == [(0, 0)]
    twice = [boxes[:1].repeat(2, 0), labels[:1].repeat(2), scores[:1].repeat(2)]
    assert export_onnx.agreeing(twice, first) == [(0, 0)]
    none = [boxes[:0], labels[:0], scores[:0]]
    assert export_onnx.agreeing(none, first) == export_onnx.agreeing(first, none) == []
    masks = np.zeros((3, 1, 4, 4), np.float32)
    other = masks.copy()
    other[1] = 0.5
    assert export_onnx.agreeing([*first, masks], [*first, other]) == [(0, 0), (2, 2)]


def test_letterbox_keeps_the_aspect_ratio_and_places_at_the_top_left():
    image = np.full((50, 200, 3), 9, np.uint8)
    canvas, scale = export_onnx.letterbox(image, 90, 160, (124, 116, 104))
    assert canvas.shape == (90, 160, 3) and scale == 0.8
    assert (canvas[:40] == 9).all() and (canvas[40:] == (124, 116, 104)).all()
    same, scale = export_onnx.letterbox(image, 50, 200, (0, 0, 0))
    assert scale == 1 and np.array_equal(same, image)


def test_an_image_of_another_size_is_refused_by_a_fixed_file(exported):
    model = OnnxModel(exported[1])
    assert model.categories == ("car", "person") and model.size_hw == (90, 160) and model.augmentation is None
    with pytest.raises(DataError, match=r"takes images of 160 x 90 px, this one is 96 x 64 px - export it with --any"):
        model.infer([torch.zeros((3, 64, 96), dtype=torch.uint8)])
    with pytest.raises(DataError, match=r"not a .* uint8 tensor"):
        model.infer([torch.zeros((3, 90, 160))])


def test_another_file_is_no_detector(tmp_path):
    (tmp_path / "text.onnx").write_text("not a graph")
    with pytest.raises(DataError, match="not an ONNX file"):
        OnnxModel(tmp_path / "text.onnx")
    with pytest.raises(DataError, match="cannot be read"):
        OnnxModel(tmp_path / "no.onnx")
    import onnx

    value = onnx.helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, [1])
    graph = onnx.helper.make_graph(
        [onnx.helper.make_node("Relu", ["x"], ["y"])],
        "g",
        [value],
        [onnx.helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, [1])],
    )
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 17)], ir_version=8)
    onnx.save(model, tmp_path / "foreign.onnx")
    with pytest.raises(
        DataError, match=r"not an ONNX file of this version of drivetl .*inputs: x \(1\) float; outputs"
    ):
        OnnxModel(tmp_path / "foreign.onnx")


def test_law_a_file_has_the_robustness_of_its_run(of_any_size, tmp_path):
    run, out = of_any_size
    data = read_planted(tmp_path / "data", n_images=8)
    data.categories = ("car", "person")
    options = {"conditions": "fog,night", "severities": [3], "workers": 0, "draws": 50}
    detectors = drivetl.load(run, device="cpu", precision="fp32"), str(out)
    theirs, ours = (drivetl.evaluate_robustness(detector, data, **options).document for detector in detectors)
    assert ours["run"]["name"] == "city" and ours["run"]["weights"] == theirs["run"]["weights"]
    assert [row["level"] for row in ours["cells"]] == [row["level"] for row in theirs["cells"]] == ["L3", "L3"]
    for first, second in zip([ours["clean"], *ours["cells"]], [theirs["clean"], *theirs["cells"]], strict=True):
        assert first["value"]["point"] == pytest.approx(second["value"]["point"], abs=1e-3)
        assert first["false_alarms_per_image"] == pytest.approx(second["false_alarms_per_image"], abs=0.2)


def test_an_export_is_a_detector_by_name(exported, tmp_path):
    image = torch.from_numpy(np.random.default_rng(7).integers(0, 255, (3, 90, 160), dtype=np.uint8))
    detector = open_detector(parse_spec(f"onnx:{exported[1]}"))
    assert isinstance(detector, OnnxModel) and detector.categories == ("car", "person")
    same_boxes(load_detector(exported[0], device="cpu", precision="fp32").infer([image])[0], detector.infer([image])[0])
    (tmp_path / "layout.yaml").write_text("decoder: boxes\n")
    with pytest.raises(DataError, match="has its layout in itself - leave the layout file out"):
        open_detector(parse_spec(f"onnx:{exported[1]}:{tmp_path / 'layout.yaml'}"))


def test_any_size_excludes_a_size(tmp_path, capsys):
    run = tiny_run(tmp_path / "run")
    words = ["export", "--run", str(run), "--out", str(tmp_path / "m.onnx"), "--any-size", "--height", "64"]
    assert main(words) == 2 and "--any-size with a height or width" in capsys.readouterr().err


def test_the_page_runs_and_its_example_is_short(of_any_size, tmp_path, monkeypatch, capsys):
    page = (ROOT / "docs" / "onnx.md").read_text("utf-8")
    blocks = re.findall(r"^```python\n(.*?)^```$", page, re.MULTILINE | re.DOTALL)
    assert sum(bool(line.strip()) for line in blocks[0].splitlines()) <= 15
    pixels = np.random.default_rng(5).integers(0, 255, (90, 160, 3), dtype=np.uint8)
    cv2.imwrite(str(tmp_path / "frame.png"), pixels[..., ::-1])
    (tmp_path / "city.onnx").write_bytes(of_any_size[1].read_bytes())
    monkeypatch.chdir(tmp_path)
    names = {"__name__": "page"}
    exec(compile(blocks[0].replace("score >= 0.3", "score >= 0"), "onnx.md", "exec"), names)
    lines = capsys.readouterr().out.splitlines()
    (found,) = OnnxModel(tmp_path / "city.onnx").infer([torch.from_numpy(pixels.transpose(2, 0, 1).copy())])
    assert len(lines) == len(found.boxes) > 0 and lines[0].startswith(("car", "person"))
    exec(compile(blocks[1], "onnx.md", "exec"), names)
    assert names["boxes"].max() <= 160.01 and len(names["boxes"]) > 0
    exec(compile(blocks[2], "onnx.md", "exec"), names)
    assert capsys.readouterr().out.startswith("[")
