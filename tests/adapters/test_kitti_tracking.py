"""KITTI tracking data: sequences, frames, tracks, and back."""

import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from kitti_trees import CAR, DONT_CARE, PEDESTRIAN, png

from drivetl.adapters.kitti_tracking import parse_track_line, read_kitti_tracking, write_track_labels
from drivetl.cli import main
from drivetl.coco.io import read_dataset
from drivetl.coco.taxonomy import load_taxonomy
from drivetl.convert.build import Account, build_dataset
from drivetl.errors import DataError
from drivetl.files.shipped import shipped

WORDS = ["nan", "-inf", "1e308", " ", "\n", "Car", "-1", "\x00", "é", "99999999999999999999", "1_0", "\t\n "]


def write_sequences(root: Path, sequences: dict[str, dict[int, list[str]]]) -> Path:
    """{sequence: {frame: lines without the frame number}}; every frame has an image."""
    (root / "training" / "label_02").mkdir(parents=True)
    for sequence, frames in sequences.items():
        folder = root / "training" / "image_02" / sequence
        folder.mkdir(parents=True)
        for frame in frames:
            (folder / f"{frame:06d}.png").write_bytes(png())
        lines = [f"{frame} {line}\n" for frame, lines in frames.items() for line in lines]
        (root / "training" / "label_02" / f"{sequence}.txt").write_text("".join(lines))
    return root


def tree(root: Path) -> Path:
    return write_sequences(
        root,
        {
            "0000": {0: [f"1 {CAR}", f"-1 {DONT_CARE}"], 1: [], 2: [f"1 {CAR}", f"2 {PEDESTRIAN}"]},
            "0001": {0: [f"7 {PEDESTRIAN}"], 1: [f"7 {PEDESTRIAN}"]},
            "0004": {0: [f"3 {CAR}"], 1: []},
        },
    )


def test_drives_frames_and_tracks_are_kept_and_the_split_is_by_drive(tmp_path):
    out = tmp_path / "out"
    assert main(["convert-kitti", "--root", str(tree(tmp_path / "k")), "--out", str(out)]) == 0
    data = read_dataset(out / "all.json")
    assert [(image.drive, image.frame_index) for image in data.images] == [
        ("0000", 0),
        ("0000", 1),
        ("0000", 2),
        ("0001", 0),
        ("0001", 1),
        ("0004", 0),
        ("0004", 1),
    ]
    assert [item.attributes["track_id"] for item in data.images[2].annotations] == [1, 2]
    assert data.images[0].ignore_regions[0].attributes["track_id"] == -1
    assert data.images[1].annotations == []
    summary = json.loads((out / "summary.json").read_text())
    assert summary["source"] == "kitti_tracking" and summary["split"]["method"] == "sequence"
    assert summary["leaks"]["shared_sequences"] == []


def test_label_files_are_restored_line_by_line(tmp_path):
    root, out = tree(tmp_path / "k"), tmp_path / "out"
    assert main(["convert-kitti", "--root", str(root), "--out", str(out)]) == 0
    assert write_track_labels(read_dataset(out / "all.json"), tmp_path / "back") == 7

    def lines(path: Path) -> list[tuple[object, ...]]:
        rows = [line.split() for line in path.read_text().splitlines()]
        return sorted((int(f), int(t), name, *map(float, rest)) for f, t, name, *rest in rows)

    for path in (root / "training" / "label_02").iterdir():
        assert lines(tmp_path / "back" / path.name) == lines(path)


def test_without_images_a_size_is_required(tmp_path):
    folder = tmp_path / "k" / "label_02"
    folder.mkdir(parents=True)
    (folder / "0003.txt").write_text(f"4 9 {CAR}\n")
    with pytest.raises(DataError, match="--image-size"):
        list(read_kitti_tracking(tmp_path / "k", Account()))
    (image,) = read_kitti_tracking(tmp_path / "k", Account(), image_size_wh=(1242, 375))
    assert (image.file_name, image.frame_index, image.width) == ("image_02/0003/000004.png", 4, 1242)


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("0", "1 fields instead of 17"),
        (f"x 1 {CAR}", "frame is 'x'"),
        (f"-3 1 {CAR}", "frame is '-3'"),
        (f"0 1.5 {CAR}", "track_id is '1.5'"),
        (f"99999999999 1 {CAR}", "frame is '99999999999'"),
        (f"0 1 {CAR} 1 2", "17 fields"),
        (f"0 1 {CAR.replace('120.00', 'inf')}", "top is 'inf'"),
    ],
)
def test_broken_lines_are_errors_with_line_and_value(line, reason):
    with pytest.raises(DataError, match=reason) as caught:
        parse_track_line(line, 5)
    assert caught.value.line == 5


