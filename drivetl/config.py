"""The typed document behind a fine-tuning YAML. Plain types; a cross-check names the key to change.

config = load_config(Path("configs/finetune/city.yaml"), ["--optim.epochs", "12"])

Several files may be given: a later one wins, key by key, and flags win over files.
"""

from __future__ import annotations

import dataclasses
import difflib
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import jsonargparse
import yaml

from drivetl.errors import ConfigError

AUTO = -1
"""Stands in a loaded config for a number that `optim.recipe: auto` will choose; written as `auto`."""
BY_RECIPE = (
    "optim.epochs",
    "optim.lr",
    "optim.layer_decay",
    "optim.heads_only_epochs",
    "optim.frozen_stages",
    "optim.l2sp",
    "optim.ema",
    "optim.source_share",
    "eval.every",
)
"""What the recipe chooses where it was not written."""


@dataclass
class DataConfig:
    """What to learn from and what to be judged on."""

    train: str = ""
    """COCO dataset json to learn from."""
    val: str = ""
    """COCO dataset json to be judged on; drives must not overlap with train."""
    augment: str = "photometric"
    """A preset of configs/weather (none, photometric, weather, severe) or a path to a YAML of that form."""
    train_images: int = 0
    """Learn from this many images only, spread over the drives; 0: all."""
    workers: int = -1
    """Loader processes; -1: as the machine allows."""
    cache_gb: float = 2.0
    """Keep decoded images in memory when the whole training set fits into this many GB."""


@dataclass
class ModelConfig:
    """Which detector, from where, at which image scale."""

    arch: str = "fasterrcnn_resnet50_fpn_v2"
    """One of drivetl.models.build.ARCHITECTURES."""
    start: str = "coco"
    """coco | imagenet | none | a weights file (.safetensors, .pth) | a run directory."""
    min_size: int = 800
    """Shorter image side after the resize, px, unless max_size binds."""
    max_size: int = 1333
    """Longest image side after the resize, px."""
    anchors: Literal["fit", "keep"] = "fit"
    """fit: refit to the training boxes, kept only when better on held-out boxes; keep: the architecture's own."""
    norm: Literal["auto", "frozen", "train"] = "auto"
    """BatchNorm statistics; auto: frozen when starting from weights, trained from scratch."""
    proposals_train: int = 1000
    """RPN proposals kept after NMS while training."""
    proposals_test: int = 1000
    """RPN proposals kept after NMS at inference."""
    rois_per_image: int = 512
    """RoIs sampled per image for the box head's loss."""
    detections_per_image: int = 100
    """Detections kept per image at inference."""
    score_threshold: float = 0.05
    """Detections below are never returned."""


@dataclass
class OptimConfig:
    """How to learn."""

    recipe: Literal["as_written", "auto"] = "as_written"
    """auto: what is not written here (epochs, lr, layer_decay, heads_only_epochs, frozen_stages, l2sp, ema,
    source_share and eval.every) follows from the number of labelled images and the start; see
    drivetl.training.recipe."""
    epochs: int = 12
    """Passes over the training images."""
    lr: float = 0.0002
    """Peak learning rate of the heads."""
    batch_size: int = 4
    """Images per step and device."""
    name: Literal["adamw", "sgd"] = "adamw"
    """The optimizer."""
    weight_decay: float = 0.0001
    """Decoupled for AdamW; not applied to biases and normalisation."""
    momentum: float = 0.9
    """SGD only."""
    warmup_fraction: float = 0.05
    """Share of all steps in which the rate rises linearly to its peak; cosine to 1 % of it after that."""
    clip_norm: float = 10.0
    """Gradient norm above which gradients are scaled down; 0: never."""
    layer_decay: float = 1.0
    """Learning rate factor per backbone stage from the top down; 1: the same everywhere."""
    heads_only_epochs: int = 0
    """Train neck and heads alone for so many epochs, then unfreeze."""
    unfreeze_every: int = 0
    """After heads_only_epochs, unfreeze one backbone stage from the top every so many epochs; 0: all at once."""
    frozen_stages: int = 0
    """Lowest backbone stages that never train."""
    l2sp: float = 0.0
    """Pull towards the starting weights (Li et al. 2018): loss + l2sp / 2 * ||w - w0||^2."""
    ema: float = 0.0
    """Decay of the averaged weights that are evaluated and saved; 0: none."""
    source_share: float = 0.0
    """Share of the starting weights in those that are evaluated and saved (WiSE-FT, Wortsman et al. 2022); more in the
    rows of classes with few labelled objects, see drivetl.training.ema; 0: none."""


@dataclass
class EvalConfig:
    """When to look at the validation set."""

    every: int = 1
    """Epochs between evaluations; the last epoch is always evaluated."""
    batch_size: int = 4
    """Images per forward pass."""


