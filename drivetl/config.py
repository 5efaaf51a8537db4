"""The typed document behind a fine-tuning YAML.

config = load_config(Path("configs/finetune/city.yaml"), ["--optim.epochs", "12"])

Several files may be given: a later one wins, key by key, and flags win over files. A key is written once, in its field:
type, bounds, default, help, and OR_AUTO where `optim.recipe: auto` may choose the value. YAML, flags, errors,
`describe()` and configs/schema.json follow from the field.
"""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import AfterValidator, ConfigDict, Field, TypeAdapter, ValidationError, model_validator
from pydantic.dataclasses import dataclass as typed_dataclass

from drivetl.errors import ConfigError, DataError, nearest
from drivetl.files.paths import meant, require
from drivetl.files.shipped import shipped
from drivetl.files.typed import AUTO, OrAuto, bounds, first_problem, is_of_recipe, is_pair, type_name, words_of
from drivetl.files.yaml_reader import Document, KeyPath, parse_yaml, read_scalar, read_yaml

OR_AUTO = OrAuto()
"""In a field's type: `optim.recipe: auto` may choose the value, so that `auto` may be written."""
FIND = "find"
"""A value of optim.lr."""
SPEED_ONLY = "speed only"
"""In a field's type: the value changes the speed, what is logged or whether a bad image is an error, not the weights of
a training that ends; a resumed run may set it anew."""
STARTS = ("none", "coco", "imagenet")
"""Values of `model.start` that are never read as a path, even if a file or folder has that name."""
Count = Annotated[int, Field(ge=1)]
CountOrNone = Annotated[int, Field(ge=0)]
Share = Annotated[float, Field(ge=0, lt=1)]
NotNegative = Annotated[float, Field(ge=0)]
ImageSide = Annotated[int, Field(ge=32, le=8192)]
MOST_EPOCHS = 10_000
"""More passes than any training needs: a larger number is a mistake."""


def _rising(pair: tuple[float, float]) -> tuple[float, float]:
    if pair[0] > pair[1]:
        raise ValueError(f"[{pair[0]:g}, {pair[1]:g}] does not rise", "put the smaller number first")
    return pair


ScaleFactor = Annotated[float, Field(strict=True, ge=0.1, le=4)]
ScaleRange = Annotated[tuple[ScaleFactor, ScaleFactor], Field(strict=False), AfterValidator(_rising)]
_STRICT = ConfigDict(strict=True, extra="forbid", allow_inf_nan=False, use_attribute_docstrings=True)


class _KeyError(ConfigError):
    """A ConfigError about the value of one key."""

    def __init__(self, reason: str, *, key: str, remedy: str) -> None:
        super().__init__(reason, remedy=remedy)
        self.key = key


class _Checked:
    """A section whose mistakes are a ConfigError naming the key, also where a copy is made with other values."""

    @model_validator(mode="wrap")
    @classmethod
    def _named(cls, values: Any, validate: Callable[[Any], Any]) -> Any:
        try:
            return validate(values)
        except ValidationError as error:
            section = next((f"{name}." for name, kind in _sections().items() if kind is cls), "")
            problem = first_problem(cls, error, section)
        key = section + ".".join(part for part in problem.path if isinstance(part, str))
        raise _KeyError(problem.reason, key=key, remedy=problem.remedy)


