"""KITTI object data: what is read, what is kept, what comes back, and what a broken file says."""

import json
import random
import subprocess
import sys
import tarfile
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from kitti_trees import (
    CAR,
    CYCLIST_PAST_EDGE,
    DONT_CARE,
    MISC,
    PEDESTRIAN,
    png,
    three_frames,
    write_mapping,
    write_tree,
)

from drivetl.adapters.kitti import read_kitti, read_labels, source_object, write_labels
from drivetl.cli import main
from drivetl.coco.io import read_dataset
from drivetl.coco.taxonomy import load_taxonomy
from drivetl.commands.convert_kitti import parse_size
from drivetl.convert.build import Account, build_dataset
from drivetl.errors import ConfigError, DataError
from drivetl.files.kitti_text import exact, line_of, parse_line, write_line
from drivetl.files.shipped import shipped

SHARED = Path(__file__).parents[2].parent / "shared" / "data"
needs_kitti = pytest.mark.skipif(not (SHARED / "kitti").is_dir(), reason="KITTI frames are not available")
needs_labels = pytest.mark.skipif(not (SHARED / "kitti_labels").is_dir(), reason="KITTI labels are not available")
TAXONOMY = load_taxonomy(shipped("datasets/kitti/taxonomy.yaml"))


def convert(*words: object) -> int:
    return main(["convert-kitti", *map(str, words)])


def numbers(line: str) -> tuple[object, ...]:
    name, *fields = line.split()
    return name, *map(float, fields)


def test_a_tree_converts_with_every_object_accounted_for(tmp_path):
    out = tmp_path / "out"
    assert convert("--root", three_frames(tmp_path / "k"), "--out", out) == 0
    data = read_dataset(out / "all.json")
    normal, empty, odd = data.images
    assert [image.file_name for image in data.images] == [f"training/image_2/00000{i}.png" for i in range(3)]
    assert (normal.width, normal.height) == (400, 200)
    assert [data.categories[item.category_id - 1] for item in normal.annotations] == ["car", "pedestrian"]
    assert empty.annotations == [] and empty.ignore_regions == []
    assert [region.attributes["source_label"] for region in odd.ignore_regions] == ["Misc", "DontCare", "DontCare"]
    cyclist = odd.annotations[0]
    assert cyclist.bbox_xywh == (380, 90, 20, 110)
    assert cyclist.attributes["source_box_xyxy"] == [380, 90, 430, 205]
    account = json.loads((out / "summary.json").read_text())["account"]
    assert account["read"] == {"Car": 1, "Cyclist": 1, "DontCare": 3, "Misc": 1, "Pedestrian": 1}
    assert account["kept"] == {"car": 1, "cyclist": 1, "pedestrian": 1}
    assert account["ignored"] == {"label DontCare": 3, "label Misc": 1}
    assert account["clipped"] == 1
    assert account["notes"] == {"images have no label file and became samples without objects": 1}


def test_all_columns_become_attributes():
    item = source_object(parse_line(PEDESTRIAN + " 0.875", 7), 7)
    assert item.label == "Pedestrian" and item.line == 7
    assert item.box_xyxy == (300.25, 100.10, 330.75, 190.90)
    assert item.attributes == {
        "truncated": 0.12,
        "occluded": 1,
        "alpha": 0.30,
        "dimensions_hwl_m": [1.72, 0.60, 0.80],
        "location_xyz_m": [4.00, 1.70, 12.00],
        "rotation_y": 0.61,
        "score": 0.875,
    }


def test_the_root_may_be_the_training_folder_and_images_may_be_jpeg(tmp_path):
    from PIL import Image

    root = write_tree(tmp_path / "k", {"000000": [CAR]}) / "training"
    (root / "image_2" / "000000.png").unlink()
    Image.new("RGB", (400, 200)).save(root / "image_2" / "000000.JPG", "JPEG")
    assert convert("--root", root, "--out", tmp_path / "out") == 0
    assert read_dataset(tmp_path / "out" / "all.json").images[0].file_name == "image_2/000000.JPG"


