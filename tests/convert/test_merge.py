"""Merging: one dataset stays itself, nothing is lost, order changes only ids, unlabelled is not background."""

import json
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
import torch
from coco_makers import CLASSES, record, three_images
from hypothesis import given, settings
from hypothesis import strategies as st

from drivetl.cli import main
from drivetl.coco.io import read_dataset, write_dataset
from drivetl.coco.records import Annotation, Dataset, IgnoreRegion, ImageRecord
from drivetl.coco.taxonomy import parse_taxonomy
from drivetl.convert.merge import Source, alike, common_root, merge_datasets, merge_taxonomies, read_source
from drivetl.errors import DataError


def source(root, name: str, images, categories=CLASSES, **info) -> Source:
    return Source(root / f"{name}.json", Dataset(tuple(categories), list(images), root / name, {"source": name} | info))


def taxonomy(**relations) -> dict:
    return {"classes": {name: {"labels": [name.upper()], "from": of} for name, of in relations.items()}}


def city(root) -> Source:
    """Labels `bus` and `car` only: one image without objects, one region for all classes and one for cars."""
    full = ImageRecord(5, "a.png", 80, 40, "drive a", 3)
    full.annotations.append(Annotation(2, (1.0, 2.0, 3.0, 4.0), 12.0, [[1.0, 2.0, 4.0, 2.0, 4.0, 6.0]]))
    full.ignore_regions += [
        IgnoreRegion((0.0, 0.0, 5.0, 5.0), 25.0),
        IgnoreRegion((0.0, 0.0, 6.0, 6.0), 36.0, (2,), attributes={"source_label": "cargroup"}),
    ]
    return source(root, "city", [full, ImageRecord(9, "b.png", 80, 40)], ("bus", "car"))


def town(root) -> Source:
    return Source(root / "town.json", replace(three_images(root / "town"), info={"source": "town"}))


def by_name(dataset: Dataset) -> dict:
    """The content by names instead of ids: it must not depend on the order of the inputs."""

    def names(ids):
        return None if ids is None else frozenset(dataset.categories[number - 1] for number in ids)

    return {
        image.file_name: (
            image.width,
            image.height,
            image.drive,
            image.frame_index,
            image.attributes,
            image.extra,
            names(image.labelled),
            [(dataset.categories[item.category_id - 1], replace(item, category_id=0)) for item in image.annotations],
            [(names(item.category_ids), replace(item, category_ids=())) for item in image.ignore_regions],
        )
        for image in dataset.images
    }


def test_merging_one_dataset_keeps_it(tmp_path):
    only = town(tmp_path)
    merged = merge_datasets([only])
    numbered = [replace(image, id=number) for number, image in enumerate(only.dataset.images, 1)]
    assert (merged.categories, merged.images) == (only.dataset.categories, numbered)
    assert merged.images_root == only.dataset.images_root.resolve()


def test_every_image_lists_what_its_source_labels(tmp_path):
    merged = merge_datasets([town(tmp_path), city(tmp_path)])
    assert merged.categories == ("car", "pedestrian", "tram", "bus")
    assert {image.file_name: image.labelled for image in merged.images} == {
        "town/00001.png": (1, 2, 3),
        "town/00002.png": (1, 2, 3),
        "town/b/odd, [x].png": (1, 2),  # what it labelled before is kept
        "city/a.png": (1, 4),
        "city/b.png": (1, 4),
    }
    a = merged.images[3]
    assert [item.category_id for item in a.annotations] == [1]
    assert [region.category_ids for region in a.ignore_regions] == [(), (1,)]
    assert [(entry["root"], entry["classes"]) for entry in merged.info["labelled"]] == [
        ("town", ["car", "pedestrian", "tram"]),
        ("city", ["bus", "car"]),
    ]


def test_no_list_of_labelled_classes_when_the_sources_share_them(tmp_path):
    first = source(tmp_path, "x", [record(1, "", None, "c")])
    second = source(tmp_path, "y", [record(1, "", None, "c")], CLASSES[::-1])
    merged = merge_datasets([first, second])
    assert [image.labelled for image in merged.images] == [None, None]
    assert [image.annotations[0].category_id for image in merged.images] == [1, 3]


