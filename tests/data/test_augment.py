"""Augmentation keeps images and labels aligned, and its manifest lists what it did."""

from __future__ import annotations

import json
import re
from itertools import pairwise
from pathlib import Path

import golden_presets
import numpy as np
import pytest

from drivetl.conditions import CATALOG
from drivetl.data.augment import (
    PRESETS,
    AugmentConfig,
    Choice,
    Step,
    build,
    load_preset,
    strength,
    strong_share,
    untouched_share,
    with_scale_jitter,
)
from drivetl.data.sample import Sample
from drivetl.data.transforms import TRANSFORMS
from drivetl.errors import ConfigError


def sample(with_masks: bool = True) -> Sample:
    """Four objects painted in their own colours; the last has a box only, its mask row is empty."""
    height, width = 120, 200
    image = np.full((height, width, 3), 60, np.uint8)
    boxes = np.array([[10, 20, 50, 60], [90, 40, 130, 100], [150, 10, 190, 50], [60, 70, 80, 110]], np.float32)
    masks = np.zeros((4, height, width), np.uint8)
    for number, (x1, y1, x2, y2) in enumerate(boxes.astype(int)):
        image[y1:y2, x1:x2] = (40 + 50 * number, 200 - 40 * number, 90)
        masks[number, y1:y2, x1:x2] = number < 3
    return Sample(
        image,
        boxes,
        np.array([1, 2, 3, 1]),
        np.array([[0, 100, 30, 120]], np.float32),
        5,
        masks if with_masks else None,
        np.array([True, True, True, False]) if with_masks else None,
        labelled=(1, 2, 3),
        depth=np.linspace(3, 80, height * width, dtype=np.float32).reshape(height, width),
    )


def empty(with_masks: bool) -> Sample:
    """An image without labels."""
    full = sample(with_masks)
    masks = np.zeros((0, *full.image.shape[:2]), np.uint8) if with_masks else None
    none = np.zeros((0, 4), np.float32)
    return Sample(
        full.image, none, np.zeros(0, np.int64), none, 5, masks, np.zeros(0, np.bool_) if with_masks else None
    )


def single(name: str, min_visibility: float = 0.25, **ranges: tuple[float, float]) -> AugmentConfig:
    """A preset of one transform that always happens."""
    choice = Choice(name, {**TRANSFORMS[name].defaults, **ranges})
    return AugmentConfig("single", (Step(1.0, (choice,)),), min_visibility)


def rng(seed: int) -> np.random.Generator:
    return np.random.default_rng([7, 0, seed])


def check(result: Sample) -> None:
    """What holds for every sample."""
    height, width = result.image.shape[:2]
    assert result.image.dtype == np.uint8 and result.image.flags.c_contiguous and result.image.shape[2] == 3
    assert result.boxes.dtype == np.float32 and result.boxes.shape == (len(result.labels), 4)
    assert result.labels.dtype == np.int64 and result.ignore_boxes.dtype == np.float32
    for boxes in (result.boxes, result.ignore_boxes):
        assert np.all(boxes >= 0) and np.all(boxes[:, 2:] <= (width, height)) and np.all(boxes[:, 2:] > boxes[:, :2])
    if result.masks is not None:
        assert result.masks.shape == (len(result.boxes), height, width) and result.masks.dtype == np.uint8
        assert result.has_mask is not None and len(result.has_mask) == len(result.boxes)


@pytest.mark.parametrize("preset", PRESETS)
@pytest.mark.parametrize("with_masks", [False, True])
def test_presets_keep_samples_valid(preset: str, with_masks: bool) -> None:
    augmentation = build(load_preset(preset))
    for seed in range(12):
        check(augmentation(sample(with_masks), rng(seed)))
    without_objects = augmentation(empty(with_masks), rng(3))
    check(without_objects)
    assert len(without_objects.boxes) == 0 and (without_objects.masks is None) != with_masks


def test_preset_none_changes_nothing() -> None:
    before, after = sample(), build(load_preset("none"))(sample(), rng(0))
    assert np.array_equal(before.image, after.image) and np.array_equal(before.boxes, after.boxes)


