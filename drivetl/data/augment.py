"""Training augmentation from a preset: one interface to albumentations and to our weather transforms.

    augmentation = build(load_preset("weather"))
    sample = augmentation(sample, np.random.default_rng([seed, epoch, index]))

All randomness comes from the generator, so the result depends neither on the worker nor on the order. `manifest` lists
what a model trained with the preset has seen. It is saved in the run, and evaluation decides from it which conditions
are held out.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable
from dataclasses import field, replace
from functools import lru_cache
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
from pydantic import ConfigDict, Field, ValidationInfo, field_validator, model_validator
from pydantic.dataclasses import dataclass

from drivetl.data.sample import Sample
from drivetl.data.transforms import TRANSFORMS, Apply, manifest_range
from drivetl.errors import ConfigError, nearest
from drivetl.files.shipped import shipped
from drivetl.files.typed import AUTO, typed
from drivetl.files.yaml_reader import Document, read_yaml

PRESETS = ("none", "photometric", "weather", "severe", "mixed")
MANIFEST_VERSION = 1
STRONG_SHARE = 0.5
"""The share of strongly changed images from which on a preset is strong."""


Strength = Literal["none", "mild", "strong"]
Pair = tuple[Annotated[float, Field(strict=True)], Annotated[float, Field(strict=True)]]
_TYPED = ConfigDict(extra="forbid", allow_inf_nan=False)


@dataclass(frozen=True, config=_TYPED)
class Choice:
    """One transform and the ranges its parameters are drawn from."""

    name: str
    range: dict[str, Pair] = field(default_factory=dict)
    """Parameter -> (low, high); a parameter that is not listed keeps the transform's default."""
    weight: Annotated[float, Field(strict=True, ge=1e-6, le=1e6)] = 1.0
    """Relative to the other choices of its step."""

    @field_validator("name")
    @classmethod
    def _known(cls, name: str) -> str:
        if name not in TRANSFORMS:
            raise ValueError(f"unknown transform {name!r}", nearest(name, TRANSFORMS))
        return name

    @field_validator("range")
    @classmethod
    def _within_bounds(cls, ranges: dict[str, Pair], about: ValidationInfo) -> dict[str, Pair]:
        name = about.data.get("name")
        if name is None:  # an unknown transform, which is reported separately
            return ranges
        bounds = TRANSFORMS[name].bounds
        for key, (low, high) in ranges.items():
            if key not in bounds:
                raise ValueError(f"{name}: unknown key {key!r}", nearest(key, bounds))
            least, most = bounds[key]
            wrong = next((value for value in (low, high) if not least <= value <= most), None)
            if wrong is not None:
                raise ValueError(f"{name}.{key} is {wrong:g}", f"it must be a number from {least:g} to {most:g}")
            if low > high:
                raise ValueError(f"{name}.{key} is [{low:g}, {high:g}]", "put the smaller number first")
        return {**TRANSFORMS[name].defaults, **ranges}


@dataclass(frozen=True, config=_TYPED)
class Step:
    """With probability p one of the choices, drawn by weight."""

    p: Annotated[float, Field(strict=True, ge=0, le=1)] = 0.5
    choices: Annotated[tuple[Choice, ...], Field(min_length=1)] = ()

    @model_validator(mode="before")
    @classmethod
    def _from_file(cls, step: Any) -> Any:
        """`{name, p, range}` is `{p, one_of: [{name, range}]}`; in a file the choices are called one_of."""
        if not isinstance(step, dict):
            return step
        if "one_of" in step:
            if not isinstance(step["one_of"], list) or not step["one_of"]:
                raise ValueError("one_of needs a list of transforms", "write some, or remove the step")
            return {"choices" if key == "one_of" else key: value for key, value in step.items()}
        if "name" not in step:
            raise ValueError("a step needs a name or one_of", "write `- {name: flip, p: 0.5}`")
        probability = {"p": step["p"]} if "p" in step else {}
        return probability | {"choices": [{key: value for key, value in step.items() if key != "p"}]}


@dataclass(frozen=True, config=_TYPED)
class AugmentConfig:
    """A preset: steps in the order in which they are applied."""

    name: str
    steps: tuple[Step, ...] = ()
    min_visibility: Annotated[float, Field(strict=True, ge=0, le=1)] = 0.25
    """A cut object is kept when at least this share of its box is left; otherwise it becomes an ignore region."""


def load_preset(name_or_path: str) -> AugmentConfig:
    """A shipped preset (none, photometric, weather, severe, mixed) or a YAML file of that form. Raises ConfigError,
    also for `auto`: `drivetl.training.recipe` chooses for it."""
    if name_or_path == AUTO:
        raise ConfigError(
            "'auto' is chosen by a training, from its start and its number of labelled images",
            remedy=f"name one: {', '.join(PRESETS)} or the path of a YAML file",
        )
    if name_or_path in PRESETS:
        return parse_preset(shipped(f"configs/weather/{name_or_path}.yaml"))
    path = Path(name_or_path)
    if not path.is_file():
        hint = nearest(name_or_path, PRESETS, f"use {', '.join(PRESETS)} or the path of a YAML file")
        raise ConfigError(f"no augmentation preset or file {name_or_path!r}", remedy=hint)
    return parse_preset(path)


