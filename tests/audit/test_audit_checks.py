"""A clean dataset has no warnings; each planted fault gives exactly its finding; no input raises an exception."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from audit_makers import ERRORS, WARNINGS, H, W, annotation, clean, write_images
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from drivetl.audit.boxes import resize_scale
from drivetl.audit.findings import Finding
from drivetl.audit.masks import is_rle
from drivetl.audit.run import audit
from drivetl.coco.masks import encode
from drivetl.errors import DataError
from drivetl.files.images import read_rgb

SHARED = Path(__file__).parents[2].parent / "shared" / "data"


@pytest.fixture(scope="module")
def image_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_images(tmp_path_factory.mktemp("clean"))


def audit_findings(folder: Path, document: object, quick: bool = True, **options: Any) -> dict[str, Finding]:
    path = folder / "planted.json"
    path.write_text(json.dumps(document))
    return {finding.code: finding for finding in audit(path, quick=quick, **options).findings}


def test_a_clean_dataset_has_neither_errors_nor_warnings(image_root: Path) -> None:
    findings = audit_findings(image_root, clean(), quick=False)
    assert set(findings) == {"image-empty"}
    assert findings["image-empty"].severity == "note"
    assert findings["image-empty"].count == 1
    assert findings["image-empty"].examples[0].image == "drive/010.png"


@pytest.mark.parametrize("name", ERRORS)
def test_each_planted_error_gives_exactly_its_finding(name: str, tmp_path: Path) -> None:
    plant, code, count = ERRORS[name]
    document = clean()
    plant(document)
    findings = audit_findings(tmp_path, document)
    errors = {key: finding.count for key, finding in findings.items() if finding.severity == "error"}
    assert errors == {code: count}
    assert findings[code].remedy
    assert len(findings[code].examples) == min(count, 12)


@pytest.mark.parametrize("name", WARNINGS)
def test_each_planted_warning_is_reported_without_errors(name: str, tmp_path: Path) -> None:
    plant, code, count = WARNINGS[name]
    document = clean()
    before = set(audit_findings(tmp_path, document))
    plant(document)
    findings = audit_findings(tmp_path, document)
    assert findings[code].count == count
    assert findings[code].severity in ("warning", "note")
    expected = {code, *before}
    if name in ("empty class", "rare class", "similar name"):  # also an empty or rare class, and an id gap
        expected |= {"class-empty", "annotation-id-gaps"}
    assert set(findings) - {"annotation-id-gaps", "class-empty", "image-empty"} <= expected
    assert not any(finding.severity == "error" for finding in findings.values())


def test_imbalance_ignores_empty_classes(tmp_path: Path) -> None:
    document = clean()
    n_cars = 55 * 101
    document["annotations"] += [
        annotation(1000 + n, 1 + n % 9, 1, [1 + n % 500, 60 + n % 83, 40, 30 + n % 7]) for n in range(n_cars)
    ]
    findings = audit_findings(tmp_path, document)
    assert "car" in findings["class-imbalance"].examples[0].detail


def test_all_images_empty_is_an_error_and_most_empty_a_warning(tmp_path: Path) -> None:
    document = clean()
    document["annotations"] = document["annotations"][:12]
    assert audit_findings(tmp_path, document)["image-empty"].severity == "warning"
    document["annotations"] = []
    assert audit_findings(tmp_path, document)["image-empty"].severity == "error"
    document["images"] = []
    assert audit_findings(tmp_path, document)["no-images"].severity == "error"


def test_the_resize_decides_which_objects_are_too_small(tmp_path: Path) -> None:
    document = clean()
    document["annotations"][0].update(bbox=[100, 60, 30, 3], area=90)
    assert "box-small" in audit_findings(tmp_path, document)
    assert "box-vanishes" in audit_findings(tmp_path, document, min_size=200)
    assert "box-small" not in audit_findings(tmp_path, document, min_size=1200, max_size=2000)
    scale = resize_scale(np.array([[1242.0, 375.0], [1280.0, 720.0]]), 800, 1333)
    assert scale == pytest.approx([1333 / 1242, 1333 / 1280])


def copy_of_images(image_root: Path, folder: Path) -> Path:
    for file in (image_root / "images").rglob("*.png"):
        target = folder / "images" / "drive" / file.name
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(file.read_bytes())
    return folder / "images" / "drive"


def test_missing_damaged_truncated_rotated_and_duplicate_files(image_root: Path, tmp_path: Path) -> None:
    folder = copy_of_images(image_root, tmp_path)
    (folder / "001.png").unlink()
    (folder / "002.png").write_bytes(b"not an image")
    data = (folder / "003.png").read_bytes()
    (folder / "003.png").write_bytes(data[: len(data) // 2])
    (folder / "005.png").write_bytes((folder / "004.png").read_bytes())
    document = clean()
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.open(folder / "006.png").save(folder / "006.jpg", exif=exif)
    document["images"][5].update(file_name="drive/006.jpg")
    document["images"][6].update(width=H, height=W)
    findings = audit_findings(tmp_path, document, quick=False)
    for code, name in {
        "image-missing": "001.png",
        "image-unreadable": "002.png",
        "image-truncated": "003.png",
        "image-repeated": "005.png",
        "image-rotated": "006.jpg",
    }.items():
        assert [example.image for example in findings[code].examples] == [f"drive/{name}"], code
    sizes = {example.image: example.detail for example in findings["size-mismatch"].examples}
    assert set(sizes) == {"drive/006.jpg", "drive/007.png"}
    assert "EXIF" in sizes["drive/006.jpg"]
    assert "swapped" in sizes["drive/007.png"]
    assert "image-nearly-repeated" in findings  # 005 is a copy of 004, the frame before
    quick = audit_findings(tmp_path, document)
    assert not {code for code in quick if code.startswith("image-") and code not in ("image-empty", "image-records")}


def test_law_images_of_more_than_8_bits_are_found_by_the_range_that_they_use(image_root: Path, tmp_path: Path) -> None:
    folder = copy_of_images(image_root, tmp_path)
    grey = np.array(Image.open(folder / "001.png").convert("L"), np.uint16)
    Image.fromarray(grey * 16).save(folder / "001.png")  # 12 bits
    Image.fromarray(grey * 257).save(folder / "002.png")
    Image.fromarray(grey.astype(np.float32) / 255).save(folder / "003.tif")
    Image.open(folder / "004.png").save(folder / "004.tif")
    document = clean()
    for number in (3, 4):
        document["images"][number - 1]["file_name"] = f"drive/{number:03d}.tif"
    findings = audit_findings(tmp_path, document, quick=False)
    dark = {example.image: example.detail for example in findings["image-depth"].examples}
    assert set(dark) == {"drive/001.png", "drive/003.tif"} and findings["image-depth"].severity == "error"
    assert dark["drive/001.png"] == f"a 16-bit image whose highest value is {grey.max() * 16}"
    assert dark["drive/003.tif"].startswith("a float32 image")
    assert [example.image for example in findings["image-16-bit"].examples] == ["drive/002.png"]
    assert findings["image-16-bit"].severity == "note"
    hot = grey * 16
    hot[0, 0] = 65535  # 12 bits and a hot pixel
    Image.fromarray(hot).save(folder / "002.png")
    found = audit_findings(tmp_path, document, quick=False)["image-16-bit"]
    assert found.severity == "warning" and "highest value is 65535 of 65535, and" in found.examples[0].detail
    for name in dark:  # what the finding says: training refuses them
        with pytest.raises(DataError, match="almost black"):
            read_rgb(tmp_path / "images" / name)


def test_a_missing_root_is_one_finding_and_a_truncated_jpeg_is_detected(image_root: Path, tmp_path: Path) -> None:
    findings = audit_findings(tmp_path, clean(), quick=False)
    assert findings["images-root-missing"].count == 1
    assert "image-missing" not in findings
    folder = copy_of_images(image_root, tmp_path)
    document = clean()
    Image.open(folder / "001.png").save(folder / "001.jpg", quality=95)
    document["images"][0]["file_name"] = "drive/001.jpg"
    assert "image-truncated" not in audit_findings(tmp_path, document, quick=False)
    data = (folder / "001.jpg").read_bytes()
    (folder / "001.jpg").write_bytes(data[:-2000])
    assert audit_findings(tmp_path, document, quick=False)["image-truncated"].count == 1


def test_nearly_identical_consecutive_frames_are_a_note(image_root: Path, tmp_path: Path) -> None:
    folder = copy_of_images(image_root, tmp_path)
    pixels = np.array(Image.open(folder / "001.png"))
    pixels[:3, :3] = 0
    Image.fromarray(pixels).save(folder / "002.png")
    findings = audit_findings(tmp_path, clean(), quick=False)
    assert [example.image for example in findings["image-nearly-repeated"].examples] == ["drive/002.png"]
    assert "image-repeated" not in findings


@pytest.mark.skipif(not (SHARED / "dawn_fog").is_dir(), reason="needs the DAWN fog photos")
def test_duplicates_in_a_public_dataset_are_found(tmp_path: Path) -> None:
    files = sorted(path for path in (SHARED / "dawn_fog").rglob("*.jpg") if path.is_file())
    images = []
    for number, path in enumerate(files, 1):
        with Image.open(path) as image:
            size = {"width": image.size[0], "height": image.size[1]}
        images.append({"id": number, "file_name": path.relative_to(SHARED / "dawn_fog").as_posix()} | size)
    document = {"images": images, "annotations": [], "categories": [{"id": 1, "name": "car"}]}
    findings = audit_findings(tmp_path, document, quick=False, images_root=SHARED / "dawn_fog")
    copies = {Path(example.image).name for example in findings["image-repeated"].examples}
    assert {"haze-139.jpg", "haze-142.jpg"} <= copies
    assert not {"image-missing", "image-unreadable", "image-truncated", "size-mismatch"} & set(findings)


def test_nan_and_infinity_are_read_and_reported(tmp_path: Path) -> None:
    document = clean()
    document["annotations"][0]["bbox"] = [1, 2, float("nan"), 4]
    document["annotations"][1]["bbox"] = [1, 2, 3, float("inf")]
    findings = audit_findings(tmp_path, document)
    assert findings["box-unusable"].count == 2
    assert findings["json-not-strict"].severity == "error"


def test_a_file_that_is_not_json_is_a_user_error(tmp_path: Path) -> None:
    (tmp_path / "cut.json").write_text('{"images": [')
    with pytest.raises(DataError, match="not valid JSON"):
        audit(tmp_path / "cut.json")
    with pytest.raises(DataError, match="cannot be read"):
        audit(tmp_path / "absent.json")


@pytest.mark.parametrize("document", [[], {}, 3, {"images": {}}, [{"image_id": 1, "bbox": [1, 2, 3, 4]}]])
def test_json_that_is_not_a_dataset_is_reported(document: object, tmp_path: Path) -> None:
    assert audit_findings(tmp_path, document)["lists-missing"].count == 3


def test_an_rle_must_cover_its_size() -> None:
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


@settings(max_examples=60)
@given(st.integers(0, 2**32))
def test_run_lengths_match_pycocotools(seed: int) -> None:
    generator = np.random.default_rng(seed)
    height, width = generator.integers(1, 90, 2)
    mask = (generator.random((height, width)) < generator.choice([0.02, 0.5, 0.97])).astype(np.uint8)
    assert is_rle(encode(mask), np.array([width, height], float))


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)


@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_no_json_raises_an_exception(image_root: Path, data: st.DataObject) -> None:
    """With any value anywhere in a valid dataset the audit finishes and counts all annotations."""
    document = clean()
    for _ in range(data.draw(st.integers(1, 3))):
        kind = data.draw(st.sampled_from(["images", "annotations", "categories"]))
        if not isinstance(document[kind], list) or not document[kind]:
            continue
        index = data.draw(st.integers(0, len(document[kind]) - 1))
        record = document[kind][index]
        if isinstance(record, dict) and data.draw(st.booleans()):
            keys = [*record, "segmentation", "labelled"]
            record[data.draw(st.sampled_from(keys))] = data.draw(JSON)
        else:
            document[kind][index] = data.draw(JSON)
    path = image_root / "mutated.json"
    path.write_text(json.dumps(document))  # with NaN and Infinity, as Python writes them
    result = audit(path, quick=True)
    assert result.statistics["overview"]["annotations"] == len(document["annotations"])
    json.dumps(result.as_dict(), allow_nan=False)
