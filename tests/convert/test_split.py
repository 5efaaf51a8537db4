"""Splits: no group is on both sides, and val has its share of images, classes and attributes."""

import json
import re
from collections import Counter

import pytest
from coco_makers import dataset, record, three_images
from hypothesis import given, settings
from hypothesis import strategies as st

from drivetl.cli import main
from drivetl.coco.io import read_dataset, write_dataset
from drivetl.coco.records import ImageRecord
from drivetl.convert.leaks import leak_report
from drivetl.convert.split import SplitOptions, StandardSplit, group_images, split_images
from drivetl.errors import ConfigError, DataError

images_of_drives = st.lists(
    st.tuples(st.integers(0, 12), st.text("cpt", max_size=3), st.sampled_from(["day", "night"])), max_size=60
).map(
    lambda rows: [
        record(number, f"drive {drive}" if drive else "", number, classes, timeofday=time)
        for number, (drive, classes, time) in enumerate(rows, 1)
    ]
)


@settings(max_examples=150)
@given(images_of_drives, st.sampled_from(["auto", "sequence"]), st.integers(0, 5), st.floats(0.05, 0.6))
def test_no_drive_is_on_both_sides_and_no_image_is_lost(images, method, seed, fraction):
    options = SplitOptions(method, fraction, seed)
    split = split_images(images, options)
    sides = [split.train, split.val, split.left_out]
    assert sorted(image.id for side in sides for image in side) == [image.id for image in images]
    if split.method in ("sequence", "random"):
        assert leak_report(split.train, split.val).shared_drives == []
        assert split.left_out == []
    for name, side in (("train", split.train), ("val", split.val)):
        assert side or any(f"{name} is empty" in warning for warning in split.warnings)
    if len(images) > 1:
        assert split.train and split.val
    again = split_images(images, options)
    assert [image.id for image in again.val] == [image.id for image in split.val]


@settings(max_examples=60)
@given(images_of_drives, st.integers(0, 3))
def test_grouping_by_an_attribute_keeps_drives_whole_too(images, seed):
    if not images:
        return
    groups = group_images(images, ("timeofday",))
    drives = Counter(image.drive for group in groups.values() for image in {i.drive: i for i in group}.values())
    assert all(count == 1 for drive, count in drives.items() if drive)


def test_shares_of_classes_and_attributes_are_near_the_target():
    images, number = [], 0
    for drive in range(40):
        for frame in range(5 + drive % 7):
            number += 1
            classes = "c" * (1 + drive % 3) + "p" * (drive % 5 == 0) + "t" * (drive in (3, 11, 12, 30, 31))
            images.append(record(number, f"d{drive}", frame, classes, weather="rain" if drive % 4 == 0 else "clear"))
    for seed in range(3):
        val = split_images(images, SplitOptions("sequence", 0.25, seed)).val

        def share(test, val=val):
            return sum(map(test, val)) / sum(map(test, images))

        assert share(lambda image: 1) == pytest.approx(0.25, abs=0.03)
        assert share(lambda image: image.attributes["weather"] == "rain") == pytest.approx(0.25, abs=0.06)
        for category_id in (1, 2, 3):
            class_share = share(lambda image, c=category_id: sum(item.category_id == c for item in image.annotations))
            assert class_share == pytest.approx(0.25, abs=0.12)


