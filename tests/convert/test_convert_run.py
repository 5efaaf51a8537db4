"""The last steps of a conversion: all files or none, reproducible bytes, and a summary that adds up."""

import errno
import gc
import json
from pathlib import Path

import pytest
from coco_makers import dataset, record

from drivetl.coco.io import read_dataset
from drivetl.coco.records import SourceImage, SourceObject
from drivetl.coco.taxonomy import own_labels
from drivetl.convert import run
from drivetl.convert.build import Account, build_dataset
from drivetl.convert.run import convert_and_write, count_classes, print_summary, write_split
from drivetl.convert.split import SplitOptions
from drivetl.errors import DataError

BOX = (10.0, 10.0, 20.0, 30.0)


def footage(n_drives: int = 6) -> list[SourceImage]:
    return [
        SourceImage(f"d{drive}/{frame}.png", 100, 80, [SourceObject("car", BOX)] * frame, f"d{drive}", frame)
        for drive in range(n_drives)
        for frame in range(4)
    ]


def write(images, out: Path, account: Account | None = None, on_error: str = "stop", **options):
    taxonomy = own_labels(["car", "bus"])
    split = SplitOptions(**options)
    return convert_and_write(
        images, taxonomy, out.parent, out, source="made", split=split, on_error=on_error, account=account
    )


def test_the_summary_adds_up_and_train_and_val_make_up_all(tmp_path):
    summary = write(iter(footage()), tmp_path / "out")
    names = sorted(path.name for path in (tmp_path / "out").iterdir())
    assert names == ["all.json", "summary.json", "train.json", "val.json"]
    document = json.loads((tmp_path / "out" / "summary.json").read_text())
    assert document == json.loads(json.dumps(summary.document))
    counts = document["objects"]
    assert counts["all"] == {"bus": 0, "car": 36} and counts["train"]["car"] + counts["val"]["car"] == 36
    assert document["images"]["all"] == 24 == document["images"]["train"] + document["images"]["val"]
    assert document["images_without_objects"]["all"] == 6
    whole, train, val = (read_dataset(tmp_path / "out" / f"{name}.json") for name in ("all", "train", "val"))
    parts = {image.id: image for image in [*train.images, *val.images]}
    assert [parts[image.id] for image in whole.images] == whole.images
    assert (train.info["split"], val.info["split"]) == ("train", "val")


def test_two_outputs_have_the_same_bytes_and_a_third_run_changes_nothing(tmp_path):
    for name in ("x", "y"):
        assert not write(footage(), tmp_path / name).unchanged
    for path in (tmp_path / "x").iterdir():
        assert path.read_bytes() == (tmp_path / "y" / path.name).read_bytes()
    assert write(footage(), tmp_path / "x").unchanged
    with pytest.raises(DataError, match="never overwritten"):
        write(footage(), tmp_path / "x", seed=1, method="random")
    (tmp_path / "y" / "val.json").unlink()
    with pytest.raises(DataError, match="never overwritten"):
        write(footage(), tmp_path / "y")


def test_a_foreign_folder_is_refused_before_anything_is_read(tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "thesis.tex").write_text("x")

    def images():
        raise AssertionError("read although the output cannot be written")
        yield

    with pytest.raises(DataError, match="does not hold a conversion"):
        write(images(), tmp_path / "out")
    (tmp_path / "file").write_text("x")
    with pytest.raises(DataError, match="is a file"):
        write(images(), tmp_path / "file")


def test_a_full_disk_is_an_error_and_leaves_nothing(tmp_path, monkeypatch):
    real_open = Path.open

    def full(self, *args, **options):
        if self.name == "val.json":
            raise OSError(errno.ENOSPC, "No space left on device")
        return real_open(self, *args, **options)

    monkeypatch.setattr(Path, "open", full)
    with pytest.raises(DataError, match="No space left on device"):
        write(footage(), tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


def test_an_error_midway_leaves_no_files_and_garbage_collection_enabled(tmp_path):
    images = [*footage(), SourceImage("z.png", 100, 80, [SourceObject("unicorn", BOX)])]
    assert gc.isenabled()
    with pytest.raises(DataError, match="unicorn"):
        write(images, tmp_path / "out")
    assert list(tmp_path.iterdir()) == [] and gc.isenabled()
    summary = write(images, tmp_path / "out", on_error="skip")
    assert summary.document["account"]["rejected"] == {"label 'unicorn' is unknown": 1}
    assert gc.isenabled()


def test_no_image_at_all_is_an_error(tmp_path):
    with pytest.raises(DataError, match="contains no images"):
        write([], tmp_path / "out")


def test_an_empty_side_and_a_class_on_one_side_are_warnings(tmp_path, capsys):
    print_summary(write(footage(1)[:1], tmp_path / "one"))
    assert "val is empty" in capsys.readouterr().err
    images = [record(n, f"d{n}", 0, "t" if n == 4 else "c") for n in range(1, 9)]
    account = Account()
    account.read["x"] = account.kept["x"] = 8
    (tmp_path / "val.txt").write_text("d4\n")
    options = SplitOptions(str(tmp_path / "val.txt"))
    print_summary(write_split(dataset(images, tmp_path), options, tmp_path / "out", account))
    error = capsys.readouterr().err
    assert "class 'tram' has 1 objects in val and none in train" in error
    assert "class 'car' has 7 objects in train and none in val" in error


def test_an_account_that_does_not_balance_raises_assertion_error(tmp_path):
    account = Account()
    account.read["ghost"] = 1
    with pytest.raises(AssertionError, match="ghost"):
        write(footage(), tmp_path / "out", account)
    assert not (tmp_path / "out").exists()


def test_the_printed_summary_lists_what_was_left_out(tmp_path, capsys):
    images = [*footage(), SourceImage("z.png", 100, 80, [SourceObject("car", (90.0, 0.0, 130.0, 9.0))])]
    images[0].objects.append(SourceObject("car", (5.0, 5.0, 5.0, 9.0)))
    account = Account(notes={"odd things": 3})
    print_summary(write(images, tmp_path / "[out]", account), "drivetl audit x")
    out = capsys.readouterr().out
    for words in ("38 objects read", "dropped: 1 zero width", "clipped to the image: 1", "3 odd things", "[out]"):
        assert words in out
    assert run.count_classes(("a",), []) == {"a": 0}


def test_encoding_image_by_image_equals_encoding_at_once(tmp_path):
    images = footage()
    images[3].objects.append(SourceObject("bus", BOX, ignore=True, attributes={"id": 3}))
    summary = write(images, tmp_path / "one")
    account = Account()
    data = build_dataset(images, own_labels(["car", "bus"]), tmp_path, source="made", account=account)
    whole = write_split(data, SplitOptions(), tmp_path / "two", account)
    for name in ("all.json", "train.json", "val.json", "summary.json"):
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()
    assert summary.document == whole.document
    counts = count_classes(summary.outline.categories, summary.outline.images)
    assert counts == count_classes(data.categories, data.images) == {"bus": 0, "car": 36}


def test_a_value_that_json_cannot_hold_is_an_error_with_its_image(tmp_path):
    images = footage()
    images[5].objects[0] = SourceObject("car", BOX, attributes={"speed": float("nan")})
    with pytest.raises(DataError, match=r"image 'd1/1.png': contains NaN"):
        write(images, tmp_path / "out")
    assert not (tmp_path / "out").exists()
