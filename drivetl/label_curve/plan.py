"""What `drivetl budget` runs: nested subsets of whole drives, regimes, steps. Everything is checked here."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from drivetl import console
from drivetl.coco.records import Dataset, ImageRecord
from drivetl.config import FinetuneConfig, is_auto, speed_keys, values_of
from drivetl.convert.split import group_images
from drivetl.data.augment import load_preset
from drivetl.errors import ConfigError
from drivetl.models.source import read_source, weights_file
from drivetl.robustness.sweep import spread_order
from drivetl.training.finetune import read_pair
from drivetl.training.recipe import Start, resolve_auto, start_of
from drivetl.training.rundir import file_hash

ROWS = "rows.jsonl"
"""The finished runs; written empty before the first training, it marks a folder as one of `drivetl budget`."""
DEFAULT_COUNTS = (25, 50, 100)
"""Label counts where none are named, beside all there are."""
LEAST_STEPS = 200
"""Floor of the default number of steps: fewer teach a detector nothing, however many labels there are."""
_CANDIDATES = 4
"""Drives that compete to be labelled next, at most half of those left: seeds differ, classes keep their shares."""
_NOT_COMPARED = speed_keys() | {"data.train", "data.val", "runtime.device"}

Cell = tuple[str, int, int]
"""(regime, label count, seed): one run."""


@dataclass(frozen=True)
class Plan:
    """What is to be run, all of it checked."""

    out: Path
    regimes: Mapping[str, FinetuneConfig]
    starts: Mapping[str, Start]
    """What kind of weights each regime starts from: what is left to `optim.recipe: auto` follows from it."""
    inputs: Mapping[str, Mapping[str, str]]
    """Of each regime, config key -> hash of what stands in the file that the key names and decides the weights."""
    steps: Mapping[str, tuple[int, ...]]
    """Optimiser steps that a regime's runs make at each label count: whole epochs."""
    wanted: Mapping[str, int | None]
    """The steps they come as near to as whole epochs can; None where the recipe gives each count its own."""
    counts: tuple[int, ...]
    seeds: tuple[int, ...]
    train: Dataset
    val: Dataset
    data_hash: str

    def cells(self) -> list[Cell]:
        """Every run, seed after seed: a first whole curve is there early."""
        return [(name, count, seed) for seed in self.seeds for count in self.counts for name in self.regimes]

    def folder(self, cell: Cell) -> Path:
        """Where a run's weights and metrics are kept."""
        name, count, seed = cell
        return self.out / "runs" / f"{name}-{count}-s{seed}"

    def config(self, cell: Cell) -> FinetuneConfig:
        """The configuration of one run; its data.train is the json of its frames."""
        name, count, seed = cell
        frames = self.out / "frames" / f"s{seed}-{count}.json"
        chosen, _ = resolve_auto(self.regimes[name], count, self.starts[name])
        return run_config(chosen, self.steps[name][self.counts.index(count)], count, seed, frames)


def make_plan(
    out: Path, regimes: Mapping[str, FinetuneConfig], label_counts: str | None, seeds: Sequence[int], steps: int | None
) -> Plan:
    """Read the data and check everything before the first step; without `label_counts` those of DEFAULT_COUNTS that the
    data has.

    Raises ConfigError for a folder of something else, for counts or steps that this data cannot serve and for regimes
    that are the same or cannot be trained, DataError for data that cannot be read.
    """
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        raise ConfigError("budget makes many small trainings in one process", remedy="start it without torchrun")
    _check_out(out)
    first = next(iter(regimes.values()))
    if any(config.data.train_images for config in regimes.values()):
        raise ConfigError("data.train_images is set, but --budgets says how many frames", remedy="leave it at 0")
    train, val = read_pair(first)
    counts = (
        default_counts(len(train.images)) if label_counts is None else parse_counts(label_counts, len(train.images))
    )
    known = {name: _start_and_inputs(config) for name, config in regimes.items()}
    starts = {name: start for name, (start, _) in known.items()}
    wanted = {name: _wanted(name, config, counts, steps) for name, config in regimes.items()}
    hashes = file_hash(Path(first.data.train)) + file_hash(Path(first.data.val))
    plan = Plan(
        out=out,
        regimes=regimes,
        starts=starts,
        inputs={name: inputs for name, (_, inputs) in known.items()},
        steps={name: _steps(config, starts[name], counts, wanted[name]) for name, config in regimes.items()},
        wanted=wanted,
        counts=counts,
        seeds=tuple(seeds),
        train=train,
        val=val,
        data_hash=hashlib.sha256(hashes.encode()).hexdigest()[:16],
    )
    _check_runs(plan)
    return plan


