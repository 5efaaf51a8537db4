"""Laws that every condition keeps: identity, purity, monotony, shape, survival of odd pictures, labels that hold."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor

import cv2
import numpy as np
import pytest
from golden_conditions import PATH, as_text, golden
from street_cases import local_shifts, street, textured

from drivetl.conditions import CATALOG, PROTOCOL_VERSION, SETS, Camera, apply, get, pixel_seed, select
from drivetl.errors import ConfigError, DataError

NAMES = list(CATALOG)


@pytest.mark.parametrize("name", NAMES)
def test_severity_zero_is_the_identity_and_a_copy(name: str) -> None:
    image = street()
    same = apply(image, name, 0, 7)
    assert np.array_equal(same, image) and same is not image and not np.shares_memory(same, image)


@pytest.mark.parametrize("name", NAMES)
def test_a_pure_function_that_leaves_its_input_alone(name: str) -> None:
    image, cache = street(), {}
    before = image.copy()
    first = apply(image, name, 4, 11, cache=cache)
    again = apply(image, name, 4, 11, cache=cache)
    alone = apply(image.copy(), name, 4, 11)
    assert first.shape == image.shape and first.dtype == np.uint8 and first.flags.c_contiguous
    assert np.array_equal(first, again) and np.array_equal(first, alone)
    assert np.array_equal(image, before)


def test_a_cache_of_another_image_is_not_used() -> None:
    cache: dict[str, object] = {}
    apply(street(0), "night", 3, 1, cache=cache)
    assert np.array_equal(apply(street(5), "night", 3, 1, cache=cache), apply(street(5), "night", 3, 1))


def test_the_order_and_number_of_threads_do_not_matter() -> None:
    image = street()
    jobs = [(name, severity) for name in SETS["drive"] for severity in (2, 5)]
    alone = [apply(image, *job, 3) for job in jobs]
    with ThreadPoolExecutor(4) as pool:
        together = list(pool.map(lambda job: apply(image, *job, 3), jobs[::-1]))[::-1]
    assert all(np.array_equal(a, b) for a, b in zip(alone, together, strict=True))


@pytest.mark.parametrize("name", ["rain", "snowfall", "night", "lens_dirt", "gaussian_noise", "frost", "spatter"])
def test_another_seed_is_another_picture(name: str) -> None:
    assert not np.array_equal(apply(street(), name, 3, 1), apply(street(), name, 3, 2))


UNORDERED = {"frost", "plasma_fog", "saturate", "spatter", "glass_blur", "glass_blur_aligned"}
"""Published ladders that are no ladders in mean change: they trade one parameter against another."""


@pytest.mark.parametrize("name", [name for name in NAMES if name not in UNORDERED])
def test_mean_change_grows_with_severity(name: str) -> None:
    image, cache = street(), {}
    change = [
        np.mean([np.abs(apply(image, name, s, seed, cache=cache).astype(int) - image).mean() for seed in range(4)])
        for s in range(6)
    ]
    assert change[0] == 0
    assert np.all(np.diff(change) > 0), change


def test_golden_pixels() -> None:
    """Every stored value, within what another machine may differ by."""
    document, stored = golden(), json.loads(PATH.read_text())
    assert stored["protocol_version"] == PROTOCOL_VERSION, "run python tools/golden.py"
    assert list(stored["fingerprints"]) == list(document["fingerprints"]), "run python tools/golden.py"
    for key, values in document["fingerprints"].items():
        assert np.allclose(values, stored["fingerprints"][key], atol=0.35, rtol=0.01), key


def test_the_golden_file_is_written_as_the_tool_writes_it() -> None:
    assert PATH.read_text() == as_text(json.loads(PATH.read_text())), "run python tools/golden.py"


ODD = {
    "black": np.zeros((40, 64, 3), np.uint8),
    "white": np.full((40, 64, 3), 255, np.uint8),
    "grey": np.full((37, 61, 3), 128, np.uint8),
    "one pixel": np.full((1, 1, 3), 90, np.uint8),
    "one row": np.full((1, 50, 3), 90, np.uint8),
    "tall": np.full((90, 7, 3), 90, np.uint8),
}


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("kind", list(ODD))
def test_odd_pictures_survive(name: str, kind: str) -> None:
    result = apply(ODD[kind], name, 5, 3)
    assert result.shape == ODD[kind].shape and result.dtype == np.uint8


@pytest.mark.parametrize("name", ["fog", "ego_blur", "glass_blur"])
def test_eight_thousand_pixels_wide(name: str) -> None:
    image = np.full((64, 7680, 3), 120, np.uint8)
    image[:, ::97] = 20
    assert apply(image, name, 3, 1).shape == image.shape


def test_a_view_with_strides_is_read_as_what_it_shows() -> None:
    image = street()
    flipped = image[:, ::-1]
    assert np.array_equal(apply(flipped, "fog", 3, 1), apply(flipped.copy(), "fog", 3, 1))


MOVING = {name for name, condition in CATALOG.items() if not condition.label_safe}
MATCHABLE = [
    name for name in NAMES if name not in MOVING | {"frost", "plasma_fog", "snow", "dead_rows", "spatter", "lens_dirt"}
]
"""Overlays that hide the texture have nothing to match, and move nothing: they never resample the picture."""


@pytest.mark.parametrize("name", MATCHABLE)
def test_labels_hold_within_half_a_pixel(name: str) -> None:
    image = textured()
    means = []
    for seed in (1, 2, 3):
        shifts = local_shifts(image, apply(image, name, 4, seed))
        assert len(shifts) >= 3, "nothing left to match"
        means.append(shifts)
    every = np.concatenate(means)
    assert np.median(np.hypot(*every.T)) < 0.5
    matched = every[np.hypot(*every.T) < 3]  # a lamp or a drop in a patch may be matched with something else
    assert len(matched) >= 0.9 * len(every)
    assert np.all(np.abs(matched.mean(axis=0)) < 0.4)


def test_what_moves_says_so() -> None:
    assert {"motion_blur", "zoom_blur", "elastic_transform", "glass_blur", "rolling_shutter"} == MOVING
    assert not MOVING & {*SETS["all"], *SETS["drive"], *SETS["common_aligned"]}
    image = textured()
    for name in ("motion_blur", "zoom_blur", "glass_blur"):
        shifts = local_shifts(image, apply(image, name, 3, 1))
        assert np.median(np.hypot(*shifts.T)) > 1.0
        assert CATALOG[name].shift_note


def test_a_rolling_shutter_shears_about_the_middle_row_by_what_its_note_says() -> None:
    image = np.zeros((375, 1242, 3), np.uint8)
    image[:, 620:622] = 255
    for severity, most in enumerate((0.3, 0.6, 1.3, 2.5, 5.0), start=1):
        seen = apply(image, "rolling_shutter", severity, 1, camera=Camera(focal_px=721)).astype(float)[..., 0]
        centre = (seen * np.arange(1242)).sum(axis=1) / seen.sum(axis=1) - 620.5
        assert abs(centre[187]) < 0.05 and abs(centre[0] + centre[-1]) < 0.1
        assert abs(abs(centre[0]) - most) < 0.1 + 0.02 * most


def test_the_catalogue_is_complete() -> None:
    assert len(SETS["common"]) == 15 and len({CATALOG[n].published for n in NAMES} - {""}) == 19
    assert all(CATALOG[name].label_safe for name in SETS["common_aligned"])
    for name, condition in CATALOG.items():
        assert name == condition.name and len(condition.ladder) == 5
        assert condition.phenomenon and condition.model and condition.effect.__doc__
        assert len(set(condition.axis)) > 1 and condition.unit[1]
    models: dict[str, set[str]] = {}
    for condition in CATALOG.values():
        models.setdefault(condition.model, set()).add(condition.phenomenon)
    assert all(len(phenomena) == 1 for phenomena in models.values())


def test_selection_of_names_and_sets() -> None:
    assert select("fog, night,fog") == ["fog", "night"]
    assert select("common") == list(SETS["common"]) and "motion_blur" not in select("common_aligned")
    assert set(select("drive")) <= set(select("all"))
    with pytest.raises(ConfigError, match="did you mean 'snowfall'"):
        select("snowfal")
    with pytest.raises(ConfigError, match="did you mean 'common_aligned'"):
        select("common_alined")
    with pytest.raises(ConfigError, match="no condition in"):
        select(" , ")
    with pytest.raises(ConfigError, match="did you mean 'fog'"):
        get("fogg")


def test_the_seed_of_a_pixel_depends_on_each_of_its_parts() -> None:
    seeds = {pixel_seed(k, c, s) for k in ("a", "b", 1) for c in ("fog", "rain") for s in (1, 2)}
    assert len(seeds) == 12 and all(0 <= seed < 2**63 for seed in seeds)
    assert pixel_seed("1", "fog", 1) == pixel_seed(1, "fog", 1)
    assert pixel_seed("000042", "fog", 3) == 7193251563230073522


@pytest.mark.parametrize(
    ("image", "message"),
    [
        (np.zeros((4, 4), np.uint8), "grey"),
        (np.zeros((4, 4, 1), np.uint8), "grey"),
        (np.zeros((4, 4, 4), np.uint8), "RGBA"),
        (np.zeros((4, 4, 3), np.float32), "float32"),
        (np.zeros((4, 4, 3), np.uint16), "uint16"),
        (np.zeros((0, 4, 3), np.uint8), "at least one pixel"),
        ([[1, 2], [3, 4]], "list"),
    ],
)
def test_pictures_of_another_form_are_refused(image: object, message: str) -> None:
    with pytest.raises(DataError, match=message):
        apply(image, "fog", 1, 0)  # type: ignore[arg-type]


@pytest.mark.parametrize("severity", [6, -1, 2.5, "3"])
def test_impossible_severities_are_refused(severity: object) -> None:
    with pytest.raises(ConfigError, match="severity"):
        apply(street(), "fog", severity, 0)  # type: ignore[arg-type]


def test_numpy_integers_are_integers() -> None:
    assert np.array_equal(apply(street(), "fog", np.int64(2), 1), apply(street(), "fog", 2, 1))


def test_opencv_threads_do_not_change_a_pixel() -> None:
    image, threads = street(), cv2.getNumThreads()
    try:
        results = []
        for count in (1, 4):
            cv2.setNumThreads(count)
            results.append([apply(image, name, 3, 5) for name in ("rain", "night", "defocus", "zoom_blur")])
    finally:
        cv2.setNumThreads(threads)
    assert all(np.array_equal(a, b) for a, b in zip(*results, strict=True))


@pytest.mark.parametrize("name", ["night", "dusk"])
@pytest.mark.parametrize("size", [(1, 1), (1, 2), (2, 1)])
def test_a_picture_that_is_one_lamp_survives(name: str, size: tuple[int, int]) -> None:
    """A bright spot over all of it leaves no background to have a centre."""
    image = np.full((*size, 3), (255, 168, 78), np.uint8)
    for severity in range(1, 6):
        assert apply(image, name, severity, 85).shape == image.shape
