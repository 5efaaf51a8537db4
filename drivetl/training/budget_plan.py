"""What `drivetl budget` runs: nested subsets of whole drives, regimes, steps. Everything is checked here."""

from __future__ import annotations

import dataclasses
import difflib
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

from drivetl.coco.files import load_yaml
from drivetl.coco.records import Dataset, ImageRecord
from drivetl.coco.split import group_images
from drivetl.config import AUTO, FinetuneConfig, load_config
from drivetl.errors import ConfigError
from drivetl.evaluation.sweep import stratified_order
from drivetl.models.source import read_source
from drivetl.resources import shipped
from drivetl.training.finetune import MAY_CHANGE, read_pair
from drivetl.training.recipe import Start, settled, start_of
from drivetl.training.rundir import file_hash

LEAST_STEPS = 200
"""Floor of the default number of steps: fewer teach a detector nothing, however many labels there are."""
_CANDIDATES = 4
"""Drives that compete to be labelled next, at most half of those left: seeds differ, classes keep their shares."""
_NOT_COMPARED = MAY_CHANGE | {("data", "train"), ("data", "val"), ("runtime", "device")}

Cell = tuple[str, int, int]
"""(regime, label count, seed): one run."""


@dataclass(frozen=True)
class Plan:
    """What is to be run, all of it checked."""

    out: Path
    regimes: Mapping[str, FinetuneConfig]
    starts: Mapping[str, Start]
    """What kind of weights each regime starts from: what is left to `optim.recipe: auto` follows from it."""
    steps: Mapping[str, tuple[int, ...]]
    """Optimiser steps of a regime's runs at each label count."""
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
        chosen, _ = settled(self.regimes[name], count, self.starts[name])
        return run_config(chosen, self.steps[name][self.counts.index(count)], count, seed, frames)


def make_plan(
    out: Path, regimes: Mapping[str, FinetuneConfig], budgets: str, seeds: Sequence[int], steps: int | None
) -> Plan:
    """Read the data and check everything before the first step.

    Raises ConfigError for budgets or steps that this data cannot serve, DataError for data that cannot be read.
    """
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        raise ConfigError("budget makes many small trainings in one process - start it without torchrun")
    first = next(iter(regimes.values()))
    if any(config.data.train_images for config in regimes.values()):
        raise ConfigError("data.train_images is set, but --budgets says how many frames - leave it at 0")
    train, val = read_pair(first)
    counts = parse_budgets(budgets, len(train.images))
    starts = {name: start_of(read_source(one.model.start, one.model.arch)) for name, one in regimes.items()}
    of_each = {name: _steps(name, config, starts[name], counts, steps) for name, config in regimes.items()}
    hashes = file_hash(Path(first.data.train)) + file_hash(Path(first.data.val))
    data_hash = hashlib.sha256(hashes.encode()).hexdigest()[:16]
    return Plan(out, regimes, starts, of_each, counts, tuple(seeds), train, val, data_hash)


def parse_budgets(text: str, available: int) -> tuple[int, ...]:
    """`25,50,100,all` -> rising label counts. Raises ConfigError naming --budgets."""
    words = [word.strip() for word in text.split(",") if word.strip()]
    wrong = next((word for word in words if word != "all" and not (word.isdecimal() and int(word) > 0)), None)
    if not words or wrong is not None:
        raise ConfigError(
            f"--budgets {text!r}: {wrong or 'nothing'!r} is no number of frames - for example 25,50,100,all"
        )
    counts = tuple(available if word == "all" else int(word) for word in words)
    if counts[-1] > available or max(counts) > available:
        raise ConfigError(
            f"--budgets {text!r}: {max(counts)} frames are asked for, data.train has {available} - "
            f"name at most {available}, or all"
        )
    if any(a >= b for a, b in pairwise(counts)):
        shown = ",".join(map(str, counts))
        raise ConfigError(
            f"--budgets {text!r} must rise, it is {shown} (all: {available}) - sort it, each once"
        )
    return counts


