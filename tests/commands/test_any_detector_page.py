"""The worked examples of docs/any_detector.md run as they are shown, on small images with planted cars."""

import json
import re
from pathlib import Path

import numpy as np
import pytest
from planted import planted_dataset

from drivetl.cli import main

PAGE = (Path(__file__).parents[2] / "docs" / "any_detector.md").read_text("utf-8")
SHOWN = [line.split() for line in re.findall(r"^\$ drivetl (eval-robustness .*)$", PAGE, re.MULTILINE)]
QUICK = ["--draws", "60", "--workers", "0"]


def command(kind):
    """The first shown command of that kind of detector."""
    return next(words for words in SHOWN if words[2].startswith(f"{kind}:"))


def block(language, word):
    """The block of that language with that word in it."""
    blocks = re.findall(rf"^```{language}\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
    return next(text for text in blocks if word in text)


@pytest.fixture
def data(tmp_path, monkeypatch):
    """The folder of the page: its val.json has the planted images."""
    folder = planted_dataset(tmp_path / "d", n_images=6, n_drives=3).parent
    monkeypatch.chdir(folder)
    return folder


def results(folder):
    return json.loads((folder / "results.json").read_text())


def test_your_own_code(data):
    (data / "mine.py").write_text(block("python", "RedCars"))
    assert main([*command("python"), *QUICK]) == 0
    document = results(data / "of_mine")
    assert document["clean"]["value"]["point"] > 0.9 and document["run"]["name"] == "RedCars"
    assert [row["class"] for row in document["class_match"]["unknown"]] == ["pedestrian"]


def test_torchvision(data):
    words = command("torchvision")
    words[2] += ":random"
    quick = [*QUICK, "--conditions", "fog", "--severities", "3", "--images", "2"]
    assert main([*words, *quick, "--class-map", "person=pedestrian"]) == 0
    document = results(data / "of_ssdlite")
    assert document["run"]["name"] == "ssdlite320_mobilenet_v3_large" and document["protocol"]["verified"]
    assert document["clean"]["value"]["point"] < 0.1, "random weights find nothing"


def test_an_onnx_file_of_somebody_else(data):
    onnx = pytest.importorskip("onnx")
    pytest.importorskip("onnxruntime")
    write_yolox_of_red(onnx, data / "yolox.onnx")
    (data / "yolox.yaml").write_text(block("yaml", "yolox"))
    assert main([*command("onnx"), *QUICK]) == 0
    document = results(data / "of_yolox")
    assert document["run"]["name"] == "yolox" and not document["protocol"]["verified"]
    assert {row["condition"] for row in document["cells"]} == {"fog", "night"}
    assert document["clean"]["numbers"]["AP50"] > 0, "red cells of 8 px meet some of the cars"


def write_yolox_of_red(onnx, path):
    """YOLOX's layout for a (1, 3, 64, 64) BGR input: the stride 32 cells are full where the image is red."""
    from onnx import TensorProto, helper, numpy_helper

    n_cells = 8 * 8 + 4 * 4 + 2 * 2
    zeros = np.zeros((1, n_cells, 85), np.float32)
    zeros[0, :, :2], zeros[0, :, 4], zeros[0, :64, 5 + 2] = 0.5, 1, 1e-2  # class 2 of COCO is the car
    nodes = [
        helper.make_node("AveragePool", ["images"], ["pooled"], kernel_shape=[8, 8], strides=[8, 8]),
        helper.make_node("Split", ["pooled", "sizes"], ["b", "g", "r"], axis=1),
        helper.make_node("Sub", ["r", "g"], ["redness"]),
        helper.make_node("Relu", ["redness"], ["positive"]),
        helper.make_node("Reshape", ["positive", "column"], ["cells"]),
        helper.make_node("Pad", ["cells", "pads"], ["padded"]),
        helper.make_node("Mul", ["padded", "base"], ["scaled"]),
        helper.make_node("Clip", ["scaled", "low", "high"], ["scores"]),
        helper.make_node("Concat", ["head", "scores", "tail"], ["output"], axis=2),
    ]
    constants = {
        "sizes": np.array([1, 1, 1]),
        "column": np.array([1, 64, 1]),
        "pads": np.array([0, 0, 0, 0, n_cells - 64, 0]),
        "base": np.float32(1 / 255),
        "low": np.float32(0),
        "high": np.float32(1),
        "head": zeros[..., :7],
        "tail": zeros[..., 8:],
    }
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("images", TensorProto.FLOAT, [1, 3, 64, 64])],
        [helper.make_tensor_value_info("output", TensorProto.FLOAT, [1, n_cells, 85])],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    path.write_bytes(model.SerializeToString())
