"""Every form of an image gives the same pixels; everything else is refused with what it is and what is expected."""

import cv2
import numpy as np
import pytest
import torch
from PIL import Image

import drivetl
from drivetl.api.images import as_rgb

PIXELS = np.random.default_rng(0).integers(0, 256, (8, 12, 3), dtype=np.uint8)


def test_law_all_forms_are_the_same_pixels(tmp_path):
    path = tmp_path / "image.png"
    assert cv2.imwrite(str(path), PIXELS[..., ::-1])
    chw = torch.from_numpy(PIXELS).permute(2, 0, 1)
    for form in (path, str(path), PIXELS, PIXELS[:, ::-1][:, ::-1], Image.fromarray(PIXELS), chw, chw.contiguous()):
        assert np.array_equal(as_rgb(form), PIXELS) and as_rgb(form).dtype == np.uint8


def test_a_grey_or_transparent_pil_image_is_converted():
    grey = Image.fromarray(PIXELS[..., 0])
    assert np.array_equal(as_rgb(grey), np.repeat(PIXELS[..., :1], 3, axis=2))
    opaque = Image.fromarray(np.dstack([PIXELS, np.full((8, 12), 255, np.uint8)]))
    assert np.array_equal(as_rgb(opaque), PIXELS)


CHW = torch.from_numpy(PIXELS.copy()).permute(2, 0, 1)


@pytest.mark.parametrize(
    ("image", "got", "remedy"),
    [
        (PIXELS / 255, r"\(8, 12, 3\) float64 array with values 0 to 1", "(255 * image).round().astype(np.uint8)"),
        (PIXELS.astype(np.float32), "float32 array with values 0 to 255", "image.astype(np.uint8)"),
        (PIXELS.astype(np.uint16), "uint16 array", "bytes 0..255"),
        (PIXELS.transpose(2, 0, 1), r"\(3, 8, 12\) uint8 array", "image.transpose(1, 2, 0)"),
        (PIXELS[..., 0], r"\(8, 12\) uint8 array", "np.stack([image] * 3, 2)"),
        (PIXELS[..., :2], r"\(8, 12, 2\) uint8 array", "3 channels"),
        (PIXELS[None], r"\(1, 8, 12, 3\) uint8 array", "list(batch)"),
        (PIXELS[:0], r"\(0, 12, 3\) uint8 array;", "at least one pixel"),
        (CHW / 255, r"\(3, 8, 12\) float32 tensor with values 0 to 1", "(255 * image).round().byte()"),
        (CHW.permute(1, 2, 0), r"\(8, 12, 3\) uint8 tensor", "image.permute(2, 0, 1)"),
        (CHW[None], r"\(1, 3, 8, 12\) uint8 tensor", "list(batch)"),
        (None, "a NoneType", "pass a path"),
        (7, "a int", "pass a path"),
        (Image.fromarray(np.zeros((4, 4), np.uint16)), "mode I;16", "8 bits"),
        (Image.fromarray(np.zeros((4, 4), np.float32)), "mode F", "8 bits"),
    ],
)
def test_law_anything_else_is_refused_with_what_it_is(image, got, remedy):
    with pytest.raises(drivetl.DrivetlError, match=got) as caught:
        as_rgb(image, "images[1]")
    assert str(caught.value).startswith("images[1] is") and remedy in caught.value.remedy


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(drivetl.DrivetlError, match=r"no\.png: cannot be read"):
        as_rgb(tmp_path / "no.png")


def test_apply_takes_a_path_and_gives_the_catalogues_pixels(tmp_path):
    image = np.random.default_rng(1).integers(0, 256, (48, 64, 3), dtype=np.uint8)
    cv2.imwrite(str(tmp_path / "a.png"), image[..., ::-1])
    foggy = drivetl.apply(str(tmp_path / "a.png"), "fog", severity=3, seed=5)
    assert np.array_equal(foggy, drivetl.conditions.apply(image, "fog", 3, 5)) and not np.array_equal(foggy, image)
    assert np.array_equal(drivetl.apply(image, "fog", 0), image)
    boxes = [[2, 1, 11, 7]]
    night = drivetl.apply(image, "night", severity=3, seed=5, vehicles=boxes)
    assert np.array_equal(night, drivetl.conditions.apply(image, "night", 3, 5, vehicles=np.array(boxes, np.float32)))
    for wrong in ([[1, 2, 3]], [[1, 2], [3]], ["car"], [[0, 0, float("nan"), 4]]):
        with pytest.raises(drivetl.DrivetlError, match="vehicles"):
            drivetl.apply(image, "night", 3, vehicles=wrong)
    with pytest.raises(drivetl.DrivetlError, match="did you mean 'fog'"):
        drivetl.apply(image, "fogg", 1)
