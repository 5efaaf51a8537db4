"""`drivetl anchors`: how well anchors cover a dataset's boxes, and better ones where there are."""

from __future__ import annotations

import argparse
from pathlib import Path

HELP = "how well anchors cover a dataset's boxes, and better ones"
TAKES_OVERRIDES = True


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """DATA.json, --config, --out; `--model.min_size 600` and the like override the config."""
    parser.add_argument("data", type=Path, help="COCO dataset json")
    parser.add_argument(
        "--config", type=Path, required=True, help="YAML, see configs/finetune: model and image scale"
    )
    parser.add_argument("--out", type=Path, help="folder for anchors.json and anchors.png")
    parser.add_argument("--seed", type=int, default=0, help="which drives are held out (default 0)")
    parser.epilog = (
        "Every key of the config is a flag: --section.key VALUE, for example --model.min_size 600."
    )


def run(args: argparse.Namespace) -> None:
    """Measure, fit, judge, print; write when --out is given."""
    from drivetl import console
    from drivetl.coco.files import new_directory
    from drivetl.coco.io import read_dataset
    from drivetl.config import load_config
    from drivetl.errors import DataError

    data = ["--data.train", str(args.data), "--data.val", str(args.data)]
    config = load_config(args.config, data + args.rest)
    dataset = read_dataset(args.data)

    from drivetl.models import anchor_fit, anchors
    from drivetl.models.anchor_plot import plot
    from drivetl.models.build import architecture

    m = config.model
    model = architecture(m.arch).build(num_classes=len(dataset.categories) + 1)
    boxes = anchors.scaled_boxes(dataset, m.min_size, m.max_size)
    if not len(boxes):
        raise DataError(
            "no boxes to measure anchors on", remedy="name a dataset with objects", file=args.data
        )
    spec, strides = anchors.spec_of(model), anchors.strides_of(model)
    cover = anchors.coverage(boxes, spec, strides)
    scale = f"shorter side {m.min_size} px, longer at most {m.max_size} px"
    title = f"Anchors of {m.arch} on {args.data.name} ({scale})"
    console.table(title, ("", "boxes", *anchor_fit.COLUMNS), anchor_fit.breakdown(boxes, cover))
    console.say(f"now: {spec.describe()}; levels at strides {', '.join(map(str, strides))} px")
    decision = anchor_fit.fit(boxes, spec, strides, args.seed)
    decision.show()
    specs, covers = {"now": spec}, {"now": cover}
    if decision.changed:
        specs["chosen"] = decision.chosen
        covers["chosen"] = anchors.coverage(boxes, decision.chosen, strides)
        rows = anchor_fit.breakdown(boxes, covers["chosen"])
        console.table("With the chosen anchors", ("", "boxes", *anchor_fit.COLUMNS), rows)
    if args.out:
        with new_directory(args.out) as folder:
            decision.save(folder / "anchors.json")
            plot(boxes, specs, covers, folder / "anchors.png")
        console.wrote(
            args.out, f"drivetl finetune --config {args.config} --data.train {args.data} --data.val VAL.json"
        )
    else:
        console.say(
            "finetune fits them by default (model.anchors: fit); --out DIR writes the table and a plot"
        )
