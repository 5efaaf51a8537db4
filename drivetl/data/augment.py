"""Training augmentation from a preset: one seam in front of albumentations and our weather.

    augmentation = build(load_preset("weather"))
    sample = augmentation(sample, np.random.default_rng([seed, epoch, index]))

All randomness comes from the generator, so the result depends on neither worker nor order. `manifest` says what a
model trained with it has seen; it goes into the run, and evaluation decides from it what is held out.
"""

from __future__ import annotations

import difflib
import hashlib
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from drivetl.data.sample import Sample
from drivetl.data.transforms import TRANSFORMS, Apply, Range, manifest_range
from drivetl.errors import ConfigError
from drivetl.files.shipped import shipped

PRESETS = ("none", "photometric", "weather", "severe")
MANIFEST_VERSION = 1


@dataclass(frozen=True)
class Choice:
    """One transform and the ranges its parameters are drawn from."""

    name: str
    range: dict[str, Range]
    weight: float = 1.0
    """Against the other choices of its step."""


@dataclass(frozen=True)
class Step:
    """With probability p one of the choices, drawn by weight."""

    p: float
    choices: tuple[Choice, ...]


@dataclass(frozen=True)
class AugmentConfig:
    """A preset: steps in the order in which they are applied."""

    name: str
    steps: tuple[Step, ...] = ()
    min_visibility: float = 0.25
    """A cut object stays one when this share of its box is left; below it becomes an ignore region."""


def load_preset(name_or_path: str) -> AugmentConfig:
    """A shipped preset (none, photometric, weather, severe) or a YAML file of that form. Raises ConfigError."""
    if name_or_path in PRESETS:
        return parse_preset(shipped(f"configs/weather/{name_or_path}.yaml"))
    path = Path(name_or_path)
    if not path.is_file():
        near = difflib.get_close_matches(name_or_path, PRESETS, n=1, cutoff=0.5)
        hint = f"did you mean {near[0]!r}?" if near else f"use {', '.join(PRESETS)} or the path of a YAML file"
        raise ConfigError(f"no augmentation preset or file {name_or_path!r}", remedy=f"{hint}")
    return parse_preset(path)


def parse_preset(path: Path) -> AugmentConfig:
    """Read a preset file. Raises ConfigError with file, line and the nearest known name."""
    try:
        text = path.read_text(encoding="utf-8")
        root, document = yaml.compose(text, Loader=yaml.SafeLoader), yaml.safe_load(text) or {}
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"cannot be read ({error})", remedy="check the file", file=path) from None
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        raise ConfigError(
            "not valid YAML", remedy="mend the syntax", file=path, line=mark.line + 1 if mark else 1
        ) from None
    if not isinstance(document, dict):
        raise ConfigError(f"{path}:1: expected `key: value` lines", remedy="see configs/weather")
    _known_keys(document, ("steps", "min_visibility"), f"{path}:1")
    visibility = _number(document.get("min_visibility", 0.25), (0, 1), "min_visibility", f"{path}:1")
    steps = document.get("steps") or []
    if not isinstance(steps, list):
        raise ConfigError(f"{path}:1: steps is not a list", remedy="write `- {name: flip, p: 0.5}` lines under it")
    lines = _lines_of_steps(root, len(steps))
    return AugmentConfig(
        path.stem, tuple(_step(item, f"{path}:{line}") for item, line in zip(steps, lines, strict=True)), visibility
    )


def _lines_of_steps(root: yaml.Node | None, count: int) -> list[int]:
    for key, value in root.value if isinstance(root, yaml.MappingNode) else []:
        if key.value == "steps" and isinstance(value, yaml.SequenceNode):
            return [item.start_mark.line + 1 for item in value.value]
    return [1] * count


def _step(item: Any, place: str) -> Step:
    """`{name, p, range}` or `{p, one_of: [{name, weight, range}, ...]}`."""
    if not isinstance(item, dict):
        raise ConfigError(f"{place}: a step is `{{name: flip, p: 0.5}}` or has one_of", remedy="mend it")
    if "one_of" in item:
        _known_keys(item, ("one_of", "p"), place)
        several = item["one_of"]
        if not isinstance(several, list) or not several:
            raise ConfigError(f"{place}: one_of needs at least one transform", remedy="list some or remove the step")
    else:
        _known_keys(item, ("name", "p", "range"), place)
        several = [{key: value for key, value in item.items() if key != "p"}]
    probability = _number(item.get("p", 0.5), (0, 1), "p", place)
    return Step(probability, tuple(_choice(one, place) for one in several))


