"""The dataset json: round trips, the same bytes, and errors that say which record on which line."""

import json
import re
from pathlib import Path

import pytest
from coco_makers import CLASSES, dataset, record, three_images
from hypothesis import given, settings
from hypothesis import strategies as st

from drivetl.coco.io import load_json, read_dataset, write_dataset
from drivetl.coco.json_lines import JsonText, line_in_file
from drivetl.coco.records import Annotation, IgnoreRegion, ImageRecord
from drivetl.coco.writing import encode_datasets
from drivetl.errors import DataError

names = st.text(st.characters(codec="utf-8", exclude_characters="\0:/\\"), min_size=1, max_size=8)
plain = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.floats(allow_nan=False, allow_infinity=False) | names,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(names, inner, max_size=3),
    max_leaves=6,
)
attributes = st.dictionaries(names.filter(lambda name: name != "ignore_region"), plain, max_size=3)
extras = st.dictionaries(names.map(lambda name: f"x_{name}"), plain, max_size=2)
boxes = st.tuples(*[st.floats(-1e6, 1e6)] * 2, *[st.floats(0, 1e6)] * 2)


@st.composite
def image_records(draw):
    count = draw(st.integers(0, 4))
    images = []
    for number in range(1, count + 1):
        image = ImageRecord(
            number,
            f"{draw(names.filter(lambda name: name.strip('. ')))}{number}.png",
            draw(st.integers(1, 5000)),
            draw(st.integers(1, 5000)),
            draw(names | st.just("")),
            draw(st.none() | st.integers(0, 10**9)),
            draw(attributes),
            draw(st.none() | st.just((1, 3))),
            extra=draw(extras),
        )
        for _ in range(draw(st.integers(0, 3))):
            image.annotations.append(
                Annotation(
                    draw(st.integers(1, 3)), draw(boxes), draw(st.floats(0, 1e9)), None, draw(attributes), draw(extras)
                )
            )
        for _ in range(draw(st.integers(0, 3))):
            ids = draw(st.sampled_from([(), (1,), (2, 3)]))
            image.ignore_regions.append(
                IgnoreRegion(draw(boxes), draw(st.floats(0, 1e9)), ids, None, draw(attributes), draw(extras))
            )
        images.append(image)
    return images


@settings(max_examples=50)
@given(image_records())
def test_reading_gives_back_what_was_written_and_the_same_bytes_again(tmp_path_factory, images):
    folder = tmp_path_factory.mktemp("io")
    data = dataset(images, folder / "images")
    write_dataset(data, folder / "a.json")
    back = read_dataset(folder / "a.json")
    assert back == data
    write_dataset(back, folder / "b.json")
    assert (folder / "a.json").read_bytes() == (folder / "b.json").read_bytes()


def test_the_file_is_what_the_contract_says(tmp_path):
    write_dataset(three_images(tmp_path / "images"), tmp_path / "sub" / "d.json")
    text = (tmp_path / "sub" / "d.json").read_text()
    document = json.loads(text)
    assert document["info"]["drivetl"]["images_root"] == "../images"
    assert [item["id"] for item in document["categories"]] == [1, 2, 3]
    ids = [item["id"] for item in document["annotations"]]
    assert ids == list(range(1, len(ids) + 1))
    crowd = [item for item in document["annotations"] if item["iscrowd"]]
    assert [(item["attributes"]["ignore_region"], item["category_id"]) for item in crowd] == [
        (0, 1),
        (0, 2),
        (0, 3),
        (1, 1),
        (1, 2),
        (1, 3),
        (2, 1),
        (2, 3),
    ]
    assert all(item.keys() == json.loads(json.dumps(item, sort_keys=True)).keys() for item in crowd)
    assert len(text.splitlines()) == 3 + len(CLASSES) + 1 + 3 + 1 + len(ids)  # one record a line


def test_parts_share_ids_with_the_whole(tmp_path):
    whole = three_images(tmp_path)
    part = whole.subset(whole.images[2:])
    files = {k: json.loads(b"".join(v)) for k, v in encode_datasets({"a": whole, "b": part}, tmp_path).items()}
    mine = [item for item in files["a"]["annotations"] if item["image_id"] == 7]
    assert files["b"]["annotations"] == mine and len(mine) == 9