@typed_dataclass(frozen=True, config=_STRICT)
class DataConfig(_Checked):
    """What to train on and what to evaluate on."""

    train: str = ""
    """COCO dataset json to train on."""
    val: str = ""
    """COCO dataset json to evaluate on; drives must not overlap with train."""
    augment: Annotated[str, OR_AUTO] = AUTO
    """A preset of configs/weather (none, photometric, weather, severe, mixed) or a path to a YAML of that form; auto:
    chosen by the start and the number of labelled images, see docs/presets.md."""
    scale_jitter: ScaleRange = (1.0, 1.0)
    """Every training image at a random scale first. Below 1: all of it, smaller, on a grey border; above 1: a part of
    it, enlarged by the resize. [0.5, 2] is strong; [1, 1]: off."""
    sampling: Literal["uniform", "repeat_factor"] = "uniform"
    """uniform: every image once an epoch; repeat_factor: images of rare classes more often (Gupta et al. 2019)."""
    rare_below: Annotated[float, Field(gt=0, le=1)] = 0.1
    """repeat_factor: a class in a share f of the images below this one is seen sqrt(rare_below / f) times as often."""
    train_images: CountOrNone = 0
    """Train on this many images only, spread over the drives; 0: all."""
    source: str = ""
    """COCO dataset json of the domain that model.start comes from: its labelled images are trained on as well (replay),
    a share of every batch; see drivetl.training.replay."""
    source_share: Annotated[Share, OR_AUTO] = 0.0
    """Share of the images of every batch that come from data.source. Exact: in n images of a run they are n times the
    share, rounded down; batches of 4 at 0.25 have one each, at 0.3 one or two. An epoch is still one pass over
    data.train, so it has more steps."""
    unlabelled: str = ""
    """Frames without labels that are trained on as well, by what model.start detects in them: a dataset json, a folder
    of images, or a video; see docs/unlabelled.md."""
    unlabelled_share: Annotated[float, Field(gt=0, lt=1)] = 0.3333
    """Share of the images of every batch that come from data.unlabelled; 0.3333: one of three."""
    unlabelled_weight: NotNegative = 0.5
    """Factor of the classification losses of data.unlabelled; its box losses are 0."""
    pseudo: str = ""
    """The labels for data.unlabelled, instead of model.start's: a COCO results list of any detector on that dataset
    json, or a pseudo.json that a run wrote and you edited (then data.unlabelled is not needed)."""
    pseudo_threshold: Annotated[float, Field(gt=0, le=1)] = 0.6
    """Detections in data.unlabelled from this score on are objects."""
    pseudo_beta: NotNegative = 0.0
    """Above 0: pseudo_threshold per class, at the best F-beta on the validation data of the run that model.start names,
    within 0.3 to 0.9; below 1 precision counts more. A class with fewer than 30 objects there is left out."""
    pseudo_ignore_from: Annotated[float, Field(ge=0, le=1)] = 0.05
    """Detections from this score on, below pseudo_threshold, are ignore regions, neither object nor background; below,
    all is background. As high as pseudo_threshold: no ignore regions."""
    pseudo_gaps: Literal["off", "ignore"] = "off"
    """ignore: where the frames before and after have an object and the frame itself has none, an ignore region there;
    for footage with drives and frame numbers, as videos have."""
    on_bad_image: Annotated[Literal["stop", "skip"], SPEED_ONLY] = "stop"
    """What a training image that cannot be read does: it ends the training, or is skipped, so that the next image takes
    its place, and listed at the end. A resumed run may change this. Validation images must all be readable."""
    workers: Annotated[int, Field(ge=-1), SPEED_ONLY] = -1
    """Loader processes; -1: as the machine allows."""
    cache_gb: Annotated[NotNegative, SPEED_ONLY] = 2.0
    """Keep decoded images in memory when the whole training set fits into this many GB."""


Architecture = Literal[
    "fasterrcnn_resnet50_fpn_v2",
    "fasterrcnn_resnet50_fpn",
    "fasterrcnn_mobilenet_v3_large_fpn",
    "fasterrcnn_mobilenet_v3_large_320_fpn",
    "fasterrcnn_mobilenet_v2_fpn",
    "maskrcnn_resnet50_fpn",
    "maskrcnn_resnet50_fpn_v2",
    "maskrcnn_mobilenet_v2_fpn",
    "fasterrcnn_mobilenet_v2_lite_fpn",
    "maskrcnn_mobilenet_v2_lite_fpn",
    "fasterrcnn_resnet18_fpn",
    "fasterrcnn_resnet101_fpn",
    "fasterrcnn_tiny_fpn",
]
"""The names in drivetl.models.build.ARCHITECTURES, for which torch would have to be loaded; a test compares them."""


