"""The cards under datasets/: every source has a taxonomy that loads and a card whose commands parse."""

from __future__ import annotations

import argparse
import re
import shlex
from pathlib import Path

import pytest

from drivetl.adapters.footage import FORMATS
from drivetl.coco.taxonomy import load_taxonomy
from drivetl.commands import convert_footage

DATASETS = Path(__file__).parents[2] / "datasets"
COCO = load_taxonomy(DATASETS / "coco" / "taxonomy.yaml")
COCO_NAMES = {*COCO.categories, *COCO.drop}


def test_every_format_has_its_folder() -> None:
    assert set(FORMATS) <= {path.name for path in DATASETS.iterdir()} and len(COCO_NAMES) == 80


@pytest.mark.parametrize("folder", sorted(path.parent.name for path in DATASETS.glob("*/taxonomy.yaml")))
def test_classes_grow_out_of_coco_classes(folder: str) -> None:
    taxonomy = load_taxonomy(DATASETS / folder / "taxonomy.yaml")
    for item in taxonomy.classes:
        assert item.labels and {name for name, _ in item.grows_from} <= COCO_NAMES


@pytest.mark.parametrize("folder", sorted({*FORMATS, "cityscapes_yolo", "dawn", "highway_camera"}))
def test_the_cards_commands_parse(folder: str) -> None:
    card = (DATASETS / folder / "README.md").read_text()
    assert ("icence" in card and "Get it" in card) or folder in ("cityscapes_yolo", "highway_camera")
    parser = argparse.ArgumentParser()
    convert_footage.add_arguments(parser)
    commands = re.findall(r"^drivetl convert-footage ((?:.*\\\n)*.*)$", card, re.MULTILINE)
    assert commands
    for command in commands:
        args = parser.parse_args(shlex.split(command.replace("\\\n", ""), comments=True))
        if args.taxonomy and args.taxonomy.parts[0] == "datasets":
            assert (DATASETS.parent / args.taxonomy).is_file()
