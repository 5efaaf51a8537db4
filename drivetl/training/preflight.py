"""Pre-flight: is this training going to work? The config against its data, its start and this machine.

preflight(config, Path("runs/city"), seconds=20)       what `drivetl info --config C` prints
check_training(planned_as(prepared, world), ...)       what every training prints of it: what is not ok
"""

from __future__ import annotations

import textwrap
from collections import Counter
from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from drivetl import console
from drivetl.coco.records import Dataset
from drivetl.config import FinetuneConfig, is_auto
from drivetl.data.dataset import loader_processes
from drivetl.errors import ConfigError
from drivetl.models.anchors import spec_of
from drivetl.models.precision import choose_precision
from drivetl.models.runtime import choose_device
from drivetl.training.batch_size import candidates, in_words, with_part
from drivetl.training.preflight_checks import (
    Finding,
    check_anchors,
    check_classes,
    check_crowd,
    check_disk,
    check_images,
    check_loader,
    check_norm,
    check_objects,
    check_rate,
    check_size,
    check_split,
    check_start,
    check_steps,
    check_trained,
    objects_of_classes,
)
from drivetl.training.preflight_plan import Planned, plan_training
from drivetl.training.preflight_speed import try_training
from drivetl.training.prepare import effective_batch


def preflight(config: FinetuneConfig, train: Dataset, val: Dataset, out: Path, seconds: float) -> list[Finding]:
    """All checks, printed with a table of the classes; `seconds`: for trying loader and model, 0: they are not tried.

    out: the run directory that the training would write. Raises ConfigError at the first error, after all are printed;
    ConfigError, CheckpointError or DataError where the training could not even be planned.
    """
    device = choose_device(config.runtime.device)
    parts = candidates(config, device, 1) if is_auto(config.optim.batch_size) else []
    planned = plan_training(with_part(config, parts[0]) if parts else config, train, val)
    how_many = [in_words(planned.config, parts, device)] if len(parts) == 1 else []
    for line in (*planned.choices, *how_many, *effective_batch(planned.config, 1)):
        console.say(*textwrap.wrap(line, LINE_WIDTH, subsequent_indent="  ", **_WHOLE_WORDS))
    findings = check_training(planned, device, loader_processes(config.data.workers, device), out)
    if seconds and not any(item.severity == "error" for item in findings):
        console.say(f"trying the loader and the model for {seconds:g} s ...")
        precision, _ = choose_precision(config.runtime.precision, device)
        findings += try_training(planned, device, precision, seconds, parts[1:])
    console.table("classes", ("class", "train", "val", "from"), class_table(planned))
    console.say("")
    show(findings)
    counts = Counter(item.severity for item in findings)
    console.numbers(
        errors=counts["error"],
        warnings=counts["warning"],
        notes=counts["note"],
        checks=[asdict(item) for item in findings],
    )
    stop_at_errors(findings)
    return findings


def check_training(planned: Planned, device: torch.device, workers: int, out: Path, runs: int = 1) -> list[Finding]:
    """Every check that needs no step of the model, in the order of the run: data, classes, scale, recipe, machine.

    runs: trainings of this size that are written to `out`.
    """
    config, train, val = planned.config, planned.train, planned.val
    return [
        check_images("data.train", train, config.data.on_bad_image == "skip"),
        check_images("data.val", val),
        check_split(train, val),
        *check_objects(train, val, config.data.sampling),
        check_classes(planned.class_plan, planned.source),
        check_size(train, config),
        check_anchors(train, config, spec_of(planned.model), planned.anchors_final),
        check_rate(config, planned.start, planned.step_images),
        check_steps(config, planned.steps, planned.step_images),
        check_norm(config, planned.start, planned.model),
        check_trained(config, planned.start),
        check_start(config),
        check_crowd(planned, device),
        check_loader(planned.images, config, workers),
        check_disk(planned, out, runs),
    ]


def class_table(planned: Planned) -> list[tuple[str, int, int, str]]:
    """(class, objects in data.train, in data.val, where its rows come from) of every class."""
    train, val = objects_of_classes(planned.train), objects_of_classes(planned.val)
    rows = planned.class_plan.classes[1:] if planned.class_plan is not None else ()
    origin = {row.name: "new" if row.status == "reset" else row.describe() for row in rows}
    return [(name, train[name], val[name], origin.get(name, "new")) for name in planned.spec.categories]


NAME_WIDTH, SEVERITY_WIDTH, LINE_WIDTH = 14, 8, 80
"""Columns of a finding's name, its severity, and the whole line."""
_WHOLE_WORDS: dict[str, Any] = {"break_long_words": False, "break_on_hyphens": False}


def show(findings: Iterable[Finding]) -> None:
    """Print every finding: severity, check and value, and below it the fix."""
    for item in findings:
        head = f"{item.severity:{SEVERITY_WIDTH}}{item.check:{NAME_WIDTH}}"
        indent = " " * (NAME_WIDTH + SEVERITY_WIDTH)
        for first, text in ((head, item.value), (indent, f"fix: {item.fix}" if item.fix else "")):
            console.say(
                *textwrap.wrap(text, LINE_WIDTH, initial_indent=first, subsequent_indent=indent, **_WHOLE_WORDS)
            )


def show_notable(findings: Iterable[Finding]) -> None:
    """Print notes and warnings, one line each."""
    for item in findings:
        line = f"{item.check}: {item.value}" + (f" - {item.fix}" if item.fix else "")
        if item.severity == "warning":
            console.warn(line)
        elif item.severity == "note":
            console.say(f"note: {line}")


def stop_at_errors(findings: Iterable[Finding]) -> None:
    """Raise ConfigError for the first error."""
    for item in findings:
        if item.severity == "error":
            raise ConfigError(f"{item.check}: {item.value}", remedy=item.fix)