def test_a_class_in_two_drives_is_on_both_sides_and_in_one_drive_only_in_train():
    images = [record(n, f"d{n // 10}", n, "c" + "t" * (n // 10 in (2, 5)) + "p" * (n // 10 == 7)) for n in range(100)]
    for seed in range(4):
        split = split_images(images, SplitOptions("sequence", 0.1, seed))
        for side in (split.train, split.val):
            assert any(item.category_id == 3 for image in side for item in image.annotations)
        assert not any(item.category_id == 2 for image in split.val for item in image.annotations)


def test_seeds_differ_with_thousands_of_drives():
    images = [record(n, f"clip{n // 2}", n % 2, "c") for n in range(6000)]
    first, second = (split_images(images, SplitOptions("sequence", 0.2, seed)) for seed in (0, 1))
    assert {image.id for image in first.val} != {image.id for image in second.val}
    assert len(first.val) == pytest.approx(1200, abs=60)


def test_one_drive_is_split_by_time_with_a_gap_and_a_warning():
    images = [record(n, "only", 1000 - n) for n in range(1, 101)]
    split = split_images(images, SplitOptions("auto", 0.2))
    assert split.method == "time"
    assert [len(side) for side in (split.train, split.left_out, split.val)] == [75, 5, 20]
    assert min(image.frame_index for image in split.val) - max(image.frame_index for image in split.train) == 6
    assert "left out as a gap" in split.warnings[0]


def test_standard_applies_to_a_subset_but_not_when_a_side_would_be_empty():
    standard = StandardSplit("made", frozenset({"00001", "00002", "00003"}), frozenset({"00004", "00005"}))
    images = [record(n) for n in (1, 3, 4)]
    split = split_images(images, SplitOptions(standard=standard))
    assert (split.method, [i.id for i in split.train], [i.id for i in split.val]) == ("standard", [1, 3], [4])
    assert split_images(images[:2], SplitOptions(standard=standard)).method == "random"
    unlisted = [*images, record(9)]
    assert split_images(unlisted, SplitOptions(standard=standard)).method == "random"
    with pytest.raises(ConfigError, match=r"00009.png' is in neither list"):
        split_images(unlisted, SplitOptions("standard", standard=standard))
    explicit = split_images(images[:2], SplitOptions("standard", standard=standard))
    assert "val is empty" in explicit.warnings[0]


def test_a_share_far_from_the_target_is_a_warning():
    images = [record(n, "long" if n > 10 else "short", n, "c") for n in range(1, 21)]
    (warning,) = split_images(images, SplitOptions("sequence", 0.2)).warnings
    assert "val holds 50% of the images, 20% were requested: 2 whole groups" in warning
    assert split_images(images, SplitOptions("sequence", 0.5)).warnings == []


def test_a_random_split_warns_of_drives_on_both_sides():
    images = [record(n, f"d{n % 3}", n) for n in range(30)]
    assert "frames of 3 drives on both sides" in split_images(images, SplitOptions("random")).warnings[0]


def test_a_split_file_names_images_stems_or_drives(tmp_path):
    images = [record(n, f"d{n % 3}", n) for n in range(1, 10)]
    file = tmp_path / "val.txt"
    file.write_text("# the night drive\nd1\n00002  # one more\n00003.png\n")
    split = split_images(images, SplitOptions(str(file)))
    assert [image.id for image in split.val] == [1, 2, 3, 4, 7]
    assert "2 drives on both sides" in split.warnings[0]
    lists = tmp_path / "lists.json"
    lists.write_text(json.dumps({"val": ["d1"], "train": ["d2"]}))
    split = split_images(images, SplitOptions(str(lists)))
    assert [len(side) for side in (split.train, split.val, split.left_out)] == [3, 3, 3]
    assert split.warnings == []


@pytest.mark.parametrize(
    ("name", "text", "reason"),
    [
        ("v.txt", "d1\nd11\n", r"v.txt:2: 'd11' is not an image or a drive.*did you mean"),
        ("v.json", '{"train": ["d1"]}', "the list `val` is missing"),
        ("v.json", '{"val": [1]}', "`val` must be a list of names"),
        ("v.json", '{"val": ["d1"], "train": ["00001"]}', "is in val and in train"),
        ("v.json", '{"val": ', "v.json:1: not valid JSON"),
    ],
)
def test_a_broken_split_file_is_an_error(tmp_path, name, text, reason):
    (tmp_path / name).write_text(text)
    with pytest.raises(DataError) as caught:
        split_images([record(n, f"d{n % 3}", n) for n in range(1, 10)], SplitOptions(str(tmp_path / name)))
    assert re.search(reason, str(caught.value))


def test_an_attribute_that_puts_all_images_into_one_group_is_an_error():
    images = [record(n, f"d{n % 3}", n, city="here") for n in range(9)]
    with pytest.raises(ConfigError, match="all 9 images are in one group"):
        split_images(images, SplitOptions(by=("city",)))
    with pytest.raises(ConfigError, match="choose from sequence, city"):
        split_images(images, SplitOptions(by=("town",)))


def test_the_command_splits_a_json_and_refuses_a_folder_with_other_content(tmp_path, capsys):
    images = [record(n, f"d{n // 4}", n % 4, "cp") for n in range(24)]
    write_dataset(dataset(images, tmp_path), tmp_path / "data.json")
    words = ["split", str(tmp_path / "data.json"), "--out", str(tmp_path / "out"), "--val-fraction", "0.25"]
    assert main(words) == 0
    train, val = (read_dataset(tmp_path / "out" / f"{side}.json") for side in ("train", "val"))
    assert len(train.images) + len(val.images) == 24
    assert not {image.drive for image in train.images} & {image.drive for image in val.images}
    assert "images not compared" in capsys.readouterr().out
    assert main(words) == 0 and main([*words, "--seed", "3", "--split", "random"]) == 2
    (tmp_path / "foreign").mkdir()
    (tmp_path / "foreign" / "notes.txt").write_text("mine")
    assert main([*words[:2], "--out", str(tmp_path / "foreign")]) == 2
    assert "does not hold a conversion" in capsys.readouterr().err


def test_splitting_keeps_every_field_of_the_dataset(tmp_path):
    data = three_images(tmp_path)
    write_dataset(data, tmp_path / "data.json")
    assert main(["split", str(tmp_path / "data.json"), "--out", str(tmp_path / "out")]) == 0
    assert read_dataset(tmp_path / "out" / "all.json").images == read_dataset(tmp_path / "data.json").images


def drives() -> list:
    images = [record(3 * drive + frame, f"{drive:04d}", frame) for drive in range(1, 4) for frame in range(3)]
    for image in images:
        image.file_name = f"{image.drive}/{image.frame_index:04d}.jpg"
    return images


def test_an_entry_is_a_file_else_a_drive_else_a_stem(tmp_path):
    images = drives()
    images[8].file_name = "0003/odd.jpg"
    file = tmp_path / "val.txt"

    def val(text: str) -> list[str]:
        file.write_text(text)
        return [image.file_name for image in split_images(images, SplitOptions(str(file))).val]

    assert val("0001\n") == ["0001/0000.jpg", "0001/0001.jpg", "0001/0002.jpg"]
    assert val("0002/0001.jpg\n") == ["0002/0001.jpg"]
    assert val("odd\n") == val("odd.jpg\n") == ["0003/odd.jpg"]
    images[0].file_name = "0001"
    assert val("0001\n") == ["0001"]


@pytest.mark.parametrize("entry", ["0000", "0000.jpg"])
def test_an_ambiguous_entry_is_an_error(tmp_path, entry):
    (tmp_path / "val.txt").write_text(f"0001\n{entry}\n")
    with pytest.raises(DataError) as caught:
        split_images(drives(), SplitOptions(str(tmp_path / "val.txt")))
    message = f"val.txt:2: {entry!r} may be '0001/0000.jpg' or '0002/0000.jpg' - write the file name"
    assert message in str(caught.value)


def test_two_images_with_the_same_file_name_are_an_error(tmp_path, capsys):
    images = [record(n, f"d{n % 2}", n, "c") for n in range(1, 7)]
    images[3].file_name = images[0].file_name
    for options in (SplitOptions(), SplitOptions("random")):
        with pytest.raises(DataError, match=r"images 1 and 4 have the same file_name '00001.png'"):
            split_images(images, options)
    with pytest.raises(DataError, match="same file_name"):
        group_images(images, ("sequence",))
    write_dataset(dataset(images, tmp_path), tmp_path / "data.json")
    assert main(["split", str(tmp_path / "data.json"), "--out", str(tmp_path / "out")]) == 2
    assert "data.json: images 1 and 4 have the same file_name" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_long_names_and_huge_seeds_are_handled(tmp_path, capsys):
    images = [record(n, f"d{n}", n, "c") for n in range(1, 5)]
    images[0].file_name = "x" * 300 + ".png"
    write_dataset(dataset(images, tmp_path), tmp_path / "data.json")
    words = ["split", str(tmp_path / "data.json"), "--out"]
    with pytest.raises(SystemExit) as stop:
        main([*words, str(tmp_path / "a"), "--seed", str(2**64)])
    assert stop.value.code == 2 and str(2**64) in capsys.readouterr().err
    assert main([*words, str(tmp_path / "a"), "--split", "y" * 300]) == 2
    assert "nor a file that exists" in capsys.readouterr().err
    assert main([*words, str(tmp_path / "a"), "--seed", str(2**63 - 1)]) == 0


def named(*names):
    return [ImageRecord(n, name, 40, 30) for n, name in enumerate(names, 1)]


EXPORT = ("train/images/a.jpg", "train/images/b.jpg", "valid/images/c.jpg", "test/images/d.jpg")


def test_the_folders_of_an_export_are_its_split():
    split = split_images(named(*EXPORT), SplitOptions())
    sides = [[image.file_name[0] for image in side] for side in (split.train, split.val, split.left_out)]
    assert split.method == "folders" and sides == [["t", "t"], ["v"], ["t"]]
    split = split_images(named(*EXPORT[:2], EXPORT[3]), SplitOptions())
    assert [image.file_name for image in split.val] == ["test/images/d.jpg"] and not split.left_out


def test_folders_that_are_no_split_are_refused_and_never_the_default():
    for names in (EXPORT[:2], (*EXPORT, "e.jpg")):
        assert split_images(named(*names), SplitOptions()).method == "random"
        with pytest.raises(ConfigError, match="--split folders"):
            split_images(named(*names), SplitOptions(method="folders"))


def test_train_of_one_source_and_val_of_another_are_not_a_split():
    assert split_images(named("kitti/train/a.jpg", "bdd/val/b.jpg"), SplitOptions()).method == "random"
    names = [f"{source}/{side}/a.jpg" for source in ("kitti", "bdd") for side in ("train", "val")]
    assert split_images(named(*names), SplitOptions()).method == "folders"


def test_copies_of_one_image_stay_on_one_side():
    names = [f"frame_{n:04d}_jpg.rf.{copy}{n:031d}.jpg" for n in range(10) for copy in "abc"]
    for method in ("random", "sequence"):
        split = split_images(named(*names), SplitOptions(method=method))
        train, val = ({image.file_name[:10] for image in side} for side in (split.train, split.val))
        assert not train & val and len(split.val) == 6


def test_copies_on_both_sides_of_the_folders_are_named():
    names = [f"{side}/a_jpg.rf.{side[0]}{0:031d}.jpg" for side in ("train", "valid")]
    split = split_images(named(*names), SplitOptions())
    assert any("copies of 1 images, the first is 'a_jpg'" in text for text in split.warnings)