def test_broken_files_stop_or_are_counted(tmp_path, capsys):
    root = tree(tmp_path / "k")
    label = root / "training" / "label_02" / "0001.txt"
    label.write_text(f"0 7 {PEDESTRIAN}\n9 7 {PEDESTRIAN}\n1 seven {CAR}\n")
    words = ["convert-kitti", "--root", str(root), "--out", str(tmp_path / "out")]
    assert main(words) == 2
    assert "0001.txt:3: track_id is 'seven'" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
    assert main([*words, "--on-error", "skip"]) == 0
    account = json.loads((tmp_path / "out" / "summary.json").read_text())["account"]
    assert sum(account["rejected"].values()) == 2  # the line, and the object of frame 9, which has no image
    assert sum(account["read"].values()) == 5 + 3


def test_law_the_images_of_an_unreadable_label_file_are_left_out(tmp_path):
    root = write_sequences(tmp_path / "k", {"0000": {0: [], 1: []}, "0001": {0: [f"1 {CAR}"]}})
    label = root / "training" / "label_02" / "0000.txt"
    label.unlink(missing_ok=True)
    label.mkdir()
    words = ["convert-kitti", "--root", str(root), "--out", str(tmp_path / "out"), "--split", "random"]
    assert main(words) == 2
    assert main([*words, "--on-error", "skip"]) == 0
    summary = json.loads((tmp_path / "out" / "summary.json").read_text())
    assert summary["images"]["all"] == 1 and sum(summary["account"]["read"].values()) == 1


def test_a_sequence_name_cannot_leave_the_folder(tmp_path):
    root, out = tree(tmp_path / "k"), tmp_path / "out"
    assert main(["convert-kitti", "--root", str(root), "--out", str(out)]) == 0
    data = read_dataset(out / "all.json")
    for name in ("../../evil", "a/b", "/etc/x"):
        data.images[0].drive = name
        with pytest.raises(DataError):
            write_track_labels(data, tmp_path / "back")
    assert not (tmp_path / "back").exists()


@settings(max_examples=80)
@given(st.lists(st.tuples(st.integers(0, 400), st.sampled_from(WORDS)), max_size=4), st.integers(0, 500))
def test_damaged_files_are_errors_or_counted(tmp_path_factory, changes, cut):
    """Objects in = kept + ignored + dropped + rejected, counted in the file itself; strict reading stops at the
    line."""
    text = f"0 1 {CAR}\n0 -1 {DONT_CARE}\n2 2 {PEDESTRIAN}\n2 1 {CAR}\n"
    for at, word in changes:
        text = text[:at] + word + text[at + len(word) :]
    text = text[: cut + 100]
    root = write_sequences(tmp_path_factory.mktemp("k"), {"0000": {0: [], 1: [], 2: []}})
    (root / "training" / "label_02" / "0000.txt").write_bytes(text.encode())
    lines = sum(bool(line.strip()) for line in text.split("\n"))
    account, strict = Account(), Account()
    taxonomy = load_taxonomy(shipped("datasets/kitti_tracking/taxonomy.yaml"))
    size = (400, 200)
    images = read_kitti_tracking(root, account, image_size_wh=size, on_error="skip")
    build_dataset(images, taxonomy, root, source="k", account=account, on_error="skip")
    assert account.balanced() and sum(account.read.values()) == lines
    try:
        images = read_kitti_tracking(root, strict, image_size_wh=size)
        build_dataset(images, taxonomy, root, source="k", account=strict)
    except DataError as error:
        assert error.line is not None and error.remedy and account.rejected
    else:
        assert not account.rejected and strict.read == account.read
