"""`drivetl finetune`: train from a YAML config and write a run directory."""

from __future__ import annotations

import argparse
import textwrap
from pathlib import Path

from drivetl.commands.flags import add_config, input_path

TAKES_OVERRIDES = True


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Flags of the command; every key of the config is a flag too: --optim.epochs 12."""
    add_config(parser)
    parser.add_argument(
        "--out",
        type=Path,
        metavar="RUN",
        help="run directory, new unless --resume is given (default: runs/<names of the configs>)",
    )
    parser.add_argument(
        "--resume",
        action="store_true",
        help="continue the run in --out; the result is bit-identical to an uninterrupted run",
    )
    parser.add_argument(
        "--source-data",
        type=input_path,
        metavar="JSON",
        help="validation data of the domain that --model.start was trained on: forgetting is measured there",
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
    from drivetl.config import load_config

    config = load_config(args.config, args.rest)  # a mistake is reported before torch is loaded
    from drivetl.training.finetune import finetune

    accept = args.accept_changed_images
    finetune(config, _out(args), resume=args.resume, source_data=args.source_data, accept_changed_images=accept)


def _out(args: argparse.Namespace) -> Path:
    return args.out or Path("runs") / "-".join(path.stem for path in args.config)


def resume_flags(args: argparse.Namespace) -> list[str] | None:
    """--resume once the run has a saved state."""
    from drivetl.training.trainer import STATE

    return ([] if args.resume else ["--resume"]) if (_out(args) / STATE).is_file() else None


def _every_key() -> str:
    """The epilog: each key of the config with its type, default and meaning."""
    from drivetl.config import describe

    lines = ["Every key of the config is a flag: --section.key VALUE, for example --optim.epochs 12."]
    lines += ["Keys with their type and, in brackets, their default:", ""]
    for key in describe():
        default = "true" if key.default is True else "false" if key.default is False else key.default
        shown = "none" if default == "" else default
        lines.append(f"  --{key.name}: {key.takes} [{shown}]")
        lines += textwrap.wrap(key.help, 100, initial_indent=" " * 6, subsequent_indent=" " * 6)
    return "\n".join(lines)
