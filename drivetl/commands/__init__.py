"""One module per `drivetl` command: add_arguments(parser), run(args) -> int | None. Its line of help is in COMMANDS.

A module is imported when its command runs, so `drivetl convert-kitti` never loads torch.
"""

from __future__ import annotations

import argparse
import importlib

from drivetl import __version__

COMMANDS = {
    "sample": "write the sample city: two towns with exact boxes, masks and depth",
    "convert-kitti": "KITTI object data -> one COCO dataset, split by drive",
    "convert-footage": "custom footage (CVAT, LabelMe, VOC, YOLO, BDD100K, ...) -> one COCO dataset",
    "labels": "a COCO dataset -> the label files of another tool: KITTI, YOLO or VOC",
    "split": "split a COCO dataset without leaking a drive",
    "merge": "several COCO datasets -> one that knows what each of them labels",
    "audit": "what is wrong and what is odd in a COCO dataset",
    "view": "pictures of a dataset with its boxes drawn",
    "anchors": "how well anchors cover a dataset's boxes, and better ones",
    "finetune": "fine-tune a detector from a YAML config",
    "budget": "how many labelled frames do I need: AP against label count, and what more would buy",
    "predict": "run a trained detector on images; a COCO results list and pictures",
    "evaluate": "COCO or KITTI metrics of any detector's results",
    "eval-robustness": "clean plus conditions x severities: mPC, rPC and a report",
    "compare": "is run A better than run B, with intervals",
    "conditions": "a contact sheet of weather, lighting and camera conditions",
    "export": "export a run to ONNX",
    "info": "what a dataset json or a run directory holds",
    "demo": "from nothing to a robustness report in minutes, on a CPU",
}


def dispatch(arguments: list[str]) -> int:
    """Parse and run one command; errors rise to the caller."""
    parser = argparse.ArgumentParser(
        prog="drivetl", description="Fine-tune detectors for driving scenes.", allow_abbrev=False
    )
    parser.add_argument("--version", action="version", version=f"drivetl {__version__}")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    wanted = next((word for word in arguments if not word.startswith("-")), "")
    for name, summary in COMMANDS.items():
        # abbreviations would take --seed, a key of the config, for --seeds
        sub = commands.add_parser(name, help=summary, description=summary, allow_abbrev=False)
        if name == wanted:
            module = importlib.import_module(f"drivetl.commands.{name.replace('-', '_')}")
            module.add_arguments(sub)
            sub.set_defaults(run=module.run, overrides=getattr(module, "TAKES_OVERRIDES", False))
    args, rest = parser.parse_known_args(arguments)
    if rest and not args.overrides:
        commands.choices[args.command].error(f"unrecognized arguments: {' '.join(rest)}")
    args.rest = rest
    return int(args.run(args) or 0)
