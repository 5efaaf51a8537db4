"""Regenerate the golden files of the tests: python tools/golden.py

Run it after a new condition, or with a new PROTOCOL_VERSION after a change of an effect or of a ladder. Without one,
the diff may only add lines: a changed line means that results no longer compare with earlier ones.
"""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "helpers"))

from golden_conditions import PATH, as_text, golden

from drivetl.console import wrote
from drivetl.files.write import write_atomically


def main() -> int:
    """Write tests/conditions/golden_conditions.json."""
    write_atomically(PATH, as_text(golden()))
    wrote(PATH)
    return 0


if __name__ == "__main__":
    sys.exit(main())