@pytest.mark.parametrize("preset", PRESETS)
def test_the_result_depends_on_the_generator_alone(preset: str) -> None:
    """In any order and with any instance, as with any number of workers."""
    first, second = build(load_preset(preset)), build(load_preset(preset))
    forward = [first(sample(), rng(seed)) for seed in range(6)]
    backward = [second(sample(), rng(seed)) for seed in reversed(range(6))][::-1]
    for a, b in zip(forward, backward, strict=True):
        assert np.array_equal(a.image, b.image) and np.array_equal(a.boxes, b.boxes)
        assert np.array_equal(a.masks, b.masks) and np.array_equal(a.ignore_boxes, b.ignore_boxes)
    if preset != "none":
        assert any(a.image.shape != b.image.shape or not np.array_equal(a.image, b.image) for a, b in pairwise(forward))


@pytest.mark.parametrize("name", list(TRANSFORMS))
def test_every_transform_works_and_does_not_modify_its_input(name: str) -> None:
    original, before = sample(), sample()
    result = build(single(name))(original, rng(2))
    check(result)
    assert result.image_id == 5 and result.labelled == (1, 2, 3)
    assert np.array_equal(original.image, before.image) and np.array_equal(original.boxes, before.boxes)
    assert np.array_equal(original.masks, before.masks) and np.array_equal(original.depth, before.depth)


def test_a_flip_moves_all_labels_with_the_image() -> None:
    before, after = sample(), build(single("flip"))(sample(), rng(0))
    assert np.array_equal(after.image, before.image[:, ::-1])
    assert np.allclose(
        after.boxes,
        np.stack([200 - before.boxes[:, 2], before.boxes[:, 1], 200 - before.boxes[:, 0], before.boxes[:, 3]], 1),
        atol=1e-3,
    )
    assert np.array_equal(after.masks, before.masks[:, :, ::-1]) and np.array_equal(after.depth, before.depth[:, ::-1])
    assert np.allclose(after.ignore_boxes, [[170, 100, 200, 120]], atol=1e-3)
    assert after.has_mask.tolist() == [True, True, True, False]


@pytest.mark.parametrize("name", ["crop", "zoom_out"])
def test_boxes_stay_aligned_with_their_pixels(name: str) -> None:
    """The painted colour of each object fills exactly what is left of its box; its mask is the same pixels."""
    colours = {1: (40, 200, 90), 2: (90, 160, 90), 3: (140, 120, 90)}
    for seed in range(10):
        after = build(single(name, side=(0, 0.4), top=(0, 0.4)) if name == "crop" else single(name))(
            sample(), rng(seed)
        )
        for box, mask, label, has_mask in zip(after.boxes, after.masks, after.labels, after.has_mask, strict=True):
            if not has_mask:
                continue
            rows, columns = np.nonzero(np.all(after.image == colours[int(label)], axis=2))
            assert np.allclose(box, [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1], atol=1.01)
            assert np.array_equal(mask > 0, np.all(after.image == colours[int(label)], axis=2))
        assert after.depth.shape == after.image.shape[:2]


def test_a_sliver_becomes_an_ignore_region_without_a_mask_row() -> None:
    """Strict visibility makes every cut object a sliver; objects entirely outside the crop are removed."""
    cut, removed = 0, 0
    for seed in range(25):
        loose = build(single("crop", 0.0, side=(0, 0.45), top=(0, 0.45)))(sample(), rng(seed))
        strict = build(single("crop", 0.999, side=(0, 0.45), top=(0, 0.45)))(sample(), rng(seed))
        check(strict)
        assert np.array_equal(loose.image, strict.image)
        assert len(strict.boxes) + len(strict.ignore_boxes) == len(loose.boxes) + len(loose.ignore_boxes)
        cut += len(loose.boxes) - len(strict.boxes)
        removed += 4 - len(loose.boxes)
        whole = (strict.boxes[:, 2:] - strict.boxes[:, :2]).prod(axis=1)
        assert np.all(whole >= 790)  # the four objects have 800 px and more
    assert cut > 5 and removed > 5


def test_a_cut_box_follows_its_mask() -> None:
    """An L-shaped object: cropping its foot away leaves a box as narrow as the remaining mask."""
    original = sample()
    original.masks[1] = 0
    original.masks[1, 40:100, 90:98] = 1
    original.masks[1, 92:100, 90:130] = 1
    for seed in range(30):
        after = build(single("crop", 0.05, top=(0, 0.45), side=(0, 0.0)))(original, rng(seed))
        index = np.flatnonzero(after.labels == 2)
        if len(index) and not after.masks[index[0]].any(axis=0)[105:].any():
            assert after.boxes[index[0]][2] - after.boxes[index[0]][0] == pytest.approx(8, abs=0.1)
            return
    pytest.fail("no crop took the foot away")


