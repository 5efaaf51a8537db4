"""Numbers of KITTI's columns that are none, read and written."""

from __future__ import annotations

from pathlib import Path

import pytest
from kitti_trees import CAR, write_tree

from drivetl.adapters.kitti_tracking import parse_track_line
from drivetl.cli import main
from drivetl.errors import DataError
from drivetl.files.kitti_text import line_of, parse_line, write_line

WORDS = CAR.split()


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (CAR.replace("0.00", "0,5"), "truncated is '0,5', not a usable number"),
        (CAR.replace("100.00", "100,00"), "left is '100,00'"),
        (CAR.replace("-1.56", "-1,56"), "alpha is '-1,56'"),
        (" ".join(WORDS[:11]) + " 1.04,1.74,20.20 -1.55", "13 fields instead of 15"),
        (f"{CAR}],[{CAR.partition(' ')[2]}", "fields instead of 15"),
    ],
)
def test_a_comma_does_not_shift_the_columns(line: str, reason: str, tmp_path: Path) -> None:
    with pytest.raises(DataError) as caught:
        parse_line(line, 7)
    assert reason in str(caught.value) and caught.value.line == 7
    with pytest.raises(DataError) as caught:
        parse_track_line(f"3 1 {line}", 7)
    assert reason in str(caught.value) and caught.value.line == 7
    root = write_tree(tmp_path, {"000000": [CAR, line]})
    assert main(["convert-kitti", "--root", str(root), "--out", str(tmp_path / "out")]) == 2


def test_the_error_of_a_comma_has_file_and_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = write_tree(tmp_path, {"000000": [CAR], "000001": [CAR, CAR.replace("0.00", "0,5")]})
    assert main(["convert-kitti", "--root", str(root), "--out", str(tmp_path / "out")]) == 2
    assert "000001.txt:2: truncated is '0,5'" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("attributes", "reason"),
    [
        ({"truncated": "partly"}, "truncated is 'partly', KITTI expects a number"),
        ({"occluded": "mostly"}, "occluded is 'mostly'"),
        ({"occluded": [0, 1]}, "occluded is [0, 1]"),
        ({"alpha": None}, "alpha is None"),
        ({"dimensions_hwl_m": 5}, "dimensions_hwl_m is 5, KITTI expects 3 numbers"),
        ({"location_xyz_m": [1, 2]}, "location_xyz_m is [1, 2]"),
        ({"rotation_y": float("nan")}, "rotation_y is nan"),
        ({"score": {}}, "score is {}"),
    ],
)
def test_attributes_that_are_not_numbers_are_errors(attributes: dict[str, object], reason: str) -> None:
    with pytest.raises(DataError) as caught:
        write_line(line_of("car", (1, 2, 3, 4), attributes))
    assert reason in str(caught.value) and caught.value.remedy


def test_a_class_of_two_words_and_a_box_of_three_numbers_are_errors() -> None:
    with pytest.raises(DataError, match="is not one word"):
        write_line(line_of("traffic\nlight", (1, 2, 3, 4), {}))
    with pytest.raises(DataError, match="KITTI expects 4 numbers"):
        write_line(line_of("car", (1, 2, 3), {}))
    assert write_line(line_of("car", (1, 2, 3, 4), {"occluded": True})).startswith("car -1 1 -10 1.00 2.00 3.00 4.00")
