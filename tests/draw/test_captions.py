"""Contact sheets with numbers and lines of text."""

import numpy as np
import pytest

from drivetl.draw.captions import Tile, captioned_sheet
from drivetl.errors import DataError

HEAD = ("50 frames", "best first", ("car", "person"))


def tile(value=90, lines=("uncertain: 5 cars near 0.4",), height=60):
    return Tile(np.full((height, 120, 3), value, np.uint8), "drive 0:12.5", lines)


def test_law_tiles_are_shown_in_order_below_each_other():
    values = [40, 90, 140, 190, 240]
    sheet = captioned_sheet([tile(value) for value in values], *HEAD, columns=2, tile_width=240)
    found = [int(np.argwhere((sheet == value).all(axis=2)).min(axis=0).sum()) for value in values]
    assert sheet.dtype == np.uint8 and len(set(found)) == 5 and (sheet == 240).all(axis=2).sum() > 0
    rows = [int(np.argwhere((sheet == value).all(axis=2))[:, 0].min()) for value in values]
    columns = [int(np.argwhere((sheet == value).all(axis=2))[:, 1].mean()) for value in values]
    assert rows[0] == rows[1] < rows[2] == rows[3] < rows[4] and columns[0] < columns[1] and columns[0] == columns[4]


def test_long_and_odd_texts_stay_inside():
    long = ("word " * 80, "x" * 500, "tab\tand\nbreak", "")
    sheet = captioned_sheet([tile(lines=long), tile()], "h" * 500, "s" * 500, ("car",), 2, 200)
    assert sheet.shape[1] == 2 * 200 + 3 * 14
    assert (sheet[:, :10] == sheet[-1, 0]).all() and (sheet[:, -10:] == sheet[-1, 0]).all()  # the margins are empty


def test_law_the_tile_is_not_changed_and_its_size_does_not_matter():
    one = tile()
    before = one.image.copy()
    large = Tile(np.full((600, 1200, 3), 90, np.uint8), one.title, one.lines)
    sheets = [captioned_sheet([some], *HEAD, columns=5, tile_width=240) for some in (one, large)]
    assert np.array_equal(one.image, before) and np.array_equal(*sheets)


def test_mistakes():
    with pytest.raises(ValueError, match="at least one tile"):
        captioned_sheet([], *HEAD, 2, 240)
    with pytest.raises(DataError, match=r"tiles\[0\] is"):
        captioned_sheet([Tile(np.zeros((4, 4), np.uint8), "", ())], *HEAD, 2, 240)
