"""Types of flags that several commands have."""

from __future__ import annotations

import argparse


def seed(text: str) -> int:
    """A whole number from 0 to below 2^63, which is what every generator takes. argparse turns the error into exit
    2."""
    if not text.isdecimal() or int(text) >= 2**63:
        raise argparse.ArgumentTypeError(f"{text} is no whole number from 0 to below 2^63")
    return int(text)