def test_line_blur_does_not_shift_the_image() -> None:
    image = np.zeros((61, 61, 3), np.uint8)
    image[30, 30] = 255
    for seed in range(6):
        original = empty(False)
        original.image = image
        blurred = build(single("line_blur", length_px=(9, 21)))(original, rng(seed)).image[..., 0].astype(float)
        rows, columns = np.mgrid[:61, :61]
        assert abs((blurred * rows).sum() / blurred.sum() - 30) < 0.51
        assert abs((blurred * columns).sum() / blurred.sum() - 30) < 0.51


@pytest.mark.parametrize("preset", PRESETS)
def test_the_manifest_lists_what_was_seen(preset: str) -> None:
    manifest = build(load_preset(preset)).manifest
    assert manifest["version"] == 1 and manifest["preset"] == preset and len(manifest["code_hash"]) == 64
    for row in manifest["transforms"]:
        assert set(row) == {"name", "phenomenon", "model", "family", "range", "p"}
        assert 0 < row["p"] <= 1 and all(low <= high for low, high in row["range"].values())
    names = {row["name"] for row in manifest["transforms"]}
    assert (not names) if preset == "none" else ("flip" in names)


@pytest.mark.parametrize("preset", PRESETS)
def test_no_shipped_preset_trains_on_an_evaluated_level(preset: str) -> None:
    """No ladder step of any condition lies inside the range of a trained transform of the same model."""
    for row in build(load_preset(preset)).manifest["transforms"]:
        for condition in CATALOG.values():
            if condition.model == row["model"]:
                for step in condition.ladder:
                    inside = [row["range"][k][0] <= step[k] <= row["range"][k][1] for k in step if k in row["range"]]
                    assert inside and not all(inside), (preset, row["name"], condition.name, step)


def test_training_on_an_evaluated_condition_is_declared_in_its_physical_units() -> None:
    manifest = build(single("condition:fog", severity=(2, 4))).manifest
    assert manifest["transforms"][0]["model"] == CATALOG["fog"].model
    assert manifest["transforms"][0]["range"] == {"visibility_m": [75, 300]}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("steps:\n  - {name: flop, p: 0.5}\n", r":2: unknown transform 'flop' - did you mean 'flip'"),
        ("steps:\n  - {name: flip, p: 2}\n", r":2: p is 2"),
        ("step: []\n", r"unknown key 'step' - did you mean 'steps'"),
        ("steps:\n  - {name: haze, range: {densty: [0, 1]}}\n", "did you mean 'density'"),
        ("steps:\n  - {name: haze, range: {density: [1, 0.2]}}\n", "smaller number first"),
        ("steps:\n  - {name: haze, range: {density: 1}}\n", r"range\.density is 1, it must be \[low, high\]"),
        ("steps:\n  - {name: gamma, range: {exponent: [-1, 2]}}\n", "must be a number from 0.2 to 5"),
        ("steps:\n  - {p: 0.5}\n", r":2: a step needs a name"),
        ("steps:\n  - {p: 0.5, one_of: []}\n", "one_of needs"),
        ("steps: flip\n", "steps is 'flip', it must be a list"),
        ("steps: [\n", "not valid YAML"),
        ("- 1\n", "key: value"),
        ("min_visibility: yes\n", "min_visibility is 'yes'"),
        ("steps:\n  - {name: flip, p: 1}\n  - {name: haze, p: 1.0}\n", r":3: step 2 changes every image.*p below 1"),
        ("steps:\n  - {p: 1, one_of: [{name: haze}, {name: gamma}]}\n", r":2: step 1 changes every image"),
    ],
)
def test_mistakes_in_a_preset_are_named(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError, match=message):
        load_preset(str(path))


def test_an_unknown_preset_is_named() -> None:
    with pytest.raises(ConfigError, match="did you mean 'weather'"):
        load_preset("wether")


def preset(*steps: tuple[float, str, dict[str, tuple[float, float]]]) -> AugmentConfig:
    """A preset of steps (p, transform, ranges)."""
    return AugmentConfig("mine", tuple(Step(p, (Choice(name, ranges),)) for p, name, ranges in steps))