@typed_dataclass(frozen=True, config=_STRICT)
class ModelConfig(_Checked):
    """Which detector, from where, at which image scale."""

    arch: Architecture = "fasterrcnn_resnet50_fpn_v2"
    """The detector and its backbone."""
    start: str = "coco"
    """coco | imagenet | none | a weights file (.safetensors, .pth) | a run directory."""
    min_size: ImageSide = 800
    """Shorter image side after the resize, px, unless max_size binds."""
    max_size: ImageSide = 1333
    """Longest image side after the resize, px."""
    anchors: Literal["fit", "keep"] = "fit"
    """fit: refit to the training boxes, kept only when better on held-out boxes; keep: the architecture's own."""
    norm: Literal["auto", "frozen", "train"] = "auto"
    """BatchNorm statistics; auto: frozen when starting from weights, trained from scratch."""
    proposals_train: Count = 1000
    """RPN proposals kept after NMS while training."""
    proposals_test: Count = 1000
    """RPN proposals kept after NMS at inference."""
    rois_per_image: Count = 512
    """RoIs sampled per image for the box head's loss."""
    detections_per_image: Count = 100
    """Detections kept per image at inference."""
    score_threshold: Share = 0.05
    """Detections below are never returned."""


@typed_dataclass(frozen=True, config=_STRICT)
class OptimConfig(_Checked):
    """How to learn."""

    recipe: Literal["as_written", "auto"] = "as_written"
    """auto: keys that may be `auto` and are not written follow from the number of labelled images and the start; see
    drivetl.training.recipe."""
    epochs: Annotated[int, Field(ge=1, le=MOST_EPOCHS), OR_AUTO] = 12
    """Passes over the training images."""
    lr: Annotated[float, Field(gt=0, le=10), OrAuto(FIND)] = 0.0002
    """Peak learning rate of the heads, used as written; auto: the recipe's, which follows the images per optimizer step
    outside 2 to 8 of them, see drivetl.training.optimizer; find: where the loss falls most steeply in a test of 100
    steps before the training (Smith 2017), see drivetl.training.rate_finder."""
    batch_size: Annotated[Count, OrAuto(by_recipe=False)] = 4
    """Images per forward pass and device; auto: as many as the GPU's memory holds, tried before the first step with the
    largest and the most crowded images, or 4 on a CPU. optim.accumulate is multiplied so that a step has 8 images over
    all processes, on any machine; see drivetl.training.batch_size."""
    accumulate: Count = 1
    """Forward passes whose gradients are averaged into one optimizer step: accumulate 4 at batch_size 2 updates as
    batch_size 8 does, in the memory of 2. Learning rate and warm-up count optimizer steps."""
    name: Literal["adamw", "sgd"] = "adamw"
    """The optimizer."""
    weight_decay: NotNegative = 0.0001
    """Decoupled for AdamW; not applied to biases and normalisation."""
    momentum: Share = 0.9
    """SGD only."""
    warmup_fraction: Share = 0.05
    """Share of all steps in which the rate rises linearly to its peak; `schedule` after that."""
    schedule: Literal["cosine", "step", "constant"] = "cosine"
    """Learning rate after the warm-up; cosine: down to 1 % of the peak; step: a tenth from 2/3 of all steps on, a
    hundredth from 8/9 on; constant: the peak."""
    clip_norm: NotNegative = 10.0
    """Gradient norm above which gradients are scaled down; 0: never."""
    rollbacks: CountOrNone = 3
    """How often a loss that is not finite returns the training to its last saved state, with half the learning rate,
    before it ends the training; 0: it ends it at once."""
    layer_decay: Annotated[float, Field(gt=0, le=1), OR_AUTO] = 1.0
    """Learning rate factor per backbone stage from the top down; 1: the same everywhere."""
    heads_only_epochs: Annotated[CountOrNone, OR_AUTO] = 0
    """Train neck and heads alone for this many epochs, then unfreeze."""
    unfreeze_every: CountOrNone = 0
    """After heads_only_epochs, unfreeze one backbone stage from the top per this many epochs; 0: all at once."""
    frozen_stages: Annotated[CountOrNone, OR_AUTO] = 0
    """Lowest backbone stages that never train."""
    l2sp: Annotated[NotNegative, OR_AUTO] = 0.0
    """Pull towards the starting weights (Li et al. 2018): loss + l2sp / 2 * ||w - w0||^2."""
    ema: Annotated[Share, OR_AUTO] = 0.0
    """Decay of the averaged weights that are evaluated and saved; 0: none."""
    source_share: Annotated[Share, OR_AUTO] = 0.0
    """Share of the starting weights in those that are evaluated and saved (WiSE-FT, Wortsman et al. 2022); more in the
    rows of classes with few labelled objects, see drivetl.training.ema; 0: none."""


