"""Laws of drives: unknown stays unknown, is never counted, and is resampled image by image."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from drivetl.coco.drives import UNKNOWN_DRIVES, Drives, drives_in_words, even_blocks, shared_drives
from drivetl.coco.records import ImageRecord
from drivetl.metrics.statistics import draw_weights, few_drives, sign_flips

names = st.lists(st.sampled_from(["", "a", "b", "a b", "image 1", "ä"]), max_size=40).map(tuple)
known_names = st.lists(st.sampled_from(["a", "b", "a b", "10", "9", "ä"]), max_size=130).map(tuple)


def record(number, drive):
    return ImageRecord(number, f"{number}.png", 10, 10, drive, number, {})


def labels(drives, subsets=()):
    """(I,) what was resampled before there was `Drives`: names, a lone drive's images in numbered blocks."""
    units = np.array(drives, dtype=object)
    alone = [set(units[mask]) for mask in (np.ones(len(units), bool), *subsets)]
    for name in sorted({next(iter(one)) for one in alone if len(one) == 1}):
        places = np.flatnonzero(units == name)
        count = min(max(len(places), 1), max(2, min(20, len(places) // 5)))
        for part, block in enumerate(np.array_split(places, count)):
            units[block] = f"{name} / {part + 1}"
    return units.tolist()


@given(known_names, st.integers(0, 3), st.integers(0, 2**31))
def test_known_drives_are_drawn_as_before(drives, seed, bits):
    subset = np.array([bits >> (place % 31) & 1 == 1 for place in range(len(drives))], bool)
    units, before = Drives(drives).units([subset.tolist()]), labels(drives, [subset])
    for draw in (draw_weights, sign_flips):
        np.testing.assert_array_equal(draw(units, 20, seed), draw(before, 20, seed))


@given(st.integers(0, 60))
def test_unknown_drives_are_drawn_as_images(count):
    drives = Drives(("",) * count)
    assert drives.units() == tuple(range(count))
    np.testing.assert_array_equal(draw_weights(drives.units(), 20, 1), draw_weights(range(count), 20, 1))
    assert drives.n_drives == (None if count else 0)


@given(names)
def test_an_image_of_unknown_drive_is_a_unit_and_no_drive(drives):
    found = Drives(drives)
    units, unknown = found.units(), [place for place, name in enumerate(drives) if not name]
    assert found.n_unknown == len(unknown)
    assert sorted(set(units)) == list(range(len(set(units))))
    assert all(units.count(units[place]) == 1 for place in unknown)
    assert found.known == tuple(sorted(set(drives) - {""}))
    assert [found.known[index] if index >= 0 else "" for index in found.indices()] == list(drives)
    assert sorted(place for places in found.places().values() for place in places) == list(range(len(drives)))
    for place, name in enumerate(drives):
        assert place in found.places()[name]


@given(names)
def test_unknown_drives_are_said_and_never_counted(drives):
    found = Drives(drives)
    warning = few_drives(found)
    assert (found.n_unknown > 0) == (warning is not None and UNKNOWN_DRIVES in warning)
    if drives and not found.known:
        assert found.n_drives is None and found.in_words() == "unknown drives" and warning == UNKNOWN_DRIVES
        assert "drive" not in found.units_in_words()
    elif found.n_unknown:
        assert found.n_drives == len(found.known)
        assert f"{found.n_unknown} of {len(drives)} image" in warning


@pytest.mark.parametrize(
    ("drives", "words", "units"),
    [
        ((), "0 drives", "0 drives"),
        (("a",), "1 drive", "1 drive"),
        (("",), "unknown drives", "1 image"),
        (("a",) * 10, "1 drive", "2 blocks of one drive"),
        (("a", "b", "b"), "2 drives", "2 drives"),
        (("a", "b", ""), "2 drives (1 image of unknown drive)", "2 drives and 1 image of unknown drive"),
        (("a",) * 10 + ("", ""), "1 drive (2 images of unknown drive)", "1 drive and 2 images of unknown drive"),
    ],
)
def test_in_words(drives, words, units):
    assert Drives(drives).in_words() == words
    assert Drives(drives).units_in_words() == units


def test_numbers_from_a_document():
    assert [drives_in_words(count) for count in (None, 0, 1, 7)] == [
        "unknown drives",
        "0 drives",
        "1 drive",
        "7 drives",
    ]


def test_of_records_and_parts_of_them():
    images = [record(1, "b"), record(2, ""), record(3, "a")]
    assert Drives.of(images).names == ("b", "", "a")
    assert Drives.of(images).take([2, 1]).names == ("a", "")
    assert shared_drives(images, [record(4, "a"), record(5, ""), record(6, "c")]) == ["a"]


@given(st.integers(0, 300))
def test_blocks_are_even_and_in_order(count):
    blocks = even_blocks(range(count))
    assert [place for block in blocks for place in block] == list(range(count))
    assert max(map(len, blocks)) - min(map(len, blocks)) <= 1
    assert len(blocks) <= 20 and (count < 2 or len(blocks) >= 2)
