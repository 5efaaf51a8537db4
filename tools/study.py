"""Studies on real data: trainings over several seeds, and tables with 95 % intervals.

    python tools/study.py weather --shared DIR --out runs/study            train and measure; continues after a kill
    python tools/study.py weather --shared DIR --out runs/study --write    write the tables of what is finished so far
    python tools/study.py robust --shared DIR --out runs/study --write robust_fog    only this one

Several processes may work on one study: each takes the next training that no other process holds.
"""

from __future__ import annotations

import argparse
import importlib
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
import results

from drivetl import console

STUDIES = (
    "city",
    "convergence",
    "doubt",
    "keys",
    "masks",
    "real",
    "relation",
    "replay",
    "robust",
    "select",
    "unlabelled",
    "weather",
)


def argument_parser() -> argparse.ArgumentParser:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("study", choices=STUDIES)
    parser.add_argument("--shared", type=Path, required=True, help="folder of cityscapes_400, highway_camera, ...")
    parser.add_argument("--out", type=Path, default=Path("runs/study"), help="datasets, runs and detections")
    parser.add_argument("--only", default="", metavar="TEXT", help="trainings whose name contains this")
    parser.add_argument(
        "--write",
        nargs="*",
        metavar="TABLE",
        help="train nothing; write docs/results/TABLE.csv (default: all of the study) and renew docs/results.md",
    )
    return parser


def main() -> int:
    """Work on a study, or write its tables."""
    args = argument_parser().parse_args()
    from studies import runs  # torch is not needed to show the help

    study = importlib.import_module(f"studies.{args.study}")
    jobs = study.jobs(args.shared.resolve(), args.out.resolve())
    if args.write is None:
        chosen = [job for job in jobs if args.only in job.name]
        runs.work(chosen, args.out.resolve())
        if hasattr(study, "finish"):
            study.finish(chosen, args.out.resolve())
    tables = study.tables(jobs, args.out.resolve())
    names = [name for name, _, _ in tables]
    for name in args.write or ():
        if name not in names:
            console.error(f"--write {name}: not a table of {args.study}; its tables: {', '.join(names)}")
            return 2
    for name, title, rows in tables:
        columns = list(rows[0]) if rows else ["nothing finished yet"]
        console.table(title, columns, [[results.cell(row[key]) for key in columns] for row in rows])
        if args.write is not None and rows and name in (args.write or names):
            results.save(name, rows)
    if args.write is not None:
        results.render()
    return 0


if __name__ == "__main__":
    sys.exit(main())
