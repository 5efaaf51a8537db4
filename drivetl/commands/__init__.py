"""One module per `drivetl` command: add_arguments(parser), run(args) -> int | None. Its one-line help is in COMMANDS.

A command that keeps its work when it is interrupted has resume_flags(args) -> list[str] | None: what to add to the same
command to continue it, None when nothing was kept.

A module is imported when its command runs, so `drivetl convert-kitti` never loads torch.
"""

from __future__ import annotations

import importlib
import re
import shlex
from collections.abc import Sequence
from typing import Any

from drivetl import __version__, console
from drivetl.commands.flags import COMMAND, Parser, add_common, check_paths

COMMANDS = {
    "sample": "write the sample city: two synthetic towns with exact boxes, masks and depth",
    "convert-kitti": "convert KITTI object or tracking data to one COCO dataset, split by drive",
    "convert-footage": "convert custom footage (CVAT, LabelMe, VOC, YOLO, BDD100K, ...) to one COCO dataset",
    "select": "which unlabelled frames to label next: a list with reasons, pre-labels and a contact sheet",
    "labels": "write a dataset's labels, or detections, as KITTI, YOLO, VOC or CVAT files",
    "split": "split a COCO dataset into train and val; no drive is on both sides",
    "merge": "merge COCO datasets; each image records which classes its source labels",
    "audit": "find errors and oddities in a COCO dataset",
    "doubt": "find labels that are probably wrong: overlooked, of a swapped class, badly located",
    "view": "draw a dataset's boxes, masks and ignore regions on its images",
    "anchors": "measure how well anchors cover a dataset's boxes, and fit better ones",
    "finetune": "fine-tune a detector from a YAML config",
    "budget": "how many labelled frames do I need: AP against label count, extrapolated",
    "predict": "run a trained detector on images or a video; write its detections and draw them",
    "evaluate": "compute COCO or KITTI metrics for any detector's results",
    "eval-robustness": "evaluate a run under conditions x severities: mPC, rPC and a report",
    "compare": "compare two runs on the same images, with intervals and a release gate",
    "conditions": "draw conditions on an image, write a dataset under them, or list them",
    "export": "export a run to ONNX and compare it with ONNX Runtime",
    "info": "show what is in a dataset json or a run directory, or check a config before training",
    "completion": "print the script that makes bash, zsh or fish complete drivetl's commands and flags",
    "demo": "sample data, training and a robustness report in minutes, on a CPU",
}


def build_parser(command: str | None = None) -> Parser:
    """The parser of all commands, or, with the flags of this command only, of the one that is to run."""
    parser = Parser(prog="drivetl", description="Fine-tune detectors for driving scenes.")
    parser.add_argument("--version", action="version", version=f"drivetl {__version__}")
    commands = parser.add_subparsers(dest=COMMAND, metavar="COMMAND", required=True)
    for name, summary in COMMANDS.items():
        sub = commands.add_parser(name, help=summary, description=summary)
        if command is None or command == name:
            module = _module_of(name)
            module.add_arguments(sub)
            add_common(sub)
            sub.epilog = "\n\n".join(filter(None, (sub.epilog, f"More: docs/{EXPLAINED_IN.get(name, 'commands.md')}.")))
            sub.set_defaults(run=module.run, overrides=_takes_overrides(name), parser=sub)
            sub.set_defaults(resume_flags=getattr(module, "resume_flags", lambda _: None))
    return parser


def command_of(arguments: Sequence[str]) -> str:
    """The command's name among the arguments, or ''."""
    return next((word for word in arguments if not word.startswith("-")), "")


EXPLAINED_IN = {
    "convert-kitti": "first_hour.md",
    "convert-footage": "footage.md",
    "select": "label_next.md",
    "labels": "interop.md",
    "split": "footage.md",
    "merge": "footage.md",
    "finetune": "choosing.md",
    "budget": "choosing.md",
    "doubt": "doubt.md",
    "predict": "predict.md",
    "evaluate": "statistics.md",
    "compare": "statistics.md",
    "eval-robustness": "report.md",
    "conditions": "conditions.md",
    "export": "onnx.md",
    "info": "choosing.md",
}
"""Command -> the page of docs/ that explains it."""


def _module_of(command: str) -> Any:
    return importlib.import_module(f"drivetl.commands.{command.replace('-', '_')}")


def _takes_overrides(command: str) -> bool:
    """Whether keys of the config are flags of the command too."""
    return command in COMMANDS and bool(getattr(_module_of(command), "TAKES_OVERRIDES", False))


def _with_values(arguments: list[str]) -> list[str]:
    """The arguments with every key of the config and its value as one word, `--optim.lr=0.1`: argparse, which does not
    know the keys, would take the value for a PATH."""
    words: list[str] = []
    for word in arguments:
        if words and re.fullmatch(r"--(\w+\.\w+|seed)", words[-1]) and not word.startswith("--"):
            words[-1] += f"={word}"
        else:
            words.append(word)
    return words


def dispatch(arguments: list[str]) -> int:
    """Parse and run one command. Returns its exit code; DrivetlError is left to the caller."""
    parser = build_parser(command_of(arguments))
    if not arguments:
        parser.print_help()
        return 0
    words = _with_values(arguments) if _takes_overrides(command_of(arguments)) else arguments
    args, rest = parser.parse_known_args(words)
    rest = [part for word in rest for part in ([word] if word in arguments else word.split("=", 1))]
    takes_keys = args.overrides and getattr(args, "path", None) is None  # `info PATH` has no config
    if rest and not (takes_keys and rest[0].startswith("--")):
        args.parser.refuse(rest)
    if rest and args.parser.is_misspelt(rest):
        raise args.parser.unknown(rest[0].partition("=")[0])
    args.rest = rest
    check_paths(args.parser, args)
    console.be_quiet(args.quiet)
    try:
        return int(args.run(args) or 0)
    except KeyboardInterrupt as stop:
        flags = args.resume_flags(args)
        # of the outermost command, which continues those that it called
        again = f"continue with: {shlex.join(['drivetl', *arguments, *(flags or ())])}"
        stop.__notes__ = ["nothing was kept: run the command again to start over" if flags is None else again]
        raise