def test_mapping_gives_drive_and_raw_frame_and_the_split_keeps_drives_whole(tmp_path):
    drives = [("drive_a", 5), ("drive_b", 7), ("drive_a", 6), ("drive_c", 0), ("drive_b", 9), ("drive_c", 4)]
    root = write_tree(tmp_path / "k", {f"{i:06d}": [CAR] for i in range(6)})
    write_mapping(root / "mapping", drives)
    assert convert("--root", root, "--out", tmp_path / "out") == 0
    data = read_dataset(tmp_path / "out" / "all.json")
    assert [(image.drive, image.frame_index) for image in data.images] == drives
    summary = json.loads((tmp_path / "out" / "summary.json").read_text())
    assert summary["split"]["method"] == "sequence"  # these ids are in KITTI's lists, but this is not KITTI
    assert summary["leaks"]["shared_sequences"] == []
    assert summary["images"]["train"] + summary["images"]["val"] == 6


def test_a_mapping_is_found_next_to_the_images_or_switched_off(tmp_path):
    root = write_tree(tmp_path / "k", {"000000": [CAR], "000001": [CAR]})
    for folder in ("mapping", "devkit/mapping"):
        write_mapping(root / folder, [("a", 3), ("b", 5)])
        for name, root_given in (("whole", root), ("inner", root / "training")):
            out = tmp_path / folder / name
            assert convert("--root", root_given, "--out", out) == 0
            assert [i.drive for i in read_dataset(out / "all.json").images] == ["a", "b"]
        out = tmp_path / folder / "none"
        assert convert("--root", root, "--out", out, "--mapping-dir", "none") == 0
        assert [i.drive for i in read_dataset(out / "all.json").images] == ["", ""]
        for path in (root / folder).iterdir():
            path.unlink()


def test_attributes_of_a_csv_reach_the_images_by_name_without_folder(tmp_path, capsys):
    root = write_tree(tmp_path / "k", {"000000": [CAR], "000001": [CAR]})
    (root / "attributes.csv").write_text("file_name,sequence,weather\n000001.png,d7,rain\n")
    assert convert("--root", root, "--out", tmp_path / "out") == 0
    first, second = read_dataset(tmp_path / "out" / "all.json").images
    assert (first.attributes, second.attributes, second.drive) == ({}, {"weather": "rain"}, "d7")
    (tmp_path / "a.csv").write_text("file_name,weather\n000009.png,rain\n")
    assert convert("--root", root, "--out", tmp_path / "b", "--attributes", tmp_path / "a.csv") == 2
    assert "a.csv:2: no image is called '000009.png'" in capsys.readouterr().err


def test_standard_split_is_refused_for_another_mapping(tmp_path, capsys):
    root = write_tree(tmp_path / "k", {"000000": [CAR], "000001": [CAR]})
    write_mapping(root / "mapping", [("a", 0), ("b", 0)])
    assert convert("--root", root, "--out", tmp_path / "out", "--split", "standard") == 2
    assert "is not KITTI's own mapping" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_standard_split_applies_by_id_without_a_mapping(tmp_path):
    root = write_tree(tmp_path / "k", {"000000": [CAR], "000001": [CAR], "000003": []})
    assert convert("--root", root, "--out", tmp_path / "out") == 0
    assert [i.file_name[-10:] for i in read_dataset(tmp_path / "out" / "train.json").images] == [
        "000000.png",
        "000003.png",
    ]
    assert "no drive mapping" in json.loads((tmp_path / "out" / "summary.json").read_text())["split"]["reason"]


def test_random_split_warns(tmp_path, capsys):
    root = write_tree(tmp_path / "k", {f"90000{i}": [CAR] for i in range(5)})
    assert convert("--root", root, "--out", tmp_path / "out") == 0
    assert "only a random split is possible" in capsys.readouterr().err


def test_published_split_is_complete_and_disjoint():
    sides = [shipped(f"datasets/kitti/splits/{side}.txt").read_text().split() for side in ("train", "val")]
    assert [len(side) for side in sides] == [3712, 3769]
    assert sorted(sides[0] + sides[1]) == [f"{i:06d}" for i in range(7481)]


BROKEN = [
    (CAR.rsplit(" ", 1)[0], "14 fields"),
    (CAR + " 0.5 0.5", "17 fields"),
    (CAR.replace("120.00", "wide"), "top is 'wide'"),
    (CAR.replace("120.00", "nan"), "top is 'nan'"),
    (CAR.replace("200.00", "1e308"), "right is '1e308'"),
    (CAR.replace("3.88", "1_0"), "length is '1_0'"),
    (CAR.replace("3.88", "true"), "length is 'true'"),
    (CAR.replace("200.00", "99.99"), "x2 < x1"),
    (CAR.replace("Car", "Caar"), "did you mean 'Car'"),
    (CAR.replace("Car", "\x1b[31mCar"), "is unknown"),
]


