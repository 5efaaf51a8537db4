"""`drivetl anchors`: measure how well anchors cover a dataset's boxes, and fit better ones."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from drivetl.commands.flags import add_config, input_path, new_path

if TYPE_CHECKING:
    from drivetl.coco.records import Dataset
    from drivetl.config import FinetuneConfig
    from drivetl.models.build import ModelSpec

TAKES_OVERRIDES = True


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Flags of the command; every key of the config is a flag too: --model.min_size 600."""
    parser.add_argument("data", type=input_path, metavar="DATA.json", help="COCO dataset json to measure and fit on")
    add_config(parser)
    parser.add_argument("--out", type=new_path, metavar="DIR", help="new folder for anchors.json and anchors.png")
    parser.epilog = (
        "Uses the config of finetune and makes the same decision. Every key of the config is a flag, after the "
        "dataset: --section.key VALUE, for example --model.min_size 600, or --seed 1 to hold out other drives."
    )


def run(args: argparse.Namespace) -> None:
    """Measure the coverage, fit anchors, decide, print; write when --out is given."""
    from drivetl import console
    from drivetl.coco.io import read_dataset
    from drivetl.config import check_files, load_config
    from drivetl.errors import ConfigError, DataError
    from drivetl.files.write import new_directory

    config = load_config(args.config, ["--data.train", str(args.data), "--data.val", str(args.data), *args.rest])
    if config.data.train != str(args.data):
        raise ConfigError(
            f"--data.train is {config.data.train}, the dataset to measure is {args.data}", remedy="leave the flag out"
        )
    check_files(config)
    dataset = read_dataset(args.data)
    with console.loading("torch"):
        from drivetl.draw.anchor_plot import AnchorSet, plot
        from drivetl.models import anchor_fit, anchors
        from drivetl.models.build import build_model

    m = config.model
    dataset, spec, source_name = _as_finetune_would(config, dataset)
    model = build_model(spec)
    boxes = anchors.scaled_boxes(dataset, m.min_size, m.max_size)
    if not len(boxes):
        raise DataError("no boxes to measure anchors on", remedy="name a dataset with objects", file=args.data)
    before, strides = anchors.spec_of(model), anchors.strides_of(model)
    cover = anchors.coverage(boxes, before, strides)
    scale = f"shorter side {m.min_size} px, longer at most {m.max_size} px"
    title = f"Anchors of {source_name} on {len(dataset.images)} images of {args.data.name} ({scale})"
    console.table(title, ("", "boxes", *anchor_fit.COLUMNS), anchor_fit.breakdown(boxes, cover))
    console.say(f"now: {before.describe()}; levels at strides {', '.join(map(str, strides))} px")
    decision = anchor_fit.fit(boxes, before, strides, config.seed)
    decision.show()
    console.numbers(boxes=len(boxes), changed=decision.changed)
    specs, covers = {"now": before}, {"now": cover}
    if decision.changed:
        specs["chosen"] = decision.chosen
        covers["chosen"] = anchors.coverage(boxes, decision.chosen, strides)
        rows = anchor_fit.breakdown(boxes, covers["chosen"])
        console.table("With the chosen anchors", ("", "boxes", *anchor_fit.COLUMNS), rows)
    if m.anchors == "keep":
        console.say(
            f"model.anchors is keep: finetune keeps those of {source_name}; with model.anchors fit it decides as above"
        )
    if args.out:
        with new_directory(args.out) as folder:
            decision.save(folder / "anchors.json")
            sets = {
                name: AnchorSet([spec.shapes(level) for level in range(len(spec.sizes))], covers[name].best_iou)
                for name, spec in specs.items()
            }
            plot(boxes.boxes[:, 2:] - boxes.boxes[:, :2], sets, folder / "anchors.png")
        _print_next(args)
    elif m.anchors == "fit":
        console.say("finetune decides the same (model.anchors: fit); --out DIR writes the table and a plot")


def _as_finetune_would(config: FinetuneConfig, train: Dataset) -> tuple[Dataset, ModelSpec, str]:
    """(training images, model, name of the run or architecture that its anchors come from).

    Raises ConfigError, CheckpointError.

    Published weights are not downloaded: they have the default anchors of their architecture.
    """
    from drivetl.config import STARTS
    from drivetl.models.source import read_source
    from drivetl.training.prepare import model_spec, training_subset

    m, train = config.model, training_subset(config, train)
    source = None if m.start in STARTS else read_source(m.start, m.arch)
    spec = model_spec(config, train.categories, frozen=False, source=source)
    inherited = source is not None and source.spec is not None
    return train, spec, source.description if inherited and source else m.arch


def _print_next(args: argparse.Namespace) -> None:
    """What was written, and `drivetl finetune` with the configs and flags of this call and the run's validation data:
    what they name, else val.json next to the dataset. A hint where there is no such file."""
    from drivetl import console
    from drivetl.config import parse_overrides, written_keys

    overridden = parse_overrides(args.rest)
    named = {key: text for path in args.config for key, text in written_keys(path).items()} | overridden
    val = Path(named["data.val"]) if named.get("data.val") else args.data.with_name("val.json")
    is_usable = val.is_file() and not (args.data.is_file() and val.samefile(args.data))
    words = [word for path in args.config for word in ("--config", path)]
    for key, value in (("data.train", args.data), ("data.val", val if is_usable else "VAL.json")):
        words += [] if key in overridden else [f"--{key}", value]
    line = console.command("finetune", *words, *args.rest)
    console.wrote(args.out, line if is_usable else "")
    if not is_usable:
        console.say(f"to train with validation data VAL.json: {line}")
