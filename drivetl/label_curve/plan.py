"""The plan of `drivetl budget`: nested subsets of whole drives, regimes, steps. All inputs are checked here."""

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
from drivetl.coco.hashes import file_hash
from drivetl.coco.records import Dataset, ImageRecord
from drivetl.config import FinetuneConfig, is_auto, speed_keys, values_of
from drivetl.convert.split import group_images
from drivetl.data.augment import load_preset
from drivetl.data.sampling import epoch_steps
from drivetl.errors import ConfigError
from drivetl.models.source import read_source, weights_file
from drivetl.robustness.sweep import spread_order
from drivetl.training.pair import read_pair
from drivetl.training.recipe import Start, resolve_auto, start_of, with_preset
from drivetl.training.replay import read_replay, shares

ROWS = "rows.jsonl"
"""File of the finished runs; it is written empty before the first training and marks a folder of `drivetl budget`."""
DEFAULT_COUNTS = (25, 50, 100)
"""Default label counts; the size of the training set is added."""
LEAST_STEPS = 200
"""Minimum of the default number of steps: with fewer, a detector learns nothing from any number of labels."""
_CANDIDATES = 4
"""Candidates for the next drive, at most half of those left: orders differ by seed, and class shares are kept."""
_NOT_COMPARED = speed_keys() | {"data.train", "data.val", "runtime.device"}

Cell = tuple[str, int, int]
"""(regime, label count, seed): one run."""


@dataclass(frozen=True)
class Plan:
    """Everything that will be run, checked."""

    out: Path
    regimes: Mapping[str, FinetuneConfig]
    starts: Mapping[str, Start]
    """Kind of start weights of each regime; `optim.recipe: auto` depends on it."""
    inputs: Mapping[str, Mapping[str, str]]
    """Regime -> config key -> hash as in `inputs_of`, for the keys that are the same in all its runs."""
    steps: Mapping[str, tuple[int, ...]]
    """Optimiser steps that a regime's runs make at each label count: whole epochs."""
    target_steps: Mapping[str, int | None]
    """The number of steps that is rounded to whole epochs; None where the recipe sets the epochs of each count."""
    counts: tuple[int, ...]
    seeds: tuple[int, ...]
    train: Dataset
    val: Dataset
    data_hash: str

    def cells(self) -> list[Cell]:
        """Every run, seed after seed, so that a first complete curve is available early."""
        return [(name, count, seed) for seed in self.seeds for count in self.counts for name in self.regimes]

    def folder(self, cell: Cell) -> Path:
        """The folder of a run: its weights and metrics."""
        name, count, seed = cell
        return self.out / "runs" / f"{name}-{count}-s{seed}"

    def config(self, cell: Cell) -> FinetuneConfig:
        """The configuration of one run; its data.train is the json of its frames."""
        name, count, seed = cell
        frames, regime = self.out / "frames" / f"s{seed}-{count}.json", self.regimes[name]
        steps = self.steps[name][self.counts.index(count)]
        epochs = None if self.target_steps[name] is None else steps // _epoch_steps(regime, count)
        regime, _ = with_preset(regime, count, self.starts[name], epochs)
        chosen, _ = resolve_auto(regime, count, self.starts[name])
        return run_config(chosen, steps, count, seed, frames)

    def inputs_of(self, cell: Cell) -> dict[str, str]:
        """Config key -> hash of the content of the file that the key names, where it decides the weights."""
        preset = dataclasses.asdict(load_preset(self.config(cell).data.augment))
        return {**self.inputs[cell[0]], "data.augment": _digest(preset)}


