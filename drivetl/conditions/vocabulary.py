"""The words of the project, each defined once: phenomena, families, severities, cells.

Catalogue, training transforms, manifests of published weights, held-out rules and slices of real images all use these
names. Files hold their values (`str(Phenomenon.WET_ROAD)` is "wet road"), so a value is part of the file formats.
"""

from __future__ import annotations

import operator
from collections.abc import Mapping
from enum import StrEnum
from types import MappingProxyType
from typing import Any

from drivetl.errors import ConfigError


class Phenomenon(StrEnum):
    """What happens in the world, in the camera or to the image, whatever model computes it."""

    FOG = "fog"
    RAIN = "rain"
    WET_ROAD = "wet road"
    SNOW = "snow"
    SPRAY = "spray"
    DARKNESS = "darkness"
    GLARE = "glare"
    SHADOWS = "shadows"
    TUNNEL = "tunnel"
    EXPOSURE = "exposure"
    LOW_CONTRAST = "low contrast"
    COLOUR = "colour"
    MOTION_BLUR = "motion blur"
    DEFOCUS = "defocus"
    FROSTED_GLASS = "frosted glass"
    NOISE = "noise"
    DIRT = "dirt"
    WATER_ON_LENS = "water on lens"
    FROST = "frost"
    COMPRESSION = "compression"
    LOW_RESOLUTION = "low resolution"
    ROLLING_SHUTTER = "rolling shutter"
    ROW_LOSS = "row loss"
    DEFORMATION = "deformation"
    # Only trained on; no condition shows them.
    MIRRORING = "mirroring"
    FRAMING = "framing"
    """Crops, borders, shifts, rotations and scales of the whole image."""
    SHEAR = "shear"
    OCCLUSION = "occlusion"
    """A region of the image is erased."""


P = Phenomenon

COVERS: Mapping[Phenomenon, frozenset[Phenomenon]] = MappingProxyType(
    {
        P.FOG: frozenset({P.LOW_CONTRAST}),
        # a veil, wet ground, drops on the glass
        P.RAIN: frozenset({P.FOG, P.LOW_CONTRAST, P.WET_ROAD, P.WATER_ON_LENS, P.DIRT}),
        P.SNOW: frozenset({P.FOG, P.LOW_CONTRAST}),
        P.SPRAY: frozenset({P.FOG, P.LOW_CONTRAST, P.WATER_ON_LENS, P.DIRT}),
        # lamps that glare, a camera at high gain; a tunnel is a dark place with a bright one
        P.DARKNESS: frozenset({P.EXPOSURE, P.LOW_CONTRAST, P.GLARE, P.NOISE, P.TUNNEL}),
        # the camera exposes for the sun, and its veil lowers contrast
        P.GLARE: frozenset({P.EXPOSURE, P.LOW_CONTRAST}),
        # dark and noisy inside, burnt out and glaring outside
        P.TUNNEL: frozenset({P.EXPOSURE, P.DARKNESS, P.LOW_CONTRAST, P.GLARE, P.NOISE}),
        P.EXPOSURE: frozenset({P.DARKNESS, P.LOW_CONTRAST}),
        # mild frosted glass is a blur
        P.DEFOCUS: frozenset({P.FROSTED_GLASS}),
        P.FROSTED_GLASS: frozenset({P.DEFOCUS}),
        P.LOW_RESOLUTION: frozenset({P.DEFOCUS}),
        # the published splashes are water at low severities and mud at high ones
        P.DIRT: frozenset({P.WATER_ON_LENS}),
        P.WATER_ON_LENS: frozenset({P.DIRT}),
        P.OCCLUSION: frozenset({P.DIRT, P.ROW_LOSS}),
        P.SHEAR: frozenset({P.ROLLING_SHUTTER, P.DEFORMATION}),
    }
)
"""Trained phenomenon -> the others that a model has then seen as well: its images contain them or look like them.

Not transitive: a row lists everything it covers. Only the claim "never trained" depends on it (L2 instead of L3), so in
doubt a phenomenon is listed.
"""

