"""Benchmarks of speed and memory, as ratios measured in one run.

    python tools/benchmark.py all                 print the table of every benchmark
    python tools/benchmark.py conditions --write  one benchmark; also write docs/results/conditions.csv and the page

A benchmark is a module of tools/bench with `TITLE` and `run() -> list[dict]`, one dict per row. What its columns mean
is written in docs/results.md. A study (a module `study_NAME`) trains for many minutes: `all` leaves it out.
`training --syncs` counts where the host waits for the device in a training step and in inference; it needs no GPU.
`training --curves OUT.png` lays the loss of a training over that of torchvision's reference loop.
`training --device cuda` measures the large models at batch 2 to 16 as well; tools/gpu_check.sh runs all that needs a
GPU.
"""

from __future__ import annotations

import argparse
import importlib
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
import results

from drivetl import console

BENCHES = {
    path.stem.removeprefix("study_"): path.stem
    for path in sorted((Path(__file__).parent / "bench").glob("*.py"))
    if path.stem != "__init__"
}


def argument_parser() -> argparse.ArgumentParser:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bench", choices=["all", *BENCHES])
    parser.add_argument("--write", action="store_true", help="write docs/results/NAME.csv and renew docs/results.md")
    parser.add_argument("--device", default="auto", help="training: auto, cpu, cuda or cuda:N (default: auto)")
    parser.add_argument("--seconds", type=float, help="training: no row begins that would end later (default: 400)")
    parser.add_argument("--curves", type=Path, metavar="PNG", help="training: draw loss curves over torchvision's")
    parser.add_argument("--syncs", action="store_true", help="training: count the waits for a GPU; needs none")
    return parser


def main() -> int:
    """Run one benchmark, or all of them."""
    parser = argument_parser()
    args = parser.parse_args()
    if (args.syncs or args.curves) and (args.bench != "training" or args.write or (args.syncs and args.curves)):
        parser.error("--syncs and --curves are for training, one at a time and without --write")
    if args.bench != "training" and (args.device != "auto" or args.seconds is not None):
        parser.error("--device and --seconds are for training")
    short = [name for name, module in BENCHES.items() if name == module]
    for name in short if args.bench == "all" else [args.bench]:
        module = importlib.import_module(f"bench.{BENCHES[name]}")
        options = {"device_name": args.device, "budget_s": args.seconds} if name == "training" else {}
        if args.syncs:
            title, rows = module.SYNCS, module.syncs()
        elif args.curves:
            title, rows = module.CURVES_TITLE, module.curves(args.device, args.curves)
        else:
            title, rows = module.TITLE, module.run(**options)
        columns = list(rows[0])
        console.table(title, columns, [[results.cell(row.get(key)) for key in columns] for row in rows])
        if args.curves:
            console.wrote(args.curves)
        if args.write:
            results.save(name, rows)
    if args.write:
        results.render()
    return 0


if __name__ == "__main__":
    sys.exit(main())
