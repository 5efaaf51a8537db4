"""`drivetl doubt`: what it writes, that inputs stay as they are, and where its detections come from."""

import csv
import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from browser import WIDTHS, assert_the_page_fits, needs_browser
from doubt_cases import FAULTS, perfect, street, with_labels
from training_runs import kill_after, write_tree

from drivetl.cli import main
from drivetl.coco.io import read_dataset, write_dataset
from drivetl.config import dump_yaml, load_config
from drivetl.doubt.kinds import KINDS
from drivetl.doubt.predict import PLAN, folds_of
from drivetl.doubt.seen import seen_by
from drivetl.doubt.write import coco_results
from drivetl.draw.objects import png
from drivetl.errors import DataError
from drivetl.files.write import write_atomically


def run(*words):
    return main(["doubt", *map(str, words)])


@pytest.fixture(scope="module")
def faulty(tmp_path_factory):
    """(dataset json with a fault of each kind in images 3, 5 and 8, results of a perfect detector, the true labels)."""
    folder = tmp_path_factory.mktemp("faulty")
    true = street(n_images=9, seed=3, root=folder)
    for image in true.images:
        pixels = np.full((200, 400, 3), 120, np.uint8)
        for item in image.annotations:
            x, y, w, h = map(int, item.bbox_xywh)
            pixels[y : y + h, x : x + w] = (60 * item.category_id, 30, 200)
        write_atomically(folder / image.file_name, png(pixels))
    dataset = true
    for image_id, change in zip((3, 5, 8), FAULTS.values(), strict=True):
        dataset = with_labels(dataset, image_id, change)
    write_dataset(dataset, folder / "faulty.json")
    (folder / "results.json").write_bytes(coco_results(perfect(true)))
    return folder / "faulty.json", folder / "results.json", true


@pytest.fixture(scope="module")
def written(faulty, tmp_path_factory):
    out = tmp_path_factory.mktemp("written") / "out"
    assert run(faulty[0], "--predictions", faulty[1], "--as-ignore", "--out", out) == 0
    return out


def test_it_writes_table_document_page_detections_and_copies(written):
    names = sorted(path.name for path in written.iterdir())
    assert names == ["cvat", "dataset.json", "doubt.csv", "doubt.html", "doubt.json", "predictions.json"]
    with (written / "doubt.csv").open() as file:
        rows = list(csv.DictReader(file))
    document = json.loads((written / "doubt.json").read_text())
    assert [row["kind"] for row in rows] == [row["kind"] for row in document["doubts"]]
    assert sorted(row["kind"] for row in rows) == sorted(KINDS)
    assert {row["kind"]: int(row["image_id"]) for row in rows} == {"overlooked": 3, "swapped": 5, "badly_located": 8}
    assert [int(row["rank"]) for row in rows] == [1, 2, 3]
    assert document["counts"] == dict.fromkeys(KINDS, 1) and document["images"] == 9
    assert {row["image_id"] for row in document["image_quality"][:3]} == {3, 5, 8}


def test_the_screen_shows_counts_the_top_and_a_next_command(faulty, tmp_path, capsys):
    assert run(faulty[0], "--predictions", faulty[1], "--out", tmp_path / "out") == 0
    shown = capsys.readouterr().out
    assert all(text in shown for text in ("the most doubtful", "1 overlooked", "badly located", "005.png"))
    (line,) = (line for line in shown.splitlines() if line.startswith("next:"))
    assert "--as-ignore" in line and str(tmp_path / "out" / "predictions.json") in line


def test_law_the_same_from_the_written_detections(faulty, written, tmp_path):
    assert run(faulty[0], "--predictions", written / "predictions.json", "--out", tmp_path / "out") == 0
    assert (tmp_path / "out" / "doubt.csv").read_bytes() == (written / "doubt.csv").read_bytes()


def test_nothing_is_overwritten_and_the_input_stays(faulty, written, capsys):
    before = faulty[0].read_bytes(), (written / "doubt.csv").read_bytes()
    assert run(faulty[0], "--predictions", faulty[1], "--out", written) == 2
    assert "never overwritten" in capsys.readouterr().err
    assert (faulty[0].read_bytes(), (written / "doubt.csv").read_bytes()) == before


