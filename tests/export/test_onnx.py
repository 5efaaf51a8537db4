"""The exported file gives the model's boxes, classes and scores, and has metadata."""

import json

import numpy as np
import pytest
import torch

from drivetl.cli import main
from drivetl.errors import ConfigError
from drivetl.export import onnx as export_onnx
from drivetl.models.build import ModelSpec, build_model
from drivetl.models.checkpoint import load_detector, save_model
from drivetl.models.weights import portable_state

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
    assert main(["export", "--run", str(run), "--out", str(out), "--height", "90", "--width", "160"]) == 0
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
    monkeypatch.setattr(export_onnx, "_largest_difference", lambda a, b: 1.0)
    with pytest.raises(export_onnx.DrivetlError, match="differs from the model by 1 px"):
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
