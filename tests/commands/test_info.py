"""info and view on a dataset, and info on a run directory that is complete, incomplete or broken."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from drivetl.cli import main
from drivetl.coco.io import write_dataset
from drivetl.coco.records import Annotation, Dataset, IgnoreRegion, ImageRecord
from drivetl.files.images import read_rgb


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Three images: one with objects and an ignore region, one EMPTY, one with a single object."""
    root = tmp_path / "images"
    (root / "a").mkdir(parents=True)
    images = [
        ImageRecord(number, f"a/{number}.png", 160, 90, f"drive {number // 2}", number, {"weather": "rain"})
        for number in (1, 2, 3)
    ]
    for image in images:
        Image.fromarray(np.full((90, 160, 3), 90 + image.id, np.uint8)).save(root / image.file_name)
    images[0].annotations = [Annotation(1, (10, 20, 40, 30), 1200.0), Annotation(2, (70, 20, 20, 40), 800.0)]
    images[0].ignore_regions = [IgnoreRegion((100, 10, 40, 30), 1200.0)]
    images[2].annotations = [Annotation(1, (30, 20, 40, 30), 1200.0, attributes={"occluded": 2})]
    path = tmp_path / "data.json"
    write_dataset(Dataset(("car", "pedestrian"), images, root, {"source": "made up"}), path)
    return path


def printed(capsys: pytest.CaptureFixture[str]) -> str:
    """The rows of the table, cells separated by one blank."""
    return "\n".join(" ".join(line.replace("│", " ").split()) for line in capsys.readouterr().out.splitlines())


def test_info_counts_the_content_of_a_dataset(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["info", str(data)]) == 0
    text = printed(capsys)
    for row in (
        "source made up",
        "images 3",
        "without objects 1",
        "objects 3",
        "ignore regions 1",
        "car 1 2 2",
        "pedestrian 2 1 1",
        "image: weather rain (3)",
        "object: occluded 2 (1)",
        "images root exists yes",
    ):
        assert row in text.splitlines(), row


def test_info_shows_a_run_and_names_what_is_missing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = tmp_path / "run"
    (run / "checkpoints" / "best").mkdir(parents=True)
    (run / "checkpoints" / "best" / "model.safetensors").write_bytes(b"x" * 2500)
    (run / "checkpoints" / "best" / "model.json").write_text('{"spec": {"arch": "tiny", "categories": ["car"]}}')
    (run / "config.yaml").write_text("model:\n  arch: tiny\noptim:\n  epochs: 3\n")
    rows = [
        {"step": step, "AP": score, "AP50": score + 0.1, "AP50_per_class": {"car": score + 0.1}}
        for step, score in ((0, 0.1), (10, 0.4), (20, 0.3))
    ]
    (run / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows) + "{cut off")
    (run / "surgery.json").write_text(
        json.dumps({"classes": [{"name": "car", "status": "kept", "sources": ["car"]}], "counts": {"kept": 7}})
    )
    (run / "anchors.json").write_text('{"changed": false, "reason": "kept", "proposals": [1, 2]}')
    (run / "augmentation.json").write_text("{broken")
    assert main(["info", str(run)]) == 0
    captured = capsys.readouterr()
    text = "\n".join(" ".join(line.replace("│", " ").split()) for line in captured.out.splitlines())
    lines = text.splitlines()
    for row in (
        "model.arch tiny",
        "optim.epochs 3",
        "first 0 0.1 0.2",
        "best 10 0.4 0.5",
        "last 20 0.3 0.4",
        "car kept from car",
        "tensors kept 7",
        "reason kept",
        "checkpoints/best/model.safetensors 2.5 KB",
    ):
        assert row in lines, row
    assert "missing: taxonomy.yaml, provenance.json, README.md" in text
    assert "metrics.jsonl:4" in captured.err
    assert "augmentation.json:1" in captured.err


def test_info_of_an_empty_folder_or_nothing_is_the_users_mistake(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["info", str(tmp_path)]) == 2
    assert "not a run directory" in capsys.readouterr().err
    assert main(["info", str(tmp_path / "absent")]) == 2


def test_view_writes_a_sheet_and_single_images(data: Path, tmp_path: Path) -> None:
    out = tmp_path / "pictures"
    assert main(["view", str(data), "--out", str(out), "--tile-width", "320"]) == 0
    assert sorted(path.name for path in (out / "images").iterdir()) == [f"a__{n}__{n}.png" for n in (1, 2, 3)]
    first, empty = (read_rgb(out / "images" / f"a__{n}__{n}.png") for n in (1, 2))
    assert first.shape == (540, 960, 3)
    assert (first != 91).any()
    assert (empty == 92).all()  # no objects: nothing is drawn
    assert read_rgb(out / "sheet.png").shape[1] >= 320
    assert main(["view", str(data), "--out", str(out)]) == 2  # never overwritten