def test_law_the_copy_has_ignore_regions_in_place_of_what_is_doubted(faulty, written):
    before, after = read_dataset(faulty[0]), read_dataset(written / "dataset.json")
    assert after.categories == before.categories and len(after.images) == len(before.images)
    assert all((after.images_root / image.file_name).is_file() for image in after.images)
    for old, new in zip(before.images, after.images, strict=True):
        labels = [item.bbox_xywh for item in old.annotations]
        kept = [item.bbox_xywh for item in new.annotations]
        doubtful = old.id in (5, 8)
        assert kept == (labels[:1] + labels[2:] if doubtful else labels), old.id
        assert len(new.ignore_regions) == (old.id in (3, 5, 8))
    swapped = after.images[4].ignore_regions[0]
    true = {faulty[2].images[4].annotations[1].category_id, before.images[4].annotations[1].category_id}
    assert set(swapped.category_ids) == true and swapped.attributes["doubt"] == "swapped"
    x, y, w, h = after.images[7].ignore_regions[0].bbox_xywh
    for item in (before.images[7].annotations[1], faulty[2].images[7].annotations[1]):  # it covers both boxes
        bx, by, bw, bh = item.bbox_xywh
        assert x <= bx + 0.1 and y <= by + 0.1 and x + w >= bx + bw - 0.1 and y + h >= by + bh - 0.1


def test_law_a_copy_without_its_doubts_has_no_doubts(faulty, written, tmp_path):
    copy = written / "dataset.json"
    assert run(copy, "--predictions", faulty[1], "--out", tmp_path / "out") == 0
    assert json.loads((tmp_path / "out" / "doubt.json").read_text())["doubts"] == []
    assert not (tmp_path / "out" / "cvat").exists()


def test_law_cvat_reads_the_images_to_review(faulty, written, tmp_path):
    words = ["--format", "cvat", "--root", written / "cvat", "--images", faulty[0].parent, "--out", tmp_path / "back"]
    words += ["--taxonomy", written / "cvat" / "taxonomy.yaml"]
    assert main(["convert-footage", *map(str, words)]) == 0
    back = read_dataset(tmp_path / "back" / "all.json")
    assert [image.file_name for image in back.images] == ["003.png", "005.png", "008.png"]
    doubts = [
        item.attributes["doubt"] for image in back.images for item in image.annotations if "doubt" in item.attributes
    ]
    assert [text.split()[0] for text in doubts] == ["overlooked", "swapped", "badly"]
    true = {image.id: image for image in faulty[2].images}
    assert len(back.images[0].annotations) == len(true[3].annotations)  # the overlooked object is added


def test_the_page_is_self_contained(written):
    text = (written / "doubt.html").read_text()
    assert "<script" not in text and "http" not in text.replace("http-equiv", "")
    assert text.count('<figure class="card') == 3 and text.count("data:image/jpeg;base64,") == 3
    assert all(f'id="k-{kind}"' in text for kind in KINDS) and 'id="c-0"' in text


@needs_browser
@pytest.mark.parametrize("width", WIDTHS)
def test_the_page_fits_the_browser_width(width, written, tmp_path):
    assert_the_page_fits((written / "doubt.html").read_text(), tmp_path, width)


def test_an_image_that_cannot_be_drawn_is_text_on_the_page(faulty, tmp_path, capsys):
    shutil.copytree(faulty[0].parent, tmp_path / "data")
    (tmp_path / "data" / "005.png").write_bytes(b"no image")
    data, results = tmp_path / "data" / "faulty.json", tmp_path / "data" / "results.json"
    assert run(data, "--predictions", results, "--out", tmp_path / "out") == 0
    assert "005.png cannot be drawn" in capsys.readouterr().err
    assert (tmp_path / "out" / "doubt.html").read_text().count("data:image/jpeg;base64,") == 2


