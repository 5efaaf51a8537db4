"""`drivetl conditions`: the sheet, the page, the list, and what it says to mistakes."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import pytest
from street_cases import street

from drivetl.cli import main
from drivetl.conditions import CATALOG


@pytest.fixture
def picture(tmp_path: Path) -> Path:
    path = tmp_path / "street.png"
    cv2.imwrite(str(path), street()[..., ::-1])
    return path


def test_a_sheet_as_one_picture(picture: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "sheet.png"
    assert (
        main(
            [
                "conditions",
                str(picture),
                "--out",
                str(out),
                "--names",
                "fog,night",
                "--severities",
                "1,5",
                "--tile-width",
                "120",
            ]
        )
        == 0
    )
    sheet = cv2.imread(str(out))
    assert sheet.shape[1] > 3 * 120 and sheet.shape[0] > 2 * 48
    assert "sheet.png" in capsys.readouterr().out
    assert main(["conditions", str(picture), "--out", str(out), "--names", "fog"]) == 2
    assert "never overwritten" in capsys.readouterr().err


def test_a_page_that_needs_nothing_else(picture: Path, tmp_path: Path) -> None:
    out = tmp_path / "sheet.html"
    assert (
        main(
            [
                "conditions",
                str(picture),
                "--out",
                str(out),
                "--names",
                "rain,motion_blur",
                "--severities",
                "3",
                "--tile-width",
                "100",
            ]
        )
        == 0
    )
    page = out.read_text()
    assert page.count("<img") == 4 and "data:image/jpeg" in page and "25 mm/h" in page
    assert "Moves content" in page and "http" not in page


def test_a_dataset_is_a_source_too(picture: Path, tmp_path: Path) -> None:
    data = {
        "info": {"drivetl": {"images_root": "."}},
        "categories": [{"id": 1, "name": "car"}],
        "images": [{"id": 1, "file_name": "street.png", "width": 480, "height": 192}],
        "annotations": [],
    }
    (tmp_path / "data.json").write_text(json.dumps(data))
    out = tmp_path / "sheet.png"
    assert (
        main(["conditions", str(tmp_path / "data.json"), "--out", str(out), "--names", "fog", "--severities", "3"]) == 0
    )
    assert out.is_file()


def test_the_list_names_every_condition(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["conditions", "--list"]) == 0
    printed = capsys.readouterr().out
    assert all(name in printed for name in CATALOG)
    assert "600 300 150 75 40 m" in printed and "moves content: 2.1" in printed


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--names", "fgo", "--out", "x.png"], "did you mean 'fog'"),
        (["--severities", "0,6", "--out", "x.png"], "from 1 to 5"),
        (["--out", "x.jpg"], "neither .png nor .html"),
        ([], "--out FILE.png"),
        (["--out", "x.png", "--tile-width", "3"], "--tile-width"),
        (["--out", "x.png", "--names", "all", "--images", "50"], "do not fit on a sheet"),
    ],
)
def test_mistakes_are_named(picture: Path, capsys: pytest.CaptureFixture[str], flags: list[str], message: str) -> None:
    assert main(["conditions", str(picture), *flags]) == 2
    assert message in " ".join(capsys.readouterr().err.split())
    assert not Path("x.png").exists()