def _check_out(out: Path) -> None:
    """Nothing of anybody else's is written over. Raises ConfigError naming --out."""
    if out.exists() and not out.is_dir():
        raise ConfigError(f"--out {out}: is a file", remedy="name a new folder")
    if out.is_dir() and any(out.iterdir()) and not (out / ROWS).is_file():
        raise ConfigError(f"--out {out}: holds something else than a budget (no {ROWS})", remedy="name a new folder")


def _start_and_inputs(config: FinetuneConfig) -> tuple[Start, dict[str, str]]:
    """What kind of weights a regime starts from, and hashes of its files that decide where it ends."""
    source = read_source(config.model.start, config.model.arch)
    file = weights_file(config.model.start)
    weights = file_hash(file) if file is not None else ""
    classes = [source.categories, source.relation] if source else None
    preset = dataclasses.asdict(load_preset(config.data.augment))
    return start_of(source), {"model.start": _digest([weights, classes]), "data.augment": _digest(preset)}


def _check_runs(plan: Plan) -> None:
    """Every run's config is checked, and no two regimes are one. Raises ConfigError naming the regimes."""
    of_regime: dict[str, list[dict[str, Any]]] = {}
    for name in plan.regimes:
        configs = []
        for count in plan.counts:
            try:
                config = plan.config((name, count, plan.seeds[0]))
                config.check()
            except ConfigError as error:
                raise ConfigError(f"{name} with {count} frames: {error}") from None
            configs.append(_effective(config))
        twin = next((other for other, known in of_regime.items() if known == configs), None)
        if twin is not None:
            raise ConfigError(
                f"--regimes: {twin} and {name} would be the same training",
                remedy="leave one out, or let their configs differ",
            )
        of_regime[name] = configs


def _effective(config: FinetuneConfig) -> dict[str, Any]:
    """What decides a run's weights: without a start, nothing can be pulled towards it or kept of it."""
    if config.model.start == "none":
        config = dataclasses.replace(config, optim=dataclasses.replace(config.optim, l2sp=0.0, source_share=0.0))
    return compared(config)


def default_counts(available: int) -> tuple[int, ...]:
    """DEFAULT_COUNTS as far as there are so many frames, and all; says what was left out."""
    counts = (*(count for count in DEFAULT_COUNTS if count < available), available)
    if len(counts) <= len(DEFAULT_COUNTS):
        named = ",".join(map(str, DEFAULT_COUNTS))
        console.say(
            f"data.train has {available} frames: of the label counts {named},all this leaves"
            f" {','.join(map(str, counts))}"
        )
    return counts


def parse_counts(text: str, available: int) -> tuple[int, ...]:
    """`25,50,100,all` -> rising label counts. Raises ConfigError naming --budgets."""
    words = [word.strip() for word in text.split(",") if word.strip()]
    wrong = next((word for word in words if word != "all" and not re.fullmatch("0*[1-9][0-9]{0,8}", word)), None)
    if not words or wrong is not None:
        raise ConfigError(
            f"--budgets {text!r}: {wrong or 'nothing'!r} is not a number of frames", remedy="for example 25,50,100,all"
        )
    counts = tuple(available if word == "all" else int(word) for word in words)
    if counts[-1] > available or max(counts) > available:
        raise ConfigError(
            f"--budgets {text!r}: {max(counts)} frames are asked for, data.train has {available}",
            remedy=f"name at most {available}, or all",
        )
    if any(a >= b for a, b in pairwise(counts)):
        shown = ",".join(map(str, counts))
        raise ConfigError(
            f"--budgets {text!r} must rise, it is {shown} (all: {available})", remedy="sort it, each once"
        )
    return counts