def make_plan(
    out: Path, regimes: Mapping[str, FinetuneConfig], label_counts: str | None, seeds: Sequence[int], steps: int | None
) -> Plan:
    """Read the data and check everything before the first step. `label_counts` None: DEFAULT_COUNTS and all frames.

    Raises ConfigError for a folder with other content, for counts or steps that do not fit the data, and for regimes
    that are identical or cannot be trained; DataError for data that cannot be read.
    """
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        raise ConfigError("budget runs in one process", remedy="start it without torchrun")
    _check_out(out)
    first = next(iter(regimes.values()))
    if any(config.data.train_images for config in regimes.values()):
        raise ConfigError("data.train_images is set, but --label-counts says how many frames", remedy="leave it at 0")
    if any(is_auto(config.optim.batch_size) for config in regimes.values()):
        raise ConfigError(
            "optim.batch_size is auto, but the steps of a label curve are planned before it is chosen",
            remedy="set a number, --optim.batch_size 4",
        )
    train, val = read_pair(first)
    counts = (
        default_counts(len(train.images)) if label_counts is None else parse_counts(label_counts, len(train.images))
    )
    for config in regimes.values():
        read_replay(config, train, val)
    starts_and_inputs = {name: _start_and_inputs(config) for name, config in regimes.items()}
    starts = {name: start for name, (start, _) in starts_and_inputs.items()}
    target_steps = {name: _target_steps(name, config, counts, steps) for name, config in regimes.items()}
    hashes = file_hash(Path(first.data.train)) + file_hash(Path(first.data.val))
    plan = Plan(
        out=out,
        regimes=regimes,
        starts=starts,
        inputs={name: inputs for name, (_, inputs) in starts_and_inputs.items()},
        steps={name: _steps(config, starts[name], counts, target_steps[name]) for name, config in regimes.items()},
        target_steps=target_steps,
        counts=counts,
        seeds=tuple(seeds),
        train=train,
        val=val,
        data_hash=hashlib.sha256(hashes.encode()).hexdigest()[:16],
    )
    _check_runs(plan)
    return plan


def _check_out(out: Path) -> None:
    """The folder is new, empty, or one of an earlier study. Raises ConfigError naming --out."""
    if out.exists() and not out.is_dir():
        raise ConfigError(f"--out {out} is a file", remedy="name a new folder")
    if out.is_dir() and any(out.iterdir()) and not (out / ROWS).is_file():
        raise ConfigError(f"--out {out} has files, but none of a study (no {ROWS})", remedy="name a new folder")


def _start_and_inputs(config: FinetuneConfig) -> tuple[Start, dict[str, str]]:
    """The kind of start weights of a regime, and hashes of its input files that decide the trained weights."""
    source = read_source(config.model.start, config.model.arch)
    file = weights_file(config.model.start)
    weights = file_hash(file) if file is not None else ""
    classes = [source.categories, source.relation] if source else None
    inputs = {"model.start": _digest([weights, classes])}
    if config.data.source:
        inputs["data.source"] = file_hash(Path(config.data.source))
    return start_of(source), inputs


def _check_runs(plan: Plan) -> None:
    """Check the config of every run, and that no two regimes are identical. Raises ConfigError naming the regimes."""
    of_regime: dict[str, list[dict[str, Any]]] = {}
    for name in plan.regimes:
        configs = []
        for count in plan.counts:
            try:
                config = plan.config((name, count, plan.seeds[0]))
                config.check()
                load_preset(config.data.augment)
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
    """The values that decide a run's weights: without start weights, L2-SP and the source share have no effect."""
    if config.model.start == "none":
        config = dataclasses.replace(config, optim=dataclasses.replace(config.optim, l2sp=0.0, source_share=0.0))
    return compared(config)


def default_counts(available: int) -> tuple[int, ...]:
    """DEFAULT_COUNTS below the number of frames, and that number; prints a line if some are left out."""
    counts = (*(count for count in DEFAULT_COUNTS if count < available), available)
    if len(counts) <= len(DEFAULT_COUNTS):
        named = ",".join(map(str, DEFAULT_COUNTS))
        console.say(
            f"data.train has {available} frames: the label counts {named},all are reduced to"
            f" {','.join(map(str, counts))}"
        )
    return counts


def parse_counts(text: str, available: int) -> tuple[int, ...]:
    """`25,50,100,all` -> rising label counts. Raises ConfigError naming --label-counts."""
    words = [word.strip() for word in text.split(",") if word.strip()]
    wrong = next((word for word in words if word != "all" and not re.fullmatch("0*[1-9][0-9]{0,8}", word)), None)
    if not words or wrong is not None:
        raise ConfigError(
            f"--label-counts {text!r}: {wrong or 'nothing'!r} is not a number of frames",
            remedy="for example 25,50,100,all",
        )
    counts = tuple(available if word == "all" else int(word) for word in words)
    if counts[-1] > available or max(counts) > available:
        raise ConfigError(
            f"--label-counts {text!r}: {max(counts)} frames, but data.train has {available}",
            remedy=f"name at most {available}, or all",
        )
    if any(a >= b for a, b in pairwise(counts)):
        shown = ",".join(map(str, counts))
        raise ConfigError(
            f"--label-counts {text!r} must rise, it is {shown} (all: {available})", remedy="sort the counts, each once"
        )
    return counts


