"""Whatever happens to a label file, nobody sees a traceback and nothing is lost silently."""

from __future__ import annotations

import re
import tempfile
import xml.etree.ElementTree as ElementTree
from collections.abc import Callable
from pathlib import Path
from typing import Any

import orjson
import pytest
from footage_trees import TREES, Files, convert_tree, cvat_video, write_tree
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from drivetl.coco import masks
from drivetl.coco.io import read_dataset, write_dataset
from drivetl.errors import DrivetlError

CASES = {name: (name, tree) for name, tree in TREES.items()} | {"cvat video": ("cvat", cvat_video)}

VALUES = [
    b"NaN",
    b"1e308",
    b"-1e308",
    b"-1",
    b"0",
    b"0.5",
    b"99999999999999999999999",
    b"1e999",
    b"",
    b"true",
    b"null",
    b'"x"',
    b"[]",
    b"{}",
    b"[[]]",
    b"\xff",
    b"\x00",
    b"../../x",
    b"/etc/passwd",
    "\u0661".encode(),
    b"-",
    b"1_000",
]

NUMBER = re.compile(rb"-?\d+(?:\.\d+)?")
TOKEN = re.compile(rb'"[^"]*"|[\w.]+|\[[^\[\]]*\]|\{[^{}]*\}')


@st.composite
def mutations(draw: st.DrawFn, files: Files) -> Files:
    """The tree with one label file damaged: cut off, a token replaced, bytes changed, doubled or removed."""
    name = draw(st.sampled_from(sorted(name for name in files if not name.endswith(".png"))))
    content = files[name]
    kind = draw(st.sampled_from(["cut", "number", "token", "byte", "double", "remove"]))
    if kind in ("number", "token"):
        places = list((NUMBER if kind == "number" else TOKEN).finditer(content))
        if places:
            place = draw(st.sampled_from(places))
            value = draw(st.sampled_from(VALUES))
            content = content[: place.start()] + value + content[place.end() :]
    else:
        at = draw(st.integers(0, len(content)))
        to = min(len(content), at + draw(st.integers(1, 60)))
        middle = {
            "cut": None,
            "byte": bytes([draw(st.integers(0, 255))]) + content[at + 1 :],
            "double": content[at:to] + content[at:],
            "remove": content[to:],
        }[kind]
        content = content[:at] + (middle if middle is not None else b"")
    return files | {name: content}


def listed(format_name: str, files: Files) -> int:
    """The objects in label files, as far as their syntax is sound, counted without the readers."""
    return sum(
        COUNTS[format_name](content)
        for name, content in files.items()
        if name.endswith(LABELS[format_name]) and not name.endswith(("classes.txt", "data.yaml"))
    )


def lines_of(content: bytes) -> int:
    try:
        return sum(bool(line.strip()) for line in content.decode().split("\n"))
    except UnicodeDecodeError:  # a file that is no text is one unreadable record
        return 0


def json_of(content: bytes) -> Any:
    try:
        return orjson.loads(content.removeprefix(b"\xef\xbb\xbf"))
    except ValueError:
        return None


def length(value: object, key: str) -> int:
    found = value.get(key) if isinstance(value, dict) else None
    return len(found) if isinstance(found, list) else 0


def frames_of(content: bytes) -> int:
    document = json_of(content)
    frames = document.get("frames") if isinstance(document, dict) else document
    return sum(length(frame, "labels") for frame in frames) if isinstance(frames, list) else 0


def elements_of(content: bytes, path: str) -> int:
    try:
        return len(ElementTree.fromstring(content).findall(path))
    except (ElementTree.ParseError, ValueError, LookupError):
        return 0