@typed_dataclass(frozen=True, config=_STRICT)
class EvalConfig(_Checked):
    """When to look at the validation set."""

    every: Annotated[Count, OR_AUTO] = 1
    """Epochs between evaluations; the last epoch is always evaluated."""
    batch_size: Annotated[Count, SPEED_ONLY] = 4
    """Images per forward pass."""
    keep_detections: bool = False
    """Keep the detections of every evaluation as eval/step_N.npz, for curves of other metrics or parts of data.val."""
    metric: Literal["AP", "AP50"] = "AP"
    """Which number makes an evaluation the best one."""
    stop_after: CountOrNone = 0
    """Early stopping: end when the metric has not improved in this many evaluations; 0: never. The schedule of the
    learning rate is that of all epochs."""


@typed_dataclass(frozen=True, config=_STRICT)
class RuntimeConfig(_Checked):
    """Where and how exactly to compute."""

    device: str = "auto"
    """auto | cpu | cuda | cuda:N."""
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    """auto: bf16 autocast where the device is faster with it; the choice is printed with its reason."""
    channels_last: Literal["auto", "on", "off"] = "auto"
    """Memory layout of convolutions; auto: with bf16, and for depthwise backbones on a CPU."""
    compile: bool = False
    """torch.compile backbone, pyramid and RPN head for training, with batches padded to at most three shapes; without
    a compiler, training continues uncompiled and says so. A part that was not compiled ends the training."""
    tensorboard: Annotated[bool, SPEED_ONLY] = False
    """Write losses, learning rate, AP, the first batch, the curves and the outcome for TensorBoard as well, into the
    run's folder tensorboard/; needs pip install 'drivetl[tensorboard]'."""
    mlflow: Annotated[bool, SPEED_ONLY] = False
    """The same for MLflow, into the run's folder mlflow/, a SQLite database; needs pip install 'drivetl[mlflow]'."""


@typed_dataclass(frozen=True, config=_STRICT)
class FinetuneConfig(_Checked):
    """The whole document."""

    data: DataConfig = field(default_factory=DataConfig)
    model: ModelConfig = field(default_factory=ModelConfig)
    optim: OptimConfig = field(default_factory=OptimConfig)
    eval: EvalConfig = field(default_factory=EvalConfig)
    runtime: RuntimeConfig = field(default_factory=RuntimeConfig)
    seed: Annotated[int, Field(ge=0, le=2**63 - 1)] = 0
    """Everything random follows from it."""

    def as_dict(self) -> dict[str, Any]:
        """Plain nested dict, ready for YAML or JSON."""
        return {
            name: {key: _plain(value) for key, value in part.items()} if isinstance(part, dict) else part
            for name, part in dataclasses.asdict(self).items()
        }

    def check(self) -> None:
        """What concerns several keys. Raises ConfigError naming the key to change."""
        o, m = self.optim, self.model
        if not is_auto(o.heads_only_epochs) and not is_auto(o.epochs) and 0 < o.heads_only_epochs >= o.epochs:
            reason = f"is {o.heads_only_epochs}, it must be below optim.epochs ({o.epochs})"
            raise _wrong_key("optim.heads_only_epochs", reason, "set --optim.heads_only_epochs VALUE")
        if m.min_size > m.max_size:
            reason = f"is {m.min_size}, it must be at most model.max_size ({m.max_size})"
            raise _wrong_key("model.min_size", reason, "set --model.min_size VALUE")
        for key, path in (("data.train", self.data.train), ("data.val", self.data.val)):
            if not path:
                raise _wrong_key(key, "is not set", f"set --{key} DATASET.json")
        self._check_source()
        self._check_unlabelled()

    def _check_source(self) -> None:
        """data.source and its share belong together. Raises ConfigError."""
        d = self.data
        share = d.source_share
        if d.source and not is_auto(share) and not share:
            raise _wrong_key("data.source_share", "is 0 with data.source set", "set --data.source_share 0.5 or auto")
        if not d.source and not is_auto(share) and share:
            remedy = "set --data.source DATASET.json, or leave data.source_share out"
            raise _wrong_key("data.source", f"is not set, data.source_share is {share:g}", remedy)
        for key, path in (("data.train", d.train), ("data.val", d.val)):
            if d.source and Path(d.source).resolve() == Path(path).resolve():
                remedy = "name a dataset of the source's domain, or leave data.source out"
                raise _wrong_key("data.source", f"is the same file as {key} ({path})", remedy)

    def _check_unlabelled(self) -> None:
        """data.unlabelled, its labels and its share fit together. Raises ConfigError."""
        d = self.data
        if d.pseudo_ignore_from > d.pseudo_threshold:
            reason = f"is {d.pseudo_ignore_from:g}, above data.pseudo_threshold ({d.pseudo_threshold:g})"
            raise _wrong_key("data.pseudo_ignore_from", reason, "set it to at most the threshold")
        if not d.unlabelled and not d.pseudo:
            return
        if d.pseudo and d.pseudo_beta:
            reason = "is about scores of model.start, and data.pseudo has labels of its own"
            raise _wrong_key("data.pseudo_beta", reason, "leave either out")
        source = d.source_share if d.source and not is_auto(d.source_share) else 0.0
        if source + d.unlabelled_share >= 1:
            reason = f"is {d.unlabelled_share:g}, next to data.source_share {source:g} nothing is left for data.train"
            raise _wrong_key("data.unlabelled_share", reason, "set smaller shares")
        if not d.pseudo and self.model.start in ("none", "imagenet"):
            remedy = "set --model.start RUN, or name labels with --data.pseudo"
            raise _wrong_key(
                "data.unlabelled", f"needs a detector to label it, model.start is {self.model.start}", remedy
            )
        for key, path in (("data.train", d.train), ("data.val", d.val), ("data.source", d.source)):
            if d.unlabelled and path and Path(d.unlabelled).resolve() == Path(path).resolve():
                remedy = "name frames that are not in it, or leave data.unlabelled out"
                raise _wrong_key("data.unlabelled", f"is the same file as {key} ({path})", remedy)


