"""`drivetl finetune`: a YAML config in, a run directory out."""

from __future__ import annotations

import argparse
from pathlib import Path

TAKES_OVERRIDES = True


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """--config, --out, --resume, --source-data; every key of the YAML is a flag too: --optim.epochs 12."""
    parser.add_argument(
        "--config",
        type=Path,
        required=True,
        action="append",
        help="YAML, see configs/finetune; give it again to lay one over another: later keys win",
    )
    parser.add_argument("--out", type=Path, help="run directory (default: runs/<names of the configs>)")
    parser.add_argument("--resume", action="store_true", help="go on with the run in --out, bit for bit")
    parser.add_argument(
        "--source-data",
        type=Path,
        metavar="JSON",
        help="validation data of the old domain: the source's classes there before and after (forgetting.json)",
    )
    parser.epilog = "Every key of the config is a flag: --section.key VALUE, for example --optim.epochs 12."


def run(args: argparse.Namespace) -> None:
    """Fine-tune."""
    from drivetl.config import load_config

    config = load_config(args.config, args.rest)  # a mistake is said before torch is loaded
    from drivetl.training.finetune import finetune

    out = args.out or Path("runs") / "-".join(path.stem for path in args.config)
    finetune(config, out, resume=args.resume, source_data=args.source_data)
