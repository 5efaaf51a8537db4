"""What takes how long, as ratios measured in one run.

    python tools/benchmark.py all                 every bench, a table each
    python tools/benchmark.py conditions --write  one bench, and its section of BENCHMARKS.md written anew

A bench is a module of tools/bench with `TITLE`, `NOTE` and `run() -> list[dict]`, one dict a row. A study (a module
`study_NAME`) trains for many minutes and is run by its name alone, never by `all`.
"""

from __future__ import annotations

import argparse
import importlib
import os
import platform
import re
import sys
from datetime import date
from pathlib import Path

import torch

from drivetl import console
from drivetl.files.write import write_atomically

sys.path.insert(0, str(Path(__file__).parent))
BENCHES = {
    path.stem.removeprefix("study_"): path.stem
    for path in sorted((Path(__file__).parent / "bench").glob("*.py"))
    if path.stem != "__init__"
}
RESULTS = Path(__file__).parents[1] / "BENCHMARKS.md"


def main() -> int:
    """Run the benches asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bench", choices=["all", *BENCHES])
    parser.add_argument("--write", action="store_true", help="write the section of BENCHMARKS.md anew")
    args = parser.parse_args()
    short = [name for name, module in BENCHES.items() if name == module]
    for name in short if args.bench == "all" else [args.bench]:
        module = importlib.import_module(f"bench.{BENCHES[name]}")
        rows = module.run()
        columns = list(rows[0])
        console.table(module.TITLE, columns, [[cell(row.get(key)) for key in columns] for row in rows])
        console.say(module.NOTE)
        if args.write:
            write_section(name, section(module.TITLE, module.NOTE, columns, rows))
            console.wrote(RESULTS)
    return 0


def cell(value: object) -> str:
    """Three significant digits for numbers, text as it is, a dash for nothing."""
    if value is None:
        return "-"
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def machine() -> str:
    """The machine in words: processor, cores, versions."""
    model = platform.processor() or platform.machine()
    info = Path("/proc/cpuinfo")
    if info.is_file():
        found = re.search(r"model name\s*:\s*(.+)", info.read_text())
        model = found.group(1) if found else model
    gpu = f", {torch.cuda.get_device_name()}" if torch.cuda.is_available() else ""
    return f"{model}, {os.cpu_count()} cores{gpu}, Python {platform.python_version()}, torch {torch.__version__}"


def section(title: str, note: str, columns: list[str], rows: list[dict[str, object]]) -> str:
    """A bench's results as Markdown."""
    lines = [f"## {title}", "", f"{date.today().isoformat()}, {machine()}.", "", "| " + " | ".join(columns) + " |"]
    lines += ["|" + "---|" * len(columns)]
    lines += ["| " + " | ".join(cell(row.get(key)) for key in columns) + " |" for row in rows]
    return "\n".join([*lines, "", note, ""])


def write_section(name: str, text: str) -> None:
    """Replace the bench's section of BENCHMARKS.md, or add it."""
    begin, end = f"<!-- {name} -->", f"<!-- /{name} -->"
    block = f"{begin}\n{text}{end}\n"
    old = RESULTS.read_text("utf-8") if RESULTS.is_file() else "# Benchmarks\n\nRead them as ratios.\n"
    pattern = re.compile(re.escape(begin) + ".*?" + re.escape(end) + "\n", re.DOTALL)
    new = pattern.sub(lambda _: block, old) if pattern.search(old) else old + "\n" + block
    write_atomically(RESULTS, new)


if __name__ == "__main__":
    sys.exit(main())