def test_names_from_the_data_are_escaped(faulty, tmp_path):
    dataset = replace(read_dataset(faulty[0]), categories=("<b>car</b>", "person", "truck"))
    write_dataset(dataset, tmp_path / "data.json")
    assert run(tmp_path / "data.json", "--predictions", faulty[1], "--out", tmp_path / "out") == 0
    assert "<b>car" not in (tmp_path / "out" / "doubt.html").read_text()


def test_an_empty_dataset_and_no_detections_have_a_page(faulty, tmp_path):
    write_dataset(read_dataset(faulty[0]).subset([]), tmp_path / "empty.json")
    (tmp_path / "none.json").write_text("[]")
    for number, data in enumerate((tmp_path / "empty.json", faulty[0])):
        out = tmp_path / f"out {number}"
        assert run(data, "--predictions", tmp_path / "none.json", "--as-ignore", "--out", out) == 0
        assert json.loads((out / "doubt.json").read_text())["doubts"] == []
        assert "</html>" in (out / "doubt.html").read_text()


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        ([], "name one source of detections"),
        (["--run", ".", "--predictions", "{results}"], "name one source of detections"),
        (["--predictions", "{results}", "--epochs", "2"], "--epochs is for --run"),
        (["--predictions", "{results}", "--threshold", "overlokd=0.5"], "did you mean 'overlooked'?"),
        (["--run", ".", "--epochs", "0"], "--epochs is 0"),
        (["--predictions", "{data}"], "not COCO results"),
    ],
)
def test_a_mistake_is_told_and_nothing_is_written(words, reason, faulty, tmp_path, capsys):
    words = [word.format(data=faulty[0], results=faulty[1]) for word in words]
    assert run(faulty[0], *words, "--out", tmp_path / "out") == 2
    assert reason in capsys.readouterr().err and not (tmp_path / "out").exists()


# ---- Where the detections come from


def test_a_run_that_did_not_see_the_data_is_used_directly(source, tmp_path, capsys):
    config, trained = source
    out = tmp_path / "out"
    assert run(config.data.val, "--run", trained, "--workers", "0", "--device", "cpu", "--out", out) == 0
    document = json.loads((out / "doubt.json").read_text())
    assert document["detections"]["how"] == "direct" and document["detections"]["images_seen_in_training"] == 0
    assert not (tmp_path / "out_folds").exists()
    assert json.loads((out / "predictions.json").read_text())


def test_classes_are_matched_by_name(source, tmp_path, capsys):
    config, trained = source
    val = read_dataset(Path(config.data.val))
    other = replace(val, categories=("bus", "car"))  # what was a car is labelled bus, a pedestrian car
    write_dataset(other, tmp_path / "other.json")
    words = ("--run", trained, "--workers", "0", "--device", "cpu", "--threshold", "0.01")
    assert run(tmp_path / "other.json", *words, "--out", tmp_path / "out") == 0
    assert "no class bus: labels of it are not checked" in capsys.readouterr().err
    document = json.loads((tmp_path / "out" / "doubt.json").read_text())
    assert document["not_scored"]["labels of a class that the detector lacks"] > 0
    assert {row["class"] for row in document["doubts"]} <= {"car"}
    write_dataset(replace(val, categories=("bus", "tram")), tmp_path / "none.json")
    assert run(tmp_path / "none.json", *words, "--out", tmp_path / "no") == 2
    assert "no class in common" in capsys.readouterr().err


def test_law_folds_share_no_drive_and_have_every_image():
    images = street(n_images=14).images
    folds = folds_of(images)
    assert sorted(image.id for fold in folds for image in fold) == [image.id for image in images]
    drives = [{image.drive for image in fold} for fold in folds]
    assert not drives[0] & drives[1] and all(drives)
    assert [[image.id for image in fold] for fold in folds_of(images)] == [
        [image.id for image in fold] for fold in folds
    ]
    lone = [replace(image, drive="one") for image in images]
    assert all(folds_of(lone)) and len(folds_of([replace(image, drive="") for image in images[:2]])) == 2
    with pytest.raises(DataError, match="too few"):
        folds_of(images[:1])