def test_the_strength_of_shipped_presets() -> None:
    expected = {"none": "none", "photometric": "mild", "weather": "mild", "severe": "strong", "mixed": "strong"}
    assert {name: strength(load_preset(name)) for name in PRESETS} == expected
    assert untouched_share(load_preset("none")) == 1 and strong_share(load_preset("photometric")) == 0
    assert all(untouched_share(load_preset(name)) > 0.04 for name in PRESETS)


def test_strength_follows_the_steps_of_a_users_preset() -> None:
    assert strength(preset((1.0, "flip", {}), (0.9, "crop", {}), (0.9, "shrink", {}))) == "none"
    assert strength(preset((0.0, "haze", {}))) == "none"
    assert strength(preset((0.9, "colour", {}))) == "mild"
    assert strength(preset((0.49, "haze", {}))) == "mild" and strength(preset((0.5, "haze", {}))) == "strong"
    assert strength(preset((0.6, "condition:fog", {}))) == "strong"
    # half of each range is outside the default one of [0.7, 1.5]
    assert strong_share(preset((0.5, "gamma", {"exponent": (0.5, 0.9)}))) == pytest.approx(0.25)
    assert strength(preset((0.9, "gamma", {"exponent": (2.0, 3.0)}))) == "strong"
    assert strong_share(preset((0.8, "gamma", {"exponent": (2.0, 2.0)}))) == pytest.approx(0.8)


def test_shares_are_products_over_the_steps() -> None:
    both = Step(0.6, (Choice("haze", weight=1.0), Choice("flip", weight=3.0)))
    config = AugmentConfig("mine", (both, Step(0.5, (Choice("jpeg"),)), Step(1.0, (Choice("flip"),))))
    assert untouched_share(config) == pytest.approx((1 - 0.15) * 0.5)
    assert strong_share(config) == pytest.approx(0.15)


def test_the_untouched_share_is_what_a_preset_does() -> None:
    """Drawn: the share of images whose pixels are those of the original, or a part or a smaller version of it."""
    steps = tuple(step for step in load_preset("mixed").steps if not TRANSFORMS[step.choices[0].name].moves)
    augmentation = build(AugmentConfig("mine", steps))
    before = empty(False)
    before.image = np.ascontiguousarray(np.random.default_rng(0).integers(0, 256, (12, 20, 3)), np.uint8)
    same = [np.array_equal(augmentation(before, rng(seed)).image, before.image) for seed in range(300)]
    expected = untouched_share(load_preset("mixed"))
    assert abs(np.mean(same) - expected) < 4 * np.sqrt(expected * (1 - expected) / len(same))


def boxed(*boxes: tuple[float, float, float, float], height: int = 90, width: int = 160) -> Sample:
    """A textured image with boxes, each of them a mask too."""
    noise = np.random.default_rng(1).integers(0, 256, (height, width, 3)).astype(np.uint8)
    array = np.array(boxes, np.float32).reshape(-1, 4)
    masks = np.zeros((len(array), height, width), np.uint8)
    for mask, (x1, y1, x2, y2) in zip(masks, array.astype(int), strict=True):
        mask[y1 : max(y2, y1 + 1), x1 : max(x2, x1 + 1)] = 1
    return Sample(
        noise, array, np.ones(len(array), np.int64), np.array([[0, 0, 9, 9]], np.float32), 1, masks, masks.any((1, 2))
    )


@pytest.mark.parametrize("name", ["object_mix", "frequency"])
def test_mixtures_and_waves_leave_every_label_where_it_is(name: str) -> None:
    before = boxed((10, 20, 50, 60), (70, 5, 71, 6), (159, 89, 160, 90), (100.4, 30.2, 101.9, 80.7))
    for seed in range(8):
        after = build(single(name))(before, rng(seed))
        assert np.array_equal(after.boxes, before.boxes) and np.array_equal(after.masks, before.masks)
        assert np.array_equal(after.ignore_boxes, before.ignore_boxes) and after.image.shape == before.image.shape
        assert not np.array_equal(after.image, before.image)


@pytest.mark.parametrize("sigma", [0.4, 4.0])
def test_the_random_filter_does_not_move_edges(sigma: float) -> None:
    """A point's response is point-symmetric around it."""
    point = empty(False)
    point.image = np.zeros((21, 21, 3), np.uint8)
    point.image[10, 10] = 200
    for seed in range(6):
        after = build(single("frequency", sigma=(sigma, sigma), amplitude=(0, 0)))(point, rng(seed)).image
        assert np.array_equal(after, after[::-1, ::-1])