@pytest.mark.parametrize(("line", "reason"), BROKEN, ids=[reason for _, reason in BROKEN])
def test_a_broken_line_stops_with_file_line_and_value(tmp_path, capsys, line, reason):
    root = write_tree(tmp_path / "k", {"000000": [CAR], "000001": [PEDESTRIAN, line]})
    assert convert("--root", root, "--out", tmp_path / "out") == 2
    error = capsys.readouterr().err
    assert reason in error and "000001.txt:2: " in error and error.startswith("error: ") and " - " in error
    assert list(tmp_path.iterdir()) == [tmp_path / "k"]  # nothing half-written


@pytest.mark.parametrize(("line", "reason"), BROKEN, ids=[reason for _, reason in BROKEN])
def test_a_broken_line_is_skipped_and_listed_on_request(tmp_path, line, reason):
    root = write_tree(tmp_path / "k", {"000000": [CAR], "000001": [PEDESTRIAN, line]})
    assert convert("--root", root, "--out", tmp_path / "out", "--on-error", "skip") == 0
    account = json.loads((tmp_path / "out" / "summary.json").read_text())["account"]
    assert account["kept"] == {"car": 1, "pedestrian": 1}
    assert sum(account["rejected"].values()) == 1
    assert "000001.txt:2: " in account["rejections"][0] and reason in account["rejections"][0]


def test_missing_files_are_errors_with_their_path(tmp_path, capsys):
    root = write_tree(tmp_path / "k", {"000000": [CAR], "000001": [CAR]})
    assert convert("--root", tmp_path / "none", "--out", tmp_path / "out") == 2
    assert "no such folder" in capsys.readouterr().err
    (root / "training" / "image_2" / "000001.png").unlink()
    assert convert("--root", root, "--out", tmp_path / "out") == 2
    error = capsys.readouterr().err
    assert "000001.txt: label without image" in error and "--image-size" in error
    (root / "training" / "image_2" / "000001.png").write_bytes(b"\x89PNG\r\n\x1a\n and no more")
    assert convert("--root", root, "--out", tmp_path / "out") == 2
    assert "000001.png: not a readable image" in capsys.readouterr().err
    assert convert("--root", root, "--out", tmp_path / "skipped", "--on-error", "skip") == 0
    account = json.loads((tmp_path / "skipped" / "summary.json").read_text())["account"]
    assert account["read"] == {"Car": 2} and account["kept"] == {"car": 1}
    assert account["notes"] == {"images skipped because they were broken": 1}
    for path in (root / "training" / "image_2").iterdir():
        path.unlink()
    (root / "training" / "image_2").rmdir()
    assert convert("--root", root, "--out", tmp_path / "out") == 2
    assert "image_2: no such folder" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(("size", "refused"), [((200, 100), True), ((320, 160), True), ((384, 192), False)])
def test_law_labels_of_larger_images_are_refused(tmp_path, capsys, size, refused):
    """KITTI's labels do not state a size. Cars over the whole width of 400 px; a few px are within the honest range."""
    cars = [CAR.replace("100.00 120.00 200.00 180.50", f"{x}.00 90.00 {x + 30}.00 140.00") for x in range(0, 380, 20)]
    root = write_tree(tmp_path / "k", {f"{number:06d}": cars for number in range(3)})
    assert convert("--root", root, "--out", tmp_path / "right") == 0
    assert "made for" not in capsys.readouterr().err
    for path in (root / "training" / "image_2").iterdir():
        path.write_bytes(png(*size))
    assert convert("--root", root, "--out", tmp_path / "out") == (2 if refused else 0)
    assert ("right of or below their image" in capsys.readouterr().err) == refused
    assert (tmp_path / "out").exists() != refused
    for path in (root / "training" / "image_2").iterdir():
        path.write_bytes(png(800, 400))
    assert convert("--root", root, "--out", tmp_path / "enlarged") == 0
    assert "boxes lie in the upper left 49 % x 35 %" in capsys.readouterr().err
    assert main(["split", str(tmp_path / "right" / "all.json"), "--out", str(tmp_path / "split")]) == 0
    assert "upper left" not in capsys.readouterr().err


