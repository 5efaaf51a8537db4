"""Every transform a training preset may name: its parameters, their bounds, and its entry in the manifest.

Geometric and photometric transforms are albumentations'; weather (`drivetl.conditions.training`), mixtures and waves
(`drivetl.data.mixing`) are ours. Any condition of the evaluation catalogue can be trained on as well, and then counts
as seen.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from drivetl.conditions import CATALOG, render, scene_of
from drivetl.conditions.training import RECIPES
from drivetl.conditions.vocabulary import Family, Phenomenon
from drivetl.data.geometry import move, rescale, shrink
from drivetl.data.mixing import frequency, object_mix
from drivetl.data.sample import Sample

Range = tuple[float, float]
Apply = Callable[[Sample, np.random.Generator], Sample]
Build = Callable[[Any, Mapping[str, Range]], Any]
"""(the albumentations module, ranges) -> one of its transforms."""
Maker = Callable[[Mapping[str, Range], float], Apply]
"""(ranges, min_visibility) -> the function that is applied to a sample."""

BORDER = 114
"""The grey value of what is outside the original image."""


@dataclass(frozen=True)
class Trait:
    """What a model trained with a transform has seen, in the terms of the condition catalogue."""

    phenomenon: Phenomenon
    model: str
    family: Family
    parameters: tuple[str, ...]


@dataclass(frozen=True)
class Transform:
    """One transform: bounds and defaults of its parameters, its traits, and how to build it."""

    bounds: Mapping[str, Range]
    defaults: Mapping[str, Range]
    traits: tuple[Trait, ...]
    make: Maker
    strong: bool = False
    """A strong change whatever its parameters; other transforms are strong outside their default ranges."""

    @property
    def moves(self) -> bool:
        """It changes where things are and leaves their look."""
        return all(trait.family == Family.GEOMETRIC for trait in self.traits)


def _albumentations() -> Any:
    os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")  # else it looks for updates online at every import
    import albumentations

    return albumentations


def _geometry(build: Build, ranges: Mapping[str, Range], min_visibility: float) -> Apply:
    library = _albumentations()
    boxes = library.BboxParams(format="pascal_voc", label_fields=["ids"], min_area=0, min_visibility=0, clip=True)
    compose = library.Compose([build(library, ranges)], bbox_params=boxes, additional_targets={"depth": "mask"})

    def apply(sample: Sample, rng: np.random.Generator) -> Sample:
        compose.set_random_seed(int(rng.integers(2**31)))
        return move(sample, compose, min_visibility)

    return apply


def _photometry(build: Build, ranges: Mapping[str, Range], _: float) -> Apply:
    library = _albumentations()
    compose = library.Compose([build(library, ranges)])

    def apply(sample: Sample, rng: np.random.Generator) -> Sample:
        compose.set_random_seed(int(rng.integers(2**31)))
        sample.image = np.ascontiguousarray(compose(image=sample.image)["image"])
        return sample

    return apply


def _recipe(name: str, ranges: Mapping[str, Range], _: float) -> Apply:
    def apply(sample: Sample, rng: np.random.Generator) -> Sample:
        values = {key: float(rng.uniform(*pair)) for key, pair in ranges.items()}
        sample.image = RECIPES[name].effect(scene_of(sample.image, sample.depth), rng, **values)
        return sample

    return apply


def _condition(name: str, ranges: Mapping[str, Range], _: float) -> Apply:
    low, high = (int(bound) for bound in ranges["severity"])

    def apply(sample: Sample, rng: np.random.Generator) -> Sample:
        step = CATALOG[name].ladder[int(rng.integers(low, high + 1)) - 1]
        scene = scene_of(sample.image, sample.depth, vehicles=sample.vehicles)
        sample.image = render(CATALOG[name], step, scene, rng)
        return sample

    return apply


def _shrink(ranges: Mapping[str, Range], _: float) -> Apply:
    def apply(sample: Sample, rng: np.random.Generator) -> Sample:
        factor, x, y = rng.uniform(*ranges["factor"]), rng.random(), rng.random()
        return shrink(sample, factor, (x, y), BORDER)

    return apply


def _scale_jitter(ranges: Mapping[str, Range], min_visibility: float) -> Apply:
    low, high = (math.log(bound) for bound in ranges["factor"])

    def apply(sample: Sample, rng: np.random.Generator) -> Sample:
        factor, x, y = math.exp(rng.uniform(low, high)), rng.random(), rng.random()  # half and double as often
        return rescale(sample, factor, (x, y), border=BORDER, min_visibility=min_visibility)

    return apply


def _object_mix(ranges: Mapping[str, Range], _: float) -> Apply:
    def apply(sample: Sample, rng: np.random.Generator) -> Sample:
        sample.image = object_mix(sample, rng, ranges["share"])
        return sample

    return apply


def _frequency(ranges: Mapping[str, Range], _: float) -> Apply:
    def apply(sample: Sample, rng: np.random.Generator) -> Sample:
        values = {key: float(rng.uniform(*pair)) for key, pair in ranges.items()}
        sample.image = frequency(sample.image, rng, **values)
        return sample

    return apply


def _flip(library: Any, r: Mapping[str, Range]) -> Any:
    return library.HorizontalFlip(p=1)


def _crop(library: Any, r: Mapping[str, Range]) -> Any:
    side, top = r["side"][1], r["top"][1]
    return library.RandomCropFromBorders(crop_left=side, crop_right=side, crop_top=top, crop_bottom=top, p=1)


def _zoom_out(library: Any, r: Mapping[str, Range]) -> Any:
    return library.CropAndPad(percent=r["border"], keep_size=False, fill=BORDER, p=1)


def _whole(pair: Range) -> tuple[int, int]:
    return int(pair[0]), int(pair[1])


def _brightness_contrast(library: Any, r: Mapping[str, Range]) -> Any:
    gain = (r["gain"][0] - 1, r["gain"][1] - 1)
    return library.RandomBrightnessContrast(brightness_limit=r["offset"], contrast_limit=gain, p=1)


def _gamma(library: Any, r: Mapping[str, Range]) -> Any:
    return library.RandomGamma(gamma_limit=tuple(100 * value for value in r["exponent"]), p=1)


def _colour(library: Any, r: Mapping[str, Range]) -> Any:
    return library.ColorJitter(brightness=(1, 1), contrast=(1, 1), saturation=r["gain"], hue=r["hue"], p=1)


def _white_balance(library: Any, r: Mapping[str, Range]) -> Any:
    return library.PlanckianJitter(temperature_limit=_whole(r["kelvin"]), p=1)


def _grey(library: Any, r: Mapping[str, Range]) -> Any:
    return library.ToGray(p=1)


def _gaussian_noise(library: Any, r: Mapping[str, Range]) -> Any:
    return library.GaussNoise(std_range=r["std"], p=1)


def _gaussian_blur(library: Any, r: Mapping[str, Range]) -> Any:
    return library.GaussianBlur(blur_limit=0, sigma_limit=r["sigma_px"], p=1)


def _motion(library: Any, r: Mapping[str, Range]) -> Any:  # albumentations' defaults shift the image content
    return library.MotionBlur(blur_limit=_whole(r["length_px"]), allow_shifted=False, direction_range=(0, 0), p=1)


def _jpeg(library: Any, r: Mapping[str, Range]) -> Any:
    return library.ImageCompression(quality_range=_whole(r["quality"]), p=1)


def _downscale(library: Any, r: Mapping[str, Range]) -> Any:
    pair = {"downscale": 3, "upscale": 1}  # cv2.INTER_AREA, cv2.INTER_LINEAR
    return library.Downscale(scale_range=r["scale"], interpolation_pair=pair, p=1)


def _row(kind: Any, build: Any, *traits: Trait, **parameters: tuple[Range, Range]) -> Transform:
    """parameters: name -> (default range, bounds)."""
    bounds = {name: pair[1] for name, pair in parameters.items()}
    return Transform(bounds, {name: pair[0] for name, pair in parameters.items()}, traits, partial(kind, build))


def _trait(family: Family, phenomenon: Phenomenon, model: str, *parameters: str) -> Trait:
    return Trait(phenomenon, model, family, parameters)


P = Phenomenon
_shape, _look, _sensor = (partial(_trait, family) for family in (Family.GEOMETRIC, Family.PHOTOMETRIC, Family.SENSOR))

_CROP: dict[str, tuple[Range, Range]] = {"side": ((0, 0.15), (0, 0.45)), "top": ((0, 0.15), (0, 0.45))}
_TONE: dict[str, tuple[Range, Range]] = {"offset": ((-0.2, 0.2), (-1, 1)), "gain": ((0.75, 1.25), (0, 3))}
_TONE_TRAITS = (_look(P.EXPOSURE, "display_offset", "offset"), _look(P.LOW_CONTRAST, "linear_about_mean", "gain"))
_COLOUR: dict[str, tuple[Range, Range]] = {"gain": ((0.6, 1.4), (0, 4)), "hue": ((-0.03, 0.03), (-0.5, 0.5))}
_COLOUR_TRAITS = (_look(P.COLOUR, "grey_blend_saturation", "gain"), _look(P.COLOUR, "hue_rotation", "hue"))

_TABLE = {
    "flip": _row(_geometry, _flip, _shape(P.MIRRORING, "flip")),
    "crop": _row(_geometry, _crop, _shape(P.FRAMING, "crop", "side", "top"), **_CROP),
    "zoom_out": _row(_geometry, _zoom_out, _shape(P.FRAMING, "border", "border"), border=((0, 0.25), (0, 1))),
    "brightness_contrast": _row(_photometry, _brightness_contrast, *_TONE_TRAITS, **_TONE),
    "gamma": _row(_photometry, _gamma, _look(P.EXPOSURE, "display_gamma", "exponent"), exponent=((0.7, 1.5), (0.2, 5))),
    "colour": _row(_photometry, _colour, *_COLOUR_TRAITS, **_COLOUR),
    "white_balance": _row(
        _photometry, _white_balance, _look(P.COLOUR, "planckian", "kelvin"), kelvin=((4000, 12000), (3000, 15000))
    ),
    "grey": _row(_photometry, _grey, _look(P.COLOUR, "grey")),
    "gaussian_noise": _row(
        _photometry, _gaussian_noise, _sensor(P.NOISE, "additive_gaussian", "std"), std=((0.005, 0.04), (0, 1))
    ),
    "gaussian_blur": _row(
        _photometry, _gaussian_blur, _sensor(P.DEFOCUS, "gaussian_blur", "sigma_px"), sigma_px=((0.3, 0.9), (0.1, 20))
    ),
    "line_blur": _row(
        _photometry, _motion, _sensor(P.MOTION_BLUR, "uniform_line", "length_px"), length_px=((3, 7), (3, 51))
    ),
    "jpeg": _row(_photometry, _jpeg, _sensor(P.COMPRESSION, "jpeg", "quality"), quality=((50, 95), (1, 100))),
    "downscale": _row(
        _photometry, _downscale, _sensor(P.LOW_RESOLUTION, "area_linear", "scale"), scale=((0.6, 0.95), (0.1, 1))
    ),
}

_MIX_TRAITS = tuple(
    # a region with a tone of its own looks like a shadow
    _look(phenomenon, "mixed_tone_tables", "share")
    for phenomenon in (P.EXPOSURE, P.LOW_CONTRAST, P.COLOUR, P.SHADOWS)
)
_FREQUENCY_TRAITS = (
    *(_sensor(phenomenon, "symmetric_3x3", "sigma") for phenomenon in (P.DEFOCUS, P.MOTION_BLUR)),
    *(_look(phenomenon, "stretched_range", "sigma") for phenomenon in (P.EXPOSURE, P.LOW_CONTRAST)),
    # what JPEG takes away is waves, too, and a wave from top to bottom is rows that are brighter and darker
    *(_sensor(phenomenon, "planar_wave", "amplitude") for phenomenon in (P.NOISE, P.COLOUR, P.COMPRESSION, P.ROW_LOSS)),
)
_SCALE: dict[str, Range] = {"factor": (0.5, 2)}
_MIXES = {
    "scale_jitter": Transform(
        {"factor": (0.1, 4)}, _SCALE, (_shape(P.FRAMING, "scale_jitter", "factor"),), _scale_jitter
    ),
    "shrink": Transform({"factor": (0.1, 1)}, {"factor": (0.5, 1)}, (_shape(P.FRAMING, "shrink", "factor"),), _shrink),
    "object_mix": Transform({"share": (0, 1)}, {"share": (0, 1)}, _MIX_TRAITS, _object_mix, strong=True),
    "frequency": Transform(
        {"sigma": (0, 4), "amplitude": (0, 0.5)},
        {"sigma": (0, 0.4), "amplitude": (0.009, 0.04)},
        _FREQUENCY_TRAITS,
        _frequency,
        strong=True,
    ),
}


def _weather_table() -> dict[str, Transform]:
    table = {}
    for recipe in RECIPES.values():
        trait = Trait(recipe.phenomenon, recipe.model, recipe.family, tuple(recipe.range))
        bounds = {name: (0.0, 2 * high) for name, (_, high) in recipe.range.items()}
        table[recipe.name] = Transform(bounds, recipe.range, (trait,), partial(_recipe, recipe.name), strong=True)
    for name, condition in CATALOG.items():
        trait = Trait(condition.phenomenon, condition.model, condition.family, ("severity",))
        if condition.label_safe:
            severity: Mapping[str, Range] = {"severity": (1.0, 5.0)}
            table[f"condition:{name}"] = Transform(severity, severity, (trait,), partial(_condition, name), strong=True)
    return table


TRANSFORMS: Mapping[str, Transform] = {**_TABLE, **_MIXES, **_weather_table()}
"""name -> Transform; `condition:NAME` is a condition of the evaluation catalogue, severities LOW..HIGH."""


def manifest_range(name: str, trait: Trait, ranges: Mapping[str, Range]) -> dict[str, list[float]]:
    """The trait's parameters as [low, high]; a catalogue condition's in its physical units instead of severities."""
    if not name.startswith("condition:"):
        return {key: [float(bound) for bound in ranges[key]] for key in trait.parameters}
    low, high = (int(bound) for bound in ranges["severity"])
    steps = CATALOG[name.removeprefix("condition:")].ladder[low - 1 : high]
    return {key: [min(step[key] for step in steps), max(step[key] for step in steps)] for key in steps[0]}