def test_pycocotools_reads_it(tmp_path):
    from pycocotools.coco import COCO

    write_dataset(three_images(tmp_path), tmp_path / "d.json")
    assert len(COCO(str(tmp_path / "d.json")).anns) == 12


@pytest.mark.parametrize("value", [float("nan"), float("inf"), 2**70, "\udc80", {1: 2}, object()])
def test_what_json_cannot_hold_is_refused_and_named_and_nothing_is_written(tmp_path, value):
    image = record(1, "a", 0, "c", odd=value)
    with pytest.raises(DataError, match=r"image '00001.png': "):
        write_dataset(dataset([image], tmp_path), tmp_path / "d.json")
    assert list(tmp_path.iterdir()) == []


def test_a_dataset_behind_a_link_finds_its_images(tmp_path):
    (tmp_path / "deep" / "er").mkdir(parents=True)
    (tmp_path / "images").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "deep" / "er")
    write_dataset(dataset([record(1)], tmp_path / "images"), tmp_path / "link" / "d.json")
    for path in (tmp_path / "link" / "d.json", tmp_path / "deep" / "er" / "d.json"):
        assert read_dataset(path).images_root == (tmp_path / "images").resolve()


def test_a_null_that_is_meant_survives(tmp_path):
    image = record(1, odd=None, words="null")
    write_dataset(dataset([image], tmp_path), tmp_path / "d.json")
    assert read_dataset(tmp_path / "d.json").images == [image]


def broken(key, position, **changes):
    def change(document):
        document[key][position] |= changes

    return change


FAULTS = [
    (broken("annotations", 1, bbox=[1, 2, -3, 4]), "annotations[1]: bbox [1.0, 2.0, -3.0, 4.0]"),
    (broken("annotations", 1, bbox=[1, 2, 3]), "annotations[1]: bbox is [1, 2, 3], not four numbers"),
    (broken("annotations", 0, bbox=[1e308, 1e308, 1e308, 1e308]), "annotations[0]: bbox"),
    (broken("annotations", 0, bbox=None), "annotations[0]: bbox is None, not four numbers"),
    (broken("annotations", 2, category_id=4), "annotations[2]: category_id 4 is not listed in `categories`"),
    (broken("annotations", 2, image_id=99), "annotations[2]: image_id 99 is not listed in `images`"),
    (broken("annotations", 2, image_id=[1]), "annotations[2]: image_id is [1], not a number"),
    (broken("annotations", 2, id=1), "annotations[2]: annotation id 1 is duplicated"),
    (broken("annotations", 2, iscrowd=3), "annotations[2]: iscrowd is 3"),
    (broken("annotations", 2, segmentation="abc"), "annotations[2]: segmentation is neither"),
    (broken("annotations", 2, attributes=[1]), "annotations[2]: attributes is [1], not an object"),
    (broken("images", 1, id=1), "images[1]: image id 1 is duplicated"),
    (broken("images", 1, width=0), "images[1]: image size 0 x 50"),
    (broken("images", 1, width=60000, height=60000), "images[1]: image size 60000 x 60000"),
    (broken("images", 1, file_name="../../etc/passwd"), "leaves its folder"),
    (broken("images", 1, file_name="/etc/passwd"), "leaves its folder"),
    (broken("images", 1, file_name=7), "images[1]: file_name is 7, not a text"),
    (broken("images", 1, frame_index="late"), "images[1]: frame_index is 'late', not a number"),
    (broken("images", 1, labelled=[9]), "images[1]: labelled 9 is not listed in `categories`"),
    (broken("categories", 1, id=5), "category ids are [1, 3, 5], not 1..3"),
    (broken("categories", 1, name="car"), "two categories are called 'car'"),
    (lambda document: document["images"].append(7), "images[3]: the record is 7, not an object"),
    (lambda document: document.pop("images"), "not a COCO dataset: the list `images` is missing"),
    (lambda document: document.update(annotations={}), "not a COCO dataset: `annotations` is {}, not a list"),
    (lambda document: document.update(info={"drivetl": 3}), "info.drivetl is not"),
    (lambda document: document.update(info={"drivetl": {"images_root": 3}}), "info.drivetl is not"),
    (lambda document: document.update(info={"drivetl": {"images_root": "a\0"}}), "info.drivetl is not"),
]