def test_law_an_image_whose_label_file_cannot_be_read_is_left_out(tmp_path, capsys):
    """It is not known to be without objects, and a folder named like a label file counts no object."""
    root = write_tree(tmp_path / "k", {"000000": [CAR], "000001": None, "000002": [CAR, PEDESTRIAN]})
    labels = root / "training" / "label_2"
    (labels / "000001.txt").mkdir()
    (labels / "000002.txt").write_bytes(f"{CAR}\n{PEDESTRIAN}\n".encode() + b"\xe9\n\n")
    assert convert("--root", root, "--out", tmp_path / "out") == 2
    assert "000001.txt: cannot be read (Is a directory)" in capsys.readouterr().err
    assert convert("--root", root, "--out", tmp_path / "out", "--on-error", "skip") == 0
    summary = json.loads((tmp_path / "out" / "summary.json").read_text())
    assert summary["images"]["all"] == 1 and summary["images_without_objects"]["all"] == 0
    assert summary["account"]["read"] == {"Car": 1, "unreadable record": 3}
    assert summary["account"]["notes"] == {"label files that cannot be read, left out with their images": 2}


def test_latin1_labels_and_duplicated_frames_are_errors(tmp_path, capsys):
    root = write_tree(tmp_path / "k", {"000000": [CAR]})
    label = root / "training" / "label_2" / "000000.txt"
    label.write_bytes(CAR.encode() + b"\nVoitur\xe9 0 0\n")
    assert convert("--root", root, "--out", tmp_path / "out") == 2
    assert "000000.txt:2: byte 0xe9 is not UTF-8" in capsys.readouterr().err
    label.write_text(CAR)
    (root / "training" / "image_2" / "000000.jpg").write_bytes(b"")
    assert convert("--root", root, "--out", tmp_path / "out") == 2
    assert "frame 000000 is duplicated" in capsys.readouterr().err


def test_broken_mappings_are_errors_with_their_line(tmp_path, capsys):
    root = write_tree(tmp_path / "k", {"000000": [CAR], "000001": [CAR]})
    mapping = write_mapping(tmp_path / "m", [("a", 0)])
    assert convert("--root", root, "--out", tmp_path / "out", "--mapping-dir", mapping) == 2
    assert "frame '000001' is not among the 1 frames" in capsys.readouterr().err
    (mapping / "train_rand.txt").write_text("1,\n2")
    assert convert("--root", root, "--out", tmp_path / "out", "--mapping-dir", mapping) == 2
    assert "train_rand.txt:2: '2' is not a line of train_mapping.txt" in capsys.readouterr().err
    (mapping / "train_mapping.txt").write_text("2030_01_01 a zero\n")
    assert convert("--root", root, "--out", tmp_path / "out", "--mapping-dir", mapping) == 2
    assert "train_mapping.txt:1: " in capsys.readouterr().err
    assert convert("--root", root, "--out", tmp_path / "out", "--mapping-dir", tmp_path) == 2
    assert "train_mapping.txt: no such file" in capsys.readouterr().err


def test_a_second_run_is_unchanged_and_another_conversion_is_refused(tmp_path, capsys):
    root = three_frames(tmp_path / "k")
    out = tmp_path / "out"
    assert convert("--root", root, "--out", out) == 0
    before = {path.name: path.read_bytes() for path in out.iterdir()}
    assert convert("--root", root, "--out", out) == 0
    assert "unchanged" in capsys.readouterr().out
    (root / "training" / "label_2" / "000000.txt").write_text(CAR)
    assert convert("--root", root, "--out", out) == 2
    assert "never overwritten" in capsys.readouterr().err
    assert {path.name: path.read_bytes() for path in out.iterdir()} == before


def test_bad_flags_are_error_lines(tmp_path, capsys):
    root = three_frames(tmp_path / "k")
    flags = {"--val-fraction": "1.5", "--split": "nowhere.txt", "--by": "city", "--image-size": "big"}
    for words in flags.items():
        assert convert("--root", root, "--out", tmp_path / "out", *words) == 2
        assert words[0] in capsys.readouterr().err
    for size in ("0x0", "12x", "-3x4", "1242x375x3", "٣x٤"):
        with pytest.raises(ConfigError, match="write it as 1242x375"):
            parse_size(size)
    assert parse_size("1242x375") == (1242, 375)
    assert not (tmp_path / "out").exists()


# ---- round trips

label_numbers = st.floats(-900, 900).map(lambda value: round(value, 2))


