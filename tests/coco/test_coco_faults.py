"""The same fault of a COCO record gets the same text from every reader of COCO json."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from drivetl.adapters import coco_json
from drivetl.adapters.reading import Reading
from drivetl.audit.run import audit
from drivetl.audit.tables import load_tables
from drivetl.coco.io import load_json, read_dataset
from drivetl.errors import DataError
from drivetl.metrics.results import read_coco_results
from drivetl.metrics.truth import from_coco


def ours(path: Path) -> None:
    read_dataset(path)


def truth(path: Path) -> None:
    from_coco(load_json(path), path)


def foreign(path: Path) -> None:
    list(coco_json.read(Reading(path)).images)


def results(path: Path) -> None:
    """The annotations of the file as detections of it."""
    document = json.loads(path.read_text())
    records = [item | {"score": 0.5} if isinstance(item, dict) else item for item in document["annotations"]]
    path.with_name("results.json").write_text(json.dumps(records))
    sound = path.with_name("sound.json")
    sound.write_text(json.dumps(sound_document()))
    read_coco_results(path.with_name("results.json"), from_coco(load_json(sound)))


ALL = (ours, truth, foreign)
WITH_RESULTS = (*ALL, results)


def sound_document() -> dict[str, Any]:
    box = {"image_id": 1, "category_id": 1, "bbox": [1, 2, 3, 4]}
    return {
        "images": [{"id": number, "file_name": f"{number}.png", "width": 90, "height": 60} for number in (1, 2)],
        "annotations": [{"id": number, **box} for number in (1, 2)],
        "categories": [{"id": 1, "name": "car"}, {"id": 2, "name": "van"}],
    }


SECOND_BOX = "annotations[1]: "
SECOND_IMAGE = "images[1]: "
FAULTS: list[tuple[str, dict[str, Any], str, tuple[Callable[[Path], None], ...]]] = [
    ("annotations", {"bbox": [1, 2, 3]}, "bbox is [1, 2, 3], not four numbers", WITH_RESULTS),
    ("annotations", {"bbox": [1, 2, 3, "x"]}, "bbox is [1, 2, 3, 'x'], not four numbers", WITH_RESULTS),
    ("annotations", {"bbox": [1, 2, 3, True]}, "bbox is [1, 2, 3, True], not four numbers", ALL),
    ("annotations", {"bbox": "1234"}, "bbox is '1234', not four numbers", WITH_RESULTS),
    ("annotations", {"bbox": None}, "bbox is None, not four numbers", WITH_RESULTS),
    ("annotations", {"bbox": ...}, "`bbox` is missing", WITH_RESULTS),
    ("annotations", {"bbox": [1, 2, -3, 4]}, "bbox [1.0, 2.0, -3.0, 4.0] has a negative width or height", WITH_RESULTS),
    ("annotations", {"bbox": [1e200, 0, 1, 1]}, "bbox [1e+200, 0.0, 1.0, 1.0] is not finite or far", WITH_RESULTS),
    ("annotations", {"area": "big"}, "area is 'big', not a number", ALL),
    ("annotations", {"area": [1]}, "area is [1], not a number", ALL),
    ("annotations", {"iscrowd": "0"}, "iscrowd is '0', not 0 or 1", ALL),
    ("annotations", {"iscrowd": "1"}, "iscrowd is '1', not 0 or 1", ALL),
    ("annotations", {"iscrowd": 3}, "iscrowd is 3, not 0 or 1", ALL),
    ("annotations", {"attributes": [1]}, "attributes is [1], not an object", ALL),
    ("annotations", {"attributes": 0}, "attributes is 0, not an object", ALL),
    ("annotations", {"image_id": 7}, "image_id 7 is not listed in `images`", ALL),
    ("annotations", {"image_id": [1]}, "image_id is [1], not a number", WITH_RESULTS),
    ("annotations", {"image_id": 1.5}, "image_id is 1.5, not a whole number of 64 bits", WITH_RESULTS),
    ("annotations", {"image_id": ...}, "`image_id` is missing", WITH_RESULTS),
    ("annotations", {"category_id": 7}, "category_id 7 is not listed in `categories`", ALL),
    ("annotations", {"category_id": True}, "category_id is True, not a number", ALL),
    ("annotations", {"category_id": ...}, "`category_id` is missing", WITH_RESULTS),
    ("annotations", {"segmentation": "abc"}, "segmentation is neither a list of polygons nor an RLE", (ours, foreign)),
    ("annotations", {"segmentation": [7]}, "segmentation is neither a list of polygons nor an RLE", (ours, foreign)),
    ("images", {"id": 1}, "image id 1 is duplicated", ALL),
    ("images", {"id": 1.5}, "id is 1.5, not a whole number of 64 bits", ALL),
    ("images", {"id": ...}, "`id` is missing", ALL),
    ("images", {"width": 0}, "image size 0 x 60 is not usable", (ours,)),
    ("images", {"width": -4}, "image size -4 x 60 is not usable", (ours, truth)),
    ("images", {"height": 59.5}, "height is 59.5, not a whole number of 64 bits", ALL),
    ("images", {"file_name": 7}, "file_name is 7, not a text", ALL),
    ("images", {"attributes": "x"}, "attributes is 'x', not an object", ALL),
    ("images", {"sequence": [1]}, "sequence is [1], neither a text nor a whole number", ALL),
    ("images", {"frame_index": "late"}, "frame_index is 'late', not a number", (ours, foreign)),
    ("images", {"labelled": [1, 9]}, "labelled 9 is not listed in `categories`", ALL),
    ("categories", {"id": 1}, "category id 1 is duplicated", ALL),
    ("categories", {"id": None}, "id is None, not a number", ALL),
    ("categories", {"name": ...}, "`name` is missing", ALL),
    ("categories", {"name": [1]}, "name is [1], neither a text nor a whole number", ALL),
]


def broken_file(path: Path, key: str, changes: dict[str, Any], layout: int | None = None) -> Path:
    document = sound_document()
    record = document[key][1] | changes
    document[key][1] = {name: value for name, value in record.items() if value is not ...}
    path.write_text(json.dumps(document, indent=layout))
    return path


CASES = [(reader, *fault[:3]) for fault in FAULTS for reader in fault[3]]


@pytest.mark.parametrize(
    ("reader", "key", "changes", "text"), CASES, ids=[f"{case[0].__name__} {case[1]} {case[2]}" for case in CASES]
)
def test_a_fault_has_one_text(
    reader: Callable[[Path], None], key: str, changes: dict[str, Any], text: str, tmp_path: Path
) -> None:
    path = broken_file(tmp_path / "d.json", key, changes)
    with pytest.raises(DataError) as caught:
        reader(path)
    place = "[1]: " if reader is results else f"{key}[1]: "
    assert caught.value.reason.startswith(place + text) and caught.value.remedy and caught.value.file is not None


@pytest.mark.parametrize("reader", ALL)
def test_a_record_that_is_not_an_object(reader: Callable[[Path], None], tmp_path: Path) -> None:
    for key in ("images", "annotations", "categories"):
        document = sound_document()
        document[key].append(7)
        (tmp_path / "d.json").write_text(json.dumps(document))
        with pytest.raises(DataError) as caught:
            reader(tmp_path / "d.json")
        assert caught.value.reason == f"{key}[2]: the record is 7, not an object"


@pytest.mark.parametrize("reader", ALL)
def test_lists_of_another_type(reader: Callable[[Path], None], tmp_path: Path) -> None:
    (tmp_path / "d.json").write_text(json.dumps(sound_document() | {"annotations": {}}))
    with pytest.raises(DataError, match=r"`annotations` is \{\}, not a list"):
        reader(tmp_path / "d.json")
    assert load_tables(tmp_path / "d.json").list_problems == ["`annotations` is {}, not a list"]


AUDITED = [fault[:3] for fault in FAULTS if fault[0] == "annotations" and fault[1].keys() <= {"bbox", "iscrowd"}]
AUDITED += [fault[:3] for fault in FAULTS if fault[1] in ({"image_id": 7}, {"category_id": 7})]


@pytest.mark.parametrize(("key", "changes", "text"), AUDITED)
def test_the_audit_reports_a_fault_in_the_same_words(
    key: str, changes: dict[str, Any], text: str, tmp_path: Path
) -> None:
    report = audit(broken_file(tmp_path / "d.json", key, changes), quick=True).as_dict()
    details = [example["detail"] for finding in report["findings"] for example in finding["examples"]]
    assert any(text in detail for detail in details)


@pytest.mark.parametrize(("key", "changes"), [fault[:2] for fault in FAULTS])
def test_the_audit_reads_every_broken_file(key: str, changes: dict[str, Any], tmp_path: Path) -> None:
    tables = load_tables(broken_file(tmp_path / "d.json", key, changes))
    assert len(tables.boxes_xywh) == len(tables.crowd) == 2 and len(tables.drives) == 2


@pytest.mark.parametrize("layout", [None, 1])
def test_a_foreign_record_that_is_left_out_is_counted(layout: int | None, tmp_path: Path) -> None:
    path = broken_file(tmp_path / "d.json", "annotations", {"iscrowd": "1"}, layout)
    reading = Reading(path, on_error="skip")
    images = list(coco_json.read(reading).images)
    assert sum(len(image.objects) for image in images) == 1
    assert reading.account.rejected == {"annotations[1]: iscrowd is '1', not 0 or 1": 1}


@pytest.mark.parametrize(("value", "drive"), [(0, "0"), ("0", "0"), (12, "12"), ("", ""), (None, ""), (3.0, "3")])
def test_drive_0_is_a_drive_for_every_reader(value: object, drive: str, tmp_path: Path) -> None:
    path = broken_file(tmp_path / "d.json", "images", {"sequence": value})
    assert read_dataset(path).images[1].drive == drive
    assert from_coco(load_json(path)).drives.names[1] == drive
    assert list(coco_json.read(Reading(path)).images)[1].drive == drive
    assert load_tables(path).drives[1] == drive


@pytest.mark.parametrize(("value", "crowd"), [(0, False), (1, True), (True, True), (False, False), (None, False)])
def test_crowd_is_read_alike(value: object, crowd: bool, tmp_path: Path) -> None:
    path = broken_file(tmp_path / "d.json", "annotations", {"iscrowd": value})
    assert bool(read_dataset(path).images[0].ignore_regions) == crowd
    assert from_coco(load_json(path)).crowd.any() == crowd
    assert any(item.ignore for image in coco_json.read(Reading(path)).images for item in image.objects) == crowd
    assert load_tables(path).crowd[1] == crowd
