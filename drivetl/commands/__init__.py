"""One module per `drivetl` command: add_arguments(parser), run(args) -> int | None. Its one-line help is in COMMANDS.

A command that keeps its work when it is interrupted has resume_flags(args) -> list[str] | None: what to add to the same
command to continue it, None when nothing was kept.

A module is imported when its command runs, so `drivetl convert-kitti` never loads torch.
"""

from __future__ import annotations

import argparse
import importlib
import shlex
from typing import Any

from drivetl import __version__
from drivetl.console import printable

COMMANDS = {
    "sample": "write the sample city: two synthetic towns with exact boxes, masks and depth",
    "convert-kitti": "convert KITTI object or tracking data to one COCO dataset, split by drive",
    "convert-footage": "convert custom footage (CVAT, LabelMe, VOC, YOLO, BDD100K, ...) to one COCO dataset",
    "labels": "write the labels of a COCO dataset as KITTI, YOLO or VOC files",
    "split": "split a COCO dataset into train and val; no drive is on both sides",
    "merge": "merge COCO datasets; each image records which classes its source labels",
    "audit": "find errors and oddities in a COCO dataset",
    "view": "draw a dataset's boxes, masks and ignore regions on its images",
    "anchors": "measure how well anchors cover a dataset's boxes, and fit better ones",
    "finetune": "fine-tune a detector from a YAML config",
    "budget": "how many labelled frames do I need: AP against label count, extrapolated",
    "predict": "run a trained detector on images; write COCO results and annotated images",
    "evaluate": "compute COCO or KITTI metrics for any detector's results",
    "eval-robustness": "evaluate a run under conditions x severities: mPC, rPC and a report",
    "compare": "compare two runs on the same images, with intervals and a release gate",
    "conditions": "draw weather, lighting and camera conditions on an image, or list them",
    "export": "export a run to ONNX and compare it with ONNX Runtime",
    "info": "show what is in a dataset json or a run directory",
    "demo": "sample data, training and a robustness report in minutes, on a CPU",
}


class Parser(argparse.ArgumentParser):
    """Prints its messages, which repeat the command line, without characters that a terminal obeys."""

    def _print_message(self, message: str, file: Any = None) -> None:
        super()._print_message("\n".join(map(printable, message.split("\n"))), file)


def dispatch(arguments: list[str]) -> int:
    """Parse and run one command. Returns its exit code; DrivetlError is left to the caller."""
    parser = Parser(prog="drivetl", description="Fine-tune detectors for driving scenes.", allow_abbrev=False)
    parser.add_argument("--version", action="version", version=f"drivetl {__version__}")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    command = next((word for word in arguments if not word.startswith("-")), "")
    for name, summary in COMMANDS.items():
        # with abbreviations, --seed (a key of the config) would be read as --seeds
        sub = commands.add_parser(name, help=summary, description=summary, allow_abbrev=False)
        if name == command:
            module = importlib.import_module(f"drivetl.commands.{name.replace('-', '_')}")
            module.add_arguments(sub)
            sub.set_defaults(run=module.run, overrides=getattr(module, "TAKES_OVERRIDES", False))
            sub.set_defaults(resume_flags=getattr(module, "resume_flags", lambda _: None))
    args, rest = parser.parse_known_args(arguments)
    if rest and not args.overrides:
        commands.choices[args.command].error(f"unrecognized arguments: {' '.join(rest)}")
    args.rest = rest
    try:
        return int(args.run(args) or 0)
    except KeyboardInterrupt as stop:
        flags = args.resume_flags(args)
        if flags is not None:
            stop.add_note(f"continue with: {shlex.join(['drivetl', *arguments, *flags])}")
        raise