@pytest.mark.parametrize(("change", "reason"), FAULTS, ids=[reason for _, reason in FAULTS])
def test_a_broken_record_is_named_with_file_and_line(tmp_path, change, reason):
    path = tmp_path / "d.json"
    write_dataset(three_images(tmp_path), path)
    document = json.loads(path.read_text())
    change(document)
    path.write_text(json.dumps(document, indent=1))
    with pytest.raises(DataError) as caught:
        read_dataset(path)
    assert reason in str(caught.value) and "d.json:" in str(caught.value) and caught.value.remedy
    if (place := re.match(r"(images|annotations)\[(\d+)\]", reason)) is not None:
        key, position = place.groups()
        line = caught.value.line
        assert line == JsonText(path.read_bytes()).line((key, int(position)))
        above = "\n".join(path.read_text().splitlines()[: line - 1])
        assert above.rstrip().endswith(("[", ",")) and f'"{key}": [' in above


def test_info_of_another_shape_is_no_obstacle(tmp_path):
    for info in ([1], "words", None, {"drivetl": None}):
        document = {"info": info, "images": [], "annotations": [], "categories": []}
        (tmp_path / "d.json").write_text(json.dumps(document))
        assert read_dataset(tmp_path / "d.json").images_root == tmp_path


@pytest.mark.parametrize("end", [0, 1, 40, 300, -3])
def test_a_file_cut_off_anywhere_is_an_error_with_its_line(tmp_path, end):
    write_dataset(three_images(tmp_path), tmp_path / "d.json")
    data = (tmp_path / "d.json").read_bytes()[:end]
    (tmp_path / "d.json").write_bytes(data)
    with pytest.raises(DataError, match="not valid JSON") as caught:
        read_dataset(tmp_path / "d.json")
    assert caught.value.line is not None and abs(caught.value.line - 1 - data.count(b"\n")) <= 1


@settings(max_examples=120)
@given(st.data())
def test_mutated_files_are_read_or_refused_without_a_traceback(tmp_path_factory, data):
    folder = tmp_path_factory.mktemp("m")
    write_dataset(three_images(folder), folder / "d.json")
    content = bytearray((folder / "d.json").read_bytes())
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(content) - 1))
        if data.draw(st.booleans()):
            content[at] = data.draw(st.sampled_from(b'0-9.e"[]{},:nx\xff\\'))
        else:
            content[at : at + data.draw(st.integers(1, 9))] = data.draw(
                st.sampled_from([b"", b"null", b"1e308", b"-1", b"true", b'"a"', b"[]", b"{}", b"9" * 30])
            )
    (folder / "d.json").write_bytes(content)
    try:
        found = read_dataset(folder / "d.json")
        write_dataset(found, folder / "e.json")
    except DataError as error:
        assert str(error).count("d.json") == 1 or "image " in str(error)


def test_json_that_is_missing_nested_or_has_a_mark(tmp_path):
    with pytest.raises(DataError, match="cannot be read"):
        load_json(tmp_path / "none.json")
    (tmp_path / "deep.json").write_text("[" * 5000)
    with pytest.raises(DataError, match="not valid JSON"):
        load_json(tmp_path / "deep.json")
    (tmp_path / "mark.json").write_bytes(b"\xef\xbb\xbf[1]")
    assert load_json(tmp_path / "mark.json") == [1]


def test_the_line_of_a_record_is_found_in_any_layout():
    text = b'{"a": {"images": [1]}, "n": -1e5,\n"images"\n: [\n{"x": "\\"]"},\n\n {"y": 2}\n, 7]}'
    found = JsonText(text)
    assert [found.line(("images", position)) for position in range(3)] == [4, 6, 7]
    assert [found.line(place) for place in ((), ("n",), ("images", 0, "x"), ("a", "images", 0))] == [1, 1, 4, 1]
    nowhere = [("none", 0), ("images", 3), ("images", "x"), ("a", 0), ("n", 0), (0,)]
    assert [found.line(place) for place in nowhere] == [None] * len(nowhere)
    assert [JsonText(b"\xef\xbb\xbf\n[[],\n[1,\n2]]").line((1, position)) for position in range(2)] == [3, 4]
    assert line_in_file(Path("nowhere.json"), (0,)) is None