@given(st.floats(-1e8, 1e8))
def test_every_written_number_reads_the_same(value):
    assert float(exact(value)) == value


@given(st.lists(label_numbers, min_size=14, max_size=15), st.sampled_from(["Car", "Misc", "DontCare"]))
def test_a_line_survives_conversion_to_an_object_and_back(values, name):
    line = " ".join([name, *map(str, values)])
    item = source_object(parse_line(line, 1), 1)
    assert numbers(write_line(line_of(item.label, item.box_xyxy, item.attributes))) == numbers(line)


@given(st.lists(label_numbers, min_size=14, max_size=14), st.data())
def test_fast_and_slow_parsing_agree(values, data):
    fields = [data.draw(st.sampled_from([f"{v:.2f}", repr(v), f"{v:+.3e}", f"{v:.2f} "])) for v in values]
    plain = parse_line(" ".join(["Car", *map(repr, map(float, [f.strip() for f in fields]))]), 1)
    odd = parse_line("Car\t" + "  ".join(fields) + "\r", 1)
    assert odd == plain


ODD = [
    "e",
    "E5",
    " ",
    "\t",
    "[",
    "]",
    "],[",
    '"',
    "{",
    ",",
    "null",
    "true",
    "NaN",
    "-",
    "1e308",
    "1_0",
    "\r",
    "\n",
    ".",
]


@given(st.lists(st.sampled_from([CAR, PEDESTRIAN, DONT_CARE, MISC]), max_size=4), st.data())
def test_reading_a_file_equals_reading_its_lines(tmp_path_factory, lines, data):
    text = "\n".join(lines) + data.draw(st.sampled_from(["", "\n", "\r\n", "\n\n"]))
    for bit in data.draw(st.lists(st.sampled_from(ODD), max_size=2)):
        at = data.draw(st.integers(0, len(text)))
        text = text[:at] + bit + text[at:]
    path = tmp_path_factory.getbasetemp() / "any.txt"
    path.write_bytes(text.encode())
    expected, broken = [], []
    for number, line in enumerate(text.split("\n"), 1):
        try:
            expected += [source_object(parse_line(line, number), number)] if line.strip() else []
        except DataError as error:
            broken.append(str(error.at(path)))
    account = Account()
    assert read_labels(path, account, "skip") == expected
    assert account.rejections == broken
    if broken:
        with pytest.raises(DataError, match=f"any.txt:{broken[0].split(':')[1]}: "):
            read_labels(path, Account())


