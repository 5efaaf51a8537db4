"""`KIND:NAME` texts: what they name, and their mistakes."""

import pytest

from drivetl.detectors.spec import DetectorSpec, open_detector, parse_spec
from drivetl.errors import DrivetlError


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("mine.py", "m.onnx", "l.yaml"):
        (tmp_path / name).touch()
    (tmp_path / "found").mkdir()


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("results:found", ("results", "found", "")),
        ("python:mine.py:make", ("python", "mine.py", "make")),
        ("python:package.module:make", ("python", "package.module", "make")),
        ("torchvision:retinanet_resnet50_fpn", ("torchvision", "retinanet_resnet50_fpn", "")),
        ("torchvision:retinanet_resnet50_fpn:random", ("torchvision", "retinanet_resnet50_fpn", "random")),
        ("onnx:m.onnx", ("onnx", "m.onnx", "")),
        ("onnx:m.onnx:l.yaml", ("onnx", "m.onnx", "l.yaml")),
    ],
)
def test_a_text_names_a_detector(here, text, parts):
    assert parse_spec(text) == DetectorSpec(*parts)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("found", "is not a detector - write results:DIR, python:FILE.py:FACTORY, torchvision:NAME, onnx:FILE.onnx"),
        ("onnx:", "is not a detector"),
        ("onnx:n.onnx", r"n.onnx: cannot be read .* did you mean 'm.onnx'"),
        ("onnx:m.onnx:n.yaml", "n.yaml: cannot be read"),
        ("python:mine.py", "is not python:FILE.py:FACTORY"),
        ("python:mine.py:", "is not python:FILE.py:FACTORY"),
        ("python:yours.py:make", "yours.py: cannot be read"),
        ("torchvision:retinanet:", "is not torchvision:NAME"),
        ("results:nowhere", "nowhere: no such folder"),
    ],
)
def test_mistakes_are_told_before_anything_is_loaded(here, text, message):
    with pytest.raises(DrivetlError, match=message):
        parse_spec(text)


def test_results_cannot_detect(here):
    with pytest.raises(DrivetlError, match="a folder of results cannot detect"):
        open_detector(parse_spec("results:found"))