def _steps(
    name: str, config: FinetuneConfig, start: Start, counts: Sequence[int], asked: int | None
) -> tuple[int, ...]:
    """Steps of a regime's runs at each label count: as asked at all of them; where the epochs are left to the recipe, as
    many as it gives each count; else the config's epochs over the largest count, at least a floor, at all of them."""
    passes = [math.ceil(count / config.optim.batch_size) for count in counts]
    if asked is not None and asked < passes[-1]:
        raise ConfigError(
            f"--steps {asked} is less than one pass of {name} over {counts[-1]} frames - name at least {passes[-1]}"
        )
    if asked is None and config.optim.epochs == AUTO:
        epochs = [settled(config, count, start)[0].optim.epochs for count in counts]
        return tuple(times * steps for times, steps in zip(epochs, passes, strict=True))
    return (asked or max(LEAST_STEPS, config.optim.epochs * passes[-1]),) * len(counts)


def label_order(images: Sequence[ImageRecord], seed: int) -> list[ImageRecord]:
    """In which order frames get labelled: drive after drive, a drive's frames spread over its time.

    The first n are the subset of n frames, so that subsets are nested and all drives but the last are whole. The
    next drive is that of a few random ones which keeps every class nearest to its share of all frames.
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
    return [by_time[place] for place in stratified_order([""] * len(by_time))]


def parse_regimes(text: str, paths: Sequence[Path], overrides: list[str]) -> dict[str, FinetuneConfig]:
    """`transfer,scratch,other=FILE.yaml` -> configs that differ in start and recipe and share their data.

    transfer is the config as it is; NAME is configs/finetune/regimes/NAME.yaml laid over it (scratch: from_scratch),
    NAME=FILE.yaml that file. Raises ConfigError naming --regimes.
    """
    base = load_config(paths, overrides)
    folder = shipped("configs/finetune/regimes")
    known = {path.stem: path for path in sorted(folder.glob("*.yaml"))}
    known = {"scratch": known["from_scratch"]} | known
    regimes: dict[str, FinetuneConfig] = {}
    for word in (part.strip() for part in text.split(",")):
        name, has_path, file = word.partition("=")
        if not re.fullmatch(r"[\w-]+", name) or name in regimes:
            raise ConfigError(
                f"--regimes {text!r}: {name!r} is no new name - write transfer,scratch,NAME=FILE.yaml"
            )
        if name == "transfer" and not has_path:
            if base.model.start == "none":
                raise ConfigError(
                    "--regimes transfer: model.start is none, there is nothing to transfer - set --model.start"
                )
            regimes[name] = base
            continue
        if not has_path and name not in known:
            raise ConfigError(_unknown_regime(name, ["transfer", *known]))
        path = Path(file) if has_path else known[name]
        other = load_config([*paths, path], _without_keys_of(path, overrides))
        data = dataclasses.replace(other.data, train=base.data.train, val=base.data.val)
        regimes[name] = dataclasses.replace(other, data=data)
    return regimes


def _without_keys_of(path: Path, overrides: list[str]) -> list[str]:
    """The `--key value` flags that a regime's file does not decide: scratch is scratch, whatever --model.start says."""
    document = load_yaml(path) if path.is_file() else None
    decided = {
        f"--{section}.{key}"
        for section, values in (document.items() if isinstance(document, dict) else ())
        for key in (values if isinstance(values, dict) else ())
    }
    kept, words = [], list(overrides)
    while words:
        flag = [words.pop(0)]
        if "=" not in flag[0] and words:
            flag.append(words.pop(0))
        kept += flag if flag[0].partition("=")[0] not in decided else []
    return kept


def _unknown_regime(name: str, known: Sequence[str]) -> str:
    near = difflib.get_close_matches(name, known, n=1)
    hint = f"did you mean {near[0]!r}?" if near else f"known are {', '.join(known)}; or {name}=FILE.yaml"
    return f"--regimes: unknown regime {name!r} - {hint}"


def run_config(config: FinetuneConfig, steps: int, count: int, seed: int, train: Path) -> FinetuneConfig:
    """The config of one run: so many epochs that it makes `steps`, as many looks at the validation set as before."""
    optim, every = config.optim, config.eval.every
    epochs = max(1, round(steps / math.ceil(count / optim.batch_size)))
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
    """16 hex digits of everything that decides the weights beside the data's content."""
    return hashlib.sha256(json.dumps(compared(config), sort_keys=True).encode()).hexdigest()[:16]


def compared(config: FinetuneConfig) -> dict[str, Any]:
    """Dotted key -> value of what must not change between runs of one folder."""
    flat: dict[str, Any] = {}
    for section, values in config.as_dict().items():
        for key, value in values.items() if isinstance(values, dict) else [("", values)]:
            if (section, key) not in _NOT_COMPARED:
                flat[f"{section}.{key}".rstrip(".")] = value
    return flat