def check_packages(config: FinetuneConfig) -> None:
    """Raises ConfigError for a package that the config needs and that is not installed."""
    wanted = {"tensorboard": config.runtime.tensorboard, "mlflow": config.runtime.mlflow}
    for name in (name for name, is_wanted in wanted.items() if is_wanted and find_spec(name) is None):
        remedy = f"pip install 'drivetl[{name}]', or leave it out"
        raise _wrong_key(f"runtime.{name}", f"needs the package {name}, which is not installed", remedy)


def check_files(config: FinetuneConfig) -> None:
    """Look whether everything that the config names exists, before anything slow is imported.

    Raises ConfigError for an unknown preset or start, or for a package that is not installed; DataError for a missing
    dataset.
    """
    check_packages(config)
    for path in (config.data.train, config.data.val, config.data.source, config.data.pseudo):
        if path:
            require(Path(path))
    if config.data.unlabelled and not os.path.exists(config.data.unlabelled):  # noqa: PTH110
        raise DataError("no such file or folder", remedy="check data.unlabelled", file=config.data.unlabelled)
    if config.model.start not in STARTS and not os.path.exists(start := Path(config.model.start).expanduser()):  # noqa: PTH110
        remedy = meant(start) or "model.start is coco, imagenet, none, a weights file or a run"
        raise ConfigError("no such file or run", remedy=nearest(config.model.start, STARTS, remedy), file=start)
    presets = sorted(path.stem for path in shipped("configs/weather").glob("*.yaml"))
    preset, words = config.data.augment, (AUTO, *presets)
    if preset not in words and not os.path.isfile(preset):  # noqa: PTH113
        hint = nearest(preset, words, f"use {', '.join(words)} or the path of a YAML file")
        raise ConfigError(f"no augmentation preset or file {preset!r}", remedy=hint)


def check_footage(config: FinetuneConfig) -> None:
    """Raises ConfigError where there is no footage to compare a training without."""
    if not config.data.unlabelled and not config.data.pseudo:
        reason = "--compare-without-unlabelled: the config has no footage without labels"
        raise ConfigError(reason, remedy="set data.unlabelled, or leave the flag out")


def _wrong_key(key: str, reason: str, remedy: str) -> _KeyError:
    return _KeyError(f"{key} {reason}", key=key, remedy=remedy)


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value


