"""`conditions --write`: the pixels of the sweep as files, whatever the workers and shards, also after a kill."""

import hashlib
import json
import shutil
from collections import namedtuple

import cv2
import pytest
from planted import planted_dataset

from drivetl.cli import main
from drivetl.coco.io import read_dataset
from drivetl.conditions import PROTOCOL_VERSION, pixel_seed
from drivetl.errors import DataError
from drivetl.robustness.sweep import Task, variants
from drivetl.robustness.write_conditions import pixels_hash, write_conditions

CELLS = (("clean", 0), ("fog", 3), ("night", 1))
WORDS = ["--conditions", "clean,fog,night", "--severities", "1,3", "--workers", "0"]


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return planted_dataset(tmp_path_factory.mktemp("planted"), n_images=4, n_drives=2)


def swept_pixels(data, cells):
    """(cell, file name) -> hash of the pixels that the sweep gives a detector."""
    dataset = read_dataset(data)
    return {
        (cell, record.file_name): pixels_hash(pixels)
        for index, record in enumerate(dataset.images)
        for cell, pixels in variants(Task(index, record, cells, dataset.categories), dataset.images_root)
    }


def files(folder):
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_every_file_has_the_pixels_of_the_sweep(data, tmp_path, capsys):
    out = tmp_path / "cells"
    assert main(["conditions", "--data", str(data), "--write", str(out), *WORDS]) == 0
    manifest = json.loads((out / "manifest.json").read_text())
    expected = swept_pixels(data, (("clean", 0), *((name, s) for name in ("fog", "night") for s in (1, 3))))
    assert len(manifest["images"]) == len(expected) == 5 * 4 and manifest["complete"]
    for row in manifest["images"]:
        cell = (row["condition"], row["severity"])
        pixels = cv2.imread(str(out / row["file"]), cv2.IMREAD_COLOR)[..., ::-1]
        assert hashlib.sha256(pixels.tobytes()).hexdigest() == row["sha256"] == expected[cell, row["file_name"]]
        assert row["file"] == f"{cell[0]}/{cell[1]}/{row['file_name']}"
        assert row["seed"] == (None if cell == ("clean", 0) else pixel_seed(row["file_name"], *cell))
    assert manifest["protocol_version"] == PROTOCOL_VERSION and manifest["encoding"] == "PNG"
    assert manifest["dataset"]["images"] == 4 and "20 files written" in capsys.readouterr().out


def test_workers_shards_and_a_kill_give_the_same_folder(data, tmp_path):
    dataset = read_dataset(data)
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    write_conditions(dataset, CELLS, whole)
    first = write_conditions(dataset, CELLS, parts, shard=(0, 3), workers=2)
    assert first.n_missing == 3 * 2 and not json.loads((parts / "manifest.json").read_text())["complete"]
    # what a kill leaves: a finished file without a row, and a hidden one that is half-written
    (parts / "fog" / "3" / "images" / "000001.png").write_bytes(
        (whole / "fog" / "3" / "images" / "000001.png").read_bytes()
    )
    (parts / "fog" / "3" / "images" / ".000002.png.abcdefgh").write_bytes(b"half")
    again = write_conditions(dataset, CELLS, parts)
    assert (again.n_finished, again.n_rendered, again.n_missing) == (3 * 2 + 1, 3 * 2 - 1, 0)
    assert files(parts) == files(whole)


def test_damaged_and_changed_files_are_written_again(data, tmp_path):
    dataset, out = read_dataset(data), tmp_path / "cells"
    write_conditions(dataset, CELLS, out)
    before = files(out)
    damaged, changed = out / "fog" / "3" / "images" / "000001.png", out / "night" / "1" / "images" / "000000.png"
    damaged.write_bytes(damaged.read_bytes()[:200])
    shutil.copy(out / "clean" / "0" / "images" / "000000.png", changed)
    assert write_conditions(dataset, CELLS, out).n_rendered == 2
    assert files(out) == before