def test_converting_kitti_does_not_import_numpy_and_starts_without_rich(tmp_path):
    root, out = three_frames(tmp_path / "k"), tmp_path / "out"
    code = (
        "import sys; from drivetl.cli import main\n"
        f"main(['convert-kitti', '--split', 'random', '--root', {str(root)!r}, '--out', {str(out)!r}])\n"
        "sys.exit('numpy' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, check=False).returncode == 0
    assert (out / "all.json").is_file()
    code = "import sys, drivetl.cli, drivetl.commands.convert_kitti; sys.exit('rich' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, check=False).returncode == 0


def test_writing_refuses_an_existing_folder_and_duplicated_names(tmp_path):
    root = three_frames(tmp_path / "k")
    data = build_dataset(read_kitti(root, Account()), TAXONOMY, root, source="kitti", account=Account())
    assert write_labels(data, tmp_path / "labels") == 7
    assert (tmp_path / "labels" / "000001.txt").read_text() == ""
    with pytest.raises(DataError, match="never overwritten"):
        write_labels(data, tmp_path / "labels")
    data.images[1].file_name = "elsewhere/000000.png"
    with pytest.raises(DataError, match="two images are called '000000'"):
        write_labels(data, tmp_path / "more")


@needs_labels
def test_all_official_label_lines_survive_the_json(tmp_path):
    labels = tmp_path / "k" / "label_2"
    labels.mkdir(parents=True)
    texts = {}
    with tarfile.open(SHARED / "kitti_labels" / "label_2.tar.gz") as archive:
        for member in archive:
            if member.isfile():
                file = archive.extractfile(member)
                assert file is not None
                texts[Path(member.name).name] = file.read().decode()
    for name, text in texts.items():
        (labels / name).write_text(text)
    out = tmp_path / "out"
    mapping = SHARED / "kitti_labels"
    assert convert("--root", labels.parent, "--out", out, "--image-size", "1242x375", "--mapping-dir", mapping) == 0
    write_labels(read_dataset(out / "all.json"), tmp_path / "back")
    assert len(texts) == 7481
    for name, text in texts.items():
        back = (tmp_path / "back" / name).read_text()
        assert sorted(map(numbers, back.splitlines())) == sorted(map(numbers, text.splitlines())), name
    summary = json.loads((out / "summary.json").read_text())
    labels_read = Counter(line.split()[0] for text in texts.values() for line in text.splitlines())
    assert summary["account"]["read"] == dict(labels_read)
    assert summary["objects"]["all"]["cyclist"] == labels_read["Cyclist"] == 1627
    assert summary["split"]["method"] == "standard"
    assert (summary["images"]["train"], summary["images"]["val"]) == (3712, 3769)
    sequences = summary["leaks"]
    assert len(sequences["train_sequences"]) == 96 and len(sequences["val_sequences"]) == 45
    assert sequences["shared_sequences"] == []


@needs_kitti
def test_real_frames_give_the_counts_of_their_label_files_and_perfect_ap(tmp_path):
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    out = tmp_path / "out"
    mapping = SHARED / "kitti_labels"
    assert convert("--root", SHARED / "kitti", "--mapping-dir", mapping, "--out", out) == 0
    lines = [
        line.split()[0]
        for path in (SHARED / "kitti" / "training" / "label_2").glob("*.txt")
        for line in path.read_text().splitlines()
    ]
    summary = json.loads((out / "summary.json").read_text())
    assert summary["account"]["read"] == dict(Counter(lines))
    assert summary["objects"]["all"]["car"] == lines.count("Car")
    truth = COCO(str(out / "all.json"))
    results = [
        {"image_id": item["image_id"], "category_id": item["category_id"], "bbox": item["bbox"], "score": 0.9}
        for item in truth.anns.values()
    ]  # the ignore regions too: a detection there is neither right nor wrong
    scores = COCOeval(truth, truth.loadRes(results), "bbox")
    scores.evaluate()
    scores.accumulate()
    scores.summarize()
    assert scores.stats[0] == pytest.approx(1.0)


# ---- hostile input

WORDS = ["nan", "-inf", "1e308", "", "Car", "-1", "0", "1e-3", "\x00", "é", "99999999999999999999", "0x10", "[", "null"]


@settings(max_examples=120)
@given(
    st.randoms(use_true_random=False), st.lists(st.sampled_from(["cut", "word", "byte", "drop", "twice"]), max_size=4)
)
def test_damaged_label_files_are_errors_or_counted(tmp_path_factory, rng, changes):
    lines = [CAR, PEDESTRIAN, CYCLIST_PAST_EDGE, MISC, DONT_CARE]
    data = bytearray("\n".join(lines).encode())
    for change in changes:
        data = mutate(data, change, rng)
    root = write_tree(tmp_path_factory.mktemp("k"), {"000000": [CAR], "000001": []})
    (root / "training" / "label_2" / "000001.txt").write_bytes(data)
    account = Account()
    records = len([line for line in data.split(b"\n") if line.strip()])
    try:
        images = list(read_kitti(root, account, on_error="skip"))
    except DataError as error:
        pytest.fail(f"skip must not stop: {error}")
    build_dataset(images, TAXONOMY, root, source="kitti", account=account, on_error="skip")
    assert account.balanced()
    assert sum(account.read.values()) == 1 + records  # also of a file that is not UTF-8
    assert len(images) == (1 if any("UTF-8" in reason for reason in account.rejected) else 2)
    strict = Account()
    try:
        build_dataset(read_kitti(root, strict), TAXONOMY, root, source="kitti", account=strict)
    except DataError as error:
        assert error.line is not None and "000001.txt:" in str(error) and error.remedy
        assert account.rejected
    else:
        assert not account.rejected and strict.read == account.read


def mutate(data: bytearray, change: str, rng: random.Random) -> bytearray:
    if not data:
        return data
    at = rng.randrange(len(data))
    if change == "cut":
        return data[:at]
    if change == "byte":
        data[at] = rng.choice([0, 9, 10, 32, 45, 46, 65, 95, 0xC3, 0xFF])
        return data
    words = data.split(b" ")
    at = rng.randrange(len(words))
    if change == "word":
        words[at] = rng.choice(WORDS).encode()
    elif change == "drop":
        del words[at]
    else:
        words.insert(at, words[at])
    return bytearray(b" ".join(words))