def _target_steps(name: str, config: FinetuneConfig, counts: Sequence[int], steps: int | None) -> int | None:
    """The number of steps for every run of a regime: --steps, else the config's epochs over the largest count, at least
    LEAST_STEPS. None if the recipe sets the epochs. Raises ConfigError naming --steps or data.sampling."""
    if config.data.sampling != "uniform":
        raise ConfigError(
            f"data.sampling is {config.data.sampling}: runs of as many steps would see other numbers of epochs",
            remedy="set data.sampling: uniform for a label curve",
        )
    steps_per_epoch = _epoch_steps(config, counts[-1])
    if steps is not None and steps < steps_per_epoch:
        raise ConfigError(
            f"--steps {steps} is less than one epoch of {name} with {counts[-1]} frames",
            remedy=f"name at least {steps_per_epoch}",
        )
    if steps is None and is_auto(config.optim.epochs):
        return None
    return steps or max(LEAST_STEPS, config.optim.epochs * steps_per_epoch)


def _steps(config: FinetuneConfig, start: Start, counts: Sequence[int], target: int | None) -> tuple[int, ...]:
    """Steps of a regime's runs at each label count: the whole epochs nearest to `target`, or the recipe's (None)."""
    steps = []
    for count in counts:
        steps_per_epoch = _epoch_steps(config, count)
        if target is None:
            epochs = resolve_auto(config, count, start)[0].optim.epochs
        else:
            epochs = round(target / steps_per_epoch)
        steps.append(epochs * steps_per_epoch)
    return tuple(steps)


def _epoch_steps(config: FinetuneConfig, count: int) -> int:
    return epoch_steps(count, config.optim.batch_size * config.optim.accumulate, shares(config))


def label_order(images: Sequence[ImageRecord], seed: int) -> list[ImageRecord]:
    """The order in which frames are labelled: drive after drive, the frames of a drive spread over its time.

    The first n are the subset of n frames, so subsets are nested and all drives but the last are whole. The next drive
    is the one, among a few random candidates, that keeps every class nearest to its share of all frames. A frame of
    unknown drive counts as a drive of its own, so without drives the order is one of single frames.
    """
    drives = list(group_images(images, ("sequence",)).values())
    category_ids = sorted({item.category_id for image in images for item in image.annotations})
    amounts = np.array([[len(drive), *objects(drive, category_ids)] for drive in drives], np.float64)
    shares = amounts / amounts.sum(axis=0)  # (D, 1 + K), frames first
    rng = np.random.default_rng(seed)
    left, labelled, order = list(rng.permutation(len(drives))), np.zeros(shares.shape[1]), []
    while left:
        after = labelled + shares[left[: min(_CANDIDATES, (len(left) + 1) // 2)]]
        chosen = left.pop(int(((after[:, 1:] - after[:, :1]) ** 2).sum(axis=1).argmin()))
        labelled = labelled + shares[chosen]
        order += _spread(drives[chosen])
    return order


def objects(images: Sequence[ImageRecord], category_ids: Sequence[int]) -> list[int]:
    """Number of objects of each category."""
    ids = [item.category_id for image in images for item in image.annotations]
    return [ids.count(category_id) for category_id in category_ids]


def _spread(drive: Sequence[ImageRecord]) -> list[ImageRecord]:
    """The frames of a drive in an order whose first n frames are spread over its time, for any n."""
    by_time = sorted(drive, key=lambda image: (image.frame_index or 0, image.file_name))
    return [by_time[index] for index in spread_order(len(by_time))]


def run_config(config: FinetuneConfig, steps: int, count: int, seed: int, train: Path) -> FinetuneConfig:
    """The config of one run: the epochs that make `steps`, with as many evaluations as the original config."""
    optim, every = config.optim, config.eval.every
    epochs = steps // _epoch_steps(config, count)
    ratio = epochs / optim.epochs

    def scaled(value: int) -> int:
        return max(1, round(value * ratio)) if value else 0

    evaluations = math.ceil(optim.epochs / every)
    return dataclasses.replace(
        config,
        data=dataclasses.replace(config.data, train=str(train)),
        optim=dataclasses.replace(
            optim,
            epochs=epochs,
            heads_only_epochs=min(scaled(optim.heads_only_epochs), epochs - 1),
            unfreeze_every=scaled(optim.unfreeze_every),
        ),
        eval=dataclasses.replace(config.eval, every=max(1, round(epochs / evaluations))),
        seed=seed,
    )


def config_hash(config: FinetuneConfig) -> str:
    """16 hex digits of all values that decide the weights; the content of files is hashed separately."""
    return _digest(compared(config))


def _digest(value: object) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:16]


def compared(config: FinetuneConfig) -> dict[str, Any]:
    """Dotted key -> value of everything that must be the same for all runs of one folder."""
    return {key: value for key, value in values_of(config).items() if key not in _NOT_COMPARED}
