"""Regenerate the golden files of the tests: python tools/golden.py

Run it after a new condition or preset, or with a new PROTOCOL_VERSION after a change of an effect or of a ladder.
Without one, the diff may only add lines: a changed line means that results no longer compare with earlier ones.
"""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "helpers"))

import golden_conditions
import golden_presets

from drivetl.console import wrote
from drivetl.files.write import write_atomically


def main() -> int:
    """Write tests/conditions/golden_conditions.json and tests/data/golden_presets.json."""
    for file in (golden_conditions, golden_presets):
        write_atomically(file.PATH, file.as_text(file.golden()))
        wrote(file.PATH)
    return 0


if __name__ == "__main__":
    sys.exit(main())