def test_an_object_has_a_mixture_of_its_own_with_soft_edges() -> None:
    """On a grey ramp: tones of an object differ from the same tones elsewhere, without a step at its box."""
    ramp = boxed((60, 20, 100, 70))
    ramp.image[:] = np.linspace(40, 200, 90)[:, None, None]
    differs, steps = 0, []
    for seed in range(30):
        after = build(single("object_mix"))(ramp, rng(seed)).image.astype(int)
        differs += int(np.abs(after[45, 80] - np.median(after[45], axis=0)).max() > 8)
        steps.append(np.abs(np.diff(after[45], axis=0)).max() / max(1, np.ptp(after[45], axis=0).max()))
    assert differs > 5 and max(steps) < 0.7


def test_objects_that_are_hard_to_see_change_at_most_half_as_much() -> None:
    """Solarised white becomes black: a tiny object keeps at least half of its brightness."""
    from drivetl.data import mixing

    tiny = boxed((40, 40, 43, 43))
    tiny.image[:] = 0
    tiny.image[:, ::2] = 255
    hard = [mixing._hard_to_see(tiny.image, [(40, 40, 43, 43)])[0]]
    assert hard == [True]
    whole, half = [], []
    for seed in range(200):
        table = mixing._mixture(mixing._counts(tiny.image), rng(seed), 1.0)
        whole.append(int(table[255].min()))
        half.append(int(mixing._mixture(mixing._counts(tiny.image), rng(seed), 0.5)[255].min()))
    assert min(whole) < 60 and min(half) >= 127


