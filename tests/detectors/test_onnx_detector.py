"""Foreign ONNX files: what is put in, where their boxes lie in the image, and what is told of one that does not fit."""

import importlib.util

import numpy as np
import pytest
import torch

from drivetl.detectors.onnx_detector import onnx_detector, place
from drivetl.detectors.onnx_layout import Layout, read_layout
from drivetl.errors import ConfigError, DataError

onnx = pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")
from onnx import TensorProto, helper, numpy_helper  # noqa: E402

BASE = {"decoder": "boxes", "classes": "[car, bus]"}


def write_graph(path, outputs, *, shape=(1, 3, 40, 80), kind=TensorProto.FLOAT, opset=17, names=None, axes=(2, 3)):
    """A graph with constant outputs; `scores: None` is the mean of each channel of the input, so it shows the input."""
    nodes, infos, constants = [], [], []
    for name, value in outputs.items():
        if value is None:
            nodes += [
                helper.make_node("Cast", ["images"], ["floats"], to=TensorProto.FLOAT),
                helper.make_node("ReduceMean", ["floats"], [name], axes=list(axes), keepdims=0),
            ]
            infos.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, 3]))
        else:
            array = np.asarray(value)
            array = array.astype(np.float32) if array.dtype.kind == "f" else array.astype(np.int64)
            constants.append(numpy_helper.from_array(array, f"{name}_value"))
            nodes.append(helper.make_node("Identity", [f"{name}_value"], [name]))
            infos.append(helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(array.dtype), array.shape))
    images = helper.make_tensor_value_info("images", kind, list(shape))
    graph = helper.make_graph(nodes, "g", [images], infos, constants)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)
    helper.set_model_props(model, names or {})
    path.write_bytes(model.SerializeToString())
    return path


def write_layout(path, **keys):
    path.with_suffix(".yaml").write_text("".join(f"{key}: {value}\n" for key, value in keys.items()))
    return path


THREE = {"boxes": [[8.0, 4, 24, 20]] * 3, "labels": [0, 1, 1], "scores": None}
"""A box per colour channel, its score is the channel's mean."""


def solid(height, width, colour):
    return torch.tensor(colour, dtype=torch.uint8)[:, None, None].expand(3, height, width).contiguous()


def found_in(path, image, **keys):
    return onnx_detector(write_layout(path, **BASE | keys)).infer([image])[0]


@pytest.mark.parametrize(
    ("keys", "scores"),
    [
        ({}, [0.8, 0.4, 0.2]),
        ({"colour": "BGR"}, [0.8, 0.4, 0.2]),
        ({"mean": "[0.2, 0, 0]", "std": "[2, 1, 1]"}, [0.4, 0.3, 0.2]),
        ({"max_detections": 1}, [0.8]),
        ({"score_threshold": 0.3}, [0.8, 0.4]),
    ],
)
def test_the_input_is_what_the_layout_says(tmp_path, keys, scores):
    path = write_graph(tmp_path / "m.onnx", THREE)
    found = found_in(path, solid(40, 80, (204, 102, 51)), **keys)
    np.testing.assert_allclose(found.scores, scores, atol=1e-5)
    first = 2 if {"colour", "mean"} & keys.keys() else 1  # the best channel is then the last, or the second
    assert found.labels[0] == first
    np.testing.assert_allclose(found.boxes, [[8, 4, 24, 20]] * len(scores))


def test_bytes_halves_and_channels_last(tmp_path):
    image = solid(40, 80, (1, 0, 0))
    half = write_graph(tmp_path / "half.onnx", THREE, kind=TensorProto.FLOAT16)
    assert found_in(half, image, white=255).scores.tolist() == [1.0]
    plain = write_graph(tmp_path / "bytes.onnx", THREE, kind=TensorProto.UINT8)
    assert found_in(plain, image).scores.tolist() == [1.0]
    last = write_graph(tmp_path / "last.onnx", THREE, shape=(1, 40, 80, 3), axes=(1, 2))
    assert found_in(last, image, axes="NHWC", white=255).scores.tolist() == [1.0]


@pytest.mark.parametrize(
    ("size_hw", "keys", "box"),
    [
        ((80, 160), {}, [16, 8, 48, 40]),  # half the size
        ((80, 80), {}, [0, 8, 8, 40]),  # 40 x 40 in the middle of 80 x 40: 20 px to the left
        ((80, 80), {"place": "top_left"}, [16, 8, 48, 40]),
        ((80, 80), {"resize": "stretch"}, [8, 8, 24, 40]),
        ((20, 80), {}, [8, 0, 24, 10]),  # 20 rows in the middle of 40: 10 px below the top
        ((20, 80), {"place": "top_left"}, [8, 4, 24, 20]),
    ],
)
def test_boxes_are_of_the_image(tmp_path, size_hw, keys, box):
    outputs = THREE | {"scores": [0.5, 0.4, 0.3]}
    found = found_in(write_graph(tmp_path / "m.onnx", outputs), solid(*size_hw, (9, 9, 9)), **keys)
    np.testing.assert_allclose(found.boxes, [box] * 3, atol=1e-5)