@dataclass
class RuntimeConfig:
    """Where and how exactly to compute."""

    device: str = "auto"
    """auto | cpu | cuda | cuda:N."""
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    """auto: bf16 autocast where the device gains by it; the choice is printed with its reason."""
    channels_last: Literal["auto", "on", "off"] = "auto"
    """Memory layout of convolutions; auto: with bf16, and for depthwise backbones on a CPU."""
    compile: bool = False
    """torch.compile the backbone; where there is no compiler, training goes on without and says so."""


@dataclass
class FinetuneConfig:
    """The whole document."""

    data: DataConfig = field(default_factory=DataConfig)
    model: ModelConfig = field(default_factory=ModelConfig)
    optim: OptimConfig = field(default_factory=OptimConfig)
    eval: EvalConfig = field(default_factory=EvalConfig)
    runtime: RuntimeConfig = field(default_factory=RuntimeConfig)
    seed: int = 0
    """Everything random follows from it."""

    def as_dict(self) -> dict[str, Any]:
        """Plain nested dict, ready for YAML or JSON."""
        return dataclasses.asdict(self)

    def check(self) -> None:
        """Cross-checks. Raises ConfigError naming the key to change."""
        o, m = self.optim, self.model
        rules = [
            (o.epochs >= 1, "optim.epochs", o.epochs, "at least 1"),
            (0 < o.lr <= 10, "optim.lr", o.lr, "above 0"),
            (o.batch_size >= 1, "optim.batch_size", o.batch_size, "at least 1"),
            (0 < o.layer_decay <= 1, "optim.layer_decay", o.layer_decay, "in (0, 1]"),
            (0 <= o.warmup_fraction < 1, "optim.warmup_fraction", o.warmup_fraction, "in [0, 1)"),
            (0 <= o.ema < 1, "optim.ema", o.ema, "in [0, 1)"),
            (0 <= o.source_share < 1, "optim.source_share", o.source_share, "in [0, 1)"),
            (o.weight_decay >= 0, "optim.weight_decay", o.weight_decay, "at least 0"),
            (o.clip_norm >= 0, "optim.clip_norm", o.clip_norm, "at least 0"),
            (o.l2sp >= 0, "optim.l2sp", o.l2sp, "at least 0"),
            (
                o.heads_only_epochs >= 0 and (o.heads_only_epochs < o.epochs or o.epochs == AUTO),
                "optim.heads_only_epochs",
                o.heads_only_epochs,
                "below optim.epochs",
            ),
            (o.unfreeze_every >= 0, "optim.unfreeze_every", o.unfreeze_every, "at least 0"),
            (o.frozen_stages >= 0, "optim.frozen_stages", o.frozen_stages, "at least 0"),
            (32 <= m.min_size <= m.max_size, "model.min_size", m.min_size, "between 32 and model.max_size"),
            (m.max_size <= 8192, "model.max_size", m.max_size, "at most 8192"),
            (m.rois_per_image >= 1, "model.rois_per_image", m.rois_per_image, "at least 1"),
            (m.proposals_train >= 1, "model.proposals_train", m.proposals_train, "at least 1"),
            (m.proposals_test >= 1, "model.proposals_test", m.proposals_test, "at least 1"),
            (m.detections_per_image >= 1, "model.detections_per_image", m.detections_per_image, "at least 1"),
            (0 <= m.score_threshold < 1, "model.score_threshold", m.score_threshold, "in [0, 1)"),
            (self.eval.every >= 1, "eval.every", self.eval.every, "at least 1"),
            (self.eval.batch_size >= 1, "eval.batch_size", self.eval.batch_size, "at least 1"),
            (self.data.train_images >= 0, "data.train_images", self.data.train_images, "at least 0"),
            (0 <= self.seed < 2**63, "seed", self.seed, "a whole number from 0 to below 2^63"),
            (bool(self.data.train), "data.train", self.data.train, "the json to learn from"),
            (bool(self.data.val), "data.val", self.data.val, "the json to be judged on"),
        ]
        for holds, key, value, expected in rules:
            if not holds and not (value == AUTO and key in BY_RECIPE):
                raise ConfigError(f"{key} is {value!r}, it must be {expected}", remedy=f"set --{key} VALUE")


def load_config(paths: Path | Sequence[Path], overrides: list[str] | None = None) -> FinetuneConfig:
    """Read one or several YAMLs (later ones win), apply `--section.key value` overrides, check.

    Under `optim.recipe: auto` what was not written is AUTO. Raises ConfigError with file and line.
    """
    files = [paths] if isinstance(paths, Path) else list(paths)
    words: list[str] = []
    for path in files:
        document = yaml.safe_load(_read_checked(path)) or {}
        words += [f"--{key}={value}" for key, value in _flatten(document)]
    flags = _checked_overrides(overrides or [])
    words += flags
    parser = jsonargparse.ArgumentParser(exit_on_error=False)
    parser.add_class_arguments(FinetuneConfig, as_group=False)
    try:
        namespace = parser.parse_args(_left_to_recipe(words))
        config = (
            parser.instantiate(namespace) if hasattr(parser, "instantiate") else parser.instantiate_classes(namespace)
        )
    except jsonargparse.ArgumentError as error:
        named = " + ".join(map(str, files))
        place = next((flag for flag in flags if f'"{flag[2:].partition("=")[0]}"' in str(error)), named)
        raise ConfigError(f"{place}: {_first_sentence(error)}", remedy="mend the value") from None
    result = FinetuneConfig(**{item.name: getattr(config, item.name) for item in dataclasses.fields(FinetuneConfig)})
    result.check()
    return result