def test_the_training_target_marks_exactly_the_labelled_classes(tmp_path):
    from drivetl.data.dataset import read_sample, to_tensors

    merged = merge_datasets([town(tmp_path), city(tmp_path)])
    for image in merged.images:
        pixels = np.zeros((image.height, image.width, 3), np.uint8)
        _, target = to_tensors(read_sample(image, pixels, with_masks=False), len(merged.categories))
        labelled = target.get("labelled", torch.ones(1 + len(merged.categories), dtype=torch.bool))
        marked = {merged.categories[number - 1] for number in labelled.nonzero()[:, 0].tolist() if number}
        expected = {"car", "bus"} if image.file_name.startswith("city") else set(CLASSES)
        assert marked == expected - ({"tram"} if "odd" in image.file_name else set())
        assert labelled[0], "background is always known"


def test_drives_of_two_roots_are_distinct_and_those_of_one_root_are_shared(tmp_path):
    merged = merge_datasets([town(tmp_path), city(tmp_path)])
    assert {image.drive for image in merged.images} == {"town/drive a", "town/drive β", "city/drive a", ""}
    first = source(tmp_path, "x", [record(1, "d", 0)])
    second = Source(tmp_path / "y.json", replace(first.dataset, images=[record(2, "d", 1)]))
    assert [image.drive for image in merge_datasets([first, second]).images] == ["d", "d"]


def test_merging_stepwise_equals_merging_at_once(tmp_path):
    three = [
        town(tmp_path),
        city(tmp_path),
        source(tmp_path, "deep/x", [record(1, "d", 0, "pt")], ("cat", "dog", "cow")),
    ]
    pair = Source(tmp_path / "pair.json", merge_datasets(three[:2]))
    at_once, stepwise = merge_datasets(three), merge_datasets([pair, three[2]])
    assert stepwise == at_once
    # ids differ, because `car` appears later; names do not
    assert by_name(merge_datasets([three[2], pair])) == by_name(at_once)


_classes = st.lists(st.sampled_from(["car", "bus", "tram", "cyclist", "van"]), min_size=1, unique=True)


@st.composite
def _sources(draw):
    sources = []
    for name in draw(st.lists(st.sampled_from("abcd"), min_size=1, max_size=4, unique=True)):
        classes = tuple(draw(_classes))
        ids = st.integers(1, len(classes))
        images = []
        for number in range(draw(st.integers(0, 3))):
            image = ImageRecord(number + 1, f"{number}.png", 9, 9, draw(st.sampled_from(["", "d"])))
            image.annotations = [
                Annotation(class_id, (0.0, 0.0, 1.0, 2.0), 2.0, attributes={"source_label": classes[class_id - 1]})
                for class_id in draw(st.lists(ids, max_size=3))
            ]
            image.ignore_regions = [
                IgnoreRegion((0.0, 0.0, 3.0, 3.0), 9.0, () if len(hidden) == len(classes) else tuple(sorted(hidden)))
                for hidden in draw(st.lists(st.sets(ids), max_size=2))
            ]
            image.labelled = draw(
                st.none() | st.sets(ids, min_size=1, max_size=max(1, len(classes) - 1)).map(sorted).map(tuple)
            )
            images.append(image)
        sources.append((name, classes, images))
    return sources


@settings(max_examples=40)
@given(_sources(), st.randoms(use_true_random=False))
def test_no_object_is_lost_in_any_order(tmp_path_factory, drawn, random):
    root = tmp_path_factory.getbasetemp() / "merge"
    sources = [source(root, name, images, classes) for name, classes, images in drawn]
    merged = merge_datasets(sources)
    before = Counter(
        item_source.dataset.categories[item.category_id - 1]
        for item_source in sources
        for image in item_source.dataset.images
        for item in image.annotations
    )
    after = Counter(merged.categories[item.category_id - 1] for image in merged.images for item in image.annotations)
    assert before == after
    n_regions = sum(len(image.ignore_regions) for item_source in sources for image in item_source.dataset.images)
    assert n_regions == sum(len(image.ignore_regions) for image in merged.images)
    shuffled = random.sample(sources, len(sources))
    again = merge_datasets(shuffled)
    assert by_name(again) == by_name(merged) and set(again.categories) == set(merged.categories)
    assert [image.id for image in again.images] == list(range(1, len(again.images) + 1))