def test_more_cells_are_added_and_other_data_is_refused(data, tmp_path):
    dataset, out = read_dataset(data), tmp_path / "cells"
    write_conditions(dataset, CELLS[:1], out)
    write_conditions(dataset, CELLS[1:], out)
    assert json.loads((out / "manifest.json").read_text())["cells"] == {"clean/0": 4, "fog/3": 4, "night/1": 4}
    before = files(out)
    with pytest.raises(DataError, match=r"its dataset is .* - name another folder with --write"):
        write_conditions(dataset.subset(dataset.images[:2]), CELLS, out)
    with pytest.raises(DataError, match="its encoding is 'PNG', not 'JPEG, quality 90"):
        write_conditions(dataset, CELLS, out, jpeg=90)
    assert files(out) == before


def test_jpeg_is_stated_and_recognised(data, tmp_path):
    dataset, out = read_dataset(data), tmp_path / "cells"
    write_conditions(dataset, CELLS[:2], out, jpeg=90)
    manifest = json.loads((out / "manifest.json").read_text())
    assert manifest["encoding"].startswith("JPEG, quality 90") and manifest["sha256_of"] == "the file"
    for row in manifest["images"]:
        assert hashlib.sha256((out / row["file"]).read_bytes()).hexdigest() == row["sha256"]
        assert row["file"].endswith(".jpg") and row["file_name"].endswith(".png")
    assert write_conditions(dataset, CELLS[:2], out, jpeg=90).n_rendered == 0


def test_a_full_disk_is_told_before_the_first_file(data, tmp_path, monkeypatch):
    usage = namedtuple("usage", "free")
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage(50_000))
    with pytest.raises(DataError, match=r"12 files need about .* MB, .* free - free space"):
        write_conditions(read_dataset(data), CELLS, tmp_path / "cells")
    assert not (tmp_path / "cells").exists()


def test_images_of_one_name_and_unreadable_ones(data, tmp_path):
    root = tmp_path / "data"
    shutil.copytree(data.parent, root)
    text = data.read_text()
    (root / "val.json").write_text(text.replace('images/000001.png"', 'images/000000.jpg"'))
    shutil.copy(root / "images" / "000001.png", root / "images" / "000000.jpg")
    with pytest.raises(DataError, match=r"two images would both be written as 'images/000000.png'"):
        write_conditions(read_dataset(root / "val.json"), CELLS, tmp_path / "cells")
    (root / "val.json").write_text(text)
    (root / "images" / "000001.png").write_bytes(b"no image")
    for workers in (0, 1):
        with pytest.raises(DataError, match=r"000001.png: .*") as error:
            write_conditions(read_dataset(root / "val.json"), CELLS[:1], tmp_path / "other", workers=workers)
        assert "Traceback" not in str(error.value)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--write", "x"], "--write and --data need each other"),
        (["--data", "DATA"], "--write and --data need each other"),
        (["--data", "DATA", "--write", "x", "--out", "y.png"], "--write goes with --data alone"),
        (["--data", "DATA", "--write", "x", "--seed", "1"], "--seed changes nothing with --write"),
        (["--data", "DATA", "--write", "x", "--jpeg", "0"], "--jpeg is 0 - it must be from 1 to 100"),
        (["--data", "DATA", "--write", "x", "--shard", "3/2"], "--shard '3/2' is not I/N"),
        (["--data", "DATA", "--write", "x", "--workers", "-1"], "--workers is -1"),
        (["--data", "DATA", "--write", "x", "--conditions", "clean,fgo"], "did you mean 'fog'"),
        (["--data", "DATA", "--write", "DATA"], "exists already and is never overwritten"),
    ],
)
def test_mistakes_are_named(data, tmp_path, monkeypatch, capsys, words, message):
    monkeypatch.chdir(tmp_path)
    assert main(["conditions", *(word.replace("DATA", str(data)) for word in words)]) == 2
    assert message in " ".join(capsys.readouterr().err.split())
    assert not list(tmp_path.iterdir())