def test_view_to_one_file_with_predictions(data: Path, tmp_path: Path) -> None:
    results = tmp_path / "results.json"
    found = [
        {"image_id": 2, "category_id": 1, "bbox": [50, 30, 40, 30], "score": 0.9},
        {"image_id": 2, "category_id": 2, "bbox": [5, 5, 20, 20], "score": 0.1},
    ]
    results.write_text(json.dumps(found))
    plain, drawn, strict = (tmp_path / f"{name}.png" for name in ("plain", "drawn", "strict"))
    common = ["view", str(data), "--images", "3"]
    assert main([*common, "--out", str(plain)]) == 0
    assert main([*common, "--out", str(drawn), "--predictions", str(results)]) == 0
    assert main([*common, "--out", str(strict), "--predictions", str(results), "--min-score", "0.95"]) == 0
    assert (read_rgb(drawn) != read_rgb(plain)).any()
    assert (read_rgb(drawn) != read_rgb(strict)).any()
    assert main([*common, "--out", str(drawn)]) == 2


def test_view_names_the_image_that_cannot_be_shown(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "images" / "a" / "2.png").unlink()
    assert main(["view", str(data), "--out", str(tmp_path / "out")]) == 2
    assert "2.png" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
    Image.new("RGB", (80, 90)).save(tmp_path / "images" / "a" / "2.png")
    assert main(["view", str(data), "--out", str(tmp_path / "out")]) == 2
    assert "80 x 90" in capsys.readouterr().err
    assert main(["view", str(data), "--out", str(tmp_path / "out"), "--images", "0"]) == 2


def test_law_view_names_file_and_image_of_a_broken_mask(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    document = json.loads(data.read_text())
    document["annotations"][0]["segmentation"] = {"size": [90, 160], "counts": [5, 5]}
    data.write_text(json.dumps(document))
    assert main(["view", str(data), "--out", str(tmp_path / "out")]) == 2
    assert f"error: {data}: image 'a/1.png': RLE counts do not fill 90 x 160 px - fix" in capsys.readouterr().err


@pytest.mark.parametrize("command", [["info"], ["audit"], ["view", "--out", "x.png"], ["evaluate", "--gt"]])
def test_law_a_path_that_no_system_accepts_is_an_error_line(command, tmp_path, monkeypatch, capsys) -> None:
    monkeypatch.chdir(tmp_path)
    more = ["--predictions", "r.json"] if command[0] == "evaluate" else ["--out", "o"] if command == ["audit"] else []
    assert main([*command, "n" * 5000, *more]) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: nnn") and error.count("\n") == 1 and len(error) < 600


DEEP = "[" * 900 + "]" * 900
DEEP_OBJECT = '{"a":' * 900 + "1" + "}" * 900
HOSTILE = {
    "deep list": f'{{"a": {DEEP}, "classes": {DEEP}, "spec": {DEEP}}}',
    "deeper than the parser reads": f'{{"a": {"[" * 5000}{"]" * 5000}}}',
    "deep object": DEEP_OBJECT,
    "wide object": json.dumps({f"key {number}": number for number in range(5000)}),
    "long integer": f'{{"AP": {"9" * 5000}, "AP50": 1}}',
    "large integer": f'{{"AP": {"9" * 400}, "epoch": 0}}',
    "not finite": '{"AP": NaN, "AP50": Infinity, "epoch": -Infinity}',
    "wrong types": '{"classes": 5, "counts": [1], "spec": 3, "AP": [], "AP50_per_class": 4, "ancestors": {}}',
    "wrong types inside": '{"classes": [1, {"sources": 5, "name": [], "status": {}}, {"sources": [[1]]}], "counts": 7}',
    "control characters": '{"a\\u001b[31m": "\\u001b]0;x\\u0007", "\\ud800": "\\ud800", "b[/b]": "\\\\[/c]"}',
    "not UTF-8": b"\xff\xfe{}",
    "cut off": '{"a": ',
    "empty": "",
    "aliases": "a: &a [1,1,1,1,1,1,1,1,1]\n"
    + "".join(f"{b}: &{b} [{','.join(['*' + a] * 9)}]\n" for a, b in zip("abcdefgh", "bcdefghi", strict=True)),
}


@pytest.mark.parametrize("content", HOSTILE.values(), ids=HOSTILE)
def test_info_shows_what_it_can_of_a_hostile_run(tmp_path, capfd, content):
    """No file of a run ends `info`: one that cannot be read is a warning."""
    run = tmp_path / "run"
    (run / "checkpoints" / "best").mkdir(parents=True)
    data = content if isinstance(content, bytes) else content.encode()
    for name in (
        "surgery.json",
        "anchors.json",
        "augmentation.json",
        "provenance.json",
        "metrics.jsonl",
        "config.yaml",
    ):
        (run / name).write_bytes(data)
    (run / "checkpoints" / "best" / "model.json").write_bytes(data)
    assert main(["info", str(run)]) == 0
    shown = capfd.readouterr()
    assert "config.yaml" in shown.out and "Traceback" not in shown.err and "\x1b" not in shown.out + shown.err
    assert len(shown.out) < 200_000


def test_info_shows_a_dataset_with_a_deep_source(data, capsys):
    document = json.loads(data.read_text())
    text = data.read_text().replace(json.dumps(document["info"]["drivetl"]["source"]), "[" * 1000 + "]" * 1000)
    data.write_text(text)
    assert main(["info", str(data)]) == 0
    assert "source list too large to show" in printed(capsys)
