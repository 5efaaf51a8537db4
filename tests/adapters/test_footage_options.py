"""The flags of the command: attributes, drives, taxonomies, splits, and errors of the user."""

from __future__ import annotations

import base64
import json
import zlib
from pathlib import Path

import footage_trees as trees
import pytest
from footage_trees import convert_tree, read_tree, write_tree

from drivetl.cli import main
from drivetl.coco.io import read_dataset
from drivetl.coco.taxonomy import parse_taxonomy
from drivetl.errors import ConfigError, DataError


@pytest.fixture
def yolo_root(tmp_path: Path) -> Path:
    return write_tree(tmp_path / "in", trees.yolo())


def csv_file(root: Path, text: str) -> Path:
    path = root / "attributes.csv"
    path.write_text(text)
    return path


def test_attributes_are_merged(yolo_root: Path) -> None:
    table = csv_file(
        yolo_root,
        "file_name,sequence,frame_index,weather,wet\ndrive_1/a.png,clip 9,7,fog,true\ndrive_2/c.png,,,rain,\n",
    )
    source, _ = read_tree("yolo", yolo_root, attributes=table)
    first, second, third = source.images
    assert (first.drive, first.frame_index, first.attributes) == ("clip 9", 7, {"weather": "fog", "wet": True})
    assert (second.drive, second.attributes) == ("drive_1", {})
    assert (third.drive, third.frame_index, third.attributes) == ("drive_2", None, {"weather": "rain"})


@pytest.mark.parametrize(
    ("text", "message", "line"),
    [
        ("file_name,weather\nnobody.png,fog\n", "no image is called 'nobody.png'", 2),
        ("file_name,weather\ndrive_1/a.png,fog\ndrive_1/a.png,rain\n", "is duplicated", 3),
        ("file_name,weather\ndrive_1/a.png,fog,3\n", "3 cells for 2 columns", 2),
        ("name,weather\n", "must be the column names", 1),
        ("", "must be the column names", 1),
        ("file_name,frame_index\ndrive_1/a.png,x\n", "frame_index 'x'", 2),
        ('file_name,weather\n"drive_1/a.png', "not a CSV", 2),
    ],
)
def test_attribute_errors_name_the_line(text: str, message: str, line: int, yolo_root: Path) -> None:
    with pytest.raises(DataError, match=message) as caught:
        read_tree("yolo", yolo_root, attributes=csv_file(yolo_root, text))
    assert caught.value.line == line and str(caught.value.file).endswith("attributes.csv")


def test_sequences_from_file_names(yolo_root: Path) -> None:
    source, _ = read_tree("yolo", yolo_root, sequence_from=r"_(\d)/")
    assert [image.drive for image in source.images] == ["1", "1", "2"]
    with pytest.raises(DataError, match=r"does not match 'drive_1/a\.png'"):
        read_tree("yolo", yolo_root, sequence_from=r"(drive_2)")
    for expression in ("(", "drive"):
        with pytest.raises(ConfigError, match="--sequence-from"):
            read_tree("yolo", yolo_root, sequence_from=expression)


def test_frames_are_numbered_by_their_names_when_unique(tmp_path: Path) -> None:
    names = ("a/x_07.png", "a/x_09.png", "b/x_07.png", "b/y_07.png", "c/x.png", "000001.png")
    files = trees.yolo() | {f"images/{name}": trees.blank_png() for name in names}
    source, _ = read_tree("yolo", write_tree(tmp_path, files))
    numbers = {image.file_name: image.frame_index for image in source.images}
    assert [numbers[name] for name in names] == [7, 9, None, None, None, None]


def test_a_taxonomy_maps_ignores_and_drops(yolo_root: Path) -> None:
    taxonomy = parse_taxonomy({"classes": {"vehicle": {"labels": ["car"]}}, "ignore": ["person"]})
    dataset, account = convert_tree("yolo", yolo_root, taxonomy)
    assert dataset.categories == ("vehicle",) and account.ignored == {"label person": 1}
    unknown = parse_taxonomy({"classes": {"vehicle": {"labels": ["cars"]}}, "drop": ["person"]})
    with pytest.raises(DataError, match="did you mean 'cars'") as caught:
        convert_tree("yolo", yolo_root, unknown)
    assert str(caught.value.file).endswith("labels/drive_1/a.txt") and caught.value.line == 1


