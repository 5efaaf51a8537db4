"""Colours: distinct for every kind of colour vision, the same in every drawing, and labels that can be read on them."""

import re
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import drivetl.draw
from drivetl.draw import palette
from drivetl.draw.objects import draw_objects
from drivetl.draw.palette import FOUND, INVENTED, MISSED, PALETTE, colour_of, colours_of, css, ink_on, luminance

VISION = {
    "normal": np.eye(3),
    "protanopia": [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]],
    "deuteranopia": [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]],
    "tritanopia": [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602], [0.004733, 0.691367, 0.303900]],
}
"""Machado, Oliveira and Fernandes, IEEE TVCG 15(6), 2009, severity 1: linear RGB as it is seen."""
TO_XYZ = [[0.4124564, 0.3575761, 0.1804375], [0.2126729, 0.7151522, 0.0721750], [0.0193339, 0.1191920, 0.9503041]]


def lab(colour, vision):
    """CIELAB (D65) of an sRGB colour as a kind of vision sees it."""
    value = np.asarray(colour) / 255
    linear = np.where(value <= 0.04045, value / 12.92, ((value + 0.055) / 1.055) ** 2.4)
    x, y, z = np.array(TO_XYZ) @ np.clip(np.array(VISION[vision]) @ linear, 0, 1) / (0.95047, 1, 1.08883)
    fx, fy, fz = (np.cbrt(v) if v > 0.008856 else 7.787 * v + 16 / 116 for v in (x, y, z))
    return np.array([116 * fy - 16, 500 * (fx - fy), 200 * (fy - fz)])


@pytest.mark.parametrize("vision", VISION)
def test_law_any_two_classes_are_distinct_for_every_vision(vision):
    seen = [lab(colour, vision) for colour in PALETTE]
    assert min(np.linalg.norm(a - b) for a, b in combinations(seen, 2)) >= 16


@pytest.mark.parametrize("vision", VISION)
def test_outcomes_are_farther_apart(vision):
    seen = [lab(colour, vision) for colour in (FOUND, MISSED, INVENTED)]
    assert min(np.linalg.norm(a - b) for a, b in combinations(seen, 2)) >= 30


@settings(max_examples=40)
@given(st.lists(st.text(min_size=1, max_size=8) | st.sampled_from(sorted(palette._KNOWN)), unique=True, max_size=16))
def test_law_up_to_sixteen_classes_have_distinct_colours(names):
    colours = colours_of(names)
    assert list(dict.fromkeys(names)) == sorted(colours, key=names.index)
    assert len(set(colours.values())) == len(names) and set(colours.values()) <= set(PALETTE)


def test_a_common_class_has_its_colour_in_every_list():
    for names in (["car"], ["forklift", "Car "], ["tram", "car", "dog"]):
        assert {name: colour for name, colour in colours_of(names).items() if name.strip().lower() == "car"} == {
            name: colour_of("car") for name in names if name.strip().lower() == "car"
        }
    both = colours_of(["pedestrian", "person"])
    assert both["pedestrian"] != both["person"]
    many = colours_of([f"class {number}" for number in range(40)])
    assert len(set(many.values())) > 35


def test_ids_and_names_of_a_class_are_drawn_alike():
    grey, names = np.full((60, 90, 3), 128, np.uint8), ["car", "forklift"]
    by_id = draw_objects(grey, [[20, 20, 60, 50]], [2], categories=names)
    assert (by_id == draw_objects(grey, [[20, 20, 60, 50]], ["forklift"], categories=names)).all()


@given(st.tuples(*[st.integers(0, 255)] * 3))
def test_law_text_has_contrast_on_every_colour(colour):
    lighter, darker = sorted((luminance(colour), luminance(ink_on(colour))), reverse=True)
    assert (lighter + 0.05) / (darker + 0.05) >= 4.5


def test_the_stylesheet_has_the_colours_of_the_drawings():
    text = (Path(drivetl.draw.__file__).parent / "templates" / "style.css").read_text("utf-8")
    for name, colour in (("found", FOUND), ("lost", MISSED), ("invented", INVENTED)):
        assert set(re.findall(rf"--{name}: (#\w+)", text)) == {css(colour)}
