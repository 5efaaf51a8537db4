"""The kinds of doubt and their thresholds, without anything slow to import."""

from __future__ import annotations

import re
from collections.abc import Mapping

from drivetl.errors import ConfigError, nearest

OVERLOOKED, SWAPPED, BADLY_LOCATED = "overlooked", "swapped", "badly_located"
KINDS = (OVERLOOKED, SWAPPED, BADLY_LOCATED)
THRESHOLDS: Mapping[str, float] = {OVERLOOKED: 0.6, SWAPPED: 0.25, BADLY_LOCATED: 0.37}
"""Kind -> doubt from which a label is listed, chosen as docs/results.md says in its section on wrong labels."""
MEANINGS: Mapping[str, str] = {
    OVERLOOKED: "a confident detection without a label",
    SWAPPED: "the detector is confident of another class",
    BADLY_LOCATED: "the detection of the same object has another box",
}


def parse_thresholds(text: str) -> dict[str, float]:
    """`0.5`, or `overlooked=0.6,swapped=0.25`: kind -> threshold, THRESHOLDS for the others. Raises ConfigError."""
    thresholds, named = dict(THRESHOLDS), set[str]()
    for part in filter(None, text.split(",")):
        name, equals, value = (word.strip() for word in part.rpartition("="))
        if not re.fullmatch(r"0?\.\d+|[01](\.\d*)?", value) or not 0 < float(value) <= 1:
            raise ConfigError(f"--threshold: {value!r} is not a number above 0 and at most 1", remedy="for example 0.6")
        if equals and name not in KINDS:
            raise ConfigError(f"--threshold: no kind {name!r}", remedy=nearest(name, KINDS))
        if equals and name in named:
            raise ConfigError(f"--threshold names {name} more than once", remedy="give one threshold for each kind")
        named.add(name)
        thresholds |= {name: float(value)} if equals else {kind: float(value) for kind in KINDS if kind not in named}
    return thresholds