def test_a_merged_dataset_survives_writing_and_reading(tmp_path):
    merged = merge_datasets([town(tmp_path), city(tmp_path)])
    write_dataset(merged, tmp_path / "out" / "all.json")
    back = read_dataset(tmp_path / "out" / "all.json")
    assert (back.categories, back.images_root, back.info) == (merged.categories, merged.images_root, merged.info)
    assert by_name(back) == by_name(merged)


def test_an_image_of_two_sources_is_an_error_that_names_both(tmp_path):
    first = source(tmp_path, "x", [record(1)])
    second = Source(tmp_path / "y.json", replace(first.dataset, categories=("bus",)))
    with pytest.raises(DataError, match=r"00001\.png") as error:
        merge_datasets([first, second])
    assert "x.json" in str(error.value) and "y.json" in str(error.value)


def test_the_relation_of_every_class_is_kept(tmp_path):
    first = source(tmp_path, "x", [], ("car", "rider"), taxonomy=taxonomy(car={}, rider={"person": 1, "bicycle": 1}))
    second = source(tmp_path, "y", [], ("van", "car"), taxonomy=taxonomy(van={"truck": 1}, car={"car": 2}))
    for order in ([first, second], [second, first]):
        merged = parse_taxonomy(merge_datasets(order).info["taxonomy"])
        assert merged.relation() == {
            "car": {"car": 1.0},
            "van": {"truck": 1.0},
            "rider": {"person": 0.5, "bicycle": 0.5},
        }
        assert merged.categories == merge_datasets(order).categories


def test_conflicting_relations_are_an_error_that_names_both(tmp_path):
    first = source(tmp_path, "x", [], ("rider",), taxonomy=taxonomy(rider={"person": 1}))
    second = source(tmp_path, "y", [], ("rider",), taxonomy=taxonomy(rider={"bicycle": 1}))
    with pytest.raises(DataError, match="'rider' grows out of") as error:
        merge_datasets([first, second])
    text = str(error.value)
    assert "x.json" in text and "y.json" in text and "person" in text and "bicycle" in text


def test_a_label_has_one_rule_in_the_merged_taxonomy(tmp_path):
    one = taxonomy(car={}) | {"ignore": {"group": ["car"], "Van": "all"}, "drop": ["VAN", "sky"], "min_height_px": 25}
    two = taxonomy(van={}) | {"ignore": {"group": ["van"]}, "drop": ["CAR", "road", "Van"]}
    pair = [source(tmp_path, "x", [], ("car",), taxonomy=one), source(tmp_path, "y", [], ("van",), taxonomy=two)]
    merged = merge_taxonomies(pair)
    assert parse_taxonomy(merged.as_dict()) == merged  # parse_taxonomy refuses a label in two places
    assert [item.labels for item in merged.classes] == [("CAR",), ("VAN",)]
    assert dict(merged.ignore) == {"group": ("car", "van"), "Van": ()} and merged.drop == ("sky", "road")
    assert merged.min_height_px == 0


def test_common_root_and_similar_class_names():
    from pathlib import Path

    root, prefixes = common_root([Path("/nowhere/x/.hidden"), Path("/nowhere/x"), Path("/nowhere/x/y/z")])
    assert (root, prefixes) == (Path("/nowhere/x"), [".hidden", "", "y/z"])
    assert alike(["Car", "truck", "car", "traffic_light", "traffic light"]) == [
        ("Car", "car"),
        ("traffic_light", "traffic light"),
    ]