def values_of(config: FinetuneConfig) -> dict[str, Any]:
    """Dotted key -> value, in the order of the document."""
    flat: dict[str, Any] = {}
    for name, value in config.as_dict().items():
        flat |= {f"{name}.{key}": part for key, part in value.items()} if isinstance(value, dict) else {name: value}
    return flat


def with_values(config: FinetuneConfig, values: Mapping[str, Any]) -> FinetuneConfig:
    """A copy with other values by their dotted keys. Raises ConfigError naming the key."""
    return _build(values_of(config) | dict(values))


def recipe_keys() -> frozenset[str]:
    """The keys that `optim.recipe: auto` chooses where they are not written."""
    return frozenset(key for key, info in _fields().items() if is_of_recipe(info))


def speed_keys() -> frozenset[str]:
    """The keys that a resumed run may set anew (SPEED_ONLY)."""
    return frozenset(key for key, info in _fields().items() if SPEED_ONLY in info.metadata)


def is_auto(value: object) -> bool:
    """Whether a value is still to be chosen."""
    return isinstance(value, str) and value == AUTO


def finds_rate(config: FinetuneConfig) -> bool:
    """Whether the learning rate is still to be found (`optim.lr: find`)."""
    rate: object = config.optim.lr
    return rate == FIND


@dataclass(frozen=True)
class Key:
    """One key of the document, for errors and documentation."""

    name: str
    """Dotted: optim.lr."""
    kind: str
    """What a value is, in words: a whole number; fit or keep."""
    bounds: str
    """`from 0 to 1`, `of at least 1`; '' for none."""
    words: str
    """Words that it takes as well: `or auto`; '' for none."""
    default: Any
    help: str

    @property
    def takes(self) -> str:
        """All that a value may be: a number above 0 and at most 10, or auto."""
        return " ".join(filter(None, (self.kind, self.bounds))) + (f", {self.words}" if self.words else "")


def describe() -> list[Key]:
    """Every key in the order of the document, as its field declares it."""
    return [
        Key(
            name,
            type_name(info),
            bounds(info),
            words_of(info),
            _plain(info.default),
            " ".join((info.description or "").split()),
        )
        for name, info in _fields().items()
    ]


def json_schema() -> dict[str, Any]:
    """The JSON schema of the document, for editors: configs/schema.json."""
    return {"$schema": "https://json-schema.org/draft/2020-12/schema"} | TypeAdapter(FinetuneConfig).json_schema()


def _model_fields(model: Any) -> dict[str, Any]:
    return dict(getattr(model, "__pydantic_fields__", {}))


def _sections() -> dict[str, Any]:
    """Section name -> its class."""
    kinds = {name: info.annotation for name, info in _model_fields(FinetuneConfig).items()}
    return {name: kind for name, kind in kinds.items() if _model_fields(kind)}


def _fields() -> dict[str, Any]:
    """Dotted key -> its field, in order."""
    fields: dict[str, Any] = {}
    for name, info in _model_fields(FinetuneConfig).items():
        inner = _model_fields(info.annotation)
        fields |= {f"{name}.{key}": part for key, part in inner.items()} if inner else {name: info}
    return fields


@dataclass(frozen=True)
class _Written:
    """A value as a file or a flag has it."""

    value: Any
    text: str
    file: Path | str
    line: int | None


def load_config(paths: Path | Sequence[Path], overrides: Sequence[str] = ()) -> FinetuneConfig:
    """Read one or several YAMLs (later ones win), apply `--section.key value` overrides, check.

    Under `optim.recipe: auto` what may be `auto` and was not written is AUTO. Raises ConfigError with file and line,
    or with the flag.
    """
    files = [paths] if isinstance(paths, Path) else list(paths)
    written: dict[str, _Written] = {}
    for path in files:
        written |= _read(path)
    for key, text in parse_overrides(overrides).items():
        written[key] = _Written(_flag_value(key, text), text, f"--{key}={text}", None)
    try:
        config = _build(dict(_values(written)))
        config.check()
    except _KeyError as error:
        place = written.get(error.key)
        raise error.at(place.file if place else " + ".join(map(str, files)), place.line if place else None) from None
    return config


