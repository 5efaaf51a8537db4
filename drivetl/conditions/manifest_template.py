"""A manifest to fill in: what a detector was trained on, in the words of the catalogue."""

from __future__ import annotations

from drivetl.conditions.catalog import CATALOG
from drivetl.conditions.vocabulary import Phenomenon


def template() -> str:
    """A manifest to fill in: as it is, nothing is known, and every condition stays UNVERIFIED."""
    lines = [
        "# What a detector was trained on, for",
        "#   drivetl eval-robustness --detector ... --augmentation THIS_FILE",
        "#",
        "# Write a row for every transform of its training, and for what its training data shows already, like rain.",
        "# A condition of the catalogue is then L0 or L1 where a row has its model, L2 where a row has its phenomenon,",
        "# and L3 where none has. Wrong rows make wrong levels: what is not known stays `unknown`.",
        "#",
        "#   phenomenon  one of those below, or unknown: every condition that no other row shows is UNVERIFIED",
        "#   model       how it is computed: that of a condition below, a name of your own for another one, or",
        "#               unknown: conditions of this phenomenon are UNVERIFIED",
        "#   range       parameter: [lowest, highest] in the units of `drivetl conditions --list`; {} is any strength",
        "version: 1",
        "preset: my training",
        "transforms:",
        "  - {name: flip, phenomenon: mirroring, model: flip, range: {}}",
        "# Rows to choose from, with the models of the conditions:",
    ]
    for phenomenon in Phenomenon:
        models = dict.fromkeys(item.model for item in CATALOG.values() if item.phenomenon == phenomenon)
        about = f"  # {', '.join(models)}" if models else ""
        name = str(phenomenon).replace(" ", "_")
        lines.append(f"#  - {{name: my_{name}, phenomenon: {phenomenon}, model: unknown, range: {{}}}}{about}")
    lines += [
        "# The trainings that its start weights come from, a manifest like this one for each: [] for random weights;",
        "# null is a training of which nothing is known, and then every condition is UNVERIFIED.",
        "ancestors: [null]",
    ]
    return "\n".join(lines) + "\n"