@pytest.fixture
def folders(tmp_path):
    """Two folders as a conversion writes them."""
    for name, classes in (("x", CLASSES), ("y", ("bus", "car"))):
        images = [record(number, f"d{number // 2}", number, "c") for number in range(1, 9)]
        write_dataset(Dataset(classes, images, tmp_path / name, {"source": name}), tmp_path / f"{name}.json")
        assert (
            main(["split", str(tmp_path / f"{name}.json"), "--out", str(tmp_path / name / "coco"), "--seed", "3"]) == 0
        )
    return [tmp_path / "x" / "coco", tmp_path / "y" / "coco"]


def names(path) -> set[str]:
    return {image.file_name for image in read_dataset(path).images}


def test_keep_split_joins_train_with_train_and_val_with_val(folders, tmp_path, capsys):
    out = tmp_path / "out"
    assert main(["merge", *map(str, folders), "--out", str(out), "--keep-split"]) == 0
    for side in ("train", "val", "all"):
        parts = [{f"{folder.parent.name}/{name}" for name in names(folder / f"{side}.json")} for folder in folders]
        assert names(out / f"{side}.json") == parts[0] | parts[1]
    summary = json.loads((out / "summary.json").read_text())
    assert summary["account"]["read"] == {"bus": 8, "car": 8} and summary["split"]["method"] == "kept"
    assert summary["objects"]["all"] == {"car": 8, "pedestrian": 0, "tram": 0, "bus": 8}
    assert "not labelled" in capsys.readouterr().out


def test_the_command_splits_and_is_reproducible(folders, tmp_path):
    argv = ["merge", *map(str, folders), "--val-fraction", "0.4", "--out"]
    assert main([*argv, str(tmp_path / "one")]) == 0 == main([*argv, str(tmp_path / "two")])
    assert (tmp_path / "one" / "all.json").read_bytes() == (tmp_path / "two" / "all.json").read_bytes()
    train, val = (read_dataset(tmp_path / "one" / f"{side}.json") for side in ("train", "val"))
    assert not {image.drive for image in train.images} & {image.drive for image in val.images}
    assert len(train.images) + len(val.images) == 16


@pytest.mark.parametrize(
    ("extra", "words"),
    [
        (["--keep-split", "--split", "random"], "contradict"),
        (["FILE", "--keep-split"], "is not a folder"),
        (["nowhere.json"], "nowhere.json"),
        (["FILE"], "as well"),
    ],
)
def test_mistakes_are_one_line_on_stderr(folders, tmp_path, capsys, extra, words):
    extra = [str(folders[0] / "all.json") if word == "FILE" else word for word in extra]
    capsys.readouterr()
    assert main(["merge", "--out", str(tmp_path / "out"), *map(str, folders), *extra]) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ") and words in error and error.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_a_broken_split_is_an_error_with_its_file(folders, tmp_path, capsys):
    (folders[0] / "val.json").write_bytes((folders[0] / "train.json").read_bytes())
    capsys.readouterr()
    assert main(["merge", *map(str, folders), "--keep-split", "--out", str(tmp_path / "out")]) == 2
    assert "val.json" in capsys.readouterr().err


def test_a_folder_means_its_all_json(folders):
    assert read_source(folders[0]).path == folders[0] / "all.json"


@pytest.mark.parametrize("whole", [True, False])
def test_law_train_of_one_source_and_val_of_another_are_not_a_split(whole, tmp_path):
    """Subsets that a source names are its split only where the source has both."""
    folders = []
    for name, only in (("a", "train"), ("b", "val")):
        root = tmp_path / name
        root.mkdir()
        images = [record(number, f"{name}{number}", number) for number in range(1, 7)]
        for number, image in enumerate(images):
            image.file_name = f"{name}_{number}.png"
            image.attributes["subset"] = ("train", "val")[number % 2] if whole else only
        write_dataset(Dataset(CLASSES, images, root, {"source": name}), root / "all.json")
        folders.append(str(root / "all.json"))
    assert main(["merge", *folders, "--out", str(tmp_path / "out")]) == 0
    split = json.loads((tmp_path / "out" / "summary.json").read_text())["split"]
    assert split["method"] == ("folders" if whole else "sequence")