def test_a_run_that_saw_the_data_is_replaced_by_folds(source, tmp_path, capsys, monkeypatch):
    """Killed in the first fold, continued, finished; then the folds are used again."""
    config, trained = source
    out = tmp_path / "out"
    words = (config.data.train, "--run", trained, "--epochs", "1", "--workers", "0", "--device", "cpu", "--out", out)
    with monkeypatch.context() as patch:
        kill_after(patch, 1)
        assert run(*words) == 130
    assert not out.exists() and (tmp_path / "out_folds" / PLAN).is_file()
    assert run(*words) == 0
    document = json.loads((out / "doubt.json").read_text())
    assert document["detections"]["how"] == "out of fold"
    assert document["detections"]["images_seen_in_training"] == document["images"] == 8
    folds = tmp_path / "out_folds"
    whole = read_dataset(Path(config.data.train))
    held_out = []
    for number in (1, 2):
        train, val = (read_dataset(folds / f"fold_{number}_{name}.json") for name in ("train", "held_out"))
        assert not {image.drive for image in train.images} & {image.drive for image in val.images}
        assert load_config(folds / f"fold_{number}" / "config.yaml").model.start == config.model.start
        held_out += [image.id for image in val.images]
    assert sorted(held_out) == [image.id for image in whole.images]
    shutil.rmtree(out)
    stamps = {path: path.stat().st_mtime_ns for path in folds.glob("fold_*.npz")}
    assert run(*words) == 0
    assert {path: path.stat().st_mtime_ns for path in folds.glob("fold_*.npz")} == stamps
    shutil.rmtree(out)
    capsys.readouterr()
    assert run(*words[:-1], out, "--epochs", "2") == 2
    assert "of other data or of another run" in capsys.readouterr().err


def test_what_a_run_has_seen_includes_what_its_start_has_seen(tmp_path):
    data, other = write_tree(tmp_path / "data"), write_tree(tmp_path / "other", first_drive=20, seed=5)
    dataset = read_dataset(data)

    def make(name, train, start, **more):
        folder = tmp_path / name
        folder.mkdir()
        (folder / "config.yaml").write_text(dump_yaml(config_of(train, start, **more)))
        return folder

    def config_of(train, start, **more):
        text = {"data.train": train, "data.val": other, "model.start": start} | more
        path = tmp_path / "base.yaml"
        path.write_text("{}")
        return load_config(path, [word for key, value in text.items() for word in (f"--{key}", str(value))])

    old = make("old", data, "imagenet")
    young = make("young", other, old)
    unrelated = make("unrelated", other, "coco")
    replayed = make("replayed", other, "coco", **{"data.source": data, "data.source_share": 0.5})
    for folder, seen, start in (
        (old, 8, "imagenet"),
        (young, 8, "imagenet"),
        (unrelated, 0, "coco"),
        (replayed, 8, "coco"),
    ):
        found = seen_by(folder, dataset)
        assert (found.images, found.config.model.start, found.unknown) == (seen, start, ()), folder.name
    half = dataset.subset(dataset.images[:4])
    write_dataset(half, tmp_path / "data" / "half.json")  # another json of the same images
    assert seen_by(old, read_dataset(tmp_path / "data" / "half.json")).images == 4
    assert seen_by(tmp_path / "data", dataset).config is None


def test_training_data_that_is_gone_is_compared_by_its_hash(tmp_path):
    from drivetl.coco.hashes import file_hash

    data = write_tree(tmp_path / "data")
    dataset, folder = read_dataset(data), tmp_path / "run"
    folder.mkdir()
    (folder / "config.yaml").write_text("data: {train: gone.json, val: gone.json}\nmodel: {start: none}\n")
    assert seen_by(folder, dataset).unknown == (f"gone.json (data.train of {folder})",)
    (folder / "provenance.json").write_text(json.dumps({"train_sha256": file_hash(data)}))
    assert seen_by(folder, dataset).images == 8 and seen_by(folder, dataset).unknown == ()