def _read_checked(path: Path) -> str:
    """A YAML's text, all of whose keys are known."""
    try:
        text = path.read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"cannot be read ({error})", remedy="check --config", file=path) from None
    _check_keys(text, path)
    return text


def _left_to_recipe(words: list[str]) -> list[str]:
    """`--key=value` words, the last of a key wins; `auto`, or nothing under `optim.recipe: auto`, becomes AUTO."""
    values = dict(word.removeprefix("--").split("=", 1) for word in words)
    for key in BY_RECIPE:
        if re.fullmatch(rf"{AUTO}(\.0*)?", values.get(key, "")):
            raise ConfigError(f"{key} is {values[key]}", remedy="write a value, or auto to leave it to the recipe")
        unwritten = values.get("optim.recipe") == "auto" and key not in values
        if unwritten or values.get(key) == "auto":
            values[key] = str(AUTO)
    return [f"--{key}={value}" for key, value in values.items()]


def _flatten(document: dict[str, Any], prefix: str = "") -> list[tuple[str, str]]:
    flat: list[tuple[str, str]] = []
    for key, value in document.items():
        if isinstance(value, dict):
            flat += _flatten(value, f"{prefix}{key}.")
        else:
            flat.append((f"{prefix}{key}", "null" if value is None else str(value)))
    return flat


def _first_sentence(error: Exception) -> str:
    return " ".join(str(error).split())[:300]


def _known_keys(kind: Any, prefix: str = "") -> dict[str, bool]:
    """Dotted key -> True for a leaf, False for a section."""
    keys: dict[str, bool] = {}
    for item in dataclasses.fields(kind):
        section = item.default_factory if dataclasses.is_dataclass(item.default_factory) else None
        keys[prefix + item.name] = section is None
        if section is not None:
            keys |= _known_keys(section, f"{prefix}{item.name}.")
    return keys


def _check_keys(text: str, path: Path) -> None:
    """Every key must be known; the error names its line and the nearest known key."""
    try:
        root = yaml.compose(text, Loader=yaml.SafeLoader)
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 1
        raise ConfigError(f"not valid YAML ({error.problem})", remedy="mend the syntax", file=path, line=line) from None
    except (yaml.YAMLError, RecursionError):
        raise ConfigError("not valid YAML", remedy="mend the syntax", file=path) from None
    known = _known_keys(FinetuneConfig)

    def walk(node: yaml.Node, prefix: str) -> None:
        if not isinstance(node, yaml.MappingNode):
            raise ConfigError(
                "expected `key: value` lines", remedy="see configs/finetune", file=path, line=node.start_mark.line + 1
            )
        for key_node, value_node in node.value:
            key, line = prefix + str(key_node.value), key_node.start_mark.line + 1
            if key not in known:
                raise ConfigError(f"unknown key {key!r}", remedy=f"{_nearest(key, known)}", file=path, line=line)
            if not known[key]:
                walk(value_node, key + ".")
            elif not isinstance(value_node, yaml.ScalarNode):
                raise ConfigError(
                    f"{key} takes one value", remedy=f"write `{key.split('.')[-1]}: VALUE`", file=path, line=line
                )

    if root is not None:
        walk(root, "")


def _nearest(key: str, known: dict[str, bool]) -> str:
    near = difflib.get_close_matches(key, known, n=1, cutoff=0.5)
    return f"did you mean {near[0]!r}?" if near else f"known are {', '.join(name for name in known if '.' not in name)}"


def _checked_overrides(overrides: list[str]) -> list[str]:
    """`--a.b value` and `--a.b=value` as the latter; unknown keys are refused with the nearest known one."""
    known = _known_keys(FinetuneConfig)
    words, result = list(overrides), []
    while words:
        word = words.pop(0)
        if not word.startswith("--"):
            raise ConfigError(f"unexpected argument {word!r}", remedy="overrides are --section.key value")
        key, equals, value = word[2:].partition("=")
        if not known.get(key, False):
            raise ConfigError(f"unknown flag --{key}", remedy=f"{_nearest(key, known)}")
        if not equals:
            if not words:
                raise ConfigError(f"--{key} needs a value", remedy=f"write --{key} VALUE")
            value = words.pop(0)
        result.append(f"--{key}={value}")
    return result


def dump_yaml(config: FinetuneConfig) -> str:
    """The effective configuration as YAML; reading it back gives the same configuration."""
    return yaml.safe_dump(config.as_dict(), sort_keys=False)
