"""`drivetl budget`: how many labelled frames do I need?"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from drivetl import console
from drivetl.commands.flags import SEED_LIMIT
from drivetl.errors import ConfigError

if TYPE_CHECKING:  # a mistake in the flags is said before torch is loaded
    from drivetl.label_curve.plan import Plan

TAKES_OVERRIDES = True


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Flags of the command; every key of the YAML is a flag too."""
    parser.add_argument(
        "--config", type=Path, required=True, action="append", help="YAML, see configs/finetune; later ones win"
    )
    parser.add_argument("--budgets", help="label counts, rising (25,50,100,all: as far as data.train has that many)")
    parser.add_argument("--seeds", default="0,1,2", help="each draws another order of drives (0,1,2)")
    parser.add_argument(
        "--regimes",
        default="transfer,scratch",
        help="transfer: the config; scratch: from random weights; NAME=FILE.yaml: a file laid over the config",
    )
    parser.add_argument(
        "--steps",
        type=int,
        help=(
            "optimiser steps of every run, as nearly as whole epochs can (default: the recipe's for each label count;"
            " where optim.epochs is written, that many passes over the largest count, at least 200)"
        ),
    )
    parser.add_argument("--metric", choices=("AP", "AP50"), default="AP", help="what the page is about (AP)")
    parser.add_argument("--target", type=float, metavar="VALUE", help="how many frames reach this metric, 0..1")
    parser.add_argument("--out", type=Path, default=Path("runs/budget"), help="folder (runs/budget)")
    parser.epilog = (
        "With --steps, or where the config writes optim.epochs, every run of a regime makes that number of steps, as "
        "nearly as whole epochs can; else each makes as many as `optim.recipe: auto` gives its number of frames. "
        "The same command goes on where a killed one stopped; finished runs are kept."
    )


def run(args: argparse.Namespace) -> None:
    """Plan, train what is missing, fit, write budget.json and report.html."""
    seeds = parse_seeds(args.seeds)
    from drivetl.config import parse_overrides

    if "seed" in parse_overrides(args.rest):
        raise ConfigError(
            "--seed: a study has several, one for each order of drives", remedy="write --seeds, for example --seeds 5"
        )
    if args.target is not None and not 0 < args.target < 1:
        raise ConfigError(f"--target {args.target:g} is not between 0 and 1", remedy="for example 0.35")
    from drivetl.files.write import write_atomically
    from drivetl.label_curve.page import build_label_curve_page, sentences
    from drivetl.label_curve.plan import make_plan
    from drivetl.label_curve.regimes import parse_regimes
    from drivetl.label_curve.runs import analyse, run_all
    from drivetl.training.rundir import write_json

    regimes = parse_regimes(args.regimes, args.config, args.rest)
    plan = make_plan(args.out, regimes, args.budgets, seeds, args.steps)
    _announce(plan)
    rows = run_all(plan)
    results = analyse(plan, rows, args.metric, args.target)
    results["sentences"] = sentences(results)
    write_json(args.out / "budget.json", results)
    write_atomically(args.out / "report.html", build_label_curve_page(results))
    _print(results)
    console.wrote(args.out / "report.html", f"open {args.out / 'report.html'} in a browser")


def parse_seeds(text: str) -> list[int]:
    """`0,1,2` -> [0, 1, 2]. Raises ConfigError for anything else, or a seed that is duplicated."""
    words = [word.strip() for word in text.split(",") if word.strip()]
    if not words or not all(word.isdecimal() for word in words):
        raise ConfigError(f"--seeds {text!r}", remedy="write numbers, for example 0,1,2")
    beyond = next((word for word in words if len(word) > 19 or int(word) >= SEED_LIMIT), None)
    if beyond is not None:
        raise ConfigError(f"--seeds: {beyond[:24]} is too large", remedy="write whole numbers below 2^63")
    twice = [word for place, word in enumerate(words) if int(word) in map(int, words[:place])]
    if twice:
        raise ConfigError(f"--seeds {text!r}: {twice[0]} is duplicated", remedy="name each seed once")
    return [int(word) for word in words]


def _announce(plan: Plan) -> None:
    from drivetl.label_curve.page import at_each

    console.say(
        f"{len(plan.cells())} runs: {', '.join(plan.regimes)} x {', '.join(map(str, plan.counts))} frames x "
        f"{len(plan.seeds)} seeds"
    )
    for name, steps in plan.steps.items():
        console.say(f"{name}: from {plan.regimes[name].model.start}, {at_each(steps, plan.wanted[name])}")


def _print(results: dict[str, Any]) -> None:
    from drivetl.label_curve.page import table, validation_drives

    columns, rows = table(results)
    metric, data = results["protocol"]["metric"], results["data"]
    console.table(
        f"{metric} x 100 (95 %), {data['val_images']} frames of {validation_drives(results)}",
        ["frames", *columns],
        [
            (row["name"], *(f"{one['value']} ({one['span']})" if one["span"] else one["value"] for one in row["cells"]))
            for row in rows
        ],
    )
    for warning in results["warnings"]:
        console.warn(warning)
    for sentence in results["sentences"]:
        console.say(sentence)