def _flag_value(key: str, text: str) -> Any:
    """The value of a flag: a scalar, or a list like [0.5, 2] where the key takes one. Empty text unsets a key that is
    empty by default."""
    if not text and _fields()[key].default == "":
        return ""
    if is_pair(_fields()[key]):
        with suppress(DataError):  # what is not a list either is refused with what the key takes
            return parse_yaml(text).value
    return read_scalar(text)


def _values(written: Mapping[str, _Written]) -> Iterator[tuple[str, Any]]:
    """(key, value) of what is written, text as it was written, and of what is left to the recipe."""
    by_recipe = "optim.recipe" in written and written["optim.recipe"].value == AUTO
    for key, info in _fields().items():
        if key in written:
            item, is_text = written[key], info.annotation is str
            if (not item.text and item.value != "") or (item.value is None and not is_text):
                raise ConfigError(f"{key} is empty", remedy="write one, or remove it", file=item.file, line=item.line)
            yield key, item.text if is_text else item.value
        elif by_recipe and is_of_recipe(info):
            yield key, AUTO


def _build(values: Mapping[str, Any]) -> FinetuneConfig:
    sections: dict[str, Any] = {
        name: kind(**{key.partition(".")[2]: value for key, value in values.items() if key.startswith(f"{name}.")})
        for name, kind in _sections().items()
    }
    return FinetuneConfig(**sections, **{key: value for key, value in values.items() if "." not in key})


def written_keys(path: Path) -> dict[str, str]:
    """The dotted keys that a config file sets, with the text of each value. Raises ConfigError with file and line."""
    return {key: item.text for key, item in _read(path).items()}


def _read(path: Path) -> dict[str, _Written]:
    """Dotted key -> value of a config file, all of whose keys are known."""
    document = read_yaml(path, ConfigError)
    try:
        return {} if document.value is None else _flat(document, path)
    except ConfigError as error:
        raise error.at(path) from None


def _flat(document: Document, path: Path) -> dict[str, _Written]:
    sections, known = _sections(), _fields()
    flat: dict[str, _Written] = {}
    for name, body in _mapping(document.value, document.line(())).items():
        if name not in sections:
            flat |= _leaf(document, (name,), known, path)
            continue
        for key in _mapping(body, document.line((name,))):
            flat |= _leaf(document, (name, key), known, path)
    return flat


def _mapping(value: Any, line: int | None) -> dict[str | int, Any]:
    if not isinstance(value, dict):
        raise ConfigError("expected `key: value` lines", remedy="see configs/finetune", line=line)
    return value


def _leaf(document: Document, place: KeyPath, known: Mapping[str, Any], path: Path) -> dict[str, _Written]:
    """{dotted key: value} of one key of a file. Raises ConfigError with its line."""
    key, line = ".".join(map(str, place)), document.line(place)
    if key not in known:
        raise ConfigError(f"unknown key {key!r}", remedy=_hint(key), line=line)
    value = document.value
    for part in place:
        value = value[part]
    if is_pair(known[key]):
        text = str(value)
    elif place in document.texts:
        text = document.texts[place]
    else:
        raise ConfigError(f"{key} takes one value", remedy=f"write `{place[-1]}: VALUE`", line=line)
    return {key: _Written(value, text, path, line)}


def _hint(key: str) -> str:
    tops = dict.fromkeys(name.partition(".")[0] for name in _fields())
    return nearest(key, _fields(), f"known: {', '.join(tops)}")


def parse_overrides(overrides: Sequence[str]) -> dict[str, str]:
    """`--a.b value` and `--a.b=value` -> {key: text}; the last of a key wins. Raises ConfigError for an unknown key."""
    known, words = _fields(), list(overrides)
    texts: dict[str, str] = {}
    while words:
        word = words.pop(0)
        if not word.startswith("--"):
            raise ConfigError(f"unexpected argument {word!r}", remedy="overrides are --section.key value")
        key, equals, text = word[2:].partition("=")
        if key not in known:
            raise ConfigError(f"unknown flag --{key}", remedy=_hint(key))
        if not equals:
            if not words:
                raise ConfigError(f"--{key} needs a value", remedy=f"write --{key} VALUE")
            text = words.pop(0)
        texts[key] = text
    return texts


def dump_yaml(config: FinetuneConfig) -> str:
    """The effective configuration as YAML; reading it back gives the same configuration."""
    return yaml.safe_dump(config.as_dict(), sort_keys=False)
