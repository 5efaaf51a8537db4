"""`drivetl budget`: how many labelled frames do I need? AP against label count, with a fitted curve."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from drivetl import console
from drivetl.commands.flags import SEED_LIMIT, add_config, add_old_name
from drivetl.errors import ConfigError

if TYPE_CHECKING:  # a mistake in the flags is reported before torch is loaded
    from drivetl.label_curve.plan import Plan

TAKES_OVERRIDES = True


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Flags of the command; every key of the YAML is a flag too."""
    add = parser.add_argument
    add_config(parser)
    counts = add(
        "--label-counts",
        metavar="N,N,all",
        help="label counts to train with, rising (default: 25,50,100,all, without those above the size of data.train)",
    )
    add_old_name(parser, "--budgets", counts)
    add(
        "--seeds",
        default="0,1,2",
        metavar="N,N",
        help="repeat every run with each seed, which also sets the order in which drives are labelled (default: 0,1,2)",
    )
    add(
        "--regimes",
        default="transfer,scratch",
        metavar="NAME,NAME=FILE.yaml",
        help=(
            "what to compare. transfer: the config; scratch: random weights; NAME=FILE.yaml: the config with the keys "
            "of that file; or a file in configs/finetune/regimes, like l2sp (default: transfer,scratch)"
        ),
    )
    add(
        "--steps",
        type=int,
        metavar="N",
        help=(
            "optimiser steps of every run, rounded to whole epochs (default: what the recipe gives each label count; "
            "if the config sets optim.epochs, that many epochs over the largest count, at least 200 steps)"
        ),
    )
    add("--metric", choices=("AP", "AP50"), default="AP", help="metric of the report (default: AP)")
    add("--target", type=float, metavar="VALUE", help="also estimate how many frames reach this value, 0 to 1")
    add(
        "--out",
        type=Path,
        default=Path("runs/budget"),
        metavar="DIR",
        help="folder of the study (default: runs/budget)",
    )
    parser.epilog = (
        "Trains every regime with every label count and seed, then fits a curve. Every key of the config is a flag: "
        "--section.key VALUE. Run the same command again to resume a killed study; finished runs are kept."
    )


def resume_flags(args: argparse.Namespace) -> list[str] | None:
    """Nothing to add: finished runs and the state of an unfinished one are kept."""
    return [] if args.out.is_dir() else None


def run(args: argparse.Namespace) -> None:
    """Plan, train the missing runs, fit, write budget.json and report.html."""
    seeds = parse_seeds(args.seeds)
    from drivetl.config import check_files, parse_overrides

    if "seed" in parse_overrides(args.rest):
        raise ConfigError("--seed: a study has several seeds", remedy="write --seeds, for example --seeds 5")
    if args.target is not None and not 0 < args.target < 1:
        raise ConfigError(f"--target {args.target:g} is not between 0 and 1", remedy="for example 0.35")
    from drivetl.label_curve.regimes import parse_regimes

    regimes = parse_regimes(args.regimes, args.config, args.rest)
    for config in regimes.values():
        check_files(config)
    with console.loading("torch"):
        from drivetl.files.write import write_atomically
        from drivetl.label_curve.page import build_label_curve_page, sentences
        from drivetl.label_curve.plan import make_plan
        from drivetl.label_curve.runs import analyse, run_all
        from drivetl.training.rundir import write_json

    plan = make_plan(args.out, regimes, args.label_counts, seeds, args.steps)
    _announce(plan)
    rows = run_all(plan)
    results = analyse(plan, rows, args.metric, args.target)
    results["sentences"] = sentences(results)
    write_json(args.out / "budget.json", results)
    write_atomically(args.out / "report.html", build_label_curve_page(results))
    _print(results)
    console.numbers(metric=args.metric, runs=len(rows), sentences=results["sentences"])
    console.wrote(args.out / "report.html")
    console.say("open it in a browser")


def parse_seeds(text: str) -> list[int]:
    """`0,1,2` -> [0, 1, 2]. Raises ConfigError for anything else and for a duplicated seed."""
    words = [word.strip() for word in text.split(",") if word.strip()]
    if not words or not all(word.isdecimal() for word in words):
        raise ConfigError(f"--seeds {text!r} is not a list of seeds", remedy="write numbers, for example 0,1,2")
    too_large = next((word for word in words if len(word) > 19 or int(word) >= SEED_LIMIT), None)
    if too_large is not None:
        raise ConfigError(f"--seeds: {too_large[:24]} is too large", remedy="write whole numbers below 2^63")
    seeds = [int(word) for word in words]
    duplicate = next((seed for index, seed in enumerate(seeds) if seed in seeds[:index]), None)
    if duplicate is not None:
        raise ConfigError(f"--seeds {text!r}: {duplicate} is duplicated", remedy="name each seed once")
    return seeds


def _announce(plan: Plan) -> None:
    from drivetl.label_curve.page import steps_in_words

    console.say(
        f"{len(plan.cells())} runs: {', '.join(plan.regimes)} x {', '.join(map(str, plan.counts))} frames x "
        f"{len(plan.seeds)} seeds"
    )
    for name, steps in plan.steps.items():
        console.say(f"{name}: from {plan.regimes[name].model.start}, {steps_in_words(steps, plan.target_steps[name])}")


def _print(results: dict[str, Any]) -> None:
    from drivetl.label_curve.page import table, validation_drives

    columns, rows = table(results)
    metric, data = results["protocol"]["metric"], results["data"]
    console.table(
        f"{metric} x 100 (95 %), {data['val_images']} frames of {validation_drives(results)}",
        ["frames", *columns],
        [
            (
                row["name"],
                *(f"{cell['value']} ({cell['span']})" if cell["span"] else cell["value"] for cell in row["cells"]),
            )
            for row in rows
        ],
    )
    for warning in results["warnings"]:
        console.warn(warning)
    for sentence in results["sentences"]:
        console.say(sentence)
