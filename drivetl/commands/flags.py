"""Types of flags that several commands have."""

from __future__ import annotations

import argparse

SEED_LIMIT = 2**63
"""Every random generator takes seeds from 0 to below this."""


def seed(text: str) -> int:
    """A whole number from 0 to below SEED_LIMIT.

    Raises ArgumentTypeError, which argparse turns into exit code 2.
    """
    if not text.isdecimal() or int(text) >= SEED_LIMIT:
        raise argparse.ArgumentTypeError(f"{text} is not a whole number from 0 to below 2^63")
    return int(text)