@pytest.mark.parametrize("place_at", ["centre", "top_left"])
@pytest.mark.parametrize("size_hw", [(375, 1242), (1242, 375), (7, 900), (416, 416)])
def test_law_the_padding_is_grey_and_the_image_is_where_it_is_said(size_hw, place_at):
    form = Layout(decoder="boxes", place=place_at, pad=7)
    canvas, placed = place(np.full((*size_hw, 3), 200, np.uint8), (416, 352), form)
    ends = np.array(size_hw[::-1]) * placed.scale_xy + placed.offset_xy
    left, top, right, bottom = (*placed.offset_xy, *np.round(ends).astype(int))
    assert canvas.shape == (416, 352, 3) and (canvas[top:bottom, left:right] == 200).all()
    assert (canvas == 7).sum() == canvas.size - 3 * (bottom - top) * (right - left)
    np.testing.assert_allclose(ends, np.round(ends), atol=1e-6)


def test_a_box_in_the_padding_is_left_out_and_names_that_are_no_class_too(tmp_path):
    outputs = {"boxes": [[0.0, 0, 10, 5], [30, 15, 50, 25], [30, 15, 50, 25]], "labels": [0, 1, 2], "scores": [0.5] * 3}
    path = write_graph(tmp_path / "m.onnx", outputs)
    layout = write_layout(path, decoder="boxes", classes="[__background__, N/A, car]")
    detector = onnx_detector(layout)
    (found,) = detector.infer([solid(20, 80, (9, 9, 9))])
    assert detector.categories == ("car",) and found.labels.tolist() == [1]
    (found,) = onnx_detector(write_layout(path, decoder="boxes", classes="[a, b, c]")).infer([solid(20, 80, (9, 9, 9))])
    assert found.labels.tolist() == [2, 3]


def test_nms_is_per_class_and_of_the_dense_decoders(tmp_path):
    table = np.array([[20, 20, 8, 8, 0.9, 0], [21, 20, 8, 8, 0.8, 0], [20, 20, 8, 8, 0, 0.7]], np.float32).T[None]
    path = write_graph(tmp_path / "m.onnx", {"output0": table})
    keys = {"decoder": "ultralytics", "classes": "[car, bus]"}
    image = solid(40, 80, (9, 9, 9))
    (found,) = onnx_detector(write_layout(path, **keys)).infer([image])
    np.testing.assert_allclose(found.scores, [0.9, 0.7])  # 7 x 8 of 72 px are shared: IoU 0.78
    (found,) = onnx_detector(write_layout(path, **keys, nms_iou=0.8)).infer([image])
    np.testing.assert_allclose(found.scores, [0.9, 0.8, 0.7])


def test_an_ultralytics_export_names_its_classes(tmp_path):
    path = write_graph(tmp_path / "m.onnx", {"output0": np.zeros((1, 6, 4))}, names={"names": "{0: 'car', 1: 'bus'}"})
    assert onnx_detector(write_layout(path, decoder="ultralytics")).categories == ("car", "bus")
    (tmp_path / "names.txt").write_text("one\ntwo\n")
    assert onnx_detector(write_layout(path, decoder="ultralytics", classes="names.txt")).categories == ("one", "two")


def test_the_layout_may_be_another_file_and_is_part_of_the_weights_hash(tmp_path):
    path = write_graph(tmp_path / "m.onnx", THREE)
    other = write_layout(tmp_path / "layout.x", **BASE).with_suffix(".yaml")
    first, second = onnx_detector(path, other), onnx_detector(write_layout(path, **BASE, pad=3))
    assert first.name == "m" and first.categories == ("car", "bus") and len(first.weights_hash) == 16
    assert first.weights_hash != second.weights_hash


def test_threads_are_those_of_torch(tmp_path):
    path = write_layout(write_graph(tmp_path / "m.onnx", THREE), **BASE)
    options = onnx_detector(path).detector.session.get_session_options()
    assert options.intra_op_num_threads == torch.get_num_threads()
    assert onnx_detector(path, threads=3).detector.session.get_session_options().intra_op_num_threads == 3


def test_a_file_without_a_layout_shows_what_it_has(tmp_path):
    path = write_graph(tmp_path / "m.onnx", {"output0": np.zeros((1, 6, 4))})
    with pytest.raises(DataError) as caught:
        onnx_detector(path)
    text = str(caught.value)
    assert "inputs: images (1, 3, 40, 80) float; outputs: output0 (1, 6, 4) float" in text and "m.yaml next to" in text
    assert all(f"{decoder}: " in text for decoder in ("boxes", "ultralytics", "detr", "yolox")) and "\n" not in text


