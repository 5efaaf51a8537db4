"""Write the generated pages of docs/: config.md, commands.md and the tables of conditions.md and presets.md.

    python tools/reference.py

Run it after a config key, a flag, a condition or a transform was changed; tests/test_docs.py compares the pages with
the code.
"""

from __future__ import annotations

import argparse
import importlib
import re
from collections.abc import Iterator
from pathlib import Path

from drivetl.commands import COMMANDS
from drivetl.conditions import CATALOG, SETS
from drivetl.config import Key, describe
from drivetl.data.augment import PRESETS, load_preset, strength, strong_share, untouched_share
from drivetl.data.transforms import TRANSFORMS
from drivetl.files.write import write_atomically

DOCS = Path(__file__).parents[1] / "docs"
BLOCK = re.compile(r"(<!-- generated: (\w+) -->\n).*?(<!-- end -->)", re.DOTALL)
"""A part of a page that this script writes; the text around it is written by hand."""
MADE_BY = {
    "convert-kitti": "tools/convert_kitti.py",
    "convert-footage": "tools/convert_footage.py",
    "finetune": "tools/finetune.py",
    "eval-robustness": "tools/eval_robustness.py",
}
"""Command -> the script that is the same command."""


def with_generated(page: str) -> str:
    """A page with every generated part made anew."""
    return BLOCK.sub(lambda match: f"{match[1]}{GENERATED[match[2]]()}\n{match[3]}", page)


def pages() -> list[Path]:
    """The pages of docs/ that have a generated part."""
    return [path for path in sorted(DOCS.rglob("*.md")) if BLOCK.search(path.read_text("utf-8"))]


def config_tables() -> str:
    """Every key of a fine-tuning YAML, one table per section."""
    sections: dict[str, list[Key]] = {}
    for key in describe():
        sections.setdefault(key.name.partition(".")[0] if "." in key.name else "", []).append(key)
    parts = []
    for section, keys in sections.items():
        rows = [(f"`{key.name}`", key.takes, f"`{_text(key.default)}`", key.help) for key in keys]
        parts.append(f"## {section or 'At the top'}\n\n" + _table(("key", "takes", "default", "meaning"), rows))
    return "\n\n".join(parts)


def command_index() -> str:
    """Every command with its summary and a link to its section."""
    rows = [(f"[{name}](#drivetl-{name})", summary) for name, summary in COMMANDS.items()]
    return _table(("command", "what it does"), rows)


def command_sections() -> str:
    """Every command with its flags."""
    return "\n\n".join(_command(name) for name in COMMANDS)


def _command(name: str) -> str:
    module = importlib.import_module(f"drivetl.commands.{name.replace('-', '_')}")
    parser = argparse.ArgumentParser(prog=f"drivetl {name}", allow_abbrev=False, add_help=False)
    module.add_arguments(parser)
    title = f"## drivetl {name}\n\n{COMMANDS[name][0].upper()}{COMMANDS[name][1:]}."
    if name in MADE_BY:
        title += f" The same as `python {MADE_BY[name]}`."
    if getattr(module, "TAKES_OVERRIDES", False):
        title += " Every key of [the config](config.md) is a flag too: `--optim.epochs 12`."
    table = _table(("argument", "meaning"), list(_arguments(parser)))
    return f"{title}\n\n{table}" + (f"\n\n{' '.join(parser.epilog.split())}" if parser.epilog else "")


def _arguments(parser: argparse.ArgumentParser) -> Iterator[tuple[str, str]]:
    for action in parser._actions:
        if action.help == argparse.SUPPRESS:
            continue
        takes = action.metavar or action.dest.upper() if action.nargs != 0 else ""
        if action.choices is not None and not action.metavar:
            takes = "|".join(map(str, action.choices))
        names = ", ".join(action.option_strings)
        shown = f"{names} {takes}".strip() if names else str(takes)
        text = " ".join((action.help or "").replace("%%", "%").split())
        yield f"`{shown}`", text + (" **(required)**" if action.required and names else "")


def condition_table() -> str:
    """Every condition with its phenomenon, model and ladder."""
    rows = []
    for name, condition in CATALOG.items():
        parameter, unit = condition.unit
        steps = ", ".join(f"{step[parameter]:g}" if parameter in step else "-" for step in condition.ladder)
        sets = ", ".join(group for group, members in SETS.items() if name in members and group != "all")
        rows.append((f"`{name}`", str(condition.phenomenon), condition.model, f"{steps} {unit}".strip(), sets))
    return _table(("condition", "phenomenon", "model", "severity 1 to 5", "sets"), rows)


def preset_table() -> str:
    """Every shipped preset: how many images it changes."""
    configs = [load_preset(name) for name in PRESETS]
    rows = [
        (f"`{config.name}`", f"{untouched_share(config):.0%}", f"{strong_share(config):.0%}", strength(config))
        for config in configs
    ]
    return _table(("preset", "look unchanged", "changed strongly", "strength"), rows)


def transform_table() -> str:
    """Every transform of a preset with its default ranges."""
    rows = []
    for name, transform in TRANSFORMS.items():
        if not name.startswith("condition:"):
            ranges = ", ".join(f"{key}: [{low:g}, {high:g}]" for key, (low, high) in transform.defaults.items())
            phenomena = ", ".join(dict.fromkeys(str(trait.phenomenon) for trait in transform.traits))
            rows.append((f"`{name}`", f"`{ranges}`" if ranges else "", phenomena))
    return _table(("name", "default range", "counts as"), rows)


def _text(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value) if value != "" else "(empty)"


def _table(head: tuple[str, ...], rows: list[tuple[str, ...]]) -> str:
    lines = [head, tuple("---" for _ in head), *rows]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines)


GENERATED = {
    "config": config_tables,
    "index": command_index,
    "commands": command_sections,
    "conditions": condition_table,
    "presets": preset_table,
    "transforms": transform_table,
}

if __name__ == "__main__":
    for page in pages():
        write_atomically(page, with_generated(page.read_text("utf-8")))
        print(f"wrote {page}")
