"""The audit command, its JSON and its page: complete, self-contained, readable on a phone."""

from __future__ import annotations

import json
import re
import shutil
from html.parser import HTMLParser
from pathlib import Path

import pytest
from audit_makers import ERRORS, clean, new_class, write_images
from browser import WIDTHS, assert_the_page_fits, needs_browser

from drivetl.audit.page import html_page
from drivetl.audit.run import audit
from drivetl.cli import main


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A dataset with its images and several kinds of faults."""
    root = write_images(tmp_path_factory.mktemp("page"))
    document = clean()
    for name in ("negative", "duplicate", "corners, one", "unknown image"):
        ERRORS[name][0](document)
    new_class("<b>tram & co</b>")(document)
    document["images"][3]["attributes"]["scene"] = "<script>alert(1)</script>"
    (root / "planted.json").write_text(json.dumps(document))
    (root / "clean.json").write_text(json.dumps(clean()))
    return root


class Tags(HTMLParser):
    """All tags, and the URLs they refer to."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.loaded: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.loaded += [value or "" for key, value in attrs if key in ("src", "href", "srcset")]


def test_the_page_is_self_contained_and_escapes_text_from_the_data(folder: Path) -> None:
    text = html_page(audit(folder / "planted.json"))
    page = Tags(text)
    assert "script" not in page.tags
    assert "b" in page.tags  # from the template
    assert "<b>tram" not in text
    assert "&lt;script&gt;" in text
    assert all(value.startswith(("data:", "#")) for value in page.loaded)
    assert "url(" not in text
    assert page.tags.count("svg") == 4
    assert page.tags.count("img") >= 10 + 4  # the gallery, and the findings' examples
    for code in ("box-negative", "box-repeated", "box-corners", "image-unknown"):
        assert code in text


def test_the_page_is_deterministic(folder: Path) -> None:
    result = audit(folder / "planted.json")
    assert html_page(result) == html_page(audit(folder / "planted.json"))


@pytest.mark.parametrize("document", [{}, [], {"images": [], "annotations": [], "categories": []}])
def test_an_empty_dataset_has_a_page(document: object, tmp_path: Path) -> None:
    (tmp_path / "empty.json").write_text(json.dumps(document))
    assert "</html>" in html_page(audit(tmp_path / "empty.json"))


@pytest.mark.parametrize("name", ERRORS)
def test_every_fault_is_on_its_page(name: str, folder: Path) -> None:
    document = clean()
    ERRORS[name][0](document)
    path = folder / "faulty.json"
    path.write_text(json.dumps(document))
    assert ERRORS[name][1] in html_page(audit(path, quick=True))


def test_the_command_writes_json_and_page_and_never_overwrites(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    assert main(["audit", str(folder / "planted.json"), "--out", str(out)]) == 0
    printed = capsys.readouterr().out
    assert sorted(file.name for file in out.iterdir()) == ["audit.html", "audit.json"]
    document = json.loads((out / "audit.json").read_text())
    codes = {finding["code"]: finding for finding in document["findings"]}
    assert codes["box-repeated"]["severity"] == "error"
    assert codes["box-repeated"]["examples"][0]["annotation_id"] == 500
    assert codes["box-repeated"]["examples"][0]["image"] == "drive/001.png"
    severities = [finding["severity"] for finding in document["findings"]]
    assert severities == sorted(severities, key=["error", "warning", "note"].index)
    assert "Duplicate boxes" in re.sub(r"[\s│]+", " ", printed)
    before = (out / "audit.json").read_bytes()
    assert main(["audit", str(folder / "planted.json"), "--out", str(out)]) == 2
    assert "--out" in capsys.readouterr().err
    assert (out / "audit.json").read_bytes() == before


def test_without_out_each_audit_has_its_own_folder(folder: Path, tmp_path: Path) -> None:
    data = tmp_path / "data.json"
    shutil.copy(folder / "clean.json", data)
    for name in ("data_audit", "data_audit_2"):
        assert main(["audit", str(data), "--images", str(folder / "images")]) == 0
        assert (tmp_path / name / "audit.html").is_file()
    first, second = (tmp_path / name / "audit.json" for name in ("data_audit", "data_audit_2"))
    assert first.read_bytes() == second.read_bytes()


def test_a_missing_json_writes_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["audit", str(tmp_path / "absent.json")]) == 2
    assert "absent.json" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("sizes", [("0", "1333"), ("800", "600"), ("nan", "1333")])
def test_an_invalid_resize_is_refused(
    sizes: tuple[str, str], folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    flags = ["--min-size", sizes[0], "--max-size", sizes[1], "--out", str(tmp_path / "out")]
    assert main(["audit", str(folder / "clean.json"), *flags]) == 2
    assert "--min-size" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


@needs_browser
@pytest.mark.parametrize("width", WIDTHS)
def test_the_page_fits_the_browser_width(width: int, folder: Path, tmp_path: Path) -> None:
    page = html_page(audit(folder / "planted.json"))
    assert page.count("<svg") == 4
    assert_the_page_fits(page, tmp_path, width)
