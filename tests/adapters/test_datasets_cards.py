"""The cards under datasets/: every source has a taxonomy that loads and a card whose commands parse."""

from __future__ import annotations

import argparse
import importlib
import re
import shlex
from pathlib import Path

import pytest

from drivetl.adapters.footage import FORMATS
from drivetl.coco.taxonomy import load_taxonomy

DATASETS = Path(__file__).parents[2] / "datasets"
COCO = load_taxonomy(DATASETS / "coco" / "taxonomy.yaml")
COCO_NAMES = {*COCO.categories, *COCO.drop}


def test_every_format_has_its_folder() -> None:
    assert set(FORMATS) <= {path.name for path in DATASETS.iterdir()} and len(COCO_NAMES) == 80


@pytest.mark.parametrize("folder", sorted(path.parent.name for path in DATASETS.glob("*/taxonomy.yaml")))
def test_relations_name_coco_classes(folder: str) -> None:
    taxonomy = load_taxonomy(DATASETS / folder / "taxonomy.yaml")
    for item in taxonomy.classes:
        assert item.labels and {name for name, _ in item.grows_from} <= COCO_NAMES


FOLDERS = sorted(path.parent.name for path in DATASETS.glob("*/README.md"))
COMMAND = re.compile(r"^(?:    )?drivetl (?P<name>[a-z-]+) (?P<words>(?:.*\\\n)*.*)$", re.MULTILINE)


def parser_of(command: str) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(exit_on_error=False)
    importlib.import_module(f"drivetl.commands.{command.replace('-', '_')}").add_arguments(parser)
    return parser


@pytest.mark.parametrize("folder", FOLDERS)
def test_the_commands_of_a_card_parse(folder: str) -> None:
    card = (DATASETS / folder / "README.md").read_text()
    assert "icence" in card
    commands = list(COMMAND.finditer(card))
    assert any(command["name"].startswith("convert-") for command in commands)
    flags: set[str] = set()
    for command in commands:
        parser = parser_of(command["name"])
        words = shlex.split(command["words"].replace("\\\n", ""), comments=True)
        args = parser.parse_args(words)  # exits where a flag or a choice is unknown
        taxonomy = getattr(args, "taxonomy", None)
        if taxonomy and taxonomy.parts[0] == "datasets":
            assert (DATASETS.parent / taxonomy).is_file()
        flags |= {flag for action in parser._actions for flag in action.option_strings}
    assert set(re.findall(r"--[a-z][a-z-]+", card)) <= flags
