"""Which real images are clean, and which synthetic conditions imitate a real one.

An image attribute is a condition attribute when one of its values means clean (dry, clear, daytime, ...). The clean
slice is the images that are clean in all condition attributes; synthetic conditions are applied to it alone.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from drivetl.coco.records import ImageRecord
from drivetl.conditions import CATALOG, Phenomenon
from drivetl.errors import ConfigError

UNKNOWN = "(not given)"
CLEAN_WORDS = frozenset({"clean", "clear", "day", "daytime", "dry", "fair", "fine", "none", "normal", "sunny"})
_WORDS_OF_PHENOMENON = {
    Phenomenon.RAIN: "rain rainy raining",
    Phenomenon.WET_ROAD: "wet",
    Phenomenon.FOG: "fog foggy mist misty haze",
    Phenomenon.SNOW: "snow snowy snowing",
    Phenomenon.SPRAY: "spray",
    Phenomenon.GLARE: "glare",
    Phenomenon.TUNNEL: "tunnel",
    Phenomenon.SHADOWS: "shadow shadows",
    Phenomenon.EXPOSURE: "overexposed",
    Phenomenon.MOTION_BLUR: "blurred",
    Phenomenon.DEFOCUS: "defocused",
    Phenomenon.NOISE: "noisy",
    Phenomenon.DIRT: "dirty",
    Phenomenon.WATER_ON_LENS: "drops",
}
PHENOMENON_OF_WORD = {word: phenomenon for phenomenon, words in _WORDS_OF_PHENOMENON.items() for word in words.split()}
"""Word of an attribute's value -> the phenomenon whose conditions imitate it."""
CONDITION_OF_WORD = {
    **dict.fromkeys(("darkness", "night", "nighttime", "dark"), "night"),
    **dict.fromkeys(("dawn", "dusk", "twilight"), "dusk"),
}
"""Word -> the single condition that imitates it, where the conditions of its phenomenon differ too much (darkness)."""


def value_of(attributes: Mapping[str, Any], drive: str, name: str) -> str:
    """An image's attribute as text (`sequence`: its drive); UNKNOWN where it has none."""
    value = drive if name == "sequence" else attributes.get(name)
    return UNKNOWN if value is None or value == "" else str(value)


def choose_clean(images: Sequence[ImageRecord], attributes: Sequence[str], chosen: Mapping[str, str]) -> dict[str, str]:
    """Condition attribute -> its clean value: the chosen one, else the most frequent that consists of CLEAN_WORDS.

    Attributes without such a value (scene, drive) are left out. Raises ConfigError for an attribute that no image has,
    a chosen value that does not occur, and an empty clean slice.
    """
    for name in chosen:
        if name not in attributes:
            raise ConfigError(f"--clean names {name!r}, which --slices does not", remedy="name it in both")
    clean = {}
    for name in attributes:
        counts = Counter(value_of(image.attributes, image.drive, name) for image in images)
        if images and set(counts) == {UNKNOWN}:
            raise missing_attribute(name, [image.attributes for image in images])
        clean_values = [value for value, _ in counts.most_common() if is_clean(value)]
        if name in chosen and not counts[chosen[name]]:
            raise ConfigError(
                f"--clean {name}={chosen[name]}: no image has this value",
                remedy=f"available values: {', '.join(sorted(counts))}",
            )
        if name in chosen or clean_values:
            clean[name] = chosen.get(name, clean_values[0] if clean_values else "")
    if clean and not clean_images(images, clean):
        raise ConfigError(
            f"no image is {values_as_text(clean)}",
            remedy="name the clean images with --clean, or slice by fewer attributes",
        )
    return clean


def missing_attribute(name: str, attributes: Iterable[Mapping[str, Any]]) -> ConfigError:
    """The error for an attribute that no image has; attributes: those of each image."""
    available = sorted({key for of_image in attributes for key in of_image} | {"sequence"})
    return ConfigError(f"no image has the attribute {name!r}", remedy=f"available attributes: {', '.join(available)}")


def is_clean(value: str) -> bool:
    """Whether every word of a value means clean: `dry`, `clear/daytime`."""
    words = _words(value)
    return bool(words) and all(word in CLEAN_WORDS for word in words)


def clean_images(images: Sequence[ImageRecord], clean: Mapping[str, str]) -> list[ImageRecord]:
    """The images with the clean value in every condition attribute; all images without condition attributes."""
    return [
        image
        for image in images
        if all(value_of(image.attributes, image.drive, name) == value for name, value in clean.items())
    ]


def synthetic_counterparts(value: str, conditions: Sequence[str]) -> list[str]:
    """Those of the conditions that imitate what an attribute's value names, by their phenomenon in the catalogue.

    `wet_road` -> wet_road, `rainy` -> rain, `foggy` -> fog, plasma_fog; none for `overcast`.
    """
    words = _words(value)
    phenomena = {PHENOMENON_OF_WORD[word] for word in words if word in PHENOMENON_OF_WORD}
    names = {CONDITION_OF_WORD[word] for word in words if word in CONDITION_OF_WORD}
    return [name for name in conditions if name in names or CATALOG[name].phenomenon in phenomena]


def values_as_text(values: Mapping[str, str]) -> str:
    """Attribute values as text: `weather=dry, timeofday=daytime`."""
    return ", ".join(f"{name}={value}" for name, value in values.items())


def _words(value: str) -> list[str]:
    return [word for word in re.split(r"[^a-z]+", value.lower()) if word]