def parse_preset(path: Path) -> AugmentConfig:
    """Read a preset file. Raises ConfigError with file, line and the nearest known name."""
    document = read_yaml(path, ConfigError)
    values = {} if document.value is None else document.value
    if not isinstance(values, dict):
        raise ConfigError("expected `key: value` lines", remedy="see configs/weather", file=path, line=1)
    for key in values:
        if key not in ("steps", "min_visibility"):
            hint = nearest(str(key), ("steps", "min_visibility"))
            raise ConfigError(f"unknown key {key!r}", remedy=hint, file=path, line=document.line((key,)))
    values = {key: value for key, value in values.items() if (key, value) != ("steps", None)} | {"name": path.stem}
    try:
        config = typed(AugmentConfig, Document(values, document.lines), ConfigError, {"choices": "one_of"})
    except ConfigError as error:
        raise error.at(path) from None
    certain = next((number for number, step in enumerate(config.steps) if _share(step, _changes_look) == 1), None)
    if certain is not None:
        raise ConfigError(
            f"step {certain + 1} changes every image, so the model never sees one as it is",
            remedy="set its p below 1",
            file=path,
            line=document.line(("steps", certain)),
        )
    return config


def with_scale_jitter(config: AugmentConfig, factor: Pair) -> AugmentConfig:
    """The preset with another first step: every image at a random scale (`data.scale_jitter`); (1, 1) adds none."""
    if tuple(factor) == (1, 1):
        return config
    return replace(config, steps=(Step(1.0, (Choice("scale_jitter", {"factor": factor}),)), *config.steps))


def untouched_share(config: AugmentConfig) -> float:
    """The share of images, 0..1, whose look no step changes; they may be flipped, cropped or scaled."""
    return math.prod(1 - _share(step, _changes_look) for step in config.steps)


def strong_share(config: AugmentConfig) -> float:
    """The share of images, 0..1, that weather, light, a mixture or a strong change of tone or sharpness changes.

    Weather, light, dirt, `object_mix`, `frequency` and the catalogue's conditions are strong. Any other transform is as
    far as its values are outside the transform's default ranges.
    """
    return 1 - math.prod(1 - _share(step, _strong) for step in config.steps)


def strength(config: AugmentConfig) -> Strength:
    """How far a preset takes the images from what they are: the training has to be longer with a strong one.

    none: no step changes the look; strong: at least half of the images are changed strongly (`strong_share`).
    """
    if untouched_share(config) == 1:
        return "none"
    return "strong" if strong_share(config) >= STRONG_SHARE else "mild"


def _share(step: Step, part: Callable[[Choice], float]) -> float:
    """The share of images for which the step does what `part` counts, 0..1 of a choice."""
    total = math.fsum(choice.weight for choice in step.choices)
    return step.p * math.fsum(choice.weight * part(choice) for choice in step.choices) / total


def _changes_look(choice: Choice) -> float:
    return 0.0 if TRANSFORMS[choice.name].moves else 1.0


def _strong(choice: Choice) -> float:
    """The share of a choice's draws that are strong: some parameter is outside its default range."""
    transform = TRANSFORMS[choice.name]
    if transform.strong or transform.moves:
        return float(transform.strong)
    ranges = {**transform.defaults, **choice.range}
    return 1 - math.prod(_inside(ranges[key], usual) for key, usual in transform.defaults.items())


def _inside(drawn: Pair, usual: Pair) -> float:
    """The share of values, uniform in `drawn`, that are in `usual`."""
    (low, high), (least, most) = drawn, usual
    if low == high:
        return float(least <= low <= most)
    return max(0.0, min(high, most) - max(low, least)) / (high - low)


class Augmentation:
    """A preset, ready to be applied: `augmentation(sample, rng) -> Sample`; the input sample is not changed."""

    def __init__(self, config: AugmentConfig):
        self.config = config
        self.manifest = manifest(config)
        self._steps: list[tuple[float, np.ndarray[Any, Any], list[Apply]]] = []
        for step in config.steps:
            weights = np.cumsum([choice.weight for choice in step.choices])
            transforms = [TRANSFORMS[c.name].make(c.range, config.min_visibility) for c in step.choices]
            self._steps.append((step.p, weights / weights[-1], transforms))

    def __call__(self, sample: Sample, rng: np.random.Generator) -> Sample:
        """A new sample; every random number comes from `rng`."""
        result = replace(sample)
        for probability, cumulative_weights, transforms in self._steps:
            step_draw, choice_draw = rng.random(2)
            if step_draw < probability:
                result = transforms[int(np.searchsorted(cumulative_weights, choice_draw))](result, rng)
        return result


def build(config: AugmentConfig) -> Augmentation:
    """The augmentation of a preset."""
    return Augmentation(config)


def manifest(config: AugmentConfig) -> dict[str, Any]:
    """What a model trained with the preset sees: one row per transform and phenomenon, in the catalogue's terms."""
    rows: list[dict[str, Any]] = []
    for step in config.steps:
        total = sum(choice.weight for choice in step.choices)
        for choice in step.choices:
            share = round(step.p * choice.weight / total, 6)
            traits = TRANSFORMS[choice.name].traits if share > 0 else ()
            rows += [
                {
                    "name": choice.name,
                    "phenomenon": str(trait.phenomenon),
                    "model": trait.model,
                    "family": str(trait.family),
                    "range": manifest_range(choice.name, trait, choice.range),
                    "p": share,
                }
                for trait in traits
            ]
    return {"version": MANIFEST_VERSION, "preset": config.name, "transforms": rows, "code_hash": code_hash()}


@lru_cache(1)
def code_hash() -> str:
    """sha256 of the code that makes training images: this module, the transforms, the conditions."""
    here = Path(__file__).parent
    files = [here / name for name in ("augment.py", "transforms.py", "geometry.py", "mixing.py")]
    files += sorted((here.parent / "conditions").glob("*.py"))
    digest = hashlib.sha256()
    for file in files:
        digest.update(file.name.encode() + b"\0" + file.read_bytes().replace(b"\r\n", b"\n"))
    return digest.hexdigest()
