"""Taxonomies: the shipped ones hold, and a broken one says which entry is wrong."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from drivetl.coco.taxonomy import load_taxonomy, own_labels, parse_taxonomy
from drivetl.errors import ConfigError, DataError
from drivetl.files.shipped import shipped

# torchvision's COCO names of driving scenes, which `from:` may name
COCO = {
    "person",
    "bicycle",
    "car",
    "motorcycle",
    "bus",
    "train",
    "truck",
    "traffic light",
    "stop sign",
    "fire hydrant",
    "parking meter",
    "bench",
    "dog",
    "cat",
    "horse",
    "cow",
    "sheep",
    "bird",
    "boat",
    "airplane",
    "skateboard",
    "suitcase",
    "backpack",
    "handbag",
    "umbrella",
}


def test_kittis_taxonomy_is_what_the_project_says():
    taxonomy = load_taxonomy(shipped("datasets/kitti/taxonomy.yaml"))
    assert taxonomy.categories == ("car", "van", "truck", "tram", "pedestrian", "person_sitting", "cyclist")
    assert taxonomy.ignored_ids("DontCare") == () == taxonomy.ignored_ids("Misc")
    assert taxonomy.relation()["cyclist"] == {"person": 0.5, "bicycle": 0.5}
    assert taxonomy.relation()["van"] == {"car": 0.6, "truck": 0.3, "bus": 0.1}  # weights stay as written
    assert taxonomy.category_id("Person_sitting") == 6 and taxonomy.category_id("car") is None


@pytest.mark.parametrize("path", sorted(shipped("datasets").glob("*/taxonomy.yaml")), ids=lambda path: path.parent.name)
def test_every_shipped_taxonomy_loads_and_grows_out_of_known_classes(path):
    taxonomy = load_taxonomy(path)
    for relation in (dict(item.grows_from) for item in taxonomy.classes):
        assert set(relation) <= COCO
        assert not relation or sum(relation.values()) == pytest.approx(1)
    assert parse_taxonomy(taxonomy.as_dict()) == taxonomy


def test_own_labels_are_sorted_and_the_hash_follows_the_meaning():
    assert own_labels(["b", "a", "b"]).categories == ("a", "b")
    assert own_labels(["a", "b"]).digest == own_labels(["b", "a"]).digest != own_labels(["a"]).digest


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "needs `classes`"),
        ("classes: {}", "needs `classes`"),
        ("classes: [car]", "needs `classes`"),
        ("classes: {car: }\nclases: 3", "t.yaml:2: unknown key 'clases' - did you mean 'classes'"),
        ("classes: {car: [Car]}", "class 'car' must be"),
        ("classes: {car: {label: [Car]}}", "class 'car' must be"),
        ("classes: {car: {labels: Car}}", "labels of class 'car' must be a list"),
        ("classes: {car: {from: {car: 0}}}", "`from` of class 'car'"),
        ("classes: {car: {from: {car: .nan}}}", "`from` of class 'car'"),
        (
            "classes: {car: {labels: [Car]}, van: {labels: [Car]}}",
            "t.yaml:1: label 'Car' is in class 'car' and in class 'van'",
        ),
        ("classes: {car: {labels: [Car]}}\ndrop: [Car]", "t.yaml:2: label 'Car' is in class 'car' and in drop"),
        ("classes: {car: }\nignore: {Fog: [bus]}", "t.yaml:2: ignore of 'Fog' names 'bus', which is not a class"),
        ("classes: {car: }\nignore: Fog", "ignore must be a list"),
        ("classes: {car: {labels: [true]}}", "labels of class 'car' must be a list"),
        ("classes:\n  car:\n  van:\n  car:", "t.yaml:4: key 'car' is duplicated, it is on line 2 and on line 4"),
        ("classes: {car: \n - [", "t.yaml:2: not valid YAML"),
        ("classes: &a {car: *a}", "t.yaml"),
        ("classes: !!python/object/apply:os.system [ls]", "t.yaml"),
    ],
)
def test_a_broken_taxonomy_names_file_and_entry(tmp_path, text, reason):
    (tmp_path / "t.yaml").write_text(text)
    with pytest.raises(DataError) as caught:
        load_taxonomy(tmp_path / "t.yaml")
    assert reason in str(caught.value) and "t.yaml" in str(caught.value)


def test_laughing_yaml_stays_small(tmp_path):
    lines = ["description:", "- &a [x, x, x, x, x, x, x, x, x]"]
    pairs = zip("abcdefgh", "bcdefghi", strict=True)
    lines += [f"- &{name} [{', '.join([f'*{before}'] * 9)}]" for before, name in pairs]
    (tmp_path / "t.yaml").write_text("\n".join(lines) + "\nclasses: {car: {labels: *i}}")
    with pytest.raises(DataError) as caught:
        load_taxonomy(tmp_path / "t.yaml")
    assert "more than 200,000 values" in str(caught.value) and len(str(caught.value)) < 500


def test_the_nearest_label_is_suggested():
    taxonomy = parse_taxonomy(yaml.safe_load("classes: {car: {labels: [Car]}}\ndrop: [Tree]"))
    assert "did you mean 'Tree'" in taxonomy.suggestion("Tre")
    assert taxonomy.suggestion("Zeppelin").startswith("add it to")


def test_shipped_files_are_found_from_anywhere(tmp_path):
    code = "from drivetl.files.shipped import shipped; print(shipped('datasets/kitti/taxonomy.yaml'))"
    env = os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])}
    found = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, env=env, capture_output=True, text=True, check=True
    )
    assert Path(found.stdout.strip()).is_file()
    with pytest.raises(ConfigError, match="not part of this installation"):
        shipped("datasets/none")


@pytest.mark.parametrize("value", [0, "", False])
@pytest.mark.parametrize(
    "text", ["classes: {car: {}}\ndrop: %s", "classes: {car: {}}\nignore: %s", "classes:\n  car: {from: %s}"]
)
def test_a_value_that_counts_as_false_is_not_a_missing_list(tmp_path, value, text):
    """Label 0 is a label: `drop: 0` without brackets is an error, not "nothing is dropped"."""
    path = tmp_path / "taxonomy.yaml"
    path.write_text(text % json.dumps(value))
    with pytest.raises(DataError, match=r"taxonomy\.yaml:2: .* must (be a list|map)"):
        load_taxonomy(path)
