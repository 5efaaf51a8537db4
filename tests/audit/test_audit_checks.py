"""A clean dataset has no finding of note; each planted fault gives exactly its finding; nothing makes the audit
stop."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from audit_makers import ERRORS, ODDITIES, H, W, annotation, clean, write_pictures
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from drivetl.audit.boxes import resize_scale
from drivetl.audit.findings import Finding
from drivetl.audit.masks import is_rle
from drivetl.audit.run import audit
from drivetl.coco.masks import encode
from drivetl.errors import DataError

SHARED = Path(__file__).parents[2].parent / "shared" / "data"


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_pictures(tmp_path_factory.mktemp("clean"))


def findings(folder: Path, document: object, quick: bool = True, **options: Any) -> dict[str, Finding]:
    path = folder / "planted.json"
    path.write_text(json.dumps(document))
    return {finding.code: finding for finding in audit(path, quick=quick, **options).findings}


def test_a_clean_dataset_has_neither_errors_nor_warnings(pictures: Path) -> None:
    found = findings(pictures, clean(), quick=False)
    assert set(found) == {"image-empty"}
    assert found["image-empty"].severity == "note"
    assert found["image-empty"].count == 1
    assert found["image-empty"].examples[0].image == "drive/010.png"


@pytest.mark.parametrize("name", ERRORS)
def test_each_planted_error_is_the_one_found(name: str, tmp_path: Path) -> None:
    plant, code, count = ERRORS[name]
    document = clean()
    plant(document)
    found = findings(tmp_path, document)
    errors = {key: finding.count for key, finding in found.items() if finding.severity == "error"}
    assert errors == {code: count}
    assert found[code].remedy
    assert len(found[code].examples) == min(count, 12)


@pytest.mark.parametrize("name", ODDITIES)
def test_each_planted_oddity_is_found_and_no_error(name: str, tmp_path: Path) -> None:
    plant, code, count = ODDITIES[name]
    document = clean()
    before = set(findings(tmp_path, document))
    plant(document)
    found = findings(tmp_path, document)
    assert found[code].count == count
    assert found[code].severity in ("warning", "note")
    expected = {code, *before}
    if name in ("no object", "few objects", "misspelt"):  # a new class is empty or rare as well, and leaves an id gap
        expected |= {"class-empty", "annotation-id-gaps"}
    assert set(found) - {"annotation-id-gaps", "class-empty", "image-empty"} <= expected
    assert not any(finding.severity == "error" for finding in found.values())


def test_imbalance_is_between_the_classes_that_occur(tmp_path: Path) -> None:
    document = clean()
    wanted = 55 * 101
    document["annotations"] += [
        annotation(1000 + n, 1 + n % 9, 1, [1 + n % 500, 60 + n % 83, 40, 30 + n % 7]) for n in range(wanted)
    ]
    found = findings(tmp_path, document)
    assert "car" in found["class-imbalance"].examples[0].detail


def test_all_images_empty_is_an_error_and_most_empty_a_warning(tmp_path: Path) -> None:
    document = clean()
    document["annotations"] = document["annotations"][:12]
    assert findings(tmp_path, document)["image-empty"].severity == "warning"
    document["annotations"] = []
    assert findings(tmp_path, document)["image-empty"].severity == "error"
    document["images"] = []
    assert findings(tmp_path, document)["no-images"].severity == "error"


def test_the_resize_decides_what_vanishes(tmp_path: Path) -> None:
    document = clean()
    document["annotations"][0].update(bbox=[100, 60, 30, 3], area=90)
    assert "box-small" in findings(tmp_path, document)
    assert "box-vanishes" in findings(tmp_path, document, min_size=200)
    assert "box-small" not in findings(tmp_path, document, min_size=1200, max_size=2000)
    scale = resize_scale(np.array([[1242.0, 375.0], [1280.0, 720.0]]), 800, 1333)
    assert scale == pytest.approx([1333 / 1242, 1333 / 1280])


def broken_copy(pictures: Path, folder: Path) -> Path:
    for file in (pictures / "images").rglob("*.png"):
        target = folder / "images" / "drive" / file.name
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(file.read_bytes())
    return folder / "images" / "drive"


def test_files_missing_broken_cut_off_turned_and_copied(pictures: Path, tmp_path: Path) -> None:
    folder = broken_copy(pictures, tmp_path)
    (folder / "001.png").unlink()
    (folder / "002.png").write_bytes(b"no picture")
    whole = (folder / "003.png").read_bytes()
    (folder / "003.png").write_bytes(whole[: len(whole) // 2])
    (folder / "005.png").write_bytes((folder / "004.png").read_bytes())
    document = clean()
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.open(folder / "006.png").save(folder / "006.jpg", exif=exif)
    document["images"][5].update(file_name="drive/006.jpg")
    document["images"][6].update(width=H, height=W)
    found = findings(tmp_path, document, quick=False)
    for code, name in {
        "image-missing": "001.png",
        "image-unreadable": "002.png",
        "image-truncated": "003.png",
        "image-repeated": "005.png",
        "image-rotated": "006.jpg",
    }.items():
        assert [example.image for example in found[code].examples] == [f"drive/{name}"], code
    sizes = {example.image: example.detail for example in found["size-mismatch"].examples}
    assert set(sizes) == {"drive/006.jpg", "drive/007.png"}
    assert "EXIF" in sizes["drive/006.jpg"]
    assert "exchanged" in sizes["drive/007.png"]
    assert "image-nearly-repeated" in found  # 005 repeats its neighbour 004 byte by byte
    quick = findings(tmp_path, document)
    assert not {code for code in quick if code.startswith("image-") and code not in ("image-empty", "image-records")}


def test_a_missing_root_is_one_finding_and_a_jpeg_tail_is_looked_at(pictures: Path, tmp_path: Path) -> None:
    found = findings(tmp_path, clean(), quick=False)
    assert found["images-root-missing"].count == 1
    assert "image-missing" not in found
    folder = broken_copy(pictures, tmp_path)
    document = clean()
    Image.open(folder / "001.png").save(folder / "001.jpg", quality=95)
    document["images"][0]["file_name"] = "drive/001.jpg"
    assert "image-truncated" not in findings(tmp_path, document, quick=False)
    data = (folder / "001.jpg").read_bytes()
    (folder / "001.jpg").write_bytes(data[:-2000])
    assert findings(tmp_path, document, quick=False)["image-truncated"].count == 1


def test_neighbours_that_show_the_same_are_a_note(pictures: Path, tmp_path: Path) -> None:
    folder = broken_copy(pictures, tmp_path)
    pixels = np.array(Image.open(folder / "001.png"))
    pixels[:3, :3] = 0
    Image.fromarray(pixels).save(folder / "002.png")
    found = findings(tmp_path, clean(), quick=False)
    assert [example.image for example in found["image-nearly-repeated"].examples] == ["drive/002.png"]
    assert "image-repeated" not in found


@pytest.mark.skipif(not (SHARED / "dawn_fog").is_dir(), reason="the real fog photos are not here")
def test_real_photos_that_were_published_twice_are_found(tmp_path: Path) -> None:
    files = sorted(path for path in (SHARED / "dawn_fog").rglob("*.jpg") if path.is_file())
    images = []
    for number, path in enumerate(files, 1):
        with Image.open(path) as image:
            size = {"width": image.size[0], "height": image.size[1]}
        images.append({"id": number, "file_name": path.relative_to(SHARED / "dawn_fog").as_posix()} | size)
    document = {"images": images, "annotations": [], "categories": [{"id": 1, "name": "car"}]}
    found = findings(tmp_path, document, quick=False, images_root=SHARED / "dawn_fog")
    copies = {Path(example.image).name for example in found["image-repeated"].examples}
    assert {"haze-139.jpg", "haze-142.jpg"} <= copies
    assert not {"image-missing", "image-unreadable", "image-truncated", "size-mismatch"} & set(found)


def test_nan_as_python_writes_it_is_read_and_named(tmp_path: Path) -> None:
    document = clean()
    document["annotations"][0]["bbox"] = [1, 2, float("nan"), 4]
    document["annotations"][1]["bbox"] = [1, 2, 3, float("inf")]
    found = findings(tmp_path, document)
    assert found["box-unusable"].count == 2
    assert found["json-not-strict"].severity == "error"


def test_a_file_that_is_no_json_is_the_users_mistake(tmp_path: Path) -> None:
    (tmp_path / "cut.json").write_text('{"images": [')
    with pytest.raises(DataError, match="not valid JSON"):
        audit(tmp_path / "cut.json")
    with pytest.raises(DataError, match="cannot be read"):
        audit(tmp_path / "absent.json")


@pytest.mark.parametrize("document", [[], {}, 3, {"images": {}}, [{"image_id": 1, "bbox": [1, 2, 3, 4]}]])
def test_other_json_is_told_from_a_dataset(document: object, tmp_path: Path) -> None:
    assert findings(tmp_path, document)["lists-missing"].count == 3


def test_an_rle_must_fill_its_size() -> None:
    size = np.array([7.0, 5.0])
    mask = np.zeros((5, 7), np.uint8)
    mask[1:3, 2:6] = 1
    good = encode(mask)
    assert is_rle(good, size)
    assert is_rle({"size": [5, 7], "counts": [10, 20, 5]}, size)
    assert not is_rle({"size": [5, 7], "counts": [10, 20]}, size)
    assert not is_rle({"size": [5, 7], "counts": [-5, 40]}, size)
    assert not is_rle({"size": [5, 7], "counts": good["counts"][:-1]}, size)
    assert not is_rle({"size": [7, 5], "counts": good["counts"]}, size)


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32))
def test_the_run_lengths_are_those_of_pycocotools(seed: int) -> None:
    generator = np.random.default_rng(seed)
    height, width = generator.integers(1, 90, 2)
    mask = (generator.random((height, width)) < generator.choice([0.02, 0.5, 0.97])).astype(np.uint8)
    assert is_rle(encode(mask), np.array([width, height], float))


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_no_json_stops_the_audit(pictures: Path, data: st.DataObject) -> None:
    """Any value anywhere in a sound dataset: the audit ends, and counts what it is given."""
    document = clean()
    for _ in range(data.draw(st.integers(1, 3))):
        kind = data.draw(st.sampled_from(["images", "annotations", "categories"]))
        if not isinstance(document[kind], list) or not document[kind]:
            continue
        place = data.draw(st.integers(0, len(document[kind]) - 1))
        record = document[kind][place]
        if isinstance(record, dict) and data.draw(st.booleans()):
            keys = [*record, "segmentation", "labelled"]
            record[data.draw(st.sampled_from(keys))] = data.draw(JSON)
        else:
            document[kind][place] = data.draw(JSON)
    path = pictures / "mutated.json"
    path.write_text(json.dumps(document))  # with NaN and Infinity, as Python writes them
    result = audit(path, quick=True)
    assert result.statistics["overview"]["annotations"] == len(document["annotations"])
    json.dumps(result.as_dict(), allow_nan=False)
