"""The published corruptions keep their definitions; training recipes share no model with what is measured."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from street_cases import street, textured

from drivetl.conditions import CATALOG, apply, scene_of
from drivetl.conditions.common_blur import motion_kernel, overwritten_from
from drivetl.conditions.common_weather import ice_texture, plasma
from drivetl.conditions.training import RECIPES

GREY = np.full((200, 300, 3), 128, np.uint8)


def values(name: str, severity: int, image: np.ndarray = GREY) -> np.ndarray:
    return apply(image, name, severity, 5).astype(float) / 255


@pytest.mark.parametrize("severity", [1, 3])
def test_noises_have_their_published_spread(severity: int) -> None:
    x = 128 / 255
    step = {name: CATALOG[name].ladder[severity - 1] for name in CATALOG}
    assert values("gaussian_noise", severity).std() == pytest.approx(step["gaussian_noise"]["std"], rel=0.02)
    assert values("speckle_noise", severity).std() == pytest.approx(x * step["speckle_noise"]["std"], rel=0.02)
    shot = values("shot_noise", severity)
    assert shot.mean() == pytest.approx(x, abs=0.003)
    assert shot.std() == pytest.approx((x / step["shot_noise"]["photons"]) ** 0.5, rel=0.03)
    impulse = values("impulse_noise", severity)
    amount = step["impulse_noise"]["amount"]
    assert np.mean(impulse == 0) == pytest.approx(amount / 2, rel=0.08)
    assert np.mean(impulse == 1) == pytest.approx(amount / 2, rel=0.08)


def test_contrast_and_brightness_are_their_formulas() -> None:
    image = street()
    means = image.reshape(-1, 3).mean(axis=0)
    expected = np.rint((image - means) * 0.2 + means)
    assert np.abs(apply(image, "contrast", 3, 0) - expected).max() <= 1
    hsv = [
        cv2.cvtColor(part.astype(np.float32) / 255, cv2.COLOR_RGB2HSV)
        for part in (image, apply(image, "brightness", 2, 0))
    ]
    inside = hsv[0][..., 2] < 0.75
    assert np.allclose((hsv[1] - hsv[0])[inside][:, 2], 0.2, atol=0.01)


def test_pixelate_and_jpeg_are_what_they_say() -> None:
    image = textured(200, 300)
    blocks = apply(image, "pixelate", 5, 0)  # a quarter: blocks of 4
    assert np.array_equal(blocks[::4, ::4].repeat(4, 0).repeat(4, 1), blocks)
    _, data = cv2.imencode(".jpg", image[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 10])
    assert np.array_equal(apply(image, "jpeg_compression", 4, 0), cv2.imdecode(data, cv2.IMREAD_COLOR)[..., ::-1])


@pytest.mark.parametrize(
    ("radius", "sigma", "centroid"), [(10, 3, 2.1), (15, 5, 3.7), (15, 8, 6.1), (15, 12, 9.0), (20, 15, 11.4)]
)
def test_the_published_motion_blur_moves_and_the_aligned_one_does_not(
    radius: int, sigma: float, centroid: float
) -> None:
    """The centroids are those measured on the published code."""
    for aligned in (False, True):
        kernel = motion_kernel(radius, sigma, 0.0, aligned=aligned).astype(float)
        rows, columns = np.mgrid[: len(kernel), : len(kernel)] - len(kernel) // 2
        assert kernel.sum() == pytest.approx(1, abs=1e-5)
        assert (kernel * rows).sum() == pytest.approx(0, abs=1e-4)
        assert (kernel * columns).sum() == pytest.approx(0 if aligned else centroid, abs=0.06)


def test_zoom_blur_moves_outwards_by_half_its_range() -> None:
    image = np.zeros((201, 401, 3), np.uint8)
    image[95:106, 330:341] = 255
    zooms = np.append(np.arange(1, 1.21, 0.02), 1)
    outwards = 135 * ((zooms**3).sum() / (zooms**2).sum() - 1)  # a zoomed patch is larger and weighs more
    for name, moved in (("zoom_blur", outwards), ("zoom_blur_aligned", 0)):
        result = apply(image, name, 3, 0)[..., 0].astype(float)
        centre = (result * np.arange(401)).sum() / result.sum()
        assert centre - 335 == pytest.approx(moved, abs=1.2), name


def test_glass_blur_moves_down_and_right_as_the_published_one() -> None:
    for reach, rounds in ((1, 2), (2, 1), (2, 3), (3, 2), (4, 2)):
        moves = overwritten_from(reach, rounds).astype(float)
        assert np.abs(moves.mean(axis=(0, 1)) + np.array([1, 1]) * rounds / 2).max() < 2.5
        assert moves.mean() < -0.4 and np.abs(moves).max() < 127


def test_plasma_spans_its_range_and_wraps() -> None:
    cloud = plasma(np.random.default_rng(3), 256, 256, 2.0)
    assert cloud.shape == (256, 256) and 0 <= cloud.min() < 0.02 and 0.98 < cloud.max() <= 1
    assert np.abs(cloud[:, 0] - cloud[:, -1]).mean() < 3 * np.abs(np.diff(cloud, axis=1)).mean() + 0.05
    part = plasma(np.random.default_rng(3), 100, 250, 2.0)  # the same square, cut
    assert np.array_equal(part, cloud[:100, :250])


@pytest.mark.parametrize("severity", [1, 2, 3, 4, 5])
def test_defocus_blur_is_the_published_disc(severity: int) -> None:
    """Their kernel applied as it is, away from the border; wide ones are computed at half the resolution."""
    image, step = textured(), CATALOG["defocus_blur"].ladder[severity - 1]
    radius, reach = step["radius_px"], max(8, int(step["radius_px"]))
    y, x = np.mgrid[-reach : reach + 1, -reach : reach + 1]
    disc = (x**2 + y**2 <= radius**2).astype(np.float64)
    size = (3, 3) if radius <= 8 else (5, 5)
    kernel = cv2.GaussianBlur(disc / disc.sum(), size, step["soften_px"])
    exact = cv2.filter2D(image.astype(np.float64), -1, kernel)
    difference = np.abs(apply(image, "defocus_blur", severity, 0) - exact)[12:-12, 12:-12]
    assert difference.mean() < 0.7 and difference.max() < 6


def test_ice_textures_have_the_tones_of_the_photographs() -> None:
    tones = [ice_texture(kind).mean() for kind in range(5)]
    assert np.allclose(tones, [131, 206, 152, 123, 90], atol=6)


@pytest.mark.parametrize("name", list(RECIPES))
@pytest.mark.parametrize("shape", [(64, 96), (1, 1), (3, 50)])
def test_recipes_keep_form_and_range(name: str, shape: tuple[int, int]) -> None:
    image = textured(64, 96)[: shape[0], : shape[1]]
    for bound in (0, 1):
        chosen = {key: pair[bound] for key, pair in RECIPES[name].range.items()}
        results = [RECIPES[name].effect(scene_of(image.copy()), np.random.default_rng(4), **chosen) for _ in range(2)]
        assert results[0].shape == image.shape and results[0].dtype == np.uint8
        assert np.array_equal(*results)


def test_no_model_is_both_trained_and_measured() -> None:
    assert not {recipe.model for recipe in RECIPES.values()} & {item.model for item in CATALOG.values()}
    phenomena = {item.phenomenon for item in CATALOG.values()}
    assert all(recipe.phenomenon in phenomena for recipe in RECIPES.values())