def test_the_command_prints_its_classes_and_the_next_command(
    yolo_root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["convert-footage", "--format", "yolo", "--root", str(yolo_root), "--out", str(tmp_path / "out")]) == 0
    printed = capsys.readouterr().out
    assert (
        "no --taxonomy: the 2 labels of the footage are the classes: car, person" in printed
        and "drivetl audit" in printed
    )


def test_an_empty_root_is_an_error_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "empty").mkdir()
    arguments = ["convert-footage", "--format", "yolo", "--root", str(tmp_path / "empty"), "--out", str(tmp_path / "o")]
    assert main(arguments) == 2
    message = capsys.readouterr().err
    assert message.startswith("error: ") and str(tmp_path / "empty") in message


def test_names_outside_the_root_are_errors(tmp_path: Path) -> None:
    for name in ("../x.png", "/etc/x.png"):
        text = trees.coco()["instances.json"].decode().replace("drive_1/a.png", name)
        root = write_tree(tmp_path, trees.coco() | {"instances.json": text.encode()})
        with pytest.raises(DataError, match="absolute or leaves its folder"):
            convert_tree("coco", root)
        _, account = convert_tree("coco", root, on_error="skip")
        assert sum(account.rejected.values()) == 2  # the image's objects


def test_converting_the_output_again_changes_nothing(tmp_path: Path) -> None:
    root = write_tree(tmp_path / "in", trees.coco())
    assert main(["convert-footage", "--format", "coco", "--root", str(root), "--out", str(tmp_path / "one")]) == 0
    path = tmp_path / "one" / "all.json"
    assert main(["convert-footage", "--format", "coco", "--root", str(path), "--out", str(tmp_path / "two")]) == 0
    first, second = (json.loads((tmp_path / name / "all.json").read_text()) for name in ("one", "two"))
    assert first["images"] == second["images"] and first["annotations"] == second["annotations"]
    assert first["categories"] == second["categories"]


def test_loops_of_links_end(tmp_path: Path) -> None:
    root = write_tree(tmp_path / "in", trees.yolo())
    (root / "images" / "loop").symlink_to(root / "images", target_is_directory=True)
    source, _ = read_tree("yolo", root)
    assert len(source.images) == 3


def test_huge_image_headers_are_refused(tmp_path: Path) -> None:
    header = bytearray(trees.blank_png())
    header[16:24] = (60_000).to_bytes(4, "big") * 2
    header[29:33] = zlib.crc32(header[12:29]).to_bytes(4, "big")
    root = write_tree(tmp_path, trees.yolo() | {"images/drive_1/a.png": bytes(header)})
    with pytest.raises(DataError, match="200 megapixels"):
        read_tree("yolo", root)


def test_images_inside_labelme_files_are_written(tmp_path: Path) -> None:
    files = trees.labelme()
    data = files.pop("drive_1/a.png")
    document = json.loads(files["drive_1/a.json"]) | {"imageData": base64.b64encode(data).decode()}
    files["drive_1/a.json"] = json.dumps(document).encode()
    root, out = write_tree(tmp_path / "in", files), tmp_path / "out"
    arguments = ["convert-footage", "--format", "labelme", "--root", str(root), "--out", str(out)]
    assert main(arguments) == 0 and main(arguments) == 0
    dataset = read_dataset(out / "all.json")
    assert dataset.images_root == out / "images"
    assert all((dataset.images_root / image.file_name).is_file() for image in dataset.images)
    assert (out / "images" / "drive_1" / "a.png").read_bytes() == data
    document["imageData"] = base64.b64encode(b"not an image").decode()
    (root / "drive_1" / "a.json").write_text(json.dumps(document))
    assert main([*arguments[:-1], str(tmp_path / "other")]) == 2 and not (tmp_path / "other").exists()


def test_images_that_are_elsewhere(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    files = trees.cvat_images()
    root = write_tree(tmp_path / "in", {"annotations.xml": files.pop("annotations.xml")})
    arguments = ["convert-footage", "--format", "cvat", "--root", str(root)]
    assert main([*arguments, "--images", str(tmp_path / "typo"), "--out", str(tmp_path / "one")]) == 2
    assert "typo: no such folder" in capsys.readouterr().err
    assert main([*arguments, "--out", str(tmp_path / "one")]) == 0
    assert "warning: none of the images is on disk" in capsys.readouterr().err
    images = write_tree(tmp_path / "other_folder", files) / "images"
    assert main([*arguments, "--images", str(images), "--out", str(tmp_path / "two")]) == 0
    assert "none of the images" not in capsys.readouterr().err
    assert read_dataset(tmp_path / "two" / "all.json").images_root == images