@pytest.mark.parametrize(
    ("outputs", "keys", "message"),
    [
        (THREE, {"decoder": "yolox"}, r"decoder yolox: 3 outputs.*outputs: boxes \(3, 4\).*known: boxes: "),
        (THREE | {"scores": [np.nan, 0, 0]}, {}, "scores contain NaN or infinity"),
        (THREE | {"scores": [9.0, 0.5, 0.5]}, {}, "scores from 0.5 to 9 - return 0..1: logits need a sigmoid"),
        (THREE | {"scores": [0.5] * 3, "labels": [0, 5, 1]}, {}, "labels from 0 to 5, for 2 names"),
        (THREE | {"scores": [0.5] * 3, "boxes": [[np.inf, 0, 0, 0]] * 3}, {}, "boxes contain NaN or infinity"),
    ],
)
def test_outputs_that_do_not_fit(tmp_path, outputs, keys, message):
    path = write_graph(tmp_path / "m.onnx", outputs)
    with pytest.raises(DataError, match=message) as caught:
        found_in(path, solid(40, 80, (9, 9, 9)), **keys)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("decoder: yolo\n", "m.yaml:1: decoder is 'yolo', it must be boxes, ultralytics, detr or yolox - did you mean"),
        ("decoder: boxes\nclases: coco80\n", "m.yaml:2: unknown key 'clases' - did you mean 'classes'"),
        ("decoder: boxes\nclasses: coco81\n", "m.yaml: classes: no such file 'coco81' - write coco80"),
        ("decoder: boxes\nclasses: [a, a]\n", "m.yaml: classes: 2 names, empty or not unique"),
        ("decoder: boxes\n", "m.yaml: nothing names the classes"),
        ("decoder: boxes\nclasses: [a]\nsize: [64, 64]\n", r"size \[64, 64\] and axes NCHW do not fit the graph"),
        ("decoder: boxes\nclasses: [a]\naxes: NHWC\n", "size None and axes NHWC do not fit the graph"),
        ("decoder: boxes\nclasses: [a]\nstd: [1, 0, 1]\n", "m.yaml:3: std contains 0"),
        ("decoder: detr\nclasses: [a]\nbox_unit: fraction\n", "m.yaml:3: box_unit is for boxes only"),
        ("decoder: boxes\nclasses: [a]\npad: 300\n", "m.yaml:3: pad is 300, it must be a whole number from 0 to 255"),
        ("decoder: [\n", "m.yaml:2: not valid YAML"),
        ("", "m.yaml: expected `key: value` lines"),
    ],
)
def test_a_layout_with_a_mistake(tmp_path, text, message):
    path = write_graph(tmp_path / "m.onnx", THREE)
    path.with_suffix(".yaml").write_text(text)
    with pytest.raises(DataError, match=message):
        onnx_detector(path)


def test_graphs_that_cannot_be_used(tmp_path):
    flat = write_layout(write_graph(tmp_path / "flat.onnx", {"boxes": [[0.0, 0, 1, 1]]}, shape=(1, 3)), **BASE)
    with pytest.raises(DataError, match=r"not a graph with one input of one image; inputs: images \(1, 3\) float"):
        onnx_detector(flat)
    batch = write_layout(write_graph(tmp_path / "batch.onnx", THREE, shape=(8, 3, 40, 80)), **BASE)
    with pytest.raises(DataError, match="not a graph with one input of one image"):
        onnx_detector(batch)
    free = write_layout(write_graph(tmp_path / "free.onnx", THREE, shape=("n", 3, "h", "w")), **BASE)
    with pytest.raises(DataError, match=r"no size, and the graph takes any; inputs: images \(n, 3, h, w\)"):
        onnx_detector(free)
    assert onnx_detector(write_layout(free, **BASE, size="[40, 80]")).detector.size_hw == (40, 80)


def test_files_that_are_no_graphs(tmp_path, monkeypatch):
    path = tmp_path / "m.onnx"
    path.write_bytes(write_graph(tmp_path / "whole.onnx", THREE).read_bytes()[:-40])
    with pytest.raises(DataError, match=r"m.onnx: not an ONNX file .* - it may be damaged"):
        onnx_detector(path)
    write_graph(path, THREE, opset=999)
    with pytest.raises(DataError, match=r"its version is not supported .* - export it with an older opset"):
        onnx_detector(path)
    with pytest.raises(DataError, match="cannot be read"):
        onnx_detector(tmp_path / "nowhere.onnx")
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ConfigError, match=r"needs onnxruntime - pip install 'drivetl\[onnx\]'"):
        onnx_detector(path)


def test_the_example_in_the_docstring_is_a_layout(tmp_path):
    import drivetl.detectors.onnx_layout as module

    (tmp_path / "m.yaml").write_text(module.__doc__.split("\n\n", 1)[1])
    layout = read_layout(tmp_path / "m.yaml")
    assert (layout.decoder, layout.place, layout.white, layout.size) == ("yolox", "top_left", 255, [416, 416])