def _choice(item: Any, place: str) -> Choice:
    if not isinstance(item, dict) or "name" not in item:
        raise ConfigError(f"{place}: a transform needs a name", remedy="write `name: flip`")
    _known_keys(item, ("name", "weight", "range"), place)
    name = str(item["name"])
    if name not in TRANSFORMS:
        raise ConfigError(f"{place}: unknown transform {name!r}", remedy=f"{_nearest(name, TRANSFORMS)}")
    transform, given = TRANSFORMS[name], item.get("range") or {}
    if not isinstance(given, dict):
        raise ConfigError(f"{place}: range of {name} is not `parameter: [low, high]`", remedy="mend it")
    _known_keys(given, tuple(transform.bounds), f"{place}: {name}")
    ranges = dict(transform.defaults)
    for key, pair in given.items():
        if not isinstance(pair, list) or len(pair) != 2:
            raise ConfigError(f"{place}: {name}.{key} is {pair!r}", remedy=f"write `{key}: [low, high]`")
        low, high = (_number(bound, transform.bounds[key], f"{name}.{key}", place) for bound in pair)
        if low > high:
            raise ConfigError(f"{place}: {name}.{key} is [{low:g}, {high:g}]", remedy="put the smaller number first")
        ranges[key] = (low, high)
    return Choice(name, ranges, _number(item.get("weight", 1), (1e-6, 1e6), "weight", place))


def _known_keys(given: dict[Any, Any], known: tuple[str, ...], place: str) -> None:
    for key in given:
        if key not in known:
            raise ConfigError(f"{place}: unknown key {key!r}", remedy=f"{_nearest(str(key), known)}")


def _nearest(word: str, known: Any) -> str:
    near = difflib.get_close_matches(word, list(known), n=1, cutoff=0.5)
    return f"did you mean {near[0]!r}?" if near else f"known are {', '.join(known) or 'none'}"


def _number(value: Any, bounds: Range, name: str, place: str) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not bounds[0] <= value <= bounds[1]:
        raise ConfigError(
            f"{place}: {name} is {value!r}", remedy=f"it must be a number from {bounds[0]:g} to {bounds[1]:g}"
        )
    return float(value)


class Augmentation:
    """A preset, ready to be applied: `augmentation(sample, rng) -> Sample`; the given sample is not changed."""

    def __init__(self, config: AugmentConfig):
        self.config = config
        self.manifest = manifest(config)
        self._steps: list[tuple[float, np.ndarray[Any, Any], list[Apply]]] = []
        for step in config.steps:
            weights = np.cumsum([choice.weight for choice in step.choices])
            made = [TRANSFORMS[c.name].make(c.range, config.min_visibility) for c in step.choices]
            self._steps.append((step.p, weights / weights[-1], made))

    def __call__(self, sample: Sample, rng: np.random.Generator) -> Sample:
        """A new sample; every random number comes from `rng`."""
        result = replace(sample)
        for probability, weights, made in self._steps:
            happens, which = rng.random(2)
            if happens < probability:
                result = made[int(np.searchsorted(weights, which))](result, rng)
        return result


def build(config: AugmentConfig) -> Augmentation:
    """The augmentation of a preset."""
    return Augmentation(config)


def manifest(config: AugmentConfig) -> dict[str, Any]:
    """What a model trained with the preset sees: one row per transform and phenomenon, in the catalogue's words."""
    rows: list[dict[str, Any]] = []
    for step in config.steps:
        total = sum(choice.weight for choice in step.choices)
        for choice in step.choices:
            share = round(step.p * choice.weight / total, 6)
            traits = TRANSFORMS[choice.name].traits if share > 0 else ()
            rows += [
                {
                    "name": choice.name,
                    "phenomenon": trait.phenomenon,
                    "model": trait.model,
                    "family": trait.family,
                    "range": manifest_range(choice.name, trait, choice.range),
                    "p": share,
                }
                for trait in traits
            ]
    return {"version": MANIFEST_VERSION, "preset": config.name, "transforms": rows, "code_hash": code_hash()}


@lru_cache(1)
def code_hash() -> str:
    """sha256 of the code that makes training pictures: this seam, the transforms, the conditions."""
    here = Path(__file__).parent
    files = [here / name for name in ("augment.py", "transforms.py", "geometry.py")]
    files += sorted((here.parent / "conditions").glob("*.py"))
    digest = hashlib.sha256()
    for file in files:
        digest.update(file.name.encode() + b"\0" + file.read_bytes().replace(b"\r\n", b"\n"))
    return digest.hexdigest()
