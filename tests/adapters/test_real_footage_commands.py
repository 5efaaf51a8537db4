"""Real footage through the command line: splits that cannot leak, counts of the label files, consumers that load it."""

from __future__ import annotations

import csv
import json
import shutil
from collections import Counter
from pathlib import Path

import pytest
from footage_trees import SAMPLES, SHARED
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from drivetl.cli import main
from drivetl.coco.io import read_dataset
from drivetl.coco.taxonomy import load_taxonomy

pytestmark = pytest.mark.skipif(not SAMPLES.is_dir(), reason="the shared sample files are not available")
DATASETS = Path(__file__).parents[2] / "datasets"


def convert(out: Path, *words: object) -> dict:
    """Convert and return the summary."""
    assert main(["convert-footage", *map(str, words), "--out", str(out)]) == 0
    summary: dict = json.loads((out / "summary.json").read_text())
    return summary


def sides(out: Path) -> tuple[set[str], set[str]]:
    """The sequences of train and of val."""
    train, val = (read_dataset(out / f"{name}.json") for name in ("train", "val"))
    assert train.images and val.images
    return {image.drive for image in train.images}, {image.drive for image in val.images}


@pytest.fixture(scope="module")
def four_cities(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Frames of four cities of `cityscapes_400`, four neighbours from each of several recordings."""
    source, root = SHARED / "cityscapes_400", tmp_path_factory.mktemp("city")
    shutil.copy(source / "data.yaml", root)
    names = sorted(path.stem for path in (source / "images").glob("*.jpg"))
    chosen: list[str] = []
    for city in ("aachen", "hamburg", "hanover", "strasbourg"):
        own = [name for name in names if name.startswith(city)]
        chosen += own[:6] + own[-6:]
    for folder, suffix in (("images", ".jpg"), ("labels", ".txt")):
        (root / folder).mkdir()
        for name in chosen:
            shutil.copy(source / folder / f"{name}{suffix}", root / folder)
    return root


def test_cityscapes_splits_by_city_and_by_recording(four_cities: Path, tmp_path: Path) -> None:
    path = DATASETS / "cityscapes_yolo" / "taxonomy.yaml"
    taxonomy = load_taxonomy(path)
    common = ("--format", "yolo", "--root", four_cities, "--taxonomy", path, "--visible-masks")
    by_city = convert(tmp_path / "city", *common, "--sequence-from", "^([a-z]+)_")
    train, val = sides(tmp_path / "city")
    assert train | val == {"aachen", "hamburg", "hanover", "strasbourg"} and not train & val
    assert by_city["leaks"]["shared_sequences"] == [] and by_city["split"]["method"] == "sequence"

    by_recording = convert(tmp_path / "recording", *common, "--sequence-from", "^([a-z]+_[0-9]+)_")
    train, val = sides(tmp_path / "recording")
    assert len(train | val) > 8 and not train & val and by_recording["leaks"]["nearest_frame_gap"] is None

    names = [
        line.strip().split(": ")[-1].strip("'\"- ") for line in (four_cities / "data.yaml").read_text().splitlines()
    ]
    labels = [name for name in names if name in {*taxonomy.drop, *(label for label, _ in taxonomy.ignore)}]
    assert "building" in labels and "cargroup" in labels
    for summary in (by_city, by_recording):
        assert len(summary["categories"]) == 8 and summary["account"]["rejected"] == {}
        dropped, ignored = summary["account"]["dropped"], summary["account"]["ignored"]
        assert dropped["label building"] > 48 and ignored["label cargroup"] > 5
        assert set(dropped) - {"hidden completely behind later polygons"} <= {
            *(f"label {name}" for name in taxonomy.drop),
            "repeated row",
            "row of zero size",
            "zero width or height",
        }
    data = read_dataset(tmp_path / "city" / "all.json")
    assert all(item.segmentation for image in data.images for item in image.annotations)
    assert by_city["account"] == by_recording["account"]


def test_highway_drives_stay_whole_and_keep_their_slices(tmp_path: Path) -> None:
    root = SHARED / "highway_camera"
    taxonomy = DATASETS / "highway_camera" / "taxonomy.yaml"
    common = ("--format", "yolo", "--root", root, "--taxonomy", taxonomy)
    summary = convert(tmp_path / "out", *common, "--attributes", root / "attributes.csv")
    train, val = sides(tmp_path / "out")
    with (root / "attributes.csv").open() as file:
        rows = {row["file_name"]: row for row in csv.DictReader(file)}
    assert not train & val and train | val == {row["sequence"] for row in rows.values()}
    assert summary["split"]["method"] == "sequence" and summary["categories"] == ["car", "truck", "bus"]
    for name in ("train", "val"):
        for image in read_dataset(tmp_path / "out" / f"{name}.json").images:
            row = rows[image.file_name]
            assert image.attributes == {"weather": row["weather"], "timeofday": row["timeofday"]}


EXPORTS = {
    "cvat project": ("cvat", "cvat_images/export_project"),
    "cvat task": ("cvat", "cvat_images/export_task"),
    "cvat video": ("cvat", "cvat_video_job"),
    "labelme": ("labelme", "labelme"),
    "voc": ("voc", "voc"),
    "yolo": ("yolo", "yolo/labels"),
    "yolo strict": ("yolo", "yolo/strict"),
    "bdd100k": ("bdd100k", "bdd100k"),
    "scalabel": ("bdd100k", "scalabel"),
    "cityscapes": ("cityscapes", "cityscapes/dataset"),
    "mot": ("mot", "mot"),
    "kitti as voc": ("voc", "kitti_as_voc"),
    "kitti as yolo": ("yolo", "kitti_as_voc"),
}


def test_every_shared_sample_has_its_conversion() -> None:
    folders = {folder.partition("/")[0] for _, folder in EXPORTS.values()}
    assert folders == {path.name for path in SAMPLES.iterdir() if path.is_dir()}


@pytest.mark.parametrize("name", EXPORTS)
def test_other_tools_load_it_and_the_truth_scores_one(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    format_name, folder = EXPORTS[name]
    images = ("--images", SHARED / "kitti" / "training" / "image_2") if "kitti" in name else ()
    account = convert(tmp_path / "out", "--format", format_name, "--root", SAMPLES / folder, *images)["account"]
    parts = ("kept", "ignored", "dropped", "rejected")
    assert sum(account["read"].values()) == sum(sum(account[part].values()) for part in parts) > 0
    check_coco(json.loads((tmp_path / "out" / "all.json").read_text()))
    truth = COCO(str(tmp_path / "out" / "all.json"))
    results = [
        {key: item[key] for key in ("image_id", "category_id", "bbox")} | {"score": 0.9} for item in truth.anns.values()
    ]
    evaluation = COCOeval(truth, truth.loadRes(results), "bbox")
    evaluation.params.maxDets = [1, 10, 1000]
    evaluation.evaluate()
    evaluation.accumulate()
    precision = evaluation.eval["precision"][..., 0, -1]
    assert precision[precision > -1].min() > 1 - 1e-9
    capsys.readouterr()


def check_coco(document: dict) -> None:
    """What tools such as FiftyOne, torchvision and detectron2 take for granted of a COCO json."""
    assert isinstance(document["info"], dict) and isinstance(document["licenses"], list)
    names = {item["id"]: item["name"] for item in document["categories"]}
    assert [*names] == list(range(1, len(names) + 1)) and all("supercategory" in c for c in document["categories"])
    images = {image["id"]: image for image in document["images"]}
    assert len(images) == len(document["images"]) == len({image["file_name"] for image in images.values()})
    for image in images.values():
        assert type(image["width"]) is type(image["height"]) is int and "\\" not in image["file_name"]
    ids = Counter(item["id"] for item in document["annotations"])
    assert set(ids.values()) <= {1}
    for item in document["annotations"]:
        image, (x, y, w, h) = images[item["image_id"]], item["bbox"]
        assert item["category_id"] in names and item["iscrowd"] in (0, 1) and item["area"] >= 0
        assert x >= 0 and y >= 0 and w > 0 and h > 0
        assert x + w <= image["width"] + 1e-9 and y + h <= image["height"] + 1e-9
        if isinstance(item.get("segmentation"), dict):
            assert item["segmentation"]["size"] == [image["height"], image["width"]]
        else:
            assert all(len(ring) >= 6 and not len(ring) % 2 for ring in item.get("segmentation", []))