@pytest.mark.parametrize("factor", [1.0, 0.73, 0.5, 0.1])
def test_shrinking_moves_all_labels_with_the_image(factor: float) -> None:
    """The painted objects are where their boxes say, to half a pixel; masks are the same pixels; the size stays."""
    before = sample()
    for seed in range(5):
        after = build(single("shrink", factor=(factor, factor)))(before, rng(seed))
        check(after)
        assert after.image.shape == before.image.shape and after.depth.shape == before.depth.shape
        assert len(after.boxes) + len(after.ignore_boxes) == 5, "nothing is lost"
        for box, label, mask, has_mask in zip(after.boxes, after.labels, after.masks, after.has_mask, strict=True):
            painted = np.array([40 + 50 * (label - 1), 200 - 40 * (label - 1), 90])
            x1, y1, x2, y2 = np.rint(box).astype(int)
            inner = after.image[y1 + 1 : y2 - 1, x1 + 1 : x2 - 1]
            if has_mask and inner.size and factor > 0.2:
                assert np.abs(inner.astype(int) - painted).max() <= 1
                rows, columns = np.nonzero(mask)
                bounds = [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
                assert np.abs(box - bounds).max() <= 0.51
        if factor == 1.0:
            assert np.array_equal(after.image, before.image) and np.array_equal(after.boxes, before.boxes)


def test_shrinking_makes_tiny_objects_ignore_regions_and_keeps_empty_images() -> None:
    before = boxed((10, 10, 13, 13), (40, 40, 80, 80), (0, 0, 1, 1))
    before.vehicles = before.boxes[1:2]
    after = build(single("shrink", factor=(0.5, 0.5)))(before, rng(0))
    assert len(after.boxes) == 1 and len(after.ignore_boxes) == 3 and after.masks.shape == (1, 90, 160)
    assert np.allclose(after.boxes[0, 2:] - after.boxes[0, :2], 20) and np.array_equal(after.vehicles, after.boxes)
    none = build(single("shrink"))(empty(True), rng(0))
    check(none)
    assert len(none.boxes) == 0 and none.masks.shape[0] == 0


def extent(values: np.ndarray) -> tuple[float, float]:
    """Where a bright bar begins and ends along a profile (0..1), with a part of a pixel where it is partly covered."""
    bright = np.flatnonzero(values > 0.01)
    return bright[0] + 1 - values[bright[0]], bright[-1] + values[bright[-1]]


@pytest.mark.parametrize("factor", [0.1, 0.37, 0.5, 0.83, 1.0, 1.2, 2.0, 3.7])
def test_law_no_label_moves_against_its_pixels_at_any_scale(factor: float) -> None:
    """A white rectangle on black: its edges in the image, measured by their brightness, are the edges of its box, its
    mask and the ignore region on it, to half a pixel."""
    for seed in range(8):
        left, top, right, bottom = box = np.array([61, 34, 113, 75]) + seed * np.array([3, 1, 2, 1])
        before = boxed(tuple(map(float, box)), height=137, width=211)
        before.image[:] = 0
        before.image[top:bottom, left:right] = 255
        before.ignore_boxes, before.vehicles = before.boxes.copy(), before.boxes.copy()
        before.depth = np.where(before.image[..., 0] > 0, 5.0, 50.0).astype(np.float32)
        after = build(single("scale_jitter", 0.0, factor=(factor, factor)))(before, rng(seed))
        check(after)
        if not len(after.boxes):
            assert factor > 2 or factor == 0.1
            continue
        values = np.where(np.all(after.image == 114, axis=2), 0, after.image[..., 0] / 255)
        x1, x2 = extent(values.max(axis=0))
        y1, y2 = extent(values.max(axis=1))
        seen = np.array([x1, y1, x2, y2])
        assert np.abs(after.boxes[0] - seen).max() <= 0.5
        assert np.abs(after.ignore_boxes[0] - seen).max() <= 0.5 and np.array_equal(after.vehicles[0], after.boxes[0])
        rows, columns = np.nonzero(after.masks[0])
        assert np.abs(seen - [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]).max() <= 1.0
        assert np.array_equal(after.depth == 5, after.masks[0] > 0)
        wide, high = (after.boxes[0, 2:] - after.boxes[0, :2]) / (after.image.shape[1], after.image.shape[0])
        whole = (right - left) / 211 * factor, (bottom - top) / 137 * factor
        cut = 0 in after.boxes[0] or np.any(after.boxes[0, 2:] == (after.image.shape[1], after.image.shape[0]))
        assert cut or (wide, high) == pytest.approx(whole, rel=0.06)


def test_the_key_scale_jitter_is_the_first_step_of_any_preset_and_in_its_manifest() -> None:
    for name in PRESETS:
        config = load_preset(name)
        assert with_scale_jitter(config, (1, 1)) == config
        jittered = with_scale_jitter(config, (0.5, 1.5))
        assert jittered.steps[1:] == config.steps and strength(jittered) == strength(config)
        row, *others = build(jittered).manifest["transforms"]
        assert row == {
            "name": "scale_jitter",
            "phenomenon": "framing",
            "model": "scale_jitter",
            "family": "geometric",
            "range": {"factor": [0.5, 1.5]},
            "p": 1.0,
        }
        assert others == build(config).manifest["transforms"]


def test_objects_are_made_smaller_as_often_as_larger() -> None:
    before = boxed((75.0, 40, 85, 50))
    augmentation = build(with_scale_jitter(load_preset("none"), (0.5, 2)))
    after = [augmentation(before, rng(seed)) for seed in range(200)]
    smaller = [item.image.shape == before.image.shape for item in after]
    assert 70 <= sum(smaller) <= 130
    assert min(item.boxes[0, 2] - item.boxes[0, 0] for item in after if len(item.boxes)) < 5.5


@pytest.mark.parametrize("size", [(1, 1), (2, 300), (7, 5)])
def test_mixed_works_on_any_size(size: tuple[int, int]) -> None:
    augmentation = build(load_preset("mixed"))
    for seed in range(25):
        little = boxed((0, 0, size[1], size[0]), height=size[0], width=size[1])
        little.ignore_boxes = np.zeros((0, 4), np.float32)
        check(augmentation(little, rng(seed)))


def test_golden_presets() -> None:
    """Presets keep making the images that they made: runs can be resumed, and results of a preset compare."""
    now, stored = golden_presets.golden(), json.loads(golden_presets.PATH.read_text())
    assert list(now) == list(stored), "run python tools/golden.py"
    for name, rows in now.items():
        for row, old in zip(rows, stored[name], strict=True):
            assert row["size"] == old["size"], name
            assert np.allclose(row["tiles"], old["tiles"], atol=0.35, rtol=0.01), name
            assert np.allclose(row["boxes"], old["boxes"], atol=0.02), name
    assert golden_presets.PATH.read_text() == golden_presets.as_text(stored)


def test_the_preset_of_the_documents_is_one(tmp_path: Path) -> None:
    page = (Path(__file__).parents[2] / "docs" / "presets.md").read_text("utf-8")
    (tmp_path / "mine.yaml").write_text(re.findall(r"```yaml\n(.*?)```", page, re.DOTALL)[0])
    config = load_preset(str(tmp_path / "mine.yaml"))
    assert strength(config) == "strong"
    check(build(config)(sample(), rng(0)))