ALIASES: Mapping[str, frozenset[Phenomenon]] = MappingProxyType(
    {
        "brightness": frozenset({P.EXPOSURE}),
        "overexposure": frozenset({P.EXPOSURE}),
        "underexposure": frozenset({P.EXPOSURE}),
        "gamma": frozenset({P.EXPOSURE, P.LOW_CONTRAST}),
        "tone": frozenset({P.EXPOSURE, P.LOW_CONTRAST}),
        "illumination": frozenset({P.EXPOSURE, P.DARKNESS, P.SHADOWS}),
        "contrast": frozenset({P.LOW_CONTRAST}),
        "color": frozenset({P.COLOUR}),
        "saturation": frozenset({P.COLOUR}),
        "hue": frozenset({P.COLOUR}),
        "white balance": frozenset({P.COLOUR}),
        "night": frozenset({P.DARKNESS}),
        "dusk": frozenset({P.DARKNESS}),
        "twilight": frozenset({P.DARKNESS}),
        "low light": frozenset({P.DARKNESS}),
        "haze": frozenset({P.FOG}),
        "mist": frozenset({P.FOG}),
        "snowfall": frozenset({P.SNOW}),
        "sun": frozenset({P.GLARE}),
        "flare": frozenset({P.GLARE}),
        "shadow": frozenset({P.SHADOWS}),
        "sensor noise": frozenset({P.NOISE}),
        "blur": frozenset({P.MOTION_BLUR, P.DEFOCUS, P.FROSTED_GLASS}),
        "sharpness": frozenset({P.DEFOCUS}),
        "image coding": frozenset({P.COMPRESSION}),
        "video coding": frozenset({P.COMPRESSION}),
        "jpeg": frozenset({P.COMPRESSION}),
        "downscale": frozenset({P.LOW_RESOLUTION}),
        "resolution": frozenset({P.LOW_RESOLUTION}),
        "splashes": frozenset({P.DIRT, P.WATER_ON_LENS}),
        "dropout": frozenset({P.OCCLUSION}),
        "cutout": frozenset({P.OCCLUSION}),
        "erasing": frozenset({P.OCCLUSION}),
        "elastic": frozenset({P.DEFORMATION}),
        "flip": frozenset({P.MIRRORING}),
        "crop": frozenset({P.FRAMING}),
        "scale": frozenset({P.FRAMING}),
        "rotation": frozenset({P.FRAMING}),
        "translation": frozenset({P.FRAMING}),
        "mosaic": frozenset({P.FRAMING}),
    }
)
"""Other words that a manifest may use -> what they mean."""


class Family(StrEnum):
    """The group of a condition or a training transform; the order is that of the report."""

    WEATHER = "weather"
    LIGHTING = "lighting"
    SENSOR = "sensor"
    COMMON = "common"
    """The published corruptions."""
    GEOMETRIC = "geometric"
    PHOTOMETRIC = "photometric"


SEVERITIES = (1, 2, 3, 4, 5)
"""From the mildest to the strongest; 0 is the unchanged image."""

Cell = tuple[str, int]
"""(condition, severity 1..5), or CLEAN."""

CLEAN: Cell = ("clean", 0)
"""The images as they are."""


def cell_name(cell: Cell) -> str:
    """`fog/3`; `clean/0`."""
    return f"{cell[0]}/{cell[1]}"


def check_severity(severity: Any) -> int:
    """The severity as an int, 0 (unchanged) to 5. Raises ConfigError."""
    try:
        number = operator.index(severity)
    except TypeError:
        raise ConfigError(f"severity is {severity!r}", remedy="it must be a whole number from 0 to 5") from None
    if number != 0 and number not in SEVERITIES:
        raise ConfigError(f"severity is {number}", remedy="it must be from 0 (unchanged) to 5")
    return number


def parse_severities(text: str) -> list[int]:
    """`5,1,1` -> [1, 5]: sorted, without repeats. Raises ConfigError naming the flag `--severities`."""
    words = [word.strip() for word in text.split(",") if word.strip()]
    known = [str(severity) for severity in SEVERITIES]
    if not words or any(word not in known for word in words):
        raise ConfigError(f"--severities {text!r}", remedy="write numbers from 1 to 5 with commas, as 1,3,5")
    return sorted({int(word) for word in words})