def _wanted(name: str, config: FinetuneConfig, counts: Sequence[int], asked: int | None) -> int | None:
    """The steps that a regime's runs shall make at every count: those asked for, else the config's epochs over the
    largest count, at least a floor. None where the epochs are left to the recipe. Raises ConfigError naming --steps."""
    passes = math.ceil(counts[-1] / config.optim.batch_size)
    if asked is not None and asked < passes:
        raise ConfigError(
            f"--steps {asked} is less than one pass of {name} over {counts[-1]} frames",
            remedy=f"name at least {passes}",
        )
    if asked is None and is_auto(config.optim.epochs):
        return None
    return asked or max(LEAST_STEPS, config.optim.epochs * passes)


def _steps(config: FinetuneConfig, start: Start, counts: Sequence[int], wanted: int | None) -> tuple[int, ...]:
    """Steps of a regime's runs at each label count: the whole epochs nearest to those wanted, or the recipe's."""
    found = []
    for count in counts:
        passes = math.ceil(count / config.optim.batch_size)
        epochs = resolve_auto(config, count, start)[0].optim.epochs if wanted is None else round(wanted / passes)
        found.append(epochs * passes)
    return tuple(found)


def label_order(images: Sequence[ImageRecord], seed: int) -> list[ImageRecord]:
    """In which order frames get labelled: drive after drive, a drive's frames spread over its time.

    The first n are the subset of n frames, so that subsets are nested and all drives but the last are whole. The
    next drive is that of a few random ones which keeps every class nearest to its share of all frames. A frame of
    unknown drive is taken on its own, so without drives the order is that of single frames.
    """
    drives = list(group_images(images, ("sequence",)).values())
    kinds = sorted({item.category_id for image in images for item in image.annotations})
    amounts = np.array([[len(drive), *objects(drive, kinds)] for drive in drives], np.float64)
    shares = amounts / amounts.sum(axis=0)  # (D, 1 + K), frames first
    rng = np.random.default_rng(seed)
    left, taken, order = list(rng.permutation(len(drives))), np.zeros(shares.shape[1]), []
    while left:
        after = taken + shares[left[: min(_CANDIDATES, (len(left) + 1) // 2)]]
        chosen = left.pop(int(((after[:, 1:] - after[:, :1]) ** 2).sum(axis=1).argmin()))
        taken = taken + shares[chosen]
        order += _spread(drives[chosen])
    return order


def objects(images: Sequence[ImageRecord], kinds: Sequence[int]) -> list[int]:
    found = [item.category_id for image in images for item in image.annotations]
    return [found.count(kind) for kind in kinds]


def _spread(drive: Sequence[ImageRecord]) -> list[ImageRecord]:
    """A drive's frames so that any first few are spread over its time."""
    by_time = sorted(drive, key=lambda image: (image.frame_index or 0, image.file_name))
    return [by_time[place] for place in spread_order(len(by_time))]


def run_config(config: FinetuneConfig, steps: int, count: int, seed: int, train: Path) -> FinetuneConfig:
    """The config of one run: as many epochs as make `steps`, as many looks at the validation set as before."""
    optim, every = config.optim, config.eval.every
    epochs = steps // math.ceil(count / optim.batch_size)
    longer = epochs / optim.epochs

    def scaled(value: int) -> int:
        return max(1, round(value * longer)) if value else 0

    looks = math.ceil(optim.epochs / every)
    return dataclasses.replace(
        config,
        data=dataclasses.replace(config.data, train=str(train)),
        optim=dataclasses.replace(
            optim,
            epochs=epochs,
            heads_only_epochs=min(scaled(optim.heads_only_epochs), epochs - 1),
            unfreeze_every=scaled(optim.unfreeze_every),
        ),
        eval=dataclasses.replace(config.eval, every=max(1, round(epochs / looks))),
        seed=seed,
    )


def config_hash(config: FinetuneConfig) -> str:
    """16 hex digits of all values that decide the weights; what stands in files is hashed apart."""
    return _digest(compared(config))


def _digest(value: object) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:16]


def compared(config: FinetuneConfig) -> dict[str, Any]:
    """Dotted key -> value of what must not change between runs of one folder."""
    return {key: value for key, value in values_of(config).items() if key not in _NOT_COMPARED}