COUNTS: dict[str, Callable[[bytes], int]] = {
    "labelme": lambda content: length(json_of(content), "shapes"),
    "bdd100k": frames_of,
    "cityscapes": lambda content: length(json_of(content), "objects"),
    "nuimages": lambda content: len(found) if isinstance(found := json_of(content), list) else 0,
    "coco": lambda content: length(json_of(content), "annotations"),
    "voc": lambda content: elements_of(content, "object"),
    "cvat": lambda content: sum(elements_of(content, f"image/{tag}") for tag in ("box", "polygon", "mask", "points")),
    "yolo": lines_of,
    "mot": lines_of,
}
LABELS = {
    "nuimages": "object_ann.json",
    "voc": ".xml",
    "cvat": ".xml",
    "yolo": ".txt",
    "mot": "gt.txt",
    "labelme": ".json",
    "bdd100k": ".json",
    "cityscapes": ".json",
    "coco": ".json",
}
"""Format -> how the names of its label files end."""


def check(format_name: str, files: Files, on_error: str) -> bool:
    """Convert; True when it went through. The account balances (convert_tree), nothing that the files list is missing
    from it, and the output is sound."""
    with tempfile.TemporaryDirectory() as name:
        root = write_tree(Path(name) / "in", files)
        try:
            dataset, account = convert_tree(format_name, root, on_error=on_error)
        except DrivetlError as error:
            assert str(error)
            return False
        assert sum(account.read.values()) >= listed(format_name, files), account.as_dict()
        path = Path(name) / "out.json"
        write_dataset(dataset, path)
        for image in read_dataset(path).images:
            for item in [*image.annotations, *image.ignore_regions]:
                x, y, w, h = item.bbox_xywh
                assert w > 0 and h > 0 and x >= 0 and y >= 0
                assert x + w <= image.width + 1e-6 and y + h <= image.height + 1e-6
                if item.segmentation:
                    assert masks.decode(item.segmentation, image.height, image.width).shape == (
                        image.height,
                        image.width,
                    )
    return True


@pytest.mark.parametrize("case", CASES)
@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_damaged_files_are_errors_or_accounted_for(case: str, data: st.DataObject) -> None:
    format_name, tree = CASES[case]
    files = data.draw(mutations(tree()))
    clean = check(format_name, files, "stop")
    skipped = check(format_name, files, "skip")
    assert skipped or not clean  # whatever passes without skipping passes with it


BROKEN_SIZES = {
    "cvat": (b'width="40"', b'width="x"'),
    "voc": (b"<width>40", b"<width>x"),
    "labelme": (b'"imageWidth": 40', b'"imageWidth": "x"'),
    "bdd100k": (b'"width": 40', b'"width": "x"'),
    "cityscapes": (b'"imgWidth": 40', b'"imgWidth": "x"'),
    "nuimages": (b'"width": 40', b'"width": "x"'),
    "mot": (b"imWidth=40", b"imWidth=x"),
    "coco": (b'"width": 40', b'"width": "x"'),
    "yolo": (b"\x89PNG", b"broken"),
}


@pytest.mark.parametrize("format_name", BROKEN_SIZES)
def test_objects_of_a_broken_image_are_rejected_one_by_one(format_name: str, tmp_path: Path) -> None:
    """Objects in = objects out + ignored + dropped + rejected, also when their image falls as a whole."""
    files = TREES[format_name]()
    if format_name == "mot":
        files |= {name.replace("M-01", "M-02"): content for name, content in files.items()}
    _, whole = convert_tree(format_name, write_tree(tmp_path / "whole", files))
    before, after = BROKEN_SIZES[format_name]
    name = min(name for name, content in files.items() if before in content)
    broken = files | {name: files[name].replace(before, after, 1)}
    with pytest.raises(DrivetlError):
        convert_tree(format_name, write_tree(tmp_path / "broken", broken))
    dataset, account = convert_tree(format_name, write_tree(tmp_path / "broken", broken), on_error="skip")
    empties = account.read.pop("unreadable record", 0)  # broken images that held no object count as one
    assert account.read == whole.read and sum(account.rejected.values()) >= 1
    assert len(account.rejections) >= 1 and empties <= len(account.rejections)
    assert all(image.width == 40 for image in dataset.images)
