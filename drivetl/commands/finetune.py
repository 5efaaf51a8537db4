"""`drivetl finetune`: train from a YAML config and write a run directory."""

from __future__ import annotations

import argparse
import os
import textwrap
from pathlib import Path
from typing import TYPE_CHECKING

from drivetl import console
from drivetl.commands.flags import add_config, default_run, input_path
from drivetl.errors import ConfigError, DataError
from drivetl.files.runs import STATE, check_out, resumes

if TYPE_CHECKING:
    from drivetl.config import FinetuneConfig

TAKES_OVERRIDES = True
FRAMES_PER_S = 2.0
"""Frames taken of a video that is named as data.unlabelled."""
RESTARTS = "TORCHELASTIC_RESTART_COUNT"
"""Environment variable in which torchrun --max-restarts says how often it has started this process anew."""
HELP_WIDTH = 78
"""Columns of the list of keys, as argparse's own lines have them in a terminal of 80 columns."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Flags of the command; every key of the config is a flag too: --optim.epochs 12."""
    add_config(parser, without="; not needed with --resume, a run has its own")
    parser.add_argument(
        "--out",
        type=Path,
        metavar="RUN",
        help="run directory, new unless --resume is given (default: runs/<names of the configs>)",
    )
    parser.add_argument(
        "--resume",
        action="store_true",
        help="continue the run in --out, no more flags are needed; the result is bit-identical to an uninterrupted run",
    )
    parser.add_argument(
        "--continue",
        dest="continues",
        action="store_true",
        help="begin the run in --out, or resume it where it has begun: one command for jobs that may be stopped",
    )
    parser.add_argument(
        "--source-data",
        type=input_path,
        metavar="JSON",
        help="validation data of the domain that --model.start was trained on: forgetting is measured there",
    )
    parser.add_argument(
        "--compare-without-unlabelled",
        dest="compare_without",
        action="store_true",
        help="afterwards train the same without data.unlabelled into RUN_without, and compare both on data.val",
    )
    parser.add_argument(
        "--print-config", action="store_true", help="print the effective config as YAML and stop; nothing is trained"
    )
    parser.add_argument(
        "--accept-changed-images",
        action="store_true",
        help="with --resume: continue although image files have changed; provenance.json records it",
    )
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.epilog = _every_key()


def run(args: argparse.Namespace) -> None:
    """Fine-tune."""
    from drivetl.config import check_files, check_footage, dump_yaml, is_auto, load_config

    if args.continues and args.resume:
        raise ConfigError("--continue and --resume", remedy="leave one of them out")
    is_restarted = int(os.environ.get(RESTARTS, "0")) > 0
    args.resume = args.resume or ((args.continues or is_restarted) and resumes(_out(args)))
    args.config = args.config or _config_of_the_run(args)
    config = load_config(args.config, args.rest)  # a mistake is reported before torch is loaded
    if args.print_config:
        print(dump_yaml(config), end="")
        return
    check_files(config)
    if args.compare_without:
        check_footage(config)
    if console.is_leader():  # which other processes may have begun to write
        check_out(_out(args), args.resume)

    from drivetl.data.augment import load_preset

    if not is_auto(config.data.augment):
        load_preset(config.data.augment)
    with console.loading("torch"):
        from drivetl.training.finetune import finetune

    config = _with_frames(config, _out(args))
    accept = args.accept_changed_images
    outcome = finetune(
        config,
        _out(args),
        resume=args.resume,
        source_data=args.source_data,
        accept_changed_images=accept,
        compare_without=args.compare_without,
    )
    best = {key: outcome.best.get(key) for key in ("AP", "AP50", "epoch", "step")}
    console.numbers(**best, verdict=outcome.comparison.get("verdict"))
    if outcome.gain:
        delta = {key: outcome.gain["delta"][key] for key in ("point", "low", "high", "p")}
        console.numbers(unlabelled_gain=delta, use=outcome.gain["use"])


def _with_frames(config: FinetuneConfig, out: Path) -> FinetuneConfig:
    """A video as data.unlabelled becomes the list of its frames, next to the run; a resumed run has them already."""
    from drivetl.config import with_values
    from drivetl.files.video import VIDEO_SUFFIXES

    video = Path(config.data.unlabelled)
    if video.suffix.lower() not in VIDEO_SUFFIXES or not video.is_file():
        return config
    from drivetl.adapters.video import extract_videos

    frames = out.with_name(f"{out.name}.frames")
    extract_videos(video, frames, fps=FRAMES_PER_S)
    return with_values(config, {"data.unlabelled": str(frames / "frames.json")})


def _config_of_the_run(args: argparse.Namespace) -> list[Path]:
    """The config that a resumed run keeps. Raises DataError where it is missing, exits where --config is needed."""
    if not args.resume or args.out is None:
        args.parser.error(f"the following arguments are required: {'--out' if args.resume else '--config'}")
    path: Path = args.out / "config.yaml"
    if not path.is_file():
        raise DataError("nothing to resume (no config.yaml)", remedy="name a run that finetune began", file=args.out)
    return [path]


def _out(args: argparse.Namespace) -> Path:
    return args.out or default_run(args.config or ())


def resume_flags(args: argparse.Namespace) -> list[str] | None:
    """--resume once the run has a saved state."""
    return ([] if args.resume or args.continues else ["--resume"]) if (_out(args) / STATE).is_file() else None


def _every_key() -> str:
    """The epilog: each key of the config with its type, default and meaning."""
    from drivetl.config import describe

    lines = ["Every key of the config is a flag: --section.key VALUE, like --optim.epochs 12."]
    lines += ["Keys with their type and, in brackets, their default:", ""]
    for key in describe():
        default = "true" if key.default is True else "false" if key.default is False else key.default
        shown = "none" if default == "" else default
        takes = f"--{key.name}: {key.takes} [{shown}]"
        lines += textwrap.wrap(takes, HELP_WIDTH, initial_indent="  ", subsequent_indent=" " * 8)
        lines += textwrap.wrap(key.help, HELP_WIDTH, initial_indent=" " * 6, subsequent_indent=" " * 6)
    return "\n".join(lines)
